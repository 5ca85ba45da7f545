"""Checks that a query only reads, and holds its result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from synth.errors import CatalogError, ReadOnlyError

if TYPE_CHECKING:
    import pandas as pd  # takes as long to import as all else here; Arrow does it when a frame is asked for

TABLE_FUNCTIONS = frozenset(
    {"range", "generate_series", "unnest", "repeat", "json_each", "json_tree", "duckdb_tables", "duckdb_columns",
     "duckdb_views", "duckdb_functions", "duckdb_types", "duckdb_keywords", "snapshots", "current_snapshot",
     "ducklake_snapshots", "table_changes", "table_insertions"}
)  # fmt: skip
ALLOWED = "Only one SELECT statement (also WITH, FROM, VALUES, DESCRIBE, SHOW, SUMMARIZE) may be run here."


class QueryResult:
    """The result of a query, held as an Arrow table."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self._table.column_names)

    def arrow(self) -> pa.Table:
        """Return the result as an Arrow table."""
        return self._table

    def df(self) -> pd.DataFrame:
        """Return the result as a pandas data frame."""
        frame: pd.DataFrame = self._table.to_pandas()
        return frame

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the result as tuples of Python values."""
        return list(zip(*(column.to_pylist() for column in self._table.columns), strict=True))

    def dicts(self) -> list[dict[str, Any]]:
        """Return the result as one mapping a row, column name to Python value."""
        rows: list[dict[str, Any]] = self._table.to_pylist()
        return rows

    def scalar(self) -> Any:
        """Return the first value of the first row; raises CatalogError if the result is empty."""
        if not self._table.num_rows:
            raise CatalogError("the query returned no row, so there is no single value.")
        return self._table.column(0)[0].as_py()

    def __len__(self) -> int:
        return int(self._table.num_rows)


def run_query(connection: duckdb.DuckDBPyConnection, query: str, params: Any = None) -> QueryResult:
    """Return the result of a query that passed check_read_only; whole DuckDB HUGEINTs come back as 64-bit integers."""
    table = connection.execute(query, params).to_arrow_table()
    return QueryResult(_narrow_integers(table))


def _narrow_integers(table: pa.Table) -> pa.Table:
    """Return ``table`` with decimal(38, 0) columns (sums of integers) as int64 where all values fit."""
    for index, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type) and field.type.scale == 0 and field.type.precision == 38:
            values = table.column(index).to_pylist()
            if all(value is None or abs(value) < Decimal(2) ** 63 for value in values):
                column = pa.array([None if value is None else int(value) for value in values], pa.int64())
                table = table.set_column(index, field.name, column)
    return table


def check_read_only(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Raise ReadOnlyError unless ``query`` is one statement that reads; CatalogError if it is not SQL."""
    try:
        statements = connection.extract_statements(query)
    except duckdb.Error as error:
        raise CatalogError(f"the query cannot be read as SQL: {error}") from error
    kinds = [str(statement.type).rpartition(".")[2] for statement in statements]
    if kinds != ["SELECT"]:
        given = " and ".join(kinds) if kinds else "nothing"
        raise ReadOnlyError(f"the query holds {given}. {ALLOWED} Nothing was changed.")
    answer = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchone()
    tree = json.loads(answer[0]) if answer else {"error": True, "error_message": "no parse tree"}
    if tree.get("error"):  # PRAGMA, and PIVOT over unlisted values, are parsed as SELECT but are more than that
        raise ReadOnlyError(f"the query is more than a SELECT ({tree.get('error_message')}). {ALLOWED}")
    for name in sorted(set(_table_functions(tree))):
        if name.lower() not in TABLE_FUNCTIONS:
            allowed = ", ".join(sorted(TABLE_FUNCTIONS))
            raise ReadOnlyError(f"the table function '{name}' may not be used here. Allowed are: {allowed}.")


def _table_functions(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if node.get("type") == "TABLE_FUNCTION":
            yield str(node["function"].get("function_name"))
        for value in node.values():
            yield from _table_functions(value)
    elif isinstance(node, list):
        for value in node:
            yield from _table_functions(value)
