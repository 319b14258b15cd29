"""The values of the files in configs/, against which a run can be compared."""

import importlib
import pkgutil
from pathlib import Path
from typing import Any

from dcgan_jax.settings.checks import flat

CONFIGS = Path(__file__).parents[2] / 'configs'


def presets() -> dict[str, dict[str, Any]]:
  """Returns the values of each preset, by its name and by their dotted names; a broken file is left out.

  Some of them could not be trained before more is set, and none are checked.
  """
  found = {}
  for module in pkgutil.iter_modules([str(CONFIGS)]):
    try:
      found[module.name] = flat(importlib.import_module(f'configs.{module.name}').get_config().to_dict())
    except Exception:  # It is a file that a user may have added, with any error in it.
      continue
  return found
