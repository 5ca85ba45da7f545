"""The control of the attacks: they must fire when training images are released, and not when unseen patients' are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage

from synth.evaluation.images.attack_scores import AttackScores, judge_area
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.membership import attack_membership
from synth.evaluation.images.report import Control
from synth.evaluation.images.sets import WHITE, ImageSet
from synth.evaluation.images.sides import Side
from synth.evaluation.images.targets import Targets, release_others
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


def check_members(unseen: Sequence[AttackScores], planted: Sequence[AttackScores]) -> Control:
    """Return whether the attacks behave, each in each kind of features.

    ``planted`` are the attacks when the altered training images are released: each must have an AUC of 0.6 at least,
    and one that chance exceeds in 5 % of cases at most. ``unseen`` are those of attack_unseen: none may differ from 0.5
    by more than chance, nor lie below it, as members then look unlike others by themselves; chance is 1 % over all of
    them (Mann and Whitney's test, Bonferroni's correction). An arm that has too few patients is said to be unknown;
    the other one then decides, and if neither is known the control does not behave.
    """
    fired, missed = _judge(planted, fires=True), _judge(unseen, fires=False)
    known = [verdict for verdict, _ in (fired, missed) if verdict is not None]
    reason = f"training images released, lightly altered: {fired[1]}; unseen patients released: {missed[1]}"
    if len(known) < 2:
        reason += "; the unknown proves nothing"
    return Control(NAME, bool(known) and all(known), reason)


def _judge(attacks: Sequence[AttackScores], fires: bool) -> tuple[bool | None, str]:
    """Return whether the attacks do as expected (None: unknown), and what is to be said of them."""
    able = [attack for attack in attacks if not attack.reason]
    if not able:
        return None, f"unknown, for {attacks[0].reason}" if attacks else "unknown, for no attack was made"
    texts, behaves = [], True
    for attack in able:
        area, chance = judge_area(attack)
        fine = area >= LEAST_AREA and chance < SURE if fires else chance >= ERROR / len(able)
        behaves &= fine
        name = attack.attack.removeprefix("membership_")
        texts.append(f"{name} in {attack.features} {area:.3f}{'' if fine else f' (p = {chance:.2g})'}")
    ends = " fire" if behaves else " do not all fire", " find nobody" if behaves else " tell members all the same"
    return behaves, f"the attacks{ends[not fires]}, AUC {', '.join(texts)}"


def _alter(image: Floats32, rng: np.random.Generator) -> Floats32:
    moved = ndimage.shift(image, rng.uniform(-SHIFT, SHIFT, image.ndim), order=1, mode="nearest")
    changed = moved * (1 + rng.uniform(-GAIN, GAIN)) + NOISE * rng.standard_normal(image.shape)
    return np.asarray(np.clip(changed, 0, 1), np.float32)
