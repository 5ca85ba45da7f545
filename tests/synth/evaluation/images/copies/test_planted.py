"""Planted copies: each alteration does what it says, in pictures and in volumes, and the same again with the seed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from synth.errors import PermanentError
from synth.evaluation.images.copies.planted import (
    ALTERATIONS,
    HARDER,
    Alteration,
    blur,
    change_intensity,
    crop,
    flip,
    plant_copies,
    rotate,
)
from synth.evaluation.images.sets import ImageSet, make_image_set
from synth.seeds import stream

ALL = {**ALTERATIONS, **HARDER}


def draw_images(count: int, shape: tuple[int, ...]) -> ImageSet:
    noise = stream(3, len(shape), -1, "tests/planted").normal(size=(count, *shape))
    smooth = np.stack([ndimage.gaussian_filter(image, 1.5) for image in noise])
    return make_image_set("drawn", np.clip(0.5 + smooth / smooth.std() / 8, 0, 1))


@pytest.fixture(scope="module", params=[(32, 24), (14, 12, 16)], ids=["picture", "volume"])
def images(request: pytest.FixtureRequest) -> ImageSet:
    return draw_images(9, request.param)


def rng() -> np.random.Generator:
    return stream(1, -1, -1, "tests/planted")


@pytest.mark.parametrize("name", ALL)
def test_an_alteration_keeps_the_grid_and_most_of_the_picture(name: str, images: ImageSet) -> None:
    image = images.images([0])[0]
    before = image.copy()
    altered = ALL[name](image, rng())
    assert altered.shape == image.shape
    assert np.isfinite(altered).all()
    assert np.array_equal(image, before), "the training image itself must not change"
    assert np.array_equal(ALL[name](image, rng()), altered)
    if name != "exact":
        assert np.abs(altered - image).max() > 0.01


def test_copies_say_what_was_done_to_whom(images: ImageSet) -> None:
    copies = plant_copies(images, 4, seed=5, alterations=ALL)
    assert len(copies) == 4 * len(ALL)
    assert copies.shape == images.shape
    assert copies.values("alteration") == list(ALL) * 4
    copied = copies.values("copied_image_id")
    assert len(set(copied)) == 4
    assert set(copied) <= set(images.image_ids)
    assert len(set(copies.image_ids)) == len(copies) == len(np.unique(copies.patient))
    exact = np.array(copies.values("alteration")) == "exact"
    rows = [images.image_ids.index(str(name)) for name in np.array(copied)[exact]]
    assert np.abs(copies.images(np.flatnonzero(exact)) - images.images(rows)).max() <= 0.5 / 255 + 1e-6
    assert not (copies.stored % 257).any(), "copies are rounded to 8 bits, as publishers do"


def test_a_copy_does_not_depend_on_how_many_are_planted(images: ImageSet) -> None:
    few, many = (plant_copies(images, count, seed=5) for count in (2, 6))
    places = [many.image_ids.index(name) for name in few.image_ids]
    assert np.array_equal(few.stored, many.stored[places])


def test_seed_and_stage_choose_others() -> None:
    images = draw_images(60, (12, 12))
    chosen = [
        set(plant_copies(images, 12, seed, stage=stage).values("copied_image_id"))
        for seed, stage in ((0, "planted"), (0, "planted"), (1, "planted"), (0, "calibration"))
    ]
    assert chosen[0] == chosen[1]
    assert chosen[0] != chosen[2]
    assert chosen[0] != chosen[3]


@pytest.mark.parametrize("count", [0, -1, 10])
def test_a_number_that_is_not_there_is_refused(count: int, images: ImageSet) -> None:
    with pytest.raises(PermanentError, match=rf"{count} copies cannot be planted of 9 .* 1 to 9"):
        plant_copies(images, count, seed=0)


# ------------------------------------------------------------------------------------------------ what is known


def test_a_flip_swaps_left_and_right() -> None:
    picture = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(flip(picture, rng()), picture[:, ::-1])
    volume = np.arange(24, dtype=np.float32).reshape(2, 3, 4)  # x runs from left to right
    assert np.array_equal(flip(volume, rng()), volume[::-1])


@pytest.mark.parametrize("shape", [(41, 31), (21, 25, 23)])
def test_a_crop_magnifies_by_a_tenth_about_the_middle(shape: tuple[int, ...]) -> None:
    middle = (np.asarray(shape) - 1) / 2
    for axis, size in enumerate(shape):
        ramp = np.indices(shape)[axis].astype(np.float32)
        expected = (ramp - middle[axis]) * 0.9 + middle[axis]
        assert np.abs(crop(ramp, rng()) - expected).max() < 1e-4 * size


@pytest.mark.parametrize("shape", [(33, 33), (25, 25, 25)])
def test_a_rotation_turns_a_ramp_by_five_degrees(shape: tuple[int, ...]) -> None:
    places = np.indices(shape) - (np.asarray(shape)[0] - 1) / 2
    within = np.sqrt((places**2).sum(axis=0)) < shape[0] / 2 - 1
    angles = []
    for axis in range(len(shape)):
        turned = rotate(places[axis].astype(np.float32), rng())  # the same draw, so the same turn, for each ramp
        fitted = np.linalg.lstsq(places[:, within].T, turned[within], rcond=None)[0]
        assert np.abs(fitted @ places[:, within] - turned[within]).max() < 1e-4
        assert np.isclose(np.linalg.norm(fitted), 1, atol=1e-5)
        angles.append(np.rad2deg(np.arccos(np.clip(fitted[axis], -1, 1))))
    assert np.sum(np.isclose(angles, 5, atol=0.01)) == 2, "two axes turn, a third one of a volume stays"


def test_intensity_keeps_the_order_of_values() -> None:
    ramp = np.linspace(0, 1, 101, dtype=np.float32).reshape(1, -1)
    changed = [change_intensity(ramp, stream(seed, -1, -1, "tests/planted"))[0] for seed in range(20)]
    assert all((np.diff(values) >= 0).all() and 0 <= values[0] <= values[-1] <= 1 for values in changed)
    assert np.std([values[50] for values in changed]) > 0.03


@pytest.mark.parametrize(("side", "width"), [(64, 0.7), (128, 1.0), (256, 2.0)])
def test_blur_grows_with_the_picture(side: int, width: float) -> None:
    point = np.zeros((side, side), np.float32)
    point[side // 2, side // 2] = 1
    blurred = blur(point, rng())
    away = (np.indices(point.shape) - side // 2) ** 2
    assert np.isclose(blurred.sum(), 1, atol=1e-5)
    assert np.isclose((blurred * away[0]).sum(), width**2, rtol=0.1)


def test_alterations_of_the_registry_are_those_that_are_documented() -> None:
    assert [*ALTERATIONS] == ["exact", "flipped", "rotated", "intensity", "cropped", "blurred"]
    kinds: list[Alteration] = [*ALL.values()]
    assert len(set(kinds)) == len(ALL)
