"""The learned engine: what a model is asked for, what it was not taught, and images that miss what was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.shelf import FolderShelf
from synth.engines.learned import LearnedEngine, split_row
from synth.errors import ModelError, SpecError
from synth.learned.redraws import Drawn
from synth.nouns import Measurement, Subject, Visit
from synth.spec import CohortSpec
from tests.learned_models import CONDITIONS, KIND, make_tiny_model


class ReadingShelf(FolderShelf):
    """A shelf whose images show the wrong sex: each is drawn again as often as it may be."""

    def draw_images(self, generator: Any, rows: Any, keys: Any, budget: int, maps: Any = None) -> list[Drawn]:
        images = generator.sample(rows, keys, maps)
        return [Drawn(image, (Measurement("sex=F", "probability", 1.0, 0.2, 0.5),), budget) for image in images]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    place = tmp_path_factory.mktemp("models")
    sha256 = make_tiny_model(place / "tiny")
    (place / "tiny").rename(place / sha256)
    return place, sha256


def spec_of(sha256: str, **imaging: Any) -> CohortSpec:
    asked = {"engine": "flow", "model": f"tiny@sha256:{sha256}", "contrasts": [KIND]} | imaging
    return CohortSpec.model_validate({"name": "t", "subjects": 1, "seed": 9, "imaging": asked})


def person(**attributes: Any) -> Subject:
    visit = Visit(0, 0.0, 50.0, attributes={"age_years": 50, "view": "PA", **attributes})
    return Subject("t-s0", "t", 0, 50.0, "F", None, None, None, None, None, 1.0, (visit,), {"sex": "F"})


def test_what_a_model_was_not_taught_is_not_asked_but_noted() -> None:
    known = {"sex": "X", "view": "PA", "age_years": 95, "findings": ("Mass", "Hernia"), "weight_kg": 70.0, "site": None}
    row, unknown = split_row(CONDITIONS, known)
    assert row == {"view": "PA", "findings": ["Mass"]}
    assert unknown == {"sex": "X", "age_years": 95, "findings": ["Hernia"], "weight_kg": 70.0}


def test_misses_are_counted_beside_what_was_read(model: tuple[Path, str]) -> None:
    place, sha256 = model
    engine = LearnedEngine(ReadingShelf(place))
    for asked, budget in ((None, 2), (0, 0), (5, 5)):
        (scan,) = engine.draw_scans(spec_of(sha256, redraws=asked), person())
        assert scan.parameters["redraws"] == budget
        (image,) = engine.render([scan])
        read, counted = image.measurements
        assert (read.name, read.within) == ("sex=F", False)
        assert (counted.name, counted.measured, counted.within) == ("redraws", float(budget), True)


def test_the_row_and_the_seed_decide_the_image(model: tuple[Path, str]) -> None:
    place, sha256 = model
    engine, spec = LearnedEngine(FolderShelf(place)), spec_of(sha256)

    def draw(subject: Subject, seed: int = 9) -> np.ndarray:
        return engine.render(engine.draw_scans(spec.model_copy(update={"seed": seed}), subject))[0].pixels

    same = draw(person())
    np.testing.assert_array_equal(same, draw(person(weight_kg=70.0)))
    assert not np.array_equal(same, draw(person(view="AP")))
    assert not np.array_equal(same, draw(person(), seed=10))


def test_images_have_the_white_of_those_that_were_learned_from(model: tuple[Path, str], tmp_path: Path) -> None:
    eight_bits = make_tiny_model(tmp_path / "tiny", pixels="uint8")
    (tmp_path / "tiny").rename(tmp_path / eight_bits)
    found = []
    for place, sha256 in (model, (tmp_path, eight_bits)):
        engine, spec = LearnedEngine(FolderShelf(place)), spec_of(sha256)
        (image,) = engine.render(engine.draw_scans(spec, person()))
        assert engine.image_bytes(spec) == image.pixels.nbytes
        found.append(image)
    deep, plain = found
    assert (deep.pixels.dtype, plain.pixels.dtype) == (np.uint16, np.uint8)
    np.testing.assert_allclose(
        deep.pixels * deep.intensity_scale, plain.pixels * plain.intensity_scale, atol=0.51 / 255, rtol=0
    )


def test_recipes_that_a_model_cannot_follow_are_refused(model: tuple[Path, str]) -> None:
    place, sha256 = model
    engine = LearnedEngine(FolderShelf(place))
    engine.check(spec_of(sha256))
    wanted = spec_of(sha256).model_copy()
    other = CohortSpec.model_validate({**wanted.model_dump(), "population": {"where": {"sex": ["X"]}}})
    with pytest.raises(SpecError, match="sex 'X' is asked for, but model 'tiny' was taught F, M"):
        engine.check(other)
    for where, message in (
        ({"diagnosis": ["mass"]}, "diagnosis is asked for, but .* was taught .*, so its images cannot show it"),
        ({"age_years": [95, 99]}, "age_years from 95 to 99 is asked for, but model 'tiny' was taught 18 to 90"),
    ):
        other = CohortSpec.model_validate({**wanted.model_dump(), "population": {"where": where}})
        with pytest.raises(SpecError, match=message):
            engine.check(other)
    bands = CohortSpec.model_validate({**wanted.model_dump(), "population": {"targets": {"age_years": {"0-5": 0.5}}}})
    with pytest.raises(SpecError, match="from 0 to 5 is asked for"):
        engine.check(bands)
    for allowed in ({"diagnosis": ["none"]}, {"age_years": [10, 20]}, {"sex": ["F"]}):
        engine.check(CohortSpec.model_validate({**wanted.model_dump(), "population": {"where": allowed}}))
    with pytest.raises(SpecError, match="has no hash"):
        engine.check(spec_of(sha256, model="tiny"))
    with pytest.raises(ModelError, match="no models were given"):
        LearnedEngine().check(wanted)
    with pytest.raises(ModelError, match="is not in"):
        engine.check(spec_of("0" * 64))
