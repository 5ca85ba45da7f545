"""Who becomes champion: a better model does, an equal or worse one does not, and one that copies never."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from synth.errors import ModelError
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.sets import ImageSet, RealImages
from synth.evaluation.policy import load_policy
from synth.evaluation.ranks import Interval
from synth.learned.conditions import learn_conditions
from synth.learned.promotion import (
    Contender,
    Judged,
    choose_requests,
    draw_contender,
    explain_difference,
    judge_contender,
    list_settings,
    settle_promotion,
)
from synth.nouns import AttributeValue
from synth.seeds import stream_from_key
from tests.synth.evaluation.images.phantoms import draw_phantoms, draw_reference

COUNT = 130
SETTINGS = list_settings(("pixels",), 0, None)
NAMES = ("sex", "age_years", "findings")


@pytest.fixture(scope="module")
def real() -> RealImages:
    return draw_reference(260)


@dataclass
class Pool:
    """Draws images of a set, with noise: a good model if they are of other people, a copyist if of those it learned."""

    images: ImageSet
    noise: float
    gain: float = 1.0
    asked: list[Mapping[str, AttributeValue]] = field(default_factory=list)

    def sample(self, rows: Sequence[Mapping[str, AttributeValue]], keys: Sequence[int]) -> Floats32:
        self.asked += rows
        found = []
        for key in keys:
            rng = stream_from_key(key)
            image = self.images.images([int(rng.integers(len(self.images)))])[0]
            found.append(self.gain * image + self.noise * rng.standard_normal(image.shape))
        return np.clip(np.stack(found), 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def judged(real: RealImages) -> dict[str, Judged]:
    """Three models, judged once: a good one, another as good, a bad one, and one that copies what it was taught."""
    code = learn_conditions(real.train, NAMES)
    requests = choose_requests(real.train, code, COUNT, 0)
    others = draw_phantoms(400, seed=9)
    pools = {"good": Pool(others, 0.0), "equal": Pool(draw_phantoms(400, seed=10), 0.0), "bad": Pool(others, 0.1, 0.6),
             "copyist": Pool(real.train, 0.005)}  # fmt: skip
    policies = {"good": load_policy(), "copyist": load_policy()}
    return {
        name: judge_contender(Contender(name, pool, code), requests, real, SETTINGS, policies.get(name))
        for name, pool in pools.items()
    }


def test_the_first_model_needs_only_privacy_and_controls(judged: dict[str, Judged], real: RealImages) -> None:
    made = settle_promotion(judged["good"], None, real, SETTINGS)
    assert made.promoted, made.reasons
    assert (made.champion, made.difference) == (None, None)
    assert [gate.gate for gate in judged["good"].gates] == ["controls", "copies", "membership", "reidentification"]
    unmeasured = replace(judged["good"], gates=judged["good"].gates[:1])
    assert settle_promotion(unmeasured, None, real, SETTINGS).reasons[0].startswith("copies: nothing was measured")


def test_a_better_model_replaces_a_bad_one_and_not_the_other_way_round(
    judged: dict[str, Judged], real: RealImages
) -> None:
    made = settle_promotion(judged["good"], judged["bad"], real, SETTINGS)
    assert made.promoted, made.reasons
    assert made.difference is not None
    assert made.difference.high < 0
    document = made.to_json()
    good, bad = document["scores"]["good"], document["scores"]["bad"]
    assert document["difference"]["value"] == pytest.approx(good["value"] - bad["value"], rel=1e-3)
    assert good["floor"] == bad["floor"]
    assert json.loads(json.dumps(document)) == document
    back = settle_promotion(replace(judged["bad"], gates=judged["good"].gates), judged["good"], real, SETTINGS)
    assert not back.promoted
    assert [reason.partition(":")[2][:24] for reason in back.reasons] == [" worse than champion goo"]


def test_an_equal_model_does_not_replace_the_champion(judged: dict[str, Judged], real: RealImages) -> None:
    made = settle_promotion(judged["good"], judged["equal"], real, SETTINGS)
    assert not made.promoted
    assert "not told from champion equal" in made.reasons[0]
    assert settle_promotion(judged["good"], judged["good"], real, SETTINGS).difference == (0, 0, 0)


def test_a_model_that_copies_is_refused_however_good_it_looks(judged: dict[str, Judged], real: RealImages) -> None:
    made = settle_promotion(judged["copyist"], judged["bad"], real, SETTINGS)
    assert made.difference is not None
    assert made.difference.high < 0  # nearer to real images than the champion
    assert not made.promoted
    assert {"copies", "membership"} <= {reason.partition(":")[0] for reason in made.reasons}
    assert not settle_promotion(judged["copyist"], None, real, SETTINGS).promoted


def test_both_are_asked_the_same_and_nothing_they_were_not_taught(real: RealImages) -> None:
    full, part = (learn_conditions(real.train, names) for names in (("sex", "age_years", "findings"), ("sex",)))
    requests = choose_requests(real.train, full, COUNT, 0)
    models = [Pool(real.train, 0.0), Pool(real.train, 0.0)]
    sets = [
        draw_contender(Contender(n, m, c), requests, real.train)
        for n, m, c in zip("ab", models, (full, part), strict=True)
    ]
    assert [set(row) for row in (models[0].asked[0], models[1].asked[0])] == [
        {"sex", "age_years", "findings"},
        {"sex"},
    ]
    assert [row["sex"] for row in models[0].asked] == [row["sex"] for row in models[1].asked]
    np.testing.assert_array_equal(sets[0].stored, sets[1].stored)  # the same noise
    np.testing.assert_array_equal(sets[0].patient, sets[1].patient)
    assert sets[1].records.column_names == ["image_id", "patient_id"]


def test_what_decides_nothing_is_refused(real: RealImages) -> None:
    with pytest.raises(ModelError, match="49 images decide nothing; draw 50"):
        choose_requests(real.train, learn_conditions(real.train, ("sex",)), 49, 0)
    assert explain_difference(Interval(-1, -2, -0.1), "old") == []
    assert "not told from" in explain_difference(Interval(-1, -2, 0.0), "old")[0]
    assert "not comparable" in explain_difference(None, "old", "few")[0]
