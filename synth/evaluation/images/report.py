"""The scorecard of images as data: scores, copies, controls. What gates say of it is in synth.evaluation.policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from synth.evaluation.images.sets import Unusable
from synth.evaluation.metric import Score
from synth.evaluation.metrics import find_metric


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and the real training image that is most like it; ``score`` is 1 for an exact copy."""

    image_id: str
    reference_image_id: str
    reference_patient_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Control:
    """One control of a report: something whose outcome is known beforehand. If it misbehaves, nothing is proven."""

    name: str
    behaves: bool
    reason: str


@dataclass(frozen=True)
class ImageReport:
    """The scorecard of a set of images against a reference.

    ``counts`` has the images and patients of each side and split, ``features`` the fingerprint of each kind of
    features. ``copies`` are the images above the calibrated threshold, ``closest`` the most alike pairs whether above
    it or not; ``worst`` and ``best`` are ids of the least and most typical images. ``seconds`` is the time a step took.
    """

    images_name: str
    reference_name: str
    reference_fingerprint: str
    seed: int
    layout: Mapping[str, Any]
    counts: Mapping[str, int]
    features: Mapping[str, str]
    scores: tuple[Score, ...]
    controls: tuple[Control, ...]
    copies: tuple[Pair, ...]
    closest: tuple[Pair, ...]
    worst: tuple[str, ...]
    best: tuple[str, ...]
    unusable: tuple[Unusable, ...]
    notes: tuple[str, ...]
    seconds: Mapping[str, float]

    @property
    def controls_valid(self) -> bool:
        """Whether controls were run and all behave; if not, no score proves anything and gates fail."""
        return bool(self.controls) and all(control.behaves for control in self.controls)

    def find(self, name: str, features: str = "", subgroup: str = "") -> Score | None:
        """Return the score with that name, features and subgroup, or None."""
        wanted = (name, features, subgroup)
        return next((s for s in self.scores if (s.name, s.features, s.subgroup) == wanted), None)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values: ``metrics``, ``copies``, ``controls_valid`` and more."""
        document = asdict(self)
        document["metrics"] = [describe_score(score) for score in self.scores]
        del document["scores"]
        return {**document, "controls_valid": self.controls_valid}


def describe_score(score: Score) -> dict[str, Any]:
    """Return a score as plain JSON values, with what its metric says."""
    metric = find_metric(score.name)
    return {"family": metric.family, "seven_c": metric.seven_c, "goal": metric.goal, **asdict(score)}
