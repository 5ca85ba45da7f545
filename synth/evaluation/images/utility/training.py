"""How the small networks of utility scores are trained: the same steps, pictures a step and rates for every arm."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from synth.evaluation.images.sets import ImageSet
from synth.evaluation.images.utility.settings import TrainingSettings

POOL_BYTES = 256 << 20  # of 8-bit pixels of one side that are in memory at once
BLOCK = 256  # images that are judged at a time
WARM_UP = 0.1  # of the steps
Bools = NDArray[np.bool_]
SMALLEST_SPREAD = 0.05  # of the pixels of an image; flatter images are not stretched further


Augment = Callable[[Tensor, Tensor, TrainingSettings, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Pool:
    """Images in memory, (n, 1, *grid) uint8, and what a network is to answer: (n, answers), or masks (n, *grid)."""

    pixels: Tensor
    answers: Tensor

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a training: ``share`` of the steps, and how many images of each pool are in a batch."""

    pools: tuple[Pool, ...]
    counts: tuple[int, ...]
    share: float = 1.0


def choose_grid(shape: tuple[int, ...], settings: TrainingSettings) -> tuple[int, ...]:
    """Return the grid that networks see: ``shape`` made smaller, never larger."""
    largest = settings.size if len(shape) == 2 else settings.size_3d
    scale = min(1.0, largest / max(shape))
    return tuple(max(1, round(size * scale)) for size in shape)


def choose_batch(grid: tuple[int, ...], settings: TrainingSettings) -> int:
    """Return how many images of ``grid`` are in a batch."""
    return settings.batch if len(grid) == 2 else settings.batch_3d


def load_pixels(images: ImageSet, grid: tuple[int, ...], kept: Bools) -> Tensor:
    """Return (n, 1, *grid) uint8 pixels of the ``kept`` images, averaged down to ``grid``; streamed in blocks."""
    found = torch.empty((int(kept.sum()), 1, *grid), dtype=torch.uint8)
    filled = 0
    for place, block in images.blocks():
        values = torch.from_numpy(block[kept[place]]).unsqueeze(1)
        if len(values):
            values = functional.interpolate(values, size=grid, mode="area")
        found[filled : filled + len(values)] = (values * 255).round().to(torch.uint8)
        filled += len(values)
    return found


