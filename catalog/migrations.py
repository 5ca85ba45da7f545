"""Ordered, recorded changes of the catalog's layout; the only place that runs DDL."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import duckdb

from catalog.columns import Table, View
from catalog.lake import quote
from catalog.tables import TABLES
from catalog.views import VIEWS
from synth.errors import CatalogError


@dataclass(frozen=True, slots=True)
class Migration:
    """One step. Its SQL is made from the tables and columns that were declared with ``since=number``."""

    number: int
    name: str

    @property
    def statements(self) -> tuple[str, ...]:
        """The statements of the step, in order."""
        return tuple(sql for table in TABLES for sql in _table_statements(table, self.number))


MIGRATIONS = (
    Migration(1, "first tables"),
    Migration(2, "references"),
    Migration(3, "scorecards"),
    Migration(4, "attributes of subjects"),
    Migration(5, "pairs of images"),
)
LATEST = MIGRATIONS[-1].number


def read_version(connection: duckdb.DuckDBPyConnection) -> int:
    """Return the catalog's version: the number of its last migration, 0 if none was applied."""
    try:
        row = connection.execute("SELECT coalesce(max(number), 0) FROM migrations").fetchone()
    except duckdb.CatalogException:  # there is no such table; to list them would load them all
        return 0
    return int(row[0]) if row else 0


def check_version(version: int) -> None:
    """Raise CatalogError if a catalog of this version cannot be read by this version of Cohortium."""
    if version > LATEST:
        raise CatalogError(f"made by a newer version of Cohortium: catalog {version}, this is {LATEST}; upgrade")
    if version < LATEST:
        state = "is not finished" if version == 0 else f"has the older version {version}, this is {LATEST}"
        raise CatalogError(
            f"the catalog {state}. Run 'cohortium build SPEC' or 'cohortium import PATH --name NAME': "
            "both bring it up to date."
        )


def apply_migrations(connection: duckdb.DuckDBPyConnection) -> int:
    """Bring the catalog to the latest version in one transaction; return how many migrations were applied.

    The caller holds the writer's lock. Raises CatalogError if the catalog is newer than this version.
    """
    version = read_version(connection)
    if version > LATEST:
        check_version(version)
    pending = [migration for migration in MIGRATIONS if migration.number > version]
    if not pending:
        return 0
    connection.execute("BEGIN")
    try:
        for migration in pending:
            _apply_migration(connection, migration)
        for statement in (sql for view in VIEWS for sql in _view_statements(view)):
            connection.execute(statement)
        connection.execute("COMMIT")
    except duckdb.Error:
        connection.rollback()
        raise
    return len(pending)


def _apply_migration(connection: duckdb.DuckDBPyConnection, migration: Migration) -> None:
    for statement in migration.statements:
        connection.execute(statement)
    digest = hashlib.sha256(";\n".join(migration.statements).encode()).hexdigest()
    connection.execute("INSERT INTO migrations VALUES (?, ?, ?, now())", [migration.number, migration.name, digest])


def _table_statements(table: Table, number: int) -> list[str]:
    statements = []
    columns = [column for column in table.columns if column.since == number]
    if table.since == number:
        body = ", ".join(f'"{column.name}" {column.type}' for column in columns)
        statements.append(f"CREATE TABLE {table.name} ({body})")
        statements.append(f"COMMENT ON TABLE {table.name} IS {quote(table.description)}")
    else:
        statements.extend(f'ALTER TABLE {table.name} ADD COLUMN "{c.name}" {c.type}' for c in columns)
    statements.extend(f'COMMENT ON COLUMN {table.name}."{c.name}" IS {quote(c.description)}' for c in columns)
    return statements


def _view_statements(view: View) -> list[str]:
    return [
        f"CREATE OR REPLACE VIEW {view.name} AS {view.query}",
        f"COMMENT ON VIEW {view.name} IS {quote(view.description)}",
    ]
