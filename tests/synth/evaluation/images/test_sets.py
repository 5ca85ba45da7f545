"""Layouts and sets: both sides end on one grid and one scale, and what cannot be judged is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.errors import PermanentError
from synth.evaluation.images.layout import (
    Form,
    Layout,
    NotComparableError,
    UnusableImageError,
    bring_to_layout,
    choose_layout,
)
from synth.evaluation.images.sets import ImageWriter, make_image_set
from synth.nouns import Attribute

PICTURE = Form("yx", (256, 200), "uint8")
VOLUME = Form("xyz", (160, 200, 180), "uint16", (1.0, 1.0, 1.0))


def smooth_picture(shape: tuple[int, int]) -> np.ndarray:
    y, x = np.meshgrid(*[(np.arange(n) + 0.5) / n for n in shape], indexing="ij")
    return (255 * (0.5 + 0.4 * np.sin(3 * x) * np.cos(2 * y))).astype(np.uint8)


def test_the_coarser_side_decides_the_grid() -> None:
    assert choose_layout(PICTURE, Form("yx", (64, 50), "uint8")) == Layout((64, 50), "absolute")
    assert choose_layout(Form("yx", (64, 50), "uint8"), PICTURE).shape == (64, 50)
    assert choose_layout(PICTURE, PICTURE).shape == (128, 100)
    assert choose_layout(PICTURE, PICTURE, largest=32).shape == (32, 25)


def test_intensities_are_absolute_only_if_both_sides_are_8_bit() -> None:
    assert choose_layout(PICTURE, Form("yx", (256, 200), "uint16")).intensity == "relative"


def test_volumes_with_known_spacing_keep_their_size() -> None:
    layout = choose_layout(VOLUME, Form("xyz", (80, 100, 90), "float32", (2.0, 2.0, 2.0)))
    assert layout.spacing_mm == pytest.approx(200 / 64)
    assert layout.shape == (51, 64, 58)


@pytest.mark.parametrize(
    ("other", "match"),
    [(VOLUME, "one kind"), (Form("yx", (256, 256), "uint8"), "aspect")],
)
def test_sides_that_cannot_be_compared_are_refused(other: Form, match: str) -> None:
    with pytest.raises(NotComparableError, match=match):
        choose_layout(PICTURE, other)


@pytest.mark.parametrize(
    ("pixels", "match"),
    [
        (np.zeros((64, 50)), "same value"),
        (np.full((64, 50), np.nan), "NaN"),
        (np.where(np.eye(64, 50) > 0, np.inf, 1.0), "infinite"),
        (smooth_picture((64, 64)), "aspect"),
    ],
)
def test_images_of_which_no_score_may_be_computed(pixels: np.ndarray, match: str) -> None:
    with pytest.raises(UnusableImageError, match=match):
        bring_to_layout(pixels, Form("yx", pixels.shape, "float32"), None, Layout((64, 50), "absolute"))


def test_absolute_intensities_are_kept_and_relative_ones_are_stretched() -> None:
    dark = smooth_picture((64, 50)) // 2
    form = Form("yx", dark.shape, "uint8")
    assert np.allclose(bring_to_layout(dark, form, None, Layout((64, 50), "absolute")), dark / 255.0)
    stretched = bring_to_layout(dark, form, None, Layout((64, 50), "relative"))
    assert stretched.min() == 0.0
    assert stretched.max() == 1.0
    scaled = bring_to_layout(dark * 7.0 - 300, form, None, Layout((64, 50), "relative"))
    assert np.allclose(stretched, scaled, atol=1e-5), "unit and offset do not matter"


def test_two_resolutions_of_one_picture_look_the_same() -> None:
    layout = Layout((32, 24), "absolute")
    fine, coarse = smooth_picture((256, 192)), smooth_picture((32, 24))
    a = bring_to_layout(fine, Form("yx", fine.shape, "uint8"), None, layout)
    b = bring_to_layout(coarse, Form("yx", coarse.shape, "uint8"), None, layout)
    assert np.abs(a - b).max() < 0.02


def test_fine_noise_is_averaged_not_picked() -> None:
    board = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    found = bring_to_layout(board, Form("yx", board.shape, "uint8"), None, Layout((32, 32), "absolute"))
    assert np.abs(found - 0.5).max() < 0.01


@pytest.mark.parametrize("axes", ["yxc", "cyx"])
def test_colours_become_luminance(axes: str) -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[..., 1] = np.arange(8) * 30
    moved = picture if axes == "yxc" else np.moveaxis(picture, -1, 0)
    found = bring_to_layout(moved, Form(axes, moved.shape, "uint8"), None, Layout((8, 8), "absolute"))
    assert np.allclose(found, 0.587 * picture[..., 1] / 255, atol=1e-6)


@given(
    order=st.permutations(range(3)), flips=st.tuples(*[st.booleans()] * 3), shift=st.tuples(*[st.integers(-3, 3)] * 3)
)
@settings(max_examples=30, deadline=None)
def test_orientation_and_position_of_a_volume_do_not_matter(order: list[int], flips: tuple, shift: tuple) -> None:
    shape = (20, 24, 28)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")).astype(float)
    centre = np.array([10, 12, 14]) + shift
    distance = ((grid - centre[:, None, None, None]) / np.array([3, 4, 5])[:, None, None, None]) ** 2
    body = np.exp(-distance.sum(axis=0)) * (1 + 0.5 * (grid[0] > centre[0]))
    layout = Layout((16, 18, 20), "relative", 1.0)
    affine = np.eye(4)
    upright = bring_to_layout(body, Form("xyz", shape, "float32", (1.0,) * 3), affine, layout)
    turned = np.flip(body, [axis for axis, flip in enumerate(flips) if flip]).transpose(order)
    columns = np.eye(3) * np.where(flips, -1.0, 1.0)
    affine[:3, :3] = columns[:, order]
    other = bring_to_layout(turned, Form("xyz", turned.shape, "float32", (1.0,) * 3), affine, layout)
    assert np.allclose(upright, other, atol=1e-4)


def test_finer_voxels_of_one_volume_look_the_same() -> None:
    def ball(n: int) -> np.ndarray:
        grid = np.indices((n, n, n)) / n - 0.5 + 0.5 / n
        return np.clip(6 - 18 * np.sqrt((grid**2).sum(axis=0)), 0, 1)

    layout = Layout((24, 24, 24), "relative", 4.0)
    coarse = bring_to_layout(ball(32), Form("xyz", (32,) * 3, "float32", (3.0,) * 3), None, layout)
    fine = bring_to_layout(ball(64), Form("xyz", (64,) * 3, "float32", (1.5,) * 3), None, layout)
    assert np.abs(coarse - fine).max() < 0.12
    assert np.abs(coarse - fine).mean() < 0.01


def test_writer_streams_to_disk_and_names_what_it_leaves_out(tmp_path: Path) -> None:
    layout, schema = Layout((16, 16), "absolute"), (Attribute("sex", "categorical"), Attribute("findings", "set"))
    rng_picture = smooth_picture((32, 32))
    with ImageWriter(tmp_path / "pixels", "s", layout, schema) as writer:
        for index in range(5):
            pixels = np.zeros((32, 32), np.uint8) if index == 3 else rng_picture + index
            writer.add(f"i{index}", f"p{index // 2}", {"sex": "F", "extra": 1}, pixels, Form("yx", (32, 32), "uint8"))
        writer.refuse("broken.png", "it is no picture")
        images = writer.finish()
    assert len(images) == 4
    assert isinstance(images.stored, np.memmap)
    assert images.image_ids == ["i0", "i1", "i2", "i4"]
    assert images.patient.tolist() == [0, 0, 1, 2]
    assert images.values("findings") == [None] * 4
    assert [item.name for item in images.unusable] == ["i3", "broken.png"]
    assert np.allclose(np.concatenate([block for _, block in images.blocks()]), images.images(slice(None)))
    chosen = images.select(np.array([False, True, False, True]))
    assert chosen.image_ids == ["i1", "i4"]
    assert np.array_equal(chosen.images(slice(None)), images.images([1, 3]))


def test_a_set_without_usable_images_is_empty(tmp_path: Path) -> None:
    with ImageWriter(tmp_path / "pixels", "s", Layout((4, 4), "absolute"), ()) as writer:
        images = writer.finish()
    assert len(images) == 0
    assert images.shape == (4, 4)


def test_attributes_must_be_one_an_image() -> None:
    with pytest.raises(PermanentError, match="'sex' has 2 values for 3 images"):
        make_image_set("a", np.zeros((3, 2, 2)), {"sex": ["F", "M"]}, (Attribute("sex", "categorical"),))
