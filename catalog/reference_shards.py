"""Shards of references: real images and records streamed into immutable Parquet files, which an import can go on from.

A shard covers the items ``first_item`` to ``next_item`` of its source, those that were refused included, and its footer
says so. An import that died therefore finds its finished shards and begins where they end.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.codec import encode_array, hash_array
from catalog.home import Home, resolve_home
from catalog.proved_files import HashingSink, read_proved, write_hashed
from catalog.records import ReferenceShard
from catalog.reference_tables import REFERENCE_PIXELS
from catalog.rows import arrow_types, dump_json
from catalog.shards import ROW_GROUP_BYTES, leaf_names
from synth.errors import CatalogError
from synth.nouns import Attribute, AttributeValue, ReferenceImage, RefusedItem

SHARD_BYTES = 32 << 20  # of encoded pixels
SHARD_ITEMS = 20_000
ROW_GROUP_ITEMS = 2_000  # fewer where there are pixels: a reader of one image reads its whole row group
ROW_GROUP_IMAGES = 32
_ATTRIBUTE = pa.struct(
    [("name", pa.string()), ("kind", pa.string()), ("number", pa.float64()), ("text", pa.string()),
     ("labels", pa.list_(pa.string()))]
)  # fmt: skip
SCHEMA: Any = pa.schema(
    [pa.field(name, kind) for name, kind in arrow_types(REFERENCE_PIXELS, {"attributes": pa.list_(_ATTRIBUTE)})]
)
_DICTIONARY = ["reference_id", "patient_id", "split", "axes", "dtype", "shard_id", "attributes.list.element.name",
               "attributes.list.element.kind", "attributes.list.element.text"]  # fmt: skip


def shard_name(reference_id: str, first_item: int) -> str:
    """Return the id of the shard that begins at ``first_item``."""
    return f"{reference_id}-p{first_item:09d}"


def write_reference_shard(
    home: Home | Path | str | None,
    reference_id: str,
    first_item: int,
    kinds: dict[str, Attribute],
    items: Iterator[ReferenceImage | RefusedItem],
) -> ReferenceShard:
    """Write one shard from ``items``, taking no more of them than it holds; memory stays at one row group.

    ``items`` come in order from ``first_item`` on, none left out. Raises CatalogError if they do not, or hold what
    cannot be stored, StorageError if the disk refuses; what the iterator raises is passed on. Then nothing is left.
    """
    home = resolve_home(home)
    shard_id = shard_name(reference_id, first_item)
    filler = _Filler(reference_id, shard_id, first_item, kinds)
    path, sink, _ = write_hashed(home.reference_folder(reference_id), shard_id, lambda sink: filler.fill(sink, items))
    return ReferenceShard(
        shard_id, reference_id, home.relative(path), sink.digest.hexdigest(), sink.bytes, first_item, filler.next_item,
        filler.images, tuple(filler.refused),
    )  # fmt: skip


class _Filler:
    """Turns items into the rows of one shard and counts them."""

    def __init__(self, reference_id: str, shard_id: str, first_item: int, kinds: dict[str, Attribute]) -> None:
        self.reference_id, self.shard_id, self.kinds = reference_id, shard_id, kinds
        self.first_item = self.next_item = first_item
        self.images = 0
        self.refused: list[RefusedItem] = []

    def fill(self, sink: HashingSink, items: Iterator[ReferenceImage | RefusedItem]) -> None:
        writer = _open_writer(sink)
        finished = False
        try:
            for number, group in enumerate(self._groups(items)):
                placed = [{**row, "row_group": number, "row_in_group": place} for place, row in enumerate(group)]
                writer.write_table(pa.Table.from_pylist(placed, schema=SCHEMA), row_group_size=len(placed))
                self.images += len(placed)
            writer.add_key_value_metadata(self._footer())
            finished = True
        finally:
            sink.discarding = not finished
            writer.close()

    def _groups(self, items: Iterator[ReferenceImage | RefusedItem]) -> Iterator[list[dict[str, Any]]]:
        group: list[dict[str, Any]] = []
        size = total = 0
        for taken, item in enumerate(items, start=1):
            if item.item != self.next_item:
                raise CatalogError(f"item {self.next_item} of '{self.reference_id}' must come next, got {item.item}.")
            if isinstance(item, RefusedItem):
                self.next_item += item.items
                self.refused.append(item)
            else:
                self.next_item += 1
                row = reference_row(self.reference_id, self.shard_id, item, self.kinds)
                group.append(row)
                size += len(row["pixels"] or b"")
            if size >= ROW_GROUP_BYTES or len(group) >= (ROW_GROUP_IMAGES if size else ROW_GROUP_ITEMS):
                yield group
                group, total, size = [], total + size, 0
            if total >= SHARD_BYTES or taken >= SHARD_ITEMS:
                break
        if group:
            yield group

    def _footer(self) -> dict[str, str]:
        refused = [[item.item, item.items, item.name, item.reason] for item in self.refused]
        return {
            "cohortium.synthetic": "NO",
            "cohortium.notice": "Real data of real persons, for comparison only; never to be released.",
            "cohortium.reference_id": self.reference_id,
            "cohortium.shard_id": self.shard_id,
            "cohortium.first_item": str(self.first_item),
            "cohortium.next_item": str(self.next_item),
            "cohortium.refused": json.dumps(refused),
        }


def _open_writer(sink: HashingSink) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        pa.PythonFile(sink, mode="w"),
        SCHEMA,
        compression={leaf: "none" if leaf == "pixels" else "zstd" for leaf in leaf_names(SCHEMA)},
        use_dictionary=_DICTIONARY,  # type: ignore[arg-type]  # the stubs know only bool
        write_statistics=["reference_id", "item", "split"],
        write_page_checksum=True,
        store_schema=False,
    )


def reference_row(
    reference_id: str, shard_id: str, image: ReferenceImage, kinds: dict[str, Attribute]
) -> dict[str, Any]:
    """Return the row of one image without its place; raises CatalogError if it cannot be stored."""
    row: dict[str, Any] = {
        "image_id": f"{reference_id}-i{image.item:08d}",
        "reference_id": reference_id,
        "item": image.item,
        "name": image.name,
        "patient_id": image.patient_id,
        "visit_order": None if image.order is None else float(image.order),
        "split": image.split,
        "shard_id": shard_id,
        "attributes": [_attribute(kinds, name, value) for name, value in sorted(image.attributes.items())
                       if value is not None],
        **_pixel_columns(image),
    }  # fmt: skip
    return {**row, "content_sha256": _hash_content(row)}


def _pixel_columns(image: ReferenceImage) -> dict[str, Any]:
    if image.pixels is None:
        return dict.fromkeys(
            ("axes", "dtype", "shape", "spacing_mm", "affine", "intensity_scale", "pixels_sha256", "pixels")
        )
    in_space = len(image.axes.replace("c", ""))
    if image.pixels.size == 0 or len(image.axes) != image.pixels.ndim:
        raise CatalogError(f"image '{image.name}' must have pixels and a letter in axes for each of its axes.")
    if image.spacing_mm is not None and len(image.spacing_mm) != in_space:
        raise CatalogError(f"image '{image.name}' must have a spacing for each of its {in_space} axes in space.")
    return {
        "axes": image.axes,
        "dtype": image.pixels.dtype.name,
        "shape": list(image.pixels.shape),
        "spacing_mm": None if image.spacing_mm is None else [float(mm) for mm in image.spacing_mm],
        "affine": None if image.affine is None else [float(value) for value in image.affine],
        "intensity_scale": float(image.intensity_scale),
        "pixels_sha256": hash_array(image.pixels),
        "pixels": encode_array(image.pixels),
    }


def _attribute(kinds: dict[str, Attribute], name: str, value: AttributeValue) -> dict[str, Any]:
    """Return a value as the struct that is stored; raises CatalogError if it is not of the declared kind."""
    kind = kinds[name].kind if name in kinds else None
    row: dict[str, Any] = {"name": name, "kind": kind, "number": None, "text": None, "labels": None}
    if kind == "categorical" and isinstance(value, str):
        return {**row, "text": value}
    if kind == "set" and isinstance(value, tuple):
        return {**row, "labels": sorted(set(value))}
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if is_number and (kind == "continuous" or (kind == "integer" and float(value).is_integer())):  # type: ignore[arg-type]
        return {**row, "number": float(value)}  # type: ignore[arg-type]
    raise CatalogError(f"attribute '{name}' is declared as {kind}, but has the value {value!r}.")


def _hash_content(row: dict[str, Any]) -> str:
    """Return the SHA-256 of all that a record says, whatever reference and shard it is stored in."""
    places = ("image_id", "reference_id", "shard_id", "pixels")
    return hashlib.sha256(dump_json({k: v for k, v in row.items() if k not in places}).encode()).hexdigest()


def find_reference_shards(home: Home | Path | str | None, reference_id: str) -> dict[int, ReferenceShard]:
    """Return the finished and undamaged shards of a reference by their first item; each file is hashed."""
    home = resolve_home(home)
    files = sorted(home.reference_folder(reference_id).glob(f"{reference_id}-p*.*.parquet"))
    found = [shard for path in files if (shard := _read_shard(home, reference_id, path)) is not None]
    return {shard.first_item: shard for shard in found}


def _read_shard(home: Home, reference_id: str, path: Path) -> ReferenceShard | None:
    proved = read_proved(path)
    if proved is None:
        return None
    digest, size, footer = proved
    stored = {key.decode(): value.decode() for key, value in (footer.metadata or {}).items()}
    if stored.get("cohortium.reference_id") != reference_id:
        return None
    refused = tuple(RefusedItem(item, name, reason, items)
                    for item, items, name, reason in json.loads(stored["cohortium.refused"]))  # fmt: skip
    first, after = int(stored["cohortium.first_item"]), int(stored["cohortium.next_item"])
    return ReferenceShard(
        stored["cohortium.shard_id"], reference_id, home.relative(path), digest, size, first, after, footer.num_rows,
        refused,
    )  # fmt: skip


def chain_shards(shards: Iterable[ReferenceShard], items: int) -> list[ReferenceShard]:
    """Return the shards in order; raises CatalogError unless they cover the items 0 to ``items`` without a gap."""
    ordered = sorted(shards, key=lambda shard: shard.first_item)
    cursor = 0
    for shard in ordered:
        if shard.first_item != cursor:
            raise CatalogError(f"no shard holds item {cursor}; the next begins at {shard.first_item}. Import again.")
        cursor = shard.next_item
    if cursor != items:
        raise CatalogError(f"the shards end at item {cursor} of {items}. Run the import again; it continues there.")
    return ordered
