"""The loss, the batches and the changes of images that networks of utility scores learn with."""

from __future__ import annotations

import math
from dataclasses import replace

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from synth.evaluation.images.networks import make_generator
from synth.evaluation.images.sets import make_image_set
from synth.evaluation.images.utility.arms import fold_cells, make_loss, split_batch, weigh_answers
from synth.evaluation.images.utility.plan import Taught, choose_subsets
from synth.evaluation.images.utility.settings import TrainingSettings
from synth.evaluation.images.utility.training import (
    Phase,
    Pool,
    augment_masked,
    choose_grid,
    draw_batches,
    draw_warp,
    load_pixels,
)
from synth.seeds import stream


def test_loss_is_the_weighted_cross_entropy_of_known_answers() -> None:
    logits = torch.tensor([[0.3, -2.0], [1.5, 0.7], [-0.4, 4.0]], requires_grad=True)
    answers = torch.tensor([[1.0, float("nan")], [0.0, 1.0], [float("nan"), float("nan")]])
    weights = torch.tensor([[2.0, 3.0], [5.0, 7.0]])
    loss = make_loss(weights)(logits, answers)
    parts = [5 * math.log1p(math.exp(-0.3)), 2 * math.log1p(math.exp(1.5)), 7 * math.log1p(math.exp(-0.7))]
    assert math.isclose(loss.item(), sum(parts) / 3, rel_tol=1e-6)
    loss.backward()
    assert ((logits.grad == 0) == answers.isnan()).all()


def test_answers_weigh_alike_and_rare_ones_up_to_a_limit() -> None:
    answers = torch.tensor(
        [[1.0, 1.0, float("nan")]] * 2 + [[0.0, 0.0, float("nan")]] * 6 + [[0.0, float("nan"), 0]] * 192
    )
    pool = Pool(torch.zeros((200, 1, 2, 2), dtype=torch.uint8), answers)
    weights = weigh_answers([Phase((pool,), (64,))])
    torch.testing.assert_close(weights[:, 1], torch.tensor([0.5 / 0.75, 0.5 / 0.25]))
    torch.testing.assert_close(weights[:, 0], torch.tensor([0.5 / 0.95, 0.5 / 0.05]))


@hypothesis.settings(deadline=None, max_examples=40)
@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(2, 256))
def test_real_images_are_never_outnumbered(real: int, synthetic: int, batch: int) -> None:
    first, second = split_batch(real, synthetic, batch)
    assert first + second == batch
    assert 1 <= second <= max(1, round(batch / 2))


def test_each_image_comes_once_a_round() -> None:
    pools = [
        Pool(torch.full((n, 1, 2, 2), 7, dtype=torch.uint8), torch.arange(n).float()[:, None] + 100 * n) for n in (6, 9)
    ]
    batches = list(draw_batches(Phase(tuple(pools), (2, 3)), 3, make_generator(1, "test")))
    seen = torch.cat([answers for _, answers in batches]).flatten().tolist()
    assert sorted(seen) == [*range(600, 606), *range(900, 909)]


@pytest.mark.parametrize("shape", [(3, 1, 4, 6), (3, 1, 5, 6), (2, 1, 4, 3, 2)])
def test_folding_loses_no_pixel(shape: tuple[int, ...]) -> None:
    images = torch.arange(1, 1 + math.prod(shape)).float().reshape(shape)
    folded = fold_cells(images)
    assert folded.shape[2:] == tuple((size + 1) // 2 for size in shape[2:])
    assert sorted(folded[folded > 0].tolist()) == images.flatten().tolist()
    corner = (slice(0, 2),) * (len(shape) - 2)
    cell = folded.flatten(2)[0, :, 0]
    assert sorted(cell.tolist()) == sorted(images[(0, 0, *corner)].flatten().tolist())


@pytest.mark.parametrize("dimensions", [2, 3])
def test_images_that_are_not_to_be_changed_stay_and_mirrors_swap_left_and_right(dimensions: int) -> None:
    still = TrainingSettings(shift=0, degrees=0, gamma=0, zoom=0)
    matrix = draw_warp(8, dimensions, still, make_generator(1, "test"))
    torch.testing.assert_close(matrix, torch.eye(dimensions, dimensions + 1).repeat(8, 1, 1))
    matrix = draw_warp(8, dimensions, replace(still, flip=True), make_generator(1, "test"))
    image = torch.arange(4.0**dimensions).reshape(1, 1, *[4] * dimensions).repeat(8, 1, *[1] * dimensions)
    moved = functional.grid_sample(
        image, functional.affine_grid(matrix, list(image.shape), align_corners=False), align_corners=False
    )
    across = 3 if dimensions == 2 else 2  # x of (y, x), and of (x, y, z)
    kinds = {
        torch.allclose(new, old): torch.allclose(new, old.flip(across - 1), atol=1e-4)
        for new, old in zip(moved, image, strict=True)
    }
    assert kinds == {True: False, False: True}


def test_masks_move_with_their_images() -> None:
    masks = torch.zeros((6, 24, 24), dtype=torch.uint8)
    masks[:, 6:14, 9:19] = 2
    pixels = (masks > 0).to(torch.uint8).unsqueeze(1) * 200
    settings = TrainingSettings(shift=0.15, degrees=20)
    images, moved = augment_masked(pixels, masks, settings, make_generator(1, "test"))
    assert ((images[:, 0] > 0) == (moved == 2)).float().mean() > 0.97
    assert (moved != masks).flatten(1).any(dim=1).all()
    torch.testing.assert_close(images.mean((1, 2, 3)), torch.zeros(6), atol=1e-5, rtol=0)


def test_pixels_are_averaged_down_and_never_made_larger() -> None:
    images = make_image_set("x", stream(1, -1, -1, "test").random((5, 8, 8)))
    settings = TrainingSettings(size=4)
    kept = np.array([True, False, True, True, False])
    pixels = load_pixels(images, choose_grid((8, 8), settings), kept)
    expected = images.images(np.flatnonzero(kept)).reshape(3, 1, 4, 2, 4, 2).mean(axis=(3, 5)) * 255
    np.testing.assert_allclose(pixels.numpy(), expected, atol=0.51)
    assert choose_grid((28, 20), TrainingSettings(size=64)) == (28, 20)
    assert choose_grid((64, 48, 32), TrainingSettings(size_3d=32)) == (32, 24, 16)


def test_subsets_hold_each_other_and_as_many_rare_patients() -> None:
    patient = np.repeat(np.arange(100), 2)
    answers = torch.from_numpy(np.stack([patient < 20, patient % 2 == 0], axis=1).astype(np.float32))
    taught = Taught(Pool(torch.zeros((200, 1, 2, 2), dtype=torch.uint8), answers), patient)
    subsets = choose_subsets(taught, (50, 10, 90), seed=3)
    assert list(subsets) == [10, 50]
    assert set(subsets[10]) < set(subsets[50])
    assert [int((found < 20).sum()) for found in subsets.values()] == [2, 10]
    assert taught.among(subsets[10]).count(1).tolist()[0] == 2
