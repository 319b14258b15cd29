"""Scores of images that are few, or of few classes."""

import json

import numpy as np
import pytest
from conftest import untrained_run

from dcgan_jax.data.labels import Labels
from dcgan_jax.errors import InputError
from dcgan_jax.evaluation import evaluate, extractors


@pytest.mark.parametrize(
  'images, said',
  [
    (np.zeros((20, 8, 8, 1), np.float32), r'images=array: float32 \(20, 8, 8, 1\); this run has uint8'),
    (np.zeros((20, 9, 8, 1), np.uint8), r'this run has uint8 \(N, \*\(8, 8, 1\)\)'),
    (np.zeros((9, 8, 8, 1), np.uint8), 'has 9 images; scores take 10 or more'),
  ],
)
def test_images_that_cannot_be_scored_are_refused_before_anything_is_trained(untrained, images, said):
  with pytest.raises(InputError, match=said):
    evaluate.score_images(untrained, images)
  assert not (untrained / 'classifier.npz').exists()


def test_there_must_be_a_run(tmp_path):
  with pytest.raises(InputError, match='no run here'):
    evaluate.score_images(tmp_path, np.zeros((20, 8, 8, 1), np.uint8))


@pytest.mark.slow
def test_classes_of_too_few_images_are_left_out_and_named(monkeypatch, tmp_path, capsys):
  """Scores a run that is told four classes, of which the data has 18, 1, 0 and 11 images in its split."""
  monkeypatch.setenv('DCGAN_JAX_CACHE', str(tmp_path / 'cache'))
  images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), np.uint8)
  np.savez(tmp_path / 'few.npz', x=images, y=np.arange(30) % 4)
  folder = untrained_run(tmp_path / 'run', {'data.source': f'npy:{tmp_path}/few.npz', 'data.classes': 4})
  classes = np.repeat([0, 1, 3], [18, 1, 11]).astype(np.int32)
  names = ('many', 'one', 'none', 'some')
  monkeypatch.setattr('dcgan_jax.data.array_file.ArrayFile.labels', lambda self: Labels(classes, names))

  def look(images):
    found = images.reshape(len(images), -1)[:, ::16].astype(np.float32)
    return {'features': found, 'probabilities': np.eye(4)[np.arange(len(images)) % 4]}

  extractor = extractors.Extractor('classifier', 'features=few', look)
  monkeypatch.setattr(extractors, 'classifier_extractor', lambda *_: extractor)
  evaluate.run(folder, 40, 0, 'last', extractors.Chosen('classifier'), None)
  printed = capsys.readouterr().out
  report = json.loads((folder / 'evaluation.json').read_text(), parse_constant=pytest.fail)
  assert report['classes']['divergence'] is None and 'divergence of classes, nats              inf' in printed
  asked = report['asked']
  made = asked['left_out']['one']['made']
  assert asked['left_out'] == {'one': {'made': made, 'real': 1}, 'none': {'made': 0, 'real': 0}}
  assert min(asked['distances'][0], asked['distances'][3]) > 0 and asked['distances'][1:3] == [None, None]
  assert asked['agreements'][2] is None and asked['agreements'][0] > 0
  said = (
    f'no distance within a class of fewer than 2 images: one ({made} made, 1 real), none (0 made, 0 real)'
  )
  assert said in printed.splitlines()
  assert f'{"none":12}{"-":>10}{"-":>18}' in printed.splitlines()
