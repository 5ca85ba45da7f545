"""Radiomics as features: IBSI's and fastrad's intensities, masks and shapes, and how they are scaled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fastrad import FeatureExtractor, FeatureSettings, Mask, MedicalImage
from scipy import ndimage

from synth.evaluation.images.features import radiomics
from synth.evaluation.images.features.fitting import TooFewImagesError
from synth.evaluation.images.features.radiomics import (
    RadiomicFeatures,
    compute_radiomics,
    describe_shape,
    find_foreground,
    fit_radiomics,
    name_radiomics,
)
from synth.evaluation.images.layout import Floats32, Layout
from synth.evaluation.images.sets import RealImages, make_image_set
from synth.seeds import stream

# Intensities of the IBSI digital phantom (74 voxels) and their published values, arXiv:1612.07003, chapter 3.
PHANTOM = np.repeat([1.0, 3.0, 4.0, 6.0], [50, 1, 16, 7])
PUBLISHED = {
    "mean": 2.15, "variance": 3.05, "skewness": 1.08, "excess_kurtosis": -0.355, "median": 1, "minimum": 1,
    "percentile_10": 1, "percentile_90": 4, "maximum": 6, "interquartile_range": 3, "range": 5,
    "mean_absolute_deviation": 1.55, "robust_mean_absolute_deviation": 1.11, "energy": 567, "root_mean_square": 2.77,
    "entropy": 1.27, "uniformity": 0.512,
}  # fmt: skip
FASTRAD = {
    "percentile_10": "10th_percentile", "percentile_90": "90th_percentile", "root_mean_square": "root_mean_squared",
}  # fmt: skip


def draw_images(count: int, shape: tuple[int, ...], seed: int = 1) -> Floats32:
    """Smooth blobs of several sizes and brightness; volumes have a dark background."""
    rng = stream(seed, -1, -1, "test/radiomics")
    images = []
    for _ in range(count):
        noise = ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(0.7, 2.5))
        image = rng.uniform(0.3, 0.7) + rng.uniform(0.08, 0.2) * noise / noise.std()
        if len(shape) == 3:
            grid = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
            image = np.where((grid**2).sum(axis=0) < rng.uniform(10, 25), image, 0.02 * rng.random(shape))
        images.append(np.clip(image, 0, 1))
    return np.asarray(images, np.float32)


def make_real(images: Floats32) -> RealImages:
    third = len(images) // 3
    parts = [
        make_image_set(name, images[k * third : (k + 1) * third])
        for k, name in enumerate(("train", "validation", "holdout"))
    ]
    return RealImages("made", "0", *parts, Layout(images.shape[1:], "absolute"))


@pytest.fixture(scope="module")
def pictures() -> RealImages:
    return make_real(draw_images(90, (24, 20)))


def test_phantom_has_its_published_intensities() -> None:
    found = radiomics._describe_intensities(PHANTOM.astype(np.float32), PHANTOM.astype(np.uint8))
    values = dict(zip(radiomics.INTENSITIES, found.tolist(), strict=True))
    assert {name: float(f"{value:.3g}") for name, value in values.items()} == PUBLISHED


@pytest.mark.parametrize("shape", [(25, 21), (9, 11, 13)])
def test_whole_image_agrees_with_fastrad(shape: tuple[int, ...]) -> None:
    image = draw_images(1, shape)[0]
    image.flat[:2] = (0.0, 1.0)  # so that fastrad counts its levels from the same black
    ours = dict(zip(name_radiomics(len(shape) == 3), compute_radiomics(image[None])[0].tolist(), strict=True))
    mask = find_foreground(image) if len(shape) == 3 else np.ones(shape, bool)
    tensors = [torch.from_numpy(np.atleast_3d(a).reshape((1,) * (3 - len(shape)) + shape)) for a in (image, mask)]
    theirs = FeatureExtractor(
        FeatureSettings(feature_classes=["firstorder"], bin_width=1 / radiomics.LEVELS, device="cpu")
    ).extract(MedicalImage(tensors[0]), Mask(tensors[1].float()))
    for name in radiomics.INTENSITIES:
        if name != "median":  # fastrad takes the lower of two middle values
            expected = theirs["firstorder:" + FASTRAD.get(name.removeprefix("excess_"), name.removeprefix("excess_"))]
            assert ours[f"intensity_{name}"] + 3 * (name == "excess_kurtosis") == pytest.approx(expected, rel=2e-6), (
                name
            )


def test_foreground_is_the_head_not_the_air() -> None:
    volume = np.full((12, 12, 12), 0.03, np.float32)
    volume[3:9, 2:10, 4:8] = 0.6
    np.testing.assert_array_equal(find_foreground(volume), volume > 0.5)
    assert find_foreground(np.full((3, 3, 3), 0.4, np.float32)).all()


def test_shape_agrees_with_fastrad() -> None:
    mask = find_foreground(draw_images(1, (10, 12, 14))[0])
    mask[:, :, 9:] = False
    tensor = torch.from_numpy(mask.astype(np.float32))
    theirs = FeatureExtractor(FeatureSettings(feature_classes=["shape"], device="cpu")).extract(
        MedicalImage(tensor), Mask(tensor)
    )
    ours = dict(zip(radiomics.SHAPES, describe_shape(mask).tolist(), strict=True))
    for name in ("major_axis", "minor_axis", "least_axis"):
        assert ours[name] == pytest.approx(theirs[f"shape:{name}_length"], rel=1e-9)
    assert ours["elongation"] == pytest.approx(theirs["shape:elongation"], rel=1e-9)
    assert ours["flatness"] == pytest.approx(theirs["shape:flatness"], rel=1e-9)
    assert ours["volume_share"] * mask.size == pytest.approx(theirs["shape:voxel_volume"])


@pytest.mark.parametrize("shape", [(24, 20), (9, 10, 8)])
def test_features_of_an_image_do_not_depend_on_its_block(shape: tuple[int, ...]) -> None:
    real = make_real(draw_images(60, shape))
    extractor = fit_radiomics(real)
    images = real.holdout.images(slice(None))
    together = extractor.extract(images)
    assert together.shape == (len(images), extractor.dimensions)
    alone = np.concatenate([extractor.extract(images[i : i + 1]) for i in range(len(images))])
    np.testing.assert_array_equal(alone, together)
    assert ("shape_elongation" in extractor.names) == (len(shape) == 3)


def test_scaled_to_the_training_images(pictures: RealImages) -> None:
    extractor = fit_radiomics(pictures)
    found = extractor.extract(pictures.train.images(slice(None)))
    np.testing.assert_allclose(np.median(found, axis=0), 0, atol=1e-6)
    assert np.median(np.abs(found), axis=0).max() < 0.7  # 1 / 1.4826
    alike = np.abs(np.corrcoef(found, rowvar=False) - np.eye(found.shape[1]))
    assert alike.max() <= radiomics.MOST_ALIKE + 1e-6
    assert "gldm_percentage" not in extractor.names  # constant by definition


def test_same_reference_gives_the_same_features(pictures: RealImages) -> None:
    first, again = fit_radiomics(pictures), fit_radiomics(pictures)
    assert first.fingerprint == again.fingerprint
    other = fit_radiomics(make_real(draw_images(90, (24, 20), seed=2)))
    assert other.fingerprint != first.fingerprint


def test_tells_noise_and_blur_from_real(pictures: RealImages) -> None:
    extractor = fit_radiomics(pictures)
    real = pictures.holdout.images(slice(None))
    rng = stream(3, -1, -1, "test/radiomics")
    noisy = np.clip(real + rng.normal(0, 0.05, real.shape), 0, 1).astype(np.float32)
    blurred = ndimage.gaussian_filter(real, (0, 1.5, 1.5))
    centre = extractor.extract(pictures.train.images(slice(None))).mean(axis=0)
    own, *others = (np.linalg.norm(extractor.extract(i).mean(axis=0) - centre) for i in (real, noisy, blurred))
    assert min(others) > 2 * own


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_images_of_one_value_give_numbers(pictures: RealImages, value: float) -> None:
    images = np.full((2, 24, 20), value, np.float32)
    assert np.isfinite(compute_radiomics(images)).all()
    assert np.isfinite(compute_radiomics(np.full((1, 5, 5, 5), value, np.float32))).all()
    assert np.isfinite(fit_radiomics(pictures).extract(images)).all()


def test_refuses_too_few_and_equal_images() -> None:
    with pytest.raises(TooFewImagesError, match="at least 10 train images of the reference; it has 5"):
        fit_radiomics(make_real(draw_images(15, (12, 12))))
    with pytest.raises(TooFewImagesError, match="all are equal"):
        fit_radiomics(make_real(np.repeat(draw_images(1, (12, 12)), 60, axis=0)))


def test_extractor_says_what_it_holds(pictures: RealImages) -> None:
    extractor = fit_radiomics(pictures)
    assert isinstance(extractor, RadiomicFeatures)
    assert len(extractor.names) == extractor.dimensions > 30
    assert len(name_radiomics(True)) == compute_radiomics(draw_images(1, (6, 6, 6))).shape[1]
