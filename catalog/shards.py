"""Shards: images of consecutive subjects streamed into one immutable Parquet file.

A shard is written under a temporary name, fsynced and renamed to ``<shard_id>.<first 16 digits of SHA-256>.parquet``.
The name therefore proves that the file is complete and undamaged, and equal content gives equal bytes and name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.home import LONGEST_ID, Home, check_name, resolve_home
from catalog.proved_files import HashingSink, hash_file, read_proved, remove_abandoned_in, write_hashed
from catalog.records import DamagedShard, ShardRecord
from catalog.rows import EncodedMasks, choose_schema, image_row
from synth.errors import CatalogError
from synth.nouns import Image, ShardPlan, Subject

ROW_GROUP_BYTES = 4 << 20  # a reader of one image reads its whole row group
ROW_GROUP_IMAGES = 32
_BLOBS = ("preview", "pixels", "masks.list.element.data")
_WITH_STATISTICS = ("image_id", "cohort_id", "subject_id", "scan_id", "shard_id", "kind", "visit", "subject_index")
_DICTIONARY = ("cohort_id", "subject_id", "shard_id", "kind", "status", "dtype", "intensity_unit", "sex", "diagnosis",
               "engine", "engine_version", "manufacturer", "manufacturer_model", "subject_manufacturer",
               "subject_manufacturer_model")  # fmt: skip


def write_shard(
    home: Home | Path | str | None, plan: ShardPlan, subjects: Sequence[Subject], images: Iterable[Image]
) -> ShardRecord:
    """Write the shard of ``plan`` and return its record; at most one row group of images is in memory.

    ``subjects`` are those of the plan. ``images`` come ordered by subject and visit; within a visit they are stored
    sorted by kind. Raises CatalogError if they do not match the plan, StorageError if the disk refuses; either way
    the temporary file is removed. An existing file of the same content is replaced by itself.
    """
    home = resolve_home(home)
    folder = home.cohort_folder(plan.cohort_id)
    path, sink, count = write_hashed(folder, plan.shard_id, lambda sink: _write_images(sink, plan, subjects, images))
    digest, size = sink.digest.hexdigest(), sink.bytes
    return ShardRecord(plan.shard_id, plan.cohort_id, home.relative(path), digest, size, plan.subjects, count)


def _write_images(sink: HashingSink, plan: ShardPlan, subjects: Sequence[Subject], images: Iterable[Image]) -> int:
    """Write all images and the footer; return the number of images."""
    rows = _ordered_rows(plan, _index_subjects(plan, subjects), images)
    schema = choose_schema(subjects)
    writer = _open_writer(sink, plan, schema)
    count, finished = 0, False
    try:
        for number, group in enumerate(_row_groups(rows)):
            placed = [{**row, "row_group": number, "row_in_group": place} for place, row in enumerate(group)]
            writer.write_table(pa.Table.from_pylist(placed, schema=schema), row_group_size=len(placed))
            count += len(placed)
        finished = True
    finally:
        sink.discarding = not finished
        writer.close()
    return count


def _index_subjects(plan: ShardPlan, subjects: Sequence[Subject]) -> dict[str, Subject]:
    expected = list(range(plan.first_subject, plan.first_subject + plan.subjects))
    given = [subject.subject_index for subject in subjects]
    if given != expected or any(subject.cohort_id != plan.cohort_id for subject in subjects):
        raise CatalogError(
            f"shard '{plan.shard_id}' is planned for subjects {plan.first_subject} to {expected[-1]} of cohort "
            f"'{plan.cohort_id}', in order; got {len(given)} others."
        )
    return {subject.subject_id: subject for subject in subjects}


def _open_writer(sink: HashingSink, plan: ShardPlan, schema: Any) -> pq.ParquetWriter:
    metadata = {
        "cohortium.synthetic": "YES",
        "cohortium.notice": "Synthetic data made by Cohortium; no real person is shown.",
        "cohortium.cohort_id": plan.cohort_id,
        "cohortium.shard_id": plan.shard_id,
        "cohortium.first_subject": str(plan.first_subject),
        "cohortium.subjects": str(plan.subjects),
    }
    writer = pq.ParquetWriter(
        pa.PythonFile(sink, mode="w"),
        schema,
        compression={leaf: "none" if leaf in _BLOBS else "zstd" for leaf in leaf_names(schema)},
        use_dictionary=list(_DICTIONARY),  # type: ignore[arg-type]  # the stubs know only bool
        write_statistics=list(_WITH_STATISTICS),
        write_page_checksum=True,
        store_schema=False,
    )
    writer.add_key_value_metadata(metadata)
    return writer


def column_names(home: Home, record: ShardRecord) -> list[str]:
    """Return the columns of a shard; raises OSError if it cannot be read."""
    return list(pq.read_schema(home.resolve_below(record.path)).names)


def leaf_names(layout: Any) -> list[str]:
    """Return the Parquet path of every leaf column of an Arrow schema."""
    out = pa.BufferOutputStream()
    pq.write_table(layout.empty_table(), out)
    schema = pq.ParquetFile(pa.BufferReader(out.getvalue())).schema
    return [schema.column(i).path for i in range(len(schema))]


def _ordered_rows(plan: ShardPlan, subjects: dict[str, Subject], images: Iterable[Image]) -> Iterator[dict[str, Any]]:
    """Yield the rows by subject, visit and kind; raises CatalogError for doubles, disorder and missing subjects."""
    seen: set[str] = set()
    last, imaged = (-1, -1), set()
    for (subject_id, visit), group in groupby(images, key=lambda image: (image.scan.subject_id, image.scan.visit)):
        subject = subjects.get(subject_id)
        if subject is None:
            raise CatalogError(f"subject '{subject_id}' is not in shard '{plan.shard_id}'.")
        if (subject.subject_index, visit) <= last:
            raise CatalogError(f"images of shard '{plan.shard_id}' must come ordered by subject and visit.")
        last = (subject.subject_index, visit)
        imaged.add(subject_id)
        encoded: EncodedMasks = {}
        rows = sorted(
            (image_row(plan, subject, image, encoded) for image in group),
            key=lambda row: (row["kind"], row["image_id"]),
        )
        for row in rows:
            if row["image_id"] in seen:
                raise CatalogError(f"image '{row['image_id']}' was given twice to shard '{plan.shard_id}'.")
            seen.add(row["image_id"])
            yield row
    if len(imaged) != len(subjects):
        missing = min(set(subjects) - imaged)
        raise CatalogError(f"shard '{plan.shard_id}' has no image of subject '{missing}'.")


def _row_groups(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield rows in groups that end at ROW_GROUP_BYTES of encoded pixels or ROW_GROUP_IMAGES images."""
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        group.append(row)
        size += len(row["pixels"]) + sum(len(mask["data"]) for mask in row["masks"])
        if size >= ROW_GROUP_BYTES or len(group) == ROW_GROUP_IMAGES:
            yield group
            group, size = [], 0
    if group:
        yield group


