"""What do synthetic images tell of a training patient that they do not tell of others: inference of attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.privacy.membership import explain_attack
from synth.evaluation.images.privacy.targets import Mask, Targets
from synth.evaluation.images.quality.neighbours import nearest_neighbours
from synth.evaluation.images.sets import ImageSet
from synth.evaluation.images.sides import Side
from synth.evaluation.images.tasks import LEAST_PATIENTS, Task, find_tasks
from synth.evaluation.metric import Score
from synth.evaluation.ranks import Floats, Interval, Ints, auc_interval
from synth.seeds import stream

METRIC = "attribute_inference_gap"
NEIGHBOURS = 10  # synthetic images that vote
CLOSEST = 1e-3  # of the usual distance to a neighbour: closer is as close as can be


class Described(NamedTuple):
    """Images with their features: what is known of one side."""

    images: ImageSet
    side: Side


@dataclass(frozen=True)
class AttributeGuess:
    """What an attacker guesses of the target images' answer to one question, beside the truth.

    ``guess``, ``truth`` (0 or 1), ``member`` and ``patient`` (as in AttackScores) have one value an image. If nothing
    could be guessed they are empty and ``reason`` says why. ``images`` is how many synthetic images answered.
    """

    task: str
    features: str
    guess: Floats
    truth: Mask
    member: Mask
    patient: Ints
    images: int = 0
    reason: str = ""

    @classmethod
    def missing(cls, task: str, features: str, reason: str) -> AttributeGuess:
        """Return a guess that could not be made, and why."""
        empty = np.empty(0, bool)
        return cls(task, features, np.empty(0), empty, empty, np.empty(0, np.int64), reason=reason)

    def find_images(self, train_patients: Ints, unseen_patients: Ints) -> Mask:
        """Return which target images are of these patients of the training images or of the unseen ones."""
        inside = np.isin(self.patient, train_patients), np.isin(self.patient, unseen_patients)
        return np.where(self.member, *inside)


def guess_attributes(
    synthetic: Described,
    train: Described,
    unseen: Described,
    targets: Targets,
    tasks: Sequence[Task],
    features: str = "",
) -> list[AttributeGuess]:
    """Return what an attacker guesses of the ``targets``, for each yes-no task (Stadler et al., USENIX Security 2022).

    The attacker has a patient's image and all other attributes, wants the one that is asked for, and takes it from
    the 10 synthetic images most like the patient: their answers, weighted by the inverse square of the distance.
    Features of the image and other attributes count alike: each block is scaled to a variance of 1 over the synthetic
    images. Raises NotComparableError if the sides' features are not of one length.
    """
    wanted = [task for task in tasks if task.kind == "binary"]
    reason = explain_attack(synthetic.side, train.side, unseen.side, targets)
    if reason:
        return [AttributeGuess.missing(task.name, features, reason) for task in wanted]
    known = tuple(find_tasks(synthetic.images, least_patients=1))
    sides = [known_attributes(side.images, known) for side in (synthetic, train, unseen)]
    found = []
    for task in wanted:
        own = np.array([other.attribute != task.attribute for other in known], bool)
        columns = [side[:, own] for side in sides]
        found.append(_guess(task, (synthetic, train, unseen), columns, targets, features))
    return found


def score_guess(
    guess: AttributeGuess,
    mask: Mask | None = None,
    subgroup: str = "",
    control: AttributeGuess | None = None,
    seed: int = 0,
) -> Score:
    """Return by how much the AUC of guesses about members exceeds that about others.

    The interval joins those of the two AUCs, each by patient (square-and-add, Zou and Donner, Stat Med 2008). ``mask``
    says which target images count, those of ``subgroup``; ``control`` are guesses from images that hold nobody's
    secrets. Fewer than 10 members or others with either answer: not measurable.
    """
    name = f"{METRIC}.{guess.task}"
    more: dict[str, Any] = {"features": guess.features, "subgroup": subgroup, "images": guess.images}
    chosen = np.ones(len(guess.guess), bool) if mask is None or guess.reason else mask
    reason = guess.reason or _explain_few(guess, chosen)
    if reason:
        return Score.missing(name, reason, **more)
    inner, outer = (_area(guess, chosen & side, seed, subgroup) for side in (guess.member, ~guess.member))
    gap = inner.value - outer.value
    low = gap - float(np.hypot(inner.value - inner.low, outer.high - outer.value))
    high = gap + float(np.hypot(inner.high - inner.value, outer.value - outer.low))
    innocent = None if control is None else score_guess(control, seed=seed).value
    detail = {"auc_members": inner.value, "auc_others": outer.value}
    return Score.of(name, Interval(gap, low, high), control=innocent, detail=detail, **more)


def known_attributes(images: ImageSet, known: Sequence[Task]) -> Floats32:
    """Return (n, known) answers to all that synthetic images state, NaN where an image does not."""
    columns = [task.targets(images) for task in known]
    return np.stack(columns, axis=1) if columns else np.empty((len(images), 0), np.float32)


def _guess(
    task: Task, sides: tuple[Described, Described, Described], columns: list[Floats32], targets: Targets, features: str
) -> AttributeGuess:
    synthetic, train, unseen = sides
    answers = task.targets(synthetic.images)
    stated = np.flatnonzero(~np.isnan(answers))
    if len(np.unique(answers[stated])) < 2:
        text = "one and the same answer" if len(stated) else "no answer"
        return AttributeGuess.missing(task.name, features, f"the synthetic images give {text} to '{task.name}'")
    truth = np.concatenate([task.targets(train.images)[targets.members], task.targets(unseen.images)[targets.others]])
    asked = ~np.isnan(truth)
    points = np.concatenate([train.side.features[targets.members], unseen.side.features[targets.others]])
    others = np.concatenate([columns[1][targets.members], columns[2][targets.others]])
    learned = (synthetic.side.features[stated], points[asked]), (columns[0][stated], others[asked])
    blocks = [scale_block(*block, each=number == 1) for number, block in enumerate(learned)]
    among, queries = (np.concatenate([block[side] for block in blocks], axis=1) for side in (0, 1))
    member = np.repeat([True, False], [len(targets.members), len(targets.others)])
    patient = np.concatenate([train.side.patient[targets.members], unseen.side.patient[targets.others]])
    votes = _vote(queries, among, answers[stated])
    return AttributeGuess(
        task.name, features, votes, truth[asked] > 0, member[asked], patient[asked], images=len(stated)
    )


def scale_block(learned: Floats32, asked: Floats32, each: bool) -> tuple[Floats, Floats]:
    """Return both, centred and scaled so that rows of ``learned`` have a total variance of 1; missing is the mean.

    ``each`` says whether all columns are given the same variance; else they keep their proportions.
    """
    known = ~np.isnan(learned)
    mean = np.where(known, learned, 0).sum(axis=0, dtype=np.float64) / np.maximum(known.sum(axis=0), 1)
    away = [np.nan_to_num(side - mean) for side in (learned, asked)]
    spread = np.sqrt((away[0] ** 2).mean(axis=0))
    varies = spread > 0
    spread = spread[varies]
    scale = spread * np.sqrt(len(spread)) if each else np.sqrt((spread**2).sum())
    return away[0][:, varies] / scale, away[1][:, varies] / scale


def _vote(queries: Floats, among: Floats, answers: Floats32) -> Floats:
    """Return the weighted mean answer of the nearest ``among`` of each query."""
    first, second = np.asarray(queries, np.float32), np.asarray(among, np.float32)
    places, distances = nearest_neighbours(first, second, min(NEIGHBOURS, len(among)))
    least = CLOSEST * float(np.median(distances)) or 1.0
    weights = np.maximum(distances.astype(np.float64), least) ** -2.0
    return np.asarray((weights * answers[places]).sum(axis=1) / weights.sum(axis=1))


def _area(guess: AttributeGuess, chosen: Mask, seed: int, subgroup: str) -> Interval:
    rng = stream(seed, -1, -1, f"images/privacy/{guess.task}/{guess.features}/{subgroup}/{guess.member[chosen][0]}")
    return auc_interval(guess.guess[chosen], guess.truth[chosen], guess.patient[chosen], rng)


def _explain_few(guess: AttributeGuess, chosen: Mask) -> str:
    counts = [
        len(np.unique(guess.patient[chosen & (guess.member == member) & (guess.truth == truth)]))
        for member in (True, False)
        for truth in (True, False)
    ]
    if min(counts) >= LEAST_PATIENTS:
        return ""
    return (
        f"'{guess.task}' is true of {counts[0]} training and {counts[2]} unseen patients that are attacked, and false "
        f"of {counts[1]} and {counts[3]}; {LEAST_PATIENTS} of each are needed"
    )