def choose_images(images: ImageSet, grid: tuple[int, ...], rng: np.random.Generator) -> Bools:
    """Return which images are trained on: all, or as many random ones as have POOL_BYTES of pixels."""
    most = max(1, POOL_BYTES // int(np.prod(grid)))
    kept = np.zeros(len(images), bool)
    kept[rng.permutation(len(images))[:most]] = True
    return kept


def standardise(values: Tensor) -> Tensor:
    """Return images with mean 0 and standard deviation 1 each."""
    axes = tuple(range(1, values.ndim))
    centred = values - values.mean(axes, keepdim=True)
    return centred / centred.square().mean(axes, keepdim=True).sqrt().clamp_min(SMALLEST_SPREAD)


def draw_batches(phase: Phase, steps: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (pixels, answers) of ``steps`` batches. Each pool is walked through in shuffled rounds."""
    walks = [_walk(len(pool), count, generator) for pool, count in zip(phase.pools, phase.counts, strict=True)]
    for _ in range(steps):
        places = [next(walk) for walk in walks]
        yield (
            torch.cat([pool.pixels[p] for pool, p in zip(phase.pools, places, strict=True)]),
            torch.cat([pool.answers[p] for pool, p in zip(phase.pools, places, strict=True)]),
        )


def _walk(length: int, count: int, generator: torch.Generator) -> Iterator[Tensor]:
    left = torch.empty(0, dtype=torch.int64)
    while True:
        while len(left) < count:
            left = torch.cat([left, torch.randperm(length, generator=generator)])
        yield left[:count]
        left = left[count:]


def draw_warp(count: int, dimensions: int, settings: TrainingSettings, generator: torch.Generator) -> Tensor:
    """Return (count, d, d + 1) affine matrices: small turns, shifts and zooms, and left for right if asked."""
    draws = torch.rand((count, 2 * dimensions + 2), generator=generator) * 2 - 1
    turns = draws[:, :dimensions] * math.radians(settings.degrees)
    matrix = torch.eye(dimensions).repeat(count, 1, 1)
    planes = [(0, 1)] if dimensions == 2 else [(0, 1), (0, 2), (1, 2)]
    for plane, (a, b) in enumerate(planes):
        turn = torch.eye(dimensions).repeat(count, 1, 1)
        cosine, sine = turns[:, plane].cos(), turns[:, plane].sin()
        turn[:, a, a], turn[:, b, b], turn[:, a, b], turn[:, b, a] = cosine, cosine, -sine, sine
        matrix = matrix @ turn
    matrix = matrix * (draws[:, -1, None, None] * settings.zoom).exp()
    if settings.flip:
        across = 0 if dimensions == 2 else 2  # grids count axes from the last: x of (y, x), and of (x, y, z)
        matrix[:, :, across] *= torch.where(draws[:, -2] < 0, -1.0, 1.0)[:, None]
    moves = draws[:, dimensions : 2 * dimensions, None] * 2 * settings.shift
    return torch.cat([matrix, moves], dim=2)


def augment_images(
    pixels: Tensor, answers: Tensor, settings: TrainingSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return standardised images, each moved, turned and of another gamma, and their answers as they are."""
    return _augment(pixels, _draw_grid(pixels, settings, generator), settings, generator), answers


def augment_masked(
    pixels: Tensor, masks: Tensor, settings: TrainingSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the same of images, and their masks (n, *grid) moved along."""
    grid = _draw_grid(pixels, settings, generator)
    moved = functional.grid_sample(masks.unsqueeze(1).float(), grid, "nearest", "border", align_corners=False)
    return _augment(pixels, grid, settings, generator), moved.squeeze(1).long()


def _draw_grid(pixels: Tensor, settings: TrainingSettings, generator: torch.Generator) -> Tensor:
    matrix = draw_warp(len(pixels), pixels.ndim - 2, settings, generator).to(pixels.device)
    return functional.affine_grid(matrix, list(pixels.shape), align_corners=False)


def _augment(pixels: Tensor, grid: Tensor, settings: TrainingSettings, generator: torch.Generator) -> Tensor:
    bend = (torch.rand(len(pixels), generator=generator) * 2 - 1) * settings.gamma
    power = bend.exp().reshape(-1, *[1] * (pixels.ndim - 1)).to(pixels.device)
    values = (pixels.float() / 255) ** power
    return standardise(functional.grid_sample(values, grid, padding_mode="border", align_corners=False))


def train_network(
    model: nn.Module,
    phases: Sequence[Phase],
    loss: Callable[[Tensor, Tensor], Tensor],
    settings: TrainingSettings,
    generator: torch.Generator,
    augment: Augment = augment_images,
) -> Iterator[int]:
    """Train in place; yields the steps done.

    In each phase the rate rises over the first tenth of its steps and falls to 0 as a cosine.
    """
    done, share = 0, 0.0
    for phase in phases:
        share += phase.share
        steps = round(share * settings.steps) - done
        optimiser = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=settings.weight_decay)
        for step, (pixels, answers) in enumerate(draw_batches(phase, steps, generator)):
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * _rate(step / steps)
            images, wanted = augment(pixels.to(settings.device), answers.to(settings.device), settings, generator)
            with torch.autocast(settings.device, torch.bfloat16, enabled=settings.bfloat16):
                answered = model(images)
            optimiser.zero_grad(set_to_none=True)
            loss(answered.float(), wanted).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            yield done + step + 1
        done += steps


def _rate(share: float) -> float:
    if share < WARM_UP:
        return (share + 1e-3) / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))


@torch.no_grad()
def predict(model: nn.Module, pixels: Tensor, settings: TrainingSettings) -> Tensor:
    """Return the model's answers to uint8 images, float32 on the CPU."""
    found = []
    for start in range(0, len(pixels), BLOCK):
        images = standardise(pixels[start : start + BLOCK].to(settings.device).float() / 255)
        with torch.autocast(settings.device, torch.bfloat16, enabled=settings.bfloat16):
            found.append(model(images).float().cpu())
    return torch.cat(found)
