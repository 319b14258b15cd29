"""Length, frames and size of moving pictures. Nothing here draws."""

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
# Default frames per second and longer side. A GIF is left as drawn.
DEFAULTS = {'.gif': (10, None), '.webp': (30, 512), '.mp4': (30, 720)}
SUFFIXES = tuple(DEFAULTS)
HOLD = 2.0  # seconds of the last picture of training; less in a film shorter than 8
FADE = 4  # frames for each picture, below which pictures replace each other without fading


@dataclass(frozen=True)
class Pace:
  """The user's flags, None where not given.

  Attributes:
    seconds: Length of the whole.
    fps: Frames per second.
    size: Longer side of the whole picture in pixels.
  """

  seconds: float | None = None
  fps: int | None = None
  size: int | None = None


@dataclass(frozen=True)
class Timing:
  """The pace of a moving picture.

  Attributes:
    frames: Number of frames.
    fps: Frames per second.
    size: Longer side of the whole picture in pixels; None for its size as drawn, up to `SIZES`.
  """

  frames: int
  fps: int
  size: int | None


def check_moving(pace: Pace, out: str | None) -> None:
  """Refuses values that are out of range, or given for a picture that does not move.

  Args:
    pace: The user's flags.
    out: Name of the file; None for a picture that does not move.

  Raises:
    InputError: in one line; or the file is an MP4 and the encoder is missing.
  """
  suffix = Path(out or '').suffix
  for name, value in vars(pace).items():
    if value is not None and suffix not in SUFFIXES:
      raise InputError(
        f'{name}={value:g}: is of a moving picture; give --out=NAME.gif, NAME.webp or NAME.mp4 with it'
      )
  if pace.seconds is not None and not SECONDS[0] <= pace.seconds <= SECONDS[1]:  # also for NaN
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
    pace: The user's flags, checked.
    suffix: Suffix of the file, one of `SUFFIXES`.
    seconds: Length by default.

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
  """Refuses a GIF that needs too much memory.

  Raises:
    InputError: in one line.
  """
  if frames * height * width > MOST_PIXELS_OF_A_GIF:
    raise InputError(
      f'out: {frames:,} frames of {width} x {height} pixels are too much for a GIF; choose .webp or .mp4, or '
      'a smaller --size, --fps or --seconds'
    )


def durations(frames: int, fps: int, unit: int) -> list[int]:
  """Returns the duration of each frame in milliseconds; rounding does not accumulate.

  Args:
    frames: Number of frames.
    fps: Frames per second.
    unit: Unit of every duration, in milliseconds.
  """
  starts = [round(i * 1000 / (fps * unit)) * unit for i in range(frames + 1)]
  return [end - start for start, end in itertools.pairwise(starts)]


def through(pictures: int, frames: int, fps: int) -> list[tuple[int, float]]:
  """Plans a film that goes evenly through pictures and ends with the last one, held for a moment.

  With enough frames, each picture is shown alone for half of its time and then fades into the next. More
  pictures than frames are thinned evenly.

  Args:
    pictures: Number of pictures, 2 or more.
    frames: Number of frames, 2 or more.
    fps: Frames per second.

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
