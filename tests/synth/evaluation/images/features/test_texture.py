"""Texture matrices against the published values of the IBSI digital phantom, fastrad, and laws that they keep."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fastrad import FeatureExtractor, FeatureSettings, Mask, MedicalImage
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.evaluation.images.features.texture import LENGTHS, TEXTURES, Levels, describe_textures
from synth.seeds import stream

# The digital phantom (z, y, x) of the IBSI reference manual, arXiv:1612.07003, chapter 5; 0 is outside the region.
PHANTOM = np.array(
    [
        [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [0, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
        [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 1, 1], [1, 1, 6, 1, 1]],
        [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
    ],
    np.uint8,
)
# Reference values of the same manual, chapter 3, to three digits: 3D, GLCM and GLRLM averaged over directions.
PUBLISHED = {
    "glcm_joint_maximum": 0.503, "glcm_joint_average": 2.14, "glcm_joint_variance": 3.1, "glcm_joint_entropy": 2.4,
    "glcm_difference_average": 1.43, "glcm_difference_variance": 3.06, "glcm_difference_entropy": 1.56,
    "glcm_sum_average": 4.29, "glcm_sum_variance": 7.07, "glcm_sum_entropy": 1.92, "glcm_joint_energy": 0.303,
    "glcm_contrast": 5.32, "glcm_inverse_difference": 0.677, "glcm_normalised_inverse_difference": 0.851,
    "glcm_inverse_difference_moment": 0.618, "glcm_normalised_inverse_difference_moment": 0.898,
    "glcm_inverse_variance": 0.0604, "glcm_correlation": 0.157, "glcm_autocorrelation": 5.06,
    "glcm_cluster_shade": 16.6, "glcm_cluster_prominence": 145, "glcm_information_correlation_1": -0.157,
    "glcm_information_correlation_2": 0.52,
    **dict(zip((f"glrlm_{name}" for name in LENGTHS), (
        0.705, 3.06, 0.603, 9.7, 0.352, 8.54, 2.39, 17.6, 21.8, 0.43, 26.9, 0.513, 0.68, 3.46, 0.574, 2.43),
        strict=True)),
    **dict(zip((f"glszm_{name}" for name in LENGTHS), (
        0.255, 550, 0.253, 15.6, 0.0256, 2.76, 503, 1490, 1.4, 0.28, 1, 0.2, 0.0676, 2.64, 331, 2.32), strict=True)),
    **dict(zip((f"gldm_{name}" for name in LENGTHS), (
        0.045, 109, 0.693, 7.66, 0.00963, 0.736, 102, 235, 37.9, 0.512, 4.86, 0.0657, 1, 3.05, 22.1, 4.4),
        strict=True)),
    "ngtdm_coarseness": 0.0296, "ngtdm_contrast": 0.584, "ngtdm_busyness": 6.54, "ngtdm_complexity": 13.5,
    "ngtdm_strength": 0.763,
}  # fmt: skip
# The same of the phantom's four planes, each in 2D, averaged over planes and directions.
PUBLISHED_PLANES = {
    "glcm_joint_entropy": 2.05, "glcm_contrast": 5.28, "glcm_correlation": -0.0121, "glcm_cluster_prominence": 79.1,
    "glcm_information_correlation_1": -0.155,
    **dict(zip((f"glrlm_{name}" for name in LENGTHS), (
        0.641, 3.78, 0.604, 9.82, 0.294, 8.57, 3.14, 17.4, 5.2, 0.46, 6.12, 0.492, 0.627, 3.35, 0.761, 2.17),
        strict=True)),
    "glszm_long_emphasis": 43.9, "glszm_entropy": 1.93,
    "gldm_long_emphasis": 19.2, "gldm_entropy": 2.71, "ngtdm_coarseness": 0.121, "ngtdm_contrast": 0.925,
    "ngtdm_busyness": 2.99, "ngtdm_complexity": 10.4, "ngtdm_strength": 2.88,
}  # fmt: skip
FASTRAD_GLCM = {
    "joint_maximum": "maximum_probability", "joint_average": "joint_average", "joint_variance": "sum_squares",
    "joint_entropy": "joint_entropy", "difference_average": "difference_average",
    "difference_variance": "difference_variance", "difference_entropy": "difference_entropy",
    "sum_average": "sum_average", "sum_variance": "cluster_tendency", "sum_entropy": "sum_entropy",
    "joint_energy": "joint_energy", "contrast": "contrast", "inverse_difference": "id",
    "normalised_inverse_difference": "idn", "inverse_difference_moment": "idm",
    "normalised_inverse_difference_moment": "idmn", "inverse_variance": "inverse_variance",
    "correlation": "correlation", "autocorrelation": "autocorrelation", "cluster_shade": "cluster_shade",
    "cluster_prominence": "cluster_prominence", "information_correlation_1": "imc1",
    "information_correlation_2": "imc2",
}  # fmt: skip


def describe(levels: Levels) -> dict[str, float]:
    return dict(zip(TEXTURES, describe_textures(levels).tolist(), strict=True))


def draw_levels(seed: int, shape: tuple[int, ...], highest: int, outside: float = 0.0) -> Levels:
    """Blotchy levels, with 1 and ``highest`` present; a share of voxels is outside the mask."""
    rng = stream(seed, -1, -1, "test/levels")
    coarse = rng.integers(1, highest + 1, tuple(-(-size // 3) for size in shape))
    levels = np.kron(coarse, np.ones((3, 3, 3), int))[: shape[0], : shape[1], : shape[2]].astype(np.uint8)
    noisy = rng.random(shape) < 0.3
    levels[noisy] = rng.integers(1, highest + 1, int(noisy.sum()))
    levels[rng.random(shape) < outside] = 0
    levels.flat[:2] = (1, highest)
    return levels


def test_phantom_has_its_published_values() -> None:
    found = describe(PHANTOM)
    assert set(PUBLISHED) == set(TEXTURES)
    wrong = {k: (found[k], v) for k, v in PUBLISHED.items() if float(f"{found[k]:.3g}") != v}
    assert not wrong


def test_planes_of_the_phantom_have_their_published_values() -> None:
    found = np.mean([describe_textures(plane[None]) for plane in PHANTOM], axis=0)
    values = dict(zip(TEXTURES, found.tolist(), strict=True))
    wrong = {k: (values[k], v) for k, v in PUBLISHED_PLANES.items() if float(f"{values[k]:.3g}") != v}
    assert not wrong


def name_in_fastrad(name: str) -> str:
    matrix, _, feature = name.partition("_")
    if matrix == "glcm":
        return f"glcm:{FASTRAD_GLCM[feature]}"
    if matrix == "ngtdm":
        return f"ngtdm:{feature}"
    short, long, emphasis, length, spread = {
        "glrlm": ("short_run", "long_run", "run_emphasis", "run_length", "run"),
        "glszm": ("small_area", "large_area", "zone_emphasis", "size_zone", "zone"),
        "gldm": ("small_dependence", "large_dependence", "emphasis", "dependence", "dependence"),
    }[matrix]
    words = (
        f"{short}_emphasis", f"{long}_emphasis", f"low_gray_level_{emphasis}", f"high_gray_level_{emphasis}",
        f"{short}_low_gray_level_emphasis", f"{short}_high_gray_level_emphasis",
        f"{long}_low_gray_level_emphasis", f"{long}_high_gray_level_emphasis", "gray_level_non_uniformity",
        "gray_level_non_uniformity_normalized", f"{length}_non_uniformity", f"{length}_non_uniformity_normalized",
        f"{spread}_percentage", "gray_level_variance", f"{spread}_variance", f"{spread}_entropy",
    )  # fmt: skip
    return f"{matrix}:{words[LENGTHS.index(feature)]}"


@pytest.mark.parametrize(
    ("shape", "highest", "outside"),
    [((1, 21, 30), 8, 0.0), ((1, 33, 17), 32, 0.1), ((7, 9, 8), 6, 0.2), ((6, 8, 10), 32, 0.5)],
)
def test_agrees_with_fastrad(shape: tuple[int, ...], highest: int, outside: float) -> None:
    levels = draw_levels(highest, shape, highest, outside)
    image = torch.from_numpy(levels.astype(np.float32))
    classes = ["glcm", "glszm", "gldm", "ngtdm"] + ["glrlm"] * (shape[0] > 1)  # of a plane it counts runs out of it
    extractor = FeatureExtractor(FeatureSettings(feature_classes=classes, bin_width=1.0, device="cpu"))
    theirs = extractor.extract(MedicalImage(image), Mask((image > 0).float()))
    ours = describe(levels)
    assert ours.pop("gldm_percentage") == 1.0  # by definition; fastrad leaves it out
    compared = [name for name in ours if name.partition("_")[0] in classes]
    assert len(compared) == 59 + 16 * (shape[0] > 1)
    for name in compared:
        assert ours[name] == pytest.approx(theirs[name_in_fastrad(name)], rel=1e-6, abs=1e-9), name


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), depth=st.sampled_from([1, 4]), outside=st.sampled_from([0.0, 0.3]))
def test_does_not_depend_on_how_the_image_lies(seed: int, depth: int, outside: float) -> None:
    levels = draw_levels(seed, (depth, 7, 6), 9, outside)
    found = describe_textures(levels)
    for lying in (
        np.rot90(levels, 1, (1, 2)),
        levels[:, ::-1],
        levels[:, :, ::-1],
        np.pad(levels, ((0, 0), (2, 1), (0, 3))),
    ):
        np.testing.assert_allclose(describe_textures(lying), found, rtol=1e-9, atol=1e-12)


def test_known_image() -> None:
    """Two halves of equal size: two zones, straight runs, and every feature that follows from counting."""
    levels = np.ones((1, 4, 6), np.uint8)
    levels[:, :, 3:] = 3
    found = describe(levels)
    assert found["glszm_percentage"] == pytest.approx(2 / 24)
    assert found["glszm_long_emphasis"] == pytest.approx(144)
    assert found["glszm_length_variance"] == 0
    assert found["glcm_joint_average"] == pytest.approx(2)
    assert found["gldm_normalised_level_non_uniformity"] == pytest.approx(0.5)
    pairs, across = (20, 18, 15, 15), (4, 0, 3, 3)  # to the right, downwards and along the two diagonals
    assert found["glcm_contrast"] == pytest.approx(np.mean([4 * a / p for a, p in zip(across, pairs, strict=True)]))


@pytest.mark.parametrize(
    "levels", [np.full((1, 5, 5), 7), np.zeros((2, 3, 4)), np.eye(4)[None, :, ::3], np.ones((1, 1, 1))]
)
def test_images_without_texture_give_numbers(levels: Levels) -> None:
    assert np.isfinite(describe_textures(levels.astype(np.uint8))).all()
