"""The settings of a run. Nothing here imports JAX, so errors in a config are reported at once."""

from dcgan_jax.settings.checks import (
  check,
  check_devices,
  check_key,
  check_retired,
  default_config,
  differences,
  flat,
  from_dict,
  help_lines,
  helps,
  refuse,
)
from dcgan_jax.settings.presets import presets
from dcgan_jax.settings.table import Settings

__all__ = [
  'Settings',
  'check',
  'check_devices',
  'check_key',
  'check_retired',
  'default_config',
  'differences',
  'flat',
  'from_dict',
  'help_lines',
  'helps',
  'presets',
  'refuse',
]
