"""Opens a generator in the workdir of a run, in the folder of a trained generator, or on the Hub."""

import importlib.util
import re
from pathlib import Path

from dcgan_jax.errors import InputError
from dcgan_jax.records import hub
from dcgan_jax.runs import sampling

HUB = 'hf://'


def load(folder: str | Path, checkpoint: str | int = 'last') -> sampling.Sampler:
  """Opens a trained generator.

  Args:
    folder: The workdir of a run; or a folder that `--mode=export --format=hub` has written; or
      'hf://OWNER/NAME', such a folder on the Hugging Face Hub, which is downloaded once.
    checkpoint: Checkpoint of a run: 'last', 'best' by score, or a step. A folder for the Hub has only one.

  Raises:
    InputError: in one line; there is no such generator, or what is there is damaged.
  """
  text = str(folder)
  if not text.startswith(HUB):
    return sampling.open_sampler(folder, checkpoint)
  path = _download(text.removeprefix(HUB))
  hub.read(path)  # The Hub has models of other libraries, too.
  return sampling.open_sampler(path, checkpoint)


def _download(name: str) -> Path:
  """Returns the local folder of a model on the Hugging Face Hub, downloaded at the first use.

  Args:
    name: OWNER/NAME.

  Raises:
    InputError: there is no such model, or it cannot be downloaded.
  """
  field = f'{HUB}{name}'
  if not re.fullmatch(r'[\w.-]+/[\w.-]+', name):
    raise InputError(f'{field}: must be {HUB}OWNER/NAME, as in the address of the model')
  if importlib.util.find_spec('huggingface_hub') is None:
    raise InputError(f"{field}: needs the package huggingface_hub; pip install -e '.[hub]'")
  import huggingface_hub

  try:
    found = huggingface_hub.snapshot_download(name, allow_patterns=[hub.CONFIG, hub.WEIGHTS])
  except Exception as error:  # of the package and of its network libraries
    said = str(error).strip().partition('\n')[0] or type(error).__name__
    raise InputError(f'{field}: cannot be downloaded: {said}') from error
  return Path(found)
