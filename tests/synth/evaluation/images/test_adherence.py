from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from synth.evaluation.images.adherence import Judges, correlation_interval, measure_adherence
from synth.evaluation.images.sets import ImageSet, make_image_set
from synth.evaluation.images.tasks import Task, count_patients, find_tasks
from synth.nouns import Attribute
from synth.seeds import stream

SCHEMA = (
    Attribute("view", "categorical"),
    Attribute("findings", "set"),
    Attribute("age_years", "continuous", "years"),
    Attribute("rare", "categorical"),
)


def make_people(name: str, count: int, mislabel: bool = False) -> tuple[ImageSet, np.ndarray]:
    """Return images and features; the features hold view, one finding and age, with noise."""
    rng = stream(5, -1, -1, name)
    view, ill, age = rng.random(count) < 0.4, rng.random(count) < 0.3, rng.uniform(20, 80, count)
    noise = rng.normal(size=(count, 6))
    features = noise + np.stack([3 * view, 3 * ill, (age - 50) / 10, *[0 * age] * 3], axis=1)
    if mislabel:
        view, ill, age = rng.permutation(view), rng.permutation(ill), rng.permutation(age)
    values = {
        "view": [["AP", "PA"][int(value)] for value in view],
        "findings": [["effusion"] if value else [] for value in ill],
        "age_years": [float(value) for value in age],
        "rare": ["no"] * (count - 1) + ["yes"],
    }
    return make_image_set(name, np.zeros((count, 2, 2)), values, SCHEMA), features.astype(np.float32)


def test_tasks_are_what_enough_patients_answer_differently() -> None:
    images, _ = make_people("train", 200)
    tasks = {task.name: task for task in find_tasks(images)}
    assert set(tasks) == {"view=PA", "findings=effusion", "age_years"}, (
        "one label of two is asked; one 'yes' is too few"
    )
    assert sum(count_patients(tasks["view=PA"], images)) == 200


def test_missing_answers_are_nan() -> None:
    images = make_image_set("a", np.zeros((3, 2, 2)), {"view": ["PA", None, "AP"]}, SCHEMA[:1])
    assert np.array_equal(Task("view=PA", "view", "binary", "PA").targets(images), [1, np.nan, 0], equal_nan=True)
    assert np.isnan(Task("sex=F", "sex", "binary", "F").targets(images)).all(), "not recorded at all"


def test_true_labels_are_found_and_shuffled_ones_are_not() -> None:
    images, features = make_people("train", 400)
    judges = Judges(find_tasks(images), images, features)
    true = {s.name: s for s in measure_adherence(judges, *make_people("new", 300), kind="toy", seed=1)}
    false = {s.name: s for s in measure_adherence(judges, *make_people("other", 300, True), kind="toy", seed=1)}
    for name in ("attribute_auc.view=PA", "attribute_auc.findings=effusion"):
        assert true[name].low > 0.9
        assert false[name].low < 0.5 < false[name].high
    assert true["attribute_correlation.age_years"].low > 0.6
    assert false["attribute_correlation.age_years"].low < 0 < false["attribute_correlation.age_years"].high


def test_what_cannot_be_judged_says_why() -> None:
    images, features = make_people("train", 200)
    judges = Judges(find_tasks(images), images, features)
    new, own = make_people("new", 50)
    silent = replace(new, records=new.records.drop_columns(["view"]), schema=SCHEMA[1:])
    found = {score.name: score for score in measure_adherence(judges, silent, own, kind="toy", seed=1)}
    assert found["attribute_auc.view=PA"].value is None
    assert "do not state 'view'" in found["attribute_auc.view=PA"].reason
    healthy = make_image_set("h", np.zeros((50, 2, 2)), {"findings": [[]] * 50}, SCHEMA[1:2])
    found = {score.name: score for score in measure_adherence(judges, healthy, own, kind="toy", seed=1)}
    assert found["attribute_auc.findings=effusion"].value is None
    assert "0 images say yes" in found["attribute_auc.findings=effusion"].reason


def test_correlation_agrees_with_numpy_and_resamples_patients() -> None:
    rng = stream(1, -1, -1, "test")
    a = rng.normal(size=60)
    b = a + rng.normal(size=60)
    alone = correlation_interval(a, b, np.arange(60), stream(1, -1, -1, "x"))
    assert alone.value == pytest.approx(np.corrcoef(a, b)[0, 1])
    doubled = correlation_interval(
        np.repeat(a, 4), np.repeat(b, 4), np.repeat(np.arange(60), 4), stream(1, -1, -1, "x")
    )
    assert doubled.high - doubled.low == pytest.approx(alone.high - alone.low), "copies of a patient tell nothing new"
