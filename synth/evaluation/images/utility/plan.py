"""What the arms of a utility score are trained on, and why some tasks have no score in some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.sets import ImageSet, RealImages
from synth.evaluation.images.tasks import Task, count_patients
from synth.evaluation.images.utility.arms import plan_arms
from synth.evaluation.images.utility.scores import CurvePoint
from synth.evaluation.images.utility.settings import UtilitySettings
from synth.evaluation.images.utility.training import Phase, Pool, choose_batch, choose_grid, choose_images, load_pixels
from synth.evaluation.ranks import Ints
from synth.seeds import stream

LARGEST_SUBSET = 0.7  # of the training patients, for a point of the augmentation curve before the last
Bools = NDArray[np.bool_]
Reasons = Mapping[str, str]  # task -> why it has no score


@dataclass(frozen=True)
class Study:
    """The phases of each arm, why tasks have no score in it, the points of the curves, and the holdout's pixels."""

    phases: Mapping[str, tuple[Phase, ...]]
    reasons: Mapping[str, Reasons]
    points: tuple[CurvePoint, ...]
    holdout: Tensor


@dataclass(frozen=True)
class Taught:
    """Images to train on: their pool, and for each image its patient."""

    pool: Pool
    patient: Ints

    def among(self, patients: Ints) -> Taught:
        """Return the images of some patients."""
        kept = np.isin(self.patient, patients)
        rows = torch.from_numpy(np.flatnonzero(kept))
        return Taught(Pool(self.pool.pixels[rows], self.pool.answers[rows]), self.patient[kept])

    def count(self, answer: int) -> Ints:
        """Return how many patients give ``answer``, for each task."""
        said = self.pool.answers.numpy() == answer
        return np.array([len(np.unique(self.patient[column])) for column in said.T])


def collect_answers(images: ImageSet, tasks: Sequence[Task]) -> Floats32:
    """Return (n, tasks) answers, NaN where missing."""
    return np.stack([task.targets(images) for task in tasks], axis=1)


def explain_nothing(synthetic: ImageSet, real: RealImages, tasks: Sequence[Task], settings: UtilitySettings) -> str:
    """Return why nothing at all can be measured, or an empty text."""
    for images, side in ((real.train, "training"), (real.holdout, "holdout"), (synthetic, "synthetic")):
        if not len(images):
            return f"there are no {side} images"
    if synthetic.shape != real.train.shape:
        return f"synthetic images are {synthetic.shape} and real ones {real.train.shape}; bring both to one layout"
    if not tasks:
        return (
            "the reference has no attribute that splits its training patients into two answers with "
            f"{settings.least_patients} patients each"
        )
    return ""


def explain_few(task: Task, images: ImageSet, least: int, side: str) -> str:
    """Return why ``images`` cannot teach or test a task, or an empty text."""
    if task.attribute not in images.records.column_names:
        return f"the {side} images do not record '{task.attribute}'"
    no, yes = count_patients(task, images)
    if not no and not yes:
        return f"'{task.attribute}' is missing in all {side} images"
    if not yes:
        return f"no {side} image has {task.name}"
    if not no:
        return f"all {side} images have {task.name}; others are needed too"
    if min(no, yes) < least:
        which = "with" if yes < no else "without"
        return f"too few {side} patients {which} {task.name}: {min(no, yes)}, and {least} are needed"
    return ""


def plan_study(
    synthetic: ImageSet, real: RealImages, tasks: Sequence[Task], seed: int, settings: UtilitySettings
) -> Study:
    """Return what is trained on, and why some tasks have no score in some arms."""
    grid = choose_grid(real.train.shape, settings.training)
    batch = choose_batch(grid, settings.training)
    untested = {t.name: explain_few(t, real.holdout, settings.least_holdout, "holdout") for t in tasks}
    untaught = {t.name: explain_few(t, synthetic, settings.least_patients, "synthetic") for t in tasks}
    taught = load_taught(real.train, tasks, grid, seed)
    other = None if all(untaught.values()) else load_taught(synthetic, tasks, grid, seed).pool
    phases = plan_arms(settings.arms, taught.pool, other, batch)
    alone = {} if other else {name: f"there is nothing to mix: {why}" for name, why in untaught.items()}
    own = {"real": {}, "duplicated": alone}
    reasons = {arm: join_reasons(untested, own.get(arm, untaught)) for arm in settings.arms}
    points: list[CurvePoint] = []
    if other is not None and settings.real_patients:
        for number, patients in choose_subsets(taught, settings.real_patients, seed).items():
            part = taught.among(patients)
            few = _explain_subset(part, tasks, number, settings.least_subset)
            for arm, found in plan_arms(("real", "mixed"), part.pool, other, batch).items():
                phases[f"{arm}@{number}"] = found
                reasons[f"{arm}@{number}"] = join_reasons(untested, few, untaught)
            points.append(_describe_point(str(number), f"@{number}", part, tasks))
        if {"real", "mixed"} <= set(settings.arms):
            points.append(_describe_point("all", "", taught, tasks))
    pixels = load_pixels(real.holdout, grid, np.ones(len(real.holdout), bool))
    return Study(phases, reasons, tuple(points), pixels)


def load_taught(images: ImageSet, tasks: Sequence[Task], grid: tuple[int, ...], seed: int) -> Taught:
    """Return images to train on with their answers."""
    kept = choose_images(images, grid, stream(seed, -1, -1, f"utility/images/{images.name}"))
    answers = torch.from_numpy(collect_answers(images, tasks)[kept])
    return Taught(Pool(load_pixels(images, grid, kept), answers), images.patient[kept])


def choose_subsets(taught: Taught, numbers: Sequence[int], seed: int) -> dict[int, Ints]:
    """Return, for each number, that many patients, each subset within the next.

    The rarest answer is as frequent in a subset as in all. Numbers that leave out few patients are dropped.
    """
    patients = np.unique(taught.patient)
    rarest = int(np.argmin(np.minimum(taught.count(0), taught.count(1))))
    rare = int(taught.count(1)[rarest] < taught.count(0)[rarest])
    holders = np.isin(patients, taught.patient[taught.pool.answers[:, rarest].numpy() == rare])
    rng = stream(seed, -1, -1, "utility/subsets")
    place = np.empty(len(patients))
    for group in (holders, ~holders):
        place[group] = (rng.permutation(int(group.sum())) + 0.5) / max(1, int(group.sum()))
    order = patients[np.argsort(place, kind="stable")]
    return {number: order[:number] for number in sorted(numbers) if 0 < number <= LARGEST_SUBSET * len(patients)}


def join_reasons(*reasons: Reasons) -> Reasons:
    """Return the first reason of each task."""
    found: dict[str, str] = {}
    for some in reasons:
        found |= {name: why for name, why in some.items() if why and name not in found}
    return found


def _explain_subset(part: Taught, tasks: Sequence[Task], number: int, least: int) -> Reasons:
    rarer = np.minimum(part.count(0), part.count(1))
    return {
        task.name: f"too few of {number} training patients give the rarer answer to {task.name}: {few}, "
        f"and {least} are needed"
        for task, few in zip(tasks, rarer, strict=True)
        if few < least
    }


def _describe_point(label: str, suffix: str, part: Taught, tasks: Sequence[Task]) -> CurvePoint:
    positive = {task.name: int(count) for task, count in zip(tasks, part.count(1), strict=True)}
    patients = len(np.unique(part.patient))
    return CurvePoint(label, f"mixed{suffix}", f"real{suffix}", patients, len(part.patient), positive)
