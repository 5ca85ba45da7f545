"""Conditioning a population on wanted shares: which distribution over its cells is meant, and what weights undo it.

A population is a table of *cells* (say sex x diagnosis x age band) with probabilities p. A target asks that
P(A | S) = share, where A and S are sets of cells; S is everybody for a plain share of the cohort and a stratum for a
conditional prevalence. Of all distributions that meet every target, ``solve_mix`` returns the one nearest to p in
Kullback-Leibler divergence (Csiszar 1975, Ann Probab 3:146). It is p times one factor per combination of targets, so
everything that no target speaks of keeps its natural odds. For plain shares of a cross table this is the limit of
iterative proportional fitting (Deming & Stephan 1940, Ann Math Stat 11:427).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from synth.errors import PopulationError

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]

SHARE_TOLERANCE = 1e-9  # how exactly targets are met
SWEEPS = 2  # rounds of iterative proportional fitting before Newton's method
STEPS = 200  # of Newton's method
ENOUGH, NEARLY = 1e-17, 1e-12  # errors at which to stop at once, and if they no longer shrink
HALVINGS = 12
FURTHEST = 30.0  # largest change of a log-probability in one step
SUBSETS = 3000  # most subsets looked at for a smaller conflict


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Probabilities of the cells, shape (n,), sum 1, zeros allowed; ``codes``: attribute -> one integer a cell."""

    p: Floats
    codes: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    def select(self, **wanted: Sequence[int]) -> Mask:
        """Return the cells whose code is among the wanted ones, for every attribute named."""
        mask = np.ones(len(self.p), dtype=np.bool_)
        for attribute, codes in wanted.items():
            mask &= np.isin(self.codes[attribute], list(codes))
        return mask


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """P(inside | within) = share. ``within`` None stands for everybody; ``label`` is how errors name the target."""

    label: str
    inside: Mask
    share: float
    within: Mask | None = None

    @property
    def stratum(self) -> Mask:
        """The cells that the share is a share of."""
        return np.ones_like(self.inside) if self.within is None else self.within


def constraint_rows(targets: Sequence[Target]) -> Floats:
    """Return the matrix B, one row a target, for which B q = 0 says that every target is met.

    Row k is 1 - share on the cells of A and S, -share on those of S alone, and 0 elsewhere.
    """
    rows = [(t.inside & t.stratum) - t.share * t.stratum for t in targets]
    return np.array(rows, dtype=np.float64)


def group_cells(p: Floats, targets: Sequence[Target]) -> NDArray[np.int64]:
    """Return the group of each cell; cells of a group are in the same sets of every target, so they share a factor.

    Cells that p excludes are group -1; the others count from 0.
    """
    groups = np.full(len(p), -1, dtype=np.int64)
    members = [mask[p > 0] for t in targets for mask in (t.inside & t.stratum, t.stratum)]
    if not members:
        groups[p > 0] = 0
        return groups
    groups[p > 0] = np.unique(np.packbits(np.array(members), axis=0).T, axis=0, return_inverse=True)[1].ravel()
    return groups


def sum_groups(groups: Counts, values: NDArray[Any]) -> Floats:
    """Return the sum of ``values`` by group; those of group -1 are left out."""
    inside = groups >= 0
    return np.bincount(groups[inside], weights=values[inside]).astype(np.float64)


def solve_mix(p: Floats, targets: Sequence[Target]) -> Floats:
    """Return the distribution nearest to ``p`` (Kullback-Leibler) that meets all targets within 1e-9.

    Minimises log sum_i p_i exp(sum_k l_k B_ki) over l (the convex dual) on the largest support that the targets allow.
    Raises PopulationError naming the target that cannot be met, or the smallest set of targets that contradict.
    """
    p = _check_probabilities(p)
    if not targets:
        return p
    for target in targets:
        _check_target(p, target)
    groups = group_cells(p, targets)
    first = np.unique(groups, return_index=True)[1][-(int(groups.max()) + 1) :]
    mass = sum_groups(groups, p)
    rows, strata = constraint_rows(targets)[:, first], np.array([t.stratum[first] for t in targets])
    support = _find_support(rows)
    if not _holds(support, strata):
        refuse_conflict(targets, _find_conflict(rows, strata))
    mixed = np.zeros_like(mass)
    mixed[support] = _tilt(mass[support], rows[:, support])
    within = strata @ mixed
    if not np.all(np.abs(rows @ mixed) <= SHARE_TOLERANCE * within):
        refuse_conflict(targets, range(len(targets)))
    return np.where(groups >= 0, p * (mixed / mass)[groups], 0.0)


