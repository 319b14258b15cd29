import jax
import pytest

from dcgan_jax.core import compiling


def test_options_are_of_the_platform_and_compile(monkeypatch):
  given = []
  jit = jax.jit
  monkeypatch.setattr(jax, 'jit', lambda f, **arguments: given.append(arguments) or jit(f, **arguments))

  def options(**how):
    made = compiling.jit(lambda x: x + 1.0, **how)
    return made, given[-1]['compiler_options']

  made, own = options(donate_argnums=0)
  assert float(made(1.0)) == 2.0 and given[-1]['donate_argnums'] == 0
  assert options(platform='cpu')[1] == own and options(platform='tpu')[1] == options(platform='gpu')[1] == {}
  assert options(runs_once=True, platform='gpu')[1] == {}
  assert options(runs_once=True)[1] == {}  # The tests set a level in XLA_FLAGS.
  monkeypatch.delenv('XLA_FLAGS')
  assert float(options(runs_once=True)[0](1.0)) == 2.0
  assert options(runs_once=True)[1] == {'xla_backend_optimization_level': 1}


def test_deterministic_kernels_are_asked_for_by_an_option_that_xla_knows():
  """The options of all backends are known everywhere, and an unknown one is refused."""
  made = compiling.jit(lambda x: x + 1, platform='gpu', deterministic=True)
  made.lower(1.0).compile()
  with pytest.raises(jax.errors.JaxRuntimeError):
    jax.jit(lambda x: x + 1, compiler_options={'xla_gpu_unheard_of': 'true'}).lower(1.0).compile()
