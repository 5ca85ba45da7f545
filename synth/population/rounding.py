"""From shares to whole subjects: controlled rounding of a mix, so that its targets survive.

Rounding each cell by itself would let the errors of a row add up. Controlled rounding (Cox 1987, J Am Stat Assoc
82:420) moves each cell to a whole number next to it so that sums stay next to theirs as well; with targets on any set
of cells it is an integer programme, solved by HiGHS. Cells that are in the same sets of every target are rounded as one
group, whose subjects are then spread by largest remainder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import njit
from scipy.optimize import Bounds, LinearConstraint, milp

from synth.errors import PopulationError
from synth.population.conditioning import Counts, Floats, Target, constraint_rows, group_cells, sum_groups
from synth.seeds import COHORT_LEVEL, stream_from_key, stream_key

SLACK = 1e-6  # rounding errors of shares times a billion subjects
HALF, UNDER_ONE = 0.5 + SLACK, 1.0 - SLACK
WIDENINGS = (None, 0, 1, 2)  # how far cells may go beyond their neighbouring whole numbers; None: groups stay at theirs
EXACT_GROUPS = 300  # up to here an integer programme is fast
MOVES = 30_000_000  # of the annealing, about two seconds
HOT, COLD = 0.5, 0.03
NODES = 500  # of the search tree, so that a hopeless search ends (the same way every time)


def round_shares(shares: Floats, total: int) -> Counts:
    """Return whole numbers that sum to ``total``, each within one of ``shares * total`` (largest remainder)."""
    exact = shares / shares.sum() * total
    counts: Counts = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(-(exact - counts), kind="stable")
    short = total - int(counts.sum())
    if short >= 0:
        counts[order[:short]] += 1
    else:
        counts[order[short:]] -= 1
    return counts


def round_counts(q: Floats, total: int, targets: Sequence[Target], margins: Sequence[Target] = ()) -> Counts:
    """Return whole numbers of subjects like ``q * total`` that sum to ``total``; cells with q = 0 get none.

    Every target holds as exactly as whole subjects allow: |count(A and S) - share * count(S)| <= 1/2, or below 1 where
    1/2 is impossible. ``margins`` are sums that nobody asked for but that should not drift; they stay within less than
    1. Cells stay within one of q * total, or within two or three if the targets leave no other way.
    Raises PopulationError, saying how many subjects would do, if even that is impossible.
    """
    if not targets and not margins:
        return round_shares(q, total)
    exact = q / q.sum() * total
    whole = np.rint(exact)
    exact = np.where(np.abs(exact - whole) < SLACK, whole, exact)
    both = [*targets, *margins]
    groups = group_cells(q, both)
    first = np.unique(groups, return_index=True)[1][-(int(groups.max()) + 1) :]
    rows = constraint_rows(both)[:, first]
    wanted, ceiling, sizes = (sum_groups(groups, values) for values in (exact, np.ceil(exact), exact >= 0))
    search = _solve if len(wanted) <= EXACT_GROUPS else _anneal
    for error in (HALF, UNDER_ONE):
        limit = np.array([error] * len(targets) + [UNDER_ONE] * len(margins))
        for widening in WIDENINGS:
            bounds = (np.floor(wanted), np.ceil(wanted))
            if widening is not None:
                bounds = (sum_groups(groups, np.maximum(np.floor(exact) - widening, 0)), ceiling + widening * sizes)
            counts = search(rows, limit, wanted, bounds, total)
            if counts is not None:
                return _spread(exact, groups, counts)
    raise PopulationError(
        f"{total} subjects cannot be divided into whole subjects by all targets at once: "
        f"{'; '.join(target.label for target in targets)}. Ask for at least {_enough(q, targets)} subjects or drop one."
    )


def _solve(rows: Floats, limit: Floats, wanted: Floats, bounds: tuple[Floats, Floats], total: int) -> Counts | None:
    """Return whole numbers n near ``wanted`` with that total, within the bounds, and |rows n| <= limit; or None.

    n = floor(wanted) + b + u - d, with b of 0 or 1. As |n - wanted| is convex, its minimum is that of
    sum (1 - 2 f) b + u + d, where f is the fraction of ``wanted``; and the programme has small numbers only.
    """
    base = np.floor(wanted)
    fraction, whole = wanted - base, base.astype(np.int64)
    step = np.ones(len(base))
    above = np.maximum(bounds[1] - base - 1, 0)
    movable = np.concatenate([np.minimum(bounds[1] - base, 1), above, base - bounds[0]])
    columns = np.concatenate([rows, rows, -rows], axis=1)
    signs = np.concatenate([step, step, -step])
    used = movable > 0
    offset = np.array([math.fsum(row * base) for row in rows])
    missing = total - int(whole.sum())
    if not used.any():
        found = whole
    else:
        answer = milp(
            np.concatenate([1 - 2 * fraction, step, step])[used],
            integrality=np.ones(int(used.sum())),
            bounds=Bounds(0, movable[used]),
            constraints=[
                LinearConstraint(columns[:, used], -limit - offset, limit - offset),
                LinearConstraint(signs[used][None], missing, missing),
            ],
            options={"node_limit": NODES, "mip_rel_gap": 0.01},
        )
        if answer.x is None:
            return None
        moved = np.zeros(len(used))
        moved[used] = np.rint(answer.x)
        found = whole + (signs * moved).reshape(3, -1).sum(axis=0).astype(np.int64)
    return found if _is_met(rows, limit, found, total) else None


def _is_met(rows: Floats, limit: Floats, found: Counts, total: int) -> bool:
    errors = np.array([abs(math.fsum(row * found)) for row in rows])
    return int(found.sum()) == total and bool(np.all(errors <= limit + SLACK))


def _anneal(rows: Floats, limit: Floats, wanted: Floats, bounds: tuple[Floats, Floats], total: int) -> Counts | None:
    """Like ``_solve`` for more groups than an integer programme can take: simulated annealing of the excess errors.

    With many groups most demands can be met in very many ways, and any will do, as bounds keep n near ``wanted``.
    Kirkpatrick, Gelatt & Vecchi 1983, Science 220:671. Moves one subject from a group to another, so the total stays.
    """
    low, high = bounds[0].astype(np.int64), bounds[1].astype(np.int64)
    counts = np.clip(round_shares(wanted, total), low, high)
    order = np.argsort(counts - wanted, kind="stable")
    short = total - int(counts.sum())
    for group in order if short > 0 else order[::-1]:
        step = int(np.clip(short, low[group] - counts[group], high[group] - counts[group]))
        counts[group] += step
        short -= step
    errors = np.array([math.fsum(row * counts) for row in rows])
    rng = stream_from_key(stream_key(total, COHORT_LEVEL, COHORT_LEVEL, "population/rounding"))
    _walk_down(rng, np.ascontiguousarray(rows.T), limit - SLACK, errors, counts, low, high, MOVES)
    return counts if _is_met(rows, limit, counts, total) else None


@njit(cache=True, nogil=True)
def _walk_down(
    rng: np.random.Generator,
    columns: Floats,
    limit: Floats,
    errors: Floats,
    counts: Counts,
    low: Counts,
    high: Counts,
    moves: int,
) -> None:
    """Change ``counts`` until no error exceeds its limit, or the moves are used up."""
    groups, rows = columns.shape
    energy = 0.0
    for k in range(rows):
        energy += max(0.0, abs(errors[k]) - limit[k])
    for move in range(moves):
        if energy <= 0.0:
            return
        temperature = HOT * (COLD / HOT) ** (move / moves)
        up, down = int(rng.random() * groups), int(rng.random() * groups)
        if up == down or counts[up] >= high[up] or counts[down] <= low[down]:
            continue
        allowed = energy - temperature * np.log(1.0 - rng.random())
        ahead = 0.0
        for k in range(rows):
            ahead += max(0.0, abs(errors[k] + columns[up, k] - columns[down, k]) - limit[k])
            if ahead > allowed:
                break
        if ahead <= allowed:
            energy = ahead
            counts[up] += 1
            counts[down] -= 1
            for k in range(rows):
                errors[k] += columns[up, k] - columns[down, k]


def _spread(exact: Floats, groups: Counts, totals: Counts) -> Counts:
    """Return the subjects of each cell, given those of its group: rounded down, then one more by largest fraction."""
    counts = np.where(groups >= 0, np.floor(exact), 0).astype(np.int64)
    short = totals - sum_groups(groups, counts).astype(np.int64)
    for group in np.flatnonzero(short < 0).tolist():  # only if bounds were widened: fewer than rounded down
        cells = np.flatnonzero((groups == group) & (counts > 0))
        cells = cells[np.argsort((exact - counts)[cells], kind="stable")]
        while short[group] < 0:
            taken = cells[counts[cells] > 0][: -short[group]]
            counts[taken] -= 1
            short[group] += len(taken)
    order = np.lexsort((-(exact - counts), groups))
    order = order[groups[order] >= 0]
    sizes = np.bincount(groups[order])
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    each, extra = np.divmod(short, sizes)  # more than one each only if bounds were widened
    counts[order] += each[groups[order]] + (rank < extra[groups[order]])
    return counts


def _enough(q: Floats, targets: Sequence[Target]) -> int:
    """Return a number of subjects that leaves every part of every target some room to round."""
    parts = [q[mask].sum() for t in targets for mask in (t.stratum & t.inside, t.stratum & ~t.inside)]
    return math.ceil(10 * len(targets) / min((part for part in parts if part > 0), default=1.0))
