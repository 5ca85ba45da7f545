"""Registering references: real data with their shards in one transaction, once, marked as real and never released."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from catalog.home import Home, check_name, resolve_home
from catalog.lake import ALIAS, LOCK_TIMEOUT_S, quote
from catalog.records import ReferenceRow, ReferenceShard, ReferenceState
from catalog.reference_shards import chain_shards
from catalog.reference_tables import REFERENCE_IMAGES
from catalog.rows import dump_json
from catalog.writer import find_snapshot, open_writer, transaction
from synth.errors import CatalogError, DamagedShardError
from synth.nouns import RefusedItem

UNKNOWN = "unknown"
_VISIT = "CAST(row_number() OVER (PARTITION BY patient_id ORDER BY visit_order NULLS LAST, item) - 1 AS INTEGER)"
_ATTRIBUTES = """
    SELECT image_id, reference_id, a.name, a.kind, a.number, a.text, a.labels
    FROM (SELECT image_id, reference_id, item, unnest(attributes) AS a FROM {source}) ORDER BY item
"""
_COLUMN = """
    SELECT list(DISTINCT text ORDER BY text) FILTER (WHERE text IS NOT NULL), min(number), max(number), count(*)
    FROM reference_attributes WHERE reference_id = $1 AND name = $2
"""
_LABELS = """
    SELECT list(DISTINCT label ORDER BY label) FROM (
        SELECT unnest(labels) AS label FROM reference_attributes WHERE reference_id = $1 AND name = $2)
"""
_STATE = """
    SELECT reference_id, name, fingerprint, images, patients, licence, source, notes
    FROM reference_status WHERE name = ?
