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


class _Source:
  """Some images with labels, or without any."""

  def __init__(self, names=(), classes=None):
    self.names, self.classes = names, np.arange(12) % max(1, len(names)) if classes is None else classes
    self.fit = FIT

  def identity(self):
    return f'of {self.names}'

  def labels(self):
    if not self.names:
      raise InputError('data.source: its images have no classes')
    return Labels(self.classes, self.names)


@pytest.fixture
def scored_by(monkeypatch, tmp_path):
  """A function that says by which network a source is scored; its `accuracy` is that of each."""
  monkeypatch.setenv('DCGAN_JAX_CACHE', str(tmp_path / 'cache'))
  folder = tmp_path / 'run'
  folder.mkdir()
  images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1)).astype(np.uint8)

  def train(images, labels, module):
    with jax.numpy_dtype_promotion('standard'):  # Flax's pooling divides by an integer.
      variables = jax.jit(module.init)(jax.random.key(0), images[:1])
    return classifier.Trained(jax.tree.map(np.asarray, variables), scored_by.accuracy)

  def scored_by(source, classes=0):
    config = digits.get_config()
    config.data.classes, config.data.image_size = classes, (8, 8)
    config.generator.widths, config.discriminator.widths = (8, 6), (6, 8)
    parts = experiment.build(settings.check(config))
    parts.__dict__['source'] = source
    labels, make = extractors.prepare(extractors.Chosen('classifier'), parts, folder)
    with jax.numpy_dtype_promotion('standard'):
      extractor = make(images)
    assert (extractor.kind, labels is None) == ('classifier', len(source.names) < 2)
    return extractor

  scored_by.accuracy = 0.9
  monkeypatch.setattr(classifier, 'train', train)
  return scored_by


def test_images_without_classes_are_scored_by_rotations(scored_by, capsys):
  for source in (_Source(), _Source(('all',))):
    extractor = scored_by(source)
    assert extractor.of_rotations and extractor.protocol.startswith('features=rotations/2 weights=')
    assert '90.0% right on held-out images; not comparable to FID' in extractor.description
  assert scored_by(_Source(('cat', 'dog'))).of_rotations  # The run has been scored by rotations.
  assert 'chance' not in capsys.readouterr().out


def test_images_whose_rotations_are_not_seen_are_scored_with_a_warning(scored_by, capsys):
  scored_by.accuracy = 0.28
  assert scored_by(_Source()).of_rotations
  assert (
    'rotations of these images are told apart in 28% of held-out cases, 25% by chance: scores say little'
    in capsys.readouterr().out
  )


@pytest.mark.parametrize(
  ('accuracy', 'classes', 'said'),
  [
    (0.5, None, 'its accuracy on held-out images is 50.0%; below 60% its features mean nothing'),
    (0.9, np.arange(13) % 2, 'images that cannot be decoded have labels'),
  ],
)
def test_classes_that_cannot_be_learned_matter_to_conditional_runs_only(
  scored_by, capsys, accuracy, classes, said
):
  scored_by.accuracy = accuracy
  source = _Source(('cat', 'dog'), classes)
  with pytest.raises(InputError, match=said):
    scored_by(source, classes=2)
  capsys.readouterr()
  assert scored_by(source).of_rotations
  assert f'scores are by rotations and not by a classifier: {said}\n' in capsys.readouterr().out
  scored_by.accuracy = 0.9
  assert scored_by(source).of_rotations
  assert 'scores are by' not in capsys.readouterr().out


def test_images_with_classes_are_scored_by_them(scored_by):
  for classes in (0, 2):
    extractor = scored_by(_Source(('cat', 'dog')), classes)
    assert not extractor.of_rotations and extractor.protocol.startswith('features=classifier/2 weights=')


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
