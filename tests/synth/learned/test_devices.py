"""Training on several devices: the model of one, up to the order of sums."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from synth.errors import ModelError
from synth.learned.devices import train_on_devices
from synth.learned.recipe import PrivacySpec
from synth.learned.training import train_model
from tests.synth.learned.faces import draw_faces
from tests.synth.learned.test_training import make_spec


def test_two_processes_give_the_model_of_one(tmp_path: Path) -> None:
    images = draw_faces(24)
    spec = make_spec(steps=3, accumulate=2, precision="float32", checkpoint_minutes=9.0)
    alone = train_model(spec, images, tmp_path / "alone")
    seen: list[int] = []
    together = train_on_devices(
        spec, images, tmp_path / "together", 2, accelerator="cpu", tell=lambda what, done, total: seen.append(done)
    )
    assert together.steps == 3
    assert together.finished
    assert together.losses == pytest.approx(alone.losses, rel=1e-5)
    for name, weights in alone.generator.network.state_dict().items():
        assert torch.allclose(together.generator.network.state_dict()[name], weights, atol=2e-4), name


def test_parts_that_cannot_be_shared_and_private_recipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="3 parts of a batch cannot be shared by 2 devices; make it a multiple of 2"):
        train_on_devices(make_spec(accumulate=3, batch=15), draw_faces(24), tmp_path, 2)
    private = make_spec().model_copy(update={"privacy": PrivacySpec(epsilon=1.0, delta=1e-3)})
    with pytest.raises(ModelError, match="runs on one device"):
        train_on_devices(private, draw_faces(24), tmp_path, 2)
