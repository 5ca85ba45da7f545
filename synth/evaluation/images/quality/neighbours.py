"""Exact nearest neighbours among feature vectors, found by approximate products and settled by exact distances."""

from __future__ import annotations

from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from synth.evaluation.images.layout import Floats32, NotComparableError
from synth.evaluation.images.quality.screening import (
    CHUNK,
    SQUARE,
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
    """Return (n, k) indices and Euclidean distances of the ``k`` vectors closest to each query, the closest first.

    ``queries`` is (n, d) and ``among`` (m, d). ``exclude_same_patient`` has the patient of each query and of each
    vector among: equal ones are no neighbours (to leave out only the vector itself, number the rows). Distances are
    exact: differences squared and summed in float64, rounded to float32; of equal ones the lower index comes first.
    Where there are fewer than ``k``, indices are -1 and distances infinite. ``screens`` may be given if they are known.
    Memory is n k + m k and the vectors themselves.
    Raises NotComparableError for vectors of two lengths.
    """
    if queries.ndim != 2 or among.ndim != 2 or queries.shape[1] != among.shape[1]:
        raise NotComparableError(f"vectors of shape {queries.shape} among {among.shape}; give (n, d) and (m, d).")
    n, m = len(queries), len(among)
    sides = [np.ascontiguousarray(side, np.float32) for side in ((among,) if queries is among else (among, queries))]
    sides, unit = (sides, np.float32(1)) if screens else share_unit(*sides)
    among, queries = sides[0], sides[-1]
    own, others = exclude_same_patient or (np.full(n, -1), np.full(m, -2))
    indices, squares = np.full((n, k), -1, np.int64), np.full((n, k), np.inf)
    if not n or not m or not k:
        return indices, squares.astype(np.float32)
    first, second = screens or _make_screens(queries, among, precision)
    error = np.float32(bound_error(first, second))
    state = _start_state(indices, squares)
    locks = {start: Lock() for start in range(0, n, SQUARE)}  # a block of queries is worked on by one thread at a time

    def collect(rows: slice, columns: slice, products: Products, _: int) -> None:
        here = Block(*products, first.halves[rows], second.halves[columns], own[rows], others[columns], columns.start)
        with locks[rows.start]:
            _collect_rows(here, queries[rows], among, State._make(item[rows] for item in state), error)
        if first is second and rows != columns:
            with locks[columns.start]:
                part = State._make(item[columns] for item in state)
                _collect_columns(here._replace(begin=rows.start), among[columns], among, part, error)

    run_blocks(first, second, collect)
    run_rows(n, lambda a, b, _: _settle_rows(queries, among, state, a, b))
    return indices, np.sqrt(squares.astype(np.float32)) * unit


class State(NamedTuple):
    """What is known of the closest of each query; squared distances are halved.

    ``bounds`` are the smallest upper bounds, ``limits`` what a lower bound must not exceed; of the first ``counts``
    candidates ``places`` and lower bounds ``lows`` are noted. ``indices`` and ``squares`` are exact, the closest first.
    """

    bounds: Floats32
    limits: Floats32
    counts: Ints
    places: Ints
    lows: Floats32
    indices: Ints
    squares: Floats


class Block(NamedTuple):
    """A block of products, with half the squared lengths and the patients of both sides, and where it begins among."""

    bits: NDArray[Any]
    shift: np.int32
    rows: Floats32
    columns: Floats32
    own: Ints
    others: Ints
    begin: int


def _start_state(indices: Ints, squares: Floats) -> State:
    n, k = indices.shape
    width = 4 * k + 64
    endless = np.full((n, k), np.inf, np.float32)
    places, lows = np.empty((n, width), np.int64), np.empty((n, width), np.float32)
    return State(endless, endless[:, -1].copy(), np.zeros(n, np.int64), places, lows, indices, squares)


def _make_screens(queries: Floats32, among: Floats32, precision: torch.dtype | None) -> tuple[Screen, Screen]:
    kind, middle = precision or choose_precision(), find_middle(among)
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
def _collect_rows(here, queries, among, state, error):  # type: ignore[no-untyped-def]
    """Note the columns of a block that may be among the closest of its rows."""
    less, more = np.float32(1) - error, np.float32(1) + error
    low_columns = here.columns * less
    for row in range(here.bits.shape[0]):
        values = here.bits[row]
        low_row, high_row = here.rows[row] * less, here.rows[row] * more
        for first in range(0, values.size, CHUNK):
            if not any_reaches(values, here.shift, low_columns, first, low_row - state.limits[row]):
                continue
            for j in range(first, min(first + CHUNK, values.size)):
                product = read_product(values, here.shift, j)
                low = low_row + low_columns[j] - product
                if low <= state.limits[row] and here.own[row] != here.others[j]:
                    high = high_row + here.columns[j] * more - product
                    _note(queries, among, state, row, here.begin + j, low, high)


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "contract"})
def _collect_columns(here, queries, among, state, error):  # type: ignore[no-untyped-def]
    """Note the rows of a block that may be among the closest of its columns."""
    less, more = np.float32(1) - error, np.float32(1) + error
    low_columns = here.columns * less
    edges = low_columns - state.limits
    for row in range(here.bits.shape[0]):
        values = here.bits[row]
        low_row, high_row = here.rows[row] * less, here.rows[row] * more
        for first in range(0, values.size, CHUNK):
            if not any_reaches(values, here.shift, edges, first, low_row):
                continue
            for j in range(first, min(first + CHUNK, values.size)):
                product = read_product(values, here.shift, j)
                low = low_row + low_columns[j] - product
                if low <= state.limits[j] and here.own[row] != here.others[j]:
                    high = high_row + here.columns[j] * more - product
                    _note(queries, among, state, j, here.begin + row, low, high)
                    edges[j] = low_columns[j] - state.limits[j]


