"""Measurers on volumes whose answers are known beforehand; they never see the engine's own numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from synth.measure import MEASURES, measure_image
from synth.measure.regions import measure_regions
from synth.nouns import Image, Measurement, Scan
from synth.physics.grid import LABELS
from synth.seeds import stream

SHAPE = (48, 52, 44)
SIGNALS = {"gm": 0.6, "wm": 0.8, "csf": 0.3, "lesion": 0.5}
REQUESTED = {"intracranial_ml": 0.0, "brain_ml": 0.0, "ventricle_ml": 0.0, "lesion_ml": 0.0}


def boxes() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return labels made of boxes with a hand-countable number of voxels, and a lesion box inside white matter."""
    tissue, lesion = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    tissue[8:40, 8:44, 8:36] = LABELS["csf"]  # 32 x 36 x 28
    tissue[10:38, 10:42, 10:34] = LABELS["grey_matter"]  # 28 x 32 x 24
    tissue[14:34, 14:38, 14:30] = LABELS["white_matter"]  # 20 x 24 x 16
    tissue[20:28, 20:30, 18:26] = LABELS["ventricles"]  # 8 x 10 x 8
    lesion[15:19, 15:19, 15:20] = 1  # 4 x 4 x 5, inside white matter
    lesion[31, 35, 27] = 1
    return tissue, lesion


COUNTS = {
    "white_matter": 20 * 24 * 16 - 640,
    "ventricles": 640,
    "grey_matter": 28 * 32 * 24 - 20 * 24 * 16,
    "csf": 32 * 36 * 28 - 28 * 32 * 24,
    "lesion": 81,
}


def paint(tissue: NDArray[np.uint8], sigma: float, scale: float = 20_000, key: str = "noise") -> NDArray[np.uint16]:
    """Return a magnitude image of the labels by numpy's own generator."""
    means = np.zeros(5)
    for label, name in (("csf", "csf"), ("grey_matter", "gm"), ("white_matter", "wm"), ("ventricles", "csf")):
        means[LABELS[label]] = SIGNALS[name]
    rng = stream(1, 0, 0, key)
    noisy = np.abs(means[tissue] + sigma * (rng.standard_normal(SHAPE) + 1j * rng.standard_normal(SHAPE)))
    return np.rint(noisy * scale).astype(np.uint16)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (2.0, 2.0, 2.0), (0.5, 1.0, 3.0)])
def test_volumes_are_counted_voxels(spacing_mm: tuple[float, ...]) -> None:
    tissue, lesion = boxes()
    seen = measure_regions(paint(tissue, 0.01), tissue, lesion, spacing_mm)
    for label, count in COUNTS.items():
        assert seen.counts[label] == count
        assert seen.volume_ml(label) == pytest.approx(count * math.prod(spacing_mm) / 1000)
    both = seen.volume_ml("grey_matter", "white_matter")
    assert both == pytest.approx((COUNTS["grey_matter"] + COUNTS["white_matter"]) * math.prod(spacing_mm) / 1000)


def test_cores_keep_a_voxel_away_from_any_other_label() -> None:
    tissue, lesion = boxes()
    seen = measure_regions(paint(tissue, 0.01), tissue, lesion, (1.0, 1.0, 1.0))
    assert seen.core_counts["ventricles"] == 6 * 8 * 6
    white = 18 * 22 * 14  # without its own rim, ...
    around_ventricles = 640 + 2 * (8 * 10 + 8 * 8 + 10 * 8)  # ... the ventricles and their six neighbours, ...
    around_lesion = (
        80 + 4 * 4 + 4 * 5 + 4 * 5 + 7
    )  # ... and the lesions: one on the rim with three sides, one of a voxel
    assert seen.core_counts["white_matter"] == white - around_ventricles - around_lesion


@pytest.mark.parametrize("snr", [3.0, 10.0, 50.0])
def test_noise_and_signal_are_freed_from_the_rician_bias(snr: float) -> None:
    tissue, lesion = boxes()
    sigma = SIGNALS["wm"] / snr
    seen = measure_regions(paint(tissue, sigma), tissue, lesion, (1.0, 1.0, 1.0))
    assert seen.noise_sigma / 20_000 == pytest.approx(sigma, rel=0.01)
    assert seen.signal("white_matter") / 20_000 == pytest.approx(SIGNALS["wm"], rel=0.02)
    spread = math.sqrt(sigma**2 * (SIGNALS["csf"] ** 2 + sigma**2) / seen.core_counts["ventricles"]) / SIGNALS["csf"]
    assert seen.signal("ventricles") / 20_000 == pytest.approx(SIGNALS["csf"], abs=4 * spread)
    assert seen.signal("white_matter") / seen.noise_sigma == pytest.approx(snr, rel=0.03)


def test_dark_tissue_has_no_signal_rather_than_none() -> None:
    tissue, lesion = boxes()
    pixels = paint(tissue, 0.02)
    pixels[tissue == LABELS["ventricles"]] = 0
    assert measure_regions(pixels, tissue, lesion, (1.0,) * 3).signal("ventricles") == 0.0


