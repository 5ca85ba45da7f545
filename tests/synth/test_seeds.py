"""Streams: named, reproducible for ever, different in every component, none overlapping."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth.seeds import COHORT_LEVEL, key_words, stream, stream_from_key, stream_key

STAGES = (
    "mri/shape",
    "mri/velocity",
    "mri/lesions",
    "mri/relaxation",
    "mri/pose",
    *(f"mri/{stage}/{kind}" for stage in ("acquisition", "bias", "noise") for kind in ("T1w", "T2w", "FLAIR")),
    "population/scanner",
    "population/visits",
    "population/volumes",
    "population/offsets",
)


def test_keys_and_draws_are_the_same_in_every_version() -> None:
    """If this fails, no stored image can be replayed."""
    assert stream_key(20260101, 7, 0, "mri/noise/T1w") == 0xF53E1FD0535C7DAB3FA334CBDF7EB832
    assert stream_key(20260101, 7, -1, "mri/shape") == 0x67ED90F84F2773E8221E0DD5B7F347E7
    assert key_words(stream_key(20260101, 7, 0, "mri/noise/T1w")) == (3749623858, 1067660491)
    drawn = stream(20260101, 7, 0, "mri/noise/T1w").random(3).tolist()
    assert drawn == [0.07873653665253832, 0.5577644574389155, 0.42160137246528984]
    assert stream(0, 0, COHORT_LEVEL, "x").integers(0, 2**63, 2).tolist() == [1768682735243492365, 5677763775747205067]


@pytest.mark.parametrize("other", [(2, 2, 3, "a"), (1, 3, 3, "a"), (1, 2, 4, "a"), (1, 2, 3, "b"), (1, 2, -1, "a")])
def test_streams_differ_in_every_component(other: tuple[int, int, int, str]) -> None:
    mine, theirs = stream(1, 2, 3, "a").random(1000), stream(*other).random(1000)
    assert abs(np.corrcoef(mine, theirs)[0, 1]) < 0.15
    assert len(np.intersect1d(mine, theirs)) == 0


def test_names_do_not_run_into_each_other() -> None:
    """12 then 3 is not 1 then 23, and a stage cannot spell a visit."""
    names = [
        (12, 3, 4, "x"),
        (1, 23, 4, "x"),
        (1, 2, 34, "x"),
        (12, 34, 1, "x"),
        (1, 2, 3, "4/x"),
        (1, -1, 1, "x"),
        (1, 1, -1, "x"),
    ]
    assert len({stream_key(*name) for name in names}) == len(names)


def test_a_stream_starts_afresh_every_time() -> None:
    first = stream(5, 6, 7, "x")
    first.random(10)
    np.testing.assert_array_equal(stream(5, 6, 7, "x").random(4), stream_from_key(stream_key(5, 6, 7, "x")).random(4))
    assert stream(5, 6, 7, "x").random() != first.random()


def test_no_two_of_many_streams_share_a_key_or_noise_words() -> None:
    """Birthday check: 360,000 names; 128-bit keys never meet, and the noise generator's 64-bit words do not either."""
    names = itertools.product((0, 20260101), range(2500), (-1, 0, 1, 2), STAGES)
    keys = [stream_key(*name) for name in names]
    assert len(keys) > 300_000
    assert len(set(keys)) == len(keys)
    assert len({key_words(key) for key in keys}) == len(keys)


def test_keys_use_all_their_bits() -> None:
    keys = [stream_key(0, n, 0, "x") for n in range(4000)]
    share = np.array([[key >> bit & 1 for bit in range(128)] for key in keys]).mean(axis=0)
    assert np.abs(share - 0.5).max() < 5 * 0.5 / np.sqrt(len(keys))


@given(st.integers(0, 2**128 - 1))
def test_noise_words_are_the_low_half_of_the_key(key: int) -> None:
    low, high = key_words(key)
    assert max(low, high) < 2**32
    assert (high << 32 | low) == key % 2**64
