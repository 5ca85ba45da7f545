"""The privacy family: copies, membership, inference of attributes, re-identification, tabular attacks, and controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synth.evaluation.images.bench import Bench
from synth.evaluation.images.copies.scores import check_planted, check_unseen, find_copies, score_copies
from synth.evaluation.images.copies.search import make_copy_search
from synth.evaluation.images.copies.threshold import calibrate_threshold
from synth.evaluation.images.features.base import FeatureExtractor, compute_features
from synth.evaluation.images.features.registry import FeatureSettings, make_extractor
from synth.evaluation.images.privacy.attack_scores import AttackScores, score_attack
from synth.evaluation.images.privacy.inference import Described, guess_attributes, score_guess
from synth.evaluation.images.privacy.losses import Losses, attack_losses
from synth.evaluation.images.privacy.member_control import alter_images, attack_unseen, check_members, silence_blind
from synth.evaluation.images.privacy.membership import attack_membership
from synth.evaluation.images.privacy.record_attacks import attack_records
from synth.evaluation.images.privacy.reidentification import attack_reidentification
from synth.evaluation.images.privacy.targets import choose_targets, hide_members
from synth.evaluation.images.report import Control, Pair
from synth.evaluation.images.sides import Side
from synth.evaluation.images.subgroups import Subgroup
from synth.evaluation.images.tasks import find_tasks
from synth.evaluation.metric import Score

ATTACKED_IN = ("pixels", "radiomics")  # features that attacks use: fitted in seconds without the attacked patients
PLANTED = 50  # training images of which altered copies are planted


@dataclass(frozen=True)
class Privacy:
    """What was found: scores, controls, the images that are copies, and the most alike pairs whether copies or not."""

    scores: tuple[Score, ...]
    controls: tuple[Control, ...]
    copies: tuple[Pair, ...]
    closest: tuple[Pair, ...]


def measure_privacy(bench: Bench, subgroups: Sequence[Subgroup], losses: Losses | None = None) -> Privacy:
    """Return the privacy scores of the bench's images; ``losses`` are those of the generator, where it is at hand."""
    copies = _search_copies(bench, subgroups)
    attacks = _Attacks(bench, subgroups, losses)
    scores = [
        *copies.scores,
        *attacks.score(),
        *attack_records(bench.images, bench.real.train, bench.unseen, bench.seed),
    ]
    return Privacy(tuple(scores), (*copies.controls, attacks.control), copies.copies, copies.closest)


def _search_copies(bench: Bench, subgroups: Sequence[Subgroup]) -> Privacy:
    """Look for altered copies of training images, with a threshold by unseen patients, and prove that it finds them."""
    train, unseen, seed, tell = bench.real.train, bench.unseen, bench.seed, bench.tell
    search = make_copy_search(train, tell)
    threshold = calibrate_threshold(search, unseen, seed=seed, tell=tell)
    found = find_copies(search, threshold, bench.images, tell=tell)
    scores = [*found.scores]
    for group in subgroups:
        scores += score_copies(found, group.mask(bench.images), group.name)
    controls = (
        check_planted(search, threshold, train, seed=seed, count=min(PLANTED, len(train)), tell=tell),
        check_unseen(search, unseen, seed=seed, tell=tell, threshold=threshold),
    )
    return Privacy(tuple(scores), controls, found.copies, found.closest)


class _Attacks:
    """Attacks on half of the training patients, in features that were fitted without them."""

    def __init__(self, bench: Bench, subgroups: Sequence[Subgroup], losses: Losses | None) -> None:
        train, unseen = bench.real.train, bench.unseen
        validation = np.arange(len(unseen)) < len(bench.real.validation)
        self.bench, self.subgroups = bench, subgroups
        self.targets = choose_targets(train.patient, unseen.patient, validation, bench.seed)
        self.losses = attack_losses(losses, train, unseen, self.targets, bench.seed)
        self.unseen: list[AttackScores] = []
        self.planted: list[AttackScores] = []

    @property
    def control(self) -> Control:
        """Whether the attacks fire on training images and on nobody else's."""
        return check_members(self.unseen, self.planted)

    def score(self) -> list[Score]:
        """Return the scores of all attacks, for all targets and by subgroup."""
        found = self._score(self.losses)
        names = [name for name in ATTACKED_IN if name in self.bench.features] or list(ATTACKED_IN[:1])
        for name in names:
            found += self._attack(self._fit(name))
        return found

    def _fit(self, name: str) -> FeatureExtractor:
        bench = self.bench
        hidden = hide_members(bench.real, self.targets) if not self.targets.reason else bench.real
        return make_extractor(name, hidden, FeatureSettings(), bench.tell)

    def _attack(self, extractor: FeatureExtractor) -> list[Score]:
        bench, targets, name = self.bench, self.targets, extractor.name
        train, unseen = bench.real.train, bench.unseen
        made, known, others = (
            Side(compute_features(extractor, side, bench.tell), side.patient) for side in (bench.images, train, unseen)
        )
        altered = alter_images(train.select(targets.members), bench.seed)
        released = Side(compute_features(extractor, altered, bench.tell), altered.patient)
        planted = attack_membership(released, known, others, targets, name, bench.seed)
        self.planted += planted
        innocent = attack_unseen(known, others, targets, name, bench.seed)
        self.unseen += innocent
        attacks = silence_blind(attack_membership(made, known, others, targets, name, bench.seed), planted)
        found: list[Score] = []
        for attack, control in zip(attacks, innocent, strict=True):
            found += self._score(attack, control)
        found += self._score(attack_reidentification(made, known, others, targets, name))
        return found + self._guess(made, known, others, name)

    def _score(self, attack: AttackScores, control: AttackScores | None = None) -> list[Score]:
        found = score_attack(attack, control=control, seed=self.bench.seed)
        for group, mask in self._members(attack):
            found += score_attack(attack, mask, group.name, seed=self.bench.seed)
        return found

    def _members(self, attack: AttackScores) -> list[tuple[Subgroup, NDArray[np.bool_]]]:
        train, unseen = self.bench.real.train, self.bench.unseen
        return [
            (group, attack.find_patients(train.patient[group.mask(train)], unseen.patient[group.mask(unseen)]))
            for group in self.subgroups
        ]

    def _guess(self, made: Side, known: Side, others: Side, name: str) -> list[Score]:
        bench = self.bench
        sides = (Described(bench.images, made), Described(bench.real.train, known), Described(bench.unseen, others))
        guesses = guess_attributes(*sides, self.targets, find_tasks(bench.real.train), name)
        return [score_guess(guess, seed=bench.seed) for guess in guesses]