"""


def commit_reference(
    home: Home | Path | str | None,
    row: ReferenceRow,
    shards: Sequence[ReferenceShard],
    lock_timeout_s: float = LOCK_TIMEOUT_S,
) -> ReferenceState:
    """Register a reference with all its shards in one transaction; return how it is registered.

    The same reference again changes nothing but, if they are new, its licence and source. Raises CatalogError if
    another reference has its name, the shards do not cover every item, no image is left or a patient is in two splits;
    DamagedShardError if a file is missing or torn; BusyError and StorageError as commit_cohort does. Then nothing is
    registered.
    """
    home = resolve_home(home)
    check_name(row.reference_id, "reference_id")
    with open_writer(home, lock_timeout_s) as connection:
        known = _find_state(connection, row.name)
        if known is None:
            ordered = chain_shards(shards, row.items)
            paths = _check_files(home, row.reference_id, ordered)
            key = {"reference_id": row.reference_id}
            with transaction(home, connection, f"reference {row.reference_id}", key):
                _insert_rows(connection, row, ordered, paths)
                _insert_set(connection, row, ordered)
                _insert_terms(connection, row.reference_id, 1, row.licence, row.source)
                _check_patients(connection, row.reference_id)
        elif known.reference_id != row.reference_id:
            raise CatalogError(describe_conflict(known, row.name))
        state = _find_state(connection, row.name)
        if state is None:
            raise CatalogError(f"reference '{row.name}' cannot be found although it was just registered.")
    if known is not None:
        return state_terms(home, row.name, row.licence, row.source)
    return state


def describe_conflict(known: ReferenceState, name: str) -> str:
    """Return the sentence for a name that another reference has."""
    return (
        f"the name '{name}' belongs to reference '{known.reference_id}' ({known.images} images of {known.patients} "
        "patients), which has other content or was read with other options. References never change: choose another "
        "--name."
    )


def find_reference(home: Home | Path | str | None, name: str) -> ReferenceState | None:
    """Return how the reference called ``name`` is registered, or None; creates the catalog if there is none."""
    home = resolve_home(home)
    with open_writer(home) as connection:
        return _find_state(connection, name)


def state_terms(home: Home | Path | str | None, name: str, licence: str, source: str) -> ReferenceState:
    """State licence and source of a reference anew unless they are unknown or as stated before; return its state."""
    home = resolve_home(home)
    with open_writer(home) as connection:
        known = _find_state(connection, name)
        if known is None:
            raise CatalogError(f"there is no reference '{name}' in the catalog.")
        licence = known.licence if licence == UNKNOWN else licence
        source = known.source if source == UNKNOWN else source
        if (licence, source) == (known.licence, known.source):
            return known
        query = "SELECT max(statement) FROM reference_terms WHERE reference_id = ?"
        statement = int(_fetch(connection, query, [known.reference_id])[0]) + 1
        key = {"reference_terms": f"{known.reference_id} {statement}"}
        with transaction(home, connection, f"terms of {known.reference_id}", key):
            _insert_terms(connection, known.reference_id, statement, licence, source)
        return _find_state(connection, name) or known


def _fetch(connection: duckdb.DuckDBPyConnection, query: str, parameters: list[Any]) -> tuple[Any, ...]:
    row = connection.execute(query, parameters).fetchone()
    return row if row is not None else ()


def _find_state(connection: duckdb.DuckDBPyConnection, name: str) -> ReferenceState | None:
    found = _fetch(connection, _STATE, [name])
    if not found:
        return None
    reference_id, name, fingerprint, images, patients, licence, source, notes = found
    splits = "SELECT split, count(*) FROM reference_images WHERE reference_id = ? GROUP BY split"
    counts = dict(connection.execute(splits, [reference_id]).fetchall())
    query = "SELECT item, name, reason, items FROM reference_refusals WHERE reference_id = ? ORDER BY item"
    refused = tuple(RefusedItem(*row) for row in connection.execute(query, [reference_id]).fetchall())
    return ReferenceState(
        reference_id, name, fingerprint, images, patients,
        {split: counts.get(split, 0) for split in ("train", "validation", "holdout")}, refused, licence, source,
        tuple(notes), find_snapshot(connection, {"reference_id": reference_id}),
    )  # fmt: skip


def _check_files(home: Home, reference_id: str, shards: list[ReferenceShard]) -> list[Path]:
    paths = [home.resolve_below(shard.path) for shard in shards]
    for shard, path in zip(shards, paths, strict=True):
        if shard.reference_id != reference_id or path.parent != home.reference_folder(reference_id):
            raise CatalogError(f"shard '{shard.path}' does not belong to reference '{reference_id}'.")
        if not path.is_file() or path.stat().st_size != shard.bytes:
            raise DamagedShardError(f"shard '{path}' is missing or torn. Run the import again; it writes it anew.")
    return paths


def _insert_rows(
    connection: duckdb.DuckDBPyConnection, row: ReferenceRow, shards: list[ReferenceShard], paths: list[Path]
) -> None:
    source = f"read_parquet([{', '.join(quote(str(path)) for path in paths)}])"
    columns = ", ".join(_VISIT if c.name == "visit" else c.name for c in REFERENCE_IMAGES.columns)
    connection.execute(f"INSERT INTO reference_images SELECT {columns} FROM {source} ORDER BY item")
    connection.execute("INSERT INTO reference_attributes" + _ATTRIBUTES.format(source=source))
    _insert_columns(
        connection, "reference_shards",
        [(s.shard_id, s.reference_id, s.path, s.sha256, s.bytes, s.first_item, s.next_item, s.images) for s in shards],
    )  # fmt: skip
    refused = [
        (row.reference_id, item.item, item.items, item.name, item.reason) for shard in shards for item in shard.refused
    ]
    _insert_columns(connection, "reference_refusals", refused)
    for shard, path in zip(shards, paths, strict=True):
        if shard.images:  # DuckLake has no use for an empty file
            connection.execute(f"CALL ducklake_add_data_files('{ALIAS}', 'reference_pixels', {quote(str(path))})")


def _insert_columns(connection: duckdb.DuckDBPyConnection, table: str, rows: list[tuple[Any, ...]]) -> None:
    """Insert rows by columns, which is faster than one by one."""
    if rows:
        columns = [list(column) for column in zip(*rows, strict=True)]
        types = ["VARCHAR[]" if isinstance(column[0], str) else "BIGINT[]" for column in columns]
        unnested = ", ".join(f"unnest(CAST(? AS {type_}))" for type_ in types)
        connection.execute(f"INSERT INTO {table} SELECT {unnested}", columns)


def _insert_set(connection: duckdb.DuckDBPyConnection, row: ReferenceRow, shards: list[ReferenceShard]) -> None:
    query = "SELECT count(*), count(DISTINCT image_id), count(DISTINCT patient_id) FROM reference_images"
    images, different, patients = _fetch(connection, f"{query} WHERE reference_id = ?", [row.reference_id])
    planned = sum(shard.images for shard in shards)
    refused = sum(item.items for shard in shards for item in shard.refused)
    if not images:
        raise CatalogError(f"no image or record of '{row.source_file}' is left, so there is nothing to register.")
    if not images == different == planned == row.items - refused:
        raise CatalogError(
            f"reference '{row.reference_id}' must have {row.items - refused} images, but its shards hold {images} "
            f"({different} different). Nothing was registered; remove its shards and import again."
        )
    for place, attribute in enumerate(row.attributes):
        texts, low, high, present = _fetch(connection, _COLUMN, [row.reference_id, attribute.name])
        if attribute.kind == "set":
            texts = _fetch(connection, _LABELS, [row.reference_id, attribute.name])[0]
        connection.execute(
            "INSERT INTO reference_columns VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [row.reference_id, place, attribute.name, attribute.kind, attribute.unit, attribute.description,
             texts or [], low, high, images - present],
        )  # fmt: skip
    connection.execute(
        "INSERT INTO reference_sets VALUES (?, ?, true, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, now())",
        [row.reference_id, row.name, row.adapter, row.source_file, row.source_sha256, row.request_hash,
         dump_json(row.request), _make_fingerprint(connection, row), images, patients, row.patients_known,
         row.has_pixels, refused, list(row.notes)],
    )  # fmt: skip


def _make_fingerprint(connection: duckdb.DuckDBPyConnection, row: ReferenceRow) -> str:
    """Return the SHA-256 of the attributes and of every record's own SHA-256 in order."""
    digest = hashlib.sha256()
    for attribute in row.attributes:
        digest.update(dump_json({"name": attribute.name, "kind": attribute.kind, "unit": attribute.unit}).encode())
    query = "SELECT content_sha256 FROM reference_images WHERE reference_id = ? ORDER BY item"
    for (content,) in connection.execute(query, [row.reference_id]).fetchall():
        digest.update(bytes.fromhex(content))
    return digest.hexdigest()


def _insert_terms(
    connection: duckdb.DuckDBPyConnection, reference_id: str, statement: int, licence: str, source: str
) -> None:
    connection.execute(
        "INSERT INTO reference_terms VALUES (?, ?, ?, ?, now())", [reference_id, statement, licence, source]
    )


def _check_patients(connection: duckdb.DuckDBPyConnection, reference_id: str) -> None:
    """Raise CatalogError, which undoes the transaction, if records of one patient are in two splits."""
    query = """SELECT patient_id, string_agg(DISTINCT split, ' and ') FROM reference_images WHERE reference_id = ?
               GROUP BY patient_id HAVING count(DISTINCT split) > 1 LIMIT 1"""
    found = _fetch(connection, query, [reference_id])
    if found:
        raise CatalogError(
            f"patient '{found[0]}' of '{reference_id}' would be in {found[1]}; all records of a patient must be in one "
            "split. Nothing was registered."
        )
