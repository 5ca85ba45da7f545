"""Record tables as arrays: read once, then every score works on the same numbers. Also the shuffled control."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from synth.errors import PopulationError
from synth.evaluation.ranks import Floats as Floats  # the arrays of all modules of records
from synth.evaluation.ranks import Ints as Ints
from synth.population.schema import PATIENT, VISIT, Column, Schema

pc: Any = pyarrow.compute
Arrow = Any  # tables and arrays of Arrow, whose stubs know too little of compute functions
Bits = NDArray[np.uint8]
Bands = Mapping[str, Floats]  # the inner edges of the bands of each number

VISIT_EDGES = np.array([1.0, 2.0, 3.0, 4.0, 6.0, 9.0, 16.0, 31.0])  # visits 0, 1, 2, 3, 4-5, 6-8, 9-15, 16-30, more
DECADE_EDGES = np.arange(10.0, 101.0, 10.0)  # 0-9 ... 90-99, 100 and more (recording errors mostly)


@dataclass(frozen=True)
class RecordArrays:
    """A record table as arrays, sorted by patient and visit.

    ``patient`` counts from 0; ``starts`` are the first rows of the patients and, last, the number of rows. Numbers are
    NaN and codes -1 where missing; ``labels`` has a 0/1 column for each label of a set, all 0 where missing.
    """

    schema: Schema
    patient: Ints
    starts: Ints
    visit: Ints
    numbers: Mapping[str, Floats]
    codes: Mapping[str, Ints]
    labels: Mapping[str, Bits]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.patient)

    @property
    def patients(self) -> int:
        """The number of patients."""
        return len(self.starts) - 1

    @property
    def visits(self) -> Ints:
        """The number of visits of each patient."""
        return np.diff(self.starts)


def read_records(table: Arrow, schema: Schema) -> RecordArrays:
    """Return a record table as arrays; raises PopulationError if a column or a category is not the schema's."""
    for name in (PATIENT, VISIT, *schema.names):
        if name not in table.column_names:
            raise PopulationError(f"record table: column '{name}' is missing; it has {', '.join(table.column_names)}.")
    if not table.num_rows:
        raise PopulationError("record table: it has no rows; at least one patient is needed.")
    patient, visit = _integers(table, PATIENT), _integers(table, VISIT)
    order = np.lexsort((visit, patient))
    if not np.array_equal(order, np.arange(len(order))):
        table, patient, visit = table.take(pa.array(order)), patient[order], visit[order]
    _, first, codes = np.unique(patient, return_index=True, return_inverse=True)
    return RecordArrays(
        schema=schema,
        patient=codes.astype(np.int64),
        starts=np.append(first, len(patient)).astype(np.int64),
        visit=visit,
        numbers={c.name: _read_number(table, c) for c in schema.columns if c.is_number},
        codes={c.name: _read_codes(table, c) for c in schema.columns if c.kind == "categorical"},
        labels={c.name: _read_labels(table, c) for c in schema.columns if c.kind == "set"},
    )


def select_patients(records: RecordArrays, chosen: Ints) -> RecordArrays:
    """Return the rows of the patients ``chosen``, in that order; one chosen twice counts as two patients."""
    visits = records.visits[chosen]
    starts = np.concatenate([[0], np.cumsum(visits)]).astype(np.int64)
    patient = np.repeat(np.arange(len(chosen)), visits)
    rows = np.arange(starts[-1]) - starts[patient] + records.starts[chosen][patient]
    return RecordArrays(
        schema=records.schema,
        patient=patient,
        starts=starts,
        visit=records.visit[rows],
        numbers={name: values[rows] for name, values in records.numbers.items()},
        codes={name: values[rows] for name, values in records.codes.items()},
        labels={name: values[rows] for name, values in records.labels.items()},
    )


def sample_patients(records: RecordArrays, count: int, rng: np.random.Generator) -> RecordArrays:
    """Return ``count`` patients without repetition, or all of them if there are fewer."""
    if count >= records.patients:
        return records
    return select_patients(records, np.sort(rng.choice(records.patients, count, replace=False)))


def join_records(first: RecordArrays, second: RecordArrays) -> RecordArrays:
    """Return the patients of both tables."""
    return RecordArrays(
        schema=first.schema,
        patient=np.concatenate([first.patient, second.patient + first.patients]),
        starts=np.concatenate([first.starts, second.starts[1:] + first.rows]),
        visit=np.concatenate([first.visit, second.visit]),
        numbers={name: np.concatenate([first.numbers[name], second.numbers[name]]) for name in first.numbers},
        codes={name: np.concatenate([first.codes[name], second.codes[name]]) for name in first.codes},
        labels={name: np.concatenate([first.labels[name], second.labels[name]]) for name in first.labels},
    )


def fit_bands(records: RecordArrays) -> Bands:
    """Return the bands of each number: decades for an age in years, else tenths of the rows of ``records``."""
    return {name: _band_edges(name, values) for name, values in records.numbers.items()}


