"""Made-up patients as feature vectors: a person each, with images that differ a little."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synth.evaluation.images.privacy.targets import Targets, choose_targets
from synth.evaluation.images.sides import Side
from synth.seeds import stream

DIMENSIONS = 12


@dataclass(frozen=True)
class People:
    """Training patients, unseen ones (the first are validation), and who is attacked."""

    train: Side
    unseen: Side
    targets: Targets


def draw_side(patients: int, seed: int, several: float = 0.0, within: float = 0.2) -> Side:
    """Return images of people drawn from three groups; a share ``several`` has two that differ by ``within``."""
    rng = stream(seed, -1, -1, "test/gaussians")
    centres = 2 * stream(0, -1, -1, "test/gaussians/centres").standard_normal((3, DIMENSIONS))
    person = centres[rng.integers(3, size=patients)] + rng.standard_normal((patients, DIMENSIONS))
    patient = np.repeat(np.arange(patients), 1 + (rng.random(patients) < several))
    features = person[patient] + within * rng.standard_normal((len(patient), DIMENSIONS))
    return Side(features.astype(np.float32), patient)


def draw_people(train: int, unseen: int, validation: int, seed: int, **more: float) -> People:
    own, others = draw_side(train, 3 * seed, **more), draw_side(unseen, 3 * seed + 1, **more)
    targets = choose_targets(own.patient, others.patient, others.patient < validation, seed)
    return People(own, others, targets)


def copy_images(side: Side, seed: int, amount: float = 0.1, times: int = 3) -> Side:
    """Return images of ``side``, ``times`` each, moved by ``amount``; each is a patient of its own."""
    features = np.tile(side.features, (times, 1))
    moved = features + amount * stream(seed, -1, -1, "test/gaussians/copies").standard_normal(features.shape)
    return Side(moved.astype(np.float32), np.arange(len(moved)))
