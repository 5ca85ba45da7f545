"""The Frechet distance of Gaussians fitted to features, without the bias that a limited number of images gives it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.resampling import (
    centred_interval,
    draw_halves,
    extrapolate,
    spread_of_halves,
)
from synth.evaluation.images.sides import Side
from synth.evaluation.ranks import Floats, Interval
from synth.seeds import stream

HALVES = 16
HALVES_OF_MANY = 6  # eigenvalues cost dimensions**3
MANY_DIMENSIONS = 768
PATIENTS_PER_DIMENSION = 2
BLOCK = 4096  # rows


@dataclass(frozen=True)
class Moments:
    """Number, sum and sum of outer products of feature vectors; moments of parts add up to those of the whole."""

    number: int
    total: Floats  # (d,)
    products: Floats  # (d, d)

    def without(self, part: Moments) -> Moments:
        """Return the moments of what is left when ``part`` is taken away."""
        return Moments(self.number - part.number, self.total - part.total, self.products - part.products)

    def gaussian(self) -> tuple[Floats, Floats]:
        """Return the mean and the unbiased covariance."""
        mean = self.total / self.number
        covariance = (self.products - self.number * np.outer(mean, mean)) / max(self.number - 1, 1)
        return mean, np.asarray((covariance + covariance.T) / 2)


def find_moments(features: Floats32 | Floats, rows: NDArray[np.bool_] | None = None) -> Moments:
    """Return the moments of (n, d) features, or of some rows, summed in float64 and in blocks."""
    chosen = np.arange(len(features)) if rows is None else np.flatnonzero(rows)
    width = features.shape[1]
    total, products = np.zeros(width), np.zeros((width, width))
    for start in range(0, len(chosen), BLOCK):
        block = features[chosen[start : start + BLOCK]].astype(np.float64)
        total += block.sum(axis=0)
        products += block.T @ block
    return Moments(len(chosen), total, products)


def gaussian_distance(first: tuple[Floats, Floats], second: tuple[Floats, Floats]) -> float:
    """Return |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of two (mean, covariance); covariances may be singular.

    With C1 = L L', the eigenvalues of C1 C2 are those of L' C2 L (Dowson and Landau, J Multivariate Anal 1982).
    """
    (m1, c1), (m2, c2) = first, second
    factor, pivots, rank, _ = lapack.dpstrf(c1, lower=1)
    root = np.zeros_like(c1)
    root[pivots - 1] = np.tril(factor)
    root = root[:, :rank]
    eigenvalues = np.linalg.eigvalsh(root.T @ c2 @ root) if rank else np.zeros(1)
    shared = float(np.sqrt(np.clip(eigenvalues, 0.0, None)).sum())
    return float(((m1 - m2) ** 2).sum() + np.trace(c1) + np.trace(c2) - 2 * shared)


def find_directions(synthetic: Side, real: Side, number: int) -> tuple[Floats32, float]:
    """Return (d, number) leading principal directions of both sides, each weighing half, and their share of variance.

    Found in the space of the images if there are fewer of them than features.
    """
    middle = (synthetic.features.mean(axis=0, dtype=np.float64) + real.features.mean(axis=0, dtype=np.float64)) / 2
    parts = [(side.features - middle) / np.sqrt(2 * len(side)) for side in (synthetic, real)]
    rows = sum(len(part) for part in parts)
    if rows >= len(middle):
        values, directions = np.linalg.eigh(sum(part.T @ part for part in parts))
    else:
        stacked = np.concatenate(parts)
        values, places = np.linalg.eigh(stacked @ stacked.T)
        directions = stacked.T @ places / np.sqrt(np.maximum(values, 1e-300))
    leading = np.ascontiguousarray(directions[:, ::-1][:, :number])
    spread = np.clip(values, 0.0, None)
    return leading.astype(np.float32), float(spread[::-1][:number].sum() / spread.sum())


def count_halves(dimensions: int) -> int:
    """Return how many halves are compared of matrices of that size."""
    return HALVES if dimensions <= MANY_DIMENSIONS else HALVES_OF_MANY


def measure_frechet(synthetic: Side, real: Side, seed: int) -> tuple[Interval, dict[str, float]]:
    """Return the Frechet distance at endless samples with its interval, and its details.

    The distance of n images is too large by about c / n, so it is extrapolated from all images and from random halves
    of the patients to 1 / n = 0: 2 FD(n) - FD(n / 2) (Chong and Forsyth, CVPR 2020, fit a line through several n).
    ``biased`` in the details is the usual FD(n). Extrapolation fails where covariances are all but singular, so
    features are projected to their first principal directions, as many as half the patients of the smaller side, if
    they are longer; ``dimensions`` and ``variance`` (the share that is kept) say so. Both ends and the value are cut
    off at 0, below which no distance is; ``unfloored`` is not. The interval is that of halves: see resampling.
    """
    width = synthetic.features.shape[1]
    number = min(width, max(1, min(synthetic.patients, real.patients) // PATIENTS_PER_DIMENSION))
    middle, kept = real.features.mean(axis=0, dtype=np.float64).astype(np.float32), 1.0
    found = [side.features - middle for side in (synthetic, real)]
    if number < width:
        directions, kept = find_directions(synthetic, real, number)
        found = [features @ directions for features in found]
    wholes = [find_moments(features) for features in found]
    value = gaussian_distance(wholes[0].gaussian(), wholes[1].gaussian())
    pairs = count_halves(number)
    rng = stream(seed, -1, -1, "images/frechet")
    halves = [draw_halves(side.patient, rng, pairs) for side in (synthetic, real)]
    distances = np.empty((pairs, 2))
    for pair in range(pairs):
        inside = [find_moments(features, half[pair]) for features, half in zip(found, halves, strict=True)]
        outside = [whole.without(part) for whole, part in zip(wholes, inside, strict=True)]
        distances[pair] = [gaussian_distance(two[0].gaussian(), two[1].gaussian()) for two in (inside, outside)]
    error = spread_of_halves(distances[:, 0], distances[:, 1])
    extrapolated = extrapolate(value, distances[:, 0], distances[:, 1])
    details = {"biased": value, "n": len(synthetic), "n_real": len(real), "unfloored": extrapolated,
               "dimensions": number, "variance": kept}  # fmt: skip
    return centred_interval(extrapolated, error, pairs, low=0.0), details
