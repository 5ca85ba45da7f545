"""The MRI engine with a head around the brain: the brain stays, bone is dark, fat is bright, air stays air."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from synth.engines.mri import MriEngine
from synth.engines.mri_flow import MriFlowEngine
from synth.engines.mri_render import tissue_signals
from synth.errors import SpecError
from synth.nouns import Image, Subject, Visit
from synth.physics.effects.slices import plan_slices, vote_slices
from synth.physics.grid import HEAD_LABELS, LABELS
from synth.spec import CohortSpec

ENGINE = MriEngine()
VISIT = Visit(0, 0.0, 45.0, 1080.0, 30.0, 0.0, {"grey_matter_ml": 596.0})
SOMEBODY = Subject("t-s0", "t", 0, 45.0, "F", "", 1450.0, "SIEMENS", "Skyra", 3.0, 1.0, (VISIT,))


def recipe(kind: str) -> CohortSpec:
    imaging = {"contrasts": ["T1w", "FLAIR"], "resolution_mm": 2.0, "anatomy": {"kind": kind}}
    return CohortSpec.model_validate({"name": "t", "subjects": 1, "seed": 5, "imaging": imaging})


@pytest.fixture(scope="module")
def heads() -> list[Image]:
    return ENGINE.render(ENGINE.draw_scans(recipe("head"), SOMEBODY))


@pytest.fixture(scope="module")
def brains() -> list[Image]:
    return ENGINE.render(ENGINE.draw_scans(recipe("brain"), SOMEBODY))


def test_the_brain_is_that_of_the_twin_without_a_head(heads: list[Image], brains: list[Image]) -> None:
    for whole, brain in zip(heads, brains, strict=True):
        inside = brain.masks["tissue"] > 0
        np.testing.assert_array_equal(whole.masks["tissue"][inside], brain.masks["tissue"][inside])
        deep = ndimage.binary_erosion(inside, iterations=2)
        own, other = (image.pixels[deep] * image.intensity_scale for image in (whole, brain))
        step = max(whole.intensity_scale, brain.intensity_scale)
        assert np.abs(own - other).max() <= 1.01 * step
        assert whole.scan.parameters["requested"] == brain.scan.parameters["requested"]
        for measured, wanted in zip(whole.measurements, brain.measurements, strict=True):
            assert measured.name == wanted.name
            if measured.unit == "mL":
                assert measured.measured == wanted.measured


def test_measurements_hold_with_a_head(heads: list[Image]) -> None:
    for image in heads:
        assert all(found.within for found in image.measurements), image.measurements


def test_bone_is_dark_fat_is_bright_and_there_is_skin_all_around(heads: list[Image]) -> None:
    image = heads[0]
    tissue = image.masks["tissue"]
    assert set(np.unique(tissue)) >= {*LABELS.values(), *HEAD_LABELS.values()} - {
        HEAD_LABELS["nerves"],
        HEAD_LABELS["marrow"],
    }
    core = {
        name: image.pixels[tissue == value].mean() for name, value in HEAD_LABELS.items() if (tissue == value).any()
    }
    white = image.pixels[tissue == LABELS["white_matter"]].mean()
    assert core["bone"] < 0.35 * white
    assert core["fat"] > white
    assert 0.3 * white < core["muscle"] < white
    # whoever walks from outside into the brain crosses soft tissue and bone
    outside, _ = ndimage.label(tissue == 0)
    air = outside == outside[0, -1, -1]
    brain = np.isin(tissue, list(LABELS.values())[1:])
    assert not (ndimage.binary_dilation(air, iterations=2) & brain).any()


def test_thick_slices_keep_the_labels_of_the_head(heads: list[Image]) -> None:
    masks = heads[0].masks
    slices = plan_slices(masks["tissue"].shape, 2.0, {"thickness_mm": 4.0, "gap_mm": 0.0, "axis": 2, "edge": 0.1})
    voted, _ = vote_slices(masks, slices)
    counts = [np.bincount(tissue.ravel(), minlength=13) / tissue.size for tissue in (masks["tissue"], voted["tissue"])]
    for label in (HEAD_LABELS["muscle"], HEAD_LABELS["bone"], HEAD_LABELS["fat"]):
        assert counts[1][label] == pytest.approx(counts[0][label], rel=0.25)


def test_fat_is_saturated_in_diffusion() -> None:
    imaging = {"contrasts": ["DWI-b0", "T2w"], "resolution_mm": 2.0, "anatomy": {"kind": "head"}}
    spec = CohortSpec.model_validate({"name": "t", "subjects": 1, "seed": 5, "imaging": imaging})
    signals = [tissue_signals(scan) for scan in ENGINE.draw_scans(spec, SOMEBODY)]
    ratios = [each["fat"] / each["muscle"] for each in signals]
    assert ratios[0] < 0.2 < ratios[1]


def test_a_row_alone_gives_the_head_again(heads: list[Image]) -> None:
    row = json.loads(json.dumps(dict(heads[1].scan.parameters)))
    [again] = MriEngine().render([replace(heads[1].scan, parameters=row)])
    np.testing.assert_array_equal(again.pixels, heads[1].pixels)
    np.testing.assert_array_equal(again.masks["tissue"], heads[1].masks["tissue"])


def test_recipes_for_brains_keep_their_hash_and_rows() -> None:
    plain = CohortSpec.model_validate(
        {"name": "t", "subjects": 1, "seed": 5, "imaging": {"contrasts": ["T1w", "FLAIR"]}}
    )
    assert plain.content_hash == recipe("brain").content_hash != recipe("head").content_hash
    assert "anatomy" not in ENGINE.draw_scans(recipe("brain"), SOMEBODY)[0].parameters


def test_models_that_follow_labels_have_no_head() -> None:
    with pytest.raises(SpecError, match="kind: 'head' is not for engine 'mri-flow'"):
        MriFlowEngine().check(recipe("head"))
