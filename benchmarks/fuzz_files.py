"""File targets of `benchmarks.fuzz`: each writes files to a folder and returns a function that reads them."""

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import fuzz_inputs as inputs
from benchmarks.fuzz_inputs import Act, Random, pick, shapes, spoil, text, write


def config_files(random: Random, folder: Path) -> Act:
  """Fuzzes the config.json of a run."""
  import dataclasses

  from configs import digits
  from dcgan_jax import settings
  from dcgan_jax.records import workdir

  content = dataclasses.asdict(settings.check(digits.get_config()))
  changed = inputs.tree(random, content) if random.random() < 0.9 else inputs.value(random)
  encoded = json.dumps(changed).encode()
  encoded = pick(random, [encoded] * 6 + [spoil(random, encoded), b'[' * 100_000, b'{"a":' * 50_000])
  write(folder / 'config.json', encoded)

  def act() -> None:
    chosen = workdir.read_settings(folder)
    if random.random() < 0.1:
      shapes(chosen)

  return act


def class_files(random: Random, folder: Path) -> Act:
  """Fuzzes the classes.json of a run."""
  from dcgan_jax.records import workdir

  content = {'names': pick(random, [['a', 'b'], inputs.value(random), [text(random)] * 3])}
  content |= pick(random, [{}, {'counts': [3, 5]}, {'counts': inputs.value(random)}])
  encoded = json.dumps(content if random.random() < 0.8 else inputs.value(random)).encode()
  write(folder / 'classes.json', spoil(random, encoded) if random.random() < 0.5 else encoded)
  return lambda: workdir.read_class_counts(folder)


def hub_folders(random: Random, folder: Path) -> Act:
  """Fuzzes the folder of a trained generator."""
  import jax

  from dcgan_jax.files import safetensors
  from dcgan_jax.records import hub
  from dcgan_jax.runs import weights

  built = _sampler_parts()
  content = hub.Model(built.settings, 3, (), 'stored', (), hub.NETWORKS[: random.integers(1, 3)]).to_json()
  if random.random() < 0.5:
    content['settings'] = inputs.tree(random, content['settings'])
    content[pick(random, list(content))] = inputs.value(random)
  encoded = json.dumps(content).encode()
  write(folder / 'config.json', encoded if random.random() < 0.9 else spoil(random, encoded))
  kinds = pick(random, [np.float16, np.float32, np.float64, np.int8])
  arrays = {kind: getattr(built.shapes, kind).variables for kind in hub.NETWORKS}
  arrays = jax.tree.map(lambda leaf: random.standard_normal(leaf.shape).astype(kinds), arrays)
  encoded = safetensors.to_bytes(arrays, {})
  write(folder / 'model.safetensors', spoil(random, encoded) if random.random() < 0.7 else encoded)

  def act() -> None:
    model = hub.read(folder)
    weights.read(folder / hub.WEIGHTS, built.shapes, model.networks)

  return act


def metrics_files(random: Random, folder: Path) -> Act:
  """The metrics.jsonl of a run, what it says about the run, and sometimes its plots."""
  from dcgan_jax.evaluation import scores
  from dcgan_jax.records import collapse, journal, metrics

  names = [
    'loss_d',
    'loss_g',
    'd_real',
    'd_fake',
    'fid',
    'coverage',
    'precision',
    'recall',
    'missing_classes',
  ]
  rows = [{'step': i, **{name: random.random() for name in names}} for i in range(random.integers(30))]
  for row in rows:
    if random.random() < 0.1:
      row[pick(random, ['step', *names])] = inputs.value(random)
    if random.random() < 0.1:
      row.pop(pick(random, names), None)
  encoded = '\n'.join(map(json.dumps, rows)).encode()
  path = write(folder / 'metrics.jsonl', spoil(random, encoded) if random.random() < 0.5 else encoded)

  def act() -> None:
    found = metrics.read(path)
    collapse.Watch('fid', found)
    if random.random() < 0.02:
      journal.draw_run(folder, 'fid', scores.charts())

  return act


