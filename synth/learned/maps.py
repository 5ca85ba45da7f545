"""Label maps that drive images: where each label is, as part of the code that a network is told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.errors import ModelError
from synth.evaluation.images.sets import ImageSet
from synth.learned.recipe import LabelMapSpec

Labels = NDArray[np.integer[Any]]
MOST_LABELS = 64


@dataclass(frozen=True)
class MapCode:
    """A mask that a model was taught: its label k is ``names[k - 1]``, 0 is none of them."""

    mask: str
    names: tuple[str, ...]

    def encode(self, maps: Labels | None, count: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return (count, *shape) numbers: label k is k + 1, and 0 everywhere says that no map is given.

        Raises ModelError for maps of another shape or with labels that the model was not taught.
        """
        if maps is None:
            return np.zeros((count, *shape), np.uint8)
        found = np.asarray(maps)
        if found.shape != (count, *shape) or found.dtype.kind not in "iub":
            raise ModelError(
                f"labels: maps are {found.dtype} {found.shape}; give whole numbers of the shape {(count, *shape)}."
            )
        if found.size and not 0 <= found.min() <= found.max() <= len(self.names):
            raise ModelError(
                f"labels: maps hold {int(found.min())} to {int(found.max())}; the model was taught {self.describe()}."
            )
        return found.astype(np.uint8) + np.uint8(1)

    def describe(self) -> str:
        """Return what the labels are, in words."""
        return f"0 to {len(self.names)} of '{self.mask}' ({', '.join(self.names)})"


def learn_map(spec: LabelMapSpec, images: ImageSet) -> MapCode:
    """Return the code of the labels that the training ``images`` show; unnamed ones are called by their number.

    Raises ModelError if the images have no label maps, show nothing but 0, or labels beyond the names.
    """
    if images.maps is None:
        raise ModelError(
            f"labels.mask: the training images have no mask '{spec.mask}'; leave 'labels' out, or learn from a cohort "
            "whose engine makes that mask."
        )
    highest = int(images.maps.max(initial=0))
    names = spec.names or tuple(str(label) for label in range(1, highest + 1))
    if highest == 0 or highest > min(len(names), MOST_LABELS):
        raise ModelError(
            f"labels.names: the training images show labels up to {highest} of '{spec.mask}'; {len(names)} are named "
            f"({', '.join(names[:MOST_LABELS]) or 'none'}), and {MOST_LABELS} are the most."
        )
    return MapCode(spec.mask, names)


def count_pixels(code: MapCode | None, shape: tuple[int, ...]) -> int:
    """Return how many numbers a label map adds to the code."""
    return math.prod(shape) if code is not None else 0
