"""The classes of a source's images."""

from typing import NamedTuple

import numpy as np


class Labels(NamedTuple):
  """The class of each image, and the names of all classes.

  Attributes:
    classes: Class of each image, int32 [N] in [0, K).
    names: Names of the K classes.
  """

  classes: np.ndarray
  names: tuple[str, ...]

  @property
  def counts(self) -> np.ndarray:
    """Returns the number of images of each class, [K]."""
    return np.bincount(self.classes, minlength=len(self.names))

  @property
  def shares(self) -> np.ndarray:
    """Returns the share of each class in the data, [K]."""
    return self.counts / len(self.classes)
