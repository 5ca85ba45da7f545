"""Whether a candidate takes the champion's place: what both draw for the same requests, judged by one reference.

The candidate must hold the privacy gates with controls that behave and, if there is a champion, be nearer to real
images of unseen patients beyond the interval of the paired difference. Anything else leaves the champion in place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from synth.errors import ModelError
from synth.evaluation.images.features.base import Tell, compute_features, tell_nobody
from synth.evaluation.images.features.registry import make_extractor
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.privacy.losses import Losses
from synth.evaluation.images.quality.fidelity import LEAST_PATIENTS
from synth.evaluation.images.quality.kernels import compare_kernels
from synth.evaluation.images.report import ImageReport
from synth.evaluation.images.scorecard import ScorecardSettings, evaluate_images
from synth.evaluation.images.sets import ImageSet, RealImages, join_sets, make_image_set
from synth.evaluation.images.sides import Side, explain_unmeasurable
from synth.evaluation.metric import Family
from synth.evaluation.policy import Policy, apply_policy
from synth.evaluation.ranks import Interval, Ints
from synth.learned.conditions import ConditionCode, list_rows
from synth.nouns import AttributeValue, GateResult
from synth.seeds import stream, stream_key

SCORE = "kernel_distance"  # in the leading features; the smaller, the nearer to real images of unseen patients
PRIVACY = ("copies", "membership", "reidentification")  # gates of the policy
REQUIRED = ("copies", "membership")  # if they cannot be measured, a model is no champion
LEAST_IMAGES = 50
Row = Mapping[str, AttributeValue]


class Model(Protocol):
    """What draws: a Generator, or anything that does the same."""

    def sample(self, rows: Sequence[Row], keys: Sequence[int]) -> Floats32:
        """Return an image for each row and key."""


@dataclass(frozen=True)
class Contender:
    """A model under the name it is known by. ``losses`` are those of the model's own, for the attack that needs it."""

    name: str
    model: Model
    code: ConditionCode
    losses: Losses | None = None


@dataclass(frozen=True)
class Requests:
    """What is asked of every contender: what random training images show. ``places`` are those images."""

    rows: tuple[Row, ...]
    keys: tuple[int, ...]
    places: Ints


@dataclass(frozen=True)
class Judged:
    """What a contender drew, and what the scorecard and the gates of privacy say of it (no gates: not asked)."""

    name: str
    images: ImageSet
    report: ImageReport
    gates: tuple[GateResult, ...]

    @property
    def features(self) -> str:
        """The features that decide: the first."""
        return next(iter(self.report.features), "")


@dataclass(frozen=True)
class Promotion:
    """The decision, and what it rests on. ``difference`` is the candidate's score minus the champion's, or None."""

    candidate: Judged
    champion: Judged | None
    promoted: bool
    reasons: tuple[str, ...]
    difference: Interval | None

    def to_json(self) -> dict[str, Any]:
        """Return the decision as plain JSON values; the reports are apart."""
        sides = [side for side in (self.candidate, self.champion) if side is not None]
        return {
            "candidate": self.candidate.name,
            "champion": self.champion.name if self.champion else None,
            "promoted": self.promoted,
            "reasons": list(self.reasons),
            "score": SCORE,
            "features": self.candidate.features,
            "images": len(self.candidate.images),
            "difference": None if self.difference is None else dict(self.difference._asdict()),
            "scores": {side.name: _read_score(side) for side in sides},
            "gates": [asdict(gate) for gate in self.candidate.gates],
            "controls": [asdict(control) for control in self.candidate.report.controls],
        }


def choose_requests(train: ImageSet, code: ConditionCode, count: int, seed: int) -> Requests:
    """Return ``count`` requests; images are asked for again once each was. Raises ModelError for fewer than 50."""
    if count < LEAST_IMAGES:
        raise ModelError(f"{count} images decide nothing; draw {LEAST_IMAGES} at least.")
    order = stream(seed, -1, -1, "promotion/requests").permutation(len(train))
    places = np.resize(order, count)
    shown = list_rows(train, code)
    keys = tuple(stream_key(seed, number, -1, "promotion/noise") for number in range(count))
    return Requests(tuple(shown[place] for place in places), keys, places)


def draw_contender(contender: Contender, requests: Requests, train: ImageSet) -> ImageSet:
    """Return what a contender draws, each image under the patient whose image asked for it.

    A request for what the contender was not taught is left out for it. The set states no attributes: they are those of
    training patients by construction, which would tell on our requests and not on the model.
    """
    rows = [_keep_range(contender.code, row) for row in requests.rows]
    images = contender.model.sample(rows, requests.keys)
    owners = [f"for-{patient}" for patient in train.patient[requests.places].tolist()]
    return make_image_set(contender.name, images, patient_ids=owners)


