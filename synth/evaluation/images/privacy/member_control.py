"""The control of the attacks: they must fire when training images are released, and not when unseen patients' are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage

from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.privacy.attack_scores import AttackScores, judge_area
from synth.evaluation.images.privacy.membership import attack_membership
from synth.evaluation.images.privacy.targets import Targets, release_others
from synth.evaluation.images.report import Control
from synth.evaluation.images.sets import WHITE, ImageSet
from synth.evaluation.images.sides import Side
from synth.seeds import stream

NAME = "member_split"
LEAST_AREA = 0.6  # of an attack that fires
SURE = 0.05  # chance below which it is no accident that an attack fires
ERROR = 0.01  # chance that attacks seem to find somebody although all is well, over all of them
SHIFT, GAIN, NOISE = 0.5, 0.03, 0.01  # of a light alteration: pixels, share, intensity


def alter_images(images: ImageSet, seed: int = 0) -> ImageSet:
    """Return every image lightly altered: moved by up to half a pixel, brighter or darker by 3 %, noise of 1 %."""
    stored = np.empty(images.stored.shape, np.uint16)
    for index in range(len(images)):
        rng = stream(seed, index, -1, "images/privacy/alter")
        stored[index] = np.round(_alter(images.images([index])[0], rng) * WHITE)
    return replace(images, name=f"{images.name}, altered", stored=stored, unusable=())


def attack_unseen(train: Side, unseen: Side, targets: Targets, features: str = "", seed: int = 0) -> list[AttackScores]:
    """Return the membership attacks if half of the unseen targets were what is released; nobody is to be found."""
    released, left = release_others(targets, unseen.patient, seed)
    others = Side(unseen.features[released], unseen.patient[released])
    return attack_membership(others, train, unseen, left, features, seed)


def silence_blind(attacks: Sequence[AttackScores], planted: Sequence[AttackScores]) -> list[AttackScores]:
    """Return the attacks; one that does not fire when altered training images are released is missing instead.

    ``planted`` are those of the same names and features on altered training images. What a blind attack does not see
    may be there all the same, so it has no figure.
    """
    blind = {(attack.attack, attack.features) for attack in planted if not attack.reason and not _fires(attack)}
    text = "this attack is blind in these features: it does not find lightly altered training images either"
    return [
        AttackScores.missing(attack.attack, attack.features, text)
        if (attack.attack, attack.features) in blind and not attack.reason
        else attack
        for attack in attacks
    ]


def check_members(unseen: Sequence[AttackScores], planted: Sequence[AttackScores]) -> Control:
    """Return whether the attacks behave: in some kind of features all of them fire, and in none without cause.

    ``planted`` are the attacks when the altered training images are released: one fires if its AUC is 0.6 at least and
    chance exceeds it in 5 % of cases at most. Features in which not all fire are named (see silence_blind). ``unseen``
    are those of attack_unseen: none may differ from 0.5 by more than chance, nor lie below it, as members then look
    unlike others by themselves; chance is 1 % over all of them (Mann and Whitney's test, Bonferroni's correction).
    An arm that has too few patients is said to be unknown; the other one then decides, and if neither is known the
    control does not behave.
    """
    fired, calm = _judge_planted(planted), _judge_unseen(unseen)
    known = [verdict for verdict, _ in (fired, calm) if verdict is not None]
    reason = f"training images released, lightly altered: {fired[1]}; unseen patients released: {calm[1]}"
    return Control(NAME, bool(known) and all(known), reason)


Verdict = tuple[bool | None, str]  # None: unknown


def _judge_planted(attacks: Sequence[AttackScores]) -> Verdict:
    able = [attack for attack in attacks if not attack.reason]
    if not able:
        return _explain_unknown(attacks)
    blind = {attack.features for attack in able if not _fires(attack)}
    behaves = bool({attack.features for attack in able} - blind)
    text = "the attacks fire" if behaves else "in no kind of features do all attacks fire"
    if behaves and blind:
        text += f", but not all in {' and '.join(sorted(blind))}"
    return behaves, f"{text} (AUC {_list_areas(able)})"


def _judge_unseen(attacks: Sequence[AttackScores]) -> Verdict:
    able = [attack for attack in attacks if not attack.reason]
    if not able:
        return _explain_unknown(attacks)
    guilty = [attack for attack in able if judge_area(attack)[1] < ERROR / len(able)]
    text = f"members are told from others all the same: {_list_areas(guilty)}" if guilty else "nobody is found"
    return not guilty, f"{text} (AUC {_list_areas(able)})"


def _explain_unknown(attacks: Sequence[AttackScores]) -> Verdict:
    return None, f"unknown, as {attacks[0].reason}" if attacks else "unknown, as no attack was made"


def _fires(attack: AttackScores) -> bool:
    area, chance = judge_area(attack)
    return area >= LEAST_AREA and chance < SURE


def _list_areas(attacks: Sequence[AttackScores]) -> str:
    return ", ".join(
        f"{attack.attack.removeprefix('membership_')} in {attack.features or 'images'} {judge_area(attack)[0]:.3f}"
        for attack in attacks
    )


def _alter(image: Floats32, rng: np.random.Generator) -> Floats32:
    moved = ndimage.shift(image, rng.uniform(-SHIFT, SHIFT, image.ndim), order=1, mode="nearest")
    changed = moved * (1 + rng.uniform(-GAIN, GAIN)) + NOISE * rng.standard_normal(image.shape)
    return np.asarray(np.clip(changed, 0, 1), np.float32)
