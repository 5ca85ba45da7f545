"""Precision, recall, density and coverage: which images lie in whose neighbourhood, counted without storing pairs.

The ball of an image reaches to its k-th nearest neighbour on its own side. All pairs of a real and a synthetic image
are looked at once, for the scores and for all halves of the patients together: halves are bits of 64-bit words.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from synth.evaluation.images.layout import Floats32, NotComparableError
from synth.evaluation.images.quality.neighbours import nearest_neighbours, squared_distance
from synth.evaluation.images.quality.screening import (
    CHUNK,
    UNIT,
    Products,
    Screen,
    any_reaches,
    bound_error,
    choose_precision,
    find_middle,
    make_screen,
    read_product,
    run_blocks,
    run_rows,
    share_unit,
)
from synth.evaluation.images.resampling import PAIRS, Words
from synth.evaluation.ranks import Floats, Ints

K = 5
LISTED = 24  # neighbours known of each image: a half keeps fewer than 5 of them once in 1,000 times
BITS = 2 * PAIRS
BITS_OF_WORD = np.arange(BITS, dtype=np.uint64)


class Prdc(NamedTuple):
    """The four scores; numbers, or arrays with one of each half."""

    precision: Floats
    recall: Floats
    density: Floats
    coverage: Floats


class Balls(NamedTuple):
    """The images of one side and their balls; squared distances are halved.

    ``radius`` (n,) is the distance of the k-th neighbour and ``reach`` what a ball spans in any half. For halves:
    ``words`` (n,) has those the image is in, ``listed`` (n, LISTED) the distances of neighbours, closest first, and
    ``masks`` (n, LISTED) the halves in which it has a ball that reaches beyond so many of them; else of length 0.
    """

    features: Floats32
    halves: Floats32
    radius: Floats32
    reach: Floats32
    words: Words
    listed: Floats32
    masks: Words

    def cut(self, part: slice) -> Balls:
        """Return some images."""
        return Balls._make(item[part] for item in self)


class Tally(NamedTuple):
    """Which images lie where; words say in which halves they do.

    ``holders`` (synthetic,) counts the real balls that hold an image; ``covered`` (real,) says if the ball of an image
    holds a synthetic one, ``recalled`` (real,) if an image lies in a synthetic ball. ``pairs`` (64,) counts, by half,
    the synthetic images in real balls.
    """

    holders: Ints
    holders_words: Words
    covered: NDArray[np.bool_]
    recalled: NDArray[np.bool_]
    covered_words: Words
    recalled_words: Words
    pairs: Ints


def compute_prdc(synthetic: Floats32, real: Floats32, k: int = K, precision: torch.dtype | None = None) -> Prdc:
    """Return precision, recall, density and coverage of (n, d) synthetic against (m, d) real features.

    Definitions and results are those of the package ``prdc`` (Naeem et al., ICML 2020; precision and recall:
    Kynkaanniemi et al., NeurIPS 2019): distances are rounded to float32, and an image lies in a ball if it is closer
    than the radius. Raises NotComparableError if a side has no more than ``k`` images.
    """
    return compare_neighbourhoods(synthetic, real, None, k, precision)[0]


def compare_neighbourhoods(
    synthetic: Floats32,
    real: Floats32,
    words: tuple[Words, Words] | None,
    k: int = K,
    precision: torch.dtype | None = None,
) -> tuple[Prdc, Prdc]:
    """Return the scores of all images, and of the 64 halves that ``words`` (synthetic, real) packs: see pack_halves."""
    if min(len(synthetic), len(real)) <= k:
        raise NotComparableError(f"{len(synthetic)} synthetic and {len(real)} real images; more than {k} are needed.")
    (synthetic, real), _ = share_unit(*(np.ascontiguousarray(side, np.float32) for side in (synthetic, real)))
    kind = precision or choose_precision()
    middle = find_middle(real)
    screens = [make_screen(side, middle, kind) for side in (real, synthetic)]
    members = words or (np.empty(0, np.uint64), np.empty(0, np.uint64))
    balls = [find_balls(side, screen, member, k)
             for side, screen, member in zip((real, synthetic), screens, members[::-1], strict=True)]  # fmt: skip
    tally = _count_pairs(screens[0], screens[1], balls[0], balls[1])
    whole = Prdc((tally.holders > 0).mean(), tally.recalled.mean(), tally.holders.mean() / k, tally.covered.mean())
    if words is None:
        return whole, whole
    made, known = (np.maximum(count_bits(word), 1) for word in members)
    return whole, Prdc(
        count_bits(tally.holders_words & members[0]) / made, count_bits(tally.recalled_words & members[1]) / known,
        tally.pairs / (k * made), count_bits(tally.covered_words) / known,
    )  # fmt: skip


def count_bits(words: Words) -> Floats:
    """Return (64,): how many of the words have each bit."""
    return np.array([np.count_nonzero(words & (np.uint64(1) << bit)) for bit in BITS_OF_WORD], np.float64)


def find_balls(features: Floats32, screen: Screen, words: Words, k: int) -> Balls:
    """Return the balls of one side; ``words`` may be empty."""
    n = len(features)
    numbers = np.arange(n)
    known = min(LISTED, n - 1) if len(words) else k
    indices, distances = nearest_neighbours(features, features, known, exclude_same_patient=(numbers, numbers),
                                            screens=(screen, screen))  # fmt: skip
    halved = distances.astype(np.float64) ** 2 / 2
    reach = (halved[:, -1] * (1 + 4 * UNIT)).astype(np.float32)
    listed, masks = np.empty((n, 0), np.float32), np.empty((n, 0), np.uint64)
    if len(words):
        listed, masks = halved.astype(np.float32), np.zeros((n, known), np.uint64)
        run_rows(n, lambda start, stop, _: _mark_reach(indices, words, k, masks, start, stop))
    return Balls(features, screen.halves, distances[:, k - 1].copy(), reach, words, listed, masks)


def _count_pairs(real: Screen, synthetic: Screen, real_balls: Balls, synthetic_balls: Balls) -> Tally:
    """Return the tally over all pairs; each thread has its own until the end."""
    threads, error = torch.get_num_threads(), np.float32(bound_error(real, synthetic))
    tallies = [start_tally(len(real), len(synthetic), len(real_balls.words) > 0) for _ in range(threads)]

    def count(rows: slice, columns: slice, products: Products, thread: int) -> None:
        whole = tallies[thread]
        part = Tally._make([*(item[columns] for item in whole[:2]), *(item[rows] for item in whole[2:6]), whole.pairs])
        _count_block(*products, error, real_balls.cut(rows), synthetic_balls.cut(columns), part)

    run_blocks(real, synthetic, count)
    return Tally._make(
        np.add.reduce(parts) if parts[0].dtype == np.int64 else np.bitwise_or.reduce(parts)
        for parts in zip(*tallies, strict=True)
    )


def start_tally(real: int, synthetic: int, halves: bool) -> Tally:
    """Return a tally of nothing."""
    return Tally(
        np.zeros(synthetic, np.int64), np.zeros(synthetic * halves, np.uint64),
        np.zeros(real, bool), np.zeros(real, bool), np.zeros(real * halves, np.uint64),
        np.zeros(real * halves, np.uint64), np.zeros(BITS, np.int64),
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _mark_reach(indices, words, k, masks, start, stop):  # type: ignore[no-untyped-def]
    """Fill the masks: bit b of (image, q) is set if the k-th neighbour that half b keeps is not among the first q."""
    one = np.uint64(1)
    for row in range(start, stop):
        for bit in range(BITS):
            half = one << np.uint64(bit)
            if not words[row] & half:
                continue
            found = 0
            for place in range(indices.shape[1]):
                masks[row, place] |= half
                if words[indices[row, place]] & half:
                    found += 1
                    if found == k:
                        break


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "contract"})
def _count_block(bits, shift, error, real, synthetic, tally):  # type: ignore[no-untyped-def]
    """Tally the pairs of a block of products that may lie within reach of either image."""
    less, more = np.float32(1) - error, np.float32(1) + error
    low_columns = synthetic.halves * less
    far_columns = low_columns - synthetic.reach
    for row in range(bits.shape[0]):
        values = bits[row]
        low_row, high_row, reach = real.halves[row] * less, real.halves[row] * more, real.reach[row]
        for first in range(0, values.size, CHUNK):
            if not any_reaches(values, shift, low_columns, first, low_row - reach) and not any_reaches(
                values, shift, far_columns, first, low_row
            ):
                continue
            for j in range(first, min(first + CHUNK, values.size)):
                product = read_product(values, shift, j)
                low = low_row + low_columns[j] - product
                if low <= reach or low <= synthetic.reach[j]:
                    high = high_row + synthetic.halves[j] * more - product
                    _tally_pair(real, synthetic, tally, row, j, max(low, np.float32(0)), max(high, np.float32(0)))


@njit(inline="always")
def _tally_pair(real, synthetic, tally, row, j, low, high):  # type: ignore[no-untyped-def]
    """Tally one pair whose halved squared distance is within ``low`` and ``high``; measure it only if that decides."""
    distance = np.float32(-1)
    half = (low + high) * np.float32(0.5)
    inside = high < _shrink(real.radius[row])
    if not inside and low <= _stretch(real.radius[row]):
        distance = np.sqrt(np.float32(squared_distance(real.features[row], synthetic.features[j])))
        inside = distance < real.radius[row]
    if inside:
        tally.holders[j] += 1
        tally.covered[row] = True
    if not tally.recalled[row] and low <= _stretch(synthetic.radius[j]):
        if high >= _shrink(synthetic.radius[j]) and distance < 0:
            distance = np.sqrt(np.float32(squared_distance(real.features[row], synthetic.features[j])))
        tally.recalled[row] = high < _shrink(synthetic.radius[j]) or distance < synthetic.radius[j]
    if real.words.size:
        if distance >= 0:
            half = distance * distance * np.float32(0.5)
        _tally_halves(real, synthetic, tally, row, j, half)


@njit(inline="always")
def _tally_halves(real, synthetic, tally, row, j, half):  # type: ignore[no-untyped-def]
    """Tally one pair in all halves at once."""
    place = _count_closer(real.listed[row], half)
    if place < real.listed.shape[1]:
        word = real.masks[row, place]
        tally.holders_words[j] |= word
        word &= synthetic.words[j]
        tally.covered_words[row] |= word
        for bit in range(BITS):
            tally.pairs[bit] += np.int64((word >> np.uint64(bit)) & np.uint64(1))
    place = _count_closer(synthetic.listed[j], half)
    if place < synthetic.listed.shape[1]:
        tally.recalled_words[row] |= synthetic.masks[j, place]


@njit(inline="always")
def _count_closer(listed, half):  # type: ignore[no-untyped-def]
    """Return how many of the sorted distances are no larger."""
    place = 0
    while place < listed.size and listed[place] <= half:
        place += 1
    return place


@njit(inline="always")
def _shrink(radius):  # type: ignore[no-untyped-def]
    """Return half the square below which any distance is smaller than the radius, rounding included."""
    return radius * radius * np.float32(0.5 * (1 - 4 * UNIT))


@njit(inline="always")
def _stretch(radius):  # type: ignore[no-untyped-def]
    """Return half the square above which none is."""
    return radius * radius * np.float32(0.5 * (1 + 4 * UNIT))
