"""`--mode=probe` and `--mode=forget`: features, statistics, machines, and the commands in this process."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn.svm import LinearSVC

from configs import digits
from dcgan_jax import checkpoints
from dcgan_jax.commands import build, extractors, forget, workdir
from dcgan_jax.commands import probe as verb
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import probe, svm

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize('shape', [(8, 16), (14, 7), (5, 3), (1, 2)])
def test_pooling(shape):
  x = RANDOM.standard_normal((2, *shape, 3)).astype(np.float32)
  got = np.asarray(probe.pool(jnp.asarray(x)))
  rows, columns = (min(4, length) for length in shape)
  want = np.full((2, rows, columns, 3), -np.inf)
  for i, j in np.ndindex(rows, columns):
    for y in range(math.floor(i * shape[0] / rows), math.ceil((i + 1) * shape[0] / rows)):
      for x_ in range(math.floor(j * shape[1] / columns), math.ceil((j + 1) * shape[1] / columns)):
        want[:, i, j] = np.maximum(want[:, i, j], x[:, y, x_])
  np.testing.assert_array_equal(got, want.reshape(2, -1).astype(np.float32))


def test_features_are_all_layers(tiny):
  _, discriminator = tiny
  images = RANDOM.integers(0, 256, (3, 8, 8, 1), np.uint8)
  variables = jax.jit(discriminator.init)(jax.random.key(0), probe.normalize(jnp.asarray(images)))
  got = probe.make_features(discriminator)(variables, jnp.asarray(images))
  _, (first, second) = discriminator.apply(variables, images.astype(np.float32) / 127.5 - 1.0)
  assert got.dtype == jnp.float16 and got.shape == (3, 16 * 6 + 4 * 8)
  np.testing.assert_allclose(got[:, :96], np.asarray(first).reshape(3, -1), atol=1e-3)  # 4x4 already
  np.testing.assert_allclose(got[:, 96:], np.asarray(second).reshape(3, -1), atol=2e-3)


@pytest.fixture(scope='module')
def points():
  """Three classes that overlap."""
  labels = RANDOM.integers(0, 3, 300)
  centres = RANDOM.standard_normal((3, 12))
  features = centres[labels] + 1.5 * RANDOM.standard_normal((300, 12))
  return features.astype(np.float16), labels


def _liblinear(features, labels, cost):
  machine = LinearSVC(C=cost, tol=1e-8, max_iter=100_000, random_state=0).fit(features.astype(float), labels)
  return np.concatenate([machine.coef_, machine.intercept_[:, None]], 1)


def test_many_images_have_the_machine_of_liblinear(points, tmp_path, monkeypatch):
  """In parts, from a file, all costs at once."""
  features, labels = points
  monkeypatch.setattr(svm, 'ROWS', 128)
  features.tofile(tmp_path / 'features')
  mapped = np.memmap(tmp_path / 'features', np.float16, 'r', shape=features.shape)
  costs = (1e-3, 0.1, 1.0)
  got = svm.fit_many(mapped, labels, 3, costs, iterations=200, tolerance=1e-5)
  want = np.stack([_liblinear(features, labels, cost) for cost in costs])
  np.testing.assert_allclose(got, want, atol=2e-3)
  early = svm.fit_many(mapped, labels, 3, costs, iterations=2)
  assert np.abs(early - want).max() > 0.01


def test_few_images_have_the_machine_of_liblinear(points):
  features, labels = points
  got = svm.fit_few(features, labels, 3, 0.1)
  np.testing.assert_allclose(got, _liblinear(features, labels, 0.1), atol=1e-2)
  wide = np.concatenate([features[:8], features[:8] ** 2], 1)  # fewer images than features
  labels = np.array([0, 1, 2, 0, 1, 2, 0, 1])
  np.testing.assert_allclose(svm.fit_few(wide, labels, 3, 0.1), _liblinear(wide, labels, 0.1), atol=1e-2)


def test_classes_without_images_are_never_chosen(points):
  features, labels = points
  two = labels != 1
  model = svm.fit_few(features[two], labels[two], 3, 0.1)
  want = _liblinear(features[two], labels[two], 0.1)
  np.testing.assert_allclose(model, [-want[0], [0] * 12 + [-1], want[0]], atol=1e-2)
  machine = LinearSVC(C=0.1, random_state=0).fit(features[two].astype(float), labels[two])
  score = machine.score(features[two].astype(float), labels[two])
  assert svm.accuracies(features[two], labels[two], model[None])[0] == pytest.approx(score, abs=0.02)


def test_accuracies_of_several_models():
  features, labels = np.array([[1.0], [2.0], [-1.0], [-3.0]], np.float16), np.array([1, 1, 0, 1])
  models = np.array([[[0, 0], [1, 0]], [[0, 0], [-1, 0]], [[0, 0], [0, 1]]], np.float32)
  np.testing.assert_array_equal(svm.accuracies(features, labels, models), [0.75, 0.25, 0.75])


def test_draws_are_balanced():
  labels = np.repeat([0, 1, 2], [50, 4, 30])
  random = np.random.default_rng(0)
  first, second = svm.draw(labels, 24, random), svm.draw(labels, 24, random)
  assert len(set(first)) == 24 and np.bincount(labels[first]).tolist() == [10, 4, 10]
  assert set(first) != set(second)
  assert sorted(svm.draw(labels, 84, random)) == list(range(84))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A run that has not learned yet."""
  config = digits.get_config()
  config.data.image_size = (8, 8)
  config.generator.widths, config.discriminator.widths = (8, 6), (6, 8)
  config.generator.initializer = 'glorot'
  config.latent.size = 10
  path = tmp_path_factory.mktemp('runs') / 'run'
  workdir.write_config(path, config)
  with checkpoints.open_for_writing(path / 'checkpoints', 1) as checkpointer:
    checkpoints.save(checkpointer, jax.jit(build.initial_state(config))())
  return path


