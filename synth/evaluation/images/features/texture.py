"""Grey-level matrices of one image and what they say: co-occurrences, runs, zones, dependences, neighbourhoods.

Definitions are those of the Image Biomarker Standardisation Initiative (IBSI reference manual, arXiv:1612.07003;
Zwanenburg et al., Radiology 2020), at distance 1; GLCM and GLRLM features are averaged over directions. Everything is
compiled: the same by generic tensor code takes a hundred times as long.
"""

# mypy: disallow-untyped-decorators=False

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Levels = NDArray[np.uint8]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COOCCURRENCE = (
    "joint_maximum", "joint_average", "joint_variance", "joint_entropy", "difference_average", "difference_variance",
    "difference_entropy", "sum_average", "sum_variance", "sum_entropy", "joint_energy", "contrast",
    "inverse_difference", "normalised_inverse_difference", "inverse_difference_moment",
    "normalised_inverse_difference_moment", "inverse_variance", "correlation", "autocorrelation", "cluster_shade",
    "cluster_prominence", "information_correlation_1", "information_correlation_2",
)  # fmt: skip
LENGTHS = (
    "short_emphasis", "long_emphasis", "low_level_emphasis", "high_level_emphasis", "short_low_level_emphasis",
    "short_high_level_emphasis", "long_low_level_emphasis", "long_high_level_emphasis", "level_non_uniformity",
    "normalised_level_non_uniformity", "length_non_uniformity", "normalised_length_non_uniformity", "percentage",
    "level_variance", "length_variance", "entropy",
)  # fmt: skip
NEIGHBOURHOOD = ("coarseness", "contrast", "busyness", "complexity", "strength")
TEXTURES = (
    *(f"glcm_{name}" for name in COOCCURRENCE),
    *(f"{matrix}_{name}" for matrix in ("glrlm", "glszm", "gldm") for name in LENGTHS),
    *(f"ngtdm_{name}" for name in NEIGHBOURHOOD),
)
_STEPS = np.array(
    [(0, 0, 1), (0, 1, -1), (0, 1, 0), (0, 1, 1)] + [(1, y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)], np.int64
)  # one of each pair of opposite directions; the first four stay within a plane


def describe_textures(levels: Levels) -> Floats:
    """Return TEXTURES of ``levels`` (z, y, x), 1 the darkest and 0 outside the mask; one plane has 2D neighbours.

    A feature that is not defined, such as a correlation where all levels are equal, has the value of its limit.
    """
    padded = np.pad(np.asarray(levels, np.uint8), 1)  # a border of zeros, so that no neighbour lies outside
    z, y, x = padded.shape
    steps = _STEPS[:4] if levels.shape[0] == 1 else _STEPS
    offsets = steps @ np.array([y * x, x, 1], np.int64)
    flat = padded.ravel()
    inside = np.flatnonzero(flat)
    if not len(inside):
        return np.zeros(len(TEXTURES))
    pairs = np.zeros(len(COOCCURRENCE))
    runs, zones, dependence = (np.zeros(len(LENGTHS)) for _ in range(3))
    tones = np.zeros(len(NEIGHBOURHOOD))
    highest = int(padded.max())
    _describe_pairs(flat, inside, offsets, highest, pairs)
    _describe_runs(flat, inside, offsets, highest, max(z, y, x), runs)
    level, size = _find_zones(flat, inside, offsets)
    sizes, column = np.unique(size, return_inverse=True)  # too many for a column each
    counts = np.bincount(level * len(sizes) + column, minlength=(highest + 1) * len(sizes))
    _add_lengths(counts.reshape(-1, len(sizes)).astype(np.float64), sizes, len(inside), zones)
    _describe_neighbours(flat, inside, offsets, highest, dependence, tones)
    return np.concatenate([pairs, runs, zones, dependence, tones])


