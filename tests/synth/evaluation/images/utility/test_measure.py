"""Utility scores on made-up pictures of bars: which way a bar lies is the question, and its answer is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from synth.errors import PermanentError
from synth.evaluation.images.layout import Layout
from synth.evaluation.images.sets import ImageSet, RealImages, make_image_set
from synth.evaluation.images.utility.measure import measure_utility
from synth.evaluation.images.utility.scores import UtilityResult, measure_utility_gaps
from synth.evaluation.images.utility.settings import TrainingSettings, UtilitySettings
from synth.evaluation.metric import Score
from synth.evaluation.metrics import find_metric
from synth.nouns import Attribute
from synth.seeds import stream

SIZE = 12
SCHEMA = (Attribute("bar", "categorical"), Attribute("marks", "set"), Attribute("age_years", "continuous", "years"))
UP = "bar=up"
TRAINING = TrainingSettings(steps=50, batch=32, size=SIZE, widths=(8, 16), learning_rate=1e-2)
SETTINGS = UtilitySettings(TRAINING, seeds=2, real_patients=())
QUICK = replace(SETTINGS, training=replace(TRAINING, steps=2), seeds=1)


def draw_bars(name: str, patients: int, seed: int, noise: float = 0.3, volumes: bool = False) -> ImageSet:
    """Draw a bar in noise for each patient: ``up`` (the rarer answer) or ``flat``, some with a bright corner."""
    rng = stream(seed, -1, -1, "test/bars")
    up, marked = rng.random(patients) < 0.4, rng.random(patients) < 0.5
    pixels = rng.random((patients, SIZE, SIZE)) * noise
    for image, lies, bright in zip(pixels, up, marked, strict=True):
        high, wide = (6, 2) if lies else (2, 6)
        y, x = rng.integers(1, SIZE - 7, 2)
        image[y : y + high, x : x + wide] += 0.5
        image[-2:, -2:] += 0.5 * bright
    if volumes:
        pixels = np.repeat(pixels[..., None], 6, axis=3)
    values = {
        "bar": ["up" if lies else "flat" for lies in up],
        "marks": [("corner",) if bright else () for bright in marked],
        "age_years": list(rng.uniform(20, 90, patients)),
    }
    return make_image_set(name, pixels, values, SCHEMA)


def draw_reference(patients: int = 90, holdout: int = 80, **more: object) -> RealImages:
    sides = [
        draw_bars(name, n, s, **more) for name, n, s in (("train", patients, 1), ("v", 10, 2), ("held", holdout, 3))
    ]
    return RealImages("bars", "0" * 64, *sides, Layout(sides[0].shape, "absolute"))


def change(images: ImageSet, column: str, values: list[object] | None) -> ImageSet:
    """Return the set with other values of an attribute, or without it."""
    place = images.records.column_names.index(column)
    if values is None:
        schema = tuple(attribute for attribute in images.schema if attribute.name != column)
        return replace(images, records=images.records.remove_column(place), schema=schema)
    kind = images.records.schema.field(column)
    return replace(images, records=images.records.set_column(place, kind, pa.array(values, kind.type)))


def find(result: UtilityResult, name: str) -> Score:
    [score] = [score for score in result.scores if score.name == name]
    return score


@pytest.fixture(scope="module")
def reference() -> RealImages:
    return draw_reference()


@pytest.fixture(scope="module")
def fair(reference: RealImages) -> UtilityResult:
    settings = replace(SETTINGS, real_patients=(40, 80, 300))
    return measure_utility(draw_bars("others", 120, 4), reference, seed=1, settings=settings)


def test_other_patients_are_as_useful_as_the_training_patients(fair: UtilityResult) -> None:
    assert find(fair, f"utility_real.{UP}").value > 0.9
    ratio = find(fair, f"utility_ratio.{UP}")
    assert 0.93 < ratio.value < 1.07
    assert ratio.low < 1 < ratio.high or ratio.low > 0.97
    assert abs(find(fair, f"utility_gain.{UP}").value) < 0.07


def test_every_score_has_a_metric_bounds_and_an_interval(fair: UtilityResult) -> None:
    for score in fair.scores:
        metric = find_metric(score.name)
        assert not score.reason, score
        assert metric.low <= score.low <= score.value + 1e-9 <= score.high + 1e-9 <= metric.high + 1e-9, score
        assert score.images == 80
    assert len({score.name for score in fair.scores}) == len(fair.scores)


def test_controls_are_the_arms_they_should_be(fair: UtilityResult) -> None:
    def value(arm: str) -> float | None:
        return find(fair, f"utility_{arm}.{UP}").value

    controls = {arm: find(fair, f"utility_{arm}.{UP}").control for arm in SETTINGS.arms}
    assert controls == {
        "real": None,
        "synthetic": value("real"),
        "mixed": value("duplicated"),
        "pretrained": value("real"),
        "duplicated": value("real"),
    }
    gain = find(fair, f"utility_gain.{UP}")
    assert math.isclose(gain.value, value("mixed") - value("duplicated"))
    assert math.isclose(gain.control, value("duplicated") - value("real"))


def test_curves_have_a_point_for_each_number_of_patients_that_is_clearly_smaller(fair: UtilityResult) -> None:
    points = [score.name.partition("@")[2] for score in fair.scores if score.name.startswith(f"utility_augmented.{UP}")]
    assert points == ["40", "all"], "80 of 90 is nearly all, 300 is more than there are"
    point = find(fair, f"utility_augmented.{UP}@40")
    assert point.detail["real_patients"] == point.detail["real_images"] == 40
    assert math.isclose(point.detail["gain"][0], point.value - point.control, abs_tol=1e-4)
    assert find(fair, f"utility_augmented.{UP}@all").value == find(fair, f"utility_mixed.{UP}").value


def test_shuffled_labels_teach_nothing(reference: RealImages) -> None:
    images = draw_bars("shuffled", 200, 5)
    order = stream(7, -1, -1, "test/shuffle").permutation(len(images))
    shuffled = change(images, "bar", [images.values("bar")[i] for i in order])
    found = measure_utility(shuffled, reference, seed=1, settings=replace(SETTINGS, arms=("real", "synthetic")))
    assert 0.3 < find(found, f"utility_synthetic.{UP}").value < 0.7
    assert find(found, f"utility_ratio.{UP}").high < 0.9
    assert find(found, "utility_synthetic.marks=corner").value > 0.9, "only the bars were shuffled"


def test_images_that_add_information_help_more_than_repeating_real_ones() -> None:
    few = draw_reference(patients=24, holdout=150, noise=1.5)
    training = replace(TRAINING, steps=80)
    settings = replace(SETTINGS, training=training, arms=("real", "mixed", "duplicated"), least_patients=4)
    found = measure_utility(draw_bars("many", 400, 6, noise=1.5), few, seed=1, settings=settings)
    gain = find(found, f"utility_gain.{UP}")
    assert gain.value > 0.04
    assert abs(gain.control) < gain.value, "repeating real images adds nothing"


def test_scores_are_the_same_twice_and_with_any_number_of_workers(reference: RealImages) -> None:
    images, settings = draw_bars("others", 40, 4), replace(QUICK, seeds=2)
    once, twice = (
        measure_utility(images, reference, seed=1, settings=replace(settings, workers=workers)) for workers in (2, 1)
    )
    assert once.scores == twice.scores
    other = measure_utility(images, reference, seed=2, settings=settings)
    assert once.scores != other.scores


TAUGHT_BY_IMAGES = ("synthetic", "mixed", "pretrained", "ratio", "gain")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (None, "do not record 'bar'"),
        ([None] * 40, "'bar' is missing in all synthetic images"),
        (["flat"] * 40, "no synthetic image has bar=up"),
        (["up"] * 40, "all synthetic images have bar=up"),
        (["up"] * 4 + ["flat"] * 36, "too few synthetic patients with bar=up: 4, and 10 are needed"),
        (["up"] * 33 + ["flat"] * 7, "too few synthetic patients without bar=up: 7, and 10 are needed"),
    ],
)
def test_what_synthetic_images_cannot_teach_is_missing(
    reference: RealImages, values: list[object] | None, reason: str
) -> None:
    found = measure_utility(change(draw_bars("s", 40, 4), "bar", values), reference, seed=1, settings=QUICK)
    for name in TAUGHT_BY_IMAGES:
        score = find(found, f"utility_{name}.{UP}")
        assert score.value is None
        assert reason in score.reason
    for name in ("utility_real." + UP, "utility_duplicated." + UP, "utility_mixed.marks=corner"):
        assert find(found, name).value is not None, name


def test_without_a_shared_task_the_real_arm_is_still_measured(reference: RealImages) -> None:
    images = change(change(draw_bars("s", 40, 4), "bar", None), "marks", None)
    found = measure_utility(images, reference, seed=1, settings=replace(QUICK, real_patients=(40,)))
    assert {score.name for score in found.scores if score.value is not None} == {
        f"utility_real.{UP}",
        "utility_real.marks=corner",
    }
    assert all("do not record" in score.reason for score in found.scores if score.value is None)


def test_a_holdout_with_too_few_patients_says_so(reference: RealImages) -> None:
    held = change(reference.holdout, "bar", ["up"] * 4 + ["flat"] * 76)
    found = measure_utility(draw_bars("s", 40, 4), replace(reference, holdout=held), seed=1, settings=QUICK)
    for score in found.scores:
        if score.name.endswith(UP):
            assert score.value is None
            assert score.reason == "too few holdout patients with bar=up: 4, and 5 are needed"


@pytest.mark.parametrize(
    ("train", "synthetic", "reason"),
    [
        (12, draw_bars("s", 40, 4), "no attribute that splits its training patients"),
        (0, draw_bars("s", 40, 4), "there are no training images"),
        (90, draw_bars("s", 40, 4).select(np.zeros(40, bool)), "there are no synthetic images"),
        (90, draw_bars("s", 40, 4, volumes=True), "bring both to one layout"),
    ],
)
def test_what_cannot_be_compared_at_all_is_missing(
    reference: RealImages, train: int, synthetic: ImageSet, reason: str
) -> None:
    small = replace(reference, train=reference.train.select(np.arange(train)))
    found = measure_utility(synthetic, small, seed=1, settings=QUICK)
    assert len(found.scores) == len(QUICK.arms) + 2
    assert all(score.value is None and reason in score.reason for score in found.scores)
    assert all(find_metric(score.name).family == "utility" for score in found.scores)
    assert measure_utility_gaps(found, {"sex=F": np.ones(80, bool)}) == []


def test_volumes_are_judged_too_and_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    found = measure_utility(
        draw_bars("s", 40, 4, volumes=True), draw_reference(40, 40, volumes=True), seed=1, settings=QUICK,
        tell=lambda *what: told.append(what),
    )  # fmt: skip
    assert find(found, f"utility_mixed.{UP}").value is not None
    assert [done for _, done, _ in told] == [1, 2, 3, 4, 5]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(PermanentError, match="mixed"):
        UtilitySettings(arms=("mixd",))
    with pytest.raises(PermanentError, match="quick"):
        UtilitySettings.preset("fast")
    assert UtilitySettings.preset("quick").training.steps < UtilitySettings.preset("full").training.steps
