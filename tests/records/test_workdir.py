import errno
import json
import shutil

import pytest

from configs import digits
from dcgan_jax import files, settings
from dcgan_jax.errors import InputError
from dcgan_jax.records import workdir


def test_settings_are_written_and_read(tmp_path):
  chosen = settings.check(digits.get_config())
  workdir.write_settings(tmp_path / 'new' / 'run', chosen)
  assert workdir.read_settings(tmp_path / 'new' / 'run') == chosen
  assert [path.name for path in (tmp_path / 'new' / 'run').iterdir()] == ['config.json']
  workdir.write_settings(tmp_path, chosen, ['a', 'b'], [3, 0])
  assert workdir.read_classes(tmp_path) == ('a', 'b') and workdir.read_class_counts(tmp_path) == (3, 0)
  workdir.write_settings(tmp_path, chosen)  # Now the networks are told none.
  assert workdir.read_classes(tmp_path) == workdir.read_class_counts(tmp_path) == ()


@pytest.mark.parametrize(
  ('content', 'text'),
  [
    ('{', 'is not JSON'),
    ('[1]', 'is not a config'),
    ('{"train": 3}', 'train=3: is a section'),
    ('{"seed": -1}', 'seed=-1: must be'),
    ('{"lr": 1}', 'lr: unknown key'),
  ],
)
def test_a_broken_config_is_one_line(tmp_path, content, text):
  (tmp_path / 'config.json').write_text(content)
  with pytest.raises(InputError, match=text) as error:
    workdir.read_settings(tmp_path)
  assert '\n' not in str(error.value)


def test_no_run_and_a_run_without_a_config_are_refused(tmp_path):
  chosen = settings.check(digits.get_config())
  workdir.check_unchanged(tmp_path, chosen, allow_change=False)
  with pytest.raises(InputError, match='no run here'):
    workdir.read_settings(tmp_path)
  (tmp_path / 'checkpoints' / '10').mkdir(parents=True)
  with pytest.raises(
    InputError, match=r'no config\.json; copy it back .*, or train there .*allow_config_change'
  ):
    workdir.check_unchanged(tmp_path, chosen, allow_change=False)
  with pytest.raises(InputError, match=r'no config\.json; copy it back'):
    workdir.read_settings(tmp_path)
  workdir.check_unchanged(
    tmp_path, chosen, allow_change=True
  )  # It is written once the checkpoint has been opened.
  (tmp_path / 'file').touch()
  for act in (
    lambda: workdir.check_unchanged(tmp_path / 'file', chosen, allow_change=True),
    lambda: workdir.write_settings(tmp_path / 'file', chosen),
  ):
    with pytest.raises(InputError, match=r'is a file|cannot be written'):
      act()


def test_pictures_are_in_the_order_of_their_steps(tmp_path):
  (tmp_path / 'samples').mkdir()
  for step in (100, 20, 0):
    workdir.sample(tmp_path, step).touch()
  (tmp_path / 'samples' / 'other.png').touch()
  assert [path.name for path in workdir.samples(tmp_path)] == [f'step_{s:08d}.png' for s in (0, 20, 100)]


def test_runs_from_before_a_key_was_added(tmp_path, capsys):
  """Opens a run that lacks keys, which goes on as it was trained."""
  config = digits.get_config()
  workdir.write_settings(tmp_path, settings.check(config))
  path = tmp_path / 'config.json'
  old = json.loads(path.read_text())
  for key in ('accumulate', 'sync_norm', 'steps_per_dispatch'):
    del old['train'][key]
  path.write_text(json.dumps(old))
  workdir.check_unchanged(tmp_path, settings.check(config), allow_change=False)
  assert workdir.read_settings(tmp_path).train.accumulate == 1
  config.train.accumulate = 2
  workdir.check_unchanged(tmp_path, settings.check(config), allow_change=False)
  assert 'nothing is trained here yet; its settings are replaced: train.accumulate' in capsys.readouterr().out
  (tmp_path / 'checkpoints' / '20').mkdir(parents=True)
  with pytest.raises(InputError, match=r'train\.accumulate was 1 and is 2'):
    workdir.check_unchanged(tmp_path, settings.check(config), allow_change=False)


