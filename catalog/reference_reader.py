"""Reading a reference: its records as a typed table, and its images streamed with verified pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from catalog.home import Home
from catalog.query import QueryResult
from catalog.records import ShardRecord, StoredReferenceImage
from catalog.stored import ShardFile, decode_verified
from synth.errors import CatalogError, suggest_nearest
from synth.nouns import Attribute

REMEDY = "Run 'cohortium verify' to see all damage, and import the same source again to restore the shard."
SPLITS = ("train", "validation", "holdout")
BATCH_IMAGES = 256
_ARROW = {"categorical": pa.string(), "integer": pa.int64(), "continuous": pa.float64(), "set": pa.list_(pa.string())}
_STORED = {"categorical": "any_value(a.text)", "set": "any_value(a.labels)", "integer": "max(a.number)",
           "continuous": "max(a.number)"}  # fmt: skip
Run = Callable[[str, Sequence[Any]], QueryResult]


class Reference:
    """One registered reference. It is real data: it may train and judge, and is never released."""

    def __init__(self, home: Home, run: Run, name: str) -> None:
        self._home, self._run = home, run
        rows = run("SELECT * FROM reference_status WHERE name = $1 OR reference_id = $1", [name]).dicts()
        if not rows:
            known = [str(row[0]) for row in run("SELECT name FROM reference_sets ORDER BY name", []).rows()]
            hint = suggest_nearest(name, known) or f" Known: {', '.join(known) or 'none'}."
            raise CatalogError(
                f"there is no reference '{name}' in the catalog.{hint} Import it: cohortium import PATH --name {name}"
            )
        self.row: dict[str, Any] = rows[0]
        self.reference_id: str = self.row["reference_id"]
        columns = run("SELECT * FROM reference_columns WHERE reference_id = ? ORDER BY place", [self.reference_id])
        self.columns: list[dict[str, Any]] = columns.dicts()

    @property
    def name(self) -> str:
        """The name it was given."""
        return str(self.row["name"])

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of its content."""
        return str(self.row["fingerprint"])

    @property
    def schema(self) -> tuple[Attribute, ...]:
        """Its attributes with kind and unit; ``columns`` has their labels, bounds and missing counts too."""
        return tuple(Attribute(c["name"], c["kind"], c["unit"], c["description"]) for c in self.columns)

    def records(self, split: str | None = None) -> pa.Table:
        """Return one row a record, by patient and visit; of one split, or of all.

        Columns: image_id, name, patient_id, visit (int32), visit_order (double), split, then the attributes:
        categorical as string, integer as int64, continuous as double, set as list of strings; missing is null.
        """
        picked = [
            f"{_STORED[a.kind]} FILTER (a.name = ${place}) AS {_quote_name(a.name)}"
            for place, a in enumerate(self.schema, start=3)
        ]
        own = ", ".join(f"i.{name}" for name in ("image_id", "name", "patient_id", "visit", "visit_order", "split"))
        query = f"""
            SELECT {", ".join([own, *picked])} FROM reference_images AS i
            LEFT JOIN reference_attributes AS a ON a.image_id = i.image_id AND a.reference_id = $1
            WHERE i.reference_id = $1 AND ($2 IS NULL OR i.split = $2)
            GROUP BY {own} ORDER BY i.patient_id, i.visit
        """
        names = [attribute.name for attribute in self.schema]
        table = self._run(query, [self.reference_id, _check_split(split), *names]).arrow()
        for attribute in self.schema:
            place = table.schema.get_field_index(attribute.name)
            table = table.set_column(place, attribute.name, table.column(place).cast(_ARROW[attribute.kind]))
        return table

    def image_ids(self, split: str | None = None) -> list[str]:
        """Return the ids of the images that have pixels, in the order of the source."""
        query = """SELECT image_id FROM reference_images WHERE reference_id = $1 AND ($2 IS NULL OR split = $2)
                   AND pixels_sha256 IS NOT NULL ORDER BY item"""
        return [str(row[0]) for row in self._run(query, [self.reference_id, _check_split(split)]).rows()]

    def images(self, split: str | None = None) -> Iterator[StoredReferenceImage]:
        """Yield the images of one split, or of all, in the order of the source; memory stays at one row group.

        Raises CatalogError if the split does not exist, DamagedShardError if stored bytes have changed.
        """
        ids = self.image_ids(split)
        file: ShardFile | None = None
        for start in range(0, len(ids), BATCH_IMAGES):
            query = """SELECT i.*, s.path, s.sha256, s.bytes, s.images FROM reference_images AS i
                       JOIN reference_shards AS s ON s.shard_id = i.shard_id
                       WHERE i.image_id IN (SELECT unnest(CAST(? AS VARCHAR[]))) ORDER BY i.item"""
            for row in self._run(query, [ids[start : start + BATCH_IMAGES]]).dicts():
                place = {name: row.pop(name) for name in ("path", "sha256", "bytes", "images")}
                if file is None or file.record.shard_id != row["shard_id"]:
                    record = ShardRecord(row["shard_id"], self.reference_id, subjects=0, **place)
                    file = ShardFile(self._home, record, REMEDY)
                blob = file.read_row(row, ("pixels",))["pixels"].as_buffer()
                pixels = decode_verified(file, "pixels", blob, row["dtype"], row["shape"], row["pixels_sha256"])
                yield StoredReferenceImage(row["image_id"], pixels, row)


def _check_split(split: str | None) -> str | None:
    if split is not None and split not in SPLITS:
        raise CatalogError(
            f"there is no split '{split}'; use one of {', '.join(SPLITS)}.{suggest_nearest(split, SPLITS)}"
        )
    return split


def _quote_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def read_reference_shards(run: Run) -> list[ShardRecord]:
    """Return the shards of all references as records that can be verified."""
    query = """SELECT shard_id, reference_id AS cohort_id, path, sha256, bytes, 0 AS subjects, images
               FROM reference_shards ORDER BY reference_id, path"""
    return [ShardRecord(**row) for row in run(query, []).dicts()]
