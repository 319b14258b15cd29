from hypothesis import given
from hypothesis import strategies as st

from dcgan_jax.errors import MOST, InputError, printable


@given(st.text(st.characters(), max_size=3 * MOST))
def test_any_message_is_one_line_that_can_be_shown(text):
  message = str(InputError(text))
  assert message.isprintable() and len(message) <= MOST + 5
  assert message.encode('utf-8') or not text


def test_what_is_printable_stays_and_the_ends_of_a_long_message_too():
  assert printable('naïve\n\x1b[31m\udcff') == 'naïve\\n\\x1b[31m\\udcff'
  message = str(InputError('seed=' + '9' * 10_000 + ': must be a whole number'))
  assert message.startswith('seed=999') and message.endswith('9: must be a whole number')
