"""What privacy was really lost, at least: canaries, half of them trained on, and who can tell which (one training).

After Steinke, Nasr and Jagielski (NeurIPS 2023): each canary is in the training with chance 1/2. The likeliest members
and the likeliest others are guessed by the model's loss. With privacy epsilon no guess is right with a chance of more
than e^epsilon / (1 + e^epsilon), so many right guesses refute a small epsilon.

Canaries are patients of the training, drawn at random: of a member one image, marked, is all that is trained on; of the
others nothing is. So each patient is in the training once at most, and canaries cost no privacy, only half as many
patients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from synth.errors import ModelError
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.sets import WHITE, ImageSet
from synth.evaluation.ranks import Floats
from synth.seeds import stream, stream_from_key, stream_key

CONFIDENCE = 0.95
PATTERN = 0.25  # strength of what marks a canary
MOST_CANARIES = 1 / 3  # of the patients
DRAWS = 8  # of noise, over which losses are averaged


@dataclass(frozen=True)
class Audit:
    """Privacy below ``epsilon_low`` is refuted with 95 % confidence: ``right`` of ``guesses`` guesses were right.

    ``epsilon_most`` is what it would be had all been right: no audit of so few canaries shows more.
    """

    epsilon_low: float
    right: int
    guesses: int
    canaries: int
    epsilon_most: float = math.inf

    def contradicts(self, epsilon: float) -> bool:
        """Return whether the training lost more than ``epsilon``, whatever was accounted for."""
        return self.epsilon_low > epsilon

    def describe(self) -> dict[str, Any]:
        """Return the facts for readers."""
        return {
            "epsilon_low": round(self.epsilon_low, 4), "confidence": CONFIDENCE, "right": self.right,
            "guesses": self.guesses, "canaries": self.canaries, "epsilon_most": round(self.epsilon_most, 4),
        }  # fmt: skip


@dataclass(frozen=True)
class Canaries:
    """Marked images (n, *grid), the same with marks that no training saw, and which are ``member`` of the training."""

    images: Floats32
    others: Floats32
    member: NDArray[np.bool_]


def plant_canaries(images: ImageSet, count: int, delta: float, secret: int) -> tuple[ImageSet, Canaries]:
    """Return the images to train on, in which ``count`` patients became canaries or were left out, and the canaries.

    The same ``secret`` gives the same ones. Raises ModelError if that is more than a third of the patients, or if
    ``delta`` is so large that no audit could show anything.
    """
    patient = images.patient
    patients = int(patient.max(initial=-1)) + 1
    if count > MOST_CANARIES * patients:
        raise ModelError(
            f"privacy.canaries: {count} of {patients} patients are too many, a third at most; ask for fewer canaries "
            "(24 at least), or train on more patients."
        )
    if bound_epsilon(2 * (count // 3), 2 * (count // 3), count, delta) == 0:
        most = (1 - CONFIDENCE) / (2 * count)
        raise ModelError(
            f"privacy.delta: with {delta:g} and {count} canaries no audit could show anything; it must be well below "
            f"{most:.2g}, or ask for fewer canaries."
        )
    chosen = stream(secret, -1, -1, "audit/patients").permutation(patients)[:count]
    which = stream(secret, -1, -1, "audit/images")
    places = np.asarray([which.choice(np.flatnonzero(patient == one)) for one in chosen])
    plain = images.images(places)
    marked, member = mark_canaries(plain, stream_key(secret, -1, -1, "audit/marks"))
    others, _ = mark_canaries(plain, stream_key(secret, -1, -1, "audit/other marks"))
    stored = np.array(images.stored)
    stored[places] = np.round(marked * WHITE).astype(np.uint16)
    kept = ~np.isin(patient, chosen)
    kept[places[member]] = True
    return replace(images, stored=stored).select(kept), Canaries(marked, others, member)


def audit_model(measure: Callable[[Floats32, int], Floats], canaries: Canaries, delta: float) -> Audit:
    """Return what a trained model gives away. ``measure`` gives its loss of each image with the noise of a seed.

    A canary is as suspect as its loss is below that of the same image with marks that no training saw.
    """
    found = [measure(canaries.images, seed) - measure(canaries.others, seed) for seed in range(DRAWS)]
    return audit_losses(np.mean(found, axis=0), canaries.member, delta)


def mark_canaries(images: Floats32, secret: int) -> tuple[Floats32, NDArray[np.bool_]]:
    """Return (n, *grid) images with a checkered pattern of their own, and which of them are to be trained on."""
    rng = stream_from_key(secret)
    patterns = rng.choice((-1.0, 1.0), size=(len(images), *(math.ceil(side / 4) for side in images.shape[1:])))
    for axis in range(1, images.ndim):
        patterns = np.repeat(patterns, 4, axis=axis)
    inside = (slice(None), *(slice(side) for side in images.shape[1:]))
    marked = np.clip(images + PATTERN * patterns[inside], 0, 1)
    return marked.astype(np.float32), rng.random(len(images)) < 0.5


def audit_losses(losses: Floats, member: NDArray[np.bool_], delta: float) -> Audit:
    """Return what the losses (n,) of canaries give away.

    The third with the lowest losses is guessed to be members, the third with the highest not to be.
    """
    order = np.argsort(losses, kind="stable")
    count = len(losses) // 3
    guessed = np.concatenate([order[:count], order[len(losses) - count :]])
    said = np.arange(2 * count) < count
    right = int((member[guessed] == said).sum())
    low, most = (bound_epsilon(hits, 2 * count, len(losses), delta) for hits in (right, 2 * count))
    return Audit(low, right, 2 * count, len(losses), most)


def bound_epsilon(right: int, guesses: int, canaries: int, delta: float) -> float:
    """Return the largest epsilon that so many right guesses refute with 95 % confidence; 0 if none.

    The chance of ``right`` right guesses at epsilon is at most that of a binomial, and a term of delta (theorem 5.2,
    bounded by 2 canaries delta).
    """
    allowed = 1 - CONFIDENCE - 2 * canaries * delta
    if guesses == 0 or allowed <= 0:
        return 0.0

    def surprise(epsilon: float) -> float:
        return float(stats.binom.sf(right - 1, guesses, 1 / (1 + math.exp(-epsilon)))) - allowed

    if surprise(0.0) >= 0:
        return 0.0
    return float(optimize.brentq(surprise, 0.0, 50.0)) if surprise(50.0) > 0 else 50.0
