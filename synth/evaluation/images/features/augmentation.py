"""Small changes of an image that leave the patient the same: where it lies, how bright, sharp and noisy it is.

No image is mirrored: in medicine left and right differ.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

ROTATION = math.radians(8.0)  # largest, about each axis
SHIFT = 0.06  # of the image's half size
SCALE = 0.08
GAIN, OFFSET, GAMMA = 0.1, 0.05, 0.2
BLUR = 0.5  # largest share of the blurred image
NOISE = 0.02
_BLURS = {2: functional.avg_pool2d, 3: functional.avg_pool3d}


def augment_images(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return changed copies of (n, 1, *grid) images with intensities from 0 to 1.

    Everything is drawn on the generator's device, so that another device sees the same changes.
    """
    count, dimensions = len(images), images.ndim - 2
    matrices = _draw_placements(count, dimensions, generator).to(images)
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    gain, offset, gamma, blur, noise = (
        _draw(count, generator).reshape(count, *[1] * (dimensions + 1)).to(images) for _ in range(5)
    )
    blurred = _BLURS[dimensions](moved, 3, stride=1, padding=1, count_include_pad=False)
    moved = moved + BLUR * (blur + 1) / 2 * (blurred - moved)
    bright = (moved * (1 + GAIN * gain) + OFFSET * offset).clamp(1e-4, 1.0) ** (1 + GAMMA * gamma)
    grain = torch.randn(images.shape, generator=generator).to(images)
    return bright + NOISE * (noise + 1) / 2 * grain


def _draw(count: int, generator: torch.Generator) -> Tensor:
    """Return even draws from -1 to 1."""
    return 2 * torch.rand(count, generator=generator) - 1


def _draw_placements(count: int, dimensions: int, generator: torch.Generator) -> Tensor:
    """Return (count, dimensions, dimensions + 1) matrices of a rotation, scale and shift."""
    turn = torch.eye(dimensions).repeat(count, 1, 1)
    for first in range(dimensions):
        for second in range(first + 1, dimensions):
            angle = ROTATION * _draw(count, generator)
            plane = torch.eye(dimensions).repeat(count, 1, 1)
            plane[:, first, first] = plane[:, second, second] = torch.cos(angle)
            plane[:, first, second], plane[:, second, first] = -torch.sin(angle), torch.sin(angle)
            turn = turn @ plane
    turn = turn * (1 + SCALE * _draw(count, generator))[:, None, None]
    shift = SHIFT * torch.stack([_draw(count, generator) for _ in range(dimensions)], dim=1)
    return torch.cat([turn, shift[:, :, None]], dim=2)
