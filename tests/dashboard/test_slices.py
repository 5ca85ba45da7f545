"""Orientation, windowing and masks of the viewer's pictures, against volumes whose answer is known."""

from __future__ import annotations

import io

import nibabel
import numpy as np
import pytest
from PIL import Image as PilImage

from dashboard.slices import (
    AXES,
    PANEL_PX,
    Display,
    draw_slice,
    find_start,
    find_window,
    orient_volume,
    trace_outline,
)
from dashboard.words import LESION_COLOUR, MEASUREMENTS, TISSUE_COLOUR, TISSUES
from synth.measure import MEASURES
from synth.physics.grid import LABELS

SIDE = 40
PLAIN = Display(level=50, window=100, crosshair=False)


def make_volume(place=(30, 10, 32), spacing=(2.0, 2.0, 2.0)):
    """A dark cube with one bright block around ``place``."""
    pixels = np.zeros((SIDE, SIDE, SIDE), np.uint16)
    x, y, z = place
    pixels[x - 2 : x + 3, y - 2 : y + 3, z - 2 : z + 3] = 100
    lesion = (pixels > 0).astype(np.uint8)
    return orient_volume(pixels, {"lesion": lesion, "tissue": lesion * 3}, np.diag([*spacing, 1.0]))


def picture(volume, plane, display=PLAIN, place=(30, 10, 32)):
    png = PilImage.open(io.BytesIO(draw_slice(volume, plane, place, display, "")))
    return np.asarray(png).astype(int)


def bright_centre(image):
    """Return (right, up) of the bright block as shares of the picture; marks at the edges are left out."""
    inner = image[100:-100, 60:-60, :].sum(axis=2) > 600
    rows, columns = np.nonzero(inner)
    return (columns.mean() + 60) / PANEL_PX, 1 - (rows.mean() + 100) / PANEL_PX


@pytest.mark.parametrize("plane", AXES)
def test_axes_point_right_and_up(plane):
    place = (26, 14, 27)
    volume = make_volume(place)
    _, horizontal, vertical = AXES[plane]
    right, up = bright_centre(picture(volume, plane, place=place))
    assert right == pytest.approx((place[horizontal] + 0.5) / SIDE, abs=0.01)
    assert up == pytest.approx((place[vertical] + 0.5) / SIDE, abs=0.01)


def test_radiological_mirrors_left_and_right_only():
    place = (26, 14, 27)
    volume = make_volume(place)
    right, up = bright_centre(picture(volume, "axial", place=place))
    mirrored = bright_centre(picture(volume, "axial", Display(50, 100, crosshair=False, radiological=True), place))
    assert mirrored == pytest.approx((1 - right, up), abs=0.01)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SRA", "PIL"])
def test_volume_is_turned_to_ras_as_nibabel_does(codes):
    pixels = np.arange(4 * 5 * 6, dtype=np.uint16).reshape(4, 5, 6)
    turn = nibabel.orientations.axcodes2ornt(codes)
    affine = np.diag([2.0, 3.0, 4.0, 1.0]) @ nibabel.orientations.inv_ornt_aff(turn, (4, 5, 6))
    affine[:3, 3] += [10, -20, 30]
    reference = nibabel.as_closest_canonical(nibabel.Nifti1Image(pixels, affine))
    volume = orient_volume(pixels, {"lesion": pixels.astype(np.uint8)}, affine)
    np.testing.assert_array_equal(volume.pixels, np.asarray(reference.dataobj))
    np.testing.assert_array_equal(volume.masks["lesion"], np.asarray(reference.dataobj).astype(np.uint8))
    assert volume.spacing_mm == pytest.approx(tuple(reference.header.get_zooms()))
    assert volume.origin_mm == pytest.approx(tuple(reference.affine[:3, 3]))


def test_aspect_follows_the_spacing():
    volume = make_volume(spacing=(1.0, 1.0, 2.0))
    image = picture(volume, "coronal").sum(axis=2)
    inner = image[60:-60, 100:-100] > 600
    rows, columns = np.nonzero(inner)
    assert (np.ptp(rows) + 1) / (np.ptp(columns) + 1) == pytest.approx(2.0, abs=0.1)


def test_window_and_level_change_the_grey():
    volume = make_volume()
    dark = picture(volume, "axial", Display(level=200, window=300, crosshair=False))
    assert picture(volume, "axial").max(axis=2)[150:-150, 400:-60].max() > dark.max(axis=2)[150:-150, 400:-60].max()


def test_masks_are_drawn_in_their_colours():
    volume = make_volume()
    lesion = picture(volume, "axial", Display(50, 100, lesion=True, outline=False, opacity=1.0, crosshair=False))
    tissue = picture(volume, "axial", Display(50, 100, tissue=True, opacity=1.0, crosshair=False))
    assert (lesion == LESION_COLOUR).all(axis=2).any()
    assert (tissue == TISSUE_COLOUR[3]).all(axis=2).any()


def test_outline_leaves_what_it_encloses_visible():
    inside = np.zeros((20, 20), bool)
    inside[8:12, 8:12] = True
    outline = trace_outline(inside)
    assert outline.any()
    assert not (outline & inside).any()


def test_viewer_opens_on_the_lesion_else_in_the_middle():
    assert find_start(make_volume()) in {(x, y, z) for x in range(28, 33) for y in range(8, 13) for z in range(30, 35)}
    healthy = orient_volume(np.zeros((10, 20, 30), np.uint16), {}, np.eye(4))
    assert find_start(healthy) == (5, 10, 15)


def test_window_of_an_empty_volume_is_usable():
    assert find_window(orient_volume(np.zeros((4, 4, 4), np.uint16), {}, np.eye(4)))[1] >= 1


def test_slices_say_that_they_are_synthetic():
    png = PilImage.open(io.BytesIO(draw_slice(make_volume(), "axial", (3, 3, 3), PLAIN, "title")))
    assert png.text["Synthetic Data"] == "YES"


def test_words_know_the_labels_and_the_measurements():
    assert {name.replace("_", " ") for value, name in ((v, k) for k, v in LABELS.items()) if value} == {
        {"Cerebrospinal fluid": "csf"}.get(word, word.lower()) for word in TISSUES.values()
    }
    assert set(TISSUES) == set(TISSUE_COLOUR) == {value for value in LABELS.values() if value}
    assert set(MEASUREMENTS) == set(MEASURES)