def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_anew_unasked(tmp_path):
  chosen = settings.check(digits.get_config())
  workdir.write_settings(tmp_path, chosen)
  (tmp_path / 'checkpoints').mkdir()
  (tmp_path / 'damaged' / '20').mkdir(parents=True)
  with pytest.raises(InputError, match='all its checkpoints are damaged'):
    workdir.check_unchanged(tmp_path, chosen, allow_change=False)
  (tmp_path / 'checkpoints' / '10').mkdir()
  workdir.check_unchanged(tmp_path, chosen, allow_change=False)


@pytest.mark.parametrize(
  'content', ['{', '[]', '{"names": "abc"}', '{"names": [1, 2]}', '{"names": null}', '3']
)
def test_broken_names_of_classes_are_one_line(tmp_path, content):
  assert workdir.read_classes(tmp_path) == ()
  (tmp_path / 'classes.json').write_text(content)
  with pytest.raises(InputError, match=r'classes\.json: (is not JSON|has no list "names")'):
    workdir.read_classes(tmp_path)
  (tmp_path / 'classes.json').write_text('{"names": ["a", "b"]}')
  assert workdir.read_classes(tmp_path) == ('a', 'b')


@pytest.mark.parametrize(
  'counts', ['3', '[1]', '[1, -1]', '[1, 0.5]', '[0, 0]', '[true, 1]', 'null', '{"a": 1}']
)
def test_broken_counts_of_classes_are_one_line(tmp_path, counts):
  assert workdir.read_class_counts(tmp_path) == ()
  (tmp_path / 'classes.json').write_text(f'{{"names": ["a", "b"], "counts": {counts}}}')
  with pytest.raises(InputError, match=r'classes\.json: "counts" must be .* each of the 2 classes') as error:
    workdir.read_class_counts(tmp_path)
  assert '\n' not in str(error.value)
  (tmp_path / 'classes.json').write_text('{"names": ["a", "b"]}')  # of an old run
  assert workdir.read_class_counts(tmp_path) == ()


def _lose(folder, how):
  {
    'removed': lambda: shutil.rmtree(folder),
    'renamed': lambda: folder.rename(folder.with_name('other')),
    'replaced': lambda: (folder.rename(folder.with_name('other')), folder.mkdir()),
    'emptied': lambda: (folder / 'config.json').unlink(),
    'a file': lambda: (shutil.rmtree(folder), folder.touch()),
  }[how]()


@pytest.mark.parametrize('how', ['removed', 'renamed', 'replaced', 'emptied', 'a file'])
def test_a_workdir_that_is_gone_is_noticed(tmp_path, how):
  folder = tmp_path / 'run'
  workdir.write_settings(folder, settings.check(digits.get_config()))
  place = workdir.Place(folder)
  place.check()
  _lose(folder, how)
  with pytest.raises(
    InputError, match=r'run: was removed, renamed or emptied .* what was saved in it with --workdir='
  ) as error:
    place.check()
  assert '\n' not in str(error.value)


def test_a_workdir_that_cannot_be_looked_at_is_not_gone(tmp_path, monkeypatch):
  place = workdir.Place(tmp_path)

  def fail(path):
    raise PermissionError(errno.EACCES, 'Permission denied')

  monkeypatch.setattr(files, 'identity', fail)
  place.check()


def test_a_config_that_cannot_be_looked_at_is_not_gone(tmp_path):
  config = tmp_path / 'config.json'
  config.touch()
  place = workdir.Place(tmp_path)
  config.unlink()
  config.symlink_to(config)  # a fault that `Path.exists` takes for a file that is not there
  place.check()


def test_a_config_that_is_a_folder_is_one_line(tmp_path):
  (tmp_path / 'config.json').mkdir()
  with pytest.raises(InputError, match=r'config\.json: cannot be read: is a folder'):
    workdir.read_settings(tmp_path)
