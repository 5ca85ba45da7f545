"""Nearest neighbours: exactly those that all distances give, whatever precision the products have that screen them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from synth.evaluation.images.layout import NotComparableError
from synth.evaluation.images.quality.neighbours import nearest_neighbours
from synth.evaluation.images.quality.screening import SQUARE, bound_error, find_middle, make_screen
from synth.seeds import stream

PRECISIONS = (torch.bfloat16, torch.float32)
Patients = tuple[NDArray[np.int64], NDArray[np.int64]]


def draw(count: int, dimensions: int, seed: int) -> NDArray[np.float32]:
    return stream(seed, -1, -1, "test/neighbours").standard_normal((count, dimensions)).astype(np.float32)


def sort_all(queries, among, k: int, patients: Patients | None = None):
    """Return the k closest by sorting all distances; the lower index first among equal ones."""
    squares = cdist(queries.astype(np.float64), among.astype(np.float64), "sqeuclidean")
    if patients is not None:
        squares[patients[0][:, None] == patients[1]] = np.inf
    squares = np.pad(squares, ((0, 0), (0, k)), constant_values=np.inf)
    indices = np.argsort(squares, axis=1, kind="stable")[:, :k]
    found = np.take_along_axis(squares, indices, axis=1)
    return np.where(np.isfinite(found), indices, -1), np.sqrt(found.astype(np.float32))


def assert_exact(queries, among, k: int, patients: Patients | None = None, precision=None) -> None:
    indices, distances = nearest_neighbours(queries, among, k, exclude_same_patient=patients, precision=precision)
    wanted, lengths = sort_all(queries, among, k, patients)
    np.testing.assert_array_equal(indices, wanted)
    np.testing.assert_allclose(distances, lengths, rtol=2e-7)
    assert indices.shape == distances.shape == (len(queries), k)
    assert distances.dtype == np.float32


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("n", "m", "dimensions"), [(300, 500, 64), (1, 7, 3), (2, 1, 1), (SQUARE + 60, 2100, 6)])
def test_neighbours_are_those_of_all_distances(n: int, m: int, dimensions: int, precision: torch.dtype) -> None:
    assert_exact(draw(n, dimensions, 1), draw(m, dimensions, 2), 5, precision=precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_side_among_itself_over_several_blocks(precision: torch.dtype) -> None:
    features = draw(2 * SQUARE + 90, 6, 3)
    numbers = np.arange(len(features))
    assert_exact(features, features, 4, (numbers, numbers), precision)
    assert_exact(features, features, 4, (numbers // 3, numbers // 3), precision)
    assert_exact(features, features, 1, precision=precision)


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 40),
    m=st.integers(1, 40),
    dimensions=st.integers(1, 4),
    k=st.integers(1, 6),
    people=st.integers(1, 12),
    spread=st.integers(1, 4),
    itself=st.booleans(),
    precision=st.sampled_from(PRECISIONS),
    seed=st.integers(0, 999),
)
def test_ties_duplicates_and_patients(
    n: int, m: int, dimensions: int, k: int, people: int, spread: int, itself: bool, precision: torch.dtype, seed: int
) -> None:
    """Few whole coordinates make many equal distances, without rounding."""
    rng = stream(seed, -1, -1, "test/neighbours/ties")
    queries = rng.integers(-spread, spread, (n, dimensions)).astype(np.float32)
    among = queries if itself else rng.integers(-spread, spread, (m, dimensions)).astype(np.float32)
    own = rng.integers(people, size=n)
    patients = own, own if itself else rng.integers(people, size=m)
    assert_exact(queries, among, k, patients, precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_close_images_far_from_the_middle_are_told_apart(precision: torch.dtype) -> None:
    """Products leave everything open here, so that more candidates come than there is room for."""
    features = draw(900, 8, 4) * np.float32(0.01)
    features[:450] += 100
    assert_exact(features[::3], features, 3, precision=precision)
    numbers = np.arange(len(features))
    assert_exact(features, features, 3, (numbers, numbers), precision)


@pytest.mark.parametrize("unit", [2.0**-70, 2.0**70])
def test_neighbours_do_not_depend_on_the_unit(unit: float) -> None:
    queries, among = draw(50, 12, 5), draw(80, 12, 6)
    indices, distances = nearest_neighbours(queries, among, 3)
    scaled = nearest_neighbours(queries * np.float32(unit), among * np.float32(unit), 3)
    np.testing.assert_array_equal(scaled[0], indices)
    np.testing.assert_allclose(scaled[1], distances * unit, rtol=2e-7)


def test_threads_find_the_same() -> None:
    features, threads = draw(SQUARE + 500, 10, 7), torch.get_num_threads()
    patients = np.arange(len(features)) // 2
    found = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(nearest_neighbours(features, features, 4, exclude_same_patient=(patients, patients)))
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_fewer_than_k_leave_places_empty() -> None:
    features = draw(6, 3, 8)
    patients = np.array([0, 0, 0, 0, 0, 1])
    indices, distances = nearest_neighbours(features, features, 3, exclude_same_patient=(patients, patients))
    np.testing.assert_array_equal(indices[0], [5, -1, -1])
    assert np.isinf(distances[0, 1:]).all()
    for queries, among, k in ((features[:0], features, 2), (features, features[:0], 2), (features, features, 0)):
        indices, distances = nearest_neighbours(queries, among, k)
        assert indices.shape == distances.shape == (len(queries), k)
        assert (indices == -1).all()


def test_vectors_of_two_lengths_are_refused() -> None:
    with pytest.raises(NotComparableError, match=r"\(4, 3\) among \(4, 2\)"):
        nearest_neighbours(draw(4, 3, 0), draw(4, 2, 0), 1)
    with pytest.raises(NotComparableError):
        nearest_neighbours(draw(4, 3, 0)[0], draw(4, 3, 0), 1)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dimensions", [1, 40, 700])
def test_products_are_as_close_as_the_bound_says(dimensions: int, precision: torch.dtype) -> None:
    sides = [draw(60, dimensions, 9) + 3, draw(70, dimensions, 10) * np.float32(5)]
    screens = [make_screen(side, find_middle(sides[0]), precision) for side in sides]
    products = (screens[0].vectors @ screens[1].vectors.T).float().numpy().astype(np.float64)
    lengths = np.add.outer(screens[0].halves, screens[1].halves).astype(np.float64) * 2
    exact = cdist(sides[0].astype(np.float64), sides[1].astype(np.float64), "sqeuclidean")
    error = np.abs(lengths - 2 * products - exact) / lengths
    assert error.max() <= bound_error(*screens)
    if precision == torch.bfloat16:
        assert bound_error(*screens) < 0.02  # of use: a bound of any size would be one
