"""From probabilities on holdout images to utility scores: every arm, its ratio and gain, curves and gaps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.tasks import Task
from synth.evaluation.images.utility.intervals import Resamples, draw_patient_weights, draw_seeds, resample_auc
from synth.evaluation.images.utility.settings import LEAST_HOLDOUT
from synth.evaluation.metric import Score
from synth.evaluation.ranks import Floats, Interval, Ints
from synth.seeds import stream

CHANCE = 0.5
CONTROLS = {"synthetic": "real", "pretrained": "real", "duplicated": "real", "mixed": "duplicated"}
GAP_ARMS = ("synthetic", "real", "mixed")
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class UtilityResult:
    """The scores, and what gaps between subgroups are computed from.

    ``answers`` is (holdout images, tasks), NaN where unknown; ``predictions`` has (seeds, holdout images, tasks) of
    each arm, and ``reasons`` says of an arm why a task has no score.
    """

    scores: list[Score]
    tasks: tuple[Task, ...] = ()
    answers: Floats32 = field(default_factory=lambda: np.empty((0, 0), np.float32))
    patient: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    predictions: Mapping[str, Floats32] = field(default_factory=dict)
    reasons: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    seed: int = 0


class Judge:
    """Resamples the AUC of any arm, task and subgroup of a result, always with the same patients drawn."""

    def __init__(self, result: UtilityResult) -> None:
        rng = stream(result.seed, -1, -1, "utility/resamples")
        self.result = result
        self.weights: Floats = draw_patient_weights(result.patient, rng)
        self.seeds = {name: draw_seeds(len(rows), rng) for name, rows in result.predictions.items()}
        self.places = {task.name: place for place, task in enumerate(result.tasks)}

    def find_reason(self, arm: str, task: str) -> str:
        """Return why the arm has no score for the task, or an empty text."""
        reason = self.result.reasons.get(arm, {}).get(task, "")
        return reason or ("" if arm in self.result.predictions else "this arm was not trained")

    def known(self, task: str) -> Bools:
        """Return which holdout images answer the task."""
        return ~np.isnan(self.result.answers[:, self.places[task]])

    def count(self, task: str, among: Bools) -> int:
        """Return how many patients of ``among`` give the rarer answer."""
        return count_rarer(self.result.answers[:, self.places[task]], self.result.patient, among)

    def resample(self, arm: str, task: str, among: Bools | None = None) -> Resamples | None:
        """Return the AUC of an arm, among some images if given; None if there is a reason against it."""
        if self.find_reason(arm, task):
            return None
        place = self.places[task]
        rows = self.known(task) if among is None else self.known(task) & among
        positive = self.result.answers[rows, place] > 0.5
        return resample_auc(
            self.result.predictions[arm][:, rows, place], positive, self.weights[:, rows], self.seeds[arm]
        )


def count_rarer(answers: Floats32, patient: Ints, among: Bools) -> int:
    """Return how many patients of the images ``among`` give the rarer of the answers 0 and 1."""
    return min(len(np.unique(patient[among & (answers == answer)])) for answer in (0, 1))


def score_arms(result: UtilityResult, arms: Sequence[str]) -> Iterator[Score]:
    """Yield utility_ARM, utility_ratio and utility_gain of each task."""
    judge = Judge(result)
    for task in result.tasks:
        found = {arm: judge.resample(arm, task.name) for arm in arms}
        more = {"images": int(judge.known(task.name).sum())}
        for arm, resamples in found.items():
            name = f"utility_{arm}.{task.name}"
            if resamples is None:
                yield Score.missing(name, judge.find_reason(arm, task.name))
                continue
            control = found.get(CONTROLS.get(arm, ""))
            yield Score.of(name, resamples.interval(), control=control.value if control else None,
                           detail={"seeds": [round(v, 4) for v in resamples.parts]}, **more)  # fmt: skip
        if {"synthetic", "real"} <= set(arms):
            yield _score_ratio(judge, task.name, found, more)
        if {"mixed", "duplicated"} <= set(arms):
            yield _score_gain(judge, task.name, found, more)


def _score_ratio(judge: Judge, task: str, found: Mapping[str, Resamples | None], more: Mapping[str, Any]) -> Score:
    name, synthetic, real = f"utility_ratio.{task}", found["synthetic"], found["real"]
    if synthetic is None or real is None:
        return Score.missing(name, judge.find_reason("synthetic", task) or judge.find_reason("real", task))
    if not real.interval().low > CHANCE:
        return Score.missing(
            name,
            f"networks trained on real images do not answer {task} either (AUC {real.value:.2f}, "
            f"its interval reaches {CHANCE}), so a ratio to them says nothing",
        )
    above = (synthetic.value - CHANCE) / (real.value - CHANCE)
    return Score.of(name, (synthetic / real).interval(), control=1.0, detail={"above_chance": above}, **more)


def _score_gain(judge: Judge, task: str, found: Mapping[str, Resamples | None], more: Mapping[str, Any]) -> Score:
    name, mixed, duplicated, real = f"utility_gain.{task}", found["mixed"], found["duplicated"], found.get("real")
    if mixed is None or duplicated is None:
        return Score.missing(name, judge.find_reason("mixed", task) or judge.find_reason("duplicated", task))
    control = (duplicated - real).value if real else None
    return Score.of(name, (mixed - duplicated).interval(), control=control, **more)


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A point of the augmentation curves: its arms with and without synthetic images, and how many real ones."""

    label: str
    mixed: str
    real: str
    patients: int
    images: int
    positive: Mapping[str, int]  # patients who answer yes


