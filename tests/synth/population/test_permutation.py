"""The shuffle that gives subjects their places: a bijection, even, and the same in every version."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.errors import PopulationError
from synth.population.permutation import permute_index
from synth.seeds import stream_key


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 5000) | st.sampled_from([2**k + d for k in range(1, 13) for d in (-1, 0, 1)]), st.integers(0, 9))
def test_the_shuffle_is_a_bijection_of_which_slices_equal_the_whole(total: int, seed: int) -> None:
    key = stream_key(seed, -1, -1, "test")
    whole = permute_index(np.arange(total), total, key)
    assert sorted(whole.tolist()) == list(range(total))
    start, stop = total // 3, total // 3 + total // 5
    assert permute_index(np.arange(start, stop), total, key).tolist() == whole[start:stop].tolist()


@pytest.mark.parametrize("total", [10**9, 2**30, 2**30 + 1, 10**15, 2**62])
def test_the_shuffle_of_very_many_stays_inside_and_apart(total: int) -> None:
    key = stream_key(1, -1, -1, "test")
    index = np.arange(20_000) * (total // 20_000)
    found = permute_index(index, total, key)
    assert len(np.unique(found)) == len(index)
    assert 0 <= found.min() <= found.max() < total
    assert np.mean(found / total) == pytest.approx(0.5, abs=0.01)
    assert abs(np.corrcoef(index / total, found / total)[0, 1]) < 0.03


@pytest.mark.parametrize("total", [3, 5, 12])
def test_every_place_is_equally_likely_for_every_subject(total: int) -> None:
    keys = 3000
    index = np.arange(total)
    seen = np.zeros((total, total))
    for seed in range(keys):
        seen[index, permute_index(index, total, stream_key(seed, -1, -1, "test"))] += 1
    chi_squared = ((seen - keys / total) ** 2 / (keys / total)).sum()
    freedom = (total - 1) ** 2
    assert chi_squared < freedom + 5 * np.sqrt(2 * freedom)


def test_the_shuffle_is_the_same_in_every_version() -> None:
    assert permute_index(np.arange(8), 8, 42).tolist() == [2, 7, 5, 3, 6, 0, 4, 1]
    assert permute_index(np.array([999_999_999]), 10**9, 42).tolist() == [167_615_317]


@pytest.mark.parametrize(("index", "total"), [([5], 5), ([-1], 5), ([0], 0), ([0], 2**62 + 1)])
def test_indices_outside_are_refused(index: list[int], total: int) -> None:
    with pytest.raises(PopulationError, match=r"stay within it|1 to 2\*\*62"):
        permute_index(np.array(index), total, 1)
