"""What features that are fitted to a reference share: training images, coarser grids, fingerprints."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from synth.errors import PermanentError
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.sets import BLOCK_BYTES, ImageSet

MOST_IMAGES = 4096  # more do not change a mean or a covariance much


class TooFewImagesError(PermanentError):
    """The reference has too few training images for features to be fitted."""


def check_enough(images: ImageSet, least: int, what: str) -> None:
    """Raise TooFewImagesError if ``images`` are fewer than ``least``."""
    if len(images) < least:
        raise TooFewImagesError(
            f"{what} need at least {least} {images.name} images of the reference; it has {len(images)}. "
            "Import more images, or use features that need fewer (docs/evaluation/features.md)."
        )


def spread_indices(count: int, most: int = MOST_IMAGES) -> NDArray[np.int64]:
    """Return at most ``most`` places, evenly spread over ``count``."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def sample_blocks(images: ImageSet, most: int = MOST_IMAGES) -> Iterator[Floats32]:
    """Yield blocks of at most ``most`` images, evenly spread over the set."""
    places = spread_indices(len(images), most)
    step = max(1, BLOCK_BYTES // (4 * int(np.prod(images.shape))))
    for start in range(0, len(places), step):
        yield images.images(places[start : start + step])


def average_grid(images: Floats32, shape: Sequence[int]) -> Floats32:
    """Return ``images`` (n, *grid) on a coarser grid: each new pixel is the mean of the area it covers.

    An axis that is already as short or shorter stays as it is.
    """
    found = images
    for axis, target in enumerate(shape, start=1):
        size = found.shape[axis]
        if target < size:
            moved = np.moveaxis(found, axis, -1) @ _area_weights(size, target).T
            found = np.moveaxis(moved, -1, axis)
    return np.ascontiguousarray(found, np.float32)


def resize_images(images: Floats32, shape: Sequence[int]) -> Floats32:
    """Return ``images`` (n, *grid) on exactly ``shape``: shorter axes by averaging, longer ones linearly between."""
    found = average_grid(images, shape)
    if found.shape[1:] == tuple(shape):
        return found
    mode = {2: "bilinear", 3: "trilinear"}[len(shape)]
    longer = functional.interpolate(torch.from_numpy(found).unsqueeze(1), tuple(shape), mode=mode, align_corners=False)
    return np.asarray(longer.squeeze(1).numpy(), np.float32)


def _area_weights(size: int, target: int) -> Floats32:
    """Return (target, size) shares of each pixel in each wider pixel; rows add up to 1."""
    edges = np.linspace(0, size, target + 1)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.asarray(np.maximum(overlap, 0) * target / size, np.float32)


def hash_parts(kind: str, parts: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 of a kind of features and the arrays it was fitted to."""
    digest = hashlib.sha256(kind.encode())
    for name, part in parts.items():
        digest.update(f"/{name}/{part.dtype}/{part.shape}/".encode())
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
