"""Gates: each one passes, and fails for its own reason in words and numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from synth.errors import SpecError
from synth.evaluation.gates import Adherence, CohortCounts, check_gates, evaluate_cohort
from synth.measure import MEASURES
from synth.nouns import GateResult, Report
from synth.spec import CohortSpec

GOOD = CohortCounts(
    images_planned=100,
    images_present=100,
    subjects=50,
    wanted_shares={"sex": {"F": 0.5, "M": 0.5}, "diagnosis": {"none": 0.7, "multiple-sclerosis": 0.3}},
    drawn_shares={"sex": {"F": 0.5, "M": 0.5}, "diagnosis": {"none": 0.7, "multiple-sclerosis": 0.3}},
    adherence={"snr": Adherence(100, 97, 0.2, 1.1), "brain_volume": Adherence(100, 100, 0.1, 0.4)},
)


def spec(**gates: Any) -> CohortSpec:
    return CohortSpec.model_validate({"name": "t", "subjects": 50, "gates": gates})


def judge(counts: CohortCounts, **gates: Any) -> Report:
    return evaluate_cohort(spec(**gates), "t-0", counts)


def gate_of(report: Report, name: str) -> GateResult:
    return next(gate for gate in report.gates if gate.gate == name)


def test_a_good_cohort_passes_every_gate() -> None:
    report = judge(GOOD)
    assert report.passed
    assert report.reasons == ()
    assert [gate.gate for gate in report.gates] == [
        "images_complete",
        "population.diagnosis",
        "population.sex",
        "adherence.brain_volume",
        "adherence.snr",
    ]
    assert report.spec_hash == spec().content_hash
    assert report.scores["adherence.snr"] == 0.97
    assert report.scores["worst_error.snr"] == 1.1
    assert report.scores["mean_error.brain_volume"] == 0.1
    assert all(math.isfinite(score) for score in report.scores.values())


def test_a_missing_image_refuses_and_says_how_many() -> None:
    report = judge(replace(GOOD, images_present=97))
    assert report.reasons == ("images_complete: 3 of 100 images are missing",)
    assert gate_of(report, "images_complete").value == pytest.approx(0.97)


def test_too_many_images_are_not_complete_either() -> None:
    assert not judge(replace(GOOD, images_present=101)).passed


def test_a_share_that_is_off_refuses_and_says_by_how_much() -> None:
    drawn = {"sex": {"F": 0.56, "M": 0.44}, "diagnosis": GOOD.drawn_shares["diagnosis"]}
    report = judge(replace(GOOD, drawn_shares=drawn))
    assert [gate.gate for gate in report.gates if not gate.passed] == ["population.sex"]
    (reason,) = report.reasons
    assert reason == "population.sex: share of 'F' is 0.5600, 0.5000 wanted; off by 0.0600, 0.0200 allowed"


@pytest.mark.parametrize(("off", "allowed", "passed"), [(0.02, 0.02, True), (0.03, 0.02, False), (0.03, 0.05, True)])
def test_the_population_gate_has_its_threshold(off: float, allowed: float, passed: bool) -> None:
    drawn = {"sex": {"F": 0.5 + off, "M": 0.5 - off}, "diagnosis": GOOD.drawn_shares["diagnosis"]}
    assert judge(replace(GOOD, drawn_shares=drawn, subjects=1000), population_error_max=allowed).passed is passed


def test_one_subject_more_or_less_is_always_allowed() -> None:
    drawn = {"sex": {"F": 0.55, "M": 0.45}, "diagnosis": GOOD.drawn_shares["diagnosis"]}
    assert judge(replace(GOOD, drawn_shares=drawn, subjects=20)).passed
    assert not judge(replace(GOOD, drawn_shares=drawn, subjects=21)).passed


def test_a_share_of_a_stratum_is_allowed_one_subject_of_the_stratum() -> None:
    wanted = {**GOOD.wanted_shares, "prevalence": {"ms where sex F": 0.12}}
    drawn = {**GOOD.drawn_shares, "prevalence": {"ms where sex F": 0.20}}
    counts = replace(GOOD, wanted_shares=wanted, drawn_shares=drawn, stratum_subjects={"ms where sex F": 10})
    gate = gate_of(judge(counts), "population.prevalence")
    assert (gate.passed, gate.threshold, gate.value) == (True, 0.1, pytest.approx(0.08))
    assert not judge(replace(counts, stratum_subjects={"ms where sex F": 20})).passed
    assert not judge(replace(counts, stratum_subjects={})).passed


def test_the_effective_sample_size_is_a_score() -> None:
    assert "effective_sample_size" not in judge(GOOD).scores
    assert judge(replace(GOOD, effective_sample_size=31.5)).scores["effective_sample_size"] == 31.5


def test_categories_that_nobody_wanted_or_nobody_got_count() -> None:
    drawn = {"sex": GOOD.drawn_shares["sex"], "diagnosis": {"none": 0.7, "alzheimer-disease": 0.3}}
    (reason,) = judge(replace(GOOD, drawn_shares=drawn)).reasons
    assert "share of 'alzheimer-disease' is 0.3000, 0.0000 wanted" in reason
    assert not judge(replace(GOOD, drawn_shares={"diagnosis": GOOD.drawn_shares["diagnosis"]})).passed


def test_low_adherence_refuses_and_says_how_short() -> None:
    adherence = {**GOOD.adherence, "snr": Adherence(100, 90, 0.6, 3.4)}
    report = judge(replace(GOOD, adherence=adherence))
    assert report.reasons == (
        "adherence.snr: 90 of 100 images within tolerance (0.9000), 0.9500 required; short by 0.0500, "
        "worst miss 3.4 times the tolerance",
    )


def test_a_measurement_can_have_its_own_threshold() -> None:
    adherence = {**GOOD.adherence, "snr": Adherence(100, 90, 0.6, 3.4)}
    assert judge(replace(GOOD, adherence=adherence), adherence={"snr": 0.9}).passed
    strict = judge(GOOD, adherence={"snr": 0.98})
    assert [gate.gate for gate in strict.gates if not gate.passed] == ["adherence.snr"]
    assert judge(GOOD, adherence_min=0.97).passed
    assert not judge(GOOD, adherence_min=0.98).passed


def test_no_image_measured_is_not_a_pass() -> None:
    report = judge(replace(GOOD, adherence={"snr": Adherence(0, 0, math.nan, math.nan)}), adherence_min=0.0)
    gate = gate_of(report, "adherence.snr")
    assert math.isnan(gate.value)
    assert not gate.passed
    assert "0 of 0 images" in gate.reason


@pytest.mark.parametrize("name", sorted(MEASURES))
def test_every_measurement_may_be_named_in_the_recipe(name: str) -> None:
    check_gates(spec(adherence={name: 0.5}))


def test_an_unknown_measurement_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(SpecError, match=r"'ventricle_volum' is not a measurement; .*Did you mean 'ventricle_volume'\?"):
        check_gates(spec(adherence={"ventricle_volum": 0.9}))