def images(random: Random, folder: Path) -> Act:
  """Fuzzes a folder of image files."""
  from dcgan_jax import data

  for i in range(random.integers(1, 4)):
    encoded = inputs.image(random)
    encoded = pick(
      random, [encoded, *(spoil(random, encoded) for _ in range(2)), random.bytes(40), b'', inputs.EPS]
    )
    name = pick(random, ['x', 'x', 'é', 'a\nb', '\udcff', '.hidden', '\x1b[31m', 'a' * 200])
    write(folder / f'{name}{i}{pick(random, [".png", ".JPG", ".gif", ".webp", ".bmp", ".txt"])}', encoded)
  odd = random.integers(20)
  if odd == 0:
    os.mkfifo(folder / 'pipe.png')
  elif odd == 1:
    (folder / 'loop.png').symlink_to('loop.png')
    (folder / 'up').symlink_to(folder)
  elif odd == 2:
    (folder / 'zero.png').symlink_to('/dev/zero')
  size = int(pick(random, [1, 8, 30])), int(pick(random, [1, 8, 16]))
  fit = data.Fit(size, pick(random, [1, 3]), pick(random, ['crop', 'squash']))

  def act() -> None:
    source = data.open_source(f'folder:{folder}', 'train', fit)
    source.identity()
    data.load(source, 'images')

  return act


def pytorch(random: Random, folder: Path) -> Act:
  """Fuzzes PyTorch weights for `--mode=import`."""
  from configs import cifar10
  from dcgan_jax import settings
  from dcgan_jax.trained.interop import importing

  paths = []
  for i, tensors in enumerate(inputs.networks(random)):
    names = list(tensors)
    if random.random() < 0.1:
      tensors.pop(pick(random, names))
    crafted = random.random() < 0.2
    content = inputs.crafted_pickle(random) if crafted else inputs.torch_zip(random, tensors)
    if crafted and random.random() < 0.8:
      stream = io.BytesIO()
      with inputs.zipfile.ZipFile(stream, 'w') as archive:
        archive.writestr('x/data.pkl', content)
      content = stream.getvalue()
    paths.append(write(folder / f'{i}.pth', content))
  source = ','.join(map(str, pick(random, [paths, paths[:1], paths[::-1]])))
  chosen = settings.check(cifar10.get_config())
  return lambda: importing._adopt(chosen, importing._read_pytorch(source), source)


def newmu(random: Random, folder: Path) -> Act:
  """Fuzzes arrays in the authors' format for `--mode=import`."""
  from configs import svhn
  from dcgan_jax import settings
  from dcgan_jax.trained.interop import importing

  def of(*shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)

  arrays = [of(5, 64), of(64), of(64), of(4, 3, 5, 5), of(3), of(3), of(3, 3, 5, 5)]
  whole = random.random() < 0.3
  for i, array in enumerate(arrays, 1):
    if random.random() < 0.02:
      array = of(*(int(n) for n in random.integers(0, 6, random.integers(5))))
    keep = whole or random.random() < 0.8
    stream = io.BytesIO()
    np.save(stream, array)
    write(folder / f'gen_{i:02d}.npy', stream.getvalue() if keep else inputs.npy(random, array))
  chosen = settings.check(svhn.get_config())
  return lambda: importing._adopt(chosen, importing._read_newmu(str(folder)), str(folder))


def latents(random: Random, folder: Path) -> Act:
  """Fuzzes latents for `--mode=sample`, through a generator."""
  from dcgan_jax.runs import sampling

  array = random.standard_normal((int(random.integers(4)), int(pick(random, [10, 10, 10, 3]))))
  array = array.astype(pick(random, [np.float32, np.float64, np.int64, np.uint8, bool]))
  path = write(folder / 'z.npy', inputs.npy(random, array))
  sampler = _sampler()
  return lambda: sampler.from_latents(sampling.read_latents(str(path)))


