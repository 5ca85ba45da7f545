"""The one writer: every change is a single transaction under the writer's lock, and repeating it changes nothing.

A process that dies at any moment leaves either the whole change or none of it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from catalog.cohort_tables import IMAGES, SCANS, SUBJECTS
from catalog.columns import Table
from catalog.home import Home, check_name, explain_refusals, resolve_home, sync_file, sync_folder
from catalog.lake import ALIAS, LOCK_TIMEOUT_S, lock_writer, open_read_write, quote
from catalog.migrations import apply_migrations
from catalog.records import CohortRow, ShardRecord
from catalog.rows import dump_json
from synth.errors import CatalogError, DamagedShardError

_SUBJECTS = {  # column of subjects -> where a shard has it, if not under the same name
    "age_years": "age_first_visit_years",
    "age_decade": "CAST(floor(age_first_visit_years / 10) * 10 AS INTEGER)",
    "manufacturer": "subject_manufacturer",
    "manufacturer_model": "subject_manufacturer_model",
    "field_strength_t": "subject_field_strength_t",
    "attributes_json": "subject_attributes_json",
}
_MEASUREMENTS = """
    SELECT image_id, cohort_id, m.name, m.unit, m.requested, m.measured, m.tolerance, m."within"
    FROM (SELECT image_id, cohort_id, unnest(measurements) AS m FROM {source})
"""
_COUNTS = {
    "images": "SELECT count(*) FROM images WHERE cohort_id = $1",
    "different image ids": "SELECT count(DISTINCT image_id) FROM images WHERE cohort_id = $1",
    "images with pixels": "SELECT count(*) FROM pixels WHERE cohort_id = $1",
    "subjects": "SELECT count(*) FROM subjects WHERE cohort_id = $1",
    "different subject ids": "SELECT count(DISTINCT subject_id) FROM subjects WHERE cohort_id = $1",
    "scans": "SELECT count(*) FROM scans WHERE cohort_id = $1",
    "different scan ids": "SELECT count(DISTINCT scan_id) FROM images WHERE cohort_id = $1",
}


def ensure_catalog(home: Home | Path | str | None = None) -> Home:
    """Create the catalog or bring it up to date; return its home.

    Raises StorageError if the folder cannot be written, CatalogError if the catalog is newer, BusyError if locked.
    """
    home = resolve_home(home)
    with open_writer(home):
        return home


@contextmanager
def open_writer(home: Home, lock_timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[duckdb.DuckDBPyConnection]:
    """Hold the writer's lock and yield a connection to a catalog that is up to date."""
    with lock_writer(home, lock_timeout_s), open_read_write(home) as connection:
        apply_migrations(connection)
        yield connection


@contextmanager
def transaction(
    home: Home, connection: duckdb.DuckDBPyConnection, message: str, key: Mapping[str, str]
) -> Iterator[None]:
    """Run the block as one transaction whose snapshot carries ``message`` and ``key``; any error undoes all of it.

    New data files are fsynced before the commit, because DuckDB does not do so.
    """
    started = time.time()
    connection.execute("BEGIN")
    committed = False
    try:
        yield
        connection.execute(
            f"CALL {ALIAS}.set_commit_message('cohortium', {quote(message)}, extra_info => {quote(dump_json(key))})"
        )
        _sync_new_files(home, started)
        connection.execute("COMMIT")
        committed = True
    finally:
        if not committed:
            _roll_back(connection)


def _roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    try:
        connection.rollback()
    except duckdb.TransactionException:
        return  # a failed COMMIT has already ended the transaction


def find_snapshot(connection: duckdb.DuckDBPyConnection, key: Mapping[str, str]) -> int:
    """Return the number of the snapshot that was committed with ``key``; raises CatalogError if there is none."""
    query = f"SELECT max(snapshot_id) FROM {ALIAS}.snapshots() WHERE commit_extra_info = ?"
    row = connection.execute(query, [dump_json(key)]).fetchone()
    if row is None or row[0] is None:
        raise CatalogError(f"the catalog has no snapshot for {dict(key)}.")
    return int(row[0])


