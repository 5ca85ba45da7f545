"""Noise of the fused kernel: Philox against its paper and known answers, Rayleigh in air, Rician on signal."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from synth.physics import render
from synth.physics.grid import LABELS
from tests.synth.physics.painting import GRID_2MM, full_template, keys_of, paint, voxel_nodes

FAR_AWAY = -1000.0


def philox_reference(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 in plain integers, written from the paper (Salmon et al., SC 2011, section 3.3)."""
    low = 0xFFFFFFFF
    x, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [(p1 >> 32) ^ x[1] ^ k[0], p1 & low, (p0 >> 32) ^ x[3] ^ k[1], p0 & low]
        k = [(k[0] + 0x9E3779B9) & low, (k[1] + 0xBB67AE85) & low]
    return x


KNOWN_ANSWERS = [  # Random123, kat_vectors, philox4x32 10
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_the_reference_has_the_published_known_answers(counter: str, key: str, answer: str) -> None:
    words = [[int(word, 16) for word in text.split()] for text in (counter, key, answer)]
    assert philox_reference(words[0], words[1]) == words[2]


def test_philox_has_the_known_answer_of_counter_and_key_zero() -> None:
    assert [f"{word:08x}" for word in render.philox_words(0, 0, 0)] == KNOWN_ANSWERS[0][2].split()


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**63 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_philox_is_the_reference_for_any_counter_and_key(counter: int, k0: int, k1: int) -> None:
    expected = philox_reference([counter & 0xFFFFFFFF, counter >> 32, 0, 0], [k0, k1])
    assert list(render.philox_words(counter, k0, k1)) == expected


def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_noise_in_air_is_rayleigh_and_independent() -> None:
    nodes = np.full_like(voxel_nodes(GRID_2MM, bias=2), FAR_AWAY)
    seen = paint(
        GRID_2MM, full_template((0, 255, 0, 0)), nodes, [(1, 1, 1, 1)] * 2, [1, 2], [4000, 2000], keys_of("a", "b")
    )
    assert not seen.tissue.any()
    first, second = (image / 4000 for image in seen.images.astype(np.float64))
    for noise in (first, second):
        assert noise.mean() == pytest.approx(math.sqrt(math.pi / 2), abs=4e-3)
        assert noise.var() == pytest.approx(2 - math.pi / 2, abs=6e-3)
        assert stats.kstest(noise.ravel()[::7], stats.rayleigh.cdf).pvalue > 1e-3
    bound = 5 / math.sqrt(first.size)
    assert abs(correlation(first, second)) < bound
    for axis in range(3):  # the two voxels of a Philox block are neighbours along z
        ahead, behind = np.delete(first, 0, axis), np.delete(first, -1, axis)
        assert abs(correlation(ahead, behind)) < bound
    assert abs(correlation(first[:, :, ::2], first[:, :, 1::2])) < bound
    assert abs(correlation(first[:, :, :-2], first[:, :, 2:])) < bound
    assert len(np.unique(first[::3].astype(np.float32))) > 5000


def test_noise_on_signal_is_rician() -> None:
    signal, sigma = 0.6, 0.25
    seen = paint(
        GRID_2MM,
        full_template((0, 255, 0, 0)),
        voxel_nodes(GRID_2MM, 1),
        [(0, signal, 0, 0)],
        [sigma],
        [20_000],
        keys_of("r"),
    )
    assert (seen.tissue == LABELS["white_matter"]).all()
    value = seen.images[0] / 20_000
    assert (value**2).mean() == pytest.approx(signal**2 + 2 * sigma**2, abs=2e-3)
    rice = stats.rice(signal / sigma, scale=sigma)
    assert value.mean() == pytest.approx(rice.mean(), abs=1.5e-3)
    assert value.var() == pytest.approx(rice.var(), abs=1e-3)
    assert stats.kstest(value.ravel()[::7], rice.cdf).pvalue > 1e-3
