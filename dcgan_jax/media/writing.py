"""Writes moving pictures: GIF and WebP by Pillow, MP4 by the ffmpeg that imageio-ffmpeg brings."""

import contextlib
import itertools
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from dcgan_jax import files
from dcgan_jax.errors import InputError
from dcgan_jax.media import pace, pictures
from dcgan_jax.media.pace import Timing

# H.264 as browsers and phones play it: chroma of half the resolution, the colours of HDTV with their tags,
# and the index in front, so that it plays while it loads.
H264 = ('-c:v', 'libx264', '-crf', '17', '-pix_fmt', 'yuv420p', '-movflags', '+faststart')
COLOURS = (
  'scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int',
  'setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv',
)


def write(path: Path, frames: Iterable[np.ndarray], timing: Timing) -> None:
  """Writes a moving picture, by its suffix; GIF and WebP loop.

  The file is written atomically. Frames are drawn one at a time, as they are encoded.

  Args:
    path: Path ending in .gif, .webp or .mp4.
    frames: `timing.frames` pictures, uint8 [H, W, 1 or 3], all of the same shape.
    timing: Pace and size. The picture is scaled to `timing.size`.

  Raises:
    InputError: in one line; the file cannot be written, is too large for a GIF, or the encoder fails.
  """
  size = timing.size
  fitted = (pictures.fit(frame, size or min(max(frame.shape[:2]), pace.SIZES[1])) for frame in frames)
  with files.output('out', path), files.whole(path) as part:
    if path.suffix == '.mp4':
      _write_mp4(path, part, fitted, timing.fps)
    else:
      _write_by_pillow(path, part, fitted, timing)


def _write_by_pillow(path: Path, part: Path, frames: Iterator[np.ndarray], timing: Timing) -> None:
  """Writes a looping GIF or WebP."""
  first = pictures.to_pillow(next(frames))
  rest = map(pictures.to_pillow, frames)
  if path.suffix == '.gif':
    pace.check_gif(timing.frames, first.height, first.width)
    times = pace.durations(timing.frames, timing.fps, 10)
    first.save(part, 'GIF', save_all=True, append_images=rest, duration=times, loop=0, optimize=False)
  else:
    times = pace.durations(timing.frames, timing.fps, 1)
    reel = [_Reel(rest, timing.frames - 1)]
    first.save(part, 'WEBP', save_all=True, append_images=reel, duration=times, loop=0, quality=80, method=2)


class _Reel(Image.Image):
  """Frames as one image, of which Pillow asks for one at a time; a list would be in memory as a whole."""

  def __init__(self, frames: Iterator[Image.Image], count: int):
    super().__init__()
    self._frames, self.n_frames = frames, count

  def seek(self, frame: int) -> None:
    """Moves to the next frame; Pillow asks for each once, in order."""
    picture = next(self._frames)
    self.im, self._mode, self._size = picture.im, picture.mode, picture.size


def _write_mp4(path: Path, part: Path, frames: Iterator[np.ndarray], fps: int) -> None:
  """Writes an MP4."""
  first = _even(next(frames))
  height, width, _ = first.shape
  raw = ('-f', 'rawvideo', '-pix_fmt', 'rgb24', '-s', f'{width}x{height}', '-r', str(fps), '-i', 'pipe:0')
  with _ffmpeg(path, *raw, '-vf', ','.join(COLOURS), *H264, '-f', 'mp4', f'file:{part}') as pipe:
    for frame in itertools.chain([first], map(_even, frames)):
      pipe.write(frame.tobytes())


def _even(image: np.ndarray) -> np.ndarray:
  """Converts a picture to RGB and pads it with white to even height and width."""
  height, width, channels = image.shape
  padded = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), constant_values=255)
  return padded if channels == 3 else padded.repeat(3, 2)


@contextlib.contextmanager
def _ffmpeg(path: Path, *arguments: str) -> Iterator[IO[bytes]]:
  """Starts ffmpeg, yields its input, and waits for its end; an error in the block kills it.

  Args:
    path: Path that the user named, for the error message.
    arguments: Arguments of ffmpeg.

  Raises:
    InputError: it cannot be started, or it fails.
  """
  import imageio_ffmpeg

  try:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), '-nostdin', '-y', '-loglevel', 'error', *arguments]
  except RuntimeError as error:
    raise InputError(f'out={path}: there is no encoder: {error}; choose .webp or .gif') from error
  with tempfile.TemporaryFile() as log:  # An unread pipe could fill up.
    try:
      # Ctrl-C is for this process, which then ends the other.
      process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log, start_new_session=True)
    except OSError as error:
      raise InputError(
        f'out={path}: the encoder {command[0]} cannot be started: {error.strerror}; choose .webp or .gif'
      ) from error
    assert process.stdin is not None
    try:
      with contextlib.suppress(BrokenPipeError), process.stdin:  # It reports itself why it stopped reading.
        yield process.stdin
      status = process.wait()
    finally:
      process.kill()
      process.wait()
    if status:
      log.seek(0)
      raise InputError(f'out={path}: the encoder failed: {_reason(log.read().decode(errors="replace"))}')


def _reason(log: str) -> str:
  """Returns the first line of ffmpeg's log, without the component's name."""
  lines = [re.sub(r'^(\[[^]]*\] *)+', '', line).strip() for line in log.splitlines()]
  return next(filter(None, lines), 'it does not say why')
