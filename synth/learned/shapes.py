"""Images as tensors of places: a patch of pixels along each side becomes channels of one place, in 2D and 3D."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

MOST_PIXELS = 256**3


def fold_patches(images: Tensor, patch: int) -> Tensor:
    """Return (n, c, *grid) as (n, c * patch^d, *grid / patch)."""
    if patch == 1:
        return images
    count, channels, *grid = images.shape
    split = images.reshape(count, channels, *itertools.chain(*((side // patch, patch) for side in grid)))
    dimensions = len(grid)
    inner, outer = [3 + 2 * axis for axis in range(dimensions)], [2 + 2 * axis for axis in range(dimensions)]
    folded = split.permute(0, 1, *inner, *outer)
    return folded.reshape(count, channels * patch**dimensions, *(side // patch for side in grid))


def unfold_patches(places: Tensor, patch: int) -> Tensor:
    """Return what fold_patches was given."""
    if patch == 1:
        return places
    count, channels, *grid = places.shape
    dimensions = len(grid)
    split = places.reshape(count, channels // patch**dimensions, *[patch] * dimensions, *grid)
    order = itertools.chain(*((2 + dimensions + axis, 2 + axis) for axis in range(dimensions)))
    return split.permute(0, 1, *order).reshape(count, -1, *(side * patch for side in grid))


def to_signal(images: Tensor) -> Tensor:
    """Return intensities from 0 to 1 as numbers from -1 to 1."""
    return 2 * images - 1


def to_images(signal: Tensor) -> Tensor:
    """Return numbers about -1 to 1 as intensities from 0 to 1, cut off."""
    return torch.clamp((signal + 1) / 2, 0, 1)