def insert_rows(connection: duckdb.DuckDBPyConnection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows by columns, which is faster than one by one; a row has a value for every column of ``table``."""
    if rows:
        names = ", ".join(f'"{column.name}"' for column in table.columns)
        unnested = ", ".join(f"unnest(CAST(? AS {column.type}[]))" for column in table.columns)
        values = [[row[column.name] for row in rows] for column in table.columns]
        connection.execute(f"INSERT INTO {table.name} ({names}) SELECT {unnested}", values)


def commit_cohort(
    home: Home | Path | str | None,
    cohort: CohortRow,
    shards: Sequence[ShardRecord],
    lock_timeout_s: float = LOCK_TIMEOUT_S,
) -> int:
    """Register a cohort with all its shards in one transaction; return the number of its snapshot.

    A cohort that is registered already is left as it is. Raises CatalogError if the shards do not hold exactly the
    planned images and subjects, DamagedShardError if a file is missing or of another size, BusyError if the lock is
    held too long, StorageError if the disk refuses; then nothing is registered.
    """
    home = resolve_home(home)
    check_name(cohort.cohort_id, "cohort_id")
    key = {"cohort_id": cohort.cohort_id}
    with open_writer(home, lock_timeout_s) as connection:
        if not is_registered(connection, cohort.cohort_id):
            records = sorted(shards, key=lambda record: record.path)
            paths = _check_records(home, cohort, records)
            message = f"cohort {cohort.cohort_id}: {cohort.subjects} subjects, {cohort.images} images"
            with transaction(home, connection, message, key):
                _refuse_known_shards(connection, records)
                _insert_cohort(connection, cohort, records)
                _insert_rows(connection, paths)
                _check_counts(connection, cohort)
        return find_snapshot(connection, key)


def is_registered(connection: duckdb.DuckDBPyConnection, cohort_id: str) -> bool:
    """Return whether the cohort is in the catalog."""
    return bool(connection.execute("SELECT 1 FROM cohorts WHERE cohort_id = ?", [cohort_id]).fetchall())


def _check_records(home: Home, cohort: CohortRow, records: list[ShardRecord]) -> list[Path]:
    """Return the shards' files; raises CatalogError or DamagedShardError if they cannot make up the cohort."""
    for what, planned, found in (
        ("subjects", cohort.subjects, sum(record.subjects for record in records)),
        ("images", cohort.images, sum(record.images for record in records)),
        ("shards, each once", len(records), len({record.shard_id for record in records})),
    ):
        if planned != found:
            raise CatalogError(f"cohort '{cohort.cohort_id}' needs {planned} {what}; its shards hold {found}.")
    paths = []
    for record in records:
        path = home.resolve_below(record.path)
        if record.cohort_id != cohort.cohort_id or path.parent != home.cohort_folder(cohort.cohort_id):
            raise CatalogError(f"shard '{record.path}' does not belong to cohort '{cohort.cohort_id}'.")
        if not path.is_file() or path.stat().st_size != record.bytes:
            raise DamagedShardError(
                f"shard '{path}' is missing or torn. Run the build again; it renders what is missing."
            )
        paths.append(path)
    return paths


def _refuse_known_shards(connection: duckdb.DuckDBPyConnection, records: list[ShardRecord]) -> None:
    query = "SELECT shard_id FROM shards WHERE shard_id IN (SELECT unnest(CAST(? AS VARCHAR[])))"
    known = connection.execute(query, [[record.shard_id for record in records]]).fetchone()
    if known:  # DuckLake would accept the same file twice
        raise CatalogError(f"shard '{known[0]}' is already registered with another cohort; shard ids must be unique.")


def _insert_cohort(connection: duckdb.DuckDBPyConnection, cohort: CohortRow, records: list[ShardRecord]) -> None:
    connection.execute(
        "INSERT INTO cohorts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, now(), ?)",
        [
            cohort.cohort_id, cohort.name, cohort.spec_hash, cohort.images_hash, cohort.spec_json, cohort.engine,
            cohort.engine_version, cohort.population, cohort.population_version, cohort.subjects, cohort.images,
            len(records), dump_json(cohort.numeric_profile), cohort.mlflow_run_id,
        ],
    )  # fmt: skip
    columns = ("shard_id", "cohort_id", "path", "sha256", "bytes", "subjects", "images")
    lists = [[getattr(record, name) for record in records] for name in columns]
    types = ("VARCHAR", "VARCHAR", "VARCHAR", "VARCHAR", "BIGINT", "BIGINT", "BIGINT")
    unnested = ", ".join(f"unnest(CAST(? AS {type_}[]))" for type_ in types)
    connection.execute(f"INSERT INTO shards SELECT {unnested}", lists)


def _insert_rows(connection: duckdb.DuckDBPyConnection, paths: list[Path]) -> None:
    """Copy everything but the blobs from the shards into the tables, and register the shards as ``pixels``."""
    files = f"[{', '.join(quote(str(path)) for path in paths)}]"
    source = f"read_parquet({files})"
    present = set(pq.read_schema(paths[0]).names) if paths else set()  # all shards of a cohort have the same columns
    _copy_columns(connection, SUBJECTS, source, present, _SUBJECTS, "ORDER BY subject_index")
    _copy_columns(connection, SCANS, source, present)
    _copy_columns(connection, IMAGES, source, present, distinct=False)
    connection.execute("INSERT INTO measurements" + _MEASUREMENTS.format(source=source))
    connection.execute(f"CALL ducklake_add_data_files('{ALIAS}', 'pixels', {files}, allow_missing => true)")


def _copy_columns(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    source: str,
    present: set[str],
    named: Mapping[str, str] | None = None,
    ending: str = "",
    distinct: bool = True,
) -> None:
    """Copy the columns of ``table`` that the shards have; those of attributes are missing where there are none."""
    chosen = {column.name: (named or {}).get(column.name, column.name) for column in table.columns}
    chosen = {name: found for name, found in chosen.items() if not name.endswith("attributes_json") or found in present}
    names, values = ", ".join(chosen), ", ".join(chosen.values())
    connection.execute(
        f"INSERT INTO {table.name} ({names}) SELECT {'DISTINCT' if distinct else ''} {values} FROM {source} {ending}"
    )


def _check_counts(connection: duckdb.DuckDBPyConnection, cohort: CohortRow) -> None:
    """Raise CatalogError, which undoes the transaction, unless the tables hold exactly what was planned."""
    found = {}
    for what, query in _COUNTS.items():
        row = connection.execute(query, [cohort.cohort_id]).fetchone()
        found[what] = int(row[0]) if row else 0
    planned = dict.fromkeys(("images", "different image ids", "images with pixels"), cohort.images)
    planned |= dict.fromkeys(("subjects", "different subject ids"), cohort.subjects)
    planned["scans"] = found["different scan ids"]
    for what, number in planned.items():
        if found[what] != number:
            raise CatalogError(
                f"cohort '{cohort.cohort_id}' must have {number} {what}, but its shards hold {found[what]}. "
                "Nothing was registered; remove its shards and build again."
            )


def _sync_new_files(home: Home, since: float) -> None:
    """Fsync the Parquet files that DuckDB has written for tables since the time ``since``, and their folders."""
    tables = home.data / "main"
    with explain_refusals(tables):
        for file in tables.glob("*/*.parquet"):
            if file.stat().st_mtime >= since - 2.0:
                sync_file(file)
        for folder in (*(path for path in tables.iterdir() if path.is_dir()), tables, home.data):
            sync_folder(folder)


def record_event(
    home: Home | Path | str | None,
    kind: str,
    message: str,
    cohort_id: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> str:
    """Append an event and return its id. Raises BusyError or StorageError as commit_cohort does."""
    home = resolve_home(home)
    event_id = secrets.token_hex(8)
    with open_writer(home) as connection, transaction(home, connection, f"event {kind}", {"event_id": event_id}):
        connection.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, now(), ?)",
            [event_id, cohort_id, kind, message, dump_json(detail or {})],
        )
    return event_id
