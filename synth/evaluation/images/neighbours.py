"""Exact nearest neighbours among feature vectors, found by approximate products and settled by exact distances."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit

from synth.evaluation.images.layout import Floats32, NotComparableError
from synth.evaluation.images.screening import (
    CHUNK,
    Screen,
    bound_error,
    choose_precision,
    find_middle,
    make_screen,
    product_blocks,
    run_rows,
)
from synth.evaluation.ranks import Floats, Ints



def nearest_neighbours(
    queries: Floats32,
    among: Floats32,
    k: int,
    *,
    exclude_same_patient: tuple[Ints, Ints] | None = None,
    precision: torch.dtype | None = None,
    screens: tuple[Screen, Screen] | None = None,
) -> tuple[Ints, Floats32]:
    """Return (n, k) indices and Euclidean distances of the ``k`` vectors ``among`` closest to each query, closest first.

    ``queries`` is (n, d) and ``among`` (m, d). ``exclude_same_patient`` has the patient of each query and of each vector
    among: equal ones are no neighbours (to leave out only the vector itself, number the rows). Distances are exact:
    differences squared and summed in float64, rounded to float32; of equal ones the lower index comes first. Where there
    are fewer than ``k``, indices are -1 and distances infinite. ``screens`` may be given if they are known. Memory is n k + m k and the vectors themselves.
    Raises NotComparableError for vectors of two lengths.
    """
    if queries.ndim != 2 or among.ndim != 2 or queries.shape[1] != among.shape[1]:
        raise NotComparableError(f"vectors of shape {queries.shape} among {among.shape}; give (n, d) and (m, d).")
    queries, among = (np.ascontiguousarray(side, np.float32) for side in (queries, among))
    n, m = len(queries), len(among)
    own, others = exclude_same_patient or (np.full(n, -1), np.full(m, -2))
    indices, squares = np.full((n, k), -1, np.int64), np.full((n, k), np.inf)
    if not n or not m or not k:
        return indices, squares.astype(np.float32)
    first, second = screens or _make_screens(queries, among, precision)
    error = np.float32(bound_error(first, second))
    width = 4 * k + 64
    for rows, columns, products in product_blocks(first, second):
        count = rows.stop - rows.start
        if columns.start == 0:
            state = (np.full((count, k), np.inf, np.float32), np.full(count, np.inf, np.float32),
                     np.zeros(count, np.int64), np.empty((count, width), np.int64),
                     np.empty((count, width), np.float32), indices[rows], squares[rows])  # fmt: skip
        sides = (first.halves[rows], second.halves[columns], own[rows], others[columns], queries[rows], among)
        begin = columns.start
        run_rows(count, lambda a, b, _: _collect(products, begin, error, *sides, *state, a, b))  # noqa: B023
        if columns.stop == m:
            run_rows(count, lambda a, b, _: _settle(queries[rows], among, *state, a, b))  # noqa: B023
    return indices, np.sqrt(squares.astype(np.float32))


def _make_screens(queries: Floats32, among: Floats32, precision: torch.dtype | None) -> tuple[Screen, Screen]:
    kind, middle = precision or choose_precision(among.shape[1]), find_middle(among)
    second = make_screen(among, middle, kind)
    return (second if queries is among else make_screen(queries, middle, kind)), second


@njit(inline="always", fastmath={"reassoc", "contract"})
def squared_distance(first, second):  # type: ignore[no-untyped-def]
    """Return |first - second|^2 in float64."""
    total = 0.0
    for place in range(first.size):
        difference = np.float64(first[place]) - np.float64(second[place])
        total += difference * difference
    return total


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "contract"})
def _collect(  # type: ignore[no-untyped-def]
    products, begin, error, row_halves, column_halves, own, others, queries, among,
    bounds, limits, counts, places, lows, indices, squares, start, stop,
):  # fmt: skip
    """Note the columns that may be among the closest of rows start to stop; all squared distances are halved.

    ``bounds`` are the smallest upper bounds of each row, ``limits`` what a lower bound must not exceed.
    """
    k = bounds.shape[1]
    less, more = np.float32(1) - error, np.float32(1) + error
    low_columns = column_halves * less
    for row in range(start, stop):
        values = products[row]
        low_row, high_row = row_halves[row] * less, row_halves[row] * more
        for first in range(0, values.size, CHUNK):
            last = min(first + CHUNK, values.size)
            top = np.float32(-np.inf)
            for j in range(first, last):
                top = max(top, values[j] - low_columns[j])
            if top < low_row - limits[row]:
                continue
            for j in range(first, last):
                low = low_row + low_columns[j] - values[j]
                if low > limits[row] or own[row] == others[j]:
                    continue
                if counts[row] == places.shape[1]:
                    _make_room(row, queries, among, bounds, limits, counts, places, lows, indices, squares)
                places[row, counts[row]], lows[row, counts[row]] = begin + j, low
                counts[row] += 1
                high = max(high_row + column_halves[j] * more - values[j], np.float32(0))
                if high < bounds[row, k - 1]:
                    _insert(bounds[row], high)
                    limits[row] = min(limits[row], bounds[row, k - 1])


@njit(inline="always")
def _insert(values, value):  # type: ignore[no-untyped-def]
    """Put a value into a sorted list, whose largest drops out."""
    place = values.size - 1
    while place > 0 and values[place - 1] > value:
        values[place] = values[place - 1]
        place -= 1
    values[place] = value


@njit(cache=True, nogil=True)
def _make_room(row, queries, among, bounds, limits, counts, places, lows, indices, squares):  # type: ignore[no-untyped-def]
    """Drop what is out of reach by now; if that is little, settle all of it."""
    kept = 0
    for place in range(counts[row]):
        if lows[row, place] <= limits[row]:
            places[row, kept], lows[row, kept] = places[row, place], lows[row, place]
            kept += 1
    counts[row] = kept
    if 2 * kept > places.shape[1]:
        _settle(queries, among, bounds, limits, counts, places, lows, indices, squares, row, row + 1)


@njit(cache=True, nogil=True)
def _settle(queries, among, bounds, limits, counts, places, lows, indices, squares, start, stop):  # type: ignore[no-untyped-def]
    """Measure what was noted exactly, the likeliest first, keep the closest, and forget the rest."""
    k = squares.shape[1]
    for row in range(start, stop):
        for number in np.argsort(lows[row, : counts[row]]):
            if lows[row, number] > limits[row]:
                break
            j = places[row, number]
            square = squared_distance(queries[row], among[j])
            place = k
            while place > 0 and (
                squares[row, place - 1] > square or (squares[row, place - 1] == square and indices[row, place - 1] > j)
            ):
                place -= 1
            if place == k:
                continue
            squares[row, place + 1 :] = squares[row, place : k - 1].copy()
            indices[row, place + 1 :] = indices[row, place : k - 1].copy()
            squares[row, place], indices[row, place] = square, j
            limits[row] = min(limits[row], np.float32(squares[row, k - 1] * 0.5000001))
        if squares[row, k - 1] == 0:
            limits[row] = -np.inf  # nothing can be closer, and what comes has higher indices
        counts[row] = 0
