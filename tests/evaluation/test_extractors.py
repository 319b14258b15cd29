import jax
import numpy as np
import pytest

from configs import digits
from dcgan_jax import data, settings
from dcgan_jax.data.labels import Labels
from dcgan_jax.data.sources import Digits
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import classifier, extractors, inception, scores
from dcgan_jax.runs import experiment

FIT = data.Fit((8, 8), 1)


@pytest.mark.slow
def test_a_classifier_that_has_learned_nothing_is_refused(monkeypatch, tmp_path):
  monkeypatch.setenv('DCGAN_JAX_CACHE', str(tmp_path))
  monkeypatch.setattr(classifier, 'STEPS', 2)
  source = Digits(FIT)
  images, _ = data.load(source, 'digits')
  refused = pytest.raises(InputError, match=r'accuracy on held-out images is .*; below 60%')
  with refused, jax.numpy_dtype_promotion('standard'):  # Adam mixes int32 with float32.
    extractors.classifier_extractor(source, images, source.labels())


def test_stacked_images_are_by_the_classifier_that_the_run_keeps(monkeypatch, tmp_path):
  """Finds the classifier of the gray images, whichever mode asks for it."""
  asked = []

  def classifier_extractor(source, real, labels, folder):
    asked.append((source, folder))
    return extractors.Extractor('classifier', 'features=gray weights=0', lambda images: {}, 'gray')

  monkeypatch.setattr(extractors, 'classifier_extractor', classifier_extractor)
  stacked = data.open_source('stacked:digits', 'train', data.Fit((8, 8), 3))
  found = extractors.learned_extractor(stacked, np.zeros(0), None, tmp_path)
  assert asked == [(stacked.gray, tmp_path)]
  assert (found.protocol, found.description) == ('features=channels:gray weights=0', 'for each channel gray')


def test_shares_of_classes():
  labels = Labels(np.array([0, 0, 2, 0]), ('a', 'b', 'c'))
  np.testing.assert_array_equal(labels.shares, [0.75, 0, 0.25])


def test_kept_images_are_those_of_the_data_alone():
  assert extractors.kept_images(5).tolist() == [0, 1, 2, 3, 4]
  kept = extractors.kept_images(2 * scores.MOST_NEIGHBOURS)
  assert len(set(kept)) == scores.MOST_NEIGHBOURS and (np.diff(kept) > 0).all()
  np.testing.assert_array_equal(kept, extractors.kept_images(2 * scores.MOST_NEIGHBOURS))


def test_weights_are_found(monkeypatch, tmp_path):
  monkeypatch.setenv('DCGAN_JAX_CACHE', str(tmp_path))
  parts = experiment.build(settings.check(digits.get_config()))
  for chosen, text in (
    (extractors.Chosen('inception'), 'gets them by --download'),
    (extractors.Chosen('inception', str(tmp_path / 'x')), 'No such file'),
  ):
    with pytest.raises(InputError, match=text) as error:
      extractors.prepare(chosen, parts)
    assert '\n' not in str(error.value)
  path = tmp_path / 'weights' / inception.WEIGHTS
  path.parent.mkdir()
  path.write_bytes(b'not the weights')
  with pytest.raises(InputError, match='SHA-256'):
    extractors.find_weights(None, download=True)
  monkeypatch.setattr(inception, 'check_published', lambda path: None)
  assert extractors.find_weights(None, download=False) == path
