"""Tabular attacks on the attributes of images: those of copied patients raise the alarm, those of others do not."""

from __future__ import annotations

import numpy as np
import pytest

from synth.evaluation.images.privacy.record_attacks import NAMES, attack_records, describe_schema, list_records
from synth.evaluation.images.sets import ImageSet, make_image_set
from synth.evaluation.metric import Score
from synth.evaluation.metrics import find_metric
from synth.evaluation.records.tables import read_records
from synth.nouns import Attribute
from synth.seeds import stream

SCHEMA = (
    Attribute("age_years", "integer", "years"),
    Attribute("sex", "categorical"),
    Attribute("findings", "set"),
)


def draw_images(patients: int, seed: int) -> ImageSet:
    rng = stream(seed, -1, -1, "test/attributes")
    patient = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    sex = rng.choice(["F", "M"], patients)[patient].tolist()
    age = rng.integers(20, 90, patients)[patient].tolist()
    findings = [[label for label in ("edema", "mass", "nodule") if rng.random() < 0.3] for _ in patient]
    names = [f"p{seed}-{number:04}" for number in patient]
    values = {"age_years": [None, *age[1:]], "sex": sex, "findings": findings}
    return make_image_set("made-up", np.zeros((len(patient), 1, 1)), values, SCHEMA, names)


@pytest.fixture(scope="module")
def sides() -> tuple[ImageSet, ImageSet]:
    return draw_images(250, 1), draw_images(200, 2)


def by_name(scores: list[Score]) -> dict[str, Score]:
    assert [score.name for score in scores] == list(NAMES)
    assert {find_metric(score.name).family for score in scores} == {"privacy"}
    assert {score.features for score in scores} == {"records"}
    return {score.name: score for score in scores}


def test_attributes_of_training_patients_raise_the_alarm(sides: tuple[ImageSet, ImageSet]) -> None:
    train, unseen = sides
    scores = by_name(attack_records(train, train, unseen, seed=1))
    assert (scores["row_exact_train"].value or 0) > 0.8, "200 of the 250 patients are compared"
    for name in ("row_exact_gap", "patient_near_gap", "sequence_exact_gap"):
        assert (scores[name].low or 0) > 0.02
    for name in ("membership_distance_auc", "membership_density_auc", "membership_sequence_auc"):
        assert (scores[name].low or 0) > 0.55
    assert scores["membership_distance_auc"].detail == {"members": 100, "non_members": 100}
    assert "1,000 are needed" in scores["membership_distance_tpr_01pct"].detail["note"]


def test_attributes_of_others_do_not(sides: tuple[ImageSet, ImageSet]) -> None:
    scores = by_name(attack_records(draw_images(250, 3), *sides, seed=1))
    missed = [
        name
        for name, score in scores.items()
        if score.low is not None and score.high is not None and name.endswith(("_auc", "_gap"))
        if not score.low <= (0.5 if name.endswith("_auc") else 0.0) <= score.high
    ]
    assert len(missed) <= 1


def test_images_become_records_with_visits_in_order() -> None:
    images = make_image_set(
        "i", np.zeros((4, 1, 1)),
        {"age_years": [5, None, 7, 8], "sex": ["F", "M", None, "F"], "findings": [["b"], [], ["a", "b"], None]},
        SCHEMA, ["b", "a", "b", "b"],
    )  # fmt: skip
    schema = describe_schema((images,), SCHEMA)
    assert schema.repeated
    assert schema.column("sex").categories == ("F", "M")
    assert schema.column("findings").categories == ("a", "b")
    records = read_records(list_records(images, schema), schema)
    assert records.visits.tolist() == [1, 3]
    assert records.numbers["age_years"].tolist()[1:] == [5, 7, 8]
    assert records.labels["findings"].tolist() == [[0, 0], [0, 1], [1, 1], [0, 0]]


def test_without_attributes_or_patients_it_says_so(sides: tuple[ImageSet, ImageSet]) -> None:
    train, unseen = sides
    silent = by_name(attack_records(make_image_set("s", np.zeros((30, 1, 1))), train, unseen))
    assert all(score.value is None and "no attribute" in score.reason for score in silent.values())
    few = by_name(attack_records(draw_images(19, 5), train, unseen))
    assert all("19 synthetic" in score.reason for score in few.values())
