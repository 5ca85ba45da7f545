"""Made-up labelled images: a disc (label 1) and an ellipse (label 2) of other brightness, in 2D and 3D."""

from __future__ import annotations

import numpy as np

from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.sets import ImageSet, make_image_set
from synth.learned.recipe import TrainSpec, parse_train_spec
from synth.nouns import Attribute
from synth.seeds import stream

BRIGHT = np.asarray([0.1, 0.9, 0.5], np.float32)  # of labels 0, 1, 2
RECIPE = """
name = "shapes"
reference = "shapes"
kind = "shape"
shape = {shape}
attributes = ["tone"]
[labels]
mask = "shapes"
names = ["disc", "ellipse"]
[architecture]
name = "{family}"
channels = {channels}
attention = 0
patch = {patch}
{own}
[training]
steps = {steps}
batch = 16
rate = 2e-3
checkpoint_minutes = 9.0
average = 0.9
{first}
[sampler]
steps = 4
"""
OWN = "[architecture.autoencoder]\nchannels = [16, 32]\nlatent = 3"
FIRST = "[training.autoencoder]\nsteps = {first}\nrate = 3e-3"


def make_spec(
    family: str, steps: int, shape: tuple[int, ...] = (16, 16), first: int = 4, channels: tuple[int, ...] = (16, 32)
) -> TrainSpec:
    latent = family == "latent-flow"
    return parse_train_spec(RECIPE.format(
        family=family, steps=steps, shape=list(shape), channels=list(channels), patch=1 if latent else 2,
        own=OWN if latent else "", first=FIRST.format(first=first) if latent else "",
    ))  # fmt: skip


def draw_maps(
    count: int, shape: tuple[int, ...] = (16, 16), seed: int = 0
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return (count, *shape) labels."""
    rng, maps = stream(seed, -1, -1, "test/maps"), np.zeros((count, *shape), np.uint8)
    axes = np.meshgrid(*[(np.arange(side) + 0.5) / side for side in shape], indexing="ij")
    for number in range(count):
        for label, low, high in ((1, 0.15, 0.25), (2, 0.1, 0.3)):
            centre, radius = rng.uniform(0.25, 0.75, len(shape)), rng.uniform(low, high, len(shape))
            radius = radius if label == 2 else radius[:1]
            inside = (
                sum(
                    ((a - c) / r) ** 2
                    for a, c, r in zip(axes, centre, np.broadcast_to(radius, len(shape)), strict=True)
                )
                < 1
            )
            maps[number][inside] = label
    return maps


def draw_labelled(count: int, shape: tuple[int, ...] = (16, 16), seed: int = 0) -> ImageSet:
    """Return ``count`` images with their label maps; ``tone`` says whether all is a little brighter."""
    rng, maps = stream(seed, -1, -1, "test/labelled"), draw_maps(count, shape, seed)
    bright = rng.random(count) < 0.5
    images: Floats32 = (
        BRIGHT[maps] + 0.1 * bright.reshape(-1, *[1] * len(shape)) + 0.02 * rng.standard_normal(maps.shape)
    )
    columns = {"tone": ["bright" if value else "dark" for value in bright]}
    return make_image_set("shapes", images, columns, (Attribute("tone", "categorical"),), maps=maps)


def measure_dice(images: Floats32, maps: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> float:
    """Return the mean Dice coefficient of asked labels and those of the nearest brightness, over images and labels."""
    shown = np.abs(images[..., None] - BRIGHT).argmin(axis=-1)
    found = []
    for label in (1, 2):
        for one, asked in zip(shown == label, maps == label, strict=True):
            if asked.any():
                found.append(2 * (one & asked).sum() / (one.sum() + asked.sum()))
    return float(np.mean(found))
