"""Few-step samplers: the student walks the guided teacher's path in fewer looks than the teacher needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synth.errors import ModelError
from synth.learned.conditions import list_rows
from synth.learned.distillation import distil_model, draw_requests
from synth.learned.recipe import FewStepsSpec
from synth.learned.training import train_model
from tests.synth.learned.faces import draw_faces
from tests.synth.learned.test_training import make_spec

SPEC = FewStepsSpec(steps=1, images=64, updates=80, batch=32, rate=1e-3)


def test_the_student_ends_nearer_to_the_teacher_than_the_teacher_in_as_many_steps(tmp_path: Path) -> None:
    images = draw_faces(96)
    teacher = train_model(make_spec(steps=60, checkpoint_minutes=9.0), images, tmp_path).generator
    teacher = teacher.with_sampler(steps=4, guidance=2.0)
    rows = list_rows(images, teacher.description.code)
    student = distil_model(teacher, rows, SPEC, seed=5)
    assert student.description.sampler.steps == 1
    assert student.description.sampler.guidance == 1.0
    keys = [10_000 + number for number in range(32)]
    wanted = teacher.sample(rows[:32], keys)
    hurried = teacher.with_sampler(steps=1, solver="euler").sample(rows[:32], keys)
    found = student.sample(rows[:32], keys)
    assert np.abs(found - wanted).mean() < 0.6 * np.abs(hurried - wanted).mean()


def test_requests_are_those_of_training_images_with_attributes_left_out() -> None:
    rows = [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    asked = draw_requests(rows, 400, 0.25, seed=0)
    assert all(any(request.items() <= row.items() for row in rows) for request in asked)
    assert np.mean([len(request) for request in asked]) == pytest.approx(1.5, abs=0.15)


def test_only_a_flow_is_distilled(tmp_path: Path) -> None:
    model = train_model(make_spec("gaussian"), draw_faces(24), tmp_path).generator
    with pytest.raises(ModelError, match="only a flow can be distilled, not gaussian"):
        distil_model(model, [{}], SPEC, seed=0)
