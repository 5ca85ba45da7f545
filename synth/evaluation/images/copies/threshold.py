"""The score above which an image counts as a copy: at most 1 of 1,000 images of unseen patients may reach it.

A few hundred unseen images do not show what happens once in a thousand. Above a high score u the excess is taken to be
exponential; alarms that real images then raised are in docs/evaluation/copies.md. If k of n images exceed u,
the score t for a rate f that also allows for not knowing the mean excess b is

    t = u + p b ((k / (n f))^(1/p) - 1)        p: how many values b rests on

since an exponential whose mean was estimated from p values is predicted by a Pareto law (Aitchison and Dunsmore,
Statistical Prediction Analysis, 1975, chapter 2). Several images of one patient count as one in p. Of the highest tenth
of the k it is only used that they are higher (type II censoring: b = (sum of the lower excesses + highest tenth at its
lowest) / lower ones), as a few of them may be second images of training patients under another name.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from synth.errors import PermanentError
from synth.evaluation.images.copies.planted import plant_copies
from synth.evaluation.images.copies.search import CopyMatches, CopySearch
from synth.evaluation.images.features.base import Tell, tell_nobody
from synth.evaluation.images.report import Pair
from synth.evaluation.images.sets import ImageSet
from synth.evaluation.ranks import Floats, Ints
from synth.seeds import stream

FALSE_ALARMS = 1e-3
LEAST_PATIENTS = 20  # unseen
MOST_IMAGES = 4_000  # unseen; more are sampled by patient
TAIL, LEAST_TAIL, MOST_TAIL = 0.1, 10, 200  # share and number of images whose excess is looked at
CENSORED = 0.1  # of the tail
ENOUGH = 10  # expected alarms with which nothing needs to be extrapolated
PLANTED = 25  # training images of which copies are planted to see where copies lie
SURE_COPY, MOST_DUPLICATES = 0.05, 0.02  # quantile of planted copies; share of unseen images
LOW_COPY = 0.02  # quantile of planted copies up to which the threshold may rise
MARGIN = 0.1  # of the way from the rate's score to that quantile
SAME_PIXELS = 0.5 / 255  # mean difference of two images that are the same one
HIGHEST = 0.99


class TooFewPatientsError(PermanentError):
    """A threshold cannot be calibrated with so few unseen patients."""


@dataclass(frozen=True)
class Threshold:
    """``value`` is the least score of a copy; ``false_alarms`` the rate of unseen images allowed to reach it.

    ``images`` is how many it rests on, with ``scores`` and ``patient`` of each; ``planted`` are scores of planted
    copies. ``duplicates`` are unseen images that are training images under another name: they were left out.
    """

    value: float
    false_alarms: float
    images: int
    note: str
    scores: Floats = field(repr=False)
    patient: Ints = field(repr=False)
    planted: Floats = field(repr=False)
    duplicates: tuple[Pair, ...] = ()


def calibrate_threshold(
    search: CopySearch, unseen: ImageSet, *, false_alarms: float = FALSE_ALARMS, seed: int = 0, tell: Tell = tell_nobody
) -> Threshold:
    """Return the threshold that unseen patients' images exceed at the rate ``false_alarms`` at most.

    None of the unseen patients may have an image in training. Raises TooFewPatientsError below 20 patients.
    """
    patients = len(np.unique(unseen.patient))
    if patients < LEAST_PATIENTS:
        raise TooFewPatientsError(
            f"the threshold of the copy search cannot be calibrated with {len(unseen)} images of {patients} unseen "
            f"patients; {LEAST_PATIENTS} patients in validation and holdout are needed."
        )
    unseen = _sample_patients(unseen, seed)
    count = min(PLANTED, len(search.train))
    copies = plant_copies(search.train, count, seed, stage="calibration")
    planted = find_planted(search, copies, search.search(copies))
    matches = search.search(unseen, tell)
    same = find_duplicates(search, unseen, matches, planted)
    scores = matches.score.astype(np.float64)
    value, note = fit_threshold(scores[~same], unseen.patient[~same], planted, false_alarms)
    if same.any():
        note += (
            f" {int(same.sum())} unseen images are training images, or indistinguishable from altered copies of them, "
            "and were left out: the reference holds them twice."
        )
    duplicates = list_pairs(search, unseen, matches, np.flatnonzero(same))
    return Threshold(
        value, false_alarms, int((~same).sum()), note, scores[~same], unseen.patient[~same], planted, duplicates
    )


def fit_threshold(scores: Floats, patient: Ints, planted: Floats, false_alarms: float) -> tuple[float, str]:
    """Return the threshold for scores of unseen images, and how it was found.

    It lies a tenth of the way from the rate's score to where 98 % of ``planted`` copies are found, if that is higher.
    """
    low, how = _predict_quantile(scores, patient, false_alarms)
    high = float(np.quantile(planted, LOW_COPY)) if len(planted) else low
    value = min(low + MARGIN * max(high - low, 0.0), HIGHEST)
    apart = "so the two can be told apart" if high > low else "so some copies cannot be told from unseen patients"
    text = (
        f"1 in {1 / false_alarms:,.0f} unseen images reaches {low:.3f} ({how}); 98 % of planted copies reach "
        f"{high:.3f}, {apart}. The threshold is {value:.3f}."
    )
    return value, text


def find_planted(search: CopySearch, copies: ImageSet, matches: CopyMatches) -> Floats:
    """Return the score of each planted copy, 0 where another patient's image was found in its place."""
    rows = {name: row for row, name in enumerate(search.train.image_ids)}
    copied = np.array([rows[str(name)] for name in copies.values("copied_image_id")])
    right = search.patient[copied] == search.patient[matches.index]
    for place in np.flatnonzero(~right):  # the same picture under another name is as good
        first, second = (search.train.stored[row[place]] for row in (copied, matches.index))
        right[place] = bool(np.array_equal(first, second))
    return np.where(right, matches.score, 0.0).astype(np.float64)


