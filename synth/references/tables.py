"""Tables of records: CSV, TSV and Parquet within budgets, and their values."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from synth.references.limits import read_bytes
from synth.references.plan import MAX_TEXT, BadItemError, Budget, PlannedAttribute, ReferenceError, show_size

pc: Any = pyarrow.compute
Arrow = Any  # tables and arrays of Arrow, whose stubs know too little of compute functions
TABLE_SUFFIXES = (".csv", ".tsv")
MISSING = ("", "n/a", "N/A", "NA", "na", "NaN", "nan", "null", "NULL", "None", "none.", "#N/A", "?", "missing")
SKIPPED = "cohortium.skipped"


def read_text_table(path: Path, budget: Budget) -> Arrow:
    """Return a CSV or TSV as a table of strings, missing values as nulls; raises ReferenceError if it is none."""
    try:
        data = read_bytes(path, budget.table_bytes)
        first = data[: data.find(b"\n")].decode("utf-8-sig").rstrip("\r\n") if b"\n" in data else ""
    except BadItemError as error:
        raise ReferenceError(f"table '{path.name}': {error}.") from error
    except UnicodeDecodeError as error:
        raise ReferenceError(f"table '{path.name}' is not UTF-8 text: {error}. Save it as UTF-8.") from error
    delimiter = "\t" if path.suffix == ".tsv" else max((",", ";", "\t"), key=first.count)
    skipped: list[int] = []

    def skip_row(row: Any) -> Literal["skip", "error"]:
        skipped.append(int(row.number or 0))
        return "skip"

    parse = pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip_row)
    try:
        header = pa_csv.open_csv(
            io.BytesIO(data), pa_csv.ReadOptions(use_threads=False), parse,
            pa_csv.ConvertOptions(column_types={}, include_columns=None),
        ).schema.names  # fmt: skip
        _check_header(path, header, budget)
        convert = pa_csv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.string()), null_values=list(MISSING), strings_can_be_null=True
        )
        table = pa_csv.read_csv(io.BytesIO(data), pa_csv.ReadOptions(use_threads=False), parse, convert)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise ReferenceError(f"table '{path.name}' cannot be read: {str(error)[:300]}") from error
    _check_rows(path, table.num_rows, budget)
    return table.replace_schema_metadata({SKIPPED: _describe_skipped(skipped)}) if skipped else table


def _describe_skipped(numbers: list[int]) -> str:
    lines = sorted(set(numbers))
    shown = ", ".join(map(str, lines[:10])) + (" ..." if len(lines) > 10 else "")
    return f"{len(lines)} rows do not have as many cells as the header and are left out (lines {shown})"


def _check_header(path: Path, names: Sequence[str], budget: Budget) -> None:
    if len(names) > budget.columns:
        raise ReferenceError(f"table '{path.name}' has {len(names)} columns; {budget.columns} are allowed.")
    double = sorted({name for name in names if list(names).count(name) > 1})
    if double:
        raise ReferenceError(f"table '{path.name}' has several columns called '{double[0]}'; rename all but one.")
    long = [name for name in names if len(name) > MAX_TEXT]
    if long:
        raise ReferenceError(f"table '{path.name}' has a column name of {len(long[0])} characters.")


def _check_rows(path: Path, rows: int, budget: Budget) -> None:
    if rows > budget.rows:
        raise ReferenceError(f"table '{path.name}' has {rows} rows; {budget.rows} are allowed. Import a part of it.")


def open_parquet(path: Path, budget: Budget) -> pq.ParquetFile:
    """Return a Parquet file whose footer keeps to the budget; raises ReferenceError otherwise."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        names = file.schema_arrow.names
    except (OSError, pa.ArrowException, ValueError) as error:
        raise ReferenceError(
            f"'{path.name}' cannot be read as Parquet: {str(error)[:300]} Copy it again; it may be cut off."
        ) from error
    _check_header(path, names, budget)
    _check_rows(path, file.metadata.num_rows, budget)
    return file


