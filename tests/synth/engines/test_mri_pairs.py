"""Paired scans of the MRI engine: what partners share, what they differ in, their k-space, and what recipes may ask."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import fft

from synth.engines.mri import MriEngine
from synth.engines.mri_kspace import acquire_kspace, reconstruct_kspace
from synth.errors import PermanentError, SpecError
from synth.nouns import Image, Subject, Visit
from synth.physics.effects.lines import sampled_lines
from synth.physics.pairs import PAIRS
from synth.plan import count_images
from synth.spec import CohortSpec

ENGINE = MriEngine()
VISIT = Visit(0, 0.0, 45.0, 1080.0, 40.0, 15.0, {"grey_matter_ml": 596.0})
PERSON = Subject("t-s0", "t", 0, 45.0, "F", "", 1450.0, "SIEMENS", "Skyra", 3.0, 1.0, (VISIT,))
DRAWN = {"protocol", "snr", "effects", "noise_key", "parts", "relaxation", "noise_in", "pair", "pair_of"}


def spec_of(pairs: Any, contrasts: tuple[str, ...] = ("T1w",), **imaging: Any) -> CohortSpec:
    asked = {"contrasts": contrasts, "resolution_mm": 4.0, "snr": (30.0, 40.0), "pairs": pairs, **imaging}
    return CohortSpec.model_validate({"name": "t", "subjects": 1, "seed": 5, "imaging": asked})


@pytest.fixture(scope="module")
def images() -> dict[str, Image]:
    """The T1w scan of one person and its partner of every pair, by pair; the original's is empty."""
    asked = {name: {} for name in PAIRS} | {"thick-slices": {"thickness_mm": 8, "gap_mm": 0}}
    scans = ENGINE.draw_scans(spec_of(asked), PERSON)
    return {scan.parameters.get("pair", ""): image for scan, image in zip(scans, ENGINE.render(scans), strict=True)}


def test_each_contrast_is_followed_by_its_partners_and_rows_say_whose_they_are(images: dict[str, Image]) -> None:
    assert list(images) == ["", *PAIRS]
    original = images[""].scan
    assert "pair" not in original.parameters
    for name in PAIRS:
        scan = images[name].scan
        assert (scan.kind, scan.visit, scan.subject_id) == (original.kind, original.visit, original.subject_id)
        assert (scan.parameters["pair"], scan.parameters["pair_of"]) == (name, original.scan_id)
        assert scan.scan_id == f"{original.scan_id}-{name}"
    spec = spec_of(["motion", "noisy"], ("T1w", "ADC"))
    assert len(ENGINE.draw_scans(spec, PERSON)) == count_images(spec) == 6


def test_partners_have_the_head_and_the_field_of_view_of_their_original(images: dict[str, Image]) -> None:
    original = images[""]
    for name, image in images.items():
        same = {key: value for key, value in image.scan.parameters.items() if key not in DRAWN}
        assert same == {key: value for key, value in original.scan.parameters.items() if key not in DRAWN}
        if name == "thick-slices":
            assert image.affine is not None
            assert image.pixels.shape[:2] == original.pixels.shape[:2]
            assert image.pixels.shape[2] < original.pixels.shape[2]
            continue
        np.testing.assert_array_equal(image.affine, original.affine)
        for mask in original.masks:
            np.testing.assert_array_equal(image.masks[mask], original.masks[mask])


def test_images_are_made_again_from_their_rows_alone_and_whatever_is_rendered_with_them(
    images: dict[str, Image],
) -> None:
    for image in images.values():
        row = json.loads(json.dumps(image.scan.parameters, sort_keys=True, allow_nan=False))
        [again] = ENGINE.render([replace(image.scan, parameters=row)])
        np.testing.assert_array_equal(again.pixels, image.pixels)
        assert again.measurements == image.measurements


def test_pairs_leave_the_draws_of_the_original_as_they_were() -> None:
    [alone] = ENGINE.draw_scans(spec_of([]), PERSON)
    with_own_noise = ENGINE.draw_scans(spec_of(["low-field", "noisy"]), PERSON)[0]
    assert with_own_noise == alone
    with_same_noise = ENGINE.draw_scans(spec_of(["motion"]), PERSON)[0]
    assert with_same_noise.parameters == {**alone.parameters, "noise_in": "k-space"}


def test_an_undersampled_partner_has_the_very_samples_of_its_original(images: dict[str, Image]) -> None:
    full, partner = images[""], images["undersampled"]
    whole, some = acquire_kspace(full.scan), acquire_kspace(partner.scan)
    asked = partner.scan.parameters["effects"]["undersampling"]
    count = full.pixels.shape[some.lines]
    expected = sampled_lines(count, int(asked["acceleration"]), asked["centre_share"])
    np.testing.assert_array_equal(some.sampled, expected)
    assert whole.sampled.all()
    assert 0.4 < some.sampled.mean() < 0.7
    np.testing.assert_array_equal(some.samples[:, :, expected], whole.samples[:, :, expected])
    assert not some.samples[:, :, ~expected].any()
    image = np.abs(fft.ifftn(whole.samples[0], norm="ortho")) * whole.scale  # by hand
    np.testing.assert_allclose(full.pixels, np.minimum(image, 65535), atol=0.51)


