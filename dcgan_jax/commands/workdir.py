"""The folder of a run: where things lie in it, and the config that it belongs to.

config.json           the settings
metrics.jsonl         a row of metrics a line
tensorboard/          the same as events
losses.png            plot of them
scores.png            plot of the scores, where some are taken
samples/step_N.png    pictures of the same latents
samples.gif           those over training
evaluation.json .png  what `--mode=evaluate` found
probe.json            what `--mode=probe` found; features.png
forget_CLASS.json     what `--mode=forget` found; .png
checkpoints/N/        whole training states
"""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dcgan_jax.commands import validation
from dcgan_jax.errors import InputError

# What may change between two starts of a run: how long it goes on and what it writes. All else decides
# what the networks become.
FREE = (
  'train.num_steps',
  'train.num_epochs',
  'log.',
  'sample.',
  'eval.',
  'checkpoint.',
  'data.memory_limit',
  'data.workers',
  'train.steps_per_dispatch',
)
# Keys that were added since, with the value by which runs without them were trained.
ADDED = {
  'train': {'steps_per_dispatch': 0, 'accumulate': 1, 'sync_norm': True},
  'eval': {'every_steps': 0, 'num': 2000, 'features': 'classifier', 'weights': ''},
}


def samples(workdir: Path) -> list[Path]:
  """The pictures of a run, in the order of their steps."""
  return sorted((workdir / 'samples').glob('step_*.png'))


def sample(workdir: Path, step: int) -> Path:
  """Where the picture of a step belongs."""
  return workdir / 'samples' / f'step_{step:08d}.png'


def check_unchanged(workdir: Path, config: ConfigDict, allow_change: bool) -> None:
  """Refuses to go on with a run of other hyper-parameters.

  Raises:
    InputError: the differences, in one line.
  """
  if workdir.exists() and not workdir.is_dir():
    raise InputError(f'workdir={workdir}: is a file; choose a folder')
  path = workdir / 'config.json'
  if path.exists():
    differences = _differences(_flat(_read_settings(path)), _flat(config.to_dict()))
    if differences and not allow_change:
      raise InputError(
        f'workdir={workdir}: holds a run with other settings: {"; ".join(differences)}; '
        'choose another --workdir, or go on with the new ones by --allow_config_change'
      )
  elif (workdir / 'checkpoints').exists():
    raise InputError(f'workdir={workdir}: has checkpoints and no config.json; choose another --workdir')


def write_config(workdir: Path, config: ConfigDict) -> None:
  """Makes the folder and writes config.json, whole or not at all.

  Raises:
    InputError: the folder cannot be written.
  """
  path = workdir / 'config.json'
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(path, config.to_dict())
  except OSError as error:
    raise InputError(f'workdir={workdir}: cannot be written: {error.strerror}') from error


def write_json(path: Path, content: dict[str, Any]) -> None:
  """Whole or not at all."""
  part = path.with_name(path.name + '.part')
  part.write_text(json.dumps(content, indent=2) + '\n')
  part.replace(path)


def read_config(workdir: Path) -> ConfigDict:
  """The config of a run.

  Raises:
    InputError: there is no run in the folder, or its config is broken.
  """
  path = workdir / 'config.json'
  if not path.exists():
    raise InputError(f'workdir={workdir}: no run here (no config.json); train one there first')
  config = ConfigDict(_lists_to_tuples(_read_settings(path)))
  config.lock()
  validation.check(config)
  return config


def _read_settings(path: Path) -> dict[str, Any]:
  try:
    content = json.loads(path.read_text())
  except (json.JSONDecodeError, UnicodeDecodeError) as error:
    raise InputError(f'{path}: is not JSON: {error}') from error
  if not isinstance(content, dict):
    raise InputError(f'{path}: is not a config: {str(content)[:40]!r}')
  for section, keys in ADDED.items():
    content[section] = keys | content.get(section, {})
  return content


def _lists_to_tuples(value: Any) -> Any:
  if isinstance(value, dict):
    return {k: _lists_to_tuples(v) for k, v in value.items()}
  return tuple(value) if isinstance(value, list) else value


def _flat(config: dict[str, Any], path: str = '') -> dict[str, Any]:
  """Nested dicts to one with dotted keys; lists and tuples are the same."""
  flat: dict[str, Any] = {}
  for key, value in config.items():
    if isinstance(value, dict):
      flat |= _flat(value, f'{path}{key}.')
    else:
      flat[path + key] = tuple(value) if isinstance(value, list) else value
  return flat


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
  keys = [k for k in sorted(old.keys() | new.keys()) if not k.startswith(FREE)]
  return [
    f'{key} was {old.get(key, "absent")} and is {new.get(key, "absent")}'
    for key in keys
    if old.get(key) != new.get(key)
  ]
