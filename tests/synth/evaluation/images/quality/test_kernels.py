"""Kernel distances: the plain formulas, without bias, and a permutation test that errs as often as it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist
from torchmetrics.image.kid import poly_mmd

from synth.evaluation.images.layout import NotComparableError
from synth.evaluation.images.quality import kernels
from synth.evaluation.images.quality.kernels import (
    KERNELS,
    choose_scale,
    compare_kernels,
    measure_kernels,
    permute_patients,
)
from synth.evaluation.images.sides import Side
from synth.seeds import stream
from tests.synth.evaluation.images.gaussians import draw_side


def compare_plainly(first: Side, second: Side, kernel, by_patient: bool) -> float:
    """Return the unbiased squared MMD from whole kernel matrices, pairs of one patient left out or in."""

    def average(one: Side) -> float:
        allowed = one.patient[:, None] != one.patient if by_patient else ~np.eye(len(one), dtype=bool)
        return float(kernel(one.features, one.features)[allowed].mean())

    return average(first) + average(second) - 2 * float(kernel(first.features, second.features).mean())


def polynomial(first, second):
    return (first.astype(np.float64) @ second.astype(np.float64).T / first.shape[1] + 1) ** 3


def move(side: Side, factor: float, shift: float) -> Side:
    return Side((side.features * factor + shift).astype(np.float32), side.patient)


@pytest.mark.parametrize(("factor", "shift"), [(1, 0), (0.01, 3), (40, -500)])
@pytest.mark.parametrize("several", [0.0, 0.6])
def test_distances_are_those_of_the_plain_formulas(factor: float, shift: float, several: float) -> None:
    first, second = draw_side(150, 1, several=several), move(draw_side(110, 2, several=several), 1.1, 0.3)
    sides = move(first, factor, shift), move(second, factor, shift)
    found = measure_kernels(*sides, seed=0)
    width = choose_scale(*sides, stream(0, -1, -1, "images/kernels")).width

    def gaussian(one, other):
        return np.exp(-cdist(one.astype(np.float64), other.astype(np.float64), "sqeuclidean") / (2 * width**2))

    for name, kernel in zip(KERNELS, (polynomial, gaussian), strict=True):
        interval, detail = found[name]
        assert interval.value == pytest.approx(compare_plainly(*sides, kernel, by_patient=True), rel=1e-4), name
        assert detail["all_pairs"] == pytest.approx(compare_plainly(*sides, kernel, by_patient=False), rel=1e-4), name


def test_kernel_distance_is_that_of_torchmetrics() -> None:
    sides = draw_side(300, 3), move(draw_side(300, 4), 1.05, 0.1)  # torchmetrics needs equal numbers
    interval, detail = measure_kernels(*sides, seed=0)["kernel_distance"]
    theirs = float(poly_mmd(*(torch.from_numpy(side.features.astype(np.float64)) for side in sides)))
    assert interval.value == pytest.approx(theirs, rel=1e-5)
    assert detail["all_pairs"] == pytest.approx(theirs, rel=1e-5)


def test_width_is_the_median_distance_of_real_images_of_two_patients() -> None:
    synthetic, real = draw_side(50, 5), draw_side(200, 6, several=1.0)
    distances = cdist(real.features, real.features)[real.patient[:, None] != real.patient]
    scale = choose_scale(synthetic, real, stream(0, -1, -1, "test/kernels"))
    assert scale.width == pytest.approx(np.median(distances), rel=0.02)


def test_blocks_change_nothing(monkeypatch) -> None:
    sides = draw_side(90, 7, several=0.5), draw_side(70, 8, several=0.5)
    whole = measure_kernels(*sides, seed=0)
    monkeypatch.setattr(kernels, "BLOCK", 32)
    parts = measure_kernels(*sides, seed=0)
    for name in KERNELS:
        np.testing.assert_allclose(parts[name][0], whole[name][0], rtol=1e-3, atol=1e-5)
        assert parts[name][1]["p"] == pytest.approx(whole[name][1]["p"], abs=0.011)


@pytest.fixture(scope="module")
def equal_sides() -> dict[str, np.ndarray]:
    """Value, ends and p of both distances of people drawn alike, 120 times; two images each."""
    found = {name: [] for name in KERNELS}
    for draw in range(120):
        sides = draw_side(40, 1000 + draw, several=1.0), draw_side(50, 3000 + draw, several=1.0)
        for name, (interval, detail) in measure_kernels(*sides, seed=draw).items():
            found[name].append([*interval, detail["p"]])
    return {name: np.array(rows) for name, rows in found.items()}


@pytest.mark.parametrize("name", KERNELS)
def test_equal_sides_have_distance_zero_and_uniform_p(equal_sides, name: str) -> None:
    values, low, high, p = equal_sides[name].T
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))  # no bias
    covered = ((low <= 0) & (high >= 0)).mean()
    assert covered > 0.9
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert (p < 0.1).mean() < 0.2


def test_sides_that_differ_are_told_apart() -> None:
    found = measure_kernels(draw_side(120, 9), move(draw_side(120, 10), 1, 0.5), seed=0)
    for interval, detail in found.values():
        assert interval.low > 0
        assert detail["p"] == pytest.approx(0.01)


def test_intervals_hold_the_distance_of_endless_people() -> None:
    """Of Gaussians with means m and 0: the squared difference of their moments of order j, times C(3, j) / d^j."""
    dimensions, patients = 4, 120
    gap = dimensions * 0.5**2
    thirds = gap**3 + 6 * gap**2 + (3 * dimensions + 6) * gap
    truth = 3 * gap / dimensions + 3 * gap**2 / dimensions**2 + thirds / dimensions**3
    hits = []
    for draw in range(100):
        rng = stream(draw, -1, -1, "test/kernels/gaussian")
        first, second = (
            Side((rng.standard_normal((patients, dimensions)) + mean).astype(np.float32), np.arange(patients))
            for mean in (0.5, 0.0)
        )
        value, low, high = measure_kernels(first, second, seed=draw)["kernel_distance"][0]
        assert low <= value <= high
        hits.append(low <= truth <= high)
    assert np.mean(hits) > 0.88


def test_patients_are_permuted_as_a_whole() -> None:
    first, second = np.repeat(np.arange(12), 2), np.repeat(np.arange(7), 3)
    groups = permute_patients(first, second, stream(0, -1, -1, "test/kernels"))
    assert (groups[0][:, ::2] == groups[0][:, 1::2]).all()
    assert (groups[0][:, ::2].sum(axis=1) + groups[1][:, ::3].sum(axis=1) == 12).all()


def test_two_sides_are_compared_by_the_same_patients() -> None:
    near, real = draw_side(200, 21, several=0.4), draw_side(180, 22)
    far = move(near, 1.0, 0.6)
    slightly = Side(near.features + np.float32(0.02), near.patient)
    found, back = compare_kernels(far, near, real, seed=0), compare_kernels(near, far, real, seed=0)
    alone = [measure_kernels(side, real, seed=0) for side in (far, near)]
    for name in KERNELS:
        one, other = (each[name][0] for each in alone)
        assert found[name].value == pytest.approx(one.value - other.value, rel=1e-6, abs=1e-12)
        assert found[name].value == pytest.approx(-back[name].value)
        assert 0 < found[name].low < found[name].high, name
        assert compare_kernels(near, near, real, seed=0)[name] == (0, 0, 0)
    pair, both = compare_kernels(slightly, near, real, seed=0), measure_kernels(near, real, seed=0)
    for name in KERNELS:  # what both share cancels
        width, alone_width = (each.high - each.low for each in (pair[name], both[name][0]))
        assert width < 0.3 * alone_width
    with pytest.raises(NotComparableError, match="other patients"):
        compare_kernels(near, real, real, seed=0)
