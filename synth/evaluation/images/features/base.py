"""What features are: numbers by which images are compared. A score always names the features it was computed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.sets import ImageSet

Tell = Callable[[str, int, int], None]  # what is being done, steps done, steps in all


def tell_nobody(what: str, done: int, total: int) -> None:
    """Take a progress record and do nothing."""


class FeatureExtractor(Protocol):
    """Turns images into features. The same images give the same features, whatever the block they come in."""

    @property
    def name(self) -> str:
        """The name that scores carry: pixels, radiomics, encoder, or file:NAME."""
        ...

    @property
    def dimensions(self) -> int:
        """Length of a feature vector."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides the features."""
        ...

    def extract(self, images: Floats32) -> Floats32:
        """Return (n, dimensions) features of (n, y, x) or (n, x, y, z) images with intensities from 0 to 1."""
        ...


def compute_features(extractor: FeatureExtractor, images: ImageSet, tell: Tell = tell_nobody) -> Floats32:
    """Return the features of all images of a set, streamed in blocks."""
    found = np.empty((len(images), extractor.dimensions), np.float32)
    for place, block in images.blocks():
        found[place] = extractor.extract(block)
        tell(f"{extractor.name} of {images.name}", place.stop, len(images))
    return found
