"""One person's tissue: individual where people differ, shared where they agree, crisp, and no speckle."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from synth.physics import folding, individual
from synth.physics.individual import ODDS_STEP, load_prior, sample_person
from synth.seeds import stream, stream_key


def key_of(number: int) -> int:
    return stream_key(4, number, -1, "mri/tissue")


@functools.cache
def labels_of(number: int) -> NDArray[np.uint8]:
    """Label every template voxel: 0 outside, 1 GM, 2 WM, 3 fluid, 4 ventricle."""
    odds = sample_person(key_of(number)).odds
    fold = np.abs(odds[..., 4])
    ranked = np.stack([np.zeros_like(fold), odds[..., 0] + fold, odds[..., 1] - 2 * fold, odds[..., 2]])
    return np.where(odds[..., 3] > 8192, ranked.argmax(axis=0) + 1, 0).astype(np.uint8)


def test_a_person_is_its_key() -> None:
    first = sample_person(key_of(0)).odds.copy()
    sample_person.cache_clear()
    np.testing.assert_array_equal(sample_person(key_of(0)).odds, first)


def test_people_differ_in_the_cortex_and_agree_in_the_deep() -> None:
    prior, one, other = load_prior(), labels_of(0), labels_of(1)
    cortex, deep = (prior.folds == 255) & (one > 0), (prior.folds == 0) & (one > 0)
    assert 0.15 < (one != other)[cortex].mean() < 0.5
    np.testing.assert_array_equal(one[deep], other[deep])
    assert (prior.folds[one == 4] == 0).mean() > 0.95  # ventricles are nobody's own
    assert deep.sum() > 100_000


def test_white_matter_hangs_together_and_no_brain_is_speckle() -> None:
    for number in range(2):
        labels = labels_of(number)
        white, _ = ndimage.label(labels == 2, np.ones((3, 3, 3)))
        sizes = np.bincount(white.ravel())[1:]
        assert sizes.max() > 0.97 * sizes.sum()
        brain = np.isin(labels, (1, 2))
        alone = brain.copy()
        for shift in itertools.product((-1, 0, 1), repeat=3):
            if any(shift):
                alone &= np.roll(labels, shift, (0, 1, 2)) != labels
        assert alone.sum() < 1e-4 * brain.sum()


def test_sulci_are_as_far_apart_as_they_should_be() -> None:
    """Along straight lines a wave of random direction is crossed every wave / sqrt(3) on average (Rice's formula)."""
    wave = folding.draw_waves(stream(1, 0, 0, "w"), (90, 90, 90), folding.FOLD_MM, 0.05)
    assert wave.mean() == pytest.approx(0, abs=0.02)
    assert wave.std() == pytest.approx(1)
    for axis in range(3):
        crossings = (np.diff(np.sign(wave), axis=axis) != 0).mean() / folding.GAP_MM
        assert crossings == pytest.approx(2 / folding.FOLD_MM / math.sqrt(3), rel=0.05)


def test_the_distance_from_a_sulcus_rises_by_a_millimetre_a_millimetre() -> None:
    surface = load_prior().surface
    distance = folding.draw_fields(stream(1, 1, 0, "w"), surface)[..., 0].astype(float)
    quarter = folding.FOLD_MM / 4
    assert np.abs(distance).max() <= quarter + 1e-4
    slopes = np.stack(np.gradient(distance, folding.GAP_MM), axis=-1)
    across = np.einsum("xyza,xyzab,xyzb->xyz", slopes, surface.across, slopes)
    along = np.sqrt(np.maximum((slopes**2).sum(axis=-1) - across, 0))
    near = np.abs(distance) < 1
    assert 0.5 < np.median(along[near]) < 1.2


def expect_odds(fields: NDArray[np.float64], place: tuple[int, ...]) -> NDArray[np.float64]:
    """Sample one voxel again in float64, by scipy: white matter, fluid, ventricle and the distance from a fold."""
    prior, c = load_prior(), individual
    where = prior.surface.place[place] * folding.PLACE_STEP / folding.GAP_MM
    distance, deeper, rough = (
        float(ndimage.map_coordinates(fields[..., q], where[:, None], order=1)[0]) for q in range(3)
    )
    wm, csf, vent = prior.odds[place] * ODDS_STEP
    weight, folia = prior.folds[place] / 255, prior.folia[place] / 255
    depth = prior.surface.depth[place] * folding.DEPTH_STEP
    left = c._FUNDUS_MM + c._FUNDUS_SPREAD_MM * deeper - depth - prior.surface.seam[place] * folding.DEPTH_STEP
    x, y, z = prior.origin_mm + place
    turn = c._FOLIA_RATE * math.atan2(z - c._ROOT_Z_MM, math.hypot(c._ROOT_BEND * x, y - c._ROOT_Y_MM))
    folium = c._FOLIA_MM * math.sin(turn + c._FOLIA_BEND * distance)
    width = prior.surface.width[place] * folding.WIDTH_STEP
    distance = (1 - folia) * distance * width + folia * folium
    cortex = (1 - folia) * np.clip(left / c._FUNDUS_ROUND_MM, -1, 1) + folia * c._FOLIA_CORTEX
    strong = weight * min(depth / 3, 1)
    sure = strong * np.clip(wm - c._SURE, 0, 4)
    crown = c._CROWN_SLOPE * max(c._CROWN_MM - depth, 0) * (1 - folia)
    white = wm * (1 - c._TEMPER * strong) + c._SURE_GAIN * sure - c._SLOPE * strong * c._CORTEX_MM * cortex
    white += weight * (c._ROUGH * rough - crown)
    fluid = csf * (1 - c._TEMPER * strong) - sure + 2 * c._SULCUS_MM * c._SLOPE * strong
    rim = c._RIM_SLOPE * max(c._RIM_MM - depth, 0) * np.clip(abs(x) / 3 - 1, c._RIM_MIDLINE, 1)
    fluid += weight * (rim - max(4 - left, 0) * (1 - folia))
    sharp = 1 / (weight * c._TEMPERATURE + (1 - weight) * c._DEEP_TEMPERATURE)
    return np.array([white, fluid, vent, c._SLOPE * strong * distance]) * sharp


def test_the_kernel_does_what_its_equations_say() -> None:
    prior, person = load_prior(), sample_person(key_of(0))
    fields = folding.draw_fields(stream(4, 0, -1, "mri/tissue"), prior.surface).astype(float)
    for region in (prior.folds == 255, (prior.folds > 20) & (prior.folds < 235), prior.folia > 200, prior.folds == 0):
        places = np.argwhere(region & (prior.inside > 16000))
        for place in map(tuple, places[:: len(places) // 12]):
            expected = np.clip(expect_odds(fields, place), -120, 120)
            found = person.odds[place][[0, 1, 2, 4]] * ODDS_STEP
            np.testing.assert_allclose(found, expected, atol=0.02, rtol=2e-3)
            assert person.odds[place][3] == prior.inside[place]


def test_depth_is_millimetres_below_the_surface() -> None:
    surface, inside = load_prior().surface, load_prior().inside
    assert not surface.depth[inside == 0].any()
    depth = surface.depth * folding.DEPTH_STEP
    assert 20 < depth.max() <= 32
    steps = [np.abs(np.diff(depth, axis=axis)).max() for axis in range(3)]
    assert max(steps) <= 1 + folding.DEPTH_STEP  # a distance is 1-Lipschitz


def test_no_field_is_read_across_a_tear_where_sulci_may_be() -> None:
    """Where places that are read run apart, waves are squeezed into polygons of false sulci: none may be left."""
    surface, folds = load_prior().surface, load_prior().folds
    steps = [np.gradient(surface.place[..., q] * folding.PLACE_STEP) for q in range(3)]
    stretch = np.sqrt(sum(np.square(slope) for slopes in steps for slope in slopes))
    torn = (stretch > 4) & (surface.depth > 0)
    assert (surface.seam[torn] * folding.DEPTH_STEP == folding._SEAM_MM).all()
    even = (stretch < 2.5) & (folds == 255) & (surface.depth > 0)
    assert not surface.seam[even].any()
    assert even.sum() > 400_000


def test_ventricles_have_a_wall() -> None:
    """From surely fluid to surely not within a voxel or two, also at their roofs, which the average blurs."""
    odds = load_prior().odds.astype(np.float32) * ODDS_STEP
    over = odds[..., 2] - np.maximum(odds[..., :2].max(axis=-1), 0)
    wall = (over > 0) & ndimage.binary_dilation(over < 0)
    steep = np.sqrt(sum(g * g for g in np.gradient(over)))
    assert np.percentile(steep[wall], 10) > 0.5 * individual._WALL_SLOPE
    assert np.median(steep[wall]) > 0.8 * individual._WALL_SLOPE
