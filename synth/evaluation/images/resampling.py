"""Intervals from halves: every statistic is computed on random halves of the patients and on what each half leaves.

A bootstrap sample repeats patients, and repeated images have distance 0 from each other: kernel distances,
neighbourhoods and covariances of it are biased. A half repeats nobody. For n patients and signs e = +-1 (in the half or
not) a smooth statistic is T(e) = T + L(e) + Q(e), L odd and Q even in e, so that half the difference of a half and its
complement is L and their mean is T + Q. Over random e, var L is the variance of T from n patients, and
2 var Q in excess; the even part alone has the variance of the statistic where L vanishes (equal distributions):

    var T = max(var L - var Q, var Q),    bias of T = E Q    (so 2 T - mean of halves extrapolates to endless samples)

Halves and repeated halves: McCarthy, Review of the International Statistical Institute 1969; resampling without
replacement as an exchangeable bootstrap: Praestgaard and Wellner, Annals of Probability 1993.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from synth.evaluation.ranks import Floats, Interval, Ints

PAIRS = 32  # halves, each with its complement: one bit each of a 64-bit word
Words = NDArray[np.uint64]


def number_patients(patient: Ints) -> tuple[Ints, int]:
    """Return the patients numbered from 0 without gaps, and how many there are."""
    names, codes = np.unique(patient, return_inverse=True)
    return codes.reshape(-1).astype(np.int64), len(names)


def draw_halves(patient: Ints, rng: np.random.Generator, pairs: int = PAIRS) -> NDArray[np.bool_]:
    """Return (pairs, n): whether each image is in the half; whole patients are, half of them in each."""
    codes, patients = number_patients(patient)
    inside = np.zeros((pairs, patients), bool)
    for row in inside:
        row[rng.permutation(patients)[: patients // 2]] = True
    return np.asarray(inside[:, codes])


def pack_halves(halves: NDArray[np.bool_]) -> Words:
    """Return a word an image: bit b says it is in half b, bit 32 + b that it is in the complement of half b."""
    found = np.zeros(halves.shape[1], np.uint64)
    for bit, half in enumerate(halves):
        found |= half.astype(np.uint64) << np.uint64(bit)
        found |= (~half).astype(np.uint64) << np.uint64(bit + PAIRS)
    return found


def spread_of_halves(first: Floats, second: Floats) -> float:
    """Return the standard error of a statistic whose values on halves and on their complements are given."""
    odd, even = (first - second) / 2, (first + second) / 2
    linear, quadratic = float(np.mean(odd**2)), float(np.var(even, ddof=1))
    return math.sqrt(max(linear - quadratic, quadratic))


def spread_of_rough(first: Floats, second: Floats) -> float:
    """Return the same for a statistic that is not smooth (neighbourhoods, entropies): nothing is taken off.

    That the excess of the odd part is var Q is proven for smooth ones only; taking it off left intervals too short.
    """
    odd, even = (first - second) / 2, (first + second) / 2
    return math.sqrt(max(float(np.mean(odd**2)), float(np.var(even, ddof=1))))


def extrapolate(value: float, first: Floats, second: Floats) -> float:
    """Return the value at endless samples if its bias falls like 1 / n: twice the value minus the mean of halves."""
    return 2 * value - float(np.mean(first) + np.mean(second)) / 2


def centred_interval(value: float, error: float, pairs: int, low: float = -math.inf) -> Interval:
    """Return value +- t * error with as many degrees of freedom as pairs of halves; both ends are at least ``low``."""
    reach = float(stats.t.ppf(0.975, pairs)) * error
    return Interval(max(value, low), max(value - reach, low), max(value + reach, low))


def share_interval(value: float, error: float, patients: int) -> Interval:
    """Return the interval of a share from 0 to 1: Wilson's, with the number of patients that gives the same error.

    That number is between 1 and ``patients``; a share of 0 or 1 thus has an interval too (Wilson, JASA 1927).
    """
    number = float(patients)
    if error > 0 and 0 < value < 1:
        number = min(number, max(1.0, value * (1 - value) / error**2))
    z = float(stats.norm.ppf(0.975))
    middle = (value + z * z / (2 * number)) / (1 + z * z / number)
    reach = z / (1 + z * z / number) * math.sqrt(value * (1 - value) / number + z * z / (4 * number**2))
    return Interval(value, min(max(middle - reach, 0.0), value), max(min(middle + reach, 1.0), value))