def _keep_range(code: ConditionCode, row: Row) -> dict[str, AttributeValue]:
    """Return the row without numbers beyond those that were taught, and without labels that were not."""
    kept: dict[str, AttributeValue] = {}
    for condition in code.conditions:
        value = row.get(condition.attribute.name)
        if isinstance(value, tuple | list):
            value = tuple(label for label in value if label in condition.values)
        elif isinstance(value, str):
            value = value if value in condition.values else None
        elif isinstance(value, int | float):
            value = value if condition.low <= value <= condition.high else None
        kept[condition.attribute.name] = value
    return kept


def judge_contender(
    contender: Contender,
    requests: Requests,
    real: RealImages,
    settings: ScorecardSettings,
    policy: Policy | None = None,
    tell: Tell = tell_nobody,
) -> Judged:
    """Return the scorecard of what a contender draws; with a ``policy``, also what its gates of privacy say.

    Raises PermanentError for features that do not exist.
    """
    drawn = draw_contender(contender, requests, real.train)
    families: tuple[Family, ...] = ("fidelity", "diversity", "privacy") if policy else ("fidelity", "diversity")
    chosen = replace(settings, families=families, losses=contender.losses if policy else None)
    report = evaluate_images(drawn, real, chosen, tell)
    if policy is None:
        return Judged(contender.name, drawn, report, ())
    private = policy.model_copy(update={"gate": tuple(gate for gate in policy.gate if gate.name in PRIVACY)})
    return Judged(contender.name, drawn, report, apply_policy(private, report))


def settle_promotion(
    candidate: Judged,
    champion: Judged | None,
    real: RealImages,
    settings: ScorecardSettings,
    tell: Tell = tell_nobody,
) -> Promotion:
    """Return whether ``candidate`` takes the place of ``champion`` (None: the place is empty), and why.

    Both were judged with the same requests and settings. The first features of these decide, so an encoder trained on
    real training patients should come first.
    """
    reasons = [gate.reason for gate in candidate.gates if not gate.passed]
    measured = {gate.gate for gate in candidate.gates if not math.isnan(gate.value) or not gate.passed}
    reasons += [f"{name}: nothing was measured, which a champion needs" for name in REQUIRED if name not in measured]
    if champion is None:
        why = "there was no champion; the gates of privacy hold and every control behaves"
        return Promotion(candidate, None, not reasons, tuple(reasons or [why]), None)
    difference, problem = compare_sets(candidate.images, champion.images, real, settings, tell)
    reasons += explain_difference(difference, champion.name, problem)
    if reasons or difference is None:
        return Promotion(candidate, champion, False, tuple(reasons), difference)
    why = f"{SCORE}: better than champion {champion.name}: difference {_write(difference)}"
    return Promotion(candidate, champion, True, (why,), difference)


def compare_sets(
    first: ImageSet, second: ImageSet, real: RealImages, settings: ScorecardSettings, tell: Tell = tell_nobody
) -> tuple[Interval | None, str]:
    """Return how much farther the ``first`` images are from real ones than the ``second``, or None and why not.

    It is the paired difference of the scorecard's kernel distance in the leading features, against unseen patients,
    with the interval of halves of patients (see resampling).
    """
    extractor = make_extractor(settings.features[0], real, settings.encoding, tell, settings.folder)
    unseen = join_sets("unseen", (real.validation, real.holdout))
    one, other, known = (
        Side(compute_features(extractor, images, tell), images.patient) for images in (first, second, unseen)
    )
    for side in (one, other):
        if reason := explain_unmeasurable(side, known, LEAST_PATIENTS):
            return None, reason
    return compare_kernels(one, other, known, settings.seed)[SCORE], ""


def explain_difference(difference: Interval | None, champion: str, problem: str = "") -> list[str]:
    """Return why a difference does not move the champion: nothing if all of its interval is below 0."""
    if difference is None:
        return [f"{SCORE}: not comparable with champion {champion}: {problem}"]
    if difference.high < 0:
        return []
    what = "worse than" if difference.low > 0 else "not told from"
    return [f"{SCORE}: {what} champion {champion}: difference {_write(difference)}, all of which must be below 0"]


def _write(interval: Interval) -> str:
    return f"{interval.value:.4g} ({interval.low:.4g} to {interval.high:.4g})"


def _read_score(side: Judged) -> dict[str, float | None]:
    """Return the primary score with its interval, and the floor: that of real training patients."""
    score = side.report.find(SCORE, side.features)
    if score is None:
        return {"value": None, "low": None, "high": None, "floor": None}
    return {"value": score.value, "low": score.low, "high": score.high, "floor": score.control}


def list_settings(features: Sequence[str], seed: int, folder: Path | None) -> ScorecardSettings:
    """Return how contenders are judged: no networks are trained on their images."""
    return ScorecardSettings(features=tuple(features), utility="off", seed=seed, folder=folder)
