"""The steps curve: what is tried fits the training's cost, more steps come nearer, and a card says it in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flows.train_pictures import draw_curve
from synth.evaluation.images.layout import Floats32, Layout
from synth.evaluation.images.sets import RealImages
from synth.learned.conditions import learn_conditions
from synth.learned.generator import ModelDescription
from synth.learned.recipe import ArchitectureSpec, SamplerSpec, TrainSpec, parse_train_spec
from synth.learned.steps_curve import (
    LEAST,
    MOST,
    STEPS,
    THOROUGH,
    StepsCurve,
    count_looks,
    describe_metrics,
    measure_curve,
    plan_curve,
    write_table,
)
from synth.nouns import AttributeValue
from synth.seeds import stream_from_key
from tests.synth.learned.faces import RECIPE, draw_faces


def make_spec(steps: int, family: str = "flow", **changed: object) -> TrainSpec:
    spec = parse_train_spec(RECIPE.format(family=family, steps=steps))
    return spec.model_copy(update={"training": spec.training.model_copy(update=changed)})


@pytest.fixture(scope="module")
def real() -> RealImages:
    sets = [draw_faces(count, seed) for count, seed in ((160, 1), (60, 2), (10, 3))]
    return RealImages("faces", "f" * 64, *sets, Layout((16, 16), "absolute"))


class Blurry:
    """Draws made-up faces with noise that halves with each doubling of its steps."""

    def __init__(self, description: ModelDescription) -> None:
        self.description = description

    def with_sampler(self, **changed: Any) -> Blurry:
        sampler = self.description.sampler.model_copy(update=changed)
        return Blurry(replace(self.description, sampler=sampler))

    def sample(self, rows: Sequence[Mapping[str, AttributeValue]], keys: Sequence[int]) -> Floats32:
        images = draw_faces(len(rows), 7).images(slice(None))
        noise = np.stack([stream_from_key(key).standard_normal(images.shape[1:], np.float32) for key in keys])
        return np.clip(images + noise / self.description.sampler.steps, 0, 1)


@pytest.fixture(scope="module")
def curve(real: RealImages) -> StepsCurve:
    spec = make_spec(1)
    code = learn_conditions(real.train, spec.attributes)
    description = ModelDescription("faces", "face", (16, 16), spec.architecture, spec.sampler, code)
    teacher: Any = Blurry(description)
    student: Any = Blurry(replace(description, sampler=SamplerSpec(steps=2, solver="euler", guidance=1.0)))
    return measure_curve(teacher, student, real, (1, 4), 48, seed=0)


def test_more_steps_come_nearer_to_real_images(curve: StepsCurve) -> None:
    one, four, student = curve.points
    assert [(p.sampler, p.steps) for p in curve.points] == [("model", 1), ("model", 4), ("few-step student", 2)]
    assert (one.looks, four.looks, student.looks) == (2, 14, 2)
    assert four.value < student.value < one.value
    assert all(p.low <= p.value <= p.high for p in (*curve.points, curve.floor))
    assert curve.floor.value < one.low
    assert (curve.images, curve.reason) == (48, "")


def test_the_chart_is_drawn(curve: StepsCurve, tmp_path: Path) -> None:
    with Image.open(draw_curve(curve, tmp_path / "curve.png")) as chart:
        assert chart.size == (560, 340)
        colours = {colour for _, colour in chart.getcolors(10_000)}
    assert {(31, 119, 180), (214, 39, 40), (225, 240, 225)} <= colours


def test_card_and_tracker_are_told(curve: StepsCurve) -> None:
    lines = write_table(curve)
    assert lines[0].startswith("Quality against steps: kernel distance")
    assert [line for line in lines if line.startswith("| few-step student | 2 | 2 |")]
    assert [line for line in lines if line.startswith("| real training patients |")]
    assert set(describe_metrics(curve)) == {"steps_model_1", "steps_model_4", "steps_student_2", "steps_floor"}
    assert json.loads(json.dumps(curve.to_json()))["points"][1]["steps"] == 4


def test_without_validation_patients_there_is_a_reason(real: RealImages) -> None:
    code = learn_conditions(real.train, ("sex",))
    few = RealImages("faces", "f" * 64, real.train, real.holdout, real.holdout, real.layout)
    teacher: Any = Blurry(ModelDescription("faces", "face", (16, 16), ArchitectureSpec(), SamplerSpec(), code))
    found = measure_curve(teacher, None, few, (1,), 24, seed=0)
    assert found.points == ()
    assert "10 real patients only" in write_table(found)[0]
    assert describe_metrics(found) == {}


@pytest.mark.parametrize(
    ("steps", "thorough", "tried", "least"),
    [(20, False, STEPS, LEAST), (20, True, (*STEPS, THOROUGH), LEAST), (40_000, False, (*STEPS, THOROUGH), MOST)],
)
def test_the_curve_costs_a_tenth_of_the_training(
    steps: int, thorough: bool, tried: tuple[int, ...], least: int
) -> None:
    spec = make_spec(steps)
    assert plan_curve(spec, steps, thorough) == (tried, least)
    number, count = plan_curve(make_spec(6000, batch=32), 6000, False)
    looks = sum(count_looks(SamplerSpec(steps=one), "flow") for one in number)
    assert number == STEPS
    assert 100 < count * looks <= 0.1 * 3 * 6000 * 32 or count == MOST


def test_a_family_that_does_not_walk_has_one_point() -> None:
    assert plan_curve(make_spec(1, "vae"), 1, True) == ((4,), LEAST)
    assert count_looks(SamplerSpec(steps=8, solver="heun", guidance=1.5), "ddpm") == 16
    assert count_looks(SamplerSpec(steps=8, solver="euler", guidance=1.0), "flow") == 8
