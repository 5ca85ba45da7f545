"""The threshold of the copy search: the laws of its fit, and rates that it keeps where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from synth.evaluation.images.copies.scores import check_unseen
from synth.evaluation.images.copies.search import CopySearch
from synth.evaluation.images.copies.threshold import HIGHEST, Threshold, fit_threshold
from synth.evaluation.images.sets import ImageSet
from synth.seeds import stream

NOBODY = np.empty(0)
RATE = 1e-3
SCORES = arrays.arrays(np.float64, st.integers(20, 300), elements=st.floats(0, 1))


def fit(scores: NDArray[np.float64], rate: float = RATE, planted: NDArray[np.float64] = NOBODY) -> float:
    return fit_threshold(scores, np.arange(len(scores)), planted, rate)[0]


def draw_scores(seed: int, count: int, mean: float = 0.05) -> NDArray[np.float64]:
    return stream(seed, -1, -1, "tests/threshold").exponential(mean, count)


# --------------------------------------------------------------------------------------------------------- laws


@settings(deadline=None, max_examples=60)
@given(scores=SCORES, seed=st.integers(0, 99))
def test_order_does_not_matter(scores: NDArray[np.float64], seed: int) -> None:
    order = stream(seed, -1, -1, "tests/order").permutation(len(scores))
    patient = np.arange(len(scores))
    first, second = (fit_threshold(scores[o], patient[o], NOBODY, RATE)[0] for o in (patient, order))
    assert first == pytest.approx(second, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(scores=SCORES, lower=st.floats(1e-4, 0.2), higher=st.floats(1e-4, 0.2))
def test_fewer_alarms_need_a_higher_threshold(scores: NDArray[np.float64], lower: float, higher: float) -> None:
    lower, higher = sorted((lower, higher))
    if lower * len(scores) < 10 <= higher * len(scores) or higher * len(scores) < 10:
        assert fit(scores, lower) >= fit(scores, higher) - 1e-12
    assert 0 <= fit(scores, lower) <= HIGHEST


@settings(deadline=None, max_examples=60)
@given(scores=SCORES, planted=st.floats(0, 1))
def test_the_threshold_lies_between_unseen_patients_and_copies(scores: NDArray[np.float64], planted: float) -> None:
    alone, both = fit(scores), fit(scores, planted=np.full(10, planted))
    if planted > alone:
        assert both == pytest.approx(min(alone + 0.1 * (planted - alone), HIGHEST))
    else:
        assert both == alone


def test_a_constant_score_is_its_own_threshold() -> None:
    assert fit(np.full(50, 0.25)) == pytest.approx(0.25)


def test_twice_the_spread_gives_twice_the_threshold() -> None:
    scores = draw_scores(0, 200, 0.02)
    assert fit(2 * scores) == pytest.approx(2 * fit(scores))
    assert fit(scores + 0.1) == pytest.approx(fit(scores) + 0.1)


def test_images_of_one_patient_are_less_certain_than_those_of_many() -> None:
    scores = draw_scores(1, 200)
    few, _ = fit_threshold(scores, np.arange(200) // 20, NOBODY, RATE)
    assert few > fit(scores)


def test_many_unseen_images_are_counted_not_extrapolated() -> None:
    scores = np.linspace(0, 0.5, 20_001)[stream(0, -1, -1, "tests/order").permutation(20_001)]
    value, note = fit_threshold(scores, np.arange(len(scores)), NOBODY, RATE)
    assert value == pytest.approx(0.5 * (1 - 1e-3), abs=1e-4)
    assert "counted among 20001" in note


def test_note_says_where_copies_that_cannot_be_told_lie() -> None:
    scores = draw_scores(2, 200)
    _, apart = fit_threshold(scores, np.arange(200), np.full(10, 0.95), RATE)
    _, mixed = fit_threshold(scores, np.arange(200), np.full(10, 0.01), RATE)
    assert "1 in 1,000 unseen images" in apart
    assert "98 % of planted copies reach 0.950, so the two can be told apart" in apart
    assert "some copies cannot be told from unseen patients" in mixed


# -------------------------------------------------------------------------------------------- rates that are kept


@pytest.mark.parametrize("count", [60, 300, 1000])
def test_the_rate_is_kept_on_average_where_excesses_are_exponential(count: int) -> None:
    mean = 0.02
    values = np.array([fit(draw_scores(seed, count, mean)) for seed in range(400)])
    assert 0.5 * RATE < np.exp(-values / mean).mean() < 1.25 * RATE


def test_as_few_as_the_rate_allows_do_not_raise_it_much() -> None:
    scores = draw_scores(3, 3000, 0.02)
    tainted = np.concatenate([scores, np.full(3, 0.95)])  # second images of training patients under another name
    assert fit(tainted) < fit(scores) + 0.03


def test_more_than_the_rate_allows_raise_it_to_the_highest() -> None:
    scores = draw_scores(3, 400, 0.02)
    value, note = fit_threshold(np.concatenate([scores, [0.9]]), np.arange(401), NOBODY, RATE)
    assert value == 0.9
    assert "the highest of 401" in note


# ------------------------------------------------------------------------------------- the control of unseen patients


def check(scores: NDArray[np.float64], patient: NDArray[np.int64], search: CopySearch, unseen: ImageSet) -> bool:
    known = Threshold(0.5, RATE, len(scores), "", scores, patient, NOBODY)
    return check_unseen(search, unseen, seed=0, threshold=known).behaves


@pytest.fixture
def nothing() -> tuple[CopySearch, ImageSet]:
    """Neither is looked at where the scores are known."""
    return object.__new__(CopySearch), object.__new__(ImageSet)


def test_unseen_patients_like_each_other_pass(nothing: tuple[CopySearch, ImageSet]) -> None:
    for seed in range(20):
        assert check(draw_scores(seed, 600), np.arange(600) // 2, *nothing)


def test_unseen_patients_that_raise_alarms_fail(nothing: tuple[CopySearch, ImageSet]) -> None:
    scores = np.minimum(draw_scores(0, 2000, 0.02), 0.4)
    scores[::250] = 0.9  # 8 of 2,000, where 2 are allowed
    assert not check(scores, np.arange(2000), *nothing)


def test_many_images_of_one_patient_are_one_alarm(nothing: tuple[CopySearch, ImageSet]) -> None:
    scores, patient = np.minimum(draw_scores(0, 2000, 0.02), 0.4), np.arange(2000)
    scores[100:108], patient[100:108] = 0.9, 100
    assert check(scores, patient, *nothing)
