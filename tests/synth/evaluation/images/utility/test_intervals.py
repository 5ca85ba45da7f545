"""Resampled AUCs: weights, patients as wholes, and drawn seeds."""

from __future__ import annotations

import math

import hypothesis
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from synth.evaluation.images.utility.intervals import draw_patient_weights, draw_seeds, weigh_auc
from synth.seeds import stream


@hypothesis.settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_weighted_auc_agrees_with_scikit_learn(seed: int) -> None:
    rng = stream(seed, -1, -1, "test/auc")
    scores = rng.integers(0, 5, 30).astype(np.float32)
    positive = np.arange(30) % 3 == 0
    weights = rng.integers(0, 3, (4, 30)).astype(float)
    weights[:, :2] = 1
    expected = [roc_auc_score(positive, scores, sample_weight=row) for row in weights]
    np.testing.assert_allclose(weigh_auc(scores, positive, weights), expected, atol=1e-12)


def test_a_resample_of_one_class_has_no_auc() -> None:
    weights = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    found = weigh_auc(np.array([1, 2, 3], np.float32), np.array([True, False, True]), weights)
    assert np.isnan(found[0])
    assert found[1] == 0


def test_patients_are_drawn_whole() -> None:
    weights = draw_patient_weights(np.array([5, 5, 9, 7]), stream(1, -1, -1, "test"))
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()


def test_drawn_seeds_spread_as_much_as_the_mean_of_all() -> None:
    values = np.array([0.1, 0.5, 0.9])
    rng = stream(1, -1, -1, "test")
    means = np.concatenate([values[draw_seeds(3, rng)].mean(axis=1) for _ in range(200)])
    assert math.isclose(means.var(), values.var(ddof=1) / 3, rel_tol=0.03)
