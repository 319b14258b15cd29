import pytest
from conftest import digits_schedule

from dcgan_jax.errors import InputError
from dcgan_jax.records.schedule import Due


def test_intervals_in_images_and_in_epochs():
  """An epoch has 28.1 steps."""
  schedule = digits_schedule(
    **{'log.every_images': 640, 'sample.every_epochs': 0.5, 'checkpoint.every_epochs': 2.0}
  )
  assert (schedule.log_every, schedule.draw_every, schedule.save_every) == (
    10,
    14,
    56,
  )
  assert [schedule.steps_until_due(step) for step in (0, 10, 1995)] == [10, 4, 5]
  with pytest.raises(
    InputError, match=r'log.every_epochs=1.0: log.every_images=9 is set, too; set one of them'
  ):
    digits_schedule(**{'log.every_images': 9, 'log.every_epochs': 1.0})


def test_after_the_last_step_everything_is_due_that_ever_is():
  schedule = digits_schedule(**{'log.every_steps': 7, 'sample.every_steps': 0, 'checkpoint.every_steps': 9})
  assert schedule.due(7) == Due(log=True, draw=False, score=False, save=False)
  assert schedule.due(63) == Due(log=True, draw=False, score=False, save=True)
  assert not any(schedule.due(8)) and schedule.due(2000) == schedule.due(63)