@njit(nogil=True)
def _note(queries, among, state, row, place, low, high):  # type: ignore[no-untyped-def]
    """Keep a candidate of a query; ``low`` and ``high`` bound its distance."""
    if state.counts[row] == state.places.shape[1]:
        _make_room(queries, among, state, row)
    number = state.counts[row]
    state.places[row, number], state.lows[row, number] = place, low
    state.counts[row] = number + 1
    bounds = state.bounds[row]
    high = max(high, np.float32(0))
    if high < bounds[-1]:
        at = bounds.size - 1
        while at > 0 and bounds[at - 1] > high:
            bounds[at] = bounds[at - 1]
            at -= 1
        bounds[at] = high
        state.limits[row] = min(state.limits[row], bounds[-1])


@njit(nogil=True)
def _make_room(queries, among, state, row):  # type: ignore[no-untyped-def]
    """Drop what is out of reach by now; if that is little, settle all of it."""
    kept = 0
    for number in range(state.counts[row]):
        if state.lows[row, number] <= state.limits[row]:
            state.places[row, kept], state.lows[row, kept] = state.places[row, number], state.lows[row, number]
            kept += 1
    state.counts[row] = kept
    if 2 * kept > state.places.shape[1]:
        _settle(queries, among, state, row)


@njit(cache=True, nogil=True)
def _settle_rows(queries, among, state, start, stop):  # type: ignore[no-untyped-def]
    for row in range(start, stop):
        _settle(queries, among, state, row)


@njit(nogil=True)
def _settle(queries, among, state, row):  # type: ignore[no-untyped-def]
    """Measure the candidates of a query exactly, the likeliest first, keep the closest, and forget the rest."""
    squares, indices = state.squares[row], state.indices[row]
    k = squares.size
    for number in np.argsort(state.lows[row, : state.counts[row]]):
        if state.lows[row, number] > state.limits[row]:
            break
        j = state.places[row, number]
        square = squared_distance(queries[row], among[j])
        place = k
        while place > 0 and (squares[place - 1] > square or (squares[place - 1] == square and indices[place - 1] > j)):
            place -= 1
        if place == k:
            continue
        for other in range(k - 1, place, -1):
            squares[other], indices[other] = squares[other - 1], indices[other - 1]
        squares[place], indices[place] = square, j
        state.limits[row] = min(state.limits[row], np.float32(squares[k - 1] * 0.5000001))
    state.counts[row] = 0
