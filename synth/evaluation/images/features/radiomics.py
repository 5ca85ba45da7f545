"""Radiomics as features: intensities, textures and (of volumes) the shape of the foreground, by IBSI's definitions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synth.evaluation.images.features.base import Tell, tell_nobody
from synth.evaluation.images.features.fitting import (
    MOST_IMAGES,
    TooFewImagesError,
    check_enough,
    hash_parts,
    sample_blocks,
)
from synth.evaluation.images.features.texture import TEXTURES, Floats, Levels, describe_textures
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.sets import RealImages

LEVELS = 32  # grey levels from black to white: fixed, so that a level means the same in every image
INTENSITIES = (
    "mean", "variance", "skewness", "excess_kurtosis", "median", "minimum", "percentile_10", "percentile_90",
    "maximum", "interquartile_range", "range", "mean_absolute_deviation", "robust_mean_absolute_deviation",
    "energy", "root_mean_square", "entropy", "uniformity",
)  # fmt: skip
SHAPES = ("volume_share", "major_axis", "minor_axis", "least_axis", "elongation", "flatness")
LEAST_IMAGES = 10
SOFTENING = 3.0  # robust standard deviations; beyond, features grow like a logarithm
MOST_ALIKE = 0.99  # correlation above which two features say the same
_BINS = 256  # of the histogram that splits foreground from background


@dataclass(frozen=True)
class RadiomicFeatures:
    """Radiomics in robust standard deviations of the training images; those that say nothing new are left out.

    ``names`` are the features kept, ``centre`` and ``spread`` (d,) the median and 1.4826 times the median absolute
    deviation of each. Outliers are drawn in by 3 asinh(z / 3), which leaves their order: clipping would make
    different images equal.
    """

    places: NDArray[np.int64]
    centre: Floats
    spread: Floats
    volumes: bool
    name: str = "radiomics"

    @property
    def names(self) -> tuple[str, ...]:
        """The feature in each column."""
        return tuple(name_radiomics(self.volumes)[place] for place in self.places)

    @property
    def dimensions(self) -> int:
        """Length of a feature vector."""
        return len(self.places)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the features kept and their scales."""
        kind = f"radiomics-1/{LEVELS}/{self.volumes}"
        return hash_parts(kind, {"places": self.places, "centre": self.centre, "spread": self.spread})

    def extract(self, images: Floats32) -> Floats32:
        """Return (n, dimensions) scaled radiomics."""
        raw = compute_radiomics(images)[:, self.places]
        return np.asarray(_soften((raw - self.centre) / self.spread), np.float32)


def name_radiomics(volumes: bool) -> tuple[str, ...]:
    """Return the columns of compute_radiomics."""
    return (*(f"intensity_{n}" for n in INTENSITIES), *TEXTURES, *(f"shape_{n}" for n in SHAPES if volumes))


def compute_radiomics(images: Floats32) -> Floats:
    """Return (n, names) unscaled radiomics of (n, y, x) or (n, x, y, z) images with intensities from 0 to 1.

    A picture is described as a whole, a volume within its foreground (Otsu, IEEE Trans SMC 1979).
    """
    return np.stack([_describe_image(image) for image in images])


def fit_radiomics(real: RealImages, tell: Tell = tell_nobody) -> RadiomicFeatures:
    """Return radiomics scaled to the training images; raises TooFewImagesError below 10 of them.

    Constant features are dropped, and of two with a correlation above 0.99 the later one.
    """
    check_enough(real.train, LEAST_IMAGES, "radiomics")
    total = min(MOST_IMAGES, len(real.train))
    found: list[Floats] = []
    for block in sample_blocks(real.train):
        found.append(compute_radiomics(block))
        tell("radiomics of training images", sum(map(len, found)), total)
    raw = np.concatenate(found)
    centre = np.median(raw, axis=0)
    deviation = 1.4826 * np.median(np.abs(raw - centre), axis=0)
    spread = np.where(deviation > 0, deviation, raw.std(axis=0))
    varies = raw.std(axis=0) > 1e-9 * np.maximum(1e-3, np.abs(centre))
    if not varies.any():
        raise TooFewImagesError("radiomics need training images that differ; all are equal. Check the reference.")
    spread = np.where(varies, spread, 1.0)
    places = _drop_repeated(_soften((raw - centre) / spread), np.flatnonzero(varies))
    return RadiomicFeatures(places, centre[places], spread[places], len(real.train.shape) == 3)


