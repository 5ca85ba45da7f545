"""Query results as a table for people, or as CSV, JSON or Parquet for programs."""

from __future__ import annotations

import json
import os
from typing import TextIO

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from catalog.query import QueryResult
from synth.errors import SpecError, suggest_nearest

FORMATS = ("table", "csv", "json", "parquet")
_SHOWN_ROWS = 200


def check_format(name: str) -> None:
    """Raise SpecError if ``name`` is not an output format."""
    if name not in FORMATS:
        raise SpecError(
            f"--format '{name}' does not exist; choose from {', '.join(FORMATS)}.{suggest_nearest(name, FORMATS)}"
        )


def write_result(result: QueryResult, output: str, stream: TextIO) -> None:
    """Write ``result`` to ``stream`` as one of FORMATS. Parquet refuses a terminal: send it to a file."""
    if output == "table":
        _write_table(result, stream)
    elif output == "json":
        stream.write(json.dumps(result.dicts(), indent=2, default=_to_text) + "\n")
    elif output == "csv":
        pa_csv.write_csv(_flatten(result.arrow()), stream.buffer)  # type: ignore[attr-defined]
    elif stream.isatty():
        raise SpecError(
            "Parquet is not readable on a terminal; send it to a file: cohortium sql ... --format parquet > FILE"
        )
    else:
        pq.write_table(result.arrow(), stream.buffer)  # type: ignore[attr-defined]


def _to_text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _flatten(table: pa.Table) -> pa.Table:
    """Return ``table`` with lists, structs and bytes as JSON text, which CSV can hold."""
    columns = []
    for column in table.columns:
        if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
            values = column.to_pylist()
            column = pa.array([None if v is None else json.dumps(v, default=_to_text) for v in values], pa.string())
        columns.append(column)
    return pa.table(columns, names=table.column_names)


def _write_table(result: QueryResult, stream: TextIO) -> None:
    width = None if stream.isatty() else int(os.get_terminal_size().columns) if os.isatty(0) else 200
    table = Table(*result.columns)
    for row in result.rows()[:_SHOWN_ROWS]:
        table.add_row(*(_shorten(value) for value in row))
    console = Console(file=stream, width=width, highlight=False)
    console.print(table)
    if len(result) > _SHOWN_ROWS:
        console.print(f"{_SHOWN_ROWS} of {len(result)} rows are shown; --format csv gives all")


def _shorten(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
