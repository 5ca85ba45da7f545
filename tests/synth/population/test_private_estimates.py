"""How noisy counts become distributions: the nearest one, with both margins, and no clearer than the noise allows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth.population.private_estimates import condition_rows, project_simplex, rake, split_tree
from synth.seeds import stream


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=12), st.floats(0.5, 100))
def test_the_projection_is_the_nearest_distribution(values: list[float], total: float) -> None:
    given_counts = np.array(values)
    made = project_simplex(given_counts, total)
    assert made.min() >= 0
    assert made.sum() == pytest.approx(total)
    for place in range(len(made)):  # first-order optimality: no direction to a corner improves
        corner = np.zeros(len(made))
        corner[place] = total
        assert (given_counts - made) @ (corner - made) <= 1e-6 * (1 + total) * 100


def test_raked_tables_have_both_margins() -> None:
    rng = stream(1, 0, 0, "test/rake")
    made = rake(rng.random((4, 6)), np.array([1.0, 2.0, 3.0, 4.0]), np.array([5.0, 1.0, 1.0, 1.0, 1.0, 1.0]))
    assert np.allclose(made.sum(axis=1), [1, 2, 3, 4], atol=1e-6)
    assert np.allclose(made.sum(axis=0), [5, 1, 1, 1, 1, 1])


def test_rows_that_noise_explains_take_the_base_and_clear_ones_keep_their_own() -> None:
    base = np.tile([0.5, 0.5], (2, 1))
    made = condition_rows(np.array([[52.0, 48.0], [900.0, 100.0]]), 100.0, base)
    assert made[0].tolist() == [0.5, 0.5]
    assert made[1][0] == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("sizes", [(), (1,), (2,), (7,), (3, 5)])
def test_a_tree_has_a_leaf_for_every_combination(sizes: tuple[int, ...]) -> None:
    rows = math.prod(sizes)
    tree = split_tree(tuple(range(len(sizes))), sizes, np.arange(rows, dtype=float)[:, None])
    for row, codes in enumerate(np.ndindex(*sizes)):
        place = 0
        while tree.feature[place] >= 0:
            goes_left = codes[tree.feature[place]] <= tree.threshold[place]
            place = int(tree.left[place] if goes_left else tree.right[place])
        assert tree.probability[tree.leaf[place], 0] == row