def test_every_image_follows_from_its_k_space_bit_for_bit(images: dict[str, Image]) -> None:
    for name in ("", "motion", "undersampled", "noise-free"):
        scan = images[name].scan
        np.testing.assert_array_equal(reconstruct_kspace(scan, acquire_kspace(scan)), images[name].pixels)


def test_k_space_of_several_coils_unfolds_to_the_image() -> None:
    effects = {"coils": {"count": 4}, "slices": {"axis": 2, "thickness_mm": 8}}
    spec = spec_of({"undersampled": {"acceleration": 2, "sense": 1}}, effects=effects)
    _, scan = ENGINE.draw_scans(spec, PERSON)
    acquired = acquire_kspace(scan)
    [image] = ENGINE.render([scan])
    assert acquired.samples.shape == (4, *image.pixels.shape)
    assert acquired.sensitivities is not None
    assert acquired.axes == (0, 1)  # slices are not encoded
    np.testing.assert_array_equal(reconstruct_kspace(scan, acquired), image.pixels)


def test_a_map_has_no_k_space_of_its_own() -> None:
    [scan] = ENGINE.draw_scans(spec_of([], ("ADC",)), PERSON)
    with pytest.raises(PermanentError, match="take DWI-b0 and DWI-b1000"):
        acquire_kspace(scan)


def noise_in_air(image: Image) -> float:
    return float(image.pixels[image.masks["tissue"] == 0].std())


def test_pairs_differ_in_what_they_are_about(images: dict[str, Image]) -> None:
    original = images[""]
    moved = images["motion"].pixels.astype(float) - original.pixels
    assert np.abs(moved).mean() > 20
    assert noise_in_air(images["noisy"]) > 2 * noise_in_air(original)
    clean = images["noise-free"]
    assert clean.scan.parameters["snr"] is None
    assert "snr" not in {one.name for one in clean.measurements}
    difference = original.pixels[original.masks["tissue"] == 3].astype(float) - clean.pixels[clean.masks["tissue"] == 3]
    white = float(np.median(clean.pixels[clean.masks["tissue"] == 3]))
    assert white / difference.std() == pytest.approx(original.scan.parameters["snr"], rel=0.1)


def test_a_low_field_partner_is_the_same_person_with_the_relaxation_of_that_field(images: dict[str, Image]) -> None:
    low, original = images["low-field"].scan, images[""].scan
    assert low.field_strength_t == 0.064
    assert low.manufacturer is None  # nobody named that scanner
    white_low, white = (scan.parameters["relaxation"]["wm"]["t1_ms"] for scan in (low, original))
    assert white_low == pytest.approx(275, rel=0.13)  # O'Reilly and Webb 2022
    spread = {0.064: 0.05, 3.0: 0.042}
    assert (white_low / 275 - 1) / spread[0.064] == pytest.approx((white / 1084 - 1) / spread[3.0])
    assert low.parameters["snr"] < 15 < original.parameters["snr"]
    assert low.parameters["noise_key"] != original.parameters["noise_key"]


def test_the_partners_of_a_map_are_the_maps_of_the_partners_of_its_images() -> None:
    scans = ENGINE.draw_scans(spec_of(["noisy"], ("DWI-b0", "DWI-b1000", "ADC")), PERSON)
    by_id = {scan.scan_id: scan for scan in scans}
    parts = by_id["t-s0-v0-adc-noisy"].parameters["parts"]
    keys = [by_id[f"t-s0-v0-{part['kind'].lower()}-noisy"].parameters["noise_key"] for part in parts]
    assert [part["noise_key"] for part in parts] == keys


@pytest.mark.parametrize(
    ("imaging", "words"),
    [
        ({"pairs": ["movement"]}, "'movement' is unknown.*choose from .*'motion'"),
        ({"pairs": {"motion": {"shift_mm": 40}}}, r"imaging\.pairs\.motion\.shift_mm: 40 is impossible.*0 to 20 mm"),
        ({"pairs": {"noisy": {"snr": 1}}}, r"imaging\.pairs\.noisy\.snr: 1 is impossible.*2 to 1000"),
        (
            {"pairs": {"low-field": {"field_strength_t": 1.0}}},
            r"no relaxation values; choose one of 0\.064, 1\.5, 3, 7 T",
        ),
        ({"pairs": {"low-field": {"thickness": 5}}}, "unknown parameter.*thickness_mm"),
        ({"pairs": ["motion"], "effects": {"motion": {}}}, "partners would not differ in it"),
        ({"pairs": {"undersampled": {"sense": 1}}}, r"imaging\.pairs\.undersampled\.sense: 1 needs several coils"),
    ],
)
def test_impossible_pairs_are_refused_when_the_recipe_is_checked(imaging: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        ENGINE.check(spec_of(**{"resolution_mm": 2.0, **imaging}))


def test_pairs_may_be_listed_or_set_and_older_recipes_keep_their_hash() -> None:
    assert spec_of(["motion"]).content_hash == spec_of({"motion": {}}).content_hash
    assert spec_of(["motion"]).content_hash != spec_of([]).content_hash
    plain = CohortSpec.model_validate({"name": "t", "subjects": 1})
    assert plain.content_hash == "ebe1b6336fc8793d3dc1f87898d9498c0593647b907d26cbb0cbbd1991ff4e5a"
    with pytest.raises(ValueError, match="listed once"):
        spec_of(["motion", "motion"])
