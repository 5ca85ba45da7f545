"""Laws of conditioning: the nearest mix, the smallest conflict, exact rounding, weights that lead back."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from synth.errors import PopulationError
from synth.population.conditioning import (
    Cells,
    Counts,
    Floats,
    Target,
    design_weights,
    effective_sample_size,
    solve_mix,
)
from synth.population.rounding import EXACT_GROUPS, round_counts
from synth.seeds import stream_from_key

SOME = settings(max_examples=40, deadline=None, derandomize=True)
SHAPE = (2, 3, 4)


def make_cells(key: int, shape: tuple[int, ...] = SHAPE, holes: float = 0.0) -> Cells:
    rng = stream_from_key(key)
    p = rng.gamma(0.5, size=int(np.prod(shape))) + 1e-4
    p[rng.random(len(p)) < holes] = 0
    p[0] += 1e-4
    codes = dict(zip("abcdefg", np.indices(shape).reshape(len(shape), -1), strict=False))
    return Cells(p / p.sum(), codes)


def make_targets(cells: Cells, key: int, count: int) -> list[Target]:
    """Targets that another mix of the same cells meets, so that they hold together: plain and conditional in turn."""
    rng = stream_from_key(key + 1)
    truth = cells.p * rng.gamma(1.0, size=len(cells.p)) + cells.p * 1e-3
    truth /= truth.sum()
    targets = []
    for k in range(count):
        name, other = rng.permutation(list(cells.codes))[:2]
        inside = cells.select(**{name: [int(rng.integers(cells.codes[name].max() + 1))]})
        within = None if k % 2 == 0 else cells.select(**{other: [0, 1]})
        stratum = np.ones(len(truth), bool) if within is None else within
        if truth[stratum].sum() > 0:
            share = float(truth[inside & stratum].sum() / truth[stratum].sum())
            targets.append(Target(f"t{k} = {share:g}", inside, min(share, 1.0), within))
    return targets


def share_of(q: Floats | Counts, target: Target) -> float:
    return float(q[target.inside & target.stratum].sum() / q[target.stratum].sum())


def miss_of(counts: Counts, target: Target) -> float:
    return abs(float(counts[target.inside & target.stratum].sum() - target.share * counts[target.stratum].sum()))


def divergence(q: Floats, p: Floats) -> float:
    some = q > 0
    return float((q[some] * np.log(q[some] / p[some])).sum())


# ---------------------------------------------------------------------------------------------------------- the mix


def fit_proportionally(p: Floats, targets: Sequence[Target], rounds: int = 3000) -> Floats:
    """The reference: plain iterative proportional fitting, which scales the two sides of each plain target in turn."""
    q = p.copy()
    for _ in range(rounds):
        before = q.copy()
        for t in targets:
            inside = t.inside
            q = np.where(inside, q * t.share / q[inside].sum(), q * (1 - t.share) / q[~inside].sum())
        if np.abs(q - before).max() < 1e-14:
            break
    return q


@SOME
@given(st.integers(0, 2**32))
def test_plain_targets_give_what_proportional_fitting_gives(key: int) -> None:
    cells = make_cells(key)
    targets = [t for t in make_targets(cells, key, 8) if t.within is None]
    assert solve_mix(cells.p, targets) == pytest.approx(fit_proportionally(cells.p, targets), abs=1e-8)


@SOME
@given(st.integers(0, 2**32), st.integers(1, 12), st.sampled_from([0.0, 0.3]))
def test_all_targets_hold_at_once_and_nothing_nearer_does(key: int, count: int, holes: float) -> None:
    cells = make_cells(key, holes=holes)
    targets = make_targets(cells, key, count)
    if any(cells.p[t.stratum].sum() == 0 for t in targets):
        return
    q = solve_mix(cells.p, targets)
    assert q.sum() == pytest.approx(1, abs=1e-12)
    assert np.all(q[cells.p == 0] == 0)
    for t in targets:
        assert share_of(q, t) == pytest.approx(t.share, abs=1e-9)
    rows = np.array([t.inside & t.stratum for t in targets]) - np.array([t.share * t.stratum for t in targets])
    rows = np.concatenate([rows, np.ones((1, len(q)))])[:, q > 0]
    free = np.linalg.svd(rows)[2][np.linalg.matrix_rank(rows) :]  # directions that keep every target
    for direction in free:
        for step in (1e-4, -1e-4):
            other = q.copy()
            other[q > 0] += step * direction * q[q > 0].min()
            assert divergence(other, cells.p) >= divergence(q, cells.p) - 1e-12


def test_what_no_target_speaks_of_keeps_its_odds() -> None:
    cells = make_cells(5)
    within = cells.select(b=[1])
    q = solve_mix(cells.p, [Target("a where b", cells.select(a=[0]), 0.9, within)])
    inside = cells.select(a=[0], b=[1])
    for mask in (inside, within & ~inside, ~within):
        assert q[mask] / q[mask].sum() == pytest.approx(cells.p[mask] / cells.p[mask].sum(), abs=1e-12)


def test_shares_of_zero_and_one_and_what_follows_from_them_are_exact() -> None:
    cells = make_cells(6)
    none, everybody = cells.select(a=[0]), cells.select(b=[1, 2])
    q = solve_mix(cells.p, [Target("x", none, 0.0), Target("y", everybody, 1.0)])
    assert np.all(q[none | ~everybody] == 0)
    assert np.all(q[~none & everybody] > 0)
    # all of b = 0 is in c = 0, and c = 0 has no more than b = 0: the rest of c = 0 is left with nobody
    first, second = cells.select(b=[0]), cells.select(c=[0])
    q = solve_mix(cells.p, [Target("x", second, 1.0, first), Target("y", first, 0.3), Target("z", second, 0.3)])
    assert np.all(q[second & ~first] == 0)
    assert q[first].sum() == pytest.approx(0.3, abs=1e-9)


def test_thousands_of_cells_and_fifty_targets() -> None:
    cells = make_cells(7, (4, 5, 8, 20), holes=0.2)
    targets = make_targets(cells, 7, 50)
    q = solve_mix(cells.p, targets)
    assert max(abs(share_of(q, t) - t.share) for t in targets) < 1e-9


# ---------------------------------------------------------------------------------------------------------- refusals


def can_hold(p: Floats, targets: Sequence[Target]) -> bool:
    """The reference: whether some mix meets these targets and leaves somebody in each stratum."""
    rows = np.array([(t.inside & t.stratum) - t.share * t.stratum for t in targets])[:, p > 0]
    strata = np.array([t.stratum for t in targets], dtype=float)[:, p > 0]
    n, least = rows.shape[1], np.zeros((len(targets), 1))
    answer = linprog(
        np.append(np.zeros(n), -1.0),
        A_eq=np.concatenate([np.append(rows, least, axis=1), [np.append(np.ones(n), 0.0)]]),
        b_eq=np.append(np.zeros(len(rows)), 1.0),
        A_ub=np.append(-strata, np.ones((len(targets), 1)), axis=1),
        b_ub=np.zeros(len(targets)),
        bounds=(0, 1),
    )
    return bool(answer.status == 0 and -answer.fun > 1e-7)


@SOME
@given(st.integers(0, 2**32), st.integers(2, 6))
def test_the_smallest_set_of_contradicting_targets_is_named(key: int, count: int) -> None:
    cells = make_cells(key, (2, 2, 2))
    rng = stream_from_key(key + 2)
    targets = [
        Target(f"t{k}", t.inside, float(np.round(rng.beta(0.6, 0.6) * 0.98 + 0.01, 3)), t.within)
        for k, t in enumerate(make_targets(cells, key, count))
    ]
    try:
        solve_mix(cells.p, targets)
    except PopulationError as error:
        chosen = [targets[int(k)] for k in re.findall(r"\bt(\d)\b", str(error))]
        if "cannot hold together" not in str(error):
            assert len(chosen) == 1
            return
        assert not can_hold(cells.p, chosen)
        for size in range(1, len(chosen)):
            assert all(can_hold(cells.p, some) for some in itertools.combinations(targets, size))
    else:
        assert can_hold(cells.p, targets)


A, B = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
EVEN = np.full(4, 0.25)


@pytest.mark.parametrize(
    ("p", "targets", "words"),
    [
        (EVEN, [Target("sex.F = 0.7", A, 0.7), Target("sex.M = 0.5", ~A, 0.5)],
         "population that population.where leaves: sex.F = 0.7; sex.M = 0.5 (they sum to 1.2). Relax or drop one"),
        (EVEN, [Target(f"t{k}", np.arange(4) == k, 0.4) for k in range(3)] + [Target("fine", ~(A | B), 0.1)],
         "leaves: t0; t1; t2 (they sum to 1.2)"),
        (EVEN, [Target("x = 1.2", A, 1.2)], "x = 1.2: a share must be from 0 to 1, got 1.2"),
        (EVEN, [Target("x", A, -0.1)], "x: a share must be from 0 to 1, got -0.1"),
        (EVEN, [Target("x", A, float("nan"))], "x: a share must be from 0 to 1"),
        (EVEN * A, [Target("x", B, 0.5, ~A)], "x: the population has nobody in that stratum. Drop it or widen"),
        (EVEN * A, [Target("x", ~A, 0.5)], "x: the population leaves nobody with it"),
        (EVEN * A, [Target("x", A, 0.5)], "x: this would leave 0.5 of the subjects without a category"),
        (EVEN, [Target("x = 0", A, 0.0), Target("y", B, 0.5, A)], "x = 0; y"),
        (EVEN, [Target("x", B, 0.1, A), Target("z", B, 0.5), Target("y", B, 0.3, A)], "leaves: x; y. Relax"),
        (EVEN * 0, [], "not all 0"),
        (EVEN, [Target("x", A[:3], 0.5)], "one entry for each of the 4 cells"),
    ],
)  # fmt: skip
def test_impossible_targets_are_refused_by_name(p: Floats, targets: list[Target], words: str) -> None:
    with pytest.raises(PopulationError) as caught:
        solve_mix(p, targets)
    assert words in str(caught.value)


# ---------------------------------------------------------------------------------------------------- whole subjects


@SOME
@given(st.integers(0, 2**32), st.integers(1, 8), st.integers(1, 10**9) | st.integers(1, 300))
def test_rounding_meets_every_target_as_exactly_as_whole_subjects_allow(key: int, count: int, total: int) -> None:
    cells = make_cells(key, holes=0.2)
    targets = [t for t in make_targets(cells, key, count) if cells.p[t.stratum].sum() > 0]
    q = solve_mix(cells.p, targets)
    counts = round_counts(q, total, targets)
    assert counts.dtype == np.int64
    assert counts.sum() == total
    assert np.all(counts >= 0)
    assert np.all(counts[q == 0] == 0)
    assert np.abs(counts - q * total).max() < 3 + 1e-5
    for t in targets:
        assert miss_of(counts, t) < 1
    assert round_counts(q, total, targets).tolist() == counts.tolist()
    if total > 10**4:  # enough subjects: halves and neighbours are always possible
        assert max(miss_of(counts, t) for t in targets) <= 0.5 + 1e-5
        assert np.abs(counts - q * total).max() <= 1 + 1e-5


def test_a_tie_and_no_targets_at_all() -> None:
    counts = round_counts(EVEN, 5, [Target("a", A, 0.5)])
    assert counts.sum() == 5
    assert counts[A].sum() in (2, 3)
    assert sorted(round_counts(EVEN, 6, []).tolist()) == [1, 1, 2, 2]


def test_more_groups_than_an_integer_programme_takes() -> None:
    cells = make_cells(8, (5, 6, 4, 9), holes=0.1)
    targets = [
        Target("t", cells.select(**{name: [code]}), float(cells.p[cells.select(**{name: [code]})].sum()))
        for name, size in zip("abcd", (5, 6, 4, 9), strict=True)
        for code in range(size - 1)
    ]
    assert len(cells.p) > EXACT_GROUPS
    for total in (400, 10**9):
        counts = round_counts(cells.p, total, targets)
        assert counts.sum() == total
        assert max(miss_of(counts, t) for t in targets) <= 0.5 + 1e-5
        assert np.abs(counts - cells.p * total).max() < 1


def test_too_few_subjects_for_the_targets_are_told_how_many_would_do() -> None:
    q = np.array([0.25, 0.25, 0.25, 0.25])
    thirds = [Target(f"t{k}", np.arange(4) == k, 0.25) for k in range(4)]
    assert round_counts(q, 2, thirds).sum() == 2
    holes = np.array([0.0, 0.5, 0.5, 0.0])
    with pytest.raises(PopulationError, match=r"1 subjects cannot be divided .*: x; y\. Ask for at least \d+ subjects"):
        round_counts(holes, 1, [Target("x", A, 0.0), Target("y", B, 0.0)])


# ----------------------------------------------------------------------------------------------------------- weights


@SOME
@given(st.integers(0, 2**32), st.integers(1, 8))
def test_weights_lead_back_to_the_population(key: int, count: int) -> None:
    cells = make_cells(key)
    targets = make_targets(cells, key, count)
    q = solve_mix(cells.p, targets)
    weights = design_weights(cells.p, q)
    assert weights @ q == pytest.approx(1, abs=1e-12)
    assert weights * q == pytest.approx(cells.p, abs=1e-9)
    counts = round_counts(q, 10**6, targets)
    if counts.min() > 0:
        weights = design_weights(cells.p, counts.astype(float))
        assert weights * counts / 10**6 == pytest.approx(cells.p, abs=1e-12)


def test_effective_sample_size_is_that_of_kish() -> None:
    assert effective_sample_size(np.array([1.0]), np.array([50])) == 50
    assert effective_sample_size(np.array([1.0, 3.0]), np.array([2, 1])) == pytest.approx(25 / 11)
    assert effective_sample_size(np.array([2.0, 6.0]), np.array([2, 1])) == pytest.approx(25 / 11)
    assert effective_sample_size(np.array([0.0]), np.array([5])) == 0
    with pytest.raises(PopulationError, match="no weights lead back"):
        design_weights(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
