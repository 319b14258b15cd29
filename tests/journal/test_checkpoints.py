import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import gan_of

from dcgan_jax import train_state
from dcgan_jax.errors import InputError
from dcgan_jax.journal import checkpoints


def _create(networks, ema=True):
  gan = gan_of(networks, optax.adam(1e-3))
  return lambda: train_state.create(gan, 0, ema)


@pytest.fixture(scope='module')
def saved(tiny, tmp_path_factory):
  """A folder with the last two of three checkpoints, and the last state."""
  folder = tmp_path_factory.mktemp('checkpoints')
  now = jax.jit(_create(tiny))()
  saver = checkpoints.open_for_writing(folder, keep=2)
  for step in (5, 10, 15):
    now = jax.tree.map(lambda x: x + x if x.dtype == jnp.float32 else x, now).replace(step=jnp.int32(step))
    checkpoints.save(saver, now)
  saver.close()
  return folder, now


def test_bit_for_bit_and_only_the_last(tiny, saved):
  folder, last = saved
  assert checkpoints.steps(folder) == [10, 15]
  restored = checkpoints.restore(folder, 15, jax.eval_shape(_create(tiny)))
  assert jax.tree.structure(restored) == jax.tree.structure(last)
  jax.tree.map(np.testing.assert_array_equal, restored, last)
  assert checkpoints.restore(folder, 10, jax.eval_shape(_create(tiny))).step == 10


def test_a_save_is_of_its_moment(tiny, tmp_path):
  """Donates the state's buffers, as the next step does, while the disk is still being written."""
  now = jax.jit(_create(tiny))()
  want = jax.tree.map(np.array, now)
  saver = checkpoints.open_for_writing(tmp_path, keep=1)
  overwrite = jax.jit(lambda s: jax.tree.map(jnp.zeros_like, s), donate_argnums=0)
  checkpoints.save(saver, now)
  now = jax.block_until_ready(overwrite(now))
  saver.close()
  restored = checkpoints.restore(tmp_path, 0, jax.eval_shape(_create(tiny)))
  jax.tree.map(np.testing.assert_array_equal, restored, want)


def test_unfinished_checkpoints_do_not_count(saved):
  folder, _ = saved
  (folder / '20.orbax-checkpoint-tmp').mkdir()
  assert checkpoints.steps(folder) == [10, 15]
  assert checkpoints.steps(folder / 'missing') == []


def test_other_networks_are_refused_in_one_line(tiny, saved):
  folder, _ = saved
  wider = tiny[0].clone(widths=(8, 7)), tiny[1]
  for create, text in (
    (_create(wider), r'norm1/mean has shape \(6,\) in the checkpoint and \(7,\) by the config'),
    (_create(tiny, ema=False), 'ema/.* and none by the config'),
  ):
    with pytest.raises(InputError, match=text) as error:
      checkpoints.restore(folder, 15, jax.eval_shape(create))
    assert '\n' not in str(error.value)


def test_checkpoints_are_found(saved, tmp_path):
  folder, _ = saved
  assert checkpoints.find(folder, 'last') == 15 and checkpoints.find(folder, '10') == 10
  for which, text in (
    ('7', r'no checkpoint of step 7; there are \[10, 15\]'),
    ('first', 'checkpoint=first: choose last, best or the number of a step'),
    ('best', 'has a score'),
  ):
    with pytest.raises(InputError, match=text):
      checkpoints.find(folder, which)
  with pytest.raises(InputError, match='no checkpoint yet'):
    checkpoints.find(tmp_path / 'missing', 'last')


def test_the_best_is_kept_beside_the_last(tiny, tmp_path):
  """Keeps it over a restart, too, and until a better one comes."""
  now = jax.jit(_create(tiny))()

  def save(**scores):
    saver = checkpoints.open_for_writing(tmp_path, keep=2)
    for step, score in scores.items():
      checkpoints.save(saver, now.replace(step=jnp.int32(step[1:])), score)
    saver.close()

  save(_1=3.0, _2=1.0, _3=None, _4=2.0)
  save(_5=None, _6=1.5)
  assert checkpoints.steps(tmp_path) == [2, 5, 6]
  assert checkpoints.find(tmp_path, 'best') == 2 and checkpoints.find(tmp_path, 'last') == 6
  save(_7=0.5, _8=None)
  assert checkpoints.steps(tmp_path) == [7, 8] and checkpoints.find(tmp_path, 'best') == 7
  saver = checkpoints.open_for_writing(tmp_path, keep=2)
  assert checkpoints.best(saver) == (7, 0.5)
  saver.close()