def _check_probabilities(p: Floats) -> Floats:
    if p.ndim != 1 or not np.all(np.isfinite(p)) or np.any(p < 0) or p.sum() <= 0:
        raise PopulationError("a population needs probabilities that are finite, 0 or more, and not all 0.")
    return np.asarray(p / p.sum(), dtype=np.float64)


def _check_target(p: Floats, target: Target) -> None:
    label, share = target.label, target.share
    if not 0.0 <= share <= 1.0:
        raise PopulationError(f"{label}: a share must be from 0 to 1, got {share:g}.")
    if not target.inside.shape == target.stratum.shape == p.shape:
        raise PopulationError(f"{label}: its masks must have one entry for each of the {len(p)} cells.")
    if p[target.stratum].sum() <= 0:
        raise PopulationError(f"{label}: the population has nobody in that stratum. Drop it or widen population.where.")
    if share > 0 and p[target.stratum & target.inside].sum() <= 0:
        raise PopulationError(f"{label}: the population leaves nobody with it. Drop it or widen population.where.")
    if share < 1 and p[target.stratum & ~target.inside].sum() <= 0:
        raise PopulationError(
            f"{label}: this would leave {1 - share:g} of the subjects without a category, since the population has "
            "nobody else. Ask for a share of 1 or widen population.where."
        )


# ------------------------------------------------------------------------------------------------- what is possible


