"""Halves of patients, and the intervals that come from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from synth.evaluation.images.resampling import (
    PAIRS,
    centred_interval,
    draw_halves,
    extrapolate,
    number_patients,
    pack_halves,
    share_interval,
    spread_of_halves,
    spread_of_rough,
)
from synth.seeds import stream


@settings(deadline=None, max_examples=50)
@given(patient=st.lists(st.integers(-50, 50), min_size=2, max_size=90), seed=st.integers(0, 99))
def test_halves_keep_patients_together_and_are_packed_as_drawn(patient: list[int], seed: int) -> None:
    numbers = np.array(patient)
    codes, people = number_patients(numbers)
    assert sorted(set(codes)) == list(range(people))
    halves = draw_halves(numbers, stream(seed, -1, -1, "test/resampling"))
    for half in halves:
        inside, outside = set(numbers[half]), set(numbers[~half])
        assert not inside & outside
        assert len(inside) == people // 2
    words = pack_halves(halves)
    bits = (words[:, None] >> np.arange(2 * PAIRS, dtype=np.uint64)) & np.uint64(1)
    np.testing.assert_array_equal(bits[:, :PAIRS].T.astype(bool), halves)
    np.testing.assert_array_equal(bits[:, PAIRS:].T.astype(bool), ~halves)


def test_spread_of_a_mean_is_its_standard_error() -> None:
    values = stream(1, -1, -1, "test/resampling").standard_normal(400)
    halves = draw_halves(np.arange(400), stream(2, -1, -1, "test/resampling"), pairs=800)
    first, second = (np.array([values[rows].mean() for rows in sides]) for sides in (halves, ~halves))
    for spread in (spread_of_halves, spread_of_rough):
        assert spread(first, second) == pytest.approx(values.std() / 20, rel=0.1)


def test_what_is_not_smooth_gets_no_shorter_interval() -> None:
    first, second = stream(3, -1, -1, "test/resampling").standard_normal((2, PAIRS))
    assert spread_of_rough(first, second) >= spread_of_halves(first, second)


def test_a_bias_of_one_over_n_is_extrapolated_away() -> None:
    assert extrapolate(3 + 5 / 100, np.full(4, 3 + 5 / 50), np.full(4, 3 + 5 / 50)) == pytest.approx(3)


def test_centred_interval_is_cut_off_below() -> None:
    value, low, high = centred_interval(1.0, 0.5, 32)
    assert (low + high) / 2 == pytest.approx(value)
    assert (high - value) / 0.5 == pytest.approx(stats.t.ppf(0.975, 32))
    assert centred_interval(-1.0, 0.1, 32, low=0.0) == (0, 0, 0)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_share_interval_is_wilsons(share: float) -> None:
    wanted = stats.binomtest(round(40 * share), 40).proportion_ci(method="wilson")
    error = np.sqrt(share * (1 - share) / 40)
    _, low, high = share_interval(share, error, 1000 if error else 40)
    assert (low, high) == pytest.approx((wanted.low, wanted.high))
    value, low, high = share_interval(share, 10.0, 40)  # an error beyond reason still gives a share
    assert 0 <= low <= value <= high <= 1