def test_a_run_is_probed(folder, capsys, monkeypatch):
  monkeypatch.setattr(verb, 'DRAWS', 2)
  monkeypatch.setattr(verb, 'LABELS', 300)
  monkeypatch.setattr(svm, 'COSTS', (0.01, 0.1))
  verb.run(folder, 1000, 'last', None)
  report = json.loads((folder / 'probe.json').read_text())
  assert report['images'] == {'train': 600, 'validation': 200, 'test': 200}
  rows = report['accuracy']
  assert set(rows) == {'D, step 0', 'D, random', 'pixels'} and rows['pixels']['features'] == 64
  assert 0.88 < rows['pixels']['few']['mean'] < 0.99 and 0.9 < rows['pixels']['all']['mean'] < 0.99
  assert rows['D, step 0'] == rows['D, random']  # nothing learned, from the same seed
  assert 0.6 < rows['D, random']['few']['mean'] < 0.98 and rows['pixels']['few']['c'] in svm.COSTS
  printed = capsys.readouterr().out
  assert 'right of 200 test images' in printed and f'{rows["pixels"]["all"]["mean"]:.2%}' in printed
  with Image.open(folder / 'features.png') as picture:
    assert picture.size[0] > 800
  assert not list(folder.glob('*.part'))


def test_another_source_is_probed(folder, tmp_path, monkeypatch):
  for name, color in (('black', 20), ('white', 230)):
    (tmp_path / name).mkdir()
    for i in range(25):
      Image.new('RGB', (20, 10), (color + i % 20,) * 3).save(tmp_path / name / f'{i}.png')
  monkeypatch.setattr(verb, 'LABELS', 20)
  monkeypatch.setattr(svm, 'COSTS', (0.1,))
  monkeypatch.setattr(verb, 'DRAWS', 2)
  verb.run(folder, None, 'last', f'folder:{tmp_path}')
  report = json.loads((folder / 'probe.json').read_text())
  assert report['images'] == {'train': 30, 'validation': 10, 'test': 10}
  assert report['accuracy']['pixels']['all']['mean'] == 1.0


@pytest.mark.parametrize(
  ('split', 'apart'),
  [('train', True), ('train[:9%]+train[90%:]', True), ('train+test', False), ('test', False), ('all', False)],
)
def test_the_test_split_is_used_only_if_nothing_of_it_was_learned(split, apart):
  assert verb._is_of_train(split) == apart


@pytest.mark.parametrize(
  ('num', 'source', 'text'),
  [
    (1200, None, 'data.source=digits: 720 images of 10 classes to learn from'),
    (None, 'faces', "data='faces': choose digits, tfds:NAME or folder:PATH"),
    (None, 'folder:/nonexistent', 'data=folder:/nonexistent: no such folder'),
    (None, 'folder:{flat}', 'data: its images have no classes'),
  ],
)
def test_bad_input_to_probe(folder, tmp_path, num, source, text):
  Image.new('L', (8, 8)).save(tmp_path / 'a.png')
  with pytest.raises(InputError) as error:
    verb.run(folder, num, 'last', source and source.format(flat=tmp_path))
  assert text in str(error.value)


@pytest.fixture
def by_brightness(monkeypatch):
  """In place of the classifier: images that are brighter above are 3, others 5."""

  def look(images):
    above, below = images[:, :4].mean((1, 2, 3)), images[:, 4:].mean((1, 2, 3))
    return {'probabilities': np.eye(10)[np.where(above > below, 3, 5)]}

  extractor = extractors.Extractor('classifier', '', look)
  monkeypatch.setattr(extractors, 'of_classifier', lambda *_: extractor)


def test_a_class_is_forgotten(folder, by_brightness, capsys):
  forget.run(folder, 200, 0, 'last', '3', None, None)
  report = json.loads((folder / 'forget_3.json').read_text())
  assert report['layer'] == 0 and report['maps'] == 8 and 0 < report['dropped'] < 8
  assert report['shares']['before'][3] + report['shares']['before'][5] == pytest.approx(1)
  assert report['still']['after'][0] is None and report['still']['after'][3] < report['still']['random'][3]
  assert '> 3' in capsys.readouterr().out
  with Image.open(folder / 'forget_3.png') as picture:
    assert picture.size[0] > 800


@pytest.mark.parametrize(
  ('name', 'layer', 'drop', 'text'),
  [
    ('cat', None, None, 'class=cat: no such class; the classes of the data are: 0, 1, 2'),
    (None, None, None, '--class is missing: give one of 0, 1, 2'),
    ('3', 2, None, 'layer=2: the hidden layers of this generator are 0 to 1'),
    ('3', 1, 7, 'drop=7: layer 1 has 6 maps'),
    ('4', 1, 2, 'class=4: 0 of 64 samples look like it'),
  ],
)
def test_bad_input_to_forget(folder, by_brightness, name, layer, drop, text):
  with pytest.raises(InputError) as error:
    forget.run(folder, 64, 0, 'last', name, layer, drop)
  assert text in str(error.value)
