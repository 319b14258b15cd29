"""Training on several devices: all hold the same state, bit for bit, which is close to that of one device."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import pytest
from conftest import gan_of, lenient
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from dcgan_jax.core import train_state
from dcgan_jax.core.losses import LOSSES
from dcgan_jax.core.models import Discriminator, Generator
from dcgan_jax.core.train_step import Recipe, make_train_step

STEPS, BATCH, CLASSES = 3, 16, 3
# With batch norm in both networks and dropout in D, as in the paper; and D without either, for penalties.
GENERATOR = Generator(
  widths=(8, 6), strides=(2, 2), norm=(True, True), leak=0.0, image_size=(8, 8), channels=1
)
DISCRIMINATOR = Discriminator(widths=(6, 8), strides=(2, 2), norm=(False, True), dropout=0.2)
GLOROT = GENERATOR.clone(initializer='glorot')
PLAIN = DISCRIMINATOR.clone(norm=(False, False), dropout=0.0, use_bias=True, initializer='glorot')
CONDITIONAL = DISCRIMINATOR.clone(dropout=0.0, initializer='glorot', classes=CLASSES)


class Case(NamedTuple):
  recipe: dict[str, Any]
  generator: Generator = GENERATOR
  discriminator: Discriminator = DISCRIMINATOR
  rate: float = 1e-3


def _order(**recipe: Any) -> Case:
  return Case(recipe | {'flip': True, 'ema_decay': 0.5})


def _addition(loss: str, discriminator: dict[str, Any], **recipe: Any) -> Case:
  return Case(recipe | {'loss': LOSSES[loss]}, GLOROT, PLAIN.clone(**discriminator), 1e-2)


def _conditional(condition: str = 'embedding', packing: int = 1, **recipe: Any) -> Case:
  generator = GLOROT.clone(condition=condition, classes=CLASSES)
  return Case(recipe, generator, CONDITIONAL.clone(packing=packing), 1e-2)


EVERYTHING = {'d_steps': 2, 'fresh_z': True, 'accumulate': 2}
CASES = {
  'alternating': _order(),
  'fresh_z': _order(fresh_z=True),
  'd_steps': _order(d_steps=2),
  'everything': _order(**EVERYTHING),
  'simultaneous': _order(order='simultaneous'),
  'one_per_batch': _order(order='one_per_batch'),
  'r1, r2': _addition('relativistic', {}, penalties={'r1': 1.0, 'r2': 0.5}),
  'gradient penalty': _addition('wasserstein', {}, penalties={'gradient_penalty': 10.0}),
  'gradient penalty, packing, accumulate': _addition(
    'wasserstein', {'packing': 2}, penalties={'gradient_penalty': 10.0}, accumulate=2
  ),
  'spectral norm': _addition('hinge', {'spectral_norm': True}),
  'augmentation': _addition('non_saturating', {}, augment=('color', 'translation', 'cutout')),
  'all additions': _addition(
    'relativistic',
    {'packing': 2, 'spectral_norm': True},
    penalties={'r1': 1.0, 'r2': 1.0},
    augment=('color', 'cutout'),
  ),
  'classes, accumulate': _conditional(accumulate=2),
  'classes, packing, one_per_batch': _conditional(packing=2, order='one_per_batch'),
  'classes by norm, accumulate': _conditional('norm', accumulate=2),
  'memory, accumulate': _addition('non_saturating', {}, penalties={'anchored': 1.0}, accumulate=4),
  'memory, one_per_batch': _order(penalties={'anchored': 0.3}, order='one_per_batch'),
}
OWN = Case(  # Batch statistics of each device alone, so that several devices are not one.
  {'penalties': {'anchored': 0.3}, 'accumulate': 2, 'ema_decay': 0.5},
  GENERATOR.clone(sync_norm=False),
  DISCRIMINATOR.clone(sync_norm=False),
)


def _state_and_step(case: Case, axis_name: str | None):
  gan = gan_of((case.generator, case.discriminator), lenient(optax.sgd(case.rate)), 5, case.generator.classes)
  recipe = Recipe(**case.recipe)
  create = functools.partial(train_state.create, gan, 0, recipe.ema_decay > 0, recipe.penalties)
  return jax.jit(create)(), make_train_step(gan, recipe, axis_name)


def _examples(case: Case, step: int):
  count = BATCH * case.recipe.get('d_steps', 1)
  images = np.random.default_rng(step).integers(0, 256, (count, 8, 8, 1), np.uint8)
  return images, (np.arange(count) % CLASSES).astype(np.int32) if case.generator.classes else None


def _train(case: Case, devices: int):
  """Returns the state and the metrics after each step."""
  state, step = _state_and_step(case, 'batch' if devices > 1 else None)
  if devices > 1:
    mesh = Mesh(np.array(jax.devices()[:devices]), ('batch',))
    step = jax.shard_map(
      step, mesh=mesh, in_specs=(P(), P('batch'), P('batch')), out_specs=P(), check_vma=False
    )
  step, results = jax.jit(step), []
  for i in range(STEPS):
    state, metrics = step(state, *_examples(case, i))
    results.append((state, metrics))
  return results


@functools.cache
def _on_one_device(name: str):
  return _train(CASES[name], 1)


def _assert_close(got: Any, want: Any, rtol: float) -> None:
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=rtol, atol=1e-5), got, want)


def _assert_replicated(tree: Any, devices: int) -> None:
  """Compares the shards: `shard_map` does not check that devices agree on what they all return."""
  differ = []
  for path, array in jax.tree_util.tree_leaves_with_path(tree):
    shards = {np.asarray(shard.data).tobytes() for shard in array.addressable_shards}
    assert len(array.addressable_shards) == devices
    if len(shards) > 1:
      differ.append(jax.tree_util.keystr(path, simple=True, separator='/'))
  assert not differ


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'devices'),
  [(name, 4) for name in CASES] + [('all additions', 2)],
)
def test_devices_agree_and_equal_one(anchored, name, devices):
  """Trains on one global batch, to which dropout, flips, latents and batch statistics belong."""
  many, one = _train(CASES[name], devices), _on_one_device(name)
  _assert_replicated(many, devices)
  _assert_close(many[0], one[0], rtol=1e-4)
  _assert_close(many[-1], one[-1], rtol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize('devices', [2, 4])
def test_devices_agree_on_the_mean_of_their_own_statistics(anchored, devices):
  _assert_replicated(_train(OWN, devices), devices)


@pytest.mark.slow
def test_pmap_equals_one():
  """Takes the order that has everything, because the step is the same."""
  case = CASES['everything']
  state, step = _state_and_step(case, 'batch')
  state, mapped = jax.tree.map(lambda x: np.stack([x] * 4), state), jax.pmap(step, 'batch')
  for i in range(STEPS):
    images, _ = _examples(case, i)
    state, metrics = mapped(state, images.reshape(4, -1, *images.shape[1:]))
  first, last = (jax.tree.map(lambda x, i=i: np.asarray(x)[i], (state, metrics)) for i in (0, 3))
  jax.tree.map(np.testing.assert_array_equal, first, last)
  _assert_close(first, _on_one_device('everything')[-1], rtol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
  'name', [name for name, case in CASES.items() if case.generator is GENERATOR and 'memory' not in name]
)
def test_g_statistics_move_once_a_step(name):
  """Sees one move of momentum 0.9 from the old variance, 1, for each part, whatever D's updates do."""
  variance = _on_one_device(name)[0][0].generator.batch_stats['norm0']['var']
  left = 0.9 ** CASES[name].recipe.get('accumulate', 1)
  assert ((variance >= left) & (variance < left + 0.05)).all()  # The new variance is tiny.
