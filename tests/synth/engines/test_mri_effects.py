"""Effects of the scanner through the MRI engine: rows, replay, geometry, and what is still measured."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from synth.engines.mri import MriEngine
from synth.engines.mri_render import tissue_signals
from synth.measure import MEASURES
from synth.nouns import Image, Scan, Subject, Visit
from synth.physics.acquisition import line_weights
from synth.physics.effects import EFFECTS
from synth.physics.effects.blurring import blur_tissue
from synth.physics.effects.transmit import transmit_field
from synth.physics.grid import LABELS, Grid
from synth.physics.relaxation import Tissue
from synth.physics.sequences import SEQUENCES
from synth.spec import CohortSpec

ENGINE = MriEngine()
VISIT = Visit(0, 0.0, 45.0, 1080.0, 40.0, 15.0, {"grey_matter_ml": 596.0})
PERSON = Subject("t-s0", "t", 0, 45.0, "F", "", 1450.0, "SIEMENS", "Skyra", 3.0, 1.0, (VISIT,))


def spec_of(effects: dict[str, Any], *contrasts: str) -> CohortSpec:
    asked = {"contrasts": contrasts or ("T1w",), "resolution_mm": 2.0, "snr": (30.0, 30.0), "effects": effects}
    return CohortSpec.model_validate({"name": "t", "subjects": 1, "seed": 5, "imaging": asked})


def draw(effects: dict[str, Any], *contrasts: str) -> list[Scan]:
    return list(ENGINE.draw_scans(spec_of(effects, *contrasts), PERSON))


def render(effects: dict[str, Any], *contrasts: str) -> list[Image]:
    return ENGINE.render(draw(effects, *contrasts))


@pytest.fixture(scope="module")
def plain() -> Image:
    return render({})[0]


def test_a_recipe_without_effects_has_none_in_its_rows(plain: Image) -> None:
    assert "effects" not in plain.scan.parameters
    [never] = render({"ghosts": {"probability": 0.0}})
    assert never.scan == plain.scan
    np.testing.assert_array_equal(never.pixels, plain.pixels)


ON_T1W = [name for name in EFFECTS if name != "blurring"]  # which strikes echo trains alone


@pytest.fixture(scope="module")
def drawn() -> Scan:
    """A scan that every effect strikes."""
    [scan] = draw({name: {} for name in EFFECTS} | {"undersampling": {"sense": 1.0}})
    return scan


def test_the_row_has_every_effect_beside_what_it_has_without(drawn: Scan, plain: Image) -> None:
    assert drawn.parameters["effects"].keys() == set(ON_T1W)
    assert {key: value for key, value in drawn.parameters.items() if key != "effects"} == plain.scan.parameters


@pytest.mark.parametrize("name", ON_T1W)
def test_each_effect_changes_the_image_and_is_made_again_from_its_row(name: str, drawn: Scan, plain: Image) -> None:
    kept = (name, "coils") if name == "undersampling" else (name,)
    effects = {key: drawn.parameters["effects"][key] for key in kept}
    scan = replace(plain.scan, parameters={**plain.scan.parameters, "effects": effects})
    row = replace(scan, parameters=json.loads(json.dumps(scan.parameters, sort_keys=True, allow_nan=False)))
    [one], [other] = ENGINE.render([scan]), ENGINE.render([row])
    np.testing.assert_array_equal(one.pixels, other.pixels)
    assert one.masks["tissue"].shape == one.masks["lesion"].shape == one.pixels.shape
    measured = {measurement.name for measurement in one.measurements}
    assert measured == set(MEASURES).difference(*(EFFECTS[key].spoils for key in kept))
    assert [found.name for found in one.measurements if not found.within] == []
    if name != "slices":
        np.testing.assert_array_equal(one.masks["tissue"], plain.masks["tissue"])
        assert (one.pixels != plain.pixels).mean() > 0.3


def test_thick_slices_have_their_grid_and_cover_the_same_head(plain: Image) -> None:
    effects = {"slices": {"thickness_mm": 4.0, "gap_mm": 0.0, "axis": 2.0, "edge": 0.1}}
    [image] = ENGINE.render([replace(plain.scan, parameters={**plain.scan.parameters, "effects": effects})])
    assert image.pixels.shape == (84, 104, 44)
    assert image.spacing_mm == (2.0, 2.0, 4.0)
    assert image.affine is not None
    np.testing.assert_allclose(np.linalg.norm(image.affine[:3, :3], axis=0), image.spacing_mm)
    assert plain.affine is not None
    middle, whole = (
        (one.affine @ [*(np.argwhere(one.masks["tissue"] > 0).mean(axis=0)), 1])[:3] for one in (image, plain)
    )
    np.testing.assert_allclose(middle, whole, atol=0.3)
    assert ENGINE.image_bytes(spec_of({"slices": {"thickness_mm": 4.0, "gap_mm": 0.0}})) == image.pixels.nbytes


def test_the_transmit_field_bends_the_signal_by_the_closed_form(drawn: Scan, plain: Image) -> None:
    quiet = []
    transmit = {**drawn.parameters["effects"]["transmit"], "spread": 0.5, "level": 1.0}
    for effects in ({"gibbs": {"share": 1.0}}, {"gibbs": {"share": 1.0}, "transmit": transmit}):
        parameters = {**plain.scan.parameters, "snr": 1000.0, "bias_range": 0.0, "effects": effects}
        quiet += ENGINE.render([replace(plain.scan, parameters=parameters)])
    flat, bent = quiet
    core = ndimage.binary_erosion(flat.masks["tissue"] == LABELS["white_matter"], iterations=2)
    place = np.argwhere(core & (flat.masks["lesion"] == 0))
    field = transmit_field(place @ Grid(2.0).affine[:3, :3] + Grid(2.0).affine[:3, 3], transmit)
    row = bent.scan.parameters
    tissue, protocol = Tissue(**row["relaxation"]["wm"]), row["protocol"]
    curve = [
        SEQUENCES["T1w"].signal("wm", tissue, {**protocol, "flip_angle_deg": protocol["flip_angle_deg"] * level})
        for level in field
    ]
    seen = bent.pixels[tuple(place.T)] / flat.pixels[tuple(place.T)].astype(float)
    ratio = seen * tissue_signals(flat.scan)["wm"] / curve
    assert np.ptp(field) > 0.15
    assert np.median(ratio) == pytest.approx(1, abs=0.01)
    assert np.std(ratio) < 0.02


def test_an_echo_train_filters_each_tissue_by_its_own_decay() -> None:
    """Where all tissues relax alike, the image is the sharp one filtered once. In PDw the first echo is central."""
    [scan] = draw({"blurring": {}}, "PDw")
    alike = {name: {**scan.parameters["relaxation"]["wm"]} for name in scan.parameters["relaxation"]}
    quiet = {**scan.parameters, "relaxation": alike, "snr": 1000.0}
    blurred, sharp = ENGINE.render(
        [
            replace(scan, parameters={**quiet, "effects": effects})
            for effects in ({"blurring": {}}, {"gibbs": {"share": 1.0}})
        ]
    )
    weights = line_weights("PDw", quiet, "wm", 104)
    assert weights.min() < 0.8
    wanted = np.abs(blur_tissue(sharp.pixels.astype(np.float32), weights, 1))
    assert np.abs(blurred.pixels - wanted).max() < 0.02 * wanted.max()
    assert np.abs(blurred.pixels - sharp.pixels.astype(float)).max() > 0.1 * wanted.max()


def test_an_adc_map_is_made_of_images_with_the_same_effects() -> None:
    scans = draw({"ghosts": {"amplitude": 0.2}, "distortion": {}}, "DWI-b0", "ADC")
    assert scans[0].parameters["effects"] == scans[1].parameters["effects"]
    adc = ENGINE.render(scans)[1]
    core = ndimage.binary_erosion(adc.masks["tissue"] == LABELS["white_matter"], iterations=2)
    assert np.median(adc.pixels[core]) * adc.intensity_scale == pytest.approx(tissue_signals(adc.scan)["wm"], rel=0.1)
