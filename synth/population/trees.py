"""Conditional trees: the distribution of one code, given others. Grown on bytes, stored flat, walked by a kernel.

A node is split where the likelihood gains most, if the gain is worth the parameters it adds (Bayesian information
criterion, Schwarz 1978, Ann Stat 6:461); leaves are shrunk towards the node above them. Sequential trees for
synthetic tables: Reiter 2005, J Off Stat 21:441.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

Codes = NDArray[np.uint8]
LEAF = -1
MIN_LEAF = 25  # rows
SHRINK_ROWS = 8.0  # weight of the node above in a leaf's distribution
SHRINK_WITHIN_ROWS = 10.0  # the same for the codes within a group
GROUPS = 12  # into which many codes are put together to find splits
MAX_NODES = 4096
STRICTNESS = 0.12  # factor on the criterion: rows are many, and dependence is worth more than short trees


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree, by node; ``leaf`` points into ``probability``, shape (leaves, codes).

    An inner node goes left if ``state[feature] <= threshold`` (``equal``: if they are equal).
    """

    feature: NDArray[np.int16]  # LEAF at leaves
    threshold: Codes
    equal: NDArray[np.bool_]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    leaf: NDArray[np.int32]
    probability: NDArray[np.float64]


def make_stump(counts: NDArray[np.float64]) -> Tree:
    """Return the tree of one leaf with the distribution ``counts`` (need not sum to 1)."""
    total = counts.sum()
    flat = counts / total if total > 0 else np.full(len(counts), 1.0 / len(counts))
    one = np.zeros(1, dtype=np.int32)
    return Tree(np.array([LEAF], np.int16), np.zeros(1, np.uint8), np.zeros(1, bool), one, one, one, flat[None, :])


def grow_tree(
    features: Codes,
    slots: NDArray[np.int16],
    ordered: NDArray[np.bool_],
    target: Codes,
    size: int,
    target_ordered: bool,
) -> Tree:
    """Return the tree that predicts ``target`` (codes below ``size``) from ``features``, shape (features, rows).

    ``slots`` names each feature to the kernel; ``ordered`` says whether its codes have an order.
    """
    counts = np.bincount(target, minlength=size).astype(np.float64)
    if len(slots) == 0 or np.count_nonzero(counts) < 2:
        return make_stump(counts)
    sizes = (features.max(axis=1).astype(np.int64) + 1) if features.size else np.zeros(0, np.int64)
    group = _group_codes(counts, target_ordered)
    feature, threshold, equal, left, right, parent, table = _grow(
        features, sizes, ordered, target, group, size, MIN_LEAF, MAX_NODES, STRICTNESS
    )
    probability = _shrink(table, parent, group)
    leaves = np.flatnonzero(feature == LEAF)
    leaf = np.zeros(len(feature), dtype=np.int32)
    leaf[leaves] = np.arange(len(leaves))
    named = np.where(feature == LEAF, LEAF, slots[np.maximum(feature, 0)]).astype(np.int16)
    return Tree(named, threshold, equal, left, right, leaf, probability[leaves])


