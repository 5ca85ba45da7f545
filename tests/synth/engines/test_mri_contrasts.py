"""Every contrast of the MRI engine: pixels follow from its row, series belong together, the field is the recipe's."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from synth.engines.mri import MriEngine
from synth.engines.mri_render import tissue_signals
from synth.nouns import Image, Scan, Subject, Visit
from synth.physics.diseases import DISEASES
from synth.physics.grid import LABELS
from synth.physics.relaxation import PRIORS, TISSUES
from synth.physics.sequences import SEQUENCES
from synth.physics.sequences.diffusion import compute_adc
from synth.spec import CohortSpec

ENGINE = MriEngine()
VISIT = Visit(0, 0.0, 45.0, 1080.0, 40.0, 15.0, {"grey_matter_ml": 596.0})
PERSON = Subject("t-s0", "t", 0, 45.0, "F", "", 1450.0, "SIEMENS", "Skyra", 3.0, 1.0, (VISIT,))


def spec_of(*contrasts: str, **imaging: Any) -> CohortSpec:
    asked = {"contrasts": contrasts, "resolution_mm": 2.0} | imaging
    return CohortSpec.model_validate({"name": "t", "subjects": 1, "seed": 5, "imaging": asked})


def draw(*contrasts: str, **imaging: Any) -> list[Scan]:
    return list(ENGINE.draw_scans(spec_of(*contrasts, **imaging), PERSON))


def quieten(scan: Scan) -> Scan:
    """Return the scan without receive bias and nearly without noise."""
    quiet = json.loads(json.dumps(scan.parameters)) | {"bias_range": 0.0}
    if "snr" in quiet:
        quiet["snr"] = 1000.0
    for part in quiet.get("parts", ()):
        part["snr"] = 1000.0
    return replace(scan, parameters=quiet)


@pytest.fixture(scope="module")
def scans() -> list[Scan]:
    return draw(*SEQUENCES)


@pytest.fixture(scope="module")
def images(scans: list[Scan]) -> dict[str, Image]:
    return {image.scan.kind: image for image in ENGINE.render(scans)}


def test_core_means_are_what_the_row_says(scans: list[Scan]) -> None:
    for image in ENGINE.render([quieten(scan) for scan in scans]):
        wanted = tissue_signals(image.scan)
        for name, label in (("wm", "white_matter"), ("csf", "ventricles")):
            inside = (image.masks["tissue"] == LABELS[label]) & (image.masks["lesion"] == 0)
            core = ndimage.binary_erosion(inside, iterations=3 if name == "wm" else 2)
            assert core.sum() > 100
            seen = np.median(image.pixels[core]) * image.intensity_scale
            assert seen == pytest.approx(wanted[name], rel=0.02, abs=0.03 * max(wanted.values())), image.scan.kind


def test_every_contrast_is_measured_back(images: dict[str, Image]) -> None:
    assert images.keys() == SEQUENCES.keys()
    for kind, image in images.items():
        found = {measurement.name: measurement for measurement in image.measurements}
        assert ("snr" in found) == (kind != "ADC")
        assert [name for name, measurement in found.items() if not measurement.within] == []
        assert image.intensity_unit == ("um2/ms" if kind == "ADC" else "fraction of fully relaxed water signal")


def test_a_row_holds_all_that_decides_its_image(scans: list[Scan], images: dict[str, Image]) -> None:
    for scan in scans:
        row = json.loads(json.dumps(scan.parameters, allow_nan=False))
        sequence = SEQUENCES[scan.kind]
        assert set(row["protocol"]) == set(sequence.parameters) | set(sequence.fixed)
        assert set(row["relaxation"]) == {*TISSUES, *DISEASES["multiple-sclerosis"].tissues}
    for kind in ("T2w-FSE", "T1w-Gd", "DWI-b1000", "ADC"):
        row = replace(images[kind].scan, parameters=json.loads(json.dumps(images[kind].scan.parameters)))
        [alone] = ENGINE.render([row])
        np.testing.assert_array_equal(alone.pixels, images[kind].pixels)


def test_a_contrast_does_not_depend_on_what_else_is_asked_for(scans: list[Scan]) -> None:
    for kind in ("T1w", "FLAIR", "ADC"):
        [alone] = draw(kind)
        assert alone == next(scan for scan in scans if scan.kind == kind)


def test_diffusion_images_share_protocol_bias_and_noise_level(scans: list[Scan]) -> None:
    rows = {scan.kind: scan.parameters for scan in scans if scan.kind.startswith("DWI")}
    assert len(rows) == 4
    first = rows["DWI-b0"]
    for kind, row in rows.items():
        assert {**row["protocol"], "b_s_mm2": 0.0} == first["protocol"]
        assert row["bias_key"] == first["bias_key"]
        adc = row["protocol"]["adc_wm_um2_ms"]
        assert row["snr"] == pytest.approx(first["snr"] * np.exp(-adc * row["protocol"]["b_s_mm2"] / 1000)), kind
    assert len({row["noise_key"] for row in rows.values()}) == 4


def test_the_adc_map_is_that_of_the_images_of_the_visit(images: dict[str, Image]) -> None:
    pair = [images["DWI-b0"], images["DWI-b1000"]]
    values = np.stack([image.pixels * np.float32(image.intensity_scale) for image in pair])
    sigma = tissue_signals(pair[0].scan)["wm"] / pair[0].scan.parameters["snr"]
    again = compute_adc(values, np.array([sigma, sigma]), 0.0, 1000.0)
    difference = np.abs(images["ADC"].pixels * images["ADC"].intensity_scale - again)
    assert difference.max() <= 0.0006  # half a stored step
    assert (images["ADC"].pixels[images["ADC"].masks["tissue"] == 0] == 0).mean() > 0.95


def test_gadolinium_brightens_lesions_by_what_they_take_up() -> None:
    ratios = []
    for uptake in (0.0, 0.1, 0.4):
        [scan] = draw("T1w-Gd", protocol={"T1w-Gd": {"uptake_lesion_mmol_l": uptake}})
        [image] = ENGINE.render([quieten(scan)])
        lesion = ndimage.binary_erosion(image.masks["lesion"] > 0)
        white = (image.masks["tissue"] == LABELS["white_matter"]) & (image.masks["lesion"] == 0)
        ratios.append(image.pixels[lesion].mean() / np.median(image.pixels[white]))
    assert ratios[0] < 0.9
    assert ratios == sorted(ratios)
    assert ratios[2] > 1.1


@pytest.mark.parametrize("tesla", [0.064, 1.5, 3.0, 7.0])
def test_the_field_of_a_recipe_is_that_of_the_scan(scans: list[Scan], tesla: float) -> None:
    own = next(scan for scan in scans if scan.kind == "T2w")
    [scan] = draw("T2w", field_strength_t=tesla)
    assert scan.field_strength_t == tesla
    assert (scan.manufacturer, scan.manufacturer_model) == (("SIEMENS", "Skyra") if tesla == 3.0 else (None, None))
    assert (scan == own) == (tesla == 3.0)
    for name in ("shape", "pose", "solution", "requested"):
        assert scan.parameters[name] == own.parameters[name]
    for prior in PRIORS:
        if prior.field_strength_t == tesla:
            low, high = prior.interval
            assert low <= scan.parameters["relaxation"][prior.tissue][prior.quantity] <= high


def test_wanted_parameters_are_in_the_row_and_leave_the_rest(scans: list[Scan]) -> None:
    own = next(scan for scan in scans if scan.kind == "FLAIR")
    [scan] = draw("FLAIR", protocol={"FLAIR": {"te_ms": 90.0}})
    assert scan.parameters["protocol"]["te_ms"] == 90.0
    assert scan.parameters["protocol"]["tr_ms"] == own.parameters["protocol"]["tr_ms"]
    assert {**scan.parameters, "protocol": None} == {**own.parameters, "protocol": None}