def _find_support(rows: Floats) -> Mask:
    """Return which groups can be more than zero while all rows hold: the largest support of {y >= 0: rows y = 0}.

    The set is a cone, so that one linear programme is enough: maximise sum u, where y = u + v, 0 <= u <= 1, v >= 0.
    """
    count = rows.shape[1]
    answer = linprog(
        np.concatenate([-np.ones(count), np.zeros(count)]),
        A_eq=np.concatenate([rows, rows], axis=1),
        b_eq=np.zeros(len(rows)),
        bounds=np.array([[0.0, 1.0]] * count + [[0.0, np.inf]] * count),
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if answer.x is None:
        return np.zeros(count, dtype=np.bool_)
    return np.asarray(answer.x[:count] > 0.5, dtype=np.bool_)


def _holds(support: Mask, strata: Mask) -> bool:
    """Whether every stratum keeps somebody; a share of nobody is no share."""
    return bool(support.any() and np.all(strata @ support))


def _is_feasible(rows: Floats, strata: Mask, chosen: Sequence[int]) -> bool:
    """Whether the chosen targets can hold together."""
    both = np.concatenate([rows[list(chosen)], strata[list(chosen)]])
    first = np.unique(both, axis=1, return_index=True)[1]
    return _holds(_find_support(rows[list(chosen)][:, first]), strata[list(chosen)][:, first])


def _find_conflict(rows: Floats, strata: Mask) -> tuple[int, ...]:
    """Return the smallest set of targets that cannot hold together; irreducible at least, if there are very many.

    A deletion filter (Chinneck & Dravnieks 1991, ORSA J Comput 3:157) gives one set without a superfluous target; then
    smaller ones are looked for, up to three targets and SUBSETS subsets.
    """
    found = tuple(range(len(rows)))
    for target in range(len(rows)):
        rest = tuple(k for k in found if k != target)
        if rest and not _is_feasible(rows, strata, rest):
            found = rest
    budget = SUBSETS
    for size in range(1, min(4, len(found))):
        budget -= math.comb(len(rows), size)
        if budget < 0:
            break
        for chosen in itertools.combinations(range(len(rows)), size):
            if not _is_feasible(rows, strata, chosen):
                return chosen
    return found


def refuse_conflict(targets: Sequence[Target], chosen: Sequence[int]) -> NoReturn:
    """Raise the PopulationError that names the chosen targets as contradicting."""
    these = [targets[k] for k in chosen]
    names = "; ".join(target.label for target in these)
    total = sum(target.share for target in these)
    parts = all(target.within is None for target in these) and np.sum([t.inside for t in these], axis=0).max() <= 1
    why = f" (they sum to {total:g})" if parts and abs(total - 1) > SHARE_TOLERANCE else ""
    raise PopulationError(
        f"these cannot hold together in the population that population.where leaves: {names}{why}. "
        "Relax or drop one of them, or widen population.where."
    )


# ------------------------------------------------------------------------------------------------------ the tilting


def _tilt(p: Floats, rows: Floats) -> Floats:
    """Return q = p exp(l B) / sum, with B q = 0; p > 0, and some positive q meets all rows.

    Newton's method on the dual: gradient B q, Hessian B diag(q) B' - (B q)(B q)', backtracking until the dual falls.
    It starts with, and where the Hessian is of no use falls back on, exact minimisation along one l at a time, which is
    iterative proportional fitting.
    """
    rows = rows[np.abs(rows).max(axis=1, initial=0.0) > 0]
    start = np.log(p)
    dual = np.zeros(len(rows))
    for _ in range(SWEEPS):
        dual = _sweep(start, rows, dual)
    value, q = _evaluate(start, rows, dual)
    best, stalled = math.inf, 0
    for _ in range(STEPS):
        error = float(np.abs(rows @ q).max(initial=0.0))
        stalled = stalled + 1 if error > best / 2 and error < NEARLY else 0
        best = min(best, error)
        if error <= ENOUGH or stalled > 2:
            break
        ahead = _step_newton(start, rows, dual, value, q)
        dual = _sweep(start, rows, dual) if ahead is None else ahead
        value, q = _evaluate(start, rows, dual)
    return q


def _step_newton(start: Floats, rows: Floats, dual: Floats, value: float, q: Floats) -> Floats | None:
    """Return the dual variables after a step that makes the dual fall, or None if there is no such step."""
    gradient = rows @ q
    hessian = (rows * q) @ rows.T - np.outer(gradient, gradient)
    scale = 1 / np.sqrt(np.maximum(np.diag(hessian), 1e-300))
    step = -scale * np.linalg.lstsq(hessian * np.outer(scale, scale), scale * gradient, rcond=1e-13)[0]
    slope = float(gradient @ step)
    length = min(1.0, FURTHEST / float(np.abs(step @ rows).max(initial=1e-300)))
    for _ in range(HALVINGS if slope < 0 else 0):
        ahead, mixed = _evaluate(start, rows, dual + length * step)
        if ahead <= value + 1e-4 * length * slope or np.abs(rows @ mixed).max() < np.abs(gradient).max() / 2:
            return np.asarray(dual + length * step, dtype=np.float64)
        length /= 2
    return None


def _evaluate(start: Floats, rows: Floats, dual: Floats) -> tuple[float, Floats]:
    """Return (dual objective, q) at ``dual``."""
    exponent = start + dual @ rows
    highest = exponent.max()
    weights = np.exp(exponent - highest)
    return float(highest + np.log(weights.sum())), weights / weights.sum()


def _sweep(start: Floats, rows: Floats, dual: Floats) -> Floats:
    """Return ``dual`` after one round of proportional fitting: target by target, the odds of A in S are set right."""
    dual, exponent = dual.copy(), start + dual @ rows
    for k, row in enumerate(rows):
        weights = np.exp(exponent - exponent[row != 0].max()) * row
        step = math.log(max(-weights[row < 0].sum(), 1e-300) / max(weights[row > 0].sum(), 1e-300))
        dual[k] += step
        exponent += step * row
    return dual


# ---------------------------------------------------------------------------------------------------------- weights


def design_weights(p: Floats, q: Floats) -> Floats:
    """Return p / q, scaled to a mean of 1 under ``q``; 0 where q is 0.

    The inverse of the relative inclusion probability (Horvitz & Thompson 1952, J Am Stat Assoc 47:663): weighted by it,
    a cohort drawn from q estimates p. Give the realised shares as ``q`` (counts will do), and weighted counts reproduce
    p exactly wherever somebody was drawn. Raises PopulationError if q leaves nobody that p has.
    """
    share = q / q.sum()
    weights = np.divide(p, share, out=np.zeros(len(p)), where=share > 0)
    mean = float(weights @ share)
    if mean <= 0:
        raise PopulationError("nobody who was drawn belongs to the population, so no weights lead back to it.")
    return np.asarray(weights / mean, dtype=np.float64)


def effective_sample_size(weights: Floats, counts: Counts | Floats) -> float:
    """Return the size of an unweighted sample that estimates a mean as precisely: (sum w)^2 / sum w^2.

    ``counts`` says how many subjects have each weight. Source: Kish 1965, Survey Sampling, section 11.7.
    """
    total, squares = float(weights @ counts), float((weights * weights) @ counts)
    return total * total / squares if squares > 0 else 0.0