def _sampler() -> Any:
  """Returns an untrained generator at work, always the same."""
  from dcgan_jax.runs import sampling

  if 'sampler' not in _MADE:
    built = _sampler_parts()
    _MADE['sampler'] = sampling.Sampler(built.gan, built.first_state().sampling_variables)
  return _MADE['sampler']


def _sampler_parts() -> Any:
  """Returns the built parts of its run."""
  from dcgan_jax import settings
  from dcgan_jax.runs import experiment

  if 'parts' not in _MADE:
    chosen = {
      'data': {'image_size': (8, 8), 'channels': 1},
      'latent': {'size': 10},
      'generator': {'widths': (8, 6), 'strides': (2, 2), 'norm': (True, True)},
      'discriminator': {'widths': (6, 8), 'strides': (2, 2), 'norm': (False, True)},
    }
    _MADE['parts'] = experiment.build(settings.from_dict(chosen))
  return _MADE['parts']


_MADE: dict[str, Any] = {}


def arrays_of_images(random: Random, folder: Path) -> Act:
  """Fuzzes an .npz for `--mode=evaluate --images`, which takes ten images or more."""
  from dcgan_jax import data
  from dcgan_jax.evaluation import given

  count = int(pick(random, [0, 9, 30, 30, 30, 30]))
  array = random.integers(0, 256, (count, 8, 8, int(pick(random, [1, 1, 1, 3]))), np.uint8)
  path = write(
    folder / pick(random, ['x.npz', 'x', '\udcff.npz']), inputs.npz(random, {'x': array, 'y': array})
  )
  return lambda: given.read(str(path), data.Fit((8, 8), 1), 20, 10)


def kept_arrays(random: Random, folder: Path) -> Act:
  """Fuzzes cached statistics and arrays, which are computed again if broken."""
  from dcgan_jax.data import cache

  good = {'norm0/mean': np.zeros(4, np.float32), 'norm0/var': np.ones(4, np.float32)}
  path = write(folder / 'kept.npz', inputs.npz(random, good))

  def fits(kept: dict[str, np.ndarray]) -> bool:
    return {key: x.shape for key, x in kept.items()} == {key: x.shape for key, x in good.items()}

  def act() -> None:
    assert fits(cache.arrays_in(path, lambda: good, fits))

  return act


def kept_images(random: Random, folder: Path) -> Act:
  """Fuzzes cached images, which are decoded again if broken."""
  from PIL import Image

  from dcgan_jax import data
  from dcgan_jax.data import cache

  (folder / 'pictures').mkdir()
  Image.new('L', (9, 9), 200).save(folder / 'pictures' / 'x.png')
  source = data.open_source(f'folder:{folder}/pictures', 'train', data.Fit((8, 8), 1))
  cache.load(source, 'pictures')
  newest = max((cache.folder() / 'images').glob('*.npy'), key=lambda path: path.stat().st_mtime_ns)
  broken = [inputs.npy(random, np.zeros((1, 8, 8, 1), np.uint8)), inputs.npy(random, np.zeros((1, 9, 8, 1)))]
  newest.write_bytes(pick(random, broken))
  if random.random() < 0.3:
    newest.with_suffix('.json').write_bytes(spoil(random, newest.with_suffix('.json').read_bytes()))

  def act() -> None:
    found = cache.load(source, 'pictures')
    assert found.dtype == np.uint8 and found.shape[1:] == (8, 8, 1)

  return act


def inception_files(random: Random, folder: Path) -> Act:
  """Fuzzes Inception weights: everything but the published file, which is not here, is refused."""
  from dcgan_jax.evaluation import extractors

  path = write(folder / 'weights.pth', random.bytes(int(random.integers(10_000))))
  odd = pick(random, [str(path), str(path), str(path), str(folder), '/dev/zero', text(random), f'{path}/x'])
  return lambda: extractors.find_weights(odd, download=False)
