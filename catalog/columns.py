"""What a table, a view and a column of the catalog are.

``since`` is the number of the migration that brings a table or column. Tables are append-only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One column: name, DuckDB type, description, and the migration that adds it."""

    name: str
    type: str
    description: str
    since: int = 1


@dataclass(frozen=True, slots=True)
class Table:
    """One append-only table."""

    name: str
    description: str
    columns: tuple[Column, ...]
    since: int = 1


@dataclass(frozen=True, slots=True)
class View:
    """One view. ``columns`` repeats what the columns mean, because DuckLake keeps no comments on view columns."""

    name: str
    description: str
    query: str
    columns: tuple[Column, ...]


def list_columns(text: str, since: int = 1) -> tuple[Column, ...]:
    """Return the columns written one a line as ``name | type | description``."""
    rows = [line.split("|") for line in text.strip().splitlines()]
    return tuple(Column(name.strip(), type_.strip(), description.strip(), since) for name, type_, description in rows)
