"""The pieces around the training loop; the loop itself runs in `commands/test_mode_train.py`."""

import json
import shutil

import jax
import numpy as np
import pytest
from conftest import gan_of, lenient
from jax.sharding import Mesh

from configs import digits
from dcgan_jax import data, settings
from dcgan_jax.core import train_state
from dcgan_jax.core.accumulation import Examples
from dcgan_jax.core.losses import LOSSES
from dcgan_jax.core.train_step import Recipe, make_train_step
from dcgan_jax.data.order import batch_indices
from dcgan_jax.devices import placement, programs
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import scores, scoring
from dcgan_jax.records import checkpoints
from dcgan_jax.runs import experiment, sampling
from dcgan_jax.training import loop


def _learn(config, num_steps=60):
  """Returns the mean losses of the last 20 of some steps on the digits, and D's loss in all steps."""
  made = experiment.build(settings.check(config)).gan
  gan = gan_of((made.generator, made.discriminator), lenient(train_state.make_optimizer(5e-4)), 10)
  step = make_train_step(gan, Recipe(LOSSES['non_saturating']))
  now = jax.jit(lambda: train_state.create(gan, 0))()
  images, _ = data.load(data.open_source('digits', 'train', data.Fit((8, 8), 1)), 'digits')
  mesh = Mesh(np.array(jax.devices()[:1]), (placement.AXIS,))
  run, losses = programs.train_program(step, mesh, (8, 8, 1)), []
  for i in range(num_steps):
    batch = images[batch_indices(0, i, 32, len(images))]
    now, _, metrics = run(now, placement.put_batch(mesh, Examples(batch)))
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
    return row | {scores.DISTANCE['classifier']: 10.0 if state.step <= 8 else 40.0}

  monkeypatch.setattr(scoring, 'make_scorer', lambda *_: scoring.Scorer(score, 'made up'))

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


def test_a_run_with_the_retired_rollback_opens_and_is_not_resumed_silently(untrained, tmp_path, refused):
  folder = shutil.copytree(untrained, tmp_path / 'run')
  content = json.loads((folder / 'config.json').read_text())
  content['train']['on_collapse'] = 'rollback'
  (folder / 'config.json').write_text(json.dumps(content))
  assert sampling.open_sampler(folder).step == 0
  error = refused(f'--workdir={folder}')
  assert 'train.on_collapse=rollback: is retired; choose continue or stop' in error
  (folder / 'rollbacks.json').write_text('{"from_steps": [700]}')
  assert 'rollbacks.json: ' in refused(f'--workdir={folder}')