def find_finished_shards(home: Home | Path | str | None, plans: Iterable[ShardPlan]) -> dict[str, ShardRecord]:
    """Return the records of the plans whose shard already stands complete and undamaged on disk, by shard_id.

    Every candidate is hashed against the SHA-256 in its name (about 1 GB/s), so damaged ones are left out.
    """
    home = resolve_home(home)
    found = {}
    for plan in plans:
        folder = home.cohort_folder(plan.cohort_id)
        candidates = folder.glob(f"{check_name(plan.shard_id, 'shard_id', LONGEST_ID)}.*.parquet")
        records = [record for path in sorted(candidates) if (record := _read_record(home, plan, path))]
        if records:
            found[plan.shard_id] = records[0]
    return found


def _read_record(home: Home, plan: ShardPlan, path: Path) -> ShardRecord | None:
    """Return the record of a shard file, or None if it is damaged or was made for another plan."""
    proved = read_proved(path)
    if proved is None:
        return None
    digest, size, footer = proved
    facts = (plan.cohort_id, plan.shard_id, str(plan.first_subject), str(plan.subjects))
    keys = ("cohort_id", "shard_id", "first_subject", "subjects")
    stored = footer.metadata or {}
    if any(stored.get(f"cohortium.{key}".encode()) != fact.encode() for key, fact in zip(keys, facts, strict=True)):
        return None
    return ShardRecord(plan.shard_id, plan.cohort_id, home.relative(path), digest, size, plan.subjects, footer.num_rows)


def damaged_shards(home: Home | Path | str | None, records: Iterable[ShardRecord]) -> list[DamagedShard]:
    """Return which of the recorded shards are missing or differ from their SHA-256, each with the reason.

    Rendering such a shard again and calling write_shard puts the same bytes back under the same name.
    """
    home = resolve_home(home)
    return [damage for record in records if (damage := check_shard(home, record))]


def check_shard(home: Home, record: ShardRecord) -> DamagedShard | None:
    """Return what is wrong with one recorded shard, or None; the whole file is hashed."""
    path = home.resolve_below(record.path)
    try:
        size, digest = path.stat().st_size, hash_file(path)
    except FileNotFoundError:
        return DamagedShard(record.shard_id, record.path, "the file is missing")
    except OSError as error:
        return DamagedShard(record.shard_id, record.path, f"the file cannot be read: {error}")
    if size != record.bytes:
        return DamagedShard(record.shard_id, record.path, f"the file has {size} bytes instead of {record.bytes}")
    if digest != record.sha256:
        return DamagedShard(record.shard_id, record.path, f"the SHA-256 is {digest} instead of {record.sha256}")
    return None


def remove_abandoned(home: Home | Path | str | None, cohort_id: str) -> int:
    """Delete temporary files of a cohort whose writer has died; return how many. Living writers keep theirs.

    The caller sees to it that no build of the cohort begins meanwhile: a writer shows its life just after it has
    created its file.
    """
    return remove_abandoned_in(resolve_home(home).cohort_folder(cohort_id))