def _group_codes(counts: NDArray[np.float64], ordered: bool) -> NDArray[np.int64]:
    """Return the group of each code: neighbours of about equal frequency if ordered, else the rare ones together."""
    size = len(counts)
    if size <= GROUPS + 4:
        return np.arange(size)
    if ordered:
        middle = np.cumsum(counts) - counts / 2
        raw = np.minimum((middle / counts.sum() * GROUPS).astype(np.int64), GROUPS - 1)
        return np.unique(raw, return_inverse=True)[1]
    rank = np.empty(size, dtype=np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(size)
    return np.minimum(rank, GROUPS - 1)


def _shrink(table: NDArray[np.float64], parent: NDArray[np.int32], group: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each node's distribution, drawn towards the node above: groups a little, codes in them more."""
    groups = int(group.max()) + 1
    among = np.zeros((len(table), groups))
    within = np.zeros_like(table)
    for node in range(len(table)):  # parents come first
        sums = np.bincount(group, weights=table[node], minlength=groups)
        if parent[node] < 0:
            among[node] = sums / sums.sum()
            within[node] = table[node] / np.maximum(sums, 1e-300)[group]
        else:
            above = parent[node]
            among[node] = (sums + SHRINK_ROWS * among[above]) / (sums.sum() + SHRINK_ROWS)
            within[node] = (table[node] + SHRINK_WITHIN_ROWS * within[above]) / (sums + SHRINK_WITHIN_ROWS)[group]
    return among[:, group] * within


@njit(cache=True)
def _log_likelihood(counts):  # type: ignore[no-untyped-def]
    total, value = 0.0, 0.0
    for count in counts:
        if count > 0:
            total += count
            value += count * np.log(count)
    return value - total * np.log(total) if total > 0 else 0.0


@njit(cache=True)
def _grow(features, sizes, ordered, target, group, size, min_leaf, max_nodes, strictness):  # type: ignore[no-untyped-def]
    rows = target.size
    order = np.arange(rows)
    feature = np.full(max_nodes, -1, np.int32)
    threshold = np.zeros(max_nodes, np.uint8)
    equal = np.zeros(max_nodes, np.bool_)
    left = np.zeros(max_nodes, np.int32)
    right = np.zeros(max_nodes, np.int32)
    parent = np.full(max_nodes, -1, np.int32)
    begin = np.zeros(max_nodes, np.int64)
    end = np.zeros(max_nodes, np.int64)
    table = np.zeros((max_nodes, size), np.float64)
    end[0] = rows
    nodes, node = 1, 0
    groups = group.max() + 1
    classes = group[target]
    histogram = np.zeros((256, groups), np.float64)
    totals = np.zeros(256, np.float64)
    while node < nodes:  # breadth first, so that a cap on nodes cuts the tree evenly
        first, last = begin[node], end[node]
        for place in range(first, last):
            table[node, target[order[place]]] += 1.0
        here = np.zeros(groups, np.float64)
        for code in range(size):
            here[group[code]] += table[node, code]
        count = last - first
        base = _log_likelihood(here)
        present = 0
        for value in here:
            if value > 0:
                present += 1
        best, best_feature, best_code, best_equal = 0.0, -1, 0, False
        if present > 1 and count >= 2 * min_leaf and nodes + 2 <= max_nodes:
            tried = 0
            for f in range(features.shape[0]):
                tried += sizes[f] - 1
            penalty = strictness * (0.5 * (present - 1) * np.log(count) + np.log(max(tried, 1)))
            for f in range(features.shape[0]):
                codes = sizes[f]
                if codes < 2:
                    continue
                histogram[:codes] = 0.0
                totals[:codes] = 0.0
                column = features[f]
                for place in range(first, last):
                    row = order[place]
                    histogram[column[row], classes[row]] += 1.0
                    totals[column[row]] += 1.0
                below = np.zeros(groups, np.float64)
                gathered = 0.0
                for code in range(codes):
                    if ordered[f]:
                        if totals[code] == 0 or code == codes - 1:
                            continue
                        below += histogram[code]
                        gathered += totals[code]
                        side, amount = below, gathered
                    else:
                        side, amount = histogram[code], totals[code]
                    if amount < min_leaf or count - amount < min_leaf:
                        continue
                    gain = _log_likelihood(side) + _log_likelihood(here - side) - base - penalty
                    if gain > best:
                        best, best_feature, best_code, best_equal = gain, f, code, not ordered[f]
        if best_feature >= 0:
            column = features[best_feature]
            low, high = first, last - 1
            while low <= high:
                code = column[order[low]]
                goes_left = code == best_code if best_equal else code <= best_code
                if goes_left:
                    low += 1
                else:
                    swap = order[low]
                    order[low] = order[high]
                    order[high] = swap
                    high -= 1
            feature[node], threshold[node], equal[node] = best_feature, best_code, best_equal
            left[node], right[node] = nodes, nodes + 1
            begin[nodes], end[nodes], parent[nodes] = first, low, node
            begin[nodes + 1], end[nodes + 1], parent[nodes + 1] = low, last, node
            nodes += 2
        node += 1
    return (
        feature[:nodes],
        threshold[:nodes],
        equal[:nodes],
        left[:nodes],
        right[:nodes],
        parent[:nodes],
        table[:nodes],
    )
