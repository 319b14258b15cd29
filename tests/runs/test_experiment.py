import jax
import numpy as np
import pytest
from conftest import untrained_run

from configs import celeba, digits, mnist, svhn
from dcgan_jax import settings
from dcgan_jax.core.latents import Latents
from dcgan_jax.core.losses import LOSSES
from dcgan_jax.core.train_step import Recipe
from dcgan_jax.errors import InputError
from dcgan_jax.records import workdir
from dcgan_jax.runs import experiment


def test_parts_are_those_of_the_settings():
  config = digits.get_config()
  config.update({'latent': {'size': 7, 'prior': 'uniform'}, 'data': {'flip': True}})
  config.train.update({'loss': 'hinge', 'd_steps': 2, 'fresh_z': True, 'accumulate': 4, 'dtype': 'bfloat16'})
  parts = experiment.build(settings.check(config))
  assert parts.recipe == Recipe(
    LOSSES['hinge'],
    d_steps=2,
    fresh_z=True,
    flip=True,
    ema_decay=0.99,
    accumulate=4,
    augment=('translation',),
  )
  generator, discriminator = parts.gan.generator, parts.gan.discriminator
  assert generator.widths == (128, 64) and generator.image_size == (16, 16) and generator.leak == 0
  assert discriminator.widths == (64, 128) and discriminator.norm == (False, True)
  assert generator.dtype == discriminator.dtype == 'bfloat16'
  assert parts.gan.latents == Latents(7, 'uniform')
  assert parts.fit.image_size == (16, 16) and parts.fit.channels == 1
  assert len(parts.source) == 1797 and parts.source is parts.source


@pytest.mark.slow
@pytest.mark.parametrize('config', [celeba, digits, mnist, svhn], ids=lambda c: c.__name__)
def test_the_train_step_takes_the_initial_state(config):
  config = config.get_config()
  parts = experiment.build(settings.check(config))
  before = parts.shapes
  assert (before.ema is None) == (config.train.ema_decay == 0)
  shape = (config.train.batch_size * config.train.d_steps, *parts.fit.image_size, parts.fit.channels)
  with jax.numpy_dtype_promotion('standard'):  # Adam mixes int32 with float32.
    after, metrics = jax.eval_shape(parts.train_step(None), before, jax.ShapeDtypeStruct(shape, np.uint8))
  assert jax.tree.structure(after) == jax.tree.structure(before)
  assert jax.tree.leaves(after) == jax.tree.leaves(before)
  assert {leaf.shape for leaf in jax.tree.leaves(metrics)} == {()}


@pytest.mark.slow(2)
def test_latents_know_how_often_the_data_has_each_class(tmp_path):
  parts = experiment.build(settings.check(digits.get_config()))
  assert parts.latents == parts.gan.latents and parts.latents.counts == ()
  folder = untrained_run(tmp_path / 'run', {'data.classes': 10})
  parts = experiment.build(workdir.read_settings(folder))
  counts = parts.latents.counts
  assert counts == (178, 182, 177, 183, 181, 182, 181, 179, 174, 180) and parts.gan.latents.counts == ()
  assert experiment.open_run(folder, 'last').experiment.gan.latents == Latents(10, classes=10)  # an old run
  workdir.write_settings(folder, parts.settings, 'abcdefghij', counts)
  assert experiment.open_run(folder, 'last').experiment.gan.latents == parts.latents


def test_a_run_is_opened(untrained, tmp_path):
  run = experiment.open_run(untrained, 'last')
  assert run.step == 0 and run.experiment.settings.latent.size == 10
  want = run.experiment.first_state()
  jax.tree.map(np.testing.assert_array_equal, run.state, want)
  assert {len(leaf.devices()) for leaf in jax.tree.leaves(run.state)} == {4}
  for which, text in (('7', 'no checkpoint of step 7'), ('best', 'has a score')):
    with pytest.raises(InputError, match=text):
      experiment.open_run(untrained, which)
  with pytest.raises(InputError, match='no run here'):
    experiment.open_run(tmp_path, 'last')


def test_an_epoch_has_no_held_out_image():
  config = digits.get_config()
  assert experiment.build(settings.check(config)).num_images == 1797
  config.data.held_out = 0.05
  assert experiment.build(settings.check(config)).num_images == 1797 - 90
