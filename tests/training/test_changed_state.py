"""Resuming a run whose state has gained or lost arrays by a change of its config."""

import jax
import numpy as np
import pytest
from conftest import state_of

from configs import digits
from dcgan_jax import settings
from dcgan_jax.training import loop


@pytest.mark.slow
def test_a_moving_average_comes_and_goes(tmp_path, capsys):
  """Resumes without one from a checkpoint that has none, then with one, then without it again."""
  config = digits.get_config()
  config.update_from_flattened_dict(
    {
      'data.image_size': (8, 8),
      'generator.widths': (8, 6),
      'discriminator.widths': (6, 8),
      'train.batch_size': 16,
      'log.tensorboard': False,
      'log.report': False,
      'sample.every_steps': 0,
    }
  )

  def train(decay, num_steps):
    config.train.update({'ema_decay': decay, 'num_steps': num_steps})
    with jax.numpy_dtype_promotion('standard'):  # as users have it
      loop.run(settings.check(config), tmp_path, allow_config_change=True)
    return state_of(tmp_path, num_steps), capsys.readouterr().out

  before, said = train(0.0, 2)
  assert before.ema is None and 'checkpoints/' not in said
  with_average, said = train(0.999, 3)
  assert said.count('checkpoints/2: has no ema (default values are used)\n') == 1
  # It began as G after step 2, and has then moved by (1 + 2) / (10 + 2) of itself.
  want = jax.tree.map(
    lambda old, new: 0.25 * old + 0.75 * new, before.generator.variables, with_average.generator.variables
  )
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), with_average.ema, want)
  after, said = train(0.0, 4)
  assert said.count('checkpoints/3: has ema (left out)\n') == 1 and after.ema is None
  assert not (tmp_path / 'damaged').exists()
