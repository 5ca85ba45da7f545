"""The sliced Wasserstein distance: how far projections of features on random lines have to be moved."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.quality.screening import run_rows
from synth.evaluation.images.resampling import (
    PAIRS,
    centred_interval,
    draw_halves,
    extrapolate,
    pack_halves,
    spread_of_halves,
)
from synth.evaluation.images.sides import Side
from synth.evaluation.ranks import Floats, Interval
from synth.seeds import stream

DIRECTIONS = 256
AT_A_TIME = 32
SAMPLES = 2 * PAIRS + 1  # all images, then 64 halves


def measure_sliced(synthetic: Side, real: Side, seed: int) -> tuple[Interval, dict[str, float]]:
    """Return the sliced Wasserstein-2 distance at endless samples with its interval, and its details.

    The root of the mean over 256 random directions of the squared Wasserstein-2 distance of projections (Bonneel et
    al., J Math Imaging Vis 2015), each an integral over quantiles that is exact for unequal numbers. Features are
    divided by their standard deviations over real images (over both sides where real ones do not vary), so 0.1 is a
    tenth of a standard deviation. Squared distances of n images are too large by about c / n: they are extrapolated by
    halves (see resampling), and cut off at 0 before the root is taken; ``biased`` is the usual value.
    """
    rng = stream(seed, -1, -1, "images/sliced")
    halves = [draw_halves(side.patient, rng) for side in (synthetic, real)]
    words = [pack_halves(half) for half in halves]
    sizes = [np.array([half.shape[1], *half.sum(axis=1), *(~half).sum(axis=1)]) for half in halves]
    scale = find_scale(synthetic.features, real.features)
    directions = rng.standard_normal((real.features.shape[1], DIRECTIONS))
    directions = (directions / np.linalg.norm(directions, axis=0) / scale[:, None]).astype(np.float32)
    middle = real.features.mean(axis=0, dtype=np.float64).astype(np.float32)
    found = np.zeros((DIRECTIONS, SAMPLES))
    for start in range(0, DIRECTIONS, AT_A_TIME):
        lines = directions[:, start : start + AT_A_TIME]
        values = [np.ascontiguousarray(((side.features - middle) @ lines).T) for side in (synthetic, real)]
        orders = [np.argsort(projected, axis=1, kind="stable") for projected in values]
        args = (values[0], orders[0], words[0], sizes[0], values[1], orders[1], words[1], sizes[1])
        part = found[start : start + AT_A_TIME]
        run_rows(len(part), lambda a, b, _: _move_lines(*args, part, a, b))  # noqa: B023
    squares = found.mean(axis=0)
    first, second = squares[1 : 1 + PAIRS], squares[1 + PAIRS :]
    interval = centred_interval(extrapolate(squares[0], first, second), spread_of_halves(first, second), PAIRS, low=0.0)
    details = {"biased": math.sqrt(squares[0]), "n": len(synthetic), "n_real": len(real)}
    return Interval(*(math.sqrt(end) for end in interval)), details


def find_scale(synthetic: Floats32, real: Floats32) -> Floats:
    """Return (d,) standard deviations of real features; of both sides where real ones do not vary, 1 if none does."""
    own = real.std(axis=0, dtype=np.float64)
    both = np.concatenate([synthetic, real]).std(axis=0, dtype=np.float64)
    own = np.where(own > 1e-6 * both, own, both)
    return np.where(own > 0, own, 1.0)


@njit(cache=True, nogil=True)
def _move_lines(first, orders1, words1, sizes1, second, orders2, words2, sizes2, found, start, stop):  # type: ignore[no-untyped-def]
    """Fill (lines, samples) squared Wasserstein-2 distances, of all images and of each half."""
    for line in range(start, stop):
        for sample in range(found.shape[1]):
            # two sorted lists of equal masses are moved onto each other, the smallest first
            i = j = 0
            mass1, mass2 = 1.0 / sizes1[sample], 1.0 / sizes2[sample]
            left1 = left2 = 0.0
            x = y = 0.0
            total = 0.0
            bit = np.uint64(max(sample - 1, 0))
            while True:
                while left1 <= 1e-12 and i < orders1.shape[1]:
                    place = orders1[line, i]
                    i += 1
                    if sample == 0 or (words1[place] >> bit) & np.uint64(1):
                        x, left1 = first[line, place], left1 + mass1
                while left2 <= 1e-12 and j < orders2.shape[1]:
                    place = orders2[line, j]
                    j += 1
                    if sample == 0 or (words2[place] >> bit) & np.uint64(1):
                        y, left2 = second[line, place], left2 + mass2
                moved = min(left1, left2)
                if moved <= 1e-12:
                    break
                total += moved * (x - y) ** 2
                left1 -= moved
                left2 -= moved
            found[line, sample] = total
