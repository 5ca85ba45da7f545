"""Coarse pixels and their principal components."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.evaluation.images.features.fitting import TooFewImagesError, average_grid, sample_blocks, spread_indices
from synth.evaluation.images.features.pixels import fit_pixels
from synth.evaluation.images.layout import Floats32, Layout
from synth.evaluation.images.sets import RealImages, make_image_set
from synth.seeds import stream


def draw_images(count: int, shape: tuple[int, ...], seed: int = 1) -> Floats32:
    return stream(seed, -1, -1, "test/pixels").random((count, *shape)).astype(np.float32)


def make_real(images: Floats32) -> RealImages:
    half = len(images) // 2
    parts = [make_image_set(n, i) for n, i in (("train", images[:half]), ("validation", images[half:]))]
    return RealImages("made", "0", *parts, parts[1], Layout(images.shape[1:], "absolute"))


@settings(max_examples=30, deadline=None)
@given(size=st.integers(5, 40), target=st.integers(1, 20), seed=st.integers(0, 99))
def test_averaging_keeps_the_mean_and_flat_images(size: int, target: int, seed: int) -> None:
    images = draw_images(2, (size, 9), seed)
    coarse = average_grid(images, (target, 9))
    assert coarse.shape == (2, min(size, target), 9)
    np.testing.assert_allclose(coarse.mean(axis=(1, 2)), images.mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(average_grid(np.full((1, size, 3), 0.3, np.float32), (target, 2)), 0.3, rtol=1e-5)


def test_averaging_by_a_whole_factor_is_the_mean_of_blocks() -> None:
    volumes = draw_images(3, (8, 12, 4))
    expected = volumes.reshape(3, 4, 2, 4, 3, 2, 2).mean(axis=(2, 4, 6))
    np.testing.assert_allclose(average_grid(volumes, (4, 4, 2)), expected, rtol=1e-5)


def test_sampled_images_are_spread_over_the_set() -> None:
    assert spread_indices(10, 4).tolist() == [0, 3, 6, 9]
    assert spread_indices(3, 10).tolist() == [0, 1, 2]
    images = make_image_set("train", draw_images(10, (4, 4)))
    np.testing.assert_array_equal(np.concatenate(list(sample_blocks(images, 4))), images.images([0, 3, 6, 9]))


@pytest.mark.parametrize("shape", [(16, 16), (8, 8, 8)])
def test_distances_of_coarse_pixels_are_kept(shape: tuple[int, ...]) -> None:
    real = make_real(draw_images(60, shape))
    extractor = fit_pixels(real)
    assert extractor.dimensions == 29  # one less than training images: they span no more
    images = real.train.images(slice(None))
    found = extractor.extract(images).astype(float)
    flat = images.reshape(len(images), -1).astype(float)
    ratio = np.linalg.norm(found[1:] - found[0], axis=1) / np.linalg.norm(flat[1:] - flat[0], axis=1)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
    assert (found**2).mean() == pytest.approx(1, rel=1e-4)


def test_components_are_uncorrelated_and_ordered() -> None:
    real = make_real(draw_images(400, (20, 24)))
    found = fit_pixels(real).extract(real.train.images(slice(None)))
    covariance = np.cov(found, rowvar=False)
    assert found.shape[1] == 64
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-4
    assert (np.diff(np.diag(covariance)) < 1e-6).all()


def test_features_of_an_image_do_not_depend_on_its_block() -> None:
    real = make_real(draw_images(40, (31, 17)))
    extractor = fit_pixels(real)
    images = real.holdout.images(slice(None))
    alone = np.concatenate([extractor.extract(images[i : i + 1]) for i in range(len(images))])
    np.testing.assert_allclose(alone, extractor.extract(images), atol=1e-5)
    assert fit_pixels(real).fingerprint == extractor.fingerprint


def test_refuses_references_without_difference() -> None:
    with pytest.raises(TooFewImagesError, match="at least 3 train images"):
        fit_pixels(make_real(draw_images(4, (8, 8))))
    with pytest.raises(TooFewImagesError, match="all are equal"):
        fit_pixels(make_real(np.repeat(draw_images(1, (8, 8)), 20, axis=0)))
