"""Reading the catalog: SQL, images with verified pixels, previews, scans and subjects."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb

from catalog.home import Home, resolve_home
from catalog.lake import ALIAS, explain_failure, explain_failures, open_read_only
from catalog.migrations import check_version, read_version
from catalog.query import QueryResult, check_read_only, run_query
from catalog.records import ShardRecord, StoredImage
from catalog.reference_reader import Reference, read_reference_shards
from catalog.rows import scan_from_row, subject_from_rows
from catalog.stored import ShardFile, read_stored_image
from synth.errors import CatalogError, ReadOnlyError, suggest_nearest
from synth.nouns import Scan, Subject

BATCH_IMAGES = 256  # image rows looked up by one query
_IMAGE_ROWS = """
    SELECT i.*, s.years_since_first, s.age_years, s.brain_ml, s.ventricle_ml, s.lesion_ml, s.engine, s.engine_version,
           s.manufacturer, s.manufacturer_model, s.field_strength_t, s.parameters_json, s.attributes_json,
           p.subject_index, p.age_years AS age_first_visit_years, p.sex, p.diagnosis, p.intracranial_ml,
           p.design_weight, p.visits, p.attributes_json AS subject_attributes_json
    FROM images AS i
    LEFT JOIN scans AS s ON s.scan_id = i.scan_id
    LEFT JOIN subjects AS p ON p.subject_id = i.subject_id
    WHERE i.image_id IN (SELECT unnest(CAST(? AS VARCHAR[])))
"""
_VISITS = """
    SELECT DISTINCT visit, years_since_first, age_years, brain_ml, ventricle_ml, lesion_ml, attributes_json
    FROM scans WHERE subject_id = ? ORDER BY visit
