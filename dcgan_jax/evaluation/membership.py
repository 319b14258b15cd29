"""What D says of images that it is trained on, and of others like them that are held out."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from dcgan_jax.core.models import normalize
from dcgan_jax.core.train_state import GanState
from dcgan_jax.data import order
from dcgan_jax.devices import placement, programs
from dcgan_jax.evaluation.scores import Judged
from dcgan_jax.runs.experiment import Experiment

BATCH_SIZE = 64  # images on each device at a time


def make_judge(
  experiment: Experiment, mesh: Mesh, load: Callable[[], np.ndarray]
) -> Callable[[GanState], Judged] | None:
  """Makes the function from a state to D's logits of training and of held-out images, at most 500 of each.

  D is in evaluation mode and is told the classes of the images. With packing, it judges packs of one kind.

  Args:
    experiment: Run whose D judges.
    mesh: All devices.
    load: Loads all real images, [L, H, W, C] in the pixel format of the run.

  Returns:
    The function; None if no images are held out, or fewer than a pack.
  """
  gan, share = experiment.gan, experiment.settings.data.held_out
  if not share:
    return None
  images, packing = load(), gan.discriminator.packing
  held_out, training = order.held_out(len(images), share), order.training(len(images), share)
  if len(held_out) < packing:
    return None
  training = training[np.linspace(0, len(training) - 1, min(len(training), order.MOST_HELD_OUT)).astype(int)]
  training, held_out = (part[: len(part) // packing * packing] for part in (training, held_out))
  chosen, count = np.concatenate([training, held_out]), len(training) // packing
  classes = None if experiment.labels is None else experiment.labels.classes[chosen]
  shown = jax.device_put((images[chosen], classes), placement.replicated(mesh))

  def judge(variables: Any, packs: Array) -> Array:
    discriminator, (images, classes) = variables
    rows = packs.reshape(-1)
    y = None if classes is None else jax.nn.one_hot(classes[rows], gan.latents.classes)
    logits, _ = gan.discriminator.apply(discriminator, normalize(images[rows], gan.pixels), y)
    return logits

  judged, packs = programs.map_rows(judge, mesh), np.arange(len(chosen), dtype=np.int32).reshape(-1, packing)

  def judge_state(state: GanState) -> Judged:
    logits = judged((state.discriminator.variables, shown), packs, max(1, BATCH_SIZE // packing))
    return Judged(logits[:count], logits[count:])

  return judge_state
