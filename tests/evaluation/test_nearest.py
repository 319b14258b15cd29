import numpy as np

from dcgan_jax.core.pixels import BYTES
from dcgan_jax.evaluation import nearest
from dcgan_jax.evaluation.scores import Moments, Real, Seen
from dcgan_jax.media import pictures


def test_each_image_stands_beside_the_nearest_real_ones():
  real = np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1).repeat(4, 1).repeat(4, 2)
  made = real[[7, 30, 12]]
  features = real[:, 0, 0].astype(np.float32)
  known = Real(Moments(np.zeros(16), np.eye(16)), features, lambda: real, None, False)
  seen = Seen('classifier', made, features[[7, 30, 12]] + 0.1, np.ones((3, 1)), known)
  got = nearest.beside(seen, BYTES, rows=2, count=3)
  want = real[[7, 7, 8, 6, 30, 30, 31, 29]]
  np.testing.assert_array_equal(got, pictures.grid(want, columns=4))
