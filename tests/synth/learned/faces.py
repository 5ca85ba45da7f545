"""Made-up images that tiny models can learn: a disc of the sex's size, a bar as long as the age, a dot if ill."""

from __future__ import annotations

import numpy as np

from synth.evaluation.images.sets import ImageSet, make_image_set
from synth.nouns import Attribute
from synth.seeds import stream

SCHEMA = (
    Attribute("sex", "categorical"),
    Attribute("age_years", "integer", "years"),
    Attribute("findings", "set"),
)
RECIPE = """
name = "faces"
reference = "faces"
kind = "face"
shape = [16, 16]
attributes = ["sex", "age_years", "findings"]
[architecture]
name = "{family}"
channels = [16, 32]
latent = 8
[training]
steps = {steps}
batch = 16
rate = 2e-3
checkpoint_minutes = 1e-6
average = 0.9
[sampler]
steps = 4
"""


def draw_faces(count: int, seed: int = 0, side: int = 16) -> ImageSet:
    """Return ``count`` images with their attributes."""
    rng = stream(seed, -1, -1, "test/faces")
    women, ill, age = rng.random(count) < 0.5, rng.random(count) < 0.4, rng.integers(20, 80, count)
    y, x = (np.mgrid[:side, :side] + 0.5) / side
    images = np.empty((count, side, side), np.float32)
    for number in range(count):
        cy, cx = 0.5 + 0.06 * rng.standard_normal(2)
        radius = 0.2 if women[number] else 0.35
        disc = 1 / (1 + np.exp(((y - cy) ** 2 + (x - cx) ** 2 - radius**2) * 150))
        dot = 0.5 * ill[number] * np.exp(-((y - 0.15) ** 2 + (x - 0.15) ** 2) * 200)
        bar = (y > 0.85) * np.clip((age[number] / 100 - x) * side, 0, 1)
        images[number] = np.clip(0.7 * disc + dot + 0.5 * bar, 0, 1)
    columns = {
        "sex": ["F" if woman else "M" for woman in women],
        "age_years": [int(value) for value in age],
        "findings": [["dot"] if value else [] for value in ill],
    }
    return make_image_set("faces", images, columns, SCHEMA)
