"""How the copy search looks and registers: invariances, fill, maps that are known, reading by the nearest pixel."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from synth.evaluation.images.copies.registration import register
from synth.evaluation.images.copies.shortlist import make_bank
from synth.evaluation.images.copies.views import (
    Viewer,
    averaging_matrix,
    correlate,
    make_window,
    read_nearest,
    resampling_matrix,
    smoothing_matrix,
)
from synth.evaluation.images.layout import Floats32
from synth.seeds import stream


def draw_clouds(shape: tuple[int, ...], count: int = 3, width: float = 3.0) -> Floats32:
    noise = stream(9, len(shape), -1, "tests/views").normal(size=(count, *shape))
    smooth = np.stack([ndimage.gaussian_filter(image, width) for image in noise])
    return np.asarray(np.clip(0.5 + smooth / smooth.std() / 8, 0.02, 0.98), np.float32)


def look(viewer: Viewer, images: Floats32) -> Floats32:
    first = viewer.looks[0]
    return viewer.view(images, first.image, first.local, viewer.find_valid(images))


# -------------------------------------------------------------------------------------------------------- matrices


@pytest.mark.parametrize(("to", "size"), [(64, 28), (64, 64), (64, 200), (32, 181)])
def test_resampling_keeps_constants_and_ramps(to: int, size: int) -> None:
    cubic, mean = resampling_matrix(to, size), averaging_matrix(to, size)
    assert np.allclose(cubic.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(mean.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(smoothing_matrix(to, size, 2.0).sum(axis=1), 1, atol=1e-5)
    ramp, expected = np.arange(size), (np.arange(to) + 0.5) * size / to - 0.5
    inner = slice(to // 8, -to // 8)  # of the border edges are repeated
    assert np.allclose((cubic @ ramp)[inner], expected[inner], atol=0.02)
    if size > to:
        assert np.allclose(mean @ ramp, expected, atol=0.25)  # a pixel has one value all over


# ---------------------------------------------------------------------------------------------------------- a view


@pytest.mark.parametrize("shape", [(40, 40), (48, 30), (20, 18, 22)])
def test_gain_and_offset_do_not_matter(shape: tuple[int, ...]) -> None:
    viewer, images = Viewer(shape), draw_clouds(shape, width=1.5)
    window = viewer.window.ravel()
    plain, other = (look(viewer, values).reshape(3, -1) for values in (images, images * 0.7 + 0.1))
    assert (correlate(window, plain, other) > 0.999).all()
    assert (correlate(window, plain, np.roll(other, 1, axis=0)) < 0.5).all()


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
def test_fill_of_any_value_carries_nothing(value: float) -> None:
    viewer, images = Viewer((64, 64)), 0.55 + 0.4 * (draw_clouds((64, 64), width=1.5) - 0.5)
    padded = images.copy()
    padded[:, :20] = value
    valid = viewer.find_valid(padded)
    assert not valid[:, :20].any()
    assert valid[:, 22:].all()
    view = look(viewer, padded)
    assert not view[:, :20].any()
    inside = viewer.window[32:].ravel()  # behind the local mean's reach it is as if there were no fill
    kept = correlate(inside, look(viewer, images)[:, 32:].reshape(3, -1), view[:, 32:].reshape(3, -1))
    assert (kept > 0.99).all()


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_a_blank_image_is_zero(value: float) -> None:
    blank = np.full((2, 30, 30), value, np.float32)
    viewer = Viewer((30, 30))
    assert not viewer.find_valid(blank).any()
    assert not look(viewer, blank).any()


def test_correlation_is_that_of_numpy() -> None:
    rng = stream(2, -1, -1, "tests/views")
    first, second = rng.normal(size=(2, 5, 40)).astype(np.float32)
    found = correlate(np.ones(40, np.float32), first, second + first)
    assert np.allclose(found, [np.corrcoef(a, b)[0, 1] for a, b in zip(first, second + first, strict=True)], atol=1e-5)
    weights = (np.arange(40) < 25).astype(np.float32)
    half = [np.corrcoef(a[:25], b[:25])[0, 1] for a, b in zip(first, second, strict=True)]
    assert np.allclose(correlate(weights, first, second), half, atol=1e-5)
    assert not correlate(weights, first * 0, second).any()


# ------------------------------------------------------------------------------------------------------ registration

TURN = np.deg2rad(5)
MAPS = {
    "identity": np.array([[1, 0, 0], [0, 1, 0]], float),
    "turned": np.array([[np.cos(TURN), -np.sin(TURN), 0], [np.sin(TURN), np.cos(TURN), 0]]),
    "zoomed": np.array([[0.9, 0, 0], [0, 0.9, 0]]),
    "moved": np.array([[1, 0, 2.5], [0, 1, -1.5]]),
    "sheared": np.array([[1.03, 0.04, 1], [-0.02, 0.97, -1]]),
}


def move(image: Floats32, place_map: np.ndarray) -> Floats32:
    middle = (np.asarray(image.shape) - 1) / 2
    linear, shift = place_map[:, :-1], place_map[:, -1]
    moved = ndimage.affine_transform(image, linear, middle - linear @ middle + shift, order=3, mode="nearest")
    return np.asarray(moved, np.float32)


@pytest.mark.parametrize("name", MAPS)
def test_registration_finds_the_map(name: str) -> None:
    training = draw_clouds((64, 64))
    images = np.stack([move(training[row], MAPS[name]) for row in (2, 0)])
    weights = np.repeat(make_window((64, 64), 0.93)[None], 2, axis=0)
    chosen, start = np.array([[2, 1], [0, 1]]), np.broadcast_to(MAPS["identity"], (2, 2, 2, 3)).copy()
    similarity, maps = register(images, weights, training, chosen, start, 20)
    assert (similarity[:, 0] > 0.995).all()
    assert (similarity[:, 1] < 0.8).all()
    rim = np.array([[20, -20, 14], [0, 20, 14], [1, 1, 1]], float)
    assert np.abs((maps[:, 0] - MAPS[name]) @ rim).max() < 0.25, "within a quarter of a pixel"
    assert np.array_equal(start[0, 0], MAPS["identity"])


def test_registration_of_volumes_finds_the_map() -> None:
    training = draw_clouds((24, 24, 24), count=2, width=2.5)
    wanted = np.column_stack([np.eye(3), [1.0, -0.5, 0.5]])
    wanted[:2, :2] = MAPS["turned"][:, :2]
    image = move(training[0], wanted)[None]
    weights = make_window((24, 24, 24), 0.93)[None]
    start = np.broadcast_to(np.column_stack([np.eye(3), np.zeros(3)]), (1, 2, 3, 4)).copy()
    similarity, maps = register(image, weights, training, np.array([[0, 1]]), start, 20)
    assert similarity[0, 0] > 0.99 > 0.8 > similarity[0, 1]
    assert np.abs((maps[0, 0] - wanted)[:, :3]).max() < 0.02
    assert np.abs((maps[0, 0] - wanted)[:, 3]).max() < 0.15


def test_more_steps_never_make_a_pair_less_alike() -> None:
    training = draw_clouds((64, 64), width=2.0)
    images = np.stack([move(training[0], MAPS["sheared"])] * 3)
    weights = np.repeat(make_window((64, 64), 0.93)[None], 3, axis=0)
    chosen, start = np.array([[0, 1, 2]] * 3), np.broadcast_to(MAPS["identity"], (3, 3, 2, 3)).copy()
    found = np.stack([register(images, weights, training, chosen, start, steps)[0] for steps in range(8)])
    assert (np.diff(found, axis=0) >= -1e-6).all()


def test_the_bank_has_every_map_once() -> None:
    for grid, flips in (((64, 64), 8), ((64, 50), 4), ((32, 32, 32), 8)):
        bank = make_bank(grid)
        assert len(np.unique(bank.round(6), axis=0)) == len(bank)
        whole = [one for one in bank if np.isin(np.abs(one[:, :-1]), (0, 1)).all() and not one[:, -1].any()]
        assert len(whole) == flips


# -------------------------------------------------------------------------------------------------- the nearest pixel


@pytest.mark.parametrize("shape", [(7, 5), (5, 4, 6)])
def test_nearest_reading_of_known_maps(shape: tuple[int, ...]) -> None:
    images = stream(4, -1, -1, "tests/views").random((2, *shape)).astype(np.float32)
    axes = len(shape)
    same = np.column_stack([np.eye(axes), np.zeros(axes)])
    flipped, moved = same.copy(), same.copy()
    flipped[-1, -2] = -1
    moved[0, -1] = 0.5  # of a grid of half the size: one pixel
    found = read_nearest(images, np.array([[0, 1, 1]]), np.stack([same, flipped, moved])[None], scale=2.0)
    assert np.array_equal(found[0, 0], images[0])
    assert np.array_equal(found[0, 1], images[1][..., ::-1])
    assert np.array_equal(found[0, 2], images[1][[*range(1, shape[0]), shape[0] - 1]])


def test_nearest_reading_is_that_of_scipy() -> None:
    image = stream(5, -1, -1, "tests/views").random((31, 27)).astype(np.float32)
    middle = (np.asarray(image.shape) - 1) / 2
    linear = MAPS["turned"][:, :2]
    theirs = ndimage.affine_transform(image, linear, middle - linear @ middle, order=0, mode="nearest")
    ours = read_nearest(image[None], np.array([[0]]), MAPS["turned"][None, None], scale=1.0)[0, 0]
    assert (ours == theirs).mean() > 0.99, "but for ties"