def find_duplicates(search: CopySearch, unseen: ImageSet, matches: CopyMatches, planted: Floats) -> NDArray[np.bool_]:
    """Return which unseen images are training images: the same pixels, or as alike as 95 % of planted copies are.

    Where more than 2 % seem to be as alike, the search cannot tell, and only the same pixels count.
    """
    same = np.zeros(len(unseen), bool)
    sure = max(float(np.quantile(planted, SURE_COPY)), 0.5) if len(planted) else 1.0
    likely = matches.score >= sure
    for place in np.flatnonzero(matches.score > 0.5):
        first, second = unseen.images([int(place)]), search.train.images(matches.index[place : place + 1])
        same[place] = float(np.abs(first - second).mean()) <= SAME_PIXELS
    if likely.sum() <= max(1, MOST_DUPLICATES * len(unseen)):
        same |= likely
    return same


def list_pairs(search: CopySearch, images: ImageSet, matches: CopyMatches, chosen: Ints) -> tuple[Pair, ...]:
    """Return the pairs of some images with the training images they are most alike, the most alike first."""
    order = chosen[np.argsort(-matches.score[chosen], kind="stable")]
    rows = matches.index[order]
    names, own = search.train.image_ids, images.image_ids
    patients = [str(value) for value in search.train.records.column("patient_id").to_pylist()]
    return tuple(
        Pair(own[place], names[row], patients[row], float(matches.score[place]))
        for place, row in zip(order.tolist(), rows.tolist(), strict=True)
    )


def _predict_quantile(scores: Floats, patient: Ints, rate: float) -> tuple[float, str]:
    """Return the score that a share ``rate`` of unseen images reaches, and how it was found."""
    order = np.argsort(-scores, kind="stable")
    ranked, n = scores[order], len(scores)
    observed = float(ranked[int(rate * n)])
    if rate * n >= ENOUGH:
        return observed, f"counted among {n}"
    k = min(int(np.clip(round(TAIL * n), LEAST_TAIL, MOST_TAIL)), n - 1)
    cut = int(CENSORED * k)
    patients = len(np.unique(patient[order[cut:k]]))
    start = float(ranked[k])
    mean = (float(np.sum(ranked[cut:k] - start)) + cut * float(ranked[cut] - start)) / (k - cut)
    predicted = start + patients * mean * ((k / (n * rate)) ** (1 / patients) - 1)
    if predicted < observed:
        return observed, f"the highest of {n}"
    return predicted, f"extrapolated from the highest {k} of {n}"


def _sample_patients(unseen: ImageSet, seed: int) -> ImageSet:
    """Return the set, or whole patients of it drawn at random until there are 4,000 images."""
    if len(unseen) <= MOST_IMAGES:
        return unseen
    patient = unseen.patient
    order = stream(seed, -1, -1, "images/copies/unseen").permutation(int(patient.max()) + 1)
    counts = np.bincount(patient)[order]
    return unseen.select(np.isin(patient, order[: max(1, int(np.searchsorted(np.cumsum(counts), MOST_IMAGES)))]))
