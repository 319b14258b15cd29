import dataclasses

import jax
import numpy as np
import pytest
from conftest import TINY, succeed, untrained_run
from PIL import Image

import dcgan_jax
from dcgan_jax.core import norm_statistics
from dcgan_jax.core.latents import Latents
from dcgan_jax.errors import InputError
from dcgan_jax.media import pictures
from dcgan_jax.records import workdir
from dcgan_jax.runs import experiment, sampling


@pytest.mark.slow
def test_sample_from_python(trained, tmp_path):
  folder, _ = trained
  run = dcgan_jax.load(folder)
  made = run.sample(70, seed=3)
  assert made.shape == (70, 8, 8, 1) and run.step == 24
  np.testing.assert_array_equal(made[:3], run.sample(3, seed=3))
  z = np.random.default_rng(0).standard_normal((5, 10)).astype(np.float32)
  given = run.from_latents(z)
  np.testing.assert_array_equal(given[2:3], run.from_latents(z[2:3]))
  assert (run.from_latents(z, 'batch') != given).any()
  np.save(tmp_path / 'z.npy', z)
  sampling.run(folder, 'last', str(tmp_path / 'z.npz'), 1, 0, str(tmp_path / 'z.npy'), None, 'stored')
  np.testing.assert_array_equal(np.load(tmp_path / 'z.npz')['x'], given)
  fixed = np.asarray(Image.open(workdir.sample(folder, 24)))  # The run's pictures are of its own seed.
  factor = round(512 / 32)
  np.testing.assert_array_equal(
    fixed[2 * factor : 10 * factor : factor, 2 * factor : 10 * factor : factor], run.sample(1)[0, ..., 0]
  )


def test_sample_refuses_bad_latents(untrained, tmp_path):
  np.save(tmp_path / 'shape.npy', np.zeros((4, 11)))
  np.save(tmp_path / 'nan.npy', np.full((4, 10), np.nan))
  np.save(tmp_path / 'objects.npy', np.array([{}], dtype=object))
  (tmp_path / 'text.npy').write_text('no array')
  for name, text in (
    ('shape', r'shape \(4, 11\); this generator takes \(N, 10\)'),
    ('nan', 'finite'),
    ('objects', 'cannot be read'),
    ('text', 'cannot be read'),
    ('missing', 'cannot be read'),
  ):
    with pytest.raises(InputError, match=text) as error:
      sampling.run(untrained, 'last', str(tmp_path / 'o.npz'), 1, 0, str(tmp_path / f'{name}.npy'))
    assert '\n' not in str(error.value)


@pytest.fixture
def sampler(untrained, monkeypatch):
  """A sampler that makes few images at a time, so that a few are several batches."""
  monkeypatch.setattr(sampling, 'BATCH_SIZE', 4)
  return dcgan_jax.load(untrained)


def test_images_are_those_of_the_generator(untrained, sampler):
  assert sampler.step == 0 and sampler.latents == Latents(10, 'normal')
  run = experiment.open_run(untrained, 'last')
  z = sampler.latents.draw(3, 9)
  assert z.shape == (9, 10) and z.dtype == np.float32
  want = jax.jit(run.experiment.gan.generator.apply)(run.state.sampling_variables, z)
  made = sampler.sample(9, seed=3)
  assert made.shape == (9, 8, 8, 1) and made.dtype == np.uint8 and made.std() > 1
  assert np.abs(made - (np.asarray(want) + 1) * 127.5).max() < 0.51
  np.testing.assert_array_equal(made, sampler.from_latents(z))
  np.testing.assert_array_equal(made[:5], sampler.sample(5, seed=3))
  assert (sampler.sample(5, seed=4) != made[:5]).any()


def test_what_is_no_number_of_a_class_is_refused(tmp_path):
  """Asks for classes that there are not: 2.5 and an empty list were images of no class and of class 0."""
  run = dcgan_jax.load(untrained_run(tmp_path / 'run', {'data.classes': 10}))
  for label in (2.5, [3, 2.5], [], ['3'], True, -1, 10, [3, 10]):
    with pytest.raises(InputError, match='this generator has 10 classes, numbered from 0'):
      run.draw(2, label=label)
  np.testing.assert_array_equal(run.draw(2, label=[3, np.int64(5)])[:2, 10:].argmax(1), [3, 5])