@njit(cache=True, nogil=True)
def _describe_pairs(levels: Levels, inside: Ints, offsets: Ints, highest: int, found: Floats) -> None:
    """Fill COOCCURRENCE, averaged over the directions that have a pair."""
    directions = 0
    for offset in offsets:
        pairs = np.zeros((highest + 1, highest + 1))
        total = 0
        for place in inside:
            other = levels[place + offset]
            if other:
                pairs[levels[place], other] += 1
                total += 1
        if total:
            directions += 1
            _add_pairs((pairs + pairs.T) / (2 * total), found)
    if not directions:  # a mask of single voxels: as if all pairs were equal
        pairs = np.zeros((highest + 1, highest + 1))
        pairs[highest, highest] = 1.0
        _add_pairs(pairs, found)
    found /= max(1, directions)


@njit(cache=True, nogil=True)
def _entropy(shares: Floats) -> float:
    total = 0.0
    for share in shares:
        if share > 0:
            total -= share * math.log2(share)
    return total


@njit(cache=True, nogil=True)
def _add_pairs(share: Floats, found: Floats) -> None:
    """Add COOCCURRENCE of one symmetric matrix of shares; its row 0 is empty."""
    highest = len(share) - 1
    single, plus, minus = np.zeros(highest + 1), np.zeros(2 * highest + 1), np.zeros(highest + 1)
    energy = products = largest = 0.0
    for i in range(1, highest + 1):
        for j in range(1, highest + 1):
            p = share[i, j]
            single[i] += p
            plus[i + j] += p
            minus[abs(i - j)] += p
            energy += p * p
            products += i * j * p
            largest = max(largest, p)
    mean = variance = 0.0
    for i in range(1, highest + 1):
        mean += i * single[i]
    for i in range(1, highest + 1):
        variance += (i - mean) ** 2 * single[i]
    joint, alone = _entropy(share.ravel()), _entropy(single)
    found[0] += largest
    found[1] += mean
    found[2] += variance
    found[3] += joint
    found[6] += _entropy(minus)
    found[7] += 2 * mean
    found[9] += _entropy(plus)
    found[10] += energy
    _add_differences(minus, found)
    for k in range(2, 2 * highest + 1):
        away = k - 2 * mean
        found[8] += away**2 * plus[k]  # also called cluster tendency
        found[19] += away**3 * plus[k]
        found[20] += away**4 * plus[k]
    found[17] += (products - mean * mean) / variance if variance > 1e-12 else 1.0
    found[18] += products
    shared = max(0.0, 2 * alone - joint)  # the marginals are equal, so that HXY1 = HXY2 = 2 HX
    found[21] += -shared / alone if alone > 0 else 0.0
    found[22] += math.sqrt(1 - math.exp(-2 * shared))


@njit(cache=True, nogil=True)
def _add_differences(minus: Floats, found: Floats) -> None:
    """Add the features that depend on the difference of two levels alone."""
    highest = len(minus) - 1
    average = square = 0.0
    for k in range(highest + 1):
        p = minus[k]
        average += k * p
        square += k * k * p
        found[12] += p / (1 + k)
        found[13] += p / (1 + k / highest)
        found[14] += p / (1 + k * k)
        found[15] += p / (1 + k * k / highest**2)
        if k:
            found[16] += p / (k * k)
    found[4] += average
    found[5] += square - average * average
    found[11] += square


@njit(cache=True, nogil=True)
def _add_lengths(counts: Floats, lengths: Ints, voxels: int, found: Floats) -> None:
    """Add LENGTHS of ``counts`` (level, column), whose row 0 is empty; ``lengths`` is the length of each column."""
    rows, columns = counts.shape
    by_level, by_length = np.zeros(rows), np.zeros(columns)
    total = 0.0
    for i in range(1, rows):
        for j in range(columns):
            by_level[i] += counts[i, j]
            by_length[j] += counts[i, j]
            total += counts[i, j]
    mean_level = mean_length = 0.0
    for i in range(1, rows):
        for j in range(columns):
            if counts[i, j] > 0:
                p, length = counts[i, j] / total, float(lengths[j])
                ii, jj = float(i * i), length * length
                mean_level += i * p
                mean_length += length * p
                found[4] += p / (ii * jj)
                found[5] += p * ii / jj
                found[6] += p * jj / ii
                found[7] += p * ii * jj
                found[15] -= p * math.log2(p)
    for i in range(1, rows):
        p = by_level[i] / total
        found[2] += p / (i * i)
        found[3] += p * i * i
        found[8] += p * by_level[i]
        found[9] += p * p
        found[13] += p * (i - mean_level) ** 2
    for j in range(columns):
        if by_length[j] > 0:
            p, length = by_length[j] / total, float(lengths[j])
            found[0] += p / (length * length)
            found[1] += p * length * length
            found[10] += p * by_length[j]
            found[11] += p * p
            found[14] += p * (length - mean_length) ** 2
    found[12] += total / voxels


