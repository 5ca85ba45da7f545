"""Areas under the ROC curve, and intervals from resampling patients."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RESAMPLES = 200
LEVEL = (2.5, 97.5)  # percent
Z95 = 1.959964  # standard errors


class Interval(NamedTuple):
    """An estimate and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def area_under_curve(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """Return the chance that a positive scores above a negative, ties counting half; 0.5 if one side is empty."""
    from scipy.stats import rankdata  # takes half a second to import, and builds only read the names of scores

    hits, misses = int(positive.sum()), int((~positive).sum())
    if not hits or not misses:
        return 0.5
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))


def auc_interval(scores: Floats, positive: NDArray[np.bool_], group: Ints, rng: np.random.Generator) -> Interval:
    """Return the AUC and its percentile interval, resampling whole groups (patients) 200 times.

    A resample only weights rows, so it is one pass over the levels of the score.
    """
    _, level = np.unique(scores, return_inverse=True)
    _, codes = np.unique(group, return_inverse=True)
    groups = int(codes.max()) + 1
    found = []
    for _ in range(RESAMPLES):
        weights = np.bincount(rng.integers(groups, size=groups), minlength=groups)[codes].astype(np.float64)
        hits = np.bincount(level, weights * positive)
        misses = np.bincount(level, weights * ~positive)
        below = np.cumsum(misses) - misses
        total = hits.sum() * misses.sum()
        found.append(float((hits * (below + misses / 2)).sum() / total) if total else 0.5)
    low, high = np.percentile(found, LEVEL)
    return Interval(area_under_curve(scores, positive), float(low), float(high))


def true_positive_rate(scores: Floats, positive: NDArray[np.bool_], false_positive_rate: float) -> float:
    """Return the share of positives above the threshold that at most ``false_positive_rate`` of negatives exceed."""
    negatives = np.sort(scores[~positive])[::-1]
    allowed = int(np.floor(false_positive_rate * len(negatives)))
    if allowed >= len(negatives):
        return 1.0
    return float(np.mean(scores[positive] > negatives[allowed]))
