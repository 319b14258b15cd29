import json

import pytest
from conftest import untrained_run
from PIL import Image

from dcgan_jax.errors import InputError
from dcgan_jax.trained.analysis import labelled, probe, svm


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A run that has not learned yet, to which results are written."""
  return untrained_run(tmp_path_factory.mktemp('runs') / 'run')


@pytest.mark.slow
def test_a_run_is_probed(folder, capsys, monkeypatch):
  monkeypatch.setattr(probe, 'DRAWS', 2)
  monkeypatch.setattr(probe, 'LABELS', 300)
  monkeypatch.setattr(svm, 'COSTS', (0.01, 0.1))
  probe.run(folder, 1000, 'last', None)
  report = json.loads((folder / 'probe.json').read_text())
  assert report['images'] == {'train': 600, 'validation': 200, 'test': 200}
  rows = report['accuracy']
  assert set(rows) == {'D, step 0', 'D, random', 'pixels'} and rows['pixels']['features'] == 64
  assert 0.88 < rows['pixels']['few']['mean'] < 0.99 and 0.9 < rows['pixels']['all']['mean'] < 0.99
  assert rows['D, step 0'] == rows['D, random']  # The run has learned nothing and has the same seed.
  assert 0.6 < rows['D, random']['few']['mean'] < 0.98 and rows['pixels']['few']['c'] in svm.COSTS
  printed = capsys.readouterr().out
  assert 'right of 200 test images' in printed and f'{rows["pixels"]["all"]["mean"]:.2%}' in printed
  with Image.open(folder / 'features.png') as picture:
    assert picture.size[0] > 800
  assert not list(folder.glob('*.part'))


def test_a_cache_that_cannot_be_written_is_one_line_at_once(folder, tmp_path, monkeypatch):
  (tmp_path / 'file').touch()
  monkeypatch.setenv('DCGAN_JAX_CACHE', str(tmp_path / 'file'))
  with pytest.raises(
    InputError, match=f'^DCGAN_JAX_CACHE=.*: cannot be written, because {tmp_path}/file is no'
  ):
    probe.run(folder, 1000, 'last', None)


@pytest.mark.slow
def test_another_source_is_probed(folder, tmp_path, monkeypatch):
  for name, color in (('black', 20), ('white', 230)):
    (tmp_path / name).mkdir()
    for i in range(25):
      Image.new('RGB', (20, 10), (color + i % 20,) * 3).save(tmp_path / name / f'{i}.png')
  monkeypatch.setattr(probe, 'LABELS', 20)
  monkeypatch.setattr(svm, 'COSTS', (0.1,))
  monkeypatch.setattr(probe, 'DRAWS', 2)
  probe.run(folder, None, 'last', f'folder:{tmp_path}')
  report = json.loads((folder / 'probe.json').read_text())
  assert report['images'] == {'train': 30, 'validation': 10, 'test': 10}
  assert report['accuracy']['pixels']['all']['mean'] == 1.0


@pytest.mark.parametrize(
  ('split', 'apart'),
  [('train', True), ('train[:9%]+train[90%:]', True), ('train+test', False), ('test', False), ('all', False)],
)
def test_the_test_split_is_used_only_if_nothing_of_it_was_learned(split, apart):
  assert labelled.is_of_train(split) == apart


@pytest.mark.slow
@pytest.mark.parametrize(
  ('num', 'source', 'text'),
  [
    (1200, None, 'data.source=digits: 720 images of 10 classes to learn from'),
    (None, 'faces', "data='faces': choose digits, tfds:NAME, folder:PATH or npy:PATH"),
    (None, 'folder:/nonexistent', 'data=folder:/nonexistent: no such folder'),
    (None, 'folder:{flat}', 'data: its images have no classes'),
  ],
)
def test_bad_input_to_probe(folder, tmp_path, num, source, text):
  Image.new('L', (8, 8)).save(tmp_path / 'a.png')
  with pytest.raises(InputError) as error:
    probe.run(folder, num, 'last', source and source.format(flat=tmp_path))
  assert text in str(error.value)