def test_statistics_are_those_of_each_batch(sampler):
  z = sampler.latents.draw(3, 8)
  made = sampler.from_latents(z, 'batch')
  assert (made != sampler.from_latents(z)).any()
  np.testing.assert_array_equal(made[4:], sampler.from_latents(z[4:], 'batch'))  # a batch of its own
  np.testing.assert_array_equal(made[:5], sampler.sample(5, seed=3, statistics='batch'))


@pytest.mark.parametrize('out', ['x.txt', 'file', 'file/x.png'])
def test_targets_that_cannot_be_are_one_line(untrained, tmp_path, out):
  (tmp_path / 'file').touch()
  with pytest.raises(InputError, match=r'must end in|is a file|cannot be written') as error:
    sampling.run(untrained, 'last', str(tmp_path / out), 1)
  assert '\n' not in str(error.value)


def test_a_grid_an_array_and_a_folder(untrained, sampler, monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(sampling, 'open_sampler', lambda *_: sampler)
  made = sampler.sample(5, seed=2)
  for out in ('grid.png', 'new/x.npz', 'pictures'):
    sampling.run(untrained, 'last', str(tmp_path / out), 5, 2, None, None, 'stored')
    assert capsys.readouterr().out == f'5 images of step 0 in {tmp_path / out}\n'
  np.testing.assert_array_equal(np.load(tmp_path / 'new' / 'x.npz')['x'], made)
  with Image.open(tmp_path / 'grid.png') as picture:
    np.testing.assert_array_equal(np.asarray(picture), pictures.zoom(pictures.grid(made))[..., 0])
  names = sorted(path.name for path in (tmp_path / 'pictures').iterdir())
  assert names == [f'{i:05d}.png' for i in range(5)]
  np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'pictures' / names[4])), made[4, ..., 0])


def test_capitals_matter_only_where_they_tell_two_apart():
  assert sampling.find_class('plus', 'ankle boot', ('Bag', 'Ankle boot')) == 1
  assert sampling.find_class('plus', 'a', ('A', 'a')) == 1
  with pytest.raises(InputError, match='no such class'):
    sampling.find_class('plus', 'SS', ('ss', 'Ss'))


@pytest.mark.slow
def test_population_statistics_are_those_of_the_generator_as_it_is(tmp_path, monkeypatch):
  """They are measured once and kept with the run, and an image depends on its own latent alone."""
  folder = untrained_run(tmp_path / 'run')
  monkeypatch.setattr(norm_statistics, 'SAMPLES', 400)
  run = dcgan_jax.load(folder)
  made = run.sample(5, seed=3, statistics='population')
  np.testing.assert_array_equal(made[:2], run.sample(2, seed=3, statistics='population'))
  assert (made != run.sample(5, seed=3)).any()
  opened = experiment.open_run(folder, 'last')
  generator, variables = opened.experiment.gan.generator, opened.state.sampling_variables
  z = run.latents.draw(0, 400)
  whole = jax.jit(
    lambda v, z: generator.clone(norm_momentum=0.0).apply(v, z, True, mutable=['batch_stats'])[1]
  )
  want = jax.jit(generator.apply)(variables | whole(variables, z), run.latents.draw(3, 5))
  assert np.abs(made - (np.asarray(want) + 1) * 127.5).max() < 0.6
  (kept,) = (folder / 'statistics').iterdir()
  monkeypatch.setattr(norm_statistics, 'of_latents', None)  # They are not measured again.
  np.testing.assert_array_equal(dcgan_jax.load(folder).sample(5, 3, 'population'), made)
  kept.write_bytes(b'broken')
  monkeypatch.undo()
  assert dcgan_jax.load(folder).sample(5, 3, 'population').shape == made.shape


