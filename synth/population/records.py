"""From a real table to a record table: columns are cleaned, rows put in order by patient, and attributes described."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from synth.errors import PopulationError, suggest_nearest
from synth.population.cleaning import Arrow, Cleaner, Cleaning, Rule
from synth.population.schema import PATIENT, VISIT, Column, Kind, Schema

pc: Any = pyarrow.compute
RESERVED = (PATIENT, VISIT, "visits", "place", "subject_index", "design_weight")
MIN_PATIENTS = 30
KINDS: tuple[Kind, ...] = ("categorical", "integer", "continuous", "set")
_OUTSIDE = ("missing", "drop")


@dataclass(frozen=True, slots=True)
class Records:
    """A record table (see synth.population.schema) with its schema and what cleaning did."""

    table: Arrow
    schema: Schema
    cleaning: tuple[Cleaning, ...] = ()
    rows_in: int = 0

    @property
    def patients(self) -> int:
        """The number of patients."""
        return int(pc.max(self.table[PATIENT]).as_py()) + 1 if self.table.num_rows else 0


def prepare_records(
    table: Arrow,
    patient: str | None = None,
    order: str | None = None,
    rules: Mapping[str, Rule] | None = None,
    ignore: Iterable[str] = (),
) -> Records:
    """Return the record table in ``table``; ``patient`` names who rows belong to, ``order`` what sorts their visits.

    Without ``patient`` each row is a person of its own. Raises PopulationError, naming the column and the remedy, if
    there is nothing to learn from a column or it cannot be read.
    """
    rules = dict(rules or {})
    _check_names(table, patient, order, rules, ignore)
    cleaner = Cleaner(table, rules)
    names = [name for name in table.column_names if name not in {patient, order, *ignore}]
    if order is not None and order not in set(ignore) and not _is_rank(table, patient, order):
        names.append(order)
    for name in names:
        if name in RESERVED:
            raise PopulationError(
                f"column '{name}' has a name that drawn tables need for themselves ({', '.join(RESERVED)}); rename it, "
                f"for example '{name}_given', or leave it out (ignore '{name}')."
            )
    if not names:
        raise PopulationError("the table has no column left to learn from; ignore fewer columns.")
    columns = {name: cleaner.read(name) for name in names}
    keep = np.flatnonzero(cleaner.keep)
    if len(keep) < table.num_rows:
        columns = {name: column.take(pa.array(keep)) for name, column in columns.items()}
    people = _number_patients(table, patient, keep)
    placed: NDArray[np.int64] = np.lexsort((_order_values(table, order, keep), people))
    people = np.asarray(np.unique(people[placed], return_inverse=True)[1], dtype=np.int64)
    if len(people) == 0 or int(people[-1]) + 1 < MIN_PATIENTS:
        count = int(people[-1]) + 1 if len(people) else 0
        raise PopulationError(
            f"the table has {len(keep)} usable rows of {count} patients; at least {MIN_PATIENTS} patients are needed, "
            "or the model would describe persons and not a population. Give a larger table or relax the rules."
        )
    starts = np.flatnonzero(np.r_[True, np.diff(people) > 0])
    visit = np.arange(len(people)) - np.repeat(starts, np.diff(np.r_[starts, len(people)]))
    made = {name: column.take(pa.array(placed)) for name, column in columns.items()}
    schema = Schema(
        tuple(_describe(name, made[name], people, starts) for name in names), repeated=len(starts) < len(people)
    )
    arrays = {PATIENT: pa.array(people, pa.int64()), VISIT: pa.array(visit, pa.int32()), **made}
    return Records(pa.table(arrays), schema, tuple(cleaner.changes), table.num_rows)


def _check_names(
    table: Arrow, patient: str | None, order: str | None, rules: Mapping[str, Rule], ignore: Iterable[str]
) -> None:
    if table.num_rows < 2:
        raise PopulationError(f"the table has {table.num_rows} rows; a population is learned from many. Give another.")
    given: dict[str, list[str | None]] = {
        "patient": [patient], "order": [order], "rules": list(rules), "ignore": list(ignore)
    }  # fmt: skip
    for option, names in given.items():
        for name in names:
            if name is not None and name not in table.column_names:
                hint = suggest_nearest(name, table.column_names)
                raise PopulationError(
                    f"{option}: the table has no column '{name}'.{hint} It has: {', '.join(table.column_names)}."
                )
    if order is not None and patient is None:
        raise PopulationError(f"order '{order}' sorts the visits of a patient; name the patient's column too.")
    for name, rule in rules.items():
        if rule.kind not in (None, *KINDS):
            raise PopulationError(f"rules.{name}.kind: '{rule.kind}' is not known; use one of {', '.join(KINDS)}.")
        if rule.outside not in _OUTSIDE:
            raise PopulationError(f"rules.{name}.outside: '{rule.outside}' is not known; use {' or '.join(_OUTSIDE)}.")


def _order_values(table: Arrow, order: str | None, keep: NDArray[np.int64]) -> NDArray[np.int64]:
    if order is None:
        return np.arange(len(keep))
    ranked = pc.rank(table[order].combine_chunks(), "ascending", tiebreaker="dense")
    values: NDArray[np.int64] = ranked.to_numpy().astype(np.int64)[keep]
    return values


def _number_patients(table: Arrow, patient: str | None, keep: NDArray[np.int64]) -> NDArray[np.int64]:
    if patient is None:
        return np.arange(len(keep))
    column = table[patient].combine_chunks()
    if column.null_count:
        raise PopulationError(f"column '{patient}' names the patient, but is missing in {column.null_count} rows.")
    codes: NDArray[np.int64] = column.dictionary_encode().indices.to_numpy().astype(np.int64)[keep]
    return codes


def _is_rank(table: Arrow, patient: str | None, order: str) -> bool:
    """Return whether ``order`` only counts the rows of a patient: 0, 1, 2 ... or 1, 2, 3 ..."""
    column = table[order].combine_chunks()
    if not pa.types.is_integer(column.type) or column.null_count:
        return False
    everyone = np.arange(table.num_rows)
    people, values = _number_patients(table, patient, everyone), column.to_numpy().astype(np.int64)
    placed = np.lexsort((values, people))
    people, values = people[placed], values[placed]
    starts = np.flatnonzero(np.r_[True, np.diff(people) > 0])
    rank = everyone - np.repeat(starts, np.diff(np.r_[starts, len(people)]))
    return bool((values - rank == values[0]).all()) and values[0] in (0, 1)


def _describe(name: str, values: Arrow, people: NDArray[np.int64], starts: NDArray[np.int64]) -> Column:
    """Return the attribute in ``values``, rows of a patient together; raises PopulationError if it never varies."""
    missing = values.null_count > 0
    if pa.types.is_list(values.type):
        labels = tuple(sorted(pc.unique(values.flatten()).to_pylist()))
        return Column(name, "set", labels, missing=missing)
    codes = pc.fill_null(values.dictionary_encode().indices, -1).to_numpy(zero_copy_only=False)
    if len(np.unique(codes)) == 1:
        raise PopulationError(
            f"column '{name}' is '{values[0].as_py()}' in every row, so there is nothing to learn; "
            f"leave it out (ignore '{name}')."
        )
    static = bool((codes == codes[starts][people]).all())
    if pa.types.is_string(values.type):
        distinct = tuple(sorted(pc.unique(values).drop_null().to_pylist()))
        return Column(name, "categorical", distinct, missing=missing, static=static)
    kind: Kind = "integer" if pa.types.is_integer(values.type) else "continuous"
    low, high = float(pc.min(values).as_py()), float(pc.max(values).as_py())
    return Column(name, kind, (), low, high, missing=missing, static=static)
