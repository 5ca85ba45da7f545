"""Both engines at once: a subject's tissues drive what a model draws, and are stored on its grid, in their place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.shelf import FolderShelf
from synth.engines.mri import MriEngine
from synth.engines.mri_flow import MriFlowEngine
from synth.errors import SpecError
from synth.learned.maps import MapCode
from synth.nouns import Image, Subject
from synth.population import find_population
from synth.spec import CohortSpec
from tests.learned_models import KIND, TISSUES, make_tiny_model

SHAPE = (20, 26, 22)


def keep(place: Path, **model: Any) -> str:
    sha256 = make_tiny_model(place / "tiny", **model)
    (place / "tiny").rename(place / sha256)
    return sha256


def recipe(sha256: str, **imaging: Any) -> CohortSpec:
    asked = {"engine": "mri-flow", "model": f"tiny@sha256:{sha256}", "contrasts": [KIND], **imaging}
    return CohortSpec.model_validate({"name": "t", "subjects": 2, "seed": 4, "imaging": asked})


def people(spec: CohortSpec) -> list[Subject]:
    return list(find_population("adult-brain").draw_subjects(spec, "t", 0, 2))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[MriFlowEngine, CohortSpec, list[Image]]:
    place = tmp_path_factory.mktemp("models")
    spec = recipe(keep(place, shape=SHAPE, labels=TISSUES))
    engine = MriFlowEngine(FolderShelf(place))
    engine.check(spec)
    return engine, spec, engine.render([scan for who in people(spec) for scan in engine.draw_scans(spec, who)])


def test_masks_are_the_subjects_tissues_at_their_place(drawn: tuple[MriFlowEngine, CohortSpec, list[Image]]) -> None:
    _, spec, images = drawn
    physics = MriEngine()
    imaging = spec.imaging.model_copy(update={"engine": "mri", "model": None, "contrasts": ("T1w",)})
    heads = spec.model_copy(update={"imaging": imaging})
    for image, who in zip(images, people(spec), strict=True):
        (head,) = physics.render(physics.draw_scans(heads, who))
        assert image.masks.keys() == {"tissue"}
        assert image.affine is not None
        assert head.affine is not None
        np.testing.assert_allclose(image.spacing_mm, (8.4, 8.0, 8.0))
        places = np.argwhere(image.masks["tissue"] == 3)
        world = places @ image.affine[:3, :3].T + image.affine[:3, 3]
        at = np.rint((world - head.affine[:3, 3]) / np.diag(head.affine)[:3]).astype(int)
        assert (head.masks["tissue"][tuple(at.T)] == 3).mean() > 0.6  # voxels of 8 mm meet the border half the time
        white = [float((one.masks["tissue"] == 3).mean()) for one in (image, head)]
        assert white[0] == pytest.approx(white[1], rel=0.1)


def test_tissues_drive_the_image(drawn: tuple[MriFlowEngine, CohortSpec, list[Image]]) -> None:
    engine, spec, images = drawn
    one, other = (engine.draw_scans(spec, who)[0] for who in people(spec))
    swapped = replace(one, parameters={**one.parameters, "anatomy": other.parameters["anatomy"]})
    (image,) = engine.render([swapped])
    assert np.array_equal(image.masks["tissue"], images[1].masks["tissue"])
    assert not np.array_equal(image.pixels, images[0].pixels)


def test_models_that_follow_no_tissue_are_refused(tmp_path: Path) -> None:
    for number, (model, message) in enumerate(
        [
            ({"shape": (8, 8)}, "does not follow the labels of volumes"),
            ({"shape": SHAPE}, "does not follow the labels of volumes"),
            ({"shape": SHAPE, "labels": MapCode("tissue", ("head",))}, "follows 1 labels of 'tissue'; engine 'mri'"),
            ({"shape": SHAPE, "labels": MapCode("bones", ("skull",))}, "follows 1 labels of 'bones'; engine 'mri'"),
        ]
    ):
        place = tmp_path / str(number)
        spec = recipe(keep(place, **model))
        with pytest.raises(SpecError, match=message):
            MriFlowEngine(FolderShelf(place)).check(spec)


def test_resolution_is_the_anatomys_and_effects_are_nobodys(tmp_path: Path) -> None:
    engine = MriFlowEngine(FolderShelf(tmp_path))
    model = keep(tmp_path, shape=SHAPE, labels=TISSUES)
    engine.check(recipe(model, resolution_mm=1.0))
    with pytest.raises(SpecError, match=r"imaging.effects: engine 'mri-flow' takes none"):
        engine.check(recipe(model, effects={"motion": {}}))
    with pytest.raises(SpecError, match=r"resolution_mm: 1.7 is not available"):
        engine.check(recipe(model, resolution_mm=1.7))
