"""MS-SSIM: that of torchmetrics, of pictures and of volumes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from synth.errors import PermanentError
from synth.evaluation.images.quality.similarity import WEIGHTS, compare_structure, count_scales
from synth.seeds import stream


def draw_pairs(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a smooth image, and three that are noisier, brighter and another."""
    rng = stream(seed, -1, -1, "test/similarity")
    first, other = (ndimage.gaussian_filter(rng.standard_normal(shape), 2) for _ in range(2))
    first, other = (0.5 + 0.2 * image / image.std() for image in (first, other))
    seconds = first + 0.1 * rng.standard_normal(shape), 0.8 * first + 0.1, other
    pair = np.stack([first] * 3), np.stack(seconds)
    return tuple(np.clip(images, 0, 1).astype(np.float32) for images in pair)


def compare_by_torchmetrics(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    weights = np.array(WEIGHTS[: count_scales(first.shape[1:])])
    sides = (torch.from_numpy(side[:, None]) for side in (first, second))
    found = multiscale_structural_similarity_index_measure(
        *sides, data_range=1.0, betas=tuple(float(w) for w in weights / weights.sum()), reduction="none"
    )
    return found.numpy()


@pytest.mark.parametrize("shape", [(11, 11), (28, 28), (45, 64), (128, 128), (176, 190), (24, 23, 28), (48, 45, 50)])
def test_it_is_that_of_torchmetrics(shape: tuple[int, ...]) -> None:
    first, second = draw_pairs(shape, 1)
    np.testing.assert_allclose(compare_structure(first, second), compare_by_torchmetrics(first, second), atol=2e-4)


@pytest.mark.parametrize("shape", [(32, 40), (23, 26, 24)])
def test_laws(shape: tuple[int, ...]) -> None:
    first, second = draw_pairs(shape, 2)
    found = compare_structure(first, second)
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(compare_structure(second, first), found, atol=1e-6)
    np.testing.assert_allclose(compare_structure(first, first), 1, atol=1e-6)
    axes = tuple(range(1, first.ndim))
    np.testing.assert_allclose(compare_structure(np.flip(first, axes), np.flip(second, axes)), found, atol=2e-3)
    np.testing.assert_allclose(compare_structure(first[1:], second[1:]), found[1:], atol=1e-12)
    noisy, brighter, other = found
    assert other < noisy < brighter < 1


def test_scales_that_a_grid_allows() -> None:
    assert [count_scales((size, 500)) for size in (10, 11, 21, 22, 88, 175, 176)] == [0, 1, 1, 2, 4, 4, 5]
    assert count_scales((500, 500, 11)) == 1


def test_grids_below_the_window_are_refused() -> None:
    first, second = draw_pairs((10, 30), 3)
    with pytest.raises(PermanentError, match="11 pixels"):
        compare_structure(first, second)