def read_parquet_columns(path: Path, file: pq.ParquetFile, names: Sequence[str], budget: Budget) -> Arrow:
    """Return some columns of a Parquet file; their size is checked in the footer first."""
    size = sum(
        file.metadata.row_group(group).column(place).total_uncompressed_size
        for group in range(file.metadata.num_row_groups)
        for place in range(file.metadata.num_columns)
        if file.metadata.row_group(group).column(place).path_in_schema.split(".")[0] in names
    )
    if size > budget.table_bytes:
        raise ReferenceError(
            f"the columns of '{path.name}' take {show_size(size)}; {show_size(budget.table_bytes)} are allowed. "
            "Choose fewer with --attributes."
        )
    try:
        return file.read(columns=list(names), use_threads=False)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise ReferenceError(f"the columns of '{path.name}' cannot be read: {str(error)[:300]}") from error


def read_values(table: Arrow, attribute: PlannedAttribute) -> list[Any]:
    """Return an attribute's values: str, int, float, sorted list of str, or None where it is missing."""
    column = table[attribute.column]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if attribute.kind in ("integer", "continuous"):
        return _read_numbers(column, attribute)
    if attribute.kind == "set":
        if attribute.separator:
            column = pc.split_pattern(column, attribute.separator)
        values = column.to_pylist()
        return [None if v is None else sorted({_text(x) for x in v if x is not None and x.strip()}) for v in values]
    if pa.types.is_boolean(column.type):
        return [None if value is None else str(value).lower() for value in column.to_pylist()]
    texts = column.cast(pa.string()).to_pylist()
    return [None if value is None or value.strip() in MISSING else _text(value) for value in texts]


def _read_numbers(column: Arrow, attribute: PlannedAttribute) -> list[Any]:
    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    numbers = (pc.utf8_trim_whitespace(column) if text else column).cast(pa.float64(), safe=False).to_pylist()
    whole = attribute.kind == "integer"
    return [None if n is None or not math.isfinite(n) else int(n) if whole else n for n in numbers]


def read_names(column: Arrow) -> list[str | None]:
    """Return identifiers as text; None where they are missing or empty."""
    kind = column.type
    if pa.types.is_floating(kind):
        values = [None if v is None or not math.isfinite(v) else f"{v:.17g}" for v in column.to_pylist()]
    else:
        values = column.cast(pa.string()).to_pylist()
    return [None if v is None or not v.strip() else _text(v) for v in values]


def _text(value: str) -> str:
    return value.strip()[:MAX_TEXT]


@dataclass(frozen=True, slots=True)
class Rows:
    """A table as lists, ready to be given out row by row."""

    names: list[str | None]
    patients: list[str | None] | None
    orders: list[float | None] | None
    attributes: dict[str, list[Any]]

    def __len__(self) -> int:
        return len(self.names)

    def values(self, row: int) -> dict[str, Any]:
        """Return the attributes of one row."""
        return {name: column[row] for name, column in self.attributes.items()}


def read_rows(
    table: Arrow, name: str | None, patient: str | None, order: str | None, attributes: Sequence[PlannedAttribute]
) -> Rows:
    """Return the planned columns of a table as lists; rows without a name are called by their number, from 1."""
    numbered: list[str | None] = [f"row {row + 1}" for row in range(table.num_rows)]
    orders = _read_numbers(table[order], _ORDER) if order else None
    return Rows(
        read_names(table[name]) if name else numbered,
        read_names(table[patient]) if patient else None,
        orders,
        {attribute.name: read_values(table, attribute) for attribute in attributes},
    )


_ORDER = PlannedAttribute(name="order", kind="continuous")


def name_twice(names: Sequence[str | None]) -> set[str]:
    """Return the names that several rows have."""
    seen: set[str] = set()
    twice: set[str] = set()
    for name in names:
        if name is not None:
            (twice if name in seen else seen).add(name)
    return twice


def count_patients(table: Arrow, patient: str | None) -> int | None:
    """Return the number of patients in a table, or None if they are unknown."""
    return None if patient is None else len(pc.unique(table[patient]).drop_null())


def note_patients(patient: str | None) -> tuple[str, ...]:
    """Return what to say where no column names the patients."""
    return () if patient else ("patients are unknown: each record counts as a patient of its own (see --patient)",)
