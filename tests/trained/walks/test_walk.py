"""Walks, arithmetic, turns and sheets, and the exemplars of classes in them."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageSequence

from dcgan_jax import data
from dcgan_jax.core import latents
from dcgan_jax.core.latents import Latents
from dcgan_jax.data.sources import Digits
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import classifier, extractors, learned
from dcgan_jax.media import pictures
from dcgan_jax.media.pace import Pace
from dcgan_jax.runs import sampling
from dcgan_jax.trained.walks import directions, drawing, walk
from dcgan_jax.trained.walks.request import Request

NO_PACE = Pace()
FLAGS = ('points', 'plus', 'minus', 'plus2', 'turn_from', 'turn_to')


@pytest.fixture(scope='module')
def sampler(untrained):
  return sampling.open_sampler(untrained)


@pytest.fixture
def run(untrained, sampler, monkeypatch, tmp_path):
  """A function that draws with a generator compiled once for all tests; it returns the frames."""
  monkeypatch.setattr(sampling, 'open_sampler', lambda folder, checkpoint: sampler)

  def call(out='x.png', sheet=False, path=None, seed=3, num=None, folder=untrained, pace=NO_PACE, **given):
    arguments = {flag: given.pop(flag, None) for flag in FLAGS}
    wanted = Request(sheet, path, None, arguments, pace, **given)
    walk.run(folder, num, seed, 'last', str(tmp_path / out), wanted)
    with Image.open(tmp_path / out) as picture:
      return [np.asarray(frame.convert('L'))[..., None] for frame in ImageSequence.Iterator(picture)]

  return call


def _shown(picture):
  """Returns the images of a grid without captions, back in their own 8x8 pixels."""
  rows, columns = ((n - 2) // 66 for n in picture.shape[:2])
  cells = [picture[2 + 66 * r :, 2 + 66 * c :][:64:8, :64:8] for r in range(rows) for c in range(columns)]
  return np.stack(cells).reshape(rows, columns, 8, 8, 1)


def test_a_walk_begins_each_row_with_its_image_and_ends_it_with_the_next(run, sampler, capsys):
  shown = _shown(*run(points='4,0,7'))
  assert shown.shape == (3, 10, 8, 8, 1)
  want = sampler.sample(8, seed=3)[[4, 0, 7]]
  np.testing.assert_array_equal(shown[:, 0], want)
  assert abs(shown[:, -1].astype(int) - np.roll(want, -1, axis=0)).max() <= 1  # It differs by rounding.
  z = latents.sample(jax.random.key(3), jnp.array([4, 0]), 10)
  between = sampler.from_latents(jax.jit(latents.slerp)(z[0], z[1], jnp.array([4 / 9])))
  assert abs(shown[0, 4].astype(int) - between[0]).max() <= 1
  assert not np.array_equal(shown[0, 4], _shown(*run(points='4,0,7', path='linear'))[0, 4])
  printed = capsys.readouterr().out
  assert '--points=4,0,7\n' in printed and 'spherical walk of step 0' in printed and 'linear walk' in printed


def test_the_default_walk_is_through_nine(run, capsys):
  assert _shown(*run()).shape[:2] == (9, 10)
  assert '--points=0,1,2,3,4,5,6,7,8\n' in capsys.readouterr().out


def test_an_animation_is_the_walk_and_loops(run, sampler):
  frames = [_shown(frame).reshape(4, 8, 8, 1)[:3] for frame in run('x.gif', points='4,0,7')]
  assert len(frames) == 30
  points = sampler.sample(8, seed=3)[[4, 0, 7]]
  for leg in range(3):
    np.testing.assert_array_equal(frames[10 * leg], np.roll(points, -leg, axis=0))
  z = latents.sample(jax.random.key(3), jnp.array([7, 4]), 10)
  before_last = sampler.from_latents(jax.jit(latents.slerp)(z[0], z[1], jnp.array([0.9])))[0]
  assert abs(frames[-1][0].astype(int) - before_last).max() <= 1


def test_a_gif_without_a_pace_has_the_bits_that_it_always_had(run, sampler, tmp_path):
  """Draws it as before there was a pace: ten frames of each leg, each for a tenth of a second."""
  run('x.gif', points='4,0,7')
  z = sampler.latents.sample(jax.random.key(3), jnp.array([4, 0, 7]))
  legs = sampler.latents.path(z, jnp.arange(10) / 10, 'spherical')
  made = pictures.zoom(sampler.from_latents(legs.reshape(30, -1)), 64)
  frames = [pictures.grid(made[(np.array([0, 10, 20]) + i) % 30]) for i in range(30)]
  pictures.save_gif(tmp_path / 'before.gif', frames, most=30, hold=100)
  assert (tmp_path / 'x.gif').read_bytes() == (tmp_path / 'before.gif').read_bytes()


@pytest.mark.parametrize('frames', [2, 3, 7, 20])
def test_a_loop_is_as_long_as_asked(run, sampler, frames):
  """Takes numbers of frames that divide evenly by the legs, and others."""
  shown = run('x.gif', points='4,0,7', pace=Pace(seconds=frames / 5, fps=5))
  assert len(shown) == frames
  for i, frame in enumerate(shown):
    leg, rest = divmod(3 * i, frames)
    points = np.roll([4, 0, 7], -leg)
    z = [
      np.asarray(sampler.latents.sample(jax.random.key(3), jnp.array(x)))
      for x in (points, np.roll(points, -1))
    ]
    t = jnp.array([rest / frames])
    want = sampler.from_latents(np.concatenate([jax.jit(latents.slerp)(a, b, t) for a, b in zip(*z)]))
    assert abs(_shown(frame).reshape(4, 8, 8, 1)[:3].astype(int) - want).max() <= 2


@pytest.mark.parametrize('out', ['x.webp', 'x.gif'])
def test_a_loop_is_as_large_as_asked(run, out):
  assert run(out, points='1,2', pace=Pace(1, 4, 100))[0].shape == (51, 100, 1)


def test_a_turn_goes_there_and_back(run, sampler):
  named = {'turn_from': '10,11', 'turn_to': '14,15', 'points': '6,2,3,9'}
  frames = [_shown(frame)[:, :2].reshape(4, 8, 8, 1) for frame in run('x.gif', **named, pace=Pace(0.8, 10))]
  assert len(frames) == 8
  z = np.asarray(sampler.latents.sample(jax.random.key(3), jnp.arange(16)))
  vector = z[14:16].mean(0) - z[10:12].mean(0)
  for frame, amount in zip(frames, -np.cos(np.arange(8) * np.pi / 4)):
    want = sampler.from_latents(z[[6, 2, 3, 9]] + np.float32(amount) * vector)
    assert abs(frame.astype(int) - want).max() <= 2


def test_a_loop_of_too_many_images_is_one_line(run, monkeypatch):
  monkeypatch.setattr(drawing, 'MOST_IMAGES', 20)
  text = r'^seconds=0\.7: a loop of 7 frames takes 21 images here, and 20 is the most; choose a smaller --sec'
  with pytest.raises(InputError, match=text):
    run('x.gif', points='4,0,7', pace=Pace(0.7, 10))


def test_a_sheet_is_the_sample_numbered(run, sampler):
  (picture,) = run(sheet=True, num=5)
  tiles = pictures.captioned(pictures.zoom(sampler.sample(5, seed=3), 64), list('01234'))
  np.testing.assert_array_equal(picture, pictures.grid(tiles))


def test_arithmetic(run, sampler, capsys):
  (picture,) = run(plus='3,8,21', minus='4', plus2='9,5')
  assert '--plus=3,8,21\n--minus=4\n--plus2=9,5\n' in capsys.readouterr().out
  key = jax.random.key(3)
  z = [latents.sample(key, jnp.array(i), 10) for i in ([3, 8, 21], [4], [9, 5])]
  shown = _shown(picture[-16 - 200 : -16, -200:])
  means = [np.asarray(x).mean(0) for x in z]
  result = sampler.from_latents((means[0] - means[1] + means[2])[None])[0]
  assert abs(shown[1, 1].astype(int) - result).max() <= 1
  others = np.delete(shown.reshape(9, 8, 8, 1), 4, axis=0)
  assert all((other != result).any() for other in others)
  assert np.abs(others.astype(float).mean(0) - result).mean() < 8  # They are around it.
  column = picture[2 + 16 : -18, 2:66]  # It has a title, then images, each with a line under it.
  first = sampler.from_latents(np.concatenate([z[0], means[:1]]))
  for i, image in enumerate(first):
    tile = column[i * 82 : i * 82 + 64][::8, ::8]
    assert abs(tile.astype(int) - image).max() <= 1


def test_a_turn(run, sampler, capsys):
  (picture,) = run(turn_from='10,11,12,13', turn_to='14,15', points='6,2')
  assert '--points=6,2\n--turn_from=10,11,12,13\n--turn_to=14,15\n' in capsys.readouterr().out
  shown = _shown(picture[16:])
  assert shown.shape[:2] == (2, 9)
  np.testing.assert_array_equal(shown[:, 4], sampler.sample(7, seed=3)[[6, 2]])
  z = np.asarray(latents.sample(jax.random.key(3), jnp.arange(16), 10))
  for column, amount in ((0, -1), (6, 0.5), (8, 1)):
    turned = z[[6, 2]] + amount * (z[14:16].mean(0) - z[10:14].mean(0))
    assert abs(shown[:, column].astype(int) - sampler.from_latents(turned)).max() <= 1


def test_latents_beyond_the_uniform_prior_are_not_clipped(run, sampler, monkeypatch):
  monkeypatch.setattr(sampler, 'latents', Latents(10, 'uniform'))
  seen = []
  make = sampler.from_latents
  monkeypatch.setattr(sampler, 'from_latents', lambda z: seen.append(np.asarray(z)) or make(z))
  run(plus='1', minus='2', plus2='3')
  z = np.asarray(latents.sample(jax.random.key(3), jnp.arange(4), 10, 'uniform'))
  np.testing.assert_allclose(seen[-1][4], z[1] - z[2] + z[3], atol=1e-6)
  assert abs(seen[-1][4]).max() > 1


def test_the_default_path_suits_the_prior(run, sampler, monkeypatch, capsys):
  monkeypatch.setattr(sampler, 'latents', Latents(10, 'uniform'))
  run(points='1,2')
  assert 'linear walk' in capsys.readouterr().out


@pytest.fixture
def brightness(monkeypatch):
  """A stand-in for the classifier of the digits: the brightest are surely a 7, the darkest a 2."""

  def look(made):
    x = made.astype(np.float64).mean((1, 2, 3)) / 255
    return {'probabilities': np.eye(10)[7] * x[:, None] + np.eye(10)[2] * (1 - x)[:, None]}

  monkeypatch.setattr(
    extractors, 'classifier_extractor', lambda *_: extractors.Extractor('classifier', '', look)
  )


def test_exemplars_of_a_class_are_as_if_named_by_number(run, sampler, brightness, capsys):
  by_class = run(turn_from='class:7', turn_to='class:2', points='0,1', num=50)
  order = np.argsort(sampler.sample(50, seed=3).mean((1, 2, 3)), kind='stable')
  numbers = {'turn_to': order[:4].tolist(), 'turn_from': order[::-1][:4].tolist()}
  printed = capsys.readouterr().out
  for flag, name in (('turn_from', '7'), ('turn_to', '2')):
    assert f'--{flag}={",".join(map(str, numbers[flag]))}  ({name})\n' in printed
  by_number = run(**{flag: ','.join(map(str, found)) for flag, found in numbers.items()}, points='0,1')
  np.testing.assert_array_equal(by_class, by_number)


@pytest.mark.slow
def test_exemplars_are_by_the_classifier_of_the_data(run, sampler, untrained, monkeypatch, tmp_path, capsys):
  """Asks a classifier that has hardly learned, and finds in what is printed what it says."""
  monkeypatch.setenv('DCGAN_JAX_CACHE', str(tmp_path))
  monkeypatch.setattr(classifier, 'STEPS', 2)
  monkeypatch.setattr(classifier, 'LEAST_ACCURACY', 0)
  source = Digits(data.Fit((8, 8), 1))
  digits, _ = data.load(source, 'digits')
  with jax.numpy_dtype_promotion('standard'):  # Adam mixes int32 with float32.
    extractor = extractors.classifier_extractor(source, digits, source.labels())
    probabilities = extractor.look(sampler.sample(50, seed=3))['probabilities']
    number = np.bincount(probabilities.argmax(1)).argmax()
    folder = shutil.copytree(untrained, tmp_path / 'run')
    run(points=f'class:{number}', num=50, folder=folder)
  assert (folder / learned.FILE).exists()
  printed = capsys.readouterr().out
  indices = [int(i) for i in printed.split('--points=')[1].split()[0].split(',')]
  assert f'  ({number})\n' in printed and (probabilities[indices].argmax(1) == number).all()
  others = [i for i in range(50) if probabilities[i].argmax() == number and i not in indices]
  assert len(indices) == 9 or not others
  assert all(probabilities[i, number] <= probabilities[indices, number].min() for i in others)


TERMS = {'plus': '1', 'minus': '2', 'plus2': '3'}


@pytest.mark.parametrize(
  ('arguments', 'text'),
  [
    ({'plus': '1,2'}, r'^--minus and --plus2 missing: arithmetic takes --plus, --minus, --plus2: numbers'),
    ({'turn_to': '1'}, '^--turn_from missing: turn takes'),
    (TERMS | {'turn_to': '1'}, '^turn_to=1: does not go with the rest; arithmetic takes --plus'),
    (TERMS | {'path': 'linear'}, '^path=linear: does not go'),
    ({'sheet': True, 'points': '1'}, '^points=1: does not go with the rest; sheet takes no flag'),
    (TERMS | {'direction': 1}, '^direction=1: does not go with the rest; arithmetic takes'),
    ({'directions': 'sefa', 'path': 'linear'}, '^path=linear: does not go with the rest; directions takes'),
    ({'direction': 11}, '^direction=11: z has 10 numbers, and so many directions at most'),
    ({'directions': 'sefa', 'out': 'x.gif'}, r'x\.gif: must end in \.png, being a picture'),
    ({'points': '5'}, '^points=5: is one image; a walk takes two or more'),
    ({'points': '1,,5'}, '^points=1,,5: give numbers of images, like 3,8,21, from 0, or a class'),
    ({'points': '-1,5'}, '^points=-1,5: give numbers'),
    ({'points': '1.5,5'}, '^points=1.5,5: give numbers'),
    ({'points': ''}, '^points=: give numbers'),
    ({'points': '1,4294967296'}, '^points=1,4294967296: images are numbered from 0 to 2147483647'),
    ({'out': 'x.avi'}, r'x\.avi: must end in \.png \(rows\) or in \.gif, \.webp or \.mp4 \(a loop\)'),
    (TERMS | {'out': 'x.gif'}, r'x\.gif: must end in \.png'),
    ({'points': 'shoe'}, '^points=shoe: no such class; the classes of the data are: 0, 1, 2, 3,'),
    ({'points': 'class:'}, '^points=: no such class'),
    ({'points': 'class:5'}, '^points=5: the classifier sees it in none of the first 1000 images of seed 3;'),
  ],
)
def test_bad_input_is_one_line(run, brightness, arguments, text):
  with pytest.raises(InputError, match=text) as error:
    run(**arguments)
  assert '\n' not in str(error.value)


def test_data_without_classes_is_refused(run, monkeypatch):
  def refuse(self):
    raise InputError('data.source: its images have no classes')

  monkeypatch.setattr(Digits, 'labels', refuse)
  with pytest.raises(InputError, match='have no classes'):
    run(points='class:1')


def test_a_picture_that_cannot_be_written_is_one_line(run, tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(InputError, match='cannot be written'):
    run('file/x.png', sheet=True, num=4)


def _moved(sampler, number, amounts, points):
  """Returns the images of points along a direction of the weights, uint8 [points, amounts, 8, 8, 1]."""
  vector = directions.of_first_layer(*sampler.network, 10, 10)[number - 1]
  z = np.asarray(latents.sample(jax.random.key(3), jnp.array(points), 10))
  z = z[:, None] + np.asarray(amounts, np.float32)[:, None] * vector
  return sampler.from_latents(z.reshape(-1, 10)).reshape(len(points), len(amounts), 8, 8, 1)


def test_a_sheet_of_directions(run, sampler, capsys):
  (picture,) = run(directions='sefa', points='6,2', num=4)
  assert capsys.readouterr().out.startswith('--points=6,2\ndirections (sefa) of step 0')
  width = 5 * 66 + 2
  assert picture.shape == (16 + 4 * 66 + 2, 36 + 2 * width + 8, 1)
  for block, point in enumerate((6, 2)):
    left = 36 + block * (width + 8)
    shown = _shown(picture[16:, left : left + width])
    for number in range(1, 5):
      want = _moved(sampler, number, np.linspace(-1, 1, 5) * np.sqrt(10) / 2, [point])[0]
      assert abs(shown[number - 1].astype(int) - want).max() <= 1


def test_images_along_one_direction(run, sampler, capsys):
  (picture,) = run(direction=3, points='6,2')
  assert 'direction 3 (sefa) of step 0' in capsys.readouterr().out
  want = _moved(sampler, 3, np.linspace(-1, 1, 9) * np.sqrt(10) / 2, [6, 2])
  assert abs(_shown(picture[16:]).astype(int) - want).max() <= 1
  frames = run('x.gif', direction=3, points='6,2', pace=Pace(0.4, 10))
  want = _moved(sampler, 3, -np.cos(np.arange(4) * np.pi / 2) * np.sqrt(10) / 2, [6, 2])
  for i, frame in enumerate(frames):
    assert abs(_shown(frame)[0].astype(int) - want[:, i]).max() <= 2


def test_ganspace_is_another_way(run, sampler, monkeypatch):
  found = np.eye(10, dtype=np.float32)[4:6]
  monkeypatch.setattr(directions, 'of_activations', lambda *given: found)
  (picture,) = run(directions='ganspace', direction=2, points='6')
  z = np.asarray(latents.sample(jax.random.key(3), jnp.array([6]), 10))
  want = sampler.from_latents(z + found[1] * np.float32(np.sqrt(10) / 2))
  assert abs(_shown(picture[16:])[0, -1:].astype(int) - want).max() <= 1
  with pytest.raises(InputError, match=r'^direction=3: there are 2 of ganspace$'):
    run(directions='ganspace', direction=3, points='6')


def test_a_class_is_left_alone_by_directions(sampler, monkeypatch):
  monkeypatch.setattr(sampler, 'latents', Latents(7, classes=3))
  vectors = walk._directions(sampler, Request(False, None, None, {}, NO_PACE, 'sefa'))
  assert vectors.shape == (7, 10) and not vectors[:, 7:].any()


def test_latents_of_a_file(run, sampler, tmp_path, capsys):
  z = np.random.default_rng(0).normal(size=(4, 10))
  np.save(tmp_path / 'z.npy', z)
  shown = _shown(*run(points='3,0', latents_file=str(tmp_path / 'z.npy')))
  made = sampler.from_latents(z)
  np.testing.assert_array_equal(shown[:, 0], made[[3, 0]])
  assert 'step 0 of ' in capsys.readouterr().out
  assert _shown(*run(latents_file=str(tmp_path / 'z.npy'))).shape[0] == 4
  assert '--points=0,1,2,3\n' in capsys.readouterr().out
  (picture,) = run(sheet=True, latents_file=str(tmp_path / 'z.npy'))
  np.testing.assert_array_equal(picture, drawing.sheet(made))


@pytest.mark.parametrize(
  ('arguments', 'text'),
  [
    ({'points': '1,4'}, '^points=4: --latents has 4 rows, numbered from 0'),
    ({'points': 'class:7'}, '^points=7: --latents has no classes; name images by their rows'),
    ({'latents_file': 'w.npy'}, r'^latents: of shape \(4, 3\); this generator takes \(N, 10\)'),
    ({'latents_file': 'none.npy'}, '^latents=.*none.npy: cannot be read as .npy'),
  ],
)
def test_latents_that_do_not_fit_are_one_line(run, tmp_path, arguments, text):
  np.save(tmp_path / 'z.npy', np.zeros((4, 10)))
  np.save(tmp_path / 'w.npy', np.zeros((4, 3)))
  file = str(tmp_path / arguments.get('latents_file', 'z.npy'))
  with pytest.raises(InputError, match=text):
    run(**arguments | {'latents_file': file})
