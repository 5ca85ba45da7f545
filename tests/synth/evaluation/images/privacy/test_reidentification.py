"""Re-identification: another image of a patient finds them in a released likeness; the image's own copy is no proof."""

from __future__ import annotations

import numpy as np
import pytest

from synth.evaluation.images.privacy.attack_scores import judge_area, score_attack
from synth.evaluation.images.privacy.membership import attack_membership
from synth.evaluation.images.privacy.reidentification import (
    attack_reidentification,
    learn_recognition,
    verify_pairs,
)
from synth.evaluation.images.privacy.targets import release_others
from synth.evaluation.images.sides import Side
from synth.seeds import stream
from tests.synth.evaluation.images.gaussians import People, copy_images, draw_people, draw_side

WITHIN = 0.3  # how much two images of a patient differ, in standard deviations between patients of a group


@pytest.fixture(scope="module")
def people() -> People:
    return draw_people(300, 200, 50, seed=4, several=0.5, within=WITHIN)


def take_first(side: Side) -> Side:
    """Return one image of each patient."""
    rows = np.unique(side.patient, return_index=True)[1]
    return Side(side.features[rows], side.patient[rows])


def test_a_patient_is_found_by_an_image_that_was_not_copied(people: People) -> None:
    released = copy_images(take_first(people.train), 1, 0.05)
    attack = attack_reidentification(released, people.train, people.unseen, people.targets, "made-up")
    (score,) = score_attack(attack)
    assert score.low is not None
    assert score.low > 0.7
    assert score.detail["verification_auc"] > 0.95
    assert score.detail["members"] >= 50


def test_unseen_patients_released_find_nobody() -> None:
    chances = []
    for seed in range(6):
        people = draw_people(200, 160, 40, seed=30 + seed, several=0.6, within=WITHIN)
        released, left = release_others(people.targets, people.unseen.patient, seed)
        synthetic = Side(people.unseen.features[released], people.unseen.patient[released])
        attack = attack_reidentification(synthetic, people.train, people.unseen, left)
        chances.append(judge_area(attack)[1])
    assert min(chances) > 0.005
    assert max(chances) > 0.2


def test_copies_of_people_who_cannot_be_recognised_prove_membership_only() -> None:
    """Two images of a patient are no more alike than those of two patients: nothing but the copied image is found."""
    people = draw_people(240, 200, 50, seed=6, several=0.6)
    rng = stream(6, -1, -1, "test")
    sides = [
        Side(rng.standard_normal((len(side), 12)).astype(np.float32), side.patient)
        for side in (people.train, people.unseen)
    ]
    released = copy_images(sides[0], 1, 0.05)
    found = attack_reidentification(released, *sides, people.targets)
    assert found.detail["verification_auc"] == pytest.approx(0.5, abs=0.08)
    assert judge_area(attack_membership(released, *sides, people.targets)[0])[0] > 0.95
    assert judge_area(found)[0] < 0.65


def test_recognition_ignores_what_changes_within_a_patient() -> None:
    """The first axis differs most, but from one image of a patient to the next: whitening must take it away."""
    rng = stream(7, -1, -1, "test")
    patient = np.repeat(np.arange(400), 2)
    within = np.array([4, 0.3, 0.3, 0.3, 0.3, 0.3])
    points = rng.standard_normal((400, 6))[patient] + within * rng.standard_normal((800, 6))
    seen = learn_recognition(points[:400], patient[:400])
    raw, learned = verify_pairs(points[400:], patient[400:]), verify_pairs(points[400:] @ seen, patient[400:])
    assert raw < 0.8
    assert learned > 0.95
    away = (points[401::2] - points[400::2]) @ seen / np.sqrt(2)
    assert away.var(axis=0) == pytest.approx(np.ones(6), rel=0.5), "one standard deviation within patients"


def test_few_patients_of_several_images_are_not_measurable() -> None:
    single = draw_people(100, 80, 30, seed=2)
    attack = attack_reidentification(draw_side(50, 3), single.train, single.unseen, single.targets)
    (score,) = score_attack(attack)
    assert score.value is None
    assert "0 training and 0 unseen patients" in score.reason
