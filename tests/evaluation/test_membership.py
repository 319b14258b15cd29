"""D's logits of training and held-out images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import narrow

from dcgan_jax.core.models import normalize
from dcgan_jax.data import cache, order
from dcgan_jax.devices import placement
from dcgan_jax.evaluation import membership
from dcgan_jax.runs import experiment


@pytest.mark.parametrize(
  'changes',
  [
    {},
    {'data.classes': 10, 'discriminator.packing': 4},
    {'discriminator.spectral_norm': True, 'data.held_out': 0.4},
  ],
  ids=['alone', 'classes, packing', 'spectral norm'],
)
@pytest.mark.parametrize('devices', [1, 4])
def test_logits_are_those_of_d_in_evaluation_mode(changes, devices):
  """Compares with D applied to a pack at a time."""
  changes = {'data.image_size': (8, 8), 'data.held_out': 0.01, 'train.augment': 'translation'} | changes
  parts = experiment.build(narrow('digits', changes))
  images, mesh = (
    cache.load(parts.source, 'digits'),
    jax.sharding.Mesh(jax.devices()[:devices], placement.AXIS),
  )
  state = parts.first_state(placement.replicated(mesh))
  found = membership.make_judge(parts, mesh, lambda: images)(state)

  share, packing = changes['data.held_out'], parts.gan.discriminator.packing
  held_out, training = order.held_out(1797, share), order.training(1797, share)
  assert len(found.held_out) == min(500, len(held_out)) // packing
  assert len(found.training) == 500 // packing
  training = training[np.linspace(0, len(training) - 1, 500).astype(int)]
  variables = jax.device_get(state.discriminator.variables)
  for logits, indices in ((found.training, training), (found.held_out, held_out)):
    assert logits.dtype == np.float32
    for i in (0, 1, len(logits) - 1):
      rows = indices[i * packing : (i + 1) * packing]
      y = jnp.eye(10)[parts.labels.classes[rows]] if parts.labels else None
      want, _ = parts.gan.discriminator.apply(variables, normalize(images[rows]), y)
      np.testing.assert_allclose(logits[i], want[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('changes', [{}, {'data.held_out': 0.001, 'discriminator.packing': 4}])
def test_without_held_out_images_or_a_pack_of_them_nothing_is_judged(changes):
  parts = experiment.build(narrow('digits', {'data.image_size': (8, 8)} | changes))
  images = np.zeros((1797, 8, 8, 1), np.uint8)
  assert membership.make_judge(parts, placement.mesh(), lambda: images) is None
