"""Ratios and gaps between subgroups, from probabilities that are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from sklearn.metrics import roc_auc_score

from synth.evaluation.images.tasks import Task
from synth.evaluation.images.utility.scores import UtilityResult, measure_utility_gaps, score_arms
from synth.seeds import stream


def make_result(reasons: dict[str, dict[str, str]] | None = None) -> tuple[UtilityResult, dict[str, np.ndarray]]:
    """Return a result in which the synthetic arm is right for women only, and the real arm for all."""
    answers = np.tile([0.0, 1.0], 40).astype(np.float32)[:, None]
    women = np.arange(80) < 40
    rng = stream(1, -1, -1, "test/gaps")
    guessed = np.where(women, answers[:, 0], rng.random(80))
    predictions = {"synthetic": np.tile(guessed[None, :, None], (3, 1, 1)), "real": np.tile(answers, (3, 1, 1))}
    tasks = (Task("ill=yes", "ill", "binary", "yes"),)
    result = UtilityResult([], tasks, answers, np.arange(80), predictions, reasons or {}, 5)
    return result, {"sex=F": women, "sex=M": ~women, "sex=F,ill=yes": women, "age_years=0-20": np.arange(80) < 3}


def test_gap_is_the_difference_between_subgroups_with_the_real_one_as_control() -> None:
    result, masks = make_result()
    men = result.predictions["synthetic"][0, 40:, 0]
    expected = 1 - roc_auc_score(result.answers[40:, 0], men)
    by_attribute = {score.subgroup: score for score in measure_utility_gaps(result, masks)}
    gap = by_attribute["sex"]
    assert gap.name == "utility_gap.ill=yes"
    assert math.isclose(gap.value, expected)
    assert 0 < gap.low < expected < gap.high
    assert gap.control == 0
    assert gap.detail["patients"] == {"sex=F": 20, "sex=M": 20}
    assert by_attribute["age_years"].value is None
    assert "age_years=0-20" in by_attribute["age_years"].reason
    assert "sex,ill" not in by_attribute, "a task is not compared between its own answers"


def test_ratio_to_useless_real_networks_is_no_number() -> None:
    result, _ = make_result()
    useless = replace(result, predictions={**result.predictions, "real": np.zeros((3, 80, 1), np.float32)})
    ratios = [next(s for s in score_arms(r, ("real", "synthetic")) if "ratio" in s.name) for r in (result, useless)]
    assert ratios[0].low <= ratios[0].value < 1
    assert ratios[1].value is None
    assert "trained on real images do not answer ill=yes either (AUC 0.50" in ratios[1].reason


def test_gap_of_an_arm_that_was_not_trained_says_why() -> None:
    result, masks = make_result({"synthetic": {"ill=yes": "no synthetic image has ill=yes"}})
    assert measure_utility_gaps(result, masks)[0].reason == "no synthetic image has ill=yes"
