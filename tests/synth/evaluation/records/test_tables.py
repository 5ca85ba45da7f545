"""Record tables as arrays: what is read is what was written, and the shuffled control keeps marginals alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.errors import PermanentError, PopulationError
from synth.evaluation.metrics import METRICS, find_metric
from synth.evaluation.records.tables import (
    fit_bands,
    join_records,
    label_lists,
    read_records,
    row_features,
    select_patients,
    shuffle_columns,
)
from synth.population.schema import Column, Schema
from synth.seeds import stream

Make = Callable[[int, int], pa.Table]

SMALL = Schema(
    (
        Column("age_years", "integer", missing=True),
        Column("sex", "categorical", ("F", "M"), missing=True),
        Column("findings", "set", ("a", "b"), missing=True),
    ),
    repeated=True,
)


def small_table() -> pa.Table:
    return pa.table(
        {
            "patient": pa.array([7, 3, 3], pa.int64()),
            "visit": pa.array([0, 1, 0], pa.int32()),
            "age_years": pa.array([None, 41, 40], pa.int64()),
            "sex": ["M", None, "F"],
            "findings": [["b"], None, ["b", "a"]],
        }
    )


def test_rows_are_sorted_and_missing_values_marked() -> None:
    found = read_records(small_table(), SMALL)
    assert found.patient.tolist() == [0, 0, 1]
    assert found.starts.tolist() == [0, 2, 3]
    assert found.visits.tolist() == [2, 1]
    np.testing.assert_array_equal(found.numbers["age_years"], [40, 41, np.nan])
    assert found.codes["sex"].tolist() == [0, -1, 1]
    assert found.labels["findings"].tolist() == [[1, 1], [0, 0], [0, 1]]


def test_features_are_decade_visit_and_indicators() -> None:
    found = read_records(small_table(), SMALL)
    features, names = row_features(found, fit_bands(found))
    assert names == ["visit", "age_years", "sex=M", "findings:a", "findings:b"]
    np.testing.assert_array_equal(features, [[0, 4, 0, 1, 1], [1, 4, np.nan, 0, 0], [0, np.nan, 1, 0, 1]])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sex": ["M", "X", "F"]}, "'X' is not a value of 'sex'; it may be F, M"),
        ({"findings": [["z"], [], []]}, "'z' is not a value of 'findings'; it may be a, b"),
    ],
)
def test_unknown_categories_are_refused(change: dict[str, list[object]], words: str) -> None:
    table = small_table()
    for name, values in change.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    with pytest.raises(PopulationError, match=words):
        read_records(table, SMALL)


def test_missing_columns_and_empty_tables_are_refused() -> None:
    with pytest.raises(PopulationError, match="column 'sex' is missing"):
        read_records(small_table().drop_columns(["sex"]), SMALL)
    with pytest.raises(PopulationError, match="no rows"):
        read_records(small_table().slice(0, 0), SMALL)


def test_a_patient_selected_twice_is_two(table: Make, schema: Schema) -> None:
    found = read_records(table(20, 1), schema)
    twice = select_patients(found, np.array([5, 5, 2]))
    assert twice.visits.tolist() == [found.visits[5], found.visits[5], found.visits[2]]
    rows = slice(found.starts[2], found.starts[3])
    np.testing.assert_array_equal(twice.numbers["age_years"][twice.patient == 2], found.numbers["age_years"][rows])
    both = join_records(found, twice)
    assert both.patients == 23
    np.testing.assert_array_equal(both.visits, [*found.visits, *twice.visits])


def test_shuffling_keeps_every_marginal_and_the_patients(table: Make, schema: Schema) -> None:
    real = table(300, 1)
    shuffled = shuffle_columns(real, schema, stream(1, -1, -1, "test"))
    assert shuffled.column_names == real.column_names
    for name in ("patient", "visit"):
        assert shuffled[name].equals(real[name])
    for name in ("age_years", "sex", "view"):
        assert Counter(shuffled[name].to_pylist()) == Counter(real[name].to_pylist())
    first, second = (read_records(side, schema).labels["findings"] for side in (real, shuffled))
    np.testing.assert_array_equal(first.sum(0), second.sum(0))
    assert (first != second).any()
    assert shuffled.equals(shuffle_columns(real, schema, stream(1, -1, -1, "test")))


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_label_lists_round_trip(bits: list[list[bool]]) -> None:
    names = ("a", "b", "c")
    lists = label_lists(np.array(bits), names)
    assert lists.to_pylist() == [[name for name, bit in zip(names, row, strict=True) if bit] for row in bits]


def test_every_metric_is_described_and_unknown_scores_name_the_nearest() -> None:
    for metric in METRICS.values():
        assert metric.description.endswith(".")
        assert metric.low < metric.high
    assert find_metric("set_variation.findings").family == "fidelity"
    with pytest.raises(PermanentError, match="Did you mean 'set_variation'"):
        find_metric("set_variations.findings")
