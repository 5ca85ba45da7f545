"""Fidelity scores: numbers with intervals where people can be compared, reasons where they cannot."""

from __future__ import annotations

import numpy as np
import pytest

from synth.evaluation.images.features.base import compute_features
from synth.evaluation.images.features.pixels import fit_pixels
from synth.evaluation.images.layout import Layout, NotComparableError
from synth.evaluation.images.metrics import IMAGE_METRICS
from synth.evaluation.images.quality.fidelity import LEAST_PATIENTS, NAMES, measure_fidelity
from synth.evaluation.images.sets import RealImages, make_image_set
from synth.evaluation.images.sides import Side
from synth.evaluation.metric import Score
from synth.evaluation.metrics import METRICS
from synth.seeds import stream
from tests.synth.evaluation.images.gaussians import draw_side


def measure(synthetic: Side, real: Side, seed: int = 0) -> dict[str, Score]:
    return {score.name: score for score in measure_fidelity(synthetic, real, features="pixels", seed=seed)}


def alter(side: Side, values: float, rows: slice = slice(None)) -> Side:
    features = side.features.copy()
    features[rows] = values
    return Side(features, side.patient)


def assert_none_measured(scores: dict[str, Score], reason: str) -> None:
    assert set(scores) == set(NAMES)
    for score in scores.values():
        assert (score.value, score.low, score.high) == (None, None, None)
        assert reason in score.reason
        assert score.features == "pixels"


def test_every_registered_distance_is_measured() -> None:
    assert set(NAMES) == {metric.name for metric in IMAGE_METRICS if metric.family == "fidelity"}
    found = measure_fidelity(draw_side(60, 1), draw_side(50, 2), features="radiomics", seed=0, subgroup="sex=F")
    assert [score.name for score in found] == list(NAMES)
    for score in found:
        assert (score.features, score.subgroup, score.images) == ("radiomics", "sex=F", 60)
        assert METRICS[score.name].low <= score.low <= score.value <= score.high
        assert score.detail["n_real"] == 50


def test_equal_people_are_at_distance_zero() -> None:
    """Real against real: the interval of each distance holds 0 about as often as it says."""
    held = dict.fromkeys(NAMES, 0)
    for draw in range(40):
        found = measure(draw_side(80, 10 + draw, several=0.3), draw_side(70, 500 + draw, several=0.3), seed=draw)
        for name, score in found.items():
            held[name] += score.low <= 0 <= score.high
    assert all(count >= 35 for count in held.values()), held


@pytest.mark.parametrize("kind", ["moved", "wider", "collapsed"])
def test_people_that_differ_are_at_a_distance(kind: str) -> None:
    real, made = draw_side(150, 3), draw_side(150, 4)
    few = np.resize(np.arange(6), 150)
    features = {"moved": made.features + 1, "wider": 2 * made.features, "collapsed": made.features[few]}[kind]
    for score in measure(Side(features.astype(np.float32), made.patient), real).values():
        assert score.low > 0, score


def test_the_same_seed_gives_the_same_scores_whatever_the_patients_are_called() -> None:
    synthetic, real = draw_side(50, 5, several=0.5), draw_side(60, 6, several=0.5)
    found = measure(synthetic, real, seed=7)
    renamed = measure(Side(synthetic.features, 10 * synthetic.patient + 3), Side(real.features, real.patient), seed=7)
    assert found == renamed
    other = measure(synthetic, real, seed=8)
    assert other["kernel_distance"].value == pytest.approx(found["kernel_distance"].value)
    assert other["kernel_distance"].low != found["kernel_distance"].low


def test_too_few_patients() -> None:
    many, few = draw_side(60, 7), draw_side(LEAST_PATIENTS - 1, 8, several=1.0)
    assert_none_measured(measure(few, many), "19 synthetic patients only; 20 of each side are needed")
    assert_none_measured(measure(many, few), "19 real patients only")
    assert_none_measured(measure(few, few), "19 synthetic and 19 real patients only")
    nobody = Side(many.features[:0], many.patient[:0])
    assert_none_measured(measure(nobody, many), "0 synthetic patients")
    enough = draw_side(LEAST_PATIENTS, 8)
    assert all(score.value is not None for score in measure(enough, enough).values())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_numbers(value: float) -> None:
    side = draw_side(40, 9)
    assert_none_measured(measure(alter(side, value, slice(0, 3)), side), "3 synthetic images are not numbers")
    assert_none_measured(measure(side, alter(side, value, slice(5, 6))), "1 real images are not numbers")


def test_constant_features() -> None:
    side = draw_side(40, 10)
    assert_none_measured(measure(side, alter(side, 2.5)), "all real images have the same features")
    for score in measure(alter(side, 2.5), side).values():  # a generator of one image is measured, and found out
        assert score.low > 0


def test_unequal_features_are_refused() -> None:
    side = draw_side(40, 11)
    with pytest.raises(NotComparableError, match="length 5 and real ones 12"):
        measure(Side(side.features[:, :5], side.patient), side)
    with pytest.raises(NotComparableError, match="for patients"):
        measure(Side(side.features, side.patient[:-1]), side)


@pytest.mark.parametrize("unit", [1e-12, 1e9])
def test_features_of_any_unit(unit: float) -> None:
    synthetic, real = draw_side(60, 12), draw_side(60, 13)
    usual = measure(synthetic, real)
    found = measure(*(Side((side.features * unit).astype(np.float32), side.patient) for side in (synthetic, real)))
    for name, power in (("frechet_distance", 2), ("mmd_rbf", 0), ("sliced_wasserstein", 0)):
        assert found[name].value == pytest.approx(usual[name].value * unit**power, rel=1e-3), name
    assert np.isfinite(found["kernel_distance"].value)


def test_volumes() -> None:
    rng = stream(14, -1, -1, "test/fidelity")
    grid = np.indices((12, 12, 12)) - 5.5

    def draw_balls(count: int, size: float) -> np.ndarray:
        radii = size + 0.5 * rng.standard_normal(count)
        away = np.sqrt((grid**2).sum(axis=0))
        noise = 0.05 * rng.standard_normal((count, *away.shape))
        return (1 / (1 + np.exp(away - radii[:, None, None, None])) + noise).astype(np.float32)

    real = make_image_set("real", draw_balls(60, 4.0))
    nobody = real.select(np.arange(0))
    extractor = fit_pixels(RealImages("balls", "0" * 64, real, nobody, nobody, Layout(real.shape, "absolute")))
    sides = [real, *(make_image_set("made", draw_balls(60, size)) for size in (4.0, 5.0))]
    known, equal, larger = (Side(compute_features(extractor, side), side.patient) for side in sides)
    assert measure(equal, known)["kernel_distance"].low <= 0
    for score in measure(larger, known).values():
        assert score.low > 0
