"""Restricting and raking a table of sex x diagnosis, and rounding it to whole subjects. Pure functions.

Raking (iterative proportional fitting): Deming & Stephan 1940, Ann Math Stat 11:427; of all tables with the wanted
margins it gives the one nearest to the source (least Kullback-Leibler divergence).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from synth.errors import PopulationError

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
RAKE_ROUNDS = 500
RAKE_TOLERANCE = 1e-10


def wanted_margin(current: Floats, categories: Sequence[str], wanted: Mapping[str, float] | None) -> Floats:
    """Return the margin to rake to: wanted shares where given, the rest spread like ``current``.

    ``current`` sums to 1. Raises PopulationError if the rest has nobody to fall on.
    """
    if not wanted:
        return current
    given = np.array([category in wanted for category in categories])
    margin = np.array([wanted.get(category, 0.0) for category in categories])
    rest, natural = 1.0 - float(margin.sum()), float(current[~given].sum())
    if abs(rest) < 1e-9:
        return np.asarray(margin / margin.sum(), dtype=np.float64)
    if natural <= 0.0:
        raise PopulationError(
            f"the targets {dict(wanted)} sum to {margin.sum():g} and leave {rest:g} of the subjects without a "
            "category. Let them sum to 1, or admit another category in population.where."
        )
    margin[~given] = current[~given] / natural * rest
    return margin


def rake_table(
    table: Floats, labels: tuple[Sequence[str], Sequence[str]], wanted: tuple[Mapping[str, float] | None, ...]
) -> Floats:
    """Return ``table`` (2-D, sum 1) raked to the wanted shares of its rows and columns.

    Raises PopulationError if no table with these zeros has the wanted margins.
    """
    raked = table.copy()
    for _ in range(RAKE_ROUNDS):
        before = raked.copy()
        for axis in (0, 1):
            current = raked.sum(axis=1 - axis)
            target = wanted_margin(current, labels[axis], wanted[axis])
            factor = np.divide(target, current, out=np.zeros_like(target), where=current > 0)
            raked = raked * (factor[:, None] if axis == 0 else factor[None, :])
        if np.abs(raked - before).max() < RAKE_TOLERANCE and _holds(raked, labels, wanted):
            return raked
    raise PopulationError(
        f"the targets {[dict(w) for w in wanted if w]} cannot hold together in the population that population.where "
        "leaves. Relax one of the targets or widen population.where."
    )


def _holds(
    table: Floats, labels: tuple[Sequence[str], Sequence[str]], wanted: tuple[Mapping[str, float] | None, ...]
) -> bool:
    for axis in (0, 1):
        shares = dict(zip(labels[axis], table.sum(axis=1 - axis).tolist(), strict=True))
        if any(abs(shares[category] - share) > 1e-8 for category, share in (wanted[axis] or {}).items()):
            return False
    return True


def round_shares(shares: Floats, total: int) -> Counts:
    """Return whole numbers that sum to ``total``, each within one of ``shares * total`` (largest remainder)."""
    exact = shares / shares.sum() * total
    counts: Counts = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: total - int(counts.sum())]] += 1
    return counts


def round_table(table: Floats, total: int) -> Counts:
    """Return whole numbers like ``table * total`` (2 rows) whose row and column sums are both within one.

    Controlled rounding (Cox 1987, JASA 82:420), simple here because there are two rows: columns are rounded first, then
    the first row's share of each column, moved by ones where it is cheapest until the first row's sum fits.
    """
    columns = round_shares(table.sum(axis=0), total)
    row = int(round_shares(table.sum(axis=1), total)[0])
    column_sums = table.sum(axis=0)
    share = np.divide(table[0], column_sums, out=np.zeros_like(column_sums), where=column_sums > 0)
    exact = columns * share
    lowest = np.where(table[1] > 0, 0, columns)
    highest = np.where(table[0] > 0, columns, 0)
    first = np.clip(np.floor(exact + 0.5).astype(np.int64), lowest, highest)
    while (missing := row - int(first.sum())) != 0:
        step = 1 if missing > 0 else -1
        movable = (first < highest) if step > 0 else (first > lowest)
        if not movable.any():
            raise PopulationError(
                f"{total} subjects cannot be divided into whole subjects by sex and diagnosis at once. "
                "Ask for more subjects or relax a target."
            )
        gap = np.where(movable, step * (exact - first), -np.inf)
        first[int(np.argmax(gap))] += step
    return np.stack([first, columns - first])
