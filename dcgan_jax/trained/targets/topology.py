"""Devices to compile for without having them, by the name of a machine."""

import importlib.resources
import os

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

from dcgan_jax.devices.placement import AXIS
from dcgan_jax.errors import InputError
from dcgan_jax.trained.targets.names import Target

# libtpu reads these when it is loaded; without them it queries the cloud for its machine, and waits.
# Several processes may compile at a time, since none of them holds a TPU.
ENVIRONMENT = {
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}


def mesh(target: Target) -> Mesh:
  """Returns a mesh of the target's devices, along which train steps divide their batch.

  Must be called before anything else asks JAX for devices: JAX itself then runs on this machine's CPU.

  Args:
    target: Machine to compile for.

  Raises:
    InputError: in one line; the installed compiler does not know the machine.
  """
  jax.config.update('jax_platforms', 'cpu')
  if target.platform == 'cpu':
    return Mesh(np.array(jax.devices('cpu')), (AXIS,))
  # JAX caches only programs that it can load, unlike these.
  jax.config.update('jax_enable_compilation_cache', False)
  try:
    found = _gpus(target) if target.platform == 'gpu' else _tpus(target)
  except (jax.errors.JaxRuntimeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
    reason = ' '.join(str(error).split())[:200]
    raise InputError(f'--target={target.name}: the installed compiler does not take it: {reason}') from error
  return Mesh(np.array(found), (AXIS,))


def _gpus(target: Target) -> list[jax.Device]:
  """Returns the GPUs of one host. Without a driver the plugin reads their description from a text."""
  text = importlib.resources.files('dcgan_jax.trained.targets').joinpath(f'{target.kind}.txtpb').read_text()
  description = topologies.get_topology_desc(
    platform='cuda', topology_name=target.kind, target_config=text, topology=f'1x1x{target.devices}'
  )
  return description.devices


def _tpus(target: Target) -> list[jax.Device]:
  """Returns the chips of a slice, in hosts of four as in the cloud, or the only chip of a smaller one."""
  for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)
  single = {'chips_per_host_bounds': [1, 1, 1]} if target.devices == 1 else {}
  return topologies.get_topology_desc(platform='tpu', topology_name=target.name, **single).devices
