"""Networks as safetensors come back bit for bit, with a description of the module they belong to."""

import sys

import jax
import numpy as np
import pytest
from conftest import narrow
from flax import traverse_util

from benchmarks import exports
from dcgan_jax.errors import InputError
from dcgan_jax.files import safetensors

OVERRIDES = {'data.classes': 3, 'discriminator.spectral_norm': True}  # which has names with slashes


@pytest.mark.parametrize('kind', ['generator', 'discriminator'])
def test_arrays_come_back(kind):
  library = pytest.importorskip('safetensors.numpy')
  variables = exports.random_networks(narrow('digits', OVERRIDES))[1][kind]
  content = safetensors.to_bytes(variables, {'classes': '["ä"]'})
  read = traverse_util.unflatten_dict(library.load(content), sep='.')
  jax.tree.map(np.testing.assert_array_equal, read, variables)
  assert b'"__metadata__":{"classes":"[\\"\xc3\xa4\\"]"}' in content[:5000]


def test_without_the_package(monkeypatch):
  monkeypatch.setitem(sys.modules, 'safetensors', None)
  monkeypatch.setitem(sys.modules, 'safetensors.numpy', None)
  with pytest.raises(InputError, match=r"needs the package safetensors; pip install -e '\.\[export\]'"):
    safetensors.to_bytes({}, {})
