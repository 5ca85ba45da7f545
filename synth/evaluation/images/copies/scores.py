"""Copies of training images among images: who was copied, how sure that is, and controls that prove it.

See search for the score, threshold for what counts as a copy, planted for what is planted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from synth.evaluation.images.copies.planted import ALTERATIONS, plant_copies
from synth.evaluation.images.copies.search import CopyMatches, CopySearch
from synth.evaluation.images.copies.threshold import (
    FALSE_ALARMS,
    Threshold,
    calibrate_threshold,
    find_planted,
    fit_threshold,
    list_pairs,
)
from synth.evaluation.images.features.base import Tell, tell_nobody
from synth.evaluation.images.report import Control, Pair
from synth.evaluation.images.sets import ImageSet
from synth.evaluation.metric import Score
from synth.evaluation.ranks import Interval, Ints
from synth.seeds import stream

CLOSEST = 24  # pairs that are shown whether copies or not
LEAST_RECALL = 0.98  # of planted copies
UNLIKELY = 0.01  # chance of so many alarms at the allowed rate, below which the threshold is wrong


@dataclass(frozen=True)
class CopyResult:
    """What was found in a set: ``flags`` says of each image whether it is a copy, ``matches`` of which one.

    ``scores`` are those of all images; ``copies`` the pairs above the threshold and ``closest`` the 24 most alike
    ones, the most alike first. ``patient`` numbers the images' own patients, ``copied`` the training patient that each
    image is most like.
    """

    scores: tuple[Score, ...]
    copies: tuple[Pair, ...]
    closest: tuple[Pair, ...]
    threshold: Threshold = field(repr=False)
    matches: CopyMatches = field(repr=False)
    flags: NDArray[np.bool_] = field(repr=False)
    patient: Ints = field(repr=False)
    copied: Ints = field(repr=False)
    training_patients: int


def find_copies(
    search: CopySearch, threshold: Threshold, images: ImageSet, *, subgroup: str = "", tell: Tell = tell_nobody
) -> CopyResult:
    """Return the copies among ``images``, their rate, and how many training patients were copied."""
    matches = search.search(images, tell)
    flags = matches.score >= threshold.value
    copied = search.patient[matches.index]
    training = len(np.unique(search.patient))
    scores = _score(flags, images.patient, copied, training, threshold, subgroup)
    copies = list_pairs(search, images, matches, np.flatnonzero(flags))
    closest = list_pairs(search, images, matches, np.argsort(-matches.score, kind="stable")[:CLOSEST])
    return CopyResult(scores, copies, closest, threshold, matches, flags, images.patient, copied, training)


def score_copies(found: CopyResult, chosen: Ints | NDArray[np.bool_], subgroup: str) -> list[Score]:
    """Return the scores of some of the images: ``chosen`` are their indices, or says of each whether it is one."""
    parts = (found.flags[chosen], found.patient[chosen], found.copied[chosen])
    return list(_score(*parts, found.training_patients, found.threshold, subgroup))


def check_planted(
    search: CopySearch,
    threshold: Threshold,
    train: ImageSet,
    seed: int,
    count: int = 50,
    tell: Tell = tell_nobody,
) -> Control:
    """Return whether the search finds at least 98 % of planted copies of ``count`` training images."""
    copies = plant_copies(train, min(count, len(train)), seed)
    found = find_planted(search, copies, search.search(copies, tell)) >= threshold.value
    kinds = np.asarray(copies.values("alteration"))
    shares = ", ".join(f"{kind} {found[kinds == kind].mean():.0%}" for kind in ALTERATIONS)
    text = f"{found.mean():.1%} of {len(found)} planted copies were found ({shares})"
    return Control("planted_copies", bool(found.mean() >= LEAST_RECALL), text)


def check_unseen(
    search: CopySearch,
    unseen: ImageSet,
    seed: int,
    tell: Tell = tell_nobody,
    *,
    threshold: Threshold | None = None,
    false_alarms: float = FALSE_ALARMS,
) -> Control:
    """Return whether unseen patients raise no more alarms than allowed, with thresholds set by other unseen patients.

    They are split in halves by patient; each half is judged by the threshold of the other. Patients with an alarm must
    not be so many that chance alone gives as many in less than 1 % of cases (binomial). ``threshold``, that of the
    same search and images, saves searching again.
    """
    known = threshold or calibrate_threshold(search, unseen, false_alarms=false_alarms, seed=seed, tell=tell)
    numbers = np.unique(known.patient)
    half = stream(seed, -1, -1, "images/copies/halves").permutation(len(numbers)) % 2 == 0
    first = half[np.searchsorted(numbers, known.patient)]
    alarms, values = np.zeros(len(first), bool), []
    for own in (first, ~first):
        value, _ = fit_threshold(known.scores[own], known.patient[own], known.planted, known.false_alarms)
        alarms |= ~own & (known.scores >= value)
        values.append(value)
    patients = len(np.unique(known.patient[alarms]))
    chance = float(stats.binom.sf(patients - 1, len(first), known.false_alarms))
    text = (
        f"{int(alarms.sum())} alarms of {patients} patients among {len(first)} images of {len(numbers)} unseen "
        f"patients, with thresholds {values[0]:.3f} and {values[1]:.3f} set by the other half; "
        f"{len(first) * known.false_alarms:.2f} are allowed"
    )
    return Control("unseen_copies", chance >= UNLIKELY, text)


def _score(
    flags: NDArray[np.bool_], patient: Ints, copied: Ints, training: int, threshold: Threshold, subgroup: str
) -> tuple[Score, ...]:
    if not len(flags):
        return tuple(Score.missing(name, "no images", subgroup=subgroup) for name in ("copy_rate", "copied_patients"))
    detail = {"threshold": threshold.value, "false_alarms": threshold.false_alarms, "calibrated_on": threshold.images}
    more = {"subgroup": subgroup, "images": len(flags)}
    own = len(np.unique(patient))
    rate = _bound_share(float(flags.mean()), own)
    people = len(np.unique(copied[flags]))
    return (
        Score.of(
            "copy_rate", rate, control=threshold.false_alarms, detail=detail | {"copies": int(flags.sum())}, **more
        ),
        Score.of(
            "copied_patients", _bound_share(people / training, training), detail=detail | {"patients": people}, **more
        ),
    )


def _bound_share(share: float, count: int) -> Interval:
    """Return a share and its exact 95 % interval (Clopper and Pearson, 1934) as if ``count`` things had been drawn.

    For the rate of copies that is the number of the images' own patients: those of one patient may stand or fall
    together (Korn and Graubard, Survey Methodology 1998, with the smallest effective size).
    """
    hits = share * count
    low = float(stats.beta.ppf(0.025, hits, count - hits + 1)) if hits > 0 else 0.0
    high = float(stats.beta.ppf(0.975, hits + 1, count - hits)) if hits < count else 1.0
    return Interval(share, low, high)
