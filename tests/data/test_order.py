import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dcgan_jax.data import order


@given(
  seed=st.integers(0, 2**32 - 1), count=st.integers(1, 40), size=st.integers(1, 30), step=st.integers(0, 9)
)
def test_every_epoch_has_every_image_once(seed, count, size, step):
  """Computes the batches of some steps, each independently of those before."""
  stream = np.concatenate([order.batch_indices(seed, s, size, count) for s in range(step + 1)])
  for start in range(0, len(stream) - count + 1, count):
    assert sorted(stream[start : start + count]) == list(range(count))
  np.testing.assert_array_equal(stream[step * size :], order.batch_indices(seed, step, size, count))


def test_epochs_and_seeds_differ():
  orders = {tuple(order.epoch_order(seed, epoch, 50)) for seed in range(3) for epoch in range(3)}
  assert len(orders) == 9