def find_foreground(image: Floats32) -> NDArray[np.bool_]:
    """Return which voxels are above the threshold that best splits intensities into two classes (Otsu 1979)."""
    counts, edges = np.histogram(image, _BINS, (0.0, 1.0))
    below = np.cumsum(counts)[:-1] / image.size
    sums = np.cumsum(counts * (edges[:-1] + edges[1:]) / 2) / image.size
    between = (sums[-1] * below - sums[:-1]) ** 2 / np.maximum(below * (1 - below), 1e-12)
    mask = np.asarray(image >= edges[1 + int(between.argmax())])
    return mask if mask.any() else np.ones(image.shape, bool)


def _soften(values: Floats) -> Floats:
    return np.asarray(SOFTENING * np.arcsinh(values / SOFTENING))


def _drop_repeated(scaled: Floats, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ``places`` without those whose feature is nearly a multiple of an earlier one."""
    alike = np.abs(np.corrcoef(scaled[:, places], rowvar=False)).reshape(len(places), len(places)) > MOST_ALIKE
    kept: list[int] = []
    for column in range(len(places)):
        if not alike[column, kept].any():
            kept.append(column)
    return places[kept]


def _describe_image(image: Floats32) -> Floats:
    levels = (np.clip(image * LEVELS, 0, LEVELS - 1)).astype(np.uint8) + np.uint8(1)
    if image.ndim == 2:
        return np.concatenate([_describe_intensities(image.ravel(), levels), describe_textures(levels[None])])
    mask = find_foreground(image)
    inside = np.where(mask, levels, np.uint8(0))
    return np.concatenate(
        [_describe_intensities(image[mask], levels[mask]), describe_textures(inside), describe_shape(mask)]
    )


def _describe_intensities(intensities: Floats32, levels: Levels) -> Floats:
    """Return INTENSITIES; entropy and uniformity are those of the grey levels."""
    ordered = np.sort(intensities)
    values = ordered.astype(np.float64)
    p10, p25, p50, p75, p90 = (_quantile(values, share) for share in (0.1, 0.25, 0.5, 0.75, 0.9))
    mean = values.mean()
    away = values - mean
    square = away * away
    variance = square.mean()
    scale = variance if variance > 0 else 1.0
    middle = values[(values >= p10) & (values <= p90)]
    energy = (values * values).sum()  # not as a product of vectors: threads would cost more than they save
    shares = np.bincount(levels.ravel()) / levels.size
    shares = shares[shares > 0]
    return np.array([
        mean, variance, (square * away).mean() / scale**1.5,
        (square * square).mean() / scale**2 - 3 * (variance > 0), p50, values[0], p10, p90, values[-1], p75 - p25,
        values[-1] - values[0], np.abs(away).mean(), np.abs(middle - middle.mean()).mean(), energy,
        np.sqrt(energy / len(values)), -(shares * np.log2(shares)).sum(), (shares**2).sum(),
    ])  # fmt: skip


def _quantile(ordered: Floats, share: float) -> float:
    """Return a quantile of sorted values, linear between them."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return float(ordered[low] + (place - low) * (ordered[high] - ordered[low]))


def describe_shape(mask: NDArray[np.bool_]) -> Floats:
    """Return SHAPES of a mask: its share of the grid, and its principal axes in voxels (4 standard deviations)."""
    places = np.argwhere(mask).astype(np.float64)
    variances = np.maximum(np.linalg.eigvalsh(np.atleast_2d(np.cov(places, rowvar=False, bias=True)))[::-1], 0.0)
    longest = variances[0] if variances[0] > 0 else 1.0
    ratios = np.sqrt(variances[1:] / longest)
    return np.array([mask.mean(), *(4 * np.sqrt(variances)), *ratios])