@pytest.mark.slow
def test_a_run_can_be_one_of_population_statistics(tmp_path):
  """Its pictures and scores are made with them, and so are its samples if nothing else is asked for."""
  folder = tmp_path / 'run'
  succeed(
    *TINY, f'--workdir={folder}', '--config.sample.statistics=population', '--config.train.ema_decay=0.9'
  )
  run = dcgan_jax.load(folder)
  made = run.sample(9)
  np.testing.assert_array_equal(made, run.sample(9, statistics='population'))
  assert (made != run.sample(9, statistics='stored')).any()
  with Image.open(workdir.sample(folder, 24)) as picture:
    shown = np.asarray(picture).astype(int)
  # Compiled without optimisation there, an image may differ by a rounding.
  assert np.abs(shown - pictures.zoom(pictures.grid(made))[..., 0]).max() <= 1


@pytest.mark.slow
def test_population_statistics_are_those_of_the_shares_of_the_classes(tmp_path, monkeypatch):
  """They are measured again where they are of other shares."""
  monkeypatch.setattr(norm_statistics, 'SAMPLES', 400)
  folder = untrained_run(tmp_path, {'data.classes': 10})
  chosen = workdir.read_settings(folder)
  made = []
  for counts in ((), (910, *[10] * 9), (*[10] * 9, 910), (910, *[10] * 9)):
    workdir.write_settings(folder, chosen, 'abcdefghij', counts)
    made.append(dcgan_jax.load(folder).sample(5, 3, 'population'))
    opened = experiment.open_run(folder, 'last')
    generator, variables = opened.experiment.gan.generator, opened.state.sampling_variables
    want = sampling.with_population(generator, Latents(10, classes=10, counts=counts), variables)
    z = dcgan_jax.load(folder).latents.draw(3, 5)
    want = jax.jit(generator.apply)(want, z)
    assert np.abs(made[-1] - (np.asarray(want) + 1) * 127.5).max() < 0.6
  np.testing.assert_array_equal(made[1], made[3])
  assert (made[0] != made[1]).any() and (made[1] != made[2]).any()
  assert len(list((folder / 'statistics').iterdir())) == 3


def test_names_of_classes_of_another_run_are_refused(tmp_path):
  folder = untrained_run(tmp_path)
  (folder / 'classes.json').write_text('{"names": ["a", "b"]}')
  with pytest.raises(InputError, match=r'classes\.json: has 2 names, and data\.classes=0 in config\.json'):
    sampling.open_sampler(folder)


@pytest.mark.parametrize(
  ('section', 'change'), [('latent', {'prior': 'uniform'}), ('generator', {'leak': 0.1})]
)
def test_statistics_are_measured_again_where_settings_were_changed(tmp_path, monkeypatch, section, change):
  """Changes what the same parameters make of a population, as --allow_config_change does without a step."""
  folder = untrained_run(tmp_path / 'run')
  run = experiment.open_run(folder, 'last')
  measured = []

  def measure(generator, params, latents, num=None):
    measured.append((latents.prior, generator.leak))
    return jax.tree.map(np.asarray, run.state.generator.batch_stats)

  monkeypatch.setattr(norm_statistics, 'of_latents', measure)
  for _ in range(2):
    dcgan_jax.load(folder).variables('population')
  chosen = run.experiment.settings
  changed = dataclasses.replace(getattr(chosen, section), **change)
  workdir.write_settings(folder, dataclasses.replace(chosen, **{section: changed}))
  dcgan_jax.load(folder).variables('population')
  assert len(measured) == 2 and measured[0] != measured[1]


@pytest.mark.slow
def test_kept_statistics_of_other_shapes_are_measured_again(tmp_path):
  folder = untrained_run(tmp_path)
  want = sampling.open_sampler(folder).sample(2, statistics='population')
  (kept,) = (folder / 'statistics').iterdir()
  for broken in ({'norm0/mean': np.zeros(3)}, {}):
    np.savez(kept, **broken)
    np.testing.assert_array_equal(sampling.open_sampler(folder).sample(2, statistics='population'), want)
  assert kept.stat().st_size > 500  # They are kept again.


def test_latents_that_float32_cannot_hold_are_refused(sampler):
  with pytest.raises(InputError, match='finite numbers of float32'):
    sampler.from_latents(np.full((1, 10), 1e300))