"""
_PLACES = "image_id, shard_id, row_group, row_in_group"


class Catalog:
    """A read-only view of the catalog that always shows the latest snapshot; safe to use from several threads."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._connection = open_read_only(home)
        self._local = threading.local()
        self._files: dict[str, ShardRecord] = {}
        try:
            with explain_failures(home):
                check_version(read_version(self._connection))
        except CatalogError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the catalog cannot be used afterwards."""
        self._connection.close()

    @property
    def snapshot_id(self) -> int:
        """The number of the catalog's latest snapshot."""
        return int(self._run(f"SELECT id FROM {ALIAS}.current_snapshot() AS s(id)").scalar())

    def sql(self, query: str, params: Sequence[Any] | dict[str, Any] | None = None) -> QueryResult:
        """Return the result of one SELECT statement; ``params`` fill ``?`` or ``$name``.

        Raises ReadOnlyError for anything that is not only reading, CatalogError if the query is wrong.
        """
        check_read_only(self._cursor(), query)
        try:
            return run_query(self._cursor(), query, params)
        except (duckdb.ProgrammingError, duckdb.DataError) as error:
            raise CatalogError(f"the query failed: {error}") from error
        except duckdb.PermissionException as error:
            raise ReadOnlyError(f"only the catalog's own tables may be read here: {error}") from error
        except duckdb.Error as error:
            raise explain_failure(self.home, error) from error

    def tables(self) -> list[dict[str, Any]]:
        """Return table_name, column_name (null: the table itself), type and description of everything stored."""
        return self._run("SELECT * FROM descriptions").dicts()

    def image(self, image_id: str) -> StoredImage:
        """Return one image, verified; raises CatalogError if unknown, DamagedShardError if its bytes have changed."""
        return next(self.images([image_id]))

    def images(self, image_ids: Iterable[str]) -> Iterator[StoredImage]:
        """Yield images in the order given, each verified; at most one row group of pixels is in memory."""
        for rows in self._image_rows(image_ids):
            measurements = self._measurements([row["image_id"] for row in rows])
            file: ShardFile | None = None
            for row in rows:
                file = self._open_shard(row, file)
                yield read_stored_image(file, row, measurements.get(row["image_id"], []))

    def preview(self, image_id: str) -> bytes:
        """Return the small PNG of one image; raises as image() does."""
        return self.previews([image_id])[image_id]

    def previews(self, image_ids: Iterable[str]) -> dict[str, bytes]:
        """Return the small PNGs of several images by image_id; raises as image() does."""
        found = {}
        for batch in _batches(image_ids):
            file: ShardFile | None = None
            rows = self._found(
                batch, f"SELECT {_PLACES} FROM images WHERE image_id IN (SELECT unnest(CAST(? AS VARCHAR[])))"
            )
            for row in sorted(rows, key=lambda row: (row["shard_id"], row["row_group"], row["row_in_group"])):
                file = self._open_shard(row, file)
                found[row["image_id"]] = file.read_preview(row)
        return found

    def scan(self, image_id: str) -> Scan:
        """Return the scan an image was made from, with every parameter that is needed to make it again."""
        query = "SELECT s.* FROM scans AS s JOIN images AS i USING (scan_id) WHERE i.image_id = ?"
        rows = self._run(query, [image_id]).dicts()
        if not rows:
            raise self._unknown_image(image_id)
        return scan_from_row(rows[0])

    def subject(self, subject_id: str) -> Subject:
        """Return a subject with all visits; raises CatalogError if it is not in the catalog."""
        rows = self._run("SELECT * FROM subjects WHERE subject_id = ?", [subject_id]).dicts()
        if not rows:
            raise CatalogError(
                f"there is no subject '{subject_id}' in the catalog. List them: SELECT subject_id FROM subjects"
            )
        return subject_from_rows(rows[0], self._run(_VISITS, [subject_id]).dicts())

    def shards(self, cohort_id: str | None = None) -> list[ShardRecord]:
        """Return the registered shards of one cohort, or of all; raises CatalogError if the cohort is unknown."""
        known = [str(row[0]) for row in self._run("SELECT cohort_id FROM cohorts").rows()]
        if cohort_id is not None and cohort_id not in known:
            raise CatalogError(f"there is no cohort '{cohort_id}' in the catalog.{suggest_nearest(cohort_id, known)}")
        query = ("SELECT shard_id, cohort_id, path, sha256, bytes, subjects, images FROM shards "
                 "WHERE $1 IS NULL OR cohort_id = $1 ORDER BY cohort_id, path")  # fmt: skip
        return [ShardRecord(**row) for row in self._run(query, [cohort_id]).dicts()]

    def reference(self, name: str) -> Reference:
        """Return the reference called ``name`` (or with that id); raises CatalogError if there is none."""
        return Reference(self.home, self._run, name)

    def reference_shards(self) -> list[ShardRecord]:
        """Return the registered shards of all references."""
        return read_reference_shards(self._run)

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        """Return this thread's cursor."""
        cursor: duckdb.DuckDBPyConnection | None = getattr(self._local, "cursor", None)
        if cursor is None:
            with explain_failures(self.home):
                cursor = self._connection.cursor()
                cursor.execute(f"USE {ALIAS}")
            self._local.cursor = cursor
        return cursor

    def _run(self, query: str, params: Sequence[Any] | None = None) -> QueryResult:
        with explain_failures(self.home):
            return run_query(self._cursor(), query, params)

    def _found(self, image_ids: list[str], query: str) -> list[dict[str, Any]]:
        """Return the row of each image, in the order given; raises CatalogError for the first unknown one."""
        rows = {row["image_id"]: row for row in self._run(query, [image_ids]).dicts()}
        for image_id in image_ids:
            if image_id not in rows:
                raise self._unknown_image(image_id)
        return [rows[image_id] for image_id in image_ids]

    def _image_rows(self, image_ids: Iterable[str]) -> Iterator[list[dict[str, Any]]]:
        for batch in _batches(image_ids):
            yield self._found(batch, _IMAGE_ROWS)

    def _measurements(self, image_ids: list[str]) -> dict[str, list[dict[str, Any]]]:
        query = "SELECT * FROM measurements WHERE image_id IN (SELECT unnest(CAST(? AS VARCHAR[])))"
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self._run(query, [image_ids]).dicts():
            found.setdefault(row["image_id"], []).append(row)
        return found

    def _open_shard(self, row: dict[str, Any], file: ShardFile | None) -> ShardFile:
        """Return ``file`` if it is the shard of ``row``, else open that; records of shards are immutable and kept."""
        shard_id = row["shard_id"]
        if file is not None and file.record.shard_id == shard_id:
            return file
        if shard_id not in self._files:
            query = "SELECT shard_id, cohort_id, path, sha256, bytes, subjects, images FROM shards WHERE shard_id = ?"
            self._files[shard_id] = ShardRecord(**self._run(query, [shard_id]).dicts()[0])
        return ShardFile(self.home, self._files[shard_id])

    def _unknown_image(self, image_id: str) -> CatalogError:
        cohorts = [str(row[0]) for row in self._run("SELECT cohort_id FROM cohorts").rows()]
        cohort = next((name for name in cohorts if image_id.startswith(f"{name}-")), None)
        if cohort is None:
            hint = suggest_nearest(image_id, cohorts) or " List them: SELECT image_id FROM images"
            return CatalogError(f"there is no image '{image_id}': no such cohort in the catalog.{hint}")
        prefix = image_id[: len(cohort) + len("-s0000000")]
        query = "SELECT image_id FROM images WHERE cohort_id = ? AND starts_with(image_id, ?) ORDER BY 1 LIMIT 50"
        near = [str(row[0]) for row in self._run(query, [cohort, prefix]).rows()]
        hint = (
            suggest_nearest(image_id, near) or f" List them: SELECT image_id FROM images WHERE cohort_id = '{cohort}'"
        )
        return CatalogError(f"there is no image '{image_id}' in the catalog.{hint}")


def _batches(image_ids: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(image_ids)
    while batch := list(islice(remaining, BATCH_IMAGES)):
        yield batch


def open_catalog(home: Home | Path | str | None = None) -> Catalog:
    """Return the catalog for reading: of ``home``, else of COHORTIUM_HOME, else of ./cohortium-data.

    Raises CatalogError if there is none or it is of another version, BusyError if it stays locked.
    """
    return Catalog(resolve_home(home))
