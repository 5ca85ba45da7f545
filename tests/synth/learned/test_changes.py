"""Changes of training images: told truly, none where none is told, and the same on any call."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synth.evaluation.images.networks import make_generator
from synth.learned.changes import change_images, count_changes


@pytest.mark.parametrize(("shape", "count"), [((24, 24), 6), ((12, 12, 12), 9)])
def test_nothing_is_changed_without_chance(shape: tuple[int, ...], count: int) -> None:
    images = torch.rand(3, 1, *shape, generator=make_generator(0, "test"))
    changed, told = change_images(images, 0.0, make_generator(1, "test"))
    assert told.shape == (3, count) == (3, count_changes(len(shape)))
    assert not told.any()
    assert torch.allclose(changed, images, atol=1e-5)


def test_a_shift_that_is_told_is_the_shift_that_was_made() -> None:
    y, x = np.mgrid[:64, :64]
    blob = torch.from_numpy(np.exp(-((y - 32) ** 2 + (x - 32) ** 2) / 18)).float()[None, None].repeat(40, 1, 1, 1)
    changed, told = change_images(blob, 1.0, make_generator(2, "test"))
    mass = changed[:, 0] / changed[:, 0].sum(dim=(1, 2), keepdim=True)
    centre_x = (mass.sum(dim=1) * torch.arange(64)).sum(dim=1)
    assert np.corrcoef(centre_x, told[:, 0])[0, 1] < -0.95  # the image is read further right, so it moves left
    gamma = changed.amax(dim=(1, 2, 3))
    assert (gamma <= 1).all()


def test_fine_detail_of_pictures_is_kept() -> None:
    wave = 0.5 + 0.1 * torch.sin(2 * torch.pi * torch.arange(48) / 3)
    images = wave.repeat(60, 1, 48, 1)
    changed, _ = change_images(images, 1.0, make_generator(5, "test"))
    inside = changed[:, 0, 12:36, 12:36]
    assert inside.var(dim=(1, 2)).mean() > 0.7 * images[:, 0, 12:36, 12:36].var(dim=(1, 2)).mean()


def test_the_same_draws_give_the_same_changes() -> None:
    images = torch.rand(4, 1, 16, 16, generator=make_generator(0, "test"))
    first, second = (change_images(images, 0.7, make_generator(3, "test")) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize(("shape", "axis"), [((20, 24), 3), ((24, 20, 16), 2)])  # left and right: x
def test_left_and_right_change_places_where_that_is_told(shape: tuple[int, ...], axis: int) -> None:
    images = torch.zeros(60, 1, *shape)
    images.movedim(axis, 0)[: shape[axis - 2] // 2] = 0.5
    changed, told = change_images(images, 1.0, make_generator(4, "test"))
    before = changed.movedim(axis, 0)
    half = len(before) // 2
    mirrored = before[:half].flatten(2).mean(dim=(0, 2)) < before[half:].flatten(2).mean(dim=(0, 2))
    assert mirrored.tolist() == told[:, -1].bool().tolist()
    assert 15 < int(mirrored.sum()) < 45
