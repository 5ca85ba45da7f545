"""Changes of training images that a model is told of, so that it learns from more images and draws none that way.

After Karras et al., NeurIPS 2022 (EDM), section F: what was done to an image is part of its condition, and is 0 when
images are drawn. So are mirrored images: left and right differ in medicine, and no image is drawn mirrored. With few
patients, changes are what keeps a model from knowing them by heart.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

ROTATION = math.radians(8.0)
SHIFT, ZOOM, GAMMA = 0.1, 0.12, 0.3  # of the half size; of the size; log
MIRRORED = 0.5  # of the images that may be changed


def count_changes(dimensions: int) -> int:
    """Return how many numbers tell what was done: shifts, a zoom, a turn about each plane, gamma, left for right."""
    return dimensions + 1 + dimensions * (dimensions - 1) // 2 + 2


def change_images(images: Tensor, chance: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return changed (n, 1, *grid) images with intensities from 0 to 1, and (n, changes) what was done, -1 to 1.

    Each change is made with ``chance``. All is drawn on the CPU, so that another device sees the same.
    """
    count, dimensions = len(images), images.ndim - 2
    told = 2 * torch.rand(count, count_changes(dimensions), generator=generator) - 1
    told = told * (torch.rand(told.shape, generator=generator) < chance)
    told[:, -1] = (torch.rand(count, generator=generator) < chance * MIRRORED).to(told)
    grid = functional.affine_grid(_place(told, dimensions).to(images), list(images.shape), align_corners=False)
    # linear interpolation halves the power of fine detail, which drawn images would lack; volumes have no other
    mode = "bicubic" if dimensions == 2 else "bilinear"
    moved = functional.grid_sample(images, grid, mode, padding_mode="border", align_corners=False)
    gamma = torch.exp(GAMMA * told[:, -2]).reshape(count, *[1] * (dimensions + 1)).to(images)
    return moved.clamp(1e-6, 1) ** gamma, told.to(images)


def change_maps(maps: Tensor, told: Tensor) -> Tensor:
    """Return (n, *grid) label maps, as floats, moved like images of which ``told`` says what was done."""
    values = maps[:, None].float()
    grid = functional.affine_grid(_place(told, maps.ndim - 1).to(values), list(values.shape), align_corners=False)
    moved = functional.grid_sample(values, grid, mode="nearest", padding_mode="border", align_corners=False)
    return moved[:, 0]


def _place(told: Tensor, dimensions: int) -> Tensor:
    """Return (n, dimensions, dimensions + 1) matrices that read the changed image."""
    count = len(told)
    turn, number = torch.eye(dimensions).repeat(count, 1, 1), dimensions + 1
    for first in range(dimensions):
        for second in range(first + 1, dimensions):
            angle = ROTATION * told[:, number]
            plane = torch.eye(dimensions).repeat(count, 1, 1)
            plane[:, first, first] = plane[:, second, second] = torch.cos(angle)
            plane[:, first, second], plane[:, second, first] = -torch.sin(angle), torch.sin(angle)
            turn, number = turn @ plane, number + 1
    turn = turn * (1 + ZOOM * told[:, dimensions])[:, None, None]
    sides = torch.ones(count, dimensions, 1)  # matrices are of the last axis first: x of pictures, z of volumes
    sides[:, 0 if dimensions == 2 else 2, 0] -= 2 * told[:, -1]
    return sides * torch.cat([turn, SHIFT * told[:, :dimensions, None]], dim=2)
