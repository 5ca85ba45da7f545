"""The Vendi score: n different images count n, n equal ones count 1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.evaluation.images.quality.vendi import compute_vendi, measure_vendi
from synth.evaluation.images.sides import Side
from synth.seeds import stream
from tests.synth.evaluation.images.gaussians import draw_side


@pytest.mark.parametrize("dimensions", [12, 40])
def test_orthogonal_images_count_each(dimensions: int) -> None:
    assert compute_vendi(np.eye(12, dimensions, dtype=np.float32) * 7) == pytest.approx(12)
    assert compute_vendi(np.ones((30, dimensions), np.float32)) == pytest.approx(1)


def test_two_kinds_of_images_count_two() -> None:
    kinds = np.eye(2, 9, dtype=np.float32)
    assert compute_vendi(np.repeat(kinds, [20, 20], axis=0)) == pytest.approx(2)
    uneven = compute_vendi(np.repeat(kinds, [30, 10], axis=0))
    assert uneven == pytest.approx(np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25)))


@settings(deadline=None, max_examples=30)
@given(n=st.integers(2, 30), dimensions=st.integers(2, 30), seed=st.integers(0, 99))
def test_it_is_the_entropy_of_cosines_and_keeps_its_laws(n: int, dimensions: int, seed: int) -> None:
    features = stream(seed, -1, -1, "test/vendi").standard_normal((n, dimensions)).astype(np.float32)
    unit = features / np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    shares = np.linalg.eigvalsh(unit @ unit.T / n)
    shares = shares[shares > 1e-10]
    found = compute_vendi(features)
    assert found == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-5)
    assert 1 - 1e-9 <= found <= min(n, dimensions) + 1e-6
    assert compute_vendi(np.tile(features, (2, 1))) == pytest.approx(found, rel=1e-5)  # repeating adds nothing
    assert compute_vendi(features[::-1] * np.float32(3)) == pytest.approx(found, rel=1e-5)


@pytest.mark.parametrize("dimensions", [12, 300])
def test_measured_score_is_the_computed_one(dimensions: int) -> None:
    features = np.pad(draw_side(60, 1, several=0.5).features, ((0, 0), (0, dimensions - 12)))
    side = Side(features, draw_side(60, 1, several=0.5).patient)
    (value, low, high), detail = measure_vendi(side, seed=0)
    assert value == pytest.approx(compute_vendi(features))
    assert 1 <= low < value < high
    assert detail["n"] == len(features)


def test_few_images_are_extrapolated_towards_many() -> None:
    many = compute_vendi(draw_side(6000, 2).features)
    rows = [measure_vendi(draw_side(60, 10 + draw), seed=draw) for draw in range(20)]
    plain = np.mean([interval.value for interval, _ in rows])
    extrapolated = np.mean([detail["extrapolated"] for _, detail in rows])
    assert plain < many
    assert abs(extrapolated - many) < 0.4 * (many - plain)
