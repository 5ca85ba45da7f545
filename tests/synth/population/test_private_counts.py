"""By how much one patient changes the counts that noise is added to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.population.private import _Measurement
from synth.population.private_counts import bound_change, choose_rows, count_tables
from synth.population.private_domain import encode_public
from tests.synth.population.private_people import DOMAIN, LABELS, SITES, Row, make_records

ROW = st.tuples(
    st.integers(-5, 120),
    st.sampled_from(["F", "M", "?"]),
    st.sampled_from([*SITES, "east", None]),
    st.sampled_from([None, -1.0, 0.0, 3.3, 10.0, 99.0]),
    st.lists(st.sampled_from([*LABELS, "mumps"]), max_size=3, unique=True),
)
PATIENTS = st.lists(st.lists(ROW, min_size=1, max_size=9), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(PATIENTS, st.integers(0, 7), st.integers(1, 4))
def test_a_patient_changes_the_counts_by_no_more_than_the_bound(
    patients: list[list[Row]], who: int, most_rows: int
) -> None:
    """Whoever goes, with all rows, undeclared values included, and wherever in the table."""
    who %= len(patients)
    with_all = encode_public(make_records(patients), DOMAIN, most_rows)
    without = encode_public(make_records(patients[:who] + patients[who + 1 :]), DOMAIN, most_rows)
    measured = _Measurement(DOMAIN, with_all, 1.0, most_rows)
    names = measured.names
    measured.parents = {name: names[place - 1] if place else None for place, name in enumerate(names)}
    for tables, part, rows in (
        (measured._pair_tables(), "first", 1),
        (measured._tree_tables(), "first", 1),
        (measured._step_tables(), "later", most_rows),
    ):
        change = count_tables(getattr(with_all, part), tables) - count_tables(getattr(without, part), tables)
        assert (change >= 0).all()
        assert np.sqrt((change.astype(float) ** 2).sum()) <= bound_change(tables, rows) + 1e-9


def test_the_bound_is_reached_by_a_patient_whose_visits_are_alike() -> None:
    rows: list[Row] = [(50, "F", "north", 1.0, [])] * 6
    codes = encode_public(make_records([rows]), DOMAIN, 4)
    tables = _Measurement(DOMAIN, codes, 1.0, 4)
    tables.parents = dict.fromkeys(tables.names)
    counts = count_tables(codes.later, tables._step_tables())
    assert np.sqrt((counts**2).sum()) == pytest.approx(bound_change(tables._step_tables(), 4))


@given(st.integers(1, 300), st.integers(1, 20))
def test_rows_are_chosen_by_their_place_alone_and_evenly(total: int, most: int) -> None:
    chosen = choose_rows(np.arange(total), np.full(total, total), most)
    assert chosen.sum() == min(total, most)
    gaps = np.diff(np.flatnonzero(chosen))
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1