@njit(cache=True, nogil=True)
def _describe_runs(levels: Levels, inside: Ints, offsets: Ints, highest: int, longest: int, found: Floats) -> None:
    """Fill LENGTHS of the runs of equal levels, averaged over directions."""
    lengths = np.arange(longest + 1)
    for offset in offsets:
        counts = np.zeros((highest + 1, longest + 1))
        for place in inside:
            level = levels[place]
            if levels[place - offset] != level:
                length, end = 1, place + offset
                while levels[end] == level:
                    length += 1
                    end += offset
                counts[level, length] += 1
        _add_lengths(counts, lengths, len(inside), found)
    found /= len(offsets)


@njit(cache=True, nogil=True)
def _find_zones(levels: Levels, inside: Ints, offsets: Ints) -> tuple[Ints, Ints]:
    """Return the level and size of each zone of equal levels that touch, by sides or corners."""
    seen = np.zeros(len(levels), np.bool_)
    waiting = np.empty(len(inside), np.int64)
    level, size = np.empty(len(inside), np.int64), np.empty(len(inside), np.int64)
    zones = 0
    for start in inside:
        if seen[start]:
            continue
        waiting[0], seen[start] = start, True
        left, voxels = 1, 0
        while left:
            left -= 1
            voxels += 1
            place = waiting[left]
            for step in offsets:
                for other in (place + step, place - step):
                    if levels[other] == levels[start] and not seen[other]:
                        seen[other] = True
                        waiting[left] = other
                        left += 1
        level[zones], size[zones] = levels[start], voxels
        zones += 1
    return level[:zones], size[:zones]


@njit(cache=True, nogil=True)
def _describe_neighbours(
    levels: Levels, inside: Ints, offsets: Ints, highest: int, dependence: Floats, tone: Floats
) -> None:
    """Fill LENGTHS of how many neighbours share a voxel's level (itself counts), and NEIGHBOURHOOD."""
    counts = np.zeros((highest + 1, 2 * len(offsets) + 2))
    number, difference = np.zeros(highest + 1), np.zeros(highest + 1)
    for place in inside:
        level = levels[place]
        equal, beside, total = 1, 0, 0
        for step in offsets:
            for other in (levels[place + step], levels[place - step]):
                equal += other == level
                beside += other > 0
                total += other
        counts[level, equal] += 1
        if beside:
            number[level] += 1
            difference[level] += abs(level - total / beside)
    _add_lengths(counts, np.arange(counts.shape[1]), len(inside), dependence)
    _add_tones(number, difference, tone)


@njit(cache=True, nogil=True)
def _add_tones(number: Floats, difference: Floats, found: Floats) -> None:
    """Add NEIGHBOURHOOD from how often each level occurs and how far its neighbours' mean is from it in sum."""
    total = sum_difference = weighted = 0.0
    for i in range(len(number)):
        total += number[i]
        sum_difference += difference[i]
        weighted += number[i] * difference[i]
    found[0] += total / weighted if weighted > 1e-6 * total else 1e6  # the value that IBSI sets
    spread = busy = strong = 0.0
    levels = 0
    for i in range(len(number)):
        levels += number[i] > 0
        for j in range(len(number)):
            if number[i] > 0 and number[j] > 0:
                p, q, apart = number[i] / total, number[j] / total, float(abs(i - j))
                spread += p * q * apart * apart
                busy += abs(i * p - j * q)
                strong += (p + q) * apart * apart
                found[3] += apart * (p * difference[i] + q * difference[j]) / ((p + q) * total)
    if levels > 1:
        found[1] += spread / (levels * (levels - 1)) * sum_difference / total
    found[2] += weighted / (total * busy) if busy > 0 else 0.0
    found[4] += strong / sum_difference if sum_difference > 0 else 0.0
