"""Volumes: flows of voxels and of latent places learn, draw and load again by the code that pictures use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synth.learned.model_files import load_model, save_model
from synth.learned.training import train_model
from tests.synth.learned.labelled import draw_labelled, draw_maps, make_spec

SHAPE = (16, 16, 16)
ROWS = [{"tone": "bright"}, {}]


@pytest.mark.parametrize("family", ["flow", "latent-flow"])
def test_volumes_are_learned_drawn_and_loaded(tmp_path: Path, family: str) -> None:
    spec = make_spec(family, 4, SHAPE, first=3, channels=(16,))
    spec = spec.model_copy(update={"training": spec.training.model_copy(update={"batch": 4})})
    trained = train_model(spec, draw_labelled(12, SHAPE), tmp_path / "checkpoints")
    assert trained.finished
    assert len(trained.losses) == spec.steps
    assert np.isfinite(trained.losses).all()
    model = trained.generator.with_sampler(steps=1, solver="euler", guidance=1.5)
    maps = draw_maps(2, SHAPE, seed=4)
    images = model.sample(ROWS, [7, 8], maps)
    assert images.shape == (2, *SHAPE)
    assert images.std() > 0.01
    save_model(tmp_path / "model", model.description, model.network.state_dict())
    loaded = load_model(tmp_path / "model")
    assert np.array_equal(loaded.sample(ROWS, [7, 8], maps), images)
    assert np.array_equal(loaded.sample(ROWS[1:], [8], maps[1:])[0], images[1])
    assert not np.array_equal(loaded.sample(ROWS[1:], [9], maps[1:])[0], images[1])
    assert loaded.measure_losses(images[:1], 3) == pytest.approx(model.measure_losses(images[:1], 3))
