"""Trackers, Weights & Biases and Trackio: services that show the metrics, scores and pictures of runs.

Both have the same interface. If one fails, a line says so, and training goes on without it.
"""

import importlib
import importlib.util
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dcgan_jax import files
from dcgan_jax.errors import InputError, printable
from dcgan_jax.records import workdir

PROJECT = 'dcgan_jax'  # unless the environment variable WANDB_PROJECT names another one
AXIS = 'train_step'  # of the charts; wandb's own steps cannot decrease, as those of a resumed run may


def check(kind: str) -> None:
  """Refuses a tracker whose package is not installed, without importing it.

  Args:
    kind: 'none' | 'wandb' | 'trackio'.

  Raises:
    InputError: The package is missing.
  """
  if kind != 'none' and importlib.util.find_spec(kind) is None:
    raise InputError(f"log.tracker={kind}: needs the package {kind}; pip install -e '.[{kind}]'")


class Tracker:
  """Sends a run to a service. A resumed run is the same run there, too."""

  def __init__(self, folder: Path, kind: str):
    """Opens the service's run.

    Args:
      folder: The workdir. The service shows its config.json and name; tracker.json has the run's id.
      kind: 'wandb' | 'trackio'.
    """
    self._kind = kind
    self._run: Any = None
    self._service: Any = None
    self._attempt(lambda: self._open(folder))

  def write(self, step: int, values: Mapping[str, float | str]) -> None:
    """Sends a row of metrics, by name."""
    self._log(step, lambda: dict(values))

  def add_image(self, step: int, image: np.ndarray) -> None:
    """Sends a picture, uint8 [H, W, C]."""
    colours = image.repeat(3, -1) if image.shape[-1] == 1 else image
    self._log(step, lambda: {'samples': self._service.Image(colours)})

  def close(self) -> None:
    """Waits until the service has everything."""
    if self._run is not None:
      self._attempt(self._run.finish)

  def _open(self, folder: Path) -> None:
    """Starts the service's run, or resumes it."""
    self._service = importlib.import_module(self._kind)
    config, own = files.read_json(folder / 'config.json'), _own_id(folder)
    project = os.environ.get('WANDB_PROJECT') or PROJECT
    name = folder.resolve().name
    if self._kind == 'wandb':
      options = self._service.Settings(console='off')
      self._run = self._service.init(
        project=project, id=own, name=name, dir=folder, config=config, resume='allow', settings=options
      )
      self._run.define_metric('*', step_metric=AXIS)
    else:  # Trackio identifies a run by its name.
      self._run = self._service.init(
        project=project, name=f'{name}-{own}', config=config, resume='allow', embed=False
      )

  def _log(self, step: int, values: Callable[[], dict[str, Any]]) -> None:
    """Sends values of a step, unless the service has failed before."""
    if self._run is None:
      return
    if self._kind == 'wandb':
      self._attempt(lambda: self._run.log({AXIS: step, **values()}))
    else:
      self._attempt(lambda: self._run.log(values(), step=step))

  def _attempt(self, act: Callable[[], Any]) -> None:
    """Calls the service; if that fails, says so and never calls it again."""
    try:
      act()
    except Exception as error:  # It may be anything: a network, an account, a bug of another project.
      self._run = None
      said = printable(str(error).strip().partition('\n')[0]) or type(error).__name__
      print(f'log.tracker={self._kind}: {said}; training goes on without it', file=sys.stderr, flush=True)


def _own_id(folder: Path) -> str:
  """Returns the run's id at the service, which is drawn once and kept in tracker.json."""
  path = folder / 'tracker.json'
  if path.exists():
    return str(files.read_json(path)['id'])
  own = secrets.token_hex(4)
  workdir.write_json(path, {'id': own})
  return own
