"""Volumes against their sources: table means at 48, ageing, disease, bounds, follow-up."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.errors import PopulationError
from synth.population.prevalence import DIAGNOSES, SEXES
from synth.population.volumes import (
    BRAIN_FRACTION,
    FILLED_FRACTION,
    VENTRICLE_RANGE_ML,
    VENTRICLE_SPACE,
    Volumes,
    brain_loss,
    draw_truncated,
    draw_volumes,
    grey_share_loss,
)
from synth.seeds import stream

N = 3000


def draw_many(sex: str, diagnosis: str, ages_years: tuple[float, ...], count: int = N) -> list[Volumes]:
    return [draw_volumes(stream(5, index, -1, "test"), sex, diagnosis, ages_years) for index in range(count)]


@pytest.mark.parametrize(
    ("sex", "icv", "brain", "ventricle"),
    [("M", (1538, 137), (1162, 130), (27.1, 13.0)), ("F", (1393, 91), (1068, 88), (20.2, 10.0))],
)
def test_healthy_volumes_at_48_match_the_table(
    sex: str, icv: tuple[float, float], brain: tuple[float, float], ventricle: tuple[float, float]
) -> None:
    drawn = draw_many(sex, "none", (48.0,))
    intracranial = np.array([v.intracranial_ml for v in drawn])
    brains, ventricles = np.array([v.brain_ml[0] for v in drawn]), np.array([v.ventricle_ml[0] for v in drawn])
    assert intracranial.mean() == pytest.approx(icv[0], abs=8)
    assert intracranial.std() == pytest.approx(icv[1], abs=7)  # truncation at 3 SD takes 1.3 %
    assert np.abs(intracranial - icv[0]).max() <= 3 * icv[1]
    assert brains.mean() == pytest.approx(brain[0], abs=8)
    assert brains.std() == pytest.approx(brain[1], abs=7)  # the bounds take a little
    assert ventricles.mean() == pytest.approx(ventricle[0], abs=1.0)
    assert ventricles.std() == pytest.approx(ventricle[1], abs=1.2)
    assert np.corrcoef(intracranial, brains)[0, 1] == pytest.approx(0.8, abs=0.05)
    assert np.corrcoef(brains / intracranial, np.log(ventricles))[0, 1] == pytest.approx(-0.4, abs=0.06)


def test_healthy_loss_is_the_integral_of_the_published_rate() -> None:
    ages = np.linspace(18, 95, 77_001)
    rate = np.where(ages < 35, 0, np.interp(ages, [35, 60], [0.002, 0.005]))
    for age in (30, 40, 60, 75, 95):
        assert brain_loss(age) == pytest.approx(np.trapezoid(rate[ages <= age], ages[ages <= age]), abs=1e-5)


@pytest.mark.parametrize(
    ("diagnosis", "age", "loss_percent", "growth_percent"),
    [
        ("none", 25, 0.0, 1.8),
        ("none", 65, 0.5, 2.7),
        ("multiple-sclerosis", 45, 0.73, 3.3),
        ("alzheimer-disease", 75, 1.6, 7.2),
    ],
)
def test_yearly_change_by_diagnosis(diagnosis: str, age: float, loss_percent: float, growth_percent: float) -> None:
    drawn = draw_many("F", diagnosis, (age, age + 1.0))
    loss = [-100 * math.log(v.brain_ml[1] / v.brain_ml[0]) for v in drawn]
    growth = [100 * math.log(v.ventricle_ml[1] / v.ventricle_ml[0]) for v in drawn]
    assert np.mean(loss) == pytest.approx(loss_percent, abs=0.04)
    assert np.mean(growth) == pytest.approx(growth_percent, abs=0.2)


def test_grey_over_white_matter_is_that_of_the_table_and_falls_as_published() -> None:
    """PMC10511609: 619 / 495 mL; J Neurol 2017;264:520: 0.32 - 0.02 %/yr at 35, 0.55 - 0.47 %/yr at 70."""
    ratios = []
    for sex in SEXES:
        drawn = draw_many(sex, "none", (48.0, 50.0), 1500)
        grey = np.array([v.grey_ml for v in drawn])
        ratios.append(grey / (np.array([v.brain_ml for v in drawn]) - grey))
        assert np.median(ratios[-1][:, 0]) == pytest.approx(1.25, abs=0.015)
        assert np.log(ratios[-1][:, 0]).std() == pytest.approx(0.09, abs=0.006)
    years = np.log(ratios[0][:, 1] / ratios[0][:, 0])
    np.testing.assert_allclose(years, years[0])  # a person keeps its place among others
    for age, percent in ((25.0, 0.30), (35.0, 0.30), (70.0, 0.08), (85.0, 0.08)):
        assert 100 * (grey_share_loss(age + 0.01) - grey_share_loss(age - 0.01)) / 0.02 == pytest.approx(
            percent, abs=1e-3
        )
    assert grey_share_loss(70.0) - grey_share_loss(35.0) == pytest.approx(35 * 0.0019)
    rates = {age: [] for age in (35.0, 70.0)}
    for age, found in rates.items():
        for v in draw_many("F", "none", (age, age + 1.0), 600):
            white = [b - g for b, g in zip(v.brain_ml, v.grey_ml, strict=True)]
            found.append([100 * math.log(a[0] / a[1]) for a in (v.grey_ml, white)])
    # with the loss of the whole brain from Hedman 2012 the two rates come out near their source
    np.testing.assert_allclose(np.mean(rates[35.0], axis=0), (0.32, 0.02), atol=0.06)
    np.testing.assert_allclose(np.mean(rates[70.0], axis=0), (0.55, 0.47), atol=0.06)


def test_ventricle_medians_by_age_and_disease() -> None:
    medians = {
        age: np.median([v.ventricle_ml[0] for sex in SEXES for v in draw_many(sex, "none", (age,), 1500)])
        for age in (25.0, 80.0)
    }
    assert medians[25.0] == pytest.approx(15, abs=2)
    assert 40 <= medians[80.0] <= 52
    sick = np.median([v.ventricle_ml[0] for v in draw_many("F", "alzheimer-disease", (65.0,), 1500)])
    well = np.median([v.ventricle_ml[0] for v in draw_many("F", "none", (65.0,), 1500)])
    assert 1.5 <= sick / well <= 1.9


def test_disease_shrinks_the_brain_at_the_first_visit() -> None:
    mean = {
        diagnosis: np.mean([v.brain_ml[0] / v.intracranial_ml for v in draw_many("M", diagnosis, (60.0,))])
        for diagnosis in DIAGNOSES
    }
    assert mean["none"] - mean["multiple-sclerosis"] > 0.01
    assert mean["multiple-sclerosis"] - mean["alzheimer-disease"] > 0.005


def test_lesions_are_log_normal_in_ms_and_absent_elsewhere() -> None:
    lesions = np.array([v.lesion_ml for v in draw_many("F", "multiple-sclerosis", (40.0, 42.0))])
    assert np.median(lesions[:, 0]) == pytest.approx(6.0, abs=0.5)
    assert 7.5 < lesions[:, 0].mean() < 10.5
    assert lesions[:, 0].min() >= 0.5
    assert lesions[:, 0].max() <= 50
    assert np.median(np.log(lesions[:, 1] / lesions[:, 0]) / 2) == pytest.approx(0.077, abs=0.01)
    assert draw_many("F", "none", (40.0, 42.0), 1)[0].lesion_ml == (0.0, 0.0)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**62),
    st.sampled_from(SEXES),
    st.sampled_from(DIAGNOSES),
    st.floats(40, 90),
    st.lists(st.floats(0.1, 2.0), max_size=3),
)
def test_every_visit_keeps_the_bounds_and_brains_only_shrink(
    seed: int, sex: str, diagnosis: str, age: float, gaps: list[float]
) -> None:
    ages = [age, *(age + np.cumsum(gaps)).tolist()]
    volumes = draw_volumes(stream(seed, 0, -1, "test"), sex, diagnosis, ages)
    icv = volumes.intracranial_ml
    slack = 1e-9 * icv
    for brain, grey, ventricle in zip(volumes.brain_ml, volumes.grey_ml, volumes.ventricle_ml, strict=True):
        assert 0.45 * brain < grey < 0.65 * brain
        assert BRAIN_FRACTION[0] * icv - slack <= brain <= BRAIN_FRACTION[1] * icv + slack
        assert VENTRICLE_RANGE_ML[0] - 1e-9 <= ventricle <= VENTRICLE_RANGE_ML[1] + 1e-9
        assert brain + VENTRICLE_SPACE * ventricle <= FILLED_FRACTION * icv + slack
    assert all(a > b for a, b in zip(volumes.brain_ml, volumes.brain_ml[1:], strict=False))
    assert all(a < b for a, b in zip(volumes.ventricle_ml, volumes.ventricle_ml[1:], strict=False))
    grows = [b - a for a, b in zip(volumes.lesion_ml, volumes.lesion_ml[1:], strict=False)]
    assert all(g > 0 if diagnosis == "multiple-sclerosis" else g == 0 for g in grows)


@pytest.mark.parametrize(("low", "high"), [(-3.0, 3.0), (2.0, 9.0), (-9.0, -4.0), (5.0, 6.0)])
def test_truncated_normal_stays_inside_and_knows_its_chance(low: float, high: float) -> None:
    draws = [draw_truncated(stream(0, index, -1, "test"), low, high) for index in range(500)]
    values = np.array([value for value, _ in draws])
    chance = 0.5 * (math.erfc(low / math.sqrt(2)) - math.erfc(high / math.sqrt(2)))
    assert low <= values.min() <= values.max() <= high
    assert len(set(values.tolist())) > 490  # nothing is clipped to a bound
    assert draws[0][1] == pytest.approx(chance, abs=1e-9)


def test_a_brain_that_cannot_fit_is_refused() -> None:
    with pytest.raises(PopulationError, match="Shorten the follow-up"):
        draw_volumes(stream(0, 0, -1, "test"), "F", "alzheimer-disease", (90.0, 150.0))
