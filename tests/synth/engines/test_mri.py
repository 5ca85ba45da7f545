"""The MRI engine: twins, what is stored in a row, and how pixels follow from it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from synth.engines.mri import MriEngine
from synth.engines.mri_render import tissue_signals
from synth.errors import SpecError
from synth.nouns import Image, Subject, Visit
from synth.physics.grid import LABELS
from synth.spec import CohortSpec

ENGINE = MriEngine()
SPEC = CohortSpec.model_validate(
    {"name": "t", "subjects": 1, "seed": 5, "imaging": {"contrasts": ["T1w", "T2w", "FLAIR"], "resolution_mm": 2.0}}
)


def person(lesion_ml: float, ventricle_ml: float = 30.0) -> Subject:
    visit = Visit(0, 0.0, 45.0, 1080.0, ventricle_ml, lesion_ml, {"grey_matter_ml": 596.0})
    return Subject("t-s0", "t", 0, 45.0, "F", "", 1450.0, "SIEMENS", "Skyra", 3.0, 1.0, (visit,))


@pytest.fixture(scope="module")
def twins() -> tuple[list[Image], list[Image]]:
    hurt, well = (ENGINE.render(ENGINE.draw_scans(SPEC, person(ml))) for ml in (12.0, 0.0))
    return hurt, well


def test_a_twin_without_lesions_differs_only_around_them(twins: tuple[list[Image], list[Image]]) -> None:
    for hurt, well in zip(*twins, strict=True):
        np.testing.assert_array_equal(hurt.masks["tissue"], well.masks["tissue"])
        assert not well.masks["lesion"].any()
        changed = hurt.pixels != well.pixels
        lesion = hurt.masks["lesion"] > 0
        assert changed[lesion].mean() > 0.95
        # what changes lies within white matter's reach of a lesion; spots too small for the mask are partial volume
        distance = ndimage.distance_transform_edt(~lesion)
        assert distance[changed].max() < 25
        assert (distance[changed] < 3).mean() > 0.9
        assert changed.mean() < 0.05
        assert not changed[(hurt.masks["tissue"] == LABELS["background"]) & (distance > 25)].any()


def test_flair_shows_lesions_bright_and_t1w_dark(twins: tuple[list[Image], list[Image]]) -> None:
    for image in twins[0]:
        lesion = image.masks["lesion"] > 0
        white = (image.masks["tissue"] == LABELS["white_matter"]) & ~lesion
        ratio = image.pixels[lesion].mean() / image.pixels[white].mean()
        assert ratio < 0.97 if image.scan.kind == "T1w" else ratio > 1.2


def test_core_means_are_the_closed_form_signals(twins: tuple[list[Image], list[Image]]) -> None:
    """Without bias and nearly without noise, the middle of a tissue has the signal of the equation."""
    for scan in ENGINE.draw_scans(SPEC, person(0.0)):
        quiet = replace(scan, parameters={**scan.parameters, "bias_range": 0.0, "snr": 1000.0})
        (image,) = ENGINE.render([quiet])
        wanted = tissue_signals(quiet)
        for tissue, label in (("wm", "white_matter"), ("csf", "ventricles")):
            core = ndimage.binary_erosion(image.masks["tissue"] == LABELS[label], iterations=3 if tissue == "wm" else 2)
            assert core.sum() > 100
            seen = np.median(image.pixels[core]) * image.intensity_scale
            assert seen == pytest.approx(wanted[tissue], rel=0.02, abs=0.004)


def test_the_row_holds_what_was_asked_for() -> None:
    scans = ENGINE.draw_scans(SPEC, person(12.0))
    for scan in scans:
        assert scan.parameters["requested"] == {
            "intracranial_ml": 1450.0,
            "brain_ml": 1080.0,
            "ventricle_ml": 30.0,
            "lesion_ml": 12.0,
            "grey_ml": 596.0,
            "white_ml": 484.0,
        }
        assert SPEC.imaging.snr[0] <= scan.parameters["snr"] <= SPEC.imaging.snr[1]
        assert 0.1 <= scan.parameters["bias_range"] <= 0.4
    assert [scan.scan_id for scan in scans] == ["t-s0-v0-t1w", "t-s0-v0-t2w", "t-s0-v0-flair"]
    heads = [{k: v for k, v in s.parameters.items() if k in ("shape", "pose", "solution")} for s in scans]
    assert heads[0] == heads[1] == heads[2]


@pytest.mark.parametrize("snr", [5.0, 20.0, 100.0])
def test_the_drawn_snr_is_measured_back(snr: float) -> None:
    spec = SPEC.model_copy(update={"imaging": SPEC.imaging.model_copy(update={"snr": (snr, snr)})})
    for image in ENGINE.render(ENGINE.draw_scans(spec, person(0.0))):
        found = {m.name: m for m in image.measurements}["snr"]
        assert found.requested == snr
        assert found.within
        assert math.isclose(found.measured, snr, rel_tol=0.1)


def test_the_bias_field_spans_its_range() -> None:
    scan = ENGINE.draw_scans(SPEC, person(0.0))[0]
    quiet = {**scan.parameters, "snr": 1000.0}
    flat, bent = (ENGINE.render([replace(scan, parameters={**quiet, "bias_range": r})])[0] for r in (0.0, 0.3))
    core = ndimage.binary_erosion(flat.masks["tissue"] == LABELS["white_matter"], iterations=2)
    ratio = bent.pixels[core] / flat.pixels[core].astype(float)
    assert ratio.mean() == pytest.approx(1, abs=0.05)
    assert 0.1 < ratio.max() - ratio.min() < 0.36


def test_the_nearest_contrast_is_suggested() -> None:
    spec = SPEC.model_copy(update={"imaging": SPEC.imaging.model_copy(update={"contrasts": ("FLAR",)})})
    with pytest.raises(SpecError, match=r"choose from \['T1w', .*\]\. Did you mean 'FLAIR'\?"):
        ENGINE.check(spec)
