"""Distances of drawn images as a ratio to the floor: that of real training images to the same unseen patients.

Both distances are the usual ones of a limited number of images (FD of n images; KID with every pair, an image with
itself too), which are not 0 for equal distributions, so that a ratio exists: 1 is as near as real images are. The
interval is that of log R, R = a / b, by (a - R b) / a over halves of patients (see synth.evaluation.images.resampling):
the bias, which is larger in halves, cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synth.evaluation.images.bench import sample_indices
from synth.evaluation.images.features.base import FeatureExtractor, Tell, compute_features
from synth.evaluation.images.features.registry import make_extractor
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.quality.frechet import find_directions, find_moments, gaussian_distance
from synth.evaluation.images.resampling import PAIRS, centred_interval, draw_halves, spread_of_halves
from synth.evaluation.images.sets import ImageSet, RealImages, join_sets
from synth.evaluation.images.sides import Side
from synth.evaluation.ranks import Floats, Interval
from synth.seeds import stream

HALVES = 16
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Yardstick:
    """One kind of features, fitted to training patients, with those of training and of unseen images."""

    extractor: FeatureExtractor
    train: Side
    unseen: Side

    @property
    def name(self) -> str:
        """The name of the features."""
        return self.extractor.name

    def measure(self, images: ImageSet) -> Side:
        """Return the features of drawn images."""
        return Side(compute_features(self.extractor, images), images.patient)


def make_yardsticks(real: RealImages, names: Sequence[str], cache: Path | None, tell: Tell) -> list[Yardstick]:
    """Return the features called ``names``; trained encoders are kept in ``cache``."""
    unseen, found = join_sets("unseen", (real.validation, real.holdout)), []
    for name in names:
        extractor = make_extractor(name, real, tell=tell, cache=cache)
        sides = [Side(compute_features(extractor, side, tell), side.patient) for side in (real.train, unseen)]
        found.append(Yardstick(extractor, *sides))
    return found


def match_sizes(images: Side, train: Side, seed: int) -> tuple[Side, Side]:
    """Return as many drawn images as training images, random ones."""
    count = min(len(images), len(train))
    rows = [sample_indices(len(side), count, seed, f"benchmark/floor/{n}") for n, side in enumerate((images, train))]
    return tuple(Side(s.features[r], s.patient[r]) for s, r in zip((images, train), rows, strict=True))  # type: ignore[return-value]


def measure_ratios(images: Side, train: Side, unseen: Side, seed: int) -> dict[str, Interval]:
    """Return the ratios of FD and KID to the floor, by name, with 95 % intervals; sizes are made equal."""
    sides = (*match_sizes(images, train, seed), unseen)
    rng = stream(seed, -1, -1, "benchmark/ratio")
    halves = [draw_halves(side.patient, rng, PAIRS) for side in sides]
    return {"FD": _divide_frechet(sides, halves), "KID": _divide_kernels(sides, halves)}


def _divide_frechet(sides: Sequence[Side], halves: Sequence[Bools]) -> Interval:
    """Return the ratio of Frechet distances, in the directions that all sides vary in."""
    most = max(1, min(side.patients for side in sides) // 2)
    found: list[Floats32] = [side.features for side in sides]
    if most < found[0].shape[1]:
        pooled = Side(np.concatenate(found[:2]), np.arange(len(found[0]) + len(found[1])))
        directions, _ = find_directions(pooled, sides[2], most)
        middle = found[2].mean(axis=0)
        found = [(rows - middle) @ directions for rows in found]

    def measure(rows: Sequence[Bools | None]) -> tuple[float, float]:
        own, known, unseen = (find_moments(f, r).gaussian() for f, r in zip(found, rows, strict=True))
        return gaussian_distance(own, unseen), gaussian_distance(known, unseen)

    whole = measure([None] * 3)
    parts = [[measure([way(half[pair]) for half in halves]) for pair in range(HALVES)] for way in (_keep, np.invert)]
    return _divide(whole, np.asarray(parts), HALVES)


def _divide_kernels(sides: Sequence[Side], halves: Sequence[Bools]) -> Interval:
    """Return the ratio of kernel distances with the kernel (x.y / d + 1)^3."""
    features = [side.features.astype(np.float64) for side in sides]
    kernels = {
        (i, j): (features[i] @ features[j].T / features[i].shape[1] + 1) ** 3
        for i, j in ((0, 0), (1, 1), (2, 2), (0, 2), (1, 2))
    }

    def measure(rows: Sequence[Bools]) -> tuple[float, float]:
        weights = [row / row.sum() for row in rows]
        parts = {(i, j): float(weights[i] @ kernel @ weights[j]) for (i, j), kernel in kernels.items()}
        own, known = (parts[i, i] + parts[2, 2] - 2 * parts[i, 2] for i in (0, 1))
        return own, known

    whole = measure([np.ones(len(side), bool) for side in sides])
    parts = [[measure([way(half[pair]) for half in halves]) for pair in range(PAIRS)] for way in (_keep, np.invert)]
    return _divide(whole, np.asarray(parts), PAIRS)


def _keep(half: Bools) -> Bools:
    return half


def _divide(whole: tuple[float, float], parts: Floats, pairs: int) -> Interval:
    """Return a / b; ``parts`` (2, pairs, 2) are both distances of halves and of their complements."""
    ratio = whole[0] / whole[1]
    away = (parts[..., 0] - ratio * parts[..., 1]) / whole[0]
    found = centred_interval(float(np.log(ratio)), spread_of_halves(away[0], away[1]), pairs)
    return Interval(*(float(np.exp(end)) for end in found))
