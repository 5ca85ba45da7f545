"""Models of images that are shipped: whole, small, attributed, and drawn with by name on the first day."""

from __future__ import annotations

import numpy as np
import pytest

from flows.deployments import SHIPPED_SPECS
from synth.learned.model_files import SHIPPED, load_model
from synth.seeds import stream_key
from synth.spec import load_spec

MOST_BYTES = 10_000_000
MODELS = sorted(path.name for path in SHIPPED.iterdir())
RECIPES = [path for path in sorted(SHIPPED_SPECS.glob("*.toml")) if load_spec(path).imaging.model is not None]


def test_radiographs_are_shipped() -> None:
    assert "radiographs-64" in MODELS
    assert {path.stem for path in RECIPES} >= {"radiographs", "demo-radiographs", "women-over-60"}


@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_model_is_whole_and_small_and_says_where_it_is_from(name: str) -> None:
    model = load_model(SHIPPED / name)
    about, card = model.description.about, (SHIPPED / name / "README.md").read_text()
    assert model.description.name == name
    assert sum(path.stat().st_size for path in (SHIPPED / name).rglob("*") if path.is_file()) <= MOST_BYTES
    assert about["finished"]
    assert model.measurer is not None
    for fact in (about["reference_fingerprint"][:16], about["licence"], about["source"], about["recipe"][:16]):
        assert fact in card
    assert "not for diagnosis" in card


@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_model_draws_images_that_are_not_empty_and_not_alike(name: str) -> None:
    images = load_model(SHIPPED / name).sample([{}, {}], [stream_key(0, number, 0, "test") for number in range(2)])
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.std(axis=(1, 2)).min() > 0.05
    assert np.abs(images[0] - images[1]).mean() > 0.01
