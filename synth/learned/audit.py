"""What privacy was really lost, at least: canaries, half of them trained on, and who can tell which (one training).

After Steinke, Nasr and Jagielski (NeurIPS 2023): each canary is in the training with chance 1/2. The likeliest members
and the likeliest others are guessed by the model's loss. With privacy epsilon no guess is right with a chance of more
than e^epsilon / (1 + e^epsilon), so many right guesses refute a small epsilon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from synth.evaluation.images.layout import Floats32
from synth.evaluation.ranks import Floats
from synth.seeds import stream_from_key

CONFIDENCE = 0.95
PATTERN = 0.25  # strength of what marks a canary


@dataclass(frozen=True)
class Audit:
    """``epsilon_low`` is refuted below with 95 % confidence: ``right`` of ``guesses`` guesses were right."""

    epsilon_low: float
    right: int
    guesses: int
    canaries: int

    def contradicts(self, epsilon: float) -> bool:
        """Return whether the training lost more than ``epsilon``, whatever was accounted for."""
        return self.epsilon_low > epsilon


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
    return Audit(bound_epsilon(right, 2 * count, len(losses), delta), right, 2 * count, len(losses))


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
