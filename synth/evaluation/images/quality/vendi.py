"""The Vendi score: the effective number of different images among many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.quality.frechet import count_halves, find_moments
from synth.evaluation.images.resampling import centred_interval, draw_halves, extrapolate, spread_of_rough
from synth.evaluation.images.sides import Side
from synth.evaluation.ranks import Floats, Interval
from synth.seeds import stream


def compute_vendi(features: Floats32) -> float:
    """Return the Vendi score of (n, d) features: exp(-sum p log p), p the eigenvalues of K / n.

    K holds the cosines of all pairs (Friedman and Dieng, TMLR 2023); its eigenvalues other than 0 are those of the
    d x d matrix X'X of unit vectors X, so that n does not matter. 1 if all images have the same direction, at most
    min(n, d).
    """
    unit = _normalise(features)
    return _count_effective(unit @ unit.T / len(unit) if len(unit) < unit.shape[1] else _share(unit))


def measure_vendi(side: Side, seed: int) -> tuple[Interval, dict[str, float]]:
    """Return the Vendi score of one side with its interval, and its details.

    Few images have a lower score than many: ``extrapolated`` in the details is that of endless samples: see resampling.
    """
    unit = _normalise(side.features)
    few = len(unit) < unit.shape[1]
    pairs = count_halves(min(unit.shape))
    halves = draw_halves(side.patient, stream(seed, -1, -1, "images/vendi"), pairs)
    similarity = unit @ unit.T if few else None
    whole = find_moments(unit).products if similarity is None else similarity
    value = _count_effective(whole / len(unit))
    scores = np.empty((pairs, 2))
    for pair, half in enumerate(halves):
        if similarity is not None:
            parts = [similarity[np.ix_(rows, rows)] for rows in (half, ~half)]
        else:
            inside = find_moments(unit, half).products
            parts = [inside, whole - inside]
        numbers = int(half.sum()), int((~half).sum())
        scores[pair] = [_count_effective(part / number) for part, number in zip(parts, numbers, strict=True)]
    error = spread_of_rough(scores[:, 0], scores[:, 1])
    details = {"extrapolated": extrapolate(value, scores[:, 0], scores[:, 1]), "n": len(unit)}
    return centred_interval(value, error, pairs, low=1.0), details


def _normalise(features: Floats32) -> Floats:
    exact = features.astype(np.float64)
    return np.asarray(exact / np.linalg.norm(exact, axis=1, keepdims=True))


def _share(unit: Floats) -> Floats:
    return find_moments(unit).products / len(unit)


def _count_effective(matrix: NDArray[np.float64]) -> float:
    """Return the exponential entropy of a matrix's eigenvalues, which sum to 1."""
    shares = np.linalg.eigvalsh(matrix)
    shares = shares[shares > 1e-12]
    return float(np.exp(-(shares * np.log(shares)).sum()))
