"""Re-identification: whether somebody who has another image of a patient recognises them in synthetic images."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.covariance import ledoit_wolf

from synth.evaluation.images.privacy.attack_scores import AttackScores, gather_targets
from synth.evaluation.images.privacy.membership import (
    CLOSEST,
    REFERENCE_NEIGHBOURS,
    explain_attack,
    measure_nearest,
    square_distances,
)
from synth.evaluation.images.privacy.targets import Targets
from synth.evaluation.images.sides import Side
from synth.evaluation.ranks import Floats, Ints, area_under_curve

ATTACK = "reidentification"
LEAST_SEVERAL = 10  # patients with several images: members, others, and to learn recognising from
MOST_COMPONENTS = 32
BLOCK = 4_000_000  # pairs at a time


def attack_reidentification(
    synthetic: Side, train: Side, unseen: Side, targets: Targets, features: str = ""
) -> AttackScores:
    """Return how strongly each target patient of several images is recognised in ``synthetic`` images.

    The attacker has one image of a patient and learned to recognise patients from others (see learn_recognition). For
    that image only those synthetic images count that are more like *another* image of the same patient: what was made
    of the image itself proves membership, not that the patient can be found by a different one. Suspicion is the log
    distance to the 5 nearest reference images (mean) minus that to the nearest synthetic image that counts; of a
    patient's images the largest. Patients never trained on are treated alike, so only a leak tells them apart.

    ``detail`` has ``verification_auc``: how well two images of one unseen patient are told from images of two (the
    threat that Packhaeuser et al., Sci Rep 2022, measured). Near 0.5 such features cannot recognise anybody, and
    an AUC of 0.5 of the attack proves nothing. Not measurable with fewer than 10 members, others or patients to learn
    from that have several images.
    """
    reason = explain_attack(synthetic, train, unseen, targets)
    if reason:
        return AttackScores.missing(ATTACK, features, reason)
    several = _keep_several(targets, train.patient, unseen.patient)
    learned = _list_pairs(train, several.bystanders), _list_pairs(unseen, several.reference)
    counts = [
        len(np.unique(train.patient[several.members])),
        len(np.unique(unseen.patient[several.others])),
        sum(len(np.unique(patient)) for _, patient in learned),
    ]
    if min(counts) < LEAST_SEVERAL:
        return AttackScores.missing(ATTACK, features, (
            f"{counts[0]} training and {counts[1]} unseen patients that are attacked, and {counts[2]} others to learn "
            f"from, have several images; {LEAST_SEVERAL} of each are needed"
        ))  # fmt: skip
    points = np.concatenate([learned[0][0], learned[1][0]])
    whose = np.concatenate([learned[0][1], learned[1][1] + train.patient.max() + 1])
    seen = learn_recognition(points, whose)
    attacked = np.concatenate([train.features[several.members], unseen.features[several.others]]) @ seen
    patient = np.concatenate([train.patient[several.members], unseen.patient[several.others] + train.patient.max() + 1])
    to_reference = measure_nearest(attacked, unseen.features[targets.reference] @ seen, REFERENCE_NEIGHBOURS)
    nearest = _nearest_by_another(attacked, patient, synthetic.features @ seen)
    least = CLOSEST * float(np.median(to_reference)) or 1.0
    values = np.log(np.maximum(to_reference, least)).mean(axis=1) - np.log(np.maximum(nearest, least))
    unknown = slice(len(several.members), None)
    detail: dict[str, Any] = {"verification_auc": verify_pairs(attacked[unknown], patient[unknown])}
    return gather_targets(ATTACK, features, values, several, train.patient, unseen.patient, len(synthetic), detail)


def learn_recognition(points: Floats, patient: Ints) -> Floats:
    """Return (d, components) directions in which images of one patient differ by one standard deviation each.

    ``points`` are images of patients with several. Principal components, whitened by the covariance within patients
    (Hatch et al., Interspeech 2006) after it was shrunk as by Ledoit and Wolf (J Multivar Anal 2004).
    """
    _, codes = np.unique(patient, return_inverse=True)
    spare = len(points) - int(codes.max()) - 1  # degrees of freedom within patients
    points = np.asarray(points, np.float64)
    _, sizes, directions = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    basis = directions[np.flatnonzero(sizes[: min(MOST_COMPONENTS, max(1, spare // 2))] > 1e-6 * sizes[0])].T
    inside = points @ basis
    means = np.stack([np.bincount(codes, column) for column in inside.T], axis=1) / np.bincount(codes)[:, None]
    covariance, _ = ledoit_wolf(inside - means[codes], assume_centered=True)
    values, vectors = np.linalg.eigh(covariance * (len(points) / spare))
    return np.asarray(basis @ (vectors / np.sqrt(np.maximum(values, 1e-12 * values.max()))))


def verify_pairs(points: Floats, patient: Ints) -> float:
    """Return the AUC with which the distance tells pairs of images of one patient from pairs of two patients."""
    first, second = np.triu_indices(len(points), 1)
    squares = square_distances(points, points)[first, second]
    return area_under_curve(-squares, patient[first] == patient[second])


def _nearest_by_another(points: Floats, patient: Ints, synthetic: Floats) -> Floats:
    """Return each image's distance to the nearest synthetic one that is more like another image of its patient.

    Infinite where there is none.
    """
    groups = [np.flatnonzero(patient == name) for name in np.unique(patient)]
    found = np.full(len(points), np.inf)
    step = max(1, BLOCK // max(1, len(points)))
    for start in range(0, len(synthetic), step):
        squares = square_distances(points, synthetic[start : start + step])
        for rows in groups:
            own = squares[rows]
            counts = np.where(own > own.min(axis=0), own, np.inf)
            found[rows] = np.minimum(found[rows], counts.min(axis=1))
    return np.asarray(np.sqrt(found))


def _keep_several(targets: Targets, train_patient: Ints, unseen_patient: Ints) -> Targets:
    """Return the targets whose patients have several images in their own part."""
    return Targets(
        members=_rows_of_several(targets.members, train_patient),
        others=_rows_of_several(targets.others, unseen_patient),
        reference=_rows_of_several(targets.reference, unseen_patient),
        bystanders=_rows_of_several(targets.bystanders, train_patient),
    )


def _rows_of_several(rows: Ints, patient: Ints) -> Ints:
    names, counts = np.unique(patient[rows], return_counts=True)
    return rows[np.isin(patient[rows], names[counts > 1])]


def _list_pairs(side: Side, rows: Ints) -> tuple[Floats, Ints]:
    return np.asarray(side.features[rows], np.float64), side.patient[rows]