def band_numbers(values: Floats, edges: Floats) -> Ints:
    """Return the band of each value, from 0; -1 where missing."""
    return np.where(np.isnan(values), -1, np.searchsorted(edges, values, side="right")).astype(np.int64)


def row_features(records: RecordArrays, bands: Bands) -> tuple[Floats, list[str]]:
    """Return the row features (rows x features) and their names: what the classifier and the correlations see.

    A number is its band, the visit its number, a category of two is one 0/1 column and one of more is one column
    each, each label is 0/1. Missing values are NaN.
    """
    columns, names = [records.visit.astype(np.float64)], [VISIT]
    for column in records.schema.columns:
        if column.is_number:
            codes = band_numbers(records.numbers[column.name], bands[column.name])
            columns.append(_blank_missing(codes, codes))
            names.append(column.name)
        elif column.kind == "categorical":
            codes = records.codes[column.name]
            wanted = range(1, 2) if len(column.categories) == 2 else range(len(column.categories))
            columns += [_blank_missing(codes == i, codes) for i in wanted]
            names += [f"{column.name}={column.categories[i]}" for i in wanted]
        else:
            columns += list(records.labels[column.name].T.astype(np.float64))
            names += [f"{column.name}:{label}" for label in column.categories]
    return np.column_stack(columns), names


def discrete_columns(records: RecordArrays, bands: Bands) -> dict[str, Ints]:
    """Return every column, and every label, as small whole numbers from 0 (missing is 0 where it may be missing)."""
    found: dict[str, Ints] = {VISIT: band_numbers(records.visit.astype(np.float64), VISIT_EDGES)}
    for column in records.schema.columns:
        if column.is_number:
            found[column.name] = 1 + band_numbers(records.numbers[column.name], bands[column.name])
        elif column.kind == "categorical":
            found[column.name] = 1 + records.codes[column.name]
        else:
            for index, label in enumerate(column.categories):
                found[f"{column.name}:{label}"] = records.labels[column.name][:, index].astype(np.int64)
    return found


def shuffle_columns(table: Arrow, schema: Schema, rng: np.random.Generator) -> Arrow:
    """Return the control that keeps every marginal and no dependence.

    Each attribute, and each label of a set on its own, is permuted over all rows; patients and visits stay.
    """
    for column in schema.columns:
        position = table.column_names.index(column.name)
        if column.kind == "set":
            bits = _read_labels(table, column)
            for index in range(bits.shape[1]):
                bits[:, index] = bits[rng.permutation(len(bits)), index]
            shuffled: Arrow = label_lists(bits, column.categories)
        else:
            shuffled = table.column(column.name).take(pa.array(rng.permutation(table.num_rows)))
        table = table.set_column(position, column.name, shuffled)
    return table


def label_lists(bits: NDArray[np.integer] | NDArray[np.bool_], categories: tuple[str, ...]) -> Arrow:
    """Return 0/1 columns (rows x labels) as an Arrow column of label lists, in the order of ``categories``."""
    rows, labels = np.nonzero(bits)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(bits)))])
    values = pc.take(pa.array(list(categories), pa.string()), pa.array(labels))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


def _integers(table: Arrow, name: str) -> Ints:
    return np.asarray(pc.cast(table.column(name), pa.int64()).to_numpy())


def _read_number(table: Arrow, column: Column) -> Floats:
    return np.asarray(pc.cast(table.column(column.name), pa.float64()).to_numpy()).astype(np.float64)


def _read_codes(table: Arrow, column: Column) -> Ints:
    values = pc.cast(table.column(column.name), pa.string())
    codes = pc.index_in(values, value_set=pa.array(list(column.categories), pa.string()))
    _refuse_unknown(values.filter(pc.and_(pc.is_null(codes), pc.is_valid(values))), column)
    return np.asarray(pc.fill_null(codes, -1).to_numpy()).astype(np.int64)


def _read_labels(table: Arrow, column: Column) -> Bits:
    lists = table.column(column.name).combine_chunks()
    values = pc.cast(pc.list_flatten(lists), pa.string())
    codes = pc.index_in(values, value_set=pa.array(list(column.categories), pa.string()))
    _refuse_unknown(values.filter(pc.is_null(codes)), column)
    bits = np.zeros((table.num_rows, len(column.categories)), np.uint8)
    bits[np.asarray(pc.list_parent_indices(lists)), np.asarray(codes)] = 1
    return bits


def _refuse_unknown(unknown: Arrow, column: Column) -> None:
    if len(unknown):
        raise PopulationError(
            f"record table: '{unknown[0].as_py()}' is not a value of '{column.name}'; "
            f"it may be {', '.join(column.categories)}."
        )


def _band_edges(name: str, values: Floats) -> Floats:
    if name.startswith("age") and name.endswith("years"):
        return DECADE_EDGES
    known = values[~np.isnan(values)]
    return np.unique(np.quantile(known, np.arange(0.1, 1.0, 0.1))) if len(known) else np.empty(0)


def _blank_missing(values: NDArray[np.generic], codes: Ints) -> Floats:
    return np.where(codes < 0, np.nan, values.astype(np.float64))
