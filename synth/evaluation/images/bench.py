"""The bench: both sides of a comparison with their features, and what is left out where there are too few images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synth.evaluation.images.features.base import Tell, compute_features
from synth.evaluation.images.features.registry import FeatureSettings, make_extractor
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.sets import ImageSet, RealImages, join_sets
from synth.evaluation.images.sides import Side
from synth.evaluation.ranks import Ints
from synth.seeds import stream

LEAST_REAL = 30  # images of training patients, and of unseen ones, for scores that need a reference
LEAST_IMAGES = 10  # of the side that is judged


@dataclass(frozen=True)
class Features:
    """One kind of features of all sides, (n, d) each, and the fingerprint of what computed them."""

    fingerprint: str
    images: Floats32
    train: Floats32
    unseen: Floats32


@dataclass(frozen=True)
class Bench:
    """``images`` are judged; ``real.train`` trains; ``unseen`` (validation and holdout patients) is compared with."""

    images: ImageSet
    real: RealImages
    unseen: ImageSet
    features: Mapping[str, Features]
    seed: int
    tell: Tell

    @property
    def leading(self) -> str:
        """The features that serve where one kind must be chosen: the first."""
        return next(iter(self.features), "")

    def side(self, which: str, features: str, indices: Ints | None = None) -> Side:
        """Return ``images``, ``train`` or ``unseen`` as features and patients, or some rows of it."""
        found: Floats32 = getattr(self.features[features], which)
        patient = {"images": self.images, "train": self.real.train, "unseen": self.unseen}[which].patient
        return Side(found, patient) if indices is None else Side(found[indices], patient[indices])


def explain_too_few(images: ImageSet, real: RealImages) -> str:
    """Return why nothing can be compared with the reference, or an empty text if it can."""
    train, unseen = len(real.train), len(real.validation) + len(real.holdout)
    if min(train, unseen) < LEAST_REAL:
        return (
            f"reference '{real.name}' has {train} images of training patients and {unseen} of others; "
            f"{LEAST_REAL} of each are needed"
        )
    if len(images) < LEAST_IMAGES:
        return f"{len(images)} images are usable; {LEAST_IMAGES} are needed"
    return ""


def make_bench(
    images: ImageSet,
    real: RealImages,
    names: Sequence[str],
    settings: FeatureSettings,
    cache: Path | None,
    seed: int,
    tell: Tell,
) -> Bench:
    """Return the bench with the features called ``names``, computed once for all scores.

    ``cache`` keeps trained encoders for the next time. Raises the errors of the features.
    """
    unseen = join_sets("unseen", (real.validation, real.holdout))
    found = {}
    for name in names:
        extractor = make_extractor(name, real, settings, tell, cache)
        sides = [compute_features(extractor, side, tell) for side in (images, real.train, unseen)]
        found[extractor.name] = Features(extractor.fingerprint, *sides)
    return Bench(images, real, unseen, found, seed, tell)


def sample_indices(count: int, wanted: int, seed: int, stage: str) -> Ints:
    """Return all indices below ``count``, or ``wanted`` of them drawn without replacement, sorted."""
    if count <= wanted:
        return np.arange(count)
    return np.sort(stream(seed, -1, -1, stage).permutation(count)[:wanted])
