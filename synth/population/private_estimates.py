"""From noisy counts to a model, without looking at the records again: margins, dependence, conditional tables, trees.

Post-processing cannot weaken differential privacy (Dwork & Roth 2014, proposition 2.1), so anything goes here that
helps: estimates of one quantity are averaged by their variance, dependence is corrected for what noise adds to it, and
conditional distributions are drawn towards coarser ones as far as the noise could explain their difference.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from synth.population.private_counts import Counts, Release
from synth.population.trees import LEAF, Tree

RAKES = 50
FLOOR = 1e-9  # share of independence that is left in every cell, so that tables can be raked


class Estimates:
    """Noisy tables about the same rows, from one or more releases."""

    def __init__(self, releases: Iterable[Release]) -> None:
        """Average the tables that were released more than once."""
        self.tables: dict[tuple[str, ...], tuple[Counts, float]] = {}
        for release in releases:
            for columns, counts in release.counts.items():
                self._add(columns, counts, release.noise**2)
        self.total = max(self._average((c.sum(), v * c.size) for c, v in self.tables.values()), 1.0)

    def _add(self, columns: tuple[str, ...], counts: Counts, variance: float) -> None:
        if columns in self.tables:
            known, spread = self.tables[columns]
            weight = spread / (spread + variance)
            counts, variance = known + weight * (counts - known), spread * variance / (spread + variance)
        self.tables[columns] = counts, variance

    @staticmethod
    def _average(estimates: Iterable[tuple[float, float]]) -> float:
        values, variances = np.array(list(estimates)).T
        return float((values / variances).sum() / (1 / variances).sum())

    def find(self, columns: Sequence[str]) -> tuple[Counts, float]:
        """Return the best table over ``columns`` in this order, and the variance of its cells."""
        found, precision = np.zeros(()), 0.0
        for known, (counts, variance) in self.tables.items():
            if set(columns) <= set(known):
                rest = tuple(axis for axis, name in enumerate(known) if name not in columns)
                kept = [name for name in known if name in columns]
                spread = variance * math.prod(counts.shape[axis] for axis in rest)
                summed = counts.sum(axis=rest).transpose([kept.index(name) for name in columns])
                found, precision = found + summed / spread, precision + 1 / spread
        return found / precision, 1 / precision

    def margin(self, column: str) -> Counts:
        """Return the distribution of a column as counts: none negative, together the number of rows."""
        return project_simplex(self.find((column,))[0], self.total)

    def score(self, one: str, other: str) -> float:
        """Return how dependent two columns are: an estimate of their mutual information, in nats.

        For weak dependence that is half the mean square contingency; what noise adds to it is taken off.
        """
        counts, variance = self.find((one, other))
        expected = np.outer(self.margin(one), self.margin(other)) / self.total
        spread = np.maximum(expected, math.sqrt(variance))
        return float((((counts - expected) ** 2 - variance) / spread).sum() / (2 * self.total))

    def knows(self, columns: Sequence[str]) -> bool:
        """Return whether some table covers ``columns``."""
        return any(set(columns) <= set(known) for known in self.tables)


def project_simplex(counts: Counts, total: float) -> Counts:
    """Return the nearest counts, in the L2 norm, that are not negative and sum to ``total``."""
    ordered = np.sort(counts)[::-1]
    excess = (np.cumsum(ordered) - total) / np.arange(1, len(counts) + 1)
    nearest: Counts = np.maximum(counts - excess[np.flatnonzero(ordered > excess)[-1]], 0.0)
    return nearest


def span_tree(names: Sequence[str], leaves: Sequence[str], estimates: Estimates) -> dict[str, str | None]:
    """Return each column's parent in a maximum spanning tree of mutual information (Chow & Liu 1968), parents first.

    ``leaves`` come last and are nobody's parent. A pair that no table covers is no candidate.
    """
    pairs = itertools.combinations([*names, *leaves], 2)
    scores = {frozenset(pair): estimates.score(*pair) for pair in pairs if estimates.knows(pair)}
    parents: dict[str, str | None] = {}
    waiting = list(names)
    while waiting:
        best = max(
            ((scores[frozenset((a, b))], a, b) for a in waiting for b in parents if frozenset((a, b)) in scores),
            default=(0.0, waiting[0], None),
        )
        parents[best[1]] = best[2] if best[0] > 0 else None
        waiting.remove(best[1])
    for leaf in leaves:
        known = {name: scores[frozenset((leaf, name))] for name in names if frozenset((leaf, name)) in scores}
        best_name = max(known, key=known.__getitem__, default=None)
        parents[leaf] = best_name if best_name is not None and known[best_name] > 0 else None
    return parents


def condition_rows(counts: Counts, variance: float, base: Counts, mass: Counts | None = None) -> Counts:
    """Return the distribution of the last axis in each row of ``counts`` (rows, codes), drawn towards ``base``.

    The difference from ``base`` is kept as far as noise does not explain it (positive-part James-Stein).
    """
    codes = counts.shape[1]
    mass = np.maximum(counts.sum(axis=1), 0.0) if mass is None else mass
    off = counts - mass[:, None] * base
    off -= off.mean(axis=1, keepdims=True)
    size = (off**2).sum(axis=1)
    kept = np.maximum(0.0, 1.0 - (codes - 1) * variance / np.maximum(size, 1e-300))
    made = np.array(base, dtype=np.float64)
    for row in np.flatnonzero((mass > 0) & (kept > 0)):
        made[row] = project_simplex(mass[row] * base[row] + kept[row] * off[row], mass[row]) / mass[row]
    return made


def rake(table: Counts, rows: Counts, columns: Counts) -> Counts:
    """Return ``table`` with these margins (iterative proportional fitting); a cell that is 0 gets a trace."""
    total = rows.sum()
    made: Counts = table + FLOOR * np.outer(rows, columns) / total
    for _ in range(RAKES):
        made *= (rows / np.maximum(made.sum(axis=1), 1e-300))[:, None]
        made *= columns / np.maximum(made.sum(axis=0), 1e-300)
    return made


def split_tree(slots: Sequence[int], sizes: Sequence[int], probability: NDArray[np.float64]) -> Tree:
    """Return the tree with one leaf for each combination of the codes in ``slots``; a row of ``probability`` each."""
    nodes: list[tuple[int, int, int, int, int]] = []  # feature, threshold, left, right, leaf

    def grow(depth: int, low: int, high: int, row: int) -> int:
        """Add what is below: the slots from ``depth`` on are open, the first of them between two codes."""
        if depth < len(slots) and low == high:
            top = sizes[depth + 1] - 1 if depth + 1 < len(slots) else 0
            return grow(depth + 1, 0, top, row * sizes[depth] + low)
        place = len(nodes)
        nodes.append((LEAF, 0, place, place, row))
        if depth < len(slots):
            middle = (low + high) // 2
            left, right = grow(depth, low, middle, row), grow(depth, middle + 1, high, row)
            nodes[place] = (slots[depth], middle, left, right, 0)
        return place

    grow(0, 0, sizes[0] - 1 if slots else 0, 0)
    feature, threshold, left, right, leaf = np.array(nodes, dtype=np.int64).T
    return Tree(
        feature.astype(np.int16), threshold.astype(np.uint8), np.zeros(len(nodes), dtype=bool),
        left.astype(np.int32), right.astype(np.int32), leaf.astype(np.int32), probability,
    )  # fmt: skip
