"""Laws of the adult-brain population: slicing, determinism, targets, weights, where, visits, refusals."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.errors import PopulationError
from synth.nouns import Subject
from synth.population import POPULATIONS, find_population
from synth.population.conditioning import Target, solve_mix
from synth.population.prevalence import AGES_YEARS, DIAGNOSES, SEXES, source_table
from synth.population.rounding import round_counts, round_shares
from synth.spec import CohortSpec

ADULT = find_population("adult-brain")
FEW = settings(max_examples=25, deadline=None, derandomize=True)


def make_spec(
    subjects: int = 60, seed: int = 7, where: Any = None, targets: Any = None, visits: Any = None
) -> CohortSpec:
    return CohortSpec.model_validate(
        {
            "name": "t",
            "subjects": subjects,
            "seed": seed,
            "population": {"where": where or {}, "targets": targets or {}},
            "imaging": {"visits": visits or {}},
        }
    )


def draw_all(spec: CohortSpec) -> list[Subject]:
    ADULT.check(spec)
    return ADULT.draw_subjects(spec, "c", 0, spec.subjects)


HALF_AND_THIRTY = {"sex": {"F": 0.5}, "diagnosis": {"multiple-sclerosis": 0.3}}


@FEW
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 2**62))
def test_any_slicing_gives_the_same_subjects(a: int, b: int, seed: int) -> None:
    spec = make_spec(seed=seed, targets=HALF_AND_THIRTY, visits={"count": 3, "share": 0.4})
    first, second = sorted((a, b))
    whole = ADULT.draw_subjects(spec, "c", 0, 60)
    cuts = [(0, first), (first, second), (second, 60)]
    assert [s for start, stop in cuts for s in ADULT.draw_subjects(spec, "c", start, stop)] == whole


def test_other_seed_other_subjects_and_ids_are_stable() -> None:
    one, again, other = (draw_all(make_spec(seed=seed)) for seed in (1, 1, 2))
    assert one == again
    assert [s.subject_id for s in one[:2]] == ["c-s0000000", "c-s0000001"]
    assert all(a.intracranial_ml != b.intracranial_ml for a, b in zip(one, other, strict=True))
    assert len({s.intracranial_ml for s in one}) == 60


def test_a_million_subjects_are_sliced_without_drawing_the_others() -> None:
    spec = make_spec(1_000_000, targets=HALF_AND_THIRTY, visits={"count": 2})
    ADULT.check(spec)
    assert [s.subject_index for s in ADULT.draw_subjects(spec, "c", 999_997, 1_000_000)] == [999_997, 999_998, 999_999]


@pytest.mark.parametrize("subjects", [48, 100, 1000])
@pytest.mark.parametrize("seed", [0, 11])
def test_targets_are_met_within_one_subject(subjects: int, seed: int) -> None:
    spec = make_spec(subjects, seed, targets=HALF_AND_THIRTY)
    drawn = draw_all(spec)
    shares = ADULT.expected_shares(spec)
    assert shares["sex"]["F"] == pytest.approx(0.5, abs=1e-6)
    assert shares["diagnosis"]["multiple-sclerosis"] == pytest.approx(0.3, abs=1e-6)
    for attribute, expected in shares.items():
        counts = Counter(getattr(s, attribute) for s in drawn)
        for category, share in expected.items():
            assert abs(counts[category] - share * subjects) < 1, (attribute, category, counts)


@FEW
@given(st.integers(20, 400), st.floats(0.1, 0.9), st.floats(0.1, 0.6), st.floats(0.0, 0.3))
def test_any_feasible_target_is_met_within_one_subject(n: int, women: float, ms: float, ad: float) -> None:
    targets = {
        "sex": {"F": women},
        "diagnosis": {"multiple-sclerosis": ms, "alzheimer-disease": ad if ad * n > 2 else 0},
    }
    spec = make_spec(n, targets=targets)
    counts = Counter(s.diagnosis for s in draw_all(spec))
    for category, share in ADULT.expected_shares(spec)["diagnosis"].items():
        assert abs(counts[category] - share * n) < 1
    assert abs(Counter(s.sex for s in draw_all(spec))["F"] - women * n) < 1


@FEW
@given(
    st.lists(st.floats(0, 1).map(lambda x: x if x > 0.01 else 0.0), min_size=6, max_size=6).filter(
        lambda x: sum(x) > 0.1
    ),
    st.integers(1, 5000),
)
def test_controlled_rounding_keeps_both_margins_and_the_zeros(cells: list[float], total: int) -> None:
    table = np.array(cells).reshape(2, 3) / sum(cells)
    masks = [(np.indices((2, 3))[axis] == code).ravel() for axis, size in ((0, 2), (1, 3)) for code in range(size)]
    margins = [Target("margin", mask, float(table.ravel()[mask].sum())) for mask in masks]
    counts = round_counts(table.ravel(), total, [], margins).reshape(2, 3)
    assert counts.sum() == total
    assert (counts >= 0).all()
    assert (counts[table == 0] == 0).all()
    for axis in (0, 1):
        assert np.abs(counts.sum(axis=axis) - table.sum(axis=axis) * total).max() < 1 + 1e-6


def test_round_shares_is_largest_remainder() -> None:
    assert round_shares(np.array([0.26, 0.37, 0.37]), 10).tolist() == [2, 4, 4]


def test_weights_reproduce_the_source_population() -> None:
    drawn = draw_all(make_spec(4000, targets={"sex": {"F": 0.2}, "diagnosis": {"multiple-sclerosis": 0.4}}))
    weights = np.array([s.design_weight for s in drawn])
    assert weights.mean() == pytest.approx(1.0, abs=0.01)
    source = source_table()
    women = np.array([s.sex == "F" for s in drawn])
    assert (weights * women).sum() / weights.sum() == pytest.approx(source[0].sum(), abs=0.01)
    assert women.mean() == pytest.approx(0.2, abs=0.001)  # unweighted is another number, so the weights do something
    ms = np.array([s.diagnosis == "multiple-sclerosis" for s in drawn])
    assert (weights * ms).sum() / weights.sum() == pytest.approx(source[:, 1].sum(), abs=0.0002)
    ages = np.array([s.age_years for s in drawn])
    mean_age = (source.sum(axis=(0, 1)) * (AGES_YEARS + 0.5)).sum()
    assert (weights * ages).sum() / weights.sum() == pytest.approx(mean_age, abs=0.25)


def test_without_targets_the_natural_mix_and_weights_of_one() -> None:
    drawn = draw_all(make_spec(2000))
    assert {round(s.design_weight, 9) for s in drawn} == {1.0}
    source = source_table().sum(axis=2)
    for i, sex in enumerate(SEXES):
        for j, diagnosis in enumerate(DIAGNOSES):
            count = sum(s.sex == sex and s.diagnosis == diagnosis for s in drawn)
            assert abs(count - source[i, j] * 2000) < 2


def test_age_distribution_follows_the_source() -> None:
    ages = np.array([s.age_years for s in draw_all(make_spec(3000))])
    cdf = source_table().sum(axis=(0, 1)).cumsum()
    for age in (30, 50, 70, 85):
        assert (ages < age).mean() == pytest.approx(cdf[age - 18 - 1], abs=0.005)
    assert ages.min() >= 18
    assert ages.max() <= 95


@pytest.mark.parametrize(
    ("low", "high", "women", "men"), [(65, 75, 0.05, 0.05), (75, 85, 0.131, 0.131), (85, 95, 0.333, 0.333)]
)
def test_alzheimer_prevalence_matches_facts_and_figures(low: int, high: int, women: float, men: float) -> None:
    table = source_table()[:, :, (low <= AGES_YEARS) & (high > AGES_YEARS)]
    assert table[:, 2].sum() / table.sum() == pytest.approx((women + men) / 2, abs=0.005)


def test_prevalence_by_sex_matches_the_papers() -> None:
    table = source_table()
    assert table.sum() == pytest.approx(1, abs=1e-12)
    assert table.min() >= 0
    for i, per_100k in enumerate((450.1, 159.7)):
        assert table[i, 1].sum() / table[i].sum() * 1e5 == pytest.approx(per_100k, abs=0.1)
    old = table[:, :, AGES_YEARS >= 65]
    assert old[0, 2].sum() / old[0].sum() == pytest.approx(0.12, abs=0.005)
    assert old[1, 2].sum() / old[1].sum() == pytest.approx(0.09, abs=0.005)
    ms_by_age = table[:, 1].sum(axis=0) / table.sum(axis=(0, 1))
    assert 55 <= AGES_YEARS[int(ms_by_age.argmax())] < 65


@FEW
@given(
    st.floats(18, 90),
    st.floats(0.5, 40),
    st.sampled_from([("F",), ("M",), ("F", "M")]),
    st.sampled_from([("none",), ("multiple-sclerosis",), ("none", "multiple-sclerosis")]),
    st.sampled_from([("Siemens",), ("GE", "Philips")]),
    st.sampled_from([(1.5,), (3.0,)]),
)
def test_where_holds_for_everybody(
    low: float, width: float, sex: Any, diagnosis: Any, manufacturer: Any, field: Any
) -> None:
    high = min(95.0, low + width)
    where = {
        "age_years": [low, high],
        "sex": sex,
        "diagnosis": diagnosis,
        "manufacturer": manufacturer,
        "field_strength_t": field,
    }
    for s in draw_all(make_spec(20, where=where)):
        assert low <= s.age_years <= high
        assert (s.sex in sex, s.diagnosis in diagnosis, s.manufacturer in manufacturer) == (True, True, True)
        assert s.field_strength_t in field


@pytest.mark.parametrize(("share", "subjects"), [(0.5, 48), (0.3, 101), (1.0, 7), (0.0, 9)])
def test_follow_up_is_exact_in_number_and_spread_over_diagnoses(share: float, subjects: int) -> None:
    drawn = draw_all(
        make_spec(subjects, targets={"diagnosis": {"multiple-sclerosis": 0.5}}, visits={"count": 3, "share": share})
    )
    followed = [s for s in drawn if len(s.visits) == 3]
    assert all(len(s.visits) == 1 for s in drawn if s not in followed)
    assert abs(len(followed) - share * subjects) <= 0.5
    for diagnosis in ("none", "multiple-sclerosis"):
        group = sum(s.diagnosis == diagnosis for s in drawn)
        assert abs(sum(s.diagnosis == diagnosis for s in followed) - share * group) < 3


def test_visits_are_about_the_interval_apart() -> None:
    drawn = draw_all(make_spec(200, visits={"count": 4, "interval_years": 0.5}))
    gaps = np.array([np.diff([v.years_since_first for v in s.visits]) for s in drawn])
    assert gaps.min() >= 0.45
    assert gaps.max() <= 0.55
    assert gaps.mean() == pytest.approx(0.5, abs=0.005)
    assert gaps.std() > 0.02
    for s in drawn:
        assert [v.visit for v in s.visits] == [0, 1, 2, 3]
        assert s.visits[0].years_since_first == 0.0
        assert all(v.age_years == pytest.approx(s.age_years + v.years_since_first, abs=1e-9) for v in s.visits)


def test_targets_that_leave_a_category_out_are_fine() -> None:
    drawn = draw_all(make_spec(40, targets={"diagnosis": {"none": 0.5, "multiple-sclerosis": 0.5}}))
    assert Counter(s.diagnosis for s in drawn) == {"none": 20, "multiple-sclerosis": 20}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"where": {"sex": ["female"]}}, "'female' is not known. Did you mean 'F'?"),
    ({"where": {"diagnosis": ["multiple-sclrosis"]}}, "Did you mean 'multiple-sclerosis'?"),
    (
        {"targets": {"diagnosis": {"MS": 0.5}}},
        "targets.diagnosis: 'MS' is not known. Did you mean 'multiple-sclerosis'?",
    ),
    ({"targets": {"sex": {"X": 0.5}}}, "'X' is not known. Known: F, M."),
    ({"where": {"manufacturer": ["SIEMENS"]}}, "Did you mean 'Siemens'?"),
    ({"where": {"field_strength_t": [7.0]}}, "no scanner of the population has 7 T. Known: 1.5, 3 T."),
    ({"where": {"manufacturer": ["Hitachi"], "field_strength_t": [3.0]}}, "leaves no scanner"),
    ({"where": {"age_years": [5, 40]}}, "[5, 40] is outside the modelled ages; use 18 to 95 years"),
    ({"where": {"age_years": [40, 99]}}, "use 18 to 95 years"),
    ({"where": {"diagnosis": ["alzheimer-disease"], "age_years": [18, 30]}}, "leaves nobody"),
    ({"where": {"sex": []}}, "leaves nobody: age_years 18 to 95, sex []"),
    ({"where": {"age_years": [18, 30]}, "targets": {"diagnosis": {"alzheimer-disease": 0.3}}}, "leaves nobody with it"),
    ({"where": {"sex": ["F"]}, "targets": {"sex": {"F": 0.5}}}, "leave 0.5 of the subjects without a category"),
    ({"subjects": 10, "targets": {"sex": {"F": 0.01}}}, "a share of 0.01 of 10 subjects is no subject"),
    ({"subjects": 10, "visits": {"count": 2, "share": 0.01}}, "a share of 0.01 of 10 subjects is no subject"),
    ({"visits": {"count": 20, "interval_years": 1.0}}, "to the age of 116; the model ends at 105"),
    (
        {
            "where": {"diagnosis": ["alzheimer-disease"], "age_years": [85, 86], "sex": ["F"]},
            "visits": {"count": 2, "interval_years": 17.0},
        },
        "no brain fits",
    ),
]


@pytest.mark.parametrize(("recipe", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_impossible_recipes_are_refused_with_a_reason(recipe: dict[str, Any], message: str) -> None:
    with pytest.raises(PopulationError) as caught:
        ADULT.check(make_spec(**recipe))
    assert message in str(caught.value)


def test_raking_refuses_margins_that_cannot_hold_together() -> None:
    a, x = np.array([True, True, False, False]), np.array([True, False, True, False])
    with pytest.raises(PopulationError, match="cannot hold together"):
        solve_mix(np.array([0.5, 0.0, 0.0, 0.5]), [Target("a = 0.9", a, 0.9), Target("x = 0.1", x, 0.1)])


def test_raking_keeps_the_odds_ratio() -> None:
    table = np.array([[0.1, 0.2], [0.3, 0.4]])
    a, x = np.array([True, True, False, False]), np.array([True, False, True, False])
    raked = solve_mix(table.ravel(), [Target("a = 0.5", a, 0.5), Target("x = 0.7", x, 0.7)]).reshape(2, 2)
    assert raked.sum(axis=1) == pytest.approx([0.5, 0.5], abs=1e-9)
    assert raked.sum(axis=0) == pytest.approx([0.7, 0.3], abs=1e-9)
    odds = [t[0, 0] * t[1, 1] / t[0, 1] / t[1, 0] for t in (table, raked)]
    assert odds[0] == pytest.approx(odds[1], abs=1e-6)


def test_registry_suggests_the_nearest_population() -> None:
    with pytest.raises(PopulationError, match="Did you mean 'adult-brain'"):
        find_population("adult-brian")
    for name, population in POPULATIONS.items():
        assert population.name == name
        assert population.version
        assert population.describe_sources()


def test_slices_outside_the_cohort_are_refused() -> None:
    with pytest.raises(PopulationError, match="stay within it"):
        ADULT.draw_subjects(make_spec(), "c", 50, 61)
