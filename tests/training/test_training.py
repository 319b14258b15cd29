"""The pieces around the training loop; the loop itself runs in `commands/test_mode_train.py`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import digits_plan, gan_of, lenient
from jax.sharding import Mesh

from configs import digits
from dcgan_jax import data, settings
from dcgan_jax.core import train_state
from dcgan_jax.core.accumulation import Examples
from dcgan_jax.core.losses import LOSSES
from dcgan_jax.core.train_step import Recipe, make_train_step
from dcgan_jax.data.order import batch_indices
from dcgan_jax.devices import parallel
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import scoring
from dcgan_jax.records import checkpoints, collapse, workdir
from dcgan_jax.runs import experiment
from dcgan_jax.training import loop


def test_events_in_images_and_in_epochs():
  plan = digits_plan(**{'log.every_images': 640, 'sample.every_epochs': 0.5, 'checkpoint.every_epochs': 2.0})
  assert (plan.log_every, plan.draw_every, plan.save_every) == (10, 14, 56)  # An epoch has 28.1 steps.
  assert (
    plan.steps_until_next(0) == 10 and plan.steps_until_next(10) == 4 and plan.steps_until_next(1995) == 5
  )
  with pytest.raises(
    InputError, match=r'log.every_epochs=1.0: log.every_images=9 is set, too; set one of them'
  ):
    digits_plan(**{'log.every_images': 9, 'log.every_epochs': 1.0})


def _learn(config, num_steps=60):
  """Returns the mean losses of the last 20 of some steps on the digits, and D's loss in all steps."""
  made = experiment.build(settings.check(config)).gan
  gan = gan_of((made.generator, made.discriminator), lenient(train_state.make_optimizer(5e-4)), 10)
  step = make_train_step(gan, Recipe(LOSSES['non_saturating']))
  now = jax.jit(lambda: train_state.create(gan, 0))()
  images, _ = data.load(data.open_source('digits', 'train', data.Fit((8, 8), 1)), 'digits')
  mesh = Mesh(np.array(jax.devices()[:1]), (parallel.AXIS,))
  run, losses = parallel.compile_steps(step, mesh, (8, 8, 1)), []
  for i in range(num_steps):
    batch = images[batch_indices(0, i, 32, len(images))]
    now, _, metrics = run(now, parallel.put_batch(mesh, Examples(batch)))
    losses.append([float(metrics[name]) for name in ('loss_d', 'loss_g')])
  return np.mean(losses[-20:], 0), np.array(losses)[:, 0]


@pytest.mark.slow
def test_bfloat16_and_plain_convolutions_learn_alike():
  """Compares falls of D's loss, the same in any arithmetic; `benchmarks/curves.py` does this at length."""
  config = digits.get_config()
  config.data.image_size = (8, 8)
  config.generator.widths, config.discriminator.widths = (16, 32), (32, 32)
  want, losses = _learn(config)
  assert want[0] < losses[0] - 0.08
  with jax.numpy_dtype_promotion('standard'):  # Flax's batch norm mixes float32 statistics with bfloat16.
    for key, value in (('fast_conv', False), ('dtype', 'bfloat16')):
      other = config.copy_and_resolve_references()
      other.train[key] = value
      np.testing.assert_allclose(_learn(other)[0], want, rtol=0.01)


@pytest.fixture
def collapsing(tmp_path, monkeypatch):
  """Returns how to train a tiny run whose distance is four times as large after step 8, and its workdir."""
  config = digits.get_config()
  config.update_from_flattened_dict(
    {
      'data.image_size': (8, 8),
      'generator.widths': (8, 6),
      'discriminator.widths': (6, 8),
      'train.batch_size': 16,
      'train.num_steps': 16,
      'eval.every_steps': 4,
      'checkpoint.every_steps': 4,
      'log.tensorboard': False,
      'log.report': False,
      'sample.every_steps': 0,
    }
  )

  def score(state):
    row = {'precision': 1.0, 'recall': 1.0, 'coverage': 1.0}
    return row | {scoring.DISTANCE['classifier']: 10.0 if state.step <= 8 else 40.0}

  monkeypatch.setattr(scoring, 'make', lambda *_: scoring.Scorer(score, 'made up'))

  def train(on_collapse):
    config.train.on_collapse = on_collapse
    with jax.numpy_dtype_promotion('standard'):  # as users have it
      loop.run(settings.check(config), tmp_path)

  return train, tmp_path


@pytest.mark.slow
def test_a_run_that_collapses_stops_if_it_is_told_to(collapsing):
  train, folder = collapsing
  with pytest.raises(
    InputError, match=r'stopped at step 12: .* has grown to 40.0 from 10.0 at step 4'
  ) as error:
    train('stop')
  assert '\n' not in str(error.value) and checkpoints.steps(folder / 'checkpoints') == [4, 8, 12]
  train('continue')
  assert checkpoints.steps(folder / 'checkpoints') == [4, 8, 12, 16]


@pytest.mark.slow
def test_a_run_that_collapses_goes_back_three_times(collapsing, capsys):
  """Goes back to step 4 with half the rates each time, which shows in Adam's steps, and then stops."""
  train, folder = collapsing
  with pytest.raises(InputError, match='it has gone back 3 times already; --config'):
    train('rollback')
  said = capsys.readouterr().out
  assert (
    said.count('back to step 4, the best, with both learning rates halved') == 3 and '(3 of 3 times)' in said
  )
  assert collapse.rollbacks(folder) == [12, 12, 12]
  assert checkpoints.steps(folder / 'left') == [8, 12]
  assert checkpoints.steps(folder / 'checkpoints') == [4, 8, 12]
  like = jax.eval_shape(experiment.build(workdir.read_settings(folder)).initial_state)
  states = {
    name: [checkpoints.restore(folder / name, step, like).generator.params for step in (8, 12)]
    for name in ('left', 'checkpoints')
  }
  moved = {
    name: sum(float(jnp.abs(x - y).sum()) for x, y in zip(*map(jax.tree.leaves, pair)))
    for name, pair in states.items()
  }
  assert 0.4 < moved['checkpoints'] / moved['left'] < 0.6  # an eighth of the rates, after a quarter
