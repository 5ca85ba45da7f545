"""What an attack says of each patient, and how often it is right: AUC, and true positives at 0.1 % false ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from synth.evaluation.images.privacy.targets import LEAST_TARGETS, Mask, Targets
from synth.evaluation.metric import Score
from synth.evaluation.ranks import Floats, Interval, Ints, auc_interval, true_positive_rate
from synth.seeds import stream

FALSE_POSITIVE_RATE = 0.001
WITH_RATE = "membership_"  # attacks whose true positives at few false ones are a score too
CONFIDENCE = 0.95


@dataclass(frozen=True)
class AttackScores:
    """How strongly an attack suspects each target patient of having been trained on: the largest of their images.

    ``suspicion``, ``member`` (whether they were) and ``patient`` have one value a target patient; ``patient`` is the
    number in the training images of members, and in the unseen images of others. ``images`` is how many synthetic
    images the attack rests on. If the attack could not be made, the arrays are empty and ``reason`` says why.
    """

    attack: str  # membership_nearest, membership_domias, membership_classifier, membership_loss or reidentification
    features: str
    suspicion: Floats
    member: Mask
    patient: Ints
    images: int = 0
    reason: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def missing(cls, attack: str, features: str, reason: str) -> AttackScores:
        """Return an attack that could not be made, and why."""
        return cls(attack, features, np.empty(0), np.empty(0, bool), np.empty(0, np.int64), reason=reason)

    @property
    def score_names(self) -> tuple[str, ...]:
        """The names of the scores of this attack."""
        rate = (f"{self.attack}_tpr_01pct",) if self.attack.startswith(WITH_RATE) else ()
        return (f"{self.attack}_auc", *rate)

    def find_patients(self, train_patients: Ints, unseen_patients: Ints) -> Mask:
        """Return which targets are among these patients of the training images or of the unseen ones."""
        inside = np.isin(self.patient, train_patients), np.isin(self.patient, unseen_patients)
        return np.where(self.member, *inside)


def gather_targets(
    attack: str, features: str, values: Floats, targets: Targets, train_patient: Ints, unseen_patient: Ints,
    images: int, detail: Mapping[str, Any] | None = None,
) -> AttackScores:  # fmt: skip
    """Return the attack of which ``values`` are the suspicions of the images: first of the members, then of others."""
    found, patient = [], []
    for part, whose in (
        (values[: len(targets.members)], train_patient[targets.members]),
        (values[len(targets.members) :], unseen_patient[targets.others]),
    ):
        names, codes = np.unique(whose, return_inverse=True)
        largest = np.full(len(names), -np.inf)
        np.maximum.at(largest, codes, part)
        found.append(largest)
        patient.append(names)
    member = np.repeat([True, False], [len(found[0]), len(found[1])])
    return AttackScores(
        attack, features, np.concatenate(found), member, np.concatenate(patient), images, detail=detail or {}
    )


def score_attack(
    attack: AttackScores,
    mask: Mask | None = None,
    subgroup: str = "",
    control: AttackScores | None = None,
    seed: int = 0,
) -> list[Score]:
    """Return the AUC of an attack and its true positive rate at 0.1 % false positives, with intervals by patient.

    ``mask`` says which target patients count, those of ``subgroup``. ``control`` is the same attack on images that
    hold nobody's secrets (see release_others). Fewer than 10 members or others: not measurable.
    """
    more: dict[str, Any] = {"features": attack.features, "subgroup": subgroup, "images": attack.images}
    suspicion, member = attack.suspicion, attack.member
    if mask is not None and not attack.reason:
        suspicion, member = suspicion[mask], member[mask]
    reason = attack.reason or _explain_few(member)
    if reason:
        return [Score.missing(name, reason, **more) for name in attack.score_names]
    rng = stream(seed, -1, -1, f"images/privacy/{attack.attack}/{attack.features}/{subgroup}")
    area = auc_interval(suspicion, member, np.arange(len(member)), rng)
    counts = {"members": int(member.sum()), "non_members": int((~member).sum())}
    innocent = None if control is None or control.reason else _area(control)
    scores = [Score.of(attack.score_names[0], area, control=innocent, detail={**attack.detail, **counts}, **more)]
    if len(attack.score_names) > 1:
        rate, detail = measure_rate(suspicion, member)
        scores.append(Score.of(attack.score_names[1], rate, control=detail["by_chance"], detail=detail, **more))
    return scores


def measure_rate(suspicion: Floats, member: Mask) -> tuple[Interval, dict[str, Any]]:
    """Return the share of members found when 0.1 % of non-members at most are accused, and what it rests on.

    With fewer than 1,000 non-members that means that none is: members count if they are suspected more than every
    non-member. The interval is Clopper and Pearson's (Biometrika 1934) for this threshold. The threshold is itself
    drawn, so the low end is 0 unless as many members come first in fewer than 2.5 % of random orders of the patients
    (negative hypergeometric distribution); ``by_chance`` is their mean share in random orders.
    """
    members, others = int(member.sum()), int((~member).sum())
    return rate_interval(true_positive_rate(suspicion, member, FALSE_POSITIVE_RATE), members, others)


def rate_interval(
    rate: float, members: int, others: int, false_positive_rate: float = FALSE_POSITIVE_RATE
) -> tuple[Interval, dict[str, Any]]:
    """Return the interval of a true positive rate at few false ones, and what it rests on. See measure_rate."""
    accused = int(np.floor(false_positive_rate * others))
    found = round(rate * members)
    exact = stats.binomtest(found, members).proportion_ci(CONFIDENCE, "exact")
    chance = stats.nhypergeom(members + others, members, accused + 1)
    beyond = float(chance.sf(found - 1)) < (1 - CONFIDENCE) / 2
    text = f"{accused} of {others} non-members may be accused"
    if others < 1 / false_positive_rate:
        text += f"; for {false_positive_rate:.1%} to be more than none, {round(1 / false_positive_rate):,} are needed"
    detail = {
        "members": members, "non_members": others, "false_accusations": accused, "found": found,
        "by_chance": (accused + 1) / (others + 1), "note": text,
    }  # fmt: skip
    return Interval(rate, float(exact.low) if beyond else 0.0, float(exact.high)), detail


def judge_area(attack: AttackScores) -> tuple[float, float]:
    """Return the AUC and the chance of one as far from 0.5 if members and others are alike (Mann and Whitney, 1947)."""
    members, others = attack.suspicion[attack.member], attack.suspicion[~attack.member]
    test = stats.mannwhitneyu(members, others, alternative="two-sided")
    return float(test.statistic) / (len(members) * len(others)), float(test.pvalue)


def _area(attack: AttackScores) -> float:
    return judge_area(attack)[0]


def _explain_few(member: Mask) -> str:
    members, others = int(member.sum()), int((~member).sum())
    if min(members, others) >= LEAST_TARGETS:
        return ""
    return f"{members} training and {others} unseen patients are attacked; {LEAST_TARGETS} of each are needed"
