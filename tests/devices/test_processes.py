from types import SimpleNamespace

import jax
import numpy as np
import pytest

from dcgan_jax.devices import processes
from dcgan_jax.errors import InputError


@pytest.mark.parametrize(
  ('platforms', 'error', 'text'),
  [
    (
      'cuda',
      AssertionError(),
      'JAX_PLATFORMS=cuda: JAX finds no such device here (it does not say why); choose cpu',
    ),
    (
      'x',
      RuntimeError("Backend 'x'\nis not known. (set it)"),
      "JAX_PLATFORMS=x: JAX finds no such device here (Backend 'x' is not known.); choose cpu",
    ),
    (
      None,
      RuntimeError('no driver'),
      'JAX_PLATFORMS=: JAX finds no such device here (no driver); choose cpu',
    ),
  ],
)
def test_devices_that_are_not_there_are_one_line(monkeypatch, platforms, error, text):
  def fail():
    raise error

  monkeypatch.setattr(
    processes, 'jax', SimpleNamespace(devices=fail, config=SimpleNamespace(jax_platforms=platforms))
  )
  with pytest.raises(InputError) as raised:
    processes.devices()
  assert str(raised.value).startswith(text) and '\n' not in str(raised.value)


def test_a_single_process_is_the_main_one_and_agrees_with_itself():
  values = {'a': np.arange(3), 'b': 4.0}
  assert processes.is_main() and processes.agreed(values) is values
  with processes.main_first(), processes.leaving_when_others_do():
    pass
  with pytest.raises(jax.errors.JaxRuntimeError), processes.leaving_when_others_do():
    raise jax.errors.JaxRuntimeError('an error of this process alone')
