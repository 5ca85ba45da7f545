"""Reading back what images show: examined on unseen patients, honest about what it cannot tell, and used to redraw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synth.evaluation.images.sets import ImageSet, make_image_set
from synth.learned.generator import Generator
from synth.learned.measurers import Measurer, fit_measurer
from synth.learned.model_files import load_model, save_model
from synth.learned.redraws import draw_until_met, measure_distance
from synth.learned.training import train_model
from synth.nouns import Attribute
from synth.seeds import stream
from tests.synth.learned.faces import SCHEMA, draw_faces
from tests.synth.learned.test_training import make_spec

NAMES = ("sex", "age_years", "findings", "luck")


def add_luck(images: ImageSet, seed: int) -> ImageSet:
    """Return the images with an attribute that nothing in them shows."""
    luck = ["good" if value else "bad" for value in stream(seed, -1, -1, "test/luck").random(len(images)) < 0.5]
    columns = {name: images.values(name) for name in NAMES[:3]} | {"luck": luck}
    return make_image_set("faces", images.images(slice(None)), columns, (*SCHEMA, Attribute("luck", "categorical")))


@pytest.fixture(scope="module")
def measurer() -> Measurer:
    found = fit_measurer(add_luck(draw_faces(200), 1), add_luck(draw_faces(120, 7), 2), NAMES, 0, steps=120)
    assert found is not None
    return found


def test_what_images_show_is_read_and_what_they_do_not_is_left_out(measurer: Measurer) -> None:
    found = {reading.task.name.partition("=")[0]: reading for reading in measurer.readings}
    assert found.keys() == {"sex", "age_years", "findings"}
    assert found["sex"].low > 0.9
    assert found["findings"].low > 0.8
    assert found["age_years"].quality < 10
    for reading in found.values():
        assert reading.low <= reading.quality <= reading.high
        assert reading.images == 120


def test_about_95_percent_of_other_real_images_are_within_the_tolerance(measurer: Measurer) -> None:
    images = draw_faces(200, 11)
    read = measurer.read(images.images(slice(None)))
    for place, reading in enumerate(measurer.readings):
        inside = np.abs(read[:, place] - reading.task.targets(images)) <= reading.tolerance
        assert 0.88 <= inside.mean() <= 1.0


def test_only_what_was_asked_for_is_measured(measurer: Measurer) -> None:
    image = draw_faces(1, 3)
    read = measurer.read(image.images(slice(None)))[0]
    assert measurer.measure({}, read) == ()
    [found] = measurer.measure({"age_years": 44}, read)
    assert (found.name, found.requested, found.unit) == ("shown age_years", 44.0, "years")
    assert len(measurer.measure({"sex": "F", "findings": ()}, read)) == 2


def test_misses_are_drawn_again_within_the_budget_and_nothing_depends_on_the_others(
    measurer: Measurer, tmp_path: Path
) -> None:
    model = train_model(make_spec(steps=100, checkpoint_minutes=9.0), draw_faces(96), tmp_path / "c").generator
    save_model(tmp_path / "m", model.description, model.network.state_dict(), measurer=measurer)
    model = load_model(tmp_path / "m")
    assert model.measurer is not None
    assert model.measurer.readings == measurer.readings
    rows, keys = [{"sex": "F" if n % 2 else "M", "age_years": 30 + n} for n in range(24)], list(range(24))
    once, often = (draw_until_met(model, rows, keys, budget) for budget in (0, 4))
    missed = [sum(measure_distance(drawn) > 0 for drawn in found) for found in (once, often)]
    assert missed[0] > missed[1]
    assert {drawn.redraws for drawn in once} == {0}
    assert 0 < max(drawn.redraws for drawn in often) <= 4
    alone = draw_until_met(model, rows[5:6], keys[5:6], 4)[0]
    assert np.array_equal(alone.image, often[5].image)
    assert alone.measurements == often[5].measurements


def test_a_model_without_a_measurer_draws_once(tmp_path: Path) -> None:
    model: Generator = train_model(make_spec(steps=1), draw_faces(24), tmp_path).generator
    [drawn] = draw_until_met(model, [{"sex": "F"}], [1], 5)
    assert (drawn.measurements, drawn.redraws) == ((), 0)
