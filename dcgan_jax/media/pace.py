"""How long a moving picture is, how many frames it has, and what each of them shows. Nothing here draws."""

import importlib.util
import itertools
from dataclasses import dataclass
from pathlib import Path

from dcgan_jax.errors import InputError

SECONDS = (0.1, 600)
FPS = (1, 60)
MOST_FPS_OF_A_GIF = 50  # Its times are hundredths of a second, and browsers show shorter ones as a tenth.
MOST_PIXELS_OF_A_GIF = 2**30  # of all frames together, because Pillow holds them in memory, a byte each
SIZES = (32, 4096)  # H.264 goes no further on most phones.
# Frames in a second and the longer side, unless something else is asked for. A GIF is left as it was drawn.
DEFAULTS = {'.gif': (10, None), '.webp': (30, 512), '.mp4': (30, 720)}
SUFFIXES = tuple(DEFAULTS)
HOLD = 2.0  # seconds that the last picture of training is shown; less in a film that is shorter than 8
FADE = 4  # frames; pictures that have fewer than so many each replace each other at once


@dataclass(frozen=True)
class Pace:
  """What a user asks for, or None where it was not given.

  Attributes:
    seconds: that the whole takes.
    fps: frames in a second.
    size: pixels of the longer side of the whole picture.
  """

  seconds: float | None = None
  fps: int | None = None
  size: int | None = None


@dataclass(frozen=True)
class Timing:
  """The pace of a moving picture.

  Attributes:
    frames: how many.
    fps: frames in a second.
    size: pixels of the longer side of the whole picture; None leaves it as it is drawn, up to `SIZES`.
  """

  frames: int
  fps: int
  size: int | None


def check(pace: Pace, out: str | None) -> None:
  """Refuses values that are out of range, or that are given for a picture that does not move.

  Args:
    pace: what a user asks for.
    out: the name of the file; None for that of a picture that does not move.

  Raises:
    InputError: in one line; or the file is an MP4 and there is no encoder.
  """
  suffix = Path(out or '').suffix
  for name, value in vars(pace).items():
    if value is not None and suffix not in SUFFIXES:
      raise InputError(
        f'{name}={value:g}: is of a moving picture; give --out=NAME.gif, NAME.webp or NAME.mp4 with it'
      )
  if pace.seconds is not None and not SECONDS[0] <= pace.seconds <= SECONDS[1]:  # also if it is no number
    raise InputError(f'seconds={pace.seconds:g}: must be from {SECONDS[0]} to {SECONDS[1]}')
  if pace.fps is not None and not FPS[0] <= pace.fps <= FPS[1]:
    raise InputError(f'fps={pace.fps}: must be from {FPS[0]} to {FPS[1]}')
  if pace.fps is not None and suffix == '.gif' and pace.fps > MOST_FPS_OF_A_GIF:
    raise InputError(f'fps={pace.fps}: a GIF has {MOST_FPS_OF_A_GIF} at most; choose .webp or .mp4 for more')
  if pace.size is not None and (pace.size % 2 or not SIZES[0] <= pace.size <= SIZES[1]):
    raise InputError(f'size={pace.size}: must be an even number from {SIZES[0]} to {SIZES[1]}')
  if suffix == '.mp4' and importlib.util.find_spec('imageio_ffmpeg') is None:
    raise InputError(
      f"out={out}: an MP4 needs imageio-ffmpeg, which is not installed; pip install -e '.[video]', or choose "
      '.webp or .gif'
    )


def timing(pace: Pace, suffix: str, seconds: float) -> Timing:
  """Returns the pace of a moving picture.

  Args:
    pace: what a user asks for, checked.
    suffix: of the file, one of `SUFFIXES`.
    seconds: that it takes if the user does not say.

  Raises:
    InputError: it has fewer than two frames, or is too much for a GIF.
  """
  fps, size = DEFAULTS[suffix]
  fps, size, seconds = pace.fps or fps, pace.size or size, pace.seconds or seconds
  frames = round(seconds * fps)
  if frames < 2:
    raise InputError(f'seconds={seconds:g}: is less than two frames at {fps} a second; choose more of either')
  if suffix == '.gif' and size:
    check_gif(frames, size, size)
  return Timing(frames, fps, size)


def check_gif(frames: int, height: int, width: int) -> None:
  """Refuses a GIF that takes too much memory.

  Raises:
    InputError: in one line.
  """
  if frames * height * width > MOST_PIXELS_OF_A_GIF:
    raise InputError(
      f'out: {frames:,} frames of {width} x {height} pixels are too much for a GIF; choose .webp or .mp4, or '
      'a smaller --size, --fps or --seconds'
    )


def durations(frames: int, fps: int, unit: int) -> list[int]:
  """Returns how long each frame is shown, in milliseconds, so that rounding does not add up.

  Args:
    frames: how many.
    fps: frames in a second.
    unit: milliseconds that every duration is a multiple of.
  """
  starts = [round(i * 1000 / (fps * unit)) * unit for i in range(frames + 1)]
  return [end - start for start, end in itertools.pairwise(starts)]


def through(pictures: int, frames: int, fps: int) -> list[tuple[int, float]]:
  """Plans a film that goes evenly through pictures and ends with the last one, held for a moment.

  If there are frames enough, each picture is shown alone for half of its time and then fades into the next.
  If there are more pictures than frames, they are thinned evenly.

  Args:
    pictures: how many, 2 or more.
    frames: how many, 2 or more.
    fps: frames in a second.

  Returns:
    For each frame the number of a picture, and the weight, in [0, 1), of the one that comes after it.
  """
  held = max(1, round(min(HOLD * fps, frames / 4)))
  moving, steps = frames - held, pictures - 1
  plan = []
  for i in range(moving):
    if moving < FADE * steps:
      plan.append(((2 * i * steps + moving) // (2 * moving), 0.0))
    else:
      picture, rest = divmod(i * steps, moving)
      plan.append((picture, max(0.0, 2 * rest / moving - 1)))
  return plan + [(steps, 0.0)] * held
