"""What the private family measures: tables of counts over declared domains, and the noise that pays for one patient.

Neighbouring record tables differ by one patient with all of that patient's rows, added or removed. A patient adds at
most ``rows`` to the cells of each of M tables; the worst case is ``rows`` in one cell of each, so the vector of all
counts changes by at most ``rows * sqrt(M)`` in the L2 norm. Discrete Gaussian noise on it is zero-concentrated
differentially private (Canonne, Kamath & Steinke 2020, NeurIPS 33), and rounds whose tables depend on the noisy results
of earlier rounds add up (Bun & Steinke 2016, TCC, lemma 2.3).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.errors import PopulationError

Codes = NDArray[np.int64]
Counts = NDArray[np.float64]
MAX_EPSILON = 100.0


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of one table of counts and how many codes each has."""

    columns: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def cells(self) -> int:
        """The number of cells."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Release:
    """Tables of counts with noise of one standard deviation; ``rho`` is what they cost one patient."""

    counts: Mapping[tuple[str, ...], Counts]
    noise: float
    rho: float


def count_tables(codes: Mapping[str, Codes], tables: Sequence[Table]) -> NDArray[np.int64]:
    """Return the exact counts of all tables, one after the other. They never leave the process without noise."""
    parts = [
        np.bincount(np.ravel_multi_index([codes[name] for name in table.columns], table.shape), minlength=table.cells)
        for table in tables
    ]
    return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, dtype=np.int64)


def bound_change(tables: Sequence[Table], rows: int) -> float:
    """Return the most that one patient with at most ``rows`` rows changes the counts, in the L2 norm."""
    return rows * math.sqrt(len(tables))


def release_tables(codes: Mapping[str, Codes], tables: Sequence[Table], rows: int, rho: float) -> Release:
    """Return the counts of all tables with discrete Gaussian noise that costs a patient at most ``rho``.

    ``codes`` holds at most ``rows`` rows of each patient. The noise is drawn by OpenDP from the operating system.
    """
    if not tables:
        return Release({}, 0.0, 0.0)
    change = bound_change(tables, rows)
    scale = change / math.sqrt(2 * rho)
    while (mechanism := _make_gaussian(scale)).map(change) > rho:  # OpenDP rounds against us
        scale *= 1 + 1e-12
    noisy = np.array(mechanism(count_tables(codes, tables).tolist()), dtype=np.float64)
    ends = np.cumsum([table.cells for table in tables])[:-1]
    cut = zip(tables, np.split(noisy, ends), strict=True)
    counts = {table.columns: part.reshape(table.shape) for table, part in cut}
    return Release(counts, scale, float(mechanism.map(change)))


@functools.cache
def find_rho(epsilon: float, delta: float) -> float:
    """Return the largest rho whose conversion is within (``epsilon``, ``delta``); raises PopulationError."""
    if not 0 < epsilon <= MAX_EPSILON:
        raise PopulationError(f"epsilon is {epsilon:g}; give a number above 0, at most {MAX_EPSILON:g}.")
    if not 0 < delta <= 1e-3:
        raise PopulationError(
            f"delta is {delta:g}; give a number above 0, at most 0.001, and far below one over the number of patients."
        )
    low, high = 0.0, epsilon + 1.0  # rho-zCDP of rho > epsilon + 1 is beyond epsilon at any such delta
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if find_epsilon(middle, delta) <= epsilon else (low, middle)
    if low == 0.0:
        raise PopulationError(
            f"epsilon {epsilon:g} with delta {delta:g} is too small to measure anything; raise either."
        )
    return low


@functools.cache
def find_epsilon(rho: float, delta: float) -> float:
    """Return the epsilon of ``rho`` at ``delta``, as OpenDP converts zCDP to approximate differential privacy."""
    dp = _load_opendp()
    unit = dp.c.make_fix_delta(dp.c.make_zCDP_to_approxDP(_make_gaussian(1.0)), delta)
    distance = math.sqrt(2 * rho)
    while _make_gaussian(1.0).map(distance) < rho:  # a square root rounded down
        distance = math.nextafter(distance, math.inf)
    return float(unit.map(distance)[0])


def choose_rows(place: Codes, total: Codes, most: int) -> NDArray[np.bool_]:
    """Return which of a patient's ``total`` rows, numbered from 0 by ``place``, are counted: ``most``, evenly spread.

    Nothing but the patient's own number of rows decides, so no other patient changes the choice.
    """
    span = np.maximum(total, 1)
    chosen: NDArray[np.bool_] = ((place + 1) * most // span > place * most // span) | (total <= most)
    return chosen


def describe_accountant() -> str:
    """Return who did the accounting, with the version."""
    return f"opendp {_load_opendp().__version__}: discrete Gaussian in zCDP, converted at a fixed delta"


@functools.cache
def _load_opendp() -> Any:
    import opendp.prelude as dp  # here, because it takes a second that only this family needs

    dp.enable_features("contrib")
    return dp


def _make_gaussian(scale: float) -> Any:
    dp = _load_opendp()
    return dp.m.make_gaussian(dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T=float), scale)
