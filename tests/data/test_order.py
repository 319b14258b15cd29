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


@given(count=st.integers(0, 12_000), share=st.floats(0, 0.499))
def test_held_out_images_are_spread_evenly_and_the_others_are_trained_on(count, share):
  held_out, training = order.held_out(count, share), order.training(count, share)
  assert len(held_out) == (min(500, round(share * count)) if count >= 100 else 0)
  assert sorted([*held_out, *training]) == list(range(count))
  assert held_out.dtype == training.dtype == np.int32 and (np.diff(training) > 0).all()
  if len(held_out):
    ends = np.concatenate([[-held_out[0] - 1], held_out, [2 * count - held_out[-1] - 1]])
    assert np.ptp(np.diff(ends)) <= 2  # also to their mirror images beyond the ends


def test_five_of_a_hundred_are_held_out():
  assert order.held_out(100, 0.05).tolist() == [10, 30, 50, 70, 90]
  assert order.held_out(10**6, 0.05)[[0, -1]].tolist() == [1000, 999_000]
