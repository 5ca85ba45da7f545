"""Who is attacked, and what the attacker knows: training patients, as many unseen ones, and a reference beside them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from synth.evaluation.images.sets import RealImages
from synth.evaluation.ranks import Ints
from synth.seeds import stream

LEAST_TARGETS = 10  # members, and as many others
LEAST_REFERENCE = 20  # validation patients; with fewer, half of the holdout is reference too
MOST_TARGETS = 3_000  # members, and others, at most
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Targets:
    """Rows of the training images, and of the unseen ones (validation and holdout), by the part their patients play.

    ``members`` and ``bystanders`` are rows of the training images, of patients who are attacked and of all others;
    ``others`` (attacked too, but never trained on) and ``reference`` (what the attacker knows of real images) are
    rows of the unseen images. ``reason`` says why nobody can be attacked, and is empty otherwise.

    With features that were learned without ``members`` (see hide_members), members and others are exchangeable unless
    the released images give them away: whatever then tells them apart is a leak.
    """

    members: Ints
    others: Ints
    reference: Ints
    bystanders: Ints
    reason: str = ""


def choose_targets(train_patient: Ints, unseen_patient: Ints, validation: Mask, seed: int) -> Targets:
    """Return who is attacked: holdout patients and as many training patients, 3,000 of each at most.

    No more than half of the training patients are attacked, so that features can be learned from the rest.
    ``train_patient`` and ``unseen_patient`` say whose each image is, ``validation`` which unseen images are of
    validation patients: they are the reference, joined by half of the holdout patients if they are fewer than 20.
    """
    rng = stream(seed, -1, -1, "images/privacy/targets")
    holdout = rng.permutation(np.unique(unseen_patient[~validation]))
    known = np.unique(unseen_patient[validation])
    if len(known) < LEAST_REFERENCE:
        known, holdout = np.concatenate([known, holdout[: len(holdout) // 2]]), holdout[len(holdout) // 2 :]
    trained = rng.permutation(np.unique(train_patient))
    count = min(len(holdout), len(trained) // 2, MOST_TARGETS)
    is_member = np.isin(train_patient, trained[:count])
    reason = ""
    if min(count, len(known)) < LEAST_TARGETS:
        reason = (
            f"there are {len(trained)} training patients, {len(holdout)} unseen ones to attack beside them and "
            f"{len(known)} for the attacker's reference; {2 * LEAST_TARGETS}, {LEAST_TARGETS} and {LEAST_TARGETS} "
            "are needed"
        )
    return Targets(
        members=np.flatnonzero(is_member),
        others=np.flatnonzero(np.isin(unseen_patient, holdout[:MOST_TARGETS])),
        reference=np.flatnonzero(np.isin(unseen_patient, known)),
        bystanders=np.flatnonzero(~is_member),
        reason=reason,
    )


def release_others(targets: Targets, unseen_patient: Ints, seed: int) -> tuple[Ints, Targets]:
    """Return the rows of half of the ``others``, to be released as if they were synthetic, and the targets left.

    An attack on the targets that are left must find nothing: the released patients are none of them.
    """
    patients = np.unique(unseen_patient[targets.others])
    order = stream(seed, -1, -1, "images/privacy/release").permutation(patients)
    released, left = order[: len(order) // 2], order[len(order) // 2 :]
    own = unseen_patient[targets.others]
    reason = targets.reason
    if not reason and len(released) < LEAST_TARGETS:
        reason = (
            f"{len(patients)} unseen patients can be attacked; {2 * LEAST_TARGETS} are needed to release half of them"
        )
    return targets.others[np.isin(own, released)], replace(
        targets, others=targets.others[np.isin(own, left)], reason=reason
    )


def hide_members(real: RealImages, targets: Targets) -> RealImages:
    """Return the reference without the training images of ``members``: what features for attacks are fitted to.

    Features fitted to members see them with other eyes than others, and tell them apart whatever was released.
    """
    return replace(real, train=real.train.select(targets.bystanders))
