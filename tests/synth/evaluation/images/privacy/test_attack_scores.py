"""From suspicions to figures: areas, true positives at few false ones, their intervals, and subgroups."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from synth.evaluation.images.privacy.attack_scores import (
    AttackScores,
    gather_targets,
    judge_area,
    measure_rate,
    rate_interval,
    score_attack,
)
from synth.evaluation.images.privacy.targets import Targets
from synth.evaluation.metrics import find_metric
from synth.seeds import stream

NONE = np.empty(0, np.int64)


def make_attack(members: np.ndarray, others: np.ndarray, name: str = "membership_nearest") -> AttackScores:
    member = np.repeat([True, False], [len(members), len(others)])
    patient = np.concatenate([np.arange(len(members)), np.arange(len(others))])
    return AttackScores(name, "made-up", np.concatenate([members, others]), member, patient, images=7)


def test_a_patient_is_as_suspect_as_the_worst_image() -> None:
    targets = Targets(np.array([0, 1, 3]), np.array([1, 2]), NONE, NONE)
    values = np.array([0.1, 0.5, 0.3, -1.0, -2.0])
    found = gather_targets("x", "", values, targets, np.array([4, 4, 8, 6]), np.array([0, 9, 9]), 3)
    assert found.suspicion.tolist() == [0.5, 0.3, -1.0]
    assert found.member.tolist() == [True, True, False]
    assert found.patient.tolist() == [4, 6, 9]


def test_area_is_that_of_an_independent_library() -> None:
    rng = stream(1, -1, -1, "test")
    attack = make_attack(np.round(rng.normal(0.5, 1, 60), 1), np.round(rng.normal(0, 1, 80), 1))
    area = roc_auc_score(attack.member, attack.suspicion)
    score = score_attack(attack)[0]
    assert score.value == pytest.approx(area, abs=1e-12)
    assert judge_area(attack)[0] == pytest.approx(area, abs=1e-12)
    assert score.low is not None
    assert score.high is not None
    assert score.low < area < score.high


def test_rate_counts_members_above_all_but_a_thousandth_of_others() -> None:
    others = np.arange(2000.0)
    rate, detail = measure_rate(*_with(np.array([1997.5, 1998.5, 5000.0, 3.0]), others))
    assert detail["false_accusations"] == 2
    assert rate.value == 0.75, "the third highest of others is 1997"
    few, detail = measure_rate(*_with(np.array([98.5, 99.5]), np.arange(100.0)))
    assert few.value == 0.5
    assert detail["false_accusations"] == 0
    assert "1,000 are needed" in detail["note"]
    assert detail["by_chance"] == pytest.approx(1 / 101)


def test_rate_interval_is_clopper_and_pearsons() -> None:
    found, _ = rate_interval(0.3, 50, 200)
    assert found.low == pytest.approx(stats.beta.ppf(0.025, 15, 36), abs=1e-12)
    assert found.high == pytest.approx(stats.beta.ppf(0.975, 16, 35), abs=1e-12)
    everybody, _ = rate_interval(1.0, 20, 20)
    assert everybody.high == 1.0
    assert everybody.low > 0.8


def test_members_who_come_first_by_chance_are_no_finding() -> None:
    """Without a leak the low end is above 0 in at most 2.5 % of cases, and the mean rate is what is said of chance."""
    rng = stream(5, -1, -1, "test")
    alarms, rates = 0, []
    for _ in range(400):
        rate, detail = measure_rate(*_with(rng.random(40), rng.random(60)))
        alarms += rate.low > 0
        rates.append(rate.value)
    assert alarms <= 18
    assert np.mean(rates) == pytest.approx(detail["by_chance"], abs=0.008)


def test_subgroups_are_scored_by_their_own_patients() -> None:
    rng = stream(2, -1, -1, "test")
    members, others = rng.random(40), rng.random(40)
    members[:20] += 2  # the leak concerns patients 0 to 19
    attack = make_attack(members, others)
    hit = score_attack(attack, attack.find_patients(np.arange(20), np.arange(20)), "sex=F")[0]
    spared = score_attack(attack, attack.find_patients(np.arange(20, 40), np.arange(20, 40)), "sex=M")[0]
    assert (hit.subgroup, hit.value) == ("sex=F", 1.0)
    assert spared.value is not None
    assert spared.value < 0.75
    tiny = score_attack(attack, attack.find_patients(np.arange(9), np.arange(40)), "sex=X")
    assert all(score.value is None for score in tiny)
    assert "9 training and 40 unseen patients" in tiny[0].reason


def test_scores_are_in_the_registry_and_carry_their_control() -> None:
    rng = stream(3, -1, -1, "test")
    control = make_attack(rng.random(30), rng.random(30))
    for name in ("membership_nearest", "membership_domias", "membership_classifier", "membership_loss"):
        area, rate = score_attack(make_attack(rng.random(30) + 1, rng.random(30), name), control=control)
        assert find_metric(area.name).family == find_metric(rate.name).family == "privacy"
        assert area.control == judge_area(control)[0]
        assert rate.control == pytest.approx(1 / 31)
    (only,) = score_attack(make_attack(rng.random(30), rng.random(30), "reidentification"))
    assert only.name == "reidentification_auc"
    assert find_metric(only.name).goal == "lower"


def _with(members: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([members, others]), np.repeat([True, False], [len(members), len(others)])
