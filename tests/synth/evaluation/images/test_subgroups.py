from __future__ import annotations

import math

import numpy as np
import pytest

from synth.evaluation.images.sets import ImageSet, make_image_set
from synth.evaluation.images.subgroups import find_subgroups, measure_gaps, measure_representation
from synth.evaluation.metric import Score
from synth.nouns import Attribute
from synth.seeds import stream

SCHEMA = (Attribute("sex", "categorical"), Attribute("age_years", "integer", "years"), Attribute("name", "categorical"))


def make_set(name: str, sexes: list[str | None], ages: list[int | None]) -> ImageSet:
    images = np.zeros((len(sexes), 4, 4))
    values = {"sex": sexes, "age_years": ages, "name": [str(n) for n in range(len(sexes))]}
    return make_image_set(name, images, values, SCHEMA)


REAL = make_set("real", ["F", "M", "F", "M"] * 10, [10, 30, 50, 90] * 10)


def test_subgroups_are_values_bands_and_intersections() -> None:
    names = [group.name for group in find_subgroups(REAL, REAL)]
    assert names[:2] == ["sex=F", "sex=M"]
    assert {"age_years=0-20", "age_years=80+", "sex=F,age_years=40-60"} <= set(names)
    assert "sex=M,age_years=0-20" not in names, "nobody real is in it"
    assert not [name for name in names if name.startswith("name=")], "every image has its own name"


def test_masks_hold_each_known_image_once_and_no_missing_one() -> None:
    images = make_set("s", ["F", "M", None, "X"], [19, 20, 40, None])
    groups = {group.name: group.mask(images).tolist() for group in find_subgroups(REAL, images)}
    assert groups["sex=F"] == [True, False, False, False]
    assert groups["age_years=0-20"] == [True, False, False, False]
    assert groups["age_years=20-40"] == [False, True, False, False]


def test_attributes_that_images_do_not_state_make_no_subgroups() -> None:
    images = make_image_set("s", np.zeros((3, 4, 4)), {"sex": ["F", "F", "M"]}, SCHEMA[:1])
    assert {group.attribute for group in find_subgroups(REAL, images)} == {"sex"}


def test_representation_is_a_ratio_of_shares() -> None:
    images = make_set("s", ["F"] * 9 + ["M"] * 91, [50] * 100)
    groups = [group for group in find_subgroups(REAL, images) if group.attribute == "sex"]
    women, men = measure_representation(groups, REAL, images)
    assert women.value == pytest.approx(0.18)
    assert men.value == pytest.approx(1.82)
    assert women.low < 0.18 < women.high < 1.0
    starved = make_set("s", ["M"] * 100, [50] * 100)
    assert measure_representation(groups, REAL, starved)[0].value == 0.0
    nobody = measure_representation(groups, REAL, starved)[0]
    assert nobody.low == 0.0 < nobody.high < 0.2


def test_interval_of_representation_covers() -> None:
    rng, inside, trials = stream(3, -1, -1, "test"), 0, 300
    group = [g for g in find_subgroups(REAL, REAL) if g.name == "sex=F"]
    for _ in range(trials):
        sexes = [["M", "F"][int(value)] for value in rng.random(80) < 0.3]
        real = make_set("r", [["M", "F"][int(value)] for value in rng.random(60) < 0.5], [50] * 60)
        score = measure_representation(group, real, make_set("s", sexes, [50] * 80))[0]
        inside += score.low <= 0.6 <= score.high
    assert 0.91 <= inside / trials <= 0.99


def test_gaps_name_the_extremes_and_keep_the_control() -> None:
    groups = find_subgroups(REAL, REAL)
    scores = [
        Score("coverage", 0.9, 0.85, 0.95, control=0.92, features="pixels", subgroup="sex=F"),
        Score("coverage", 0.5, 0.40, 0.60, control=0.90, features="pixels", subgroup="sex=M"),
        Score.missing("coverage", "too few", features="pixels", subgroup="age_years=0-20"),
    ]
    found = {score.subgroup: score for score in measure_gaps(scores, groups)}
    gap = found["sex"]
    assert gap.name == "gap.coverage"
    assert gap.value == pytest.approx(0.4)
    assert gap.control == pytest.approx(0.02)
    assert (gap.detail["lowest"], gap.detail["highest"]) == ("sex=M", "sex=F")
    assert gap.high - gap.low == pytest.approx(2 * math.hypot(0.05, 0.1))
    assert found["age_years"].value is None
    assert "fewer than two" in found["age_years"].reason
