"""Severity of diseases by visit, and the arms of a trial, against their sources."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from synth.errors import PopulationError
from synth.nouns import Subject
from synth.population import find_population
from synth.population.prevalence import (
    AGES_YEARS,
    DIAGNOSES,
    glioma_prevalence,
    meningioma_prevalence,
    residents_by_age,
    source_table,
)
from synth.population.severity import ARTERIES, GLIOMA_MOST_ML, Severity, draw_severity, grade_fazekas
from synth.seeds import stream
from synth.spec import CohortSpec

ADULT = find_population("adult-brain")


def draw_many(diagnosis: str, ages_years: tuple[float, ...], count: int = 600, **more: float) -> list[Severity]:
    return [draw_severity(stream(3, index, -1, "test"), diagnosis, ages_years, **more) for index in range(count)]


def make_spec(subjects: int = 60, **population: Any) -> CohortSpec:
    visits = {"count": 3, "interval_years": 1.0, "share": 1.0}
    return CohortSpec.model_validate(
        {"name": "x", "subjects": subjects, "seed": 2, "population": population, "imaging": {"visits": visits}}
    )


def draw_trial(subjects: int = 60, **arms: Any) -> list[Subject]:
    spec = make_spec(subjects, where={"diagnosis": ["multiple-sclerosis"]}, arms=arms)
    ADULT.check(spec)
    return ADULT.draw_subjects(spec, "c", 0, subjects)


def test_hyperintensities_come_with_age_and_grow() -> None:
    grades = {}
    for age in (35.0, 65.0, 85.0):
        drawn = draw_many("none", (age, age + 4))
        loads = np.array([one.lesion_ml for one in drawn])
        assert (np.diff(loads, axis=1) >= 0).all()
        grades[age] = np.array([one.visits[0]["fazekas"] for one in drawn], float)
        assert grades[age].tolist() == [grade_fazekas(load) for load in loads[:, 0]]
        assert loads.max() <= 80
    assert (grades[35.0] == 0).mean() > 0.95
    assert (grades[65.0] >= 1).mean() > 0.9  # 95 % of those above 60 have some
    assert (grades[85.0] >= 2).mean() > 0.7 > (grades[65.0] >= 2).mean()
    ill = np.median([one.lesion_ml[0] for one in draw_many("alzheimer-disease", (75.0,))])
    assert ill > 1.3 * np.median([one.lesion_ml[0] for one in draw_many("none", (75.0,))])
    assert [grade_fazekas(load) for load in (0, 0.9, 1, 8, 25, 80)] == [0, 0, 1, 2, 3, 3]


def test_the_hippocampi_shrink_faster_in_alzheimers_disease() -> None:
    loss = np.array(
        [[v["medial_temporal_loss"] for v in one.visits] for one in draw_many("alzheimer-disease", (75.0, 76.0))]
    )
    assert loss[:, 0].mean() == pytest.approx(0.2, abs=0.01)
    assert np.diff(loss, axis=1).mean() == pytest.approx(0.032, abs=0.004)
    assert loss.max() < 0.5


def test_gliomas_grow_at_the_speed_of_their_front() -> None:
    for one in draw_many("glioma", (60.0, 60.1, 60.2), 300):
        assert max(one.lesion_ml) <= GLIOMA_MOST_ML + 1e-9
        radius = np.cbrt(3000 * np.array(one.lesion_ml) / (4 * math.pi))
        diffusion, rho = (float(one.subject[name]) for name in ("diffusion_mm2_year", "rho_year"))  # type: ignore[arg-type]
        np.testing.assert_allclose(np.diff(radius) / 0.1, 2 * math.sqrt(diffusion * rho), rtol=1e-6)
    with pytest.raises(PopulationError, match=r"no glioma stays below 170 mL for 20.0 years. Shorten the follow-up"):
        draw_many("glioma", (50.0, 70.0), 1)


def test_meningiomas_grow_and_infarcts_shrink_to_what_stays() -> None:
    for one in draw_many("meningioma", (60.0, 65.0, 70.0), 200):
        assert all(a < b for a, b in itertools.pairwise(one.lesion_ml))
        assert one.lesion_ml[-1] < 70
    strokes = draw_many("ischaemic-stroke", (40.0, 41.0), 400)
    for one in strokes:
        acute, late = (ml - float(v["hyperintensity_ml"]) for ml, v in zip(one.lesion_ml, one.visits, strict=True))  # type: ignore[arg-type]
        assert 0.6 < late / acute < 0.7
        assert 0.25 <= one.visits[0]["days_since_onset"] <= 7  # type: ignore[operator]
        assert one.visits[1]["days_since_onset"] > 365  # type: ignore[operator]
    for artery, (share, *_) in ARTERIES.items():
        found = np.mean([one.subject["artery"] == artery for one in strokes])
        assert found == pytest.approx(share, abs=0.06)


def test_new_lesions_are_those_of_the_placebo_arm_and_fewer_when_treated() -> None:
    """AFFIRM: 11.0 new or enlarging T2 lesions in two years with placebo, 1.9 with natalizumab (83 % fewer)."""
    ages = (40.0, 41.0, 42.0)
    placebo, treated = (
        np.mean(
            [
                sum(int(v["new_lesions"]) for v in one.visits[1:])
                for one in draw_many("multiple-sclerosis", ages, 3000, **effect)
            ]
        )  # type: ignore[arg-type]
        for effect in ({}, {"new_lesions": 0.17})
    )
    assert placebo == pytest.approx(11.0, rel=0.06)
    assert treated == pytest.approx(1.9, rel=0.08)


def test_arms_have_their_shares_and_differ_only_after_the_first_visit() -> None:
    drawn = draw_trial(placebo={"share": 2 / 3}, drug={"share": 1 / 3, "new_lesions": 0.0, "loss": 0.5})
    names = [one.attributes["arm"] for one in drawn]
    assert (names.count("placebo"), names.count("drug")) == (40, 20)
    assert sum(a != b for a, b in itertools.pairwise(names)) > 5  # shuffled
    same = draw_trial(placebo={"share": 2 / 3}, drug={"share": 1 / 3})
    for one, other in zip(drawn, same, strict=True):
        assert one.attributes["arm"] == other.attributes["arm"]
        if one.attributes["arm"] == "placebo":
            assert one == other
            continue
        assert one.visits[0].lesion_ml == other.visits[0].lesion_ml
        assert one.visits[0].brain_ml == pytest.approx(other.visits[0].brain_ml, rel=0.01)  # bounds hold on all visits
        assert [v.attributes["new_lesions"] for v in one.visits[1:]] == [0, 0]
        assert one.visits[2].lesion_ml == one.visits[0].lesion_ml
        lost, usual = ((s.visits[0].brain_ml - s.visits[2].brain_ml) for s in (one, other))  # type: ignore[operator]
        assert 0 < lost < usual
    arms = {"placebo": {"share": 2 / 3}, "drug": {"share": 1 / 3}}
    spec = make_spec(60, where={"diagnosis": ["multiple-sclerosis"]}, arms=arms)
    part = ADULT.draw_subjects(spec, "c", 20, 30)
    assert part == same[20:30]


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ({"a": {"share": 0.5}, "b": {"share": 0.4}}, "sum to 0.9; they must sum to 1"),
        ({"a": {"share": 1.0}}, "two arms at least"),
        ({"a": {"share": 0.5}, "b": {"share": 0.5, "new_lesions": -1}}, "greater than or equal to 0"),
        ({"a": {"share": 0.5}, "b": {"share": 0.5, "loss": 9}}, "less than or equal to 5"),
    ],
)
def test_impossible_arms_are_refused_when_the_recipe_is_read(arms: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_spec(arms=arms)


def test_arms_need_follow_up_and_subjects() -> None:
    arms = {"a": {"share": 0.5}, "b": {"share": 0.5}}
    once = CohortSpec.model_validate({"name": "x", "subjects": 9, "population": {"arms": arms}})
    with pytest.raises(
        PopulationError, match=r"population.arms: a treatment acts between visits; .*Set imaging.visits.count"
    ):
        ADULT.check(once)
    few = make_spec(3, arms={"a": {"share": 0.9}, "b": {"share": 0.1}})
    with pytest.raises(PopulationError, match=r"population.arms.b: a share of 0.1 of 3 .* at least 10 subjects"):
        ADULT.check(few)


def test_prevalences_are_those_of_their_sources() -> None:
    table = source_table()
    assert table.shape == (2, len(DIAGNOSES), len(AGES_YEARS))
    assert table.min() >= 0
    old = AGES_YEARS >= 75
    people = [residents_by_age("F"), residents_by_age("M")]
    both = [p[old].sum() for p in people]
    older = sum(meningioma_prevalence(s)[old] @ p[old] for s, p in zip(("F", "M"), people, strict=True)) / sum(both)
    assert older == pytest.approx(0.016, abs=0.002)
    over_45 = AGES_YEARS >= 45
    women, men = (
        meningioma_prevalence(s)[over_45] @ p[over_45] / p[over_45].sum()
        for s, p in zip(("F", "M"), people, strict=True)
    )
    assert women == pytest.approx(0.011, abs=0.002)
    assert men == pytest.approx(0.007, abs=0.001)
    np.testing.assert_allclose(glioma_prevalence("M") / glioma_prevalence("F"), 1.58, rtol=0.01)
