import numpy as np
import pytest

from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import evaluate


@pytest.mark.parametrize(
  'images, said',
  [
    (np.zeros((20, 8, 8, 1), np.float32), r'images=array: float32 \(20, 8, 8, 1\); this run has uint8'),
    (np.zeros((20, 9, 8, 1), np.uint8), r'this run has uint8 \(N, \*\(8, 8, 1\)\)'),
    (np.zeros((9, 8, 8, 1), np.uint8), 'has 9 images; scores take 10 or more'),
  ],
)
def test_images_that_cannot_be_scored_are_refused_before_anything_is_trained(untrained, images, said):
  with pytest.raises(InputError, match=said):
    evaluate.score_images(untrained, images)
  assert not (untrained / 'classifier.npz').exists()


def test_there_must_be_a_run(tmp_path):
  with pytest.raises(InputError, match='no run here'):
    evaluate.score_images(tmp_path, np.zeros((20, 8, 8, 1), np.uint8))
