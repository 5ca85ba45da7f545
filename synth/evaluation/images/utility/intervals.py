"""AUCs of several networks on the same holdout images, resampled together: patients and seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synth.evaluation.images.layout import Floats32
from synth.evaluation.ranks import LEVEL, RESAMPLES, Floats, Interval, Ints

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Resamples:
    """One value and many resampled ones; arithmetic between them is paired, for the same patients were drawn.

    ``parts`` are the values of single seeds, of which ``value`` is the mean; a difference or ratio has none.
    """

    value: float
    drawn: Floats
    parts: tuple[float, ...] = ()

    def interval(self) -> Interval:
        """Return the value and the 2.5 and 97.5 % percentiles of the resampled values that exist."""
        known = self.drawn[np.isfinite(self.drawn)]
        low, high = np.percentile(known, LEVEL) if len(known) else (np.nan, np.nan)
        return Interval(self.value, float(low), float(high))

    def __sub__(self, other: Resamples) -> Resamples:
        return Resamples(self.value - other.value, self.drawn - other.drawn)

    def __truediv__(self, other: Resamples) -> Resamples:
        return Resamples(self.value / other.value, self.drawn / other.drawn)


def draw_patient_weights(patient: Ints, rng: np.random.Generator) -> Floats:
    """Return (resamples, images): how often the patient of each image was drawn, of as many draws as patients."""
    _, codes = np.unique(patient, return_inverse=True)
    patients = int(codes.max()) + 1
    draws = rng.multinomial(patients, np.full(patients, 1 / patients), size=RESAMPLES)
    return np.asarray(draws[:, codes], np.float64)


def draw_seeds(seeds: int, rng: np.random.Generator) -> Ints:
    """Return (resamples, seeds - 1) numbers of seeds.

    Drawing one fewer than there are makes the spread of their mean that of the mean of all of them (Efron, The
    Jackknife, the Bootstrap and Other Resampling Plans, 1982); drawing all would be too narrow by a third for three.
    """
    return rng.integers(seeds, size=(RESAMPLES, max(1, seeds - 1)))


def resample_auc(scores: Floats32, positive: Bools, weights: Floats, drawn_seeds: Ints) -> Resamples:
    """Return the mean AUC over seeds of (seeds, images) scores, resampled.

    ``weights`` is (resamples, images), ``drawn_seeds`` (resamples, k). A resample with one class only is NaN.
    """
    whole = np.ones((1, len(positive)))
    parts = tuple(float(weigh_auc(row, positive, whole)[0]) for row in scores)
    per_seed = np.array([weigh_auc(row, positive, weights) for row in scores])
    return Resamples(float(np.mean(parts)), _mix_seeds(per_seed, drawn_seeds), parts)


def resample_mean(values: Floats, weights: Floats, drawn_seeds: Ints) -> Resamples:
    """Return the mean over seeds and images of (seeds, images) values, resampled as in resample_auc."""
    with np.errstate(invalid="ignore", divide="ignore"):
        per_seed = (values @ weights.T) / np.where(weights.sum(axis=1) > 0, weights.sum(axis=1), np.nan)
    parts = tuple(float(part) for part in values.mean(axis=1))
    return Resamples(float(np.mean(parts)), _mix_seeds(per_seed, drawn_seeds), parts)


def weigh_auc(scores: Floats32, positive: Bools, weights: Floats) -> Floats:
    """Return the AUC for each row of ``weights`` (resamples, images), ties counting half; NaN if a class is empty."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # of runs of equal scores
    sorted_weights, said = weights[:, order], positive[order]
    hits = np.add.reduceat(sorted_weights * said, starts, axis=1)
    misses = np.add.reduceat(sorted_weights * ~said, starts, axis=1)
    below = np.cumsum(misses, axis=1) - misses
    total = hits.sum(axis=1) * misses.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((hits * (below + misses / 2)).sum(axis=1) / np.where(total > 0, total, np.nan))


def _mix_seeds(per_seed: Floats, drawn_seeds: Ints) -> Floats:
    """Return the mean over the drawn seeds of each resample, of (seeds, resamples) values."""
    return np.asarray(per_seed[drawn_seeds, np.arange(per_seed.shape[1])[:, None]].mean(axis=1))
