"""The presets in configs/, to compare runs against."""

import importlib
import pkgutil
from pathlib import Path
from typing import Any

from dcgan_jax.settings.checks import flat

CONFIGS = Path(__file__).parents[2] / 'configs'


def presets() -> dict[str, dict[str, Any]]:
  """Returns the values of each preset by dotted name. Broken files are skipped.

  The values are not checked; some presets need more keys before they can be trained.
  """
  found = {}
  for module in pkgutil.iter_modules([str(CONFIGS)]):
    try:
      found[module.name] = flat(importlib.import_module(f'configs.{module.name}').get_config().to_dict())
    except Exception:  # Users may add files here, with any error in them.
      continue
  return found