def score_curves(result: UtilityResult, points: Sequence[CurvePoint]) -> Iterator[Score]:
    """Yield utility_augmented.TASK@POINT: the AUC with synthetic images, the control is without."""
    judge = Judge(result)
    for task in result.tasks:
        for point in points:
            name = f"utility_augmented.{task.name}@{point.label}"
            mixed, real = judge.resample(point.mixed, task.name), judge.resample(point.real, task.name)
            detail: dict[str, Any] = {
                "real_patients": point.patients,
                "real_images": point.images,
                "positive_patients": point.positive[task.name],
            }
            if mixed is None or real is None:
                reason = judge.find_reason(point.mixed, task.name) or judge.find_reason(point.real, task.name)
                yield Score.missing(name, reason, detail=detail)
                continue
            detail["gain"] = [round(number, 4) for number in (mixed - real).interval()]
            yield Score.of(name, mixed.interval(), control=real.value, images=int(judge.known(task.name).sum()),
                           detail=detail)  # fmt: skip


def measure_utility_gaps(
    result: UtilityResult, masks: Mapping[str, Bools], least_patients: int = LEAST_HOLDOUT
) -> list[Score]:
    """Return utility_gap.TASK for each attribute of ``masks``: the largest difference of AUC between its subgroups.

    ``masks`` says of each subgroup, such as ``sex=F`` or ``sex=F,age_years=40-60``, which holdout images are in it;
    subgroups of the same attributes are compared. The value is of the synthetic arm, the control of the real one. The
    interval is that of the difference of the two extreme subgroups; it does not allow for their being the extremes,
    and the control does not either. A task about the attribute itself is left out.
    """
    if not result.tasks:
        return []
    judge = Judge(result)
    families: dict[tuple[str, ...], dict[str, Bools]] = defaultdict(dict)
    for name, mask in masks.items():
        families[_name_attributes(name)][name] = np.asarray(mask, bool)
    return [
        _score_gap(judge, task.name, attributes, members, least_patients)
        for task in result.tasks
        for attributes, members in families.items()
        if task.attribute not in attributes
    ]


def _name_attributes(subgroup: str) -> tuple[str, ...]:
    return tuple(part.partition("=")[0] for part in subgroup.split(",") if "=" in part)


def _score_gap(judge: Judge, task: str, attributes: tuple[str, ...], members: Mapping[str, Bools], least: int) -> Score:
    name, subgroup = f"utility_gap.{task}", ",".join(attributes)
    kept = {group: mask for group, mask in members.items() if judge.count(task, mask) >= least}
    left_out = [group for group in members if group not in kept]
    reason = f"fewer than {least} holdout patients of each answer in {', '.join(left_out)}" if left_out else ""
    if len(kept) < 2:
        text = f"fewer than two subgroups of {subgroup} can be tested; {reason or 'there is only one'}"
        return Score.missing(name, text, subgroup=subgroup)
    missing = judge.find_reason("synthetic", task)
    if missing:
        return Score.missing(name, missing, subgroup=subgroup)
    gaps: dict[str, Interval] = {}
    detail: dict[str, Any] = {"patients": {group: judge.count(task, mask) for group, mask in kept.items()}}
    for arm in GAP_ARMS:
        found = {group: judge.resample(arm, task, mask) for group, mask in kept.items()}
        known = {group: resamples for group, resamples in found.items() if resamples is not None}
        if known:
            lowest, highest = min(known, key=lambda g: known[g].value), max(known, key=lambda g: known[g].value)
            gaps[arm] = (known[highest] - known[lowest]).interval()
            detail[arm] = {group: round(resamples.value, 4) for group, resamples in known.items()}
    value, low, high = gaps["synthetic"]
    return Score.of(
        name, Interval(value, max(0.0, low), high), subgroup=subgroup, reason=reason, detail=detail,
        control=gaps["real"].value if "real" in gaps else None,
        images=int(sum((mask & judge.known(task)).sum() for mask in kept.values())),
    )  # fmt: skip
