"""Made-up patients as pictures: individual smooth anatomy, with sex, view, age and a finding that can be seen."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from synth.evaluation.images.layout import Layout
from synth.evaluation.images.sets import ImageSet, RealImages, make_image_set
from synth.nouns import Attribute
from synth.seeds import stream

SIZE = 32
SCHEMA = (
    Attribute("sex", "categorical"),
    Attribute("view", "categorical"),
    Attribute("age_years", "continuous", "years"),
    Attribute("findings", "set"),
)


def draw_phantoms(patients: int, seed: int, first: int = 0) -> ImageSet:
    """Return pictures of ``patients`` people, a third of them twice; other ``first`` or ``seed``, other people."""
    pixels, rows = [], []
    for number in range(first, first + patients):
        rng = stream(seed, number, -1, "phantom")
        woman, age = rng.random() < 0.5, rng.uniform(20, 90)
        anatomy = _draw_anatomy(rng, woman)
        for visit in range(2 if rng.random() < 0.33 else 1):
            own = stream(seed, number, visit, "phantom")
            view, ill = own.random() < 0.4, own.random() < 0.3
            pixels.append(_expose(own, anatomy, age, view, ill))
            rows.append((f"p{seed}-{number}", "FM"[not woman], ["AP", "PA"][view], age, ["mass"] if ill else []))
    names, *columns = zip(*rows, strict=True)
    values = {attribute.name: column for attribute, column in zip(SCHEMA, columns, strict=True)}
    return make_image_set(f"phantoms-{seed}", np.stack(pixels), values, SCHEMA, names)


def draw_reference(patients: int = 300, seed: int = 1) -> RealImages:
    """Return a reference of phantoms: 60 % of the patients train, 15 % validate, 25 % are held out."""
    cuts = [int(patients * share) for share in (0.6, 0.15, 0.25)]
    parts = [draw_phantoms(count, seed, sum(cuts[:i])) for i, count in enumerate(cuts)]
    return RealImages("phantoms", "0" * 64, *parts, Layout((SIZE, SIZE), "absolute"))


def _draw_anatomy(rng: np.random.Generator, woman: bool) -> np.ndarray:
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE - 0.5
    found = np.zeros((SIZE, SIZE))
    for side in (-1, 1):
        centre = np.array([0.02, side * 0.2]) + 0.02 * rng.normal(size=2)
        radii = np.array([0.3, 0.14 if woman else 0.17]) * np.exp(0.1 * rng.normal(size=2))
        found -= np.exp(-((((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2) ** 2))
    texture = sum(ndimage.gaussian_filter(rng.normal(size=found.shape), s) * s * w for s, w in ((1, 0.15), (3, 0.3)))
    if woman:
        found += 0.5 * np.exp(-(((y - 0.25) / 0.12) ** 2) - ((np.abs(x) - 0.2) / 0.15) ** 2)
    return 0.7 + 0.5 * found + texture


def _expose(rng: np.random.Generator, anatomy: np.ndarray, age: float, view: bool, ill: bool) -> np.ndarray:
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE - 0.5
    found = anatomy + 0.003 * (age - 55) * (y > 0.3)
    if view:
        found = found + 0.25 * np.exp(-((x / 0.08) ** 2)) * (y < 0)
    if ill:
        spot = rng.uniform(-0.2, 0.2), rng.choice([-1, 1]) * rng.uniform(0.12, 0.25)
        found = found + 0.5 * np.exp(-(((y - spot[0]) / 0.08) ** 2) - ((x - spot[1]) / 0.08) ** 2)
    found = ndimage.shift(found, rng.normal(0, 0.7, 2), order=1, mode="nearest")
    return np.clip(0.8 * found * np.exp(0.05 * rng.normal()) + 0.02 * rng.normal(size=found.shape), 0, 1)