@pytest.mark.parametrize("fluid", [0.0, 0.02, 0.06, 0.3])
def test_a_few_mixed_voxels_do_not_change_the_signal_of_fluid(fluid: float) -> None:
    """At the level of noise, too, and where a mean square would say several times as much."""
    tissue, lesion = boxes()
    tissue[12:36, 12:40, 12:32] = LABELS["ventricles"]  # many voxels: the median is known to 3 %
    lesion[:] = 0
    sigma, rng = 0.02, stream(1, 0, 0, "mixed")
    means = np.where(tissue == LABELS["ventricles"], fluid, 0.0)
    means[20, 14:38, 14:30] = 0.6  # one plane of 24, mixed with tissue
    noisy = np.abs(means + sigma * (rng.standard_normal(SHAPE) + 1j * rng.standard_normal(SHAPE)))
    seen = measure_regions(np.rint(noisy * 20_000).astype(np.uint16), tissue, lesion, (1.0, 1.0, 1.0))
    assert seen.signal("ventricles") / 20_000 == pytest.approx(fluid, rel=0.02, abs=0.009)


def make_image(tissue: NDArray[np.uint8], lesion: NDArray[np.uint8], requested: dict[str, float], snr: float) -> Image:
    pixels = paint(tissue, SIGNALS["wm"] / snr)
    scan = Scan("s", "c", "p", 0, "T1w", "mri", "1", "", "", 1.5, {"requested": requested, "snr": snr})
    image = Image("i", scan, pixels, np.eye(4), (1.0,) * 3, 1 / 20_000, "1", {"tissue": tissue, "lesion": lesion})
    return measure_image(image, SIGNALS)


def exact_request() -> dict[str, float]:
    brain = COUNTS["grey_matter"] + COUNTS["white_matter"]
    return {
        "intracranial_ml": (brain + COUNTS["csf"] + COUNTS["ventricles"]) / 1000,
        "brain_ml": brain / 1000,
        "grey_ml": COUNTS["grey_matter"] / 1000,
        "white_ml": COUNTS["white_matter"] / 1000,
        "ventricle_ml": COUNTS["ventricles"] / 1000,
        "lesion_ml": COUNTS["lesion"] / 1000,
    }


def test_an_image_that_shows_what_was_asked_is_within_every_tolerance() -> None:
    image = make_image(*boxes(), exact_request(), 25.0)
    assert [found.name for found in image.measurements] == list(MEASURES)
    for found in image.measurements:
        assert found.within, found
    values = {found.name: found.measured for found in image.measurements}
    assert values["lesion_volume"] == pytest.approx(0.081)
    assert values["gm_wm_ratio"] == pytest.approx(0.75, abs=0.01)
    assert values["csf_wm_ratio"] == pytest.approx(0.375, abs=0.02)


@pytest.mark.parametrize(
    ("request_name", "measure", "factor"),
    [
        ("intracranial_ml", "intracranial_volume", 1.02),
        ("brain_ml", "brain_volume", 0.98),
        ("grey_ml", "grey_matter_volume", 1.03),
        ("white_ml", "white_matter_volume", 0.97),
        ("ventricle_ml", "ventricle_volume", 1.6),
        ("lesion_ml", "lesion_volume", 2.0),
    ],
)
def test_a_wrong_volume_is_a_miss_of_that_measurement_alone(request_name: str, measure: str, factor: float) -> None:
    request = exact_request()
    request[request_name] *= factor
    image = make_image(*boxes(), request, 25.0)
    assert [found.name for found in image.measurements if not found.within] == [measure]


def test_a_volume_that_nobody_asked_for_is_not_measured() -> None:
    request = {name: value for name, value in exact_request().items() if name not in ("grey_ml", "white_ml")}
    names = [found.name for found in make_image(*boxes(), request, 25.0).measurements]
    assert names == [name for name in MEASURES if name not in ("grey_matter_volume", "white_matter_volume")]


def test_a_core_that_is_too_small_is_not_within() -> None:
    tissue, lesion = boxes()
    tissue[tissue == LABELS["ventricles"]] = LABELS["white_matter"]
    tissue[20:24, 20:24, 20:24] = LABELS["ventricles"]  # leaves a core of 8 voxels
    image = make_image(tissue, lesion, exact_request(), 25.0)
    found = {m.name: m for m in image.measurements}["csf_wm_ratio"]
    assert math.isnan(found.measured)
    assert not found.within


@pytest.mark.parametrize(
    ("measured", "within"),
    [(10.0, True), (10.5, True), (9.5, True), (10.51, False), (math.nan, False), (math.inf, False)],
)
def test_within_is_the_absolute_tolerance(measured: float, within: bool) -> None:
    assert Measurement("x", "1", 10.0, measured, 0.5).within is within


def test_every_measure_says_its_unit_and_what_it_is() -> None:
    for name, measure in MEASURES.items():
        assert name.islower()
        assert measure.unit in ("mL", "1")
        assert len(measure.description) > 10
        assert measure.tolerance(1.0) > 0
