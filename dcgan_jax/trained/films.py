"""The film of a run: the images of its fixed latents over training, from the pictures in `samples/`."""

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from dcgan_jax import files
from dcgan_jax.errors import InputError
from dcgan_jax.media import pace, pictures, writing
from dcgan_jax.media.pace import Pace, Timing
from dcgan_jax.records import workdir

SECONDS = 10.0  # of a film, by default
CAPTION = 1 / 24  # height of the line with the step, relative to the longer side; at least 16 pixels


def run(folder: Path, out: str, asked: Pace) -> None:
  """Writes the film from the pictures so far: the run may be finished, in progress, or killed.

  Args:
    folder: The workdir of a run.
    out: Path ending in .mp4, .webp or .gif.
    asked: Length and size, checked.

  Raises:
    InputError: in one line; there are fewer than two pictures, one is broken, or the film cannot be written.
  """
  target = files.to_be_written('out', out)
  if target.suffix not in pace.SUFFIXES:
    raise InputError(f'out={out}: must end in .mp4, .webp or .gif')
  found = {int(path.stem[5:]): path for path in workdir.samples(folder) if path.stem[5:].isdecimal()}
  if len(found) < 2:
    raise InputError(
      f'workdir={folder}: a film takes two or more pictures of training, samples/step_N.png, and here '
      f'{"is one" if found else "are none"}; config.sample.every_steps says how often training draws them'
    )
  timing = pace.timing(asked, target.suffix, SECONDS)
  writing.write(target, _frames(found, timing), timing)
  print(
    f'film of steps {min(found):,} to {max(found):,} of {folder}, {len(found)} pictures in {timing.frames} '
    f'frames, in {target}'
  )


def _frames(found: dict[int, Path], timing: Timing) -> Iterator[np.ndarray]:
  """Yields the frames, each a picture with its step under it: uint8 [H, W, C].

  Args:
    found: The picture of each step.
    timing: Pace and size; the longer side is `timing.size`.
  """
  steps = sorted(found)
  last = pictures.read(found[steps[-1]])
  mode, drawn = last.mode, last.size
  size = timing.size or min(max(drawn), pace.SIZES[1])
  line = max(16, round(size * CAPTION))
  height = size - line if timing.size else size

  @functools.lru_cache(maxsize=2)
  def picture(number: int) -> np.ndarray:
    # The run may have been resumed with another number of samples.
    one = pictures.read(found[steps[number]]).convert(mode).resize(drawn, Image.Resampling.NEAREST)
    array = pictures.to_array(one)
    return pictures.fit(array, size, height) if max(drawn) > size else array

  before, frame = None, None
  for number, weight in pace.through(len(steps), timing.frames, timing.fps):
    if frame is None or (number, weight) != before:
      image = picture(number)
      if weight:
        image = np.rint(image + np.float32(weight) * (picture(number + 1) - image.astype(np.float32)))
      image = pictures.fit(image.astype(np.uint8), size, height)
      words = f'step {steps[number + round(weight)]:,}'
      caption = pictures.text(words, line, image.shape[1], image.shape[2], round(line * 0.7))
      before, frame = (number, weight), np.concatenate([image, caption])
    yield frame
