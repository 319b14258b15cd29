import numpy as np
import pytest

from dcgan_jax.errors import InputError
from dcgan_jax.trained.walks import exemplars
from dcgan_jax.trained.walks.exemplars import Exemplars


@pytest.mark.parametrize(
  ('text', 'want'),
  [
    ('3', Exemplars((3,))),
    (' 3, 8,21', Exemplars((3, 8, 21))),
    ('class:7', Exemplars((), '7')),
    ('class: ankle boot', Exemplars((), 'ankle boot')),
    ('Ankle boot', Exemplars((), 'Ankle boot')),
    ('T-shirt/top', Exemplars((), 'T-shirt/top')),
    ('cats, dogs', Exemplars((), 'cats, dogs')),
  ],
)
def test_numbers_are_images_and_all_else_is_a_class(text, want):
  assert exemplars.parse('plus', text) == want


def test_the_surest_are_first_and_of_the_class():
  probabilities = np.array([[0.9, 0.1, 0], [0.45, 0.55, 0], [0.2, 0.8, 0], [0.1, 0.9, 0], [0.1, 0.8, 0.1]])
  assert exemplars.surest(probabilities, 1, 3) == (3, 2, 4)  # Of equals the first is taken.
  assert exemplars.surest(probabilities, 1, 9) == (3, 2, 4, 1)
  assert exemplars.surest(probabilities, 2, 3) == ()


@pytest.mark.parametrize('text', ['-1', '3,', '1.5', '٣', '9' * 5000, '2147483648'])
def test_numbers_that_are_of_no_image_are_refused(text):
  with pytest.raises(InputError, match=r'^points=.*(give numbers of images|images are numbered from 0)'):
    exemplars.parse('points', text)
