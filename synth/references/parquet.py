"""Parquet with a column of encoded pictures (plain bytes, or {bytes, path} as in Hugging Face datasets)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synth.nouns import RefusedItem
from synth.references.columns import TableHints, find_columns
from synth.references.items import BegunItem, FoundItem, Step
from synth.references.pictures import axes_of, decode_picture, looks_like_picture
from synth.references.plan import BadItemError, Budget, Options, ReferenceError, ReferencePlan, show_size
from synth.references.tables import (
    Rows,
    count_patients,
    name_twice,
    note_patients,
    open_parquet,
    read_parquet_columns,
    read_rows,
)

BATCH = 16  # pictures unpacked at once


class ParquetImages:
    """One Parquet file whose rows carry their pictures."""

    name = "parquet"
    description = "One Parquet file with a column of PNG, JPEG, TIFF or BMP pictures and columns of attributes."

    def detect(self, path: Path, budget: Budget) -> str | None:
        """Return why ``path`` is a source of this kind, or None."""
        if not path.is_file() or path.suffix != ".parquet":
            return None
        column = _find_image_column(open_parquet(path, budget))
        return f"column '{column}' holds pictures" if column else None

    def describe(self, path: Path, options: Options, budget: Budget) -> ReferencePlan:
        """Return how the file will be read."""
        file = open_parquet(path, budget)
        image = _check_image(path, file, options.image) if options.image else _find_image_column(file)
        if image is None:
            raise ReferenceError(f"'{path.name}' has no column of pictures; name it with --image.")
        binary = {field.name for field in file.schema_arrow if _holds_bytes(field.type)}
        kept = [name for name in file.schema_arrow.names if name not in binary]
        table = read_parquet_columns(path, file, kept, budget)
        columns = find_columns(table, TableHints(options.patient, wanted=options.attributes))
        extra = sorted(binary - {image})
        notes = (*columns.notes, *(f"column '{name}' is left out: it holds bytes" for name in extra))
        return ReferencePlan(
            adapter=self.name,
            reason=f"column '{image}' holds pictures",
            items=file.metadata.num_rows,
            has_pixels=True,
            files=(path.name,),
            image_column=image,
            name_column=columns.name,
            patient_column=columns.patient,
            order_column=columns.order,
            patients=count_patients(table, columns.patient),
            attributes=columns.attributes,
            notes=(*notes, *note_patients(columns.patient)),
        )

    def read(self, path: Path, plan: ReferencePlan, budget: Budget, first: int = 0) -> Iterator[Step]:
        """Yield the rows from ``first`` on; a row group that cannot be read is refused as a whole."""
        file = open_parquet(path, budget)
        picked = [plan.name_column, plan.patient_column, plan.order_column, *(a.column for a in plan.attributes)]
        names = list(dict.fromkeys(name for name in picked if name))
        table = read_parquet_columns(path, file, names, budget)
        rows = read_rows(table, plan.name_column, plan.patient_column, plan.order_column, plan.attributes)
        if not names:
            rows = Rows([f"row {row + 1}" for row in range(plan.items)], None, None, {})
        yield from _read_groups(file, plan, rows, budget, first)


def _holds_bytes(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _find_image_column(file: pq.ParquetFile) -> str | None:
    for field in file.schema_arrow:
        if _holds_bytes(field.type):
            for batch in _first_batches(file, field.name):
                values = [v for v in _values(batch.column(0)) if v is not None and v.is_valid]
                if values:
                    return field.name if looks_like_picture(bytes(values[0].as_buffer()[:16])) else None
    return None


def _first_batches(file: pq.ParquetFile, column: str) -> Iterator[Any]:
    try:
        for number, batch in enumerate(file.iter_batches(1, columns=[column], use_threads=False)):
            if number == 100:
                return
            yield batch
    except (OSError, pa.ArrowException, ValueError) as error:
        raise ReferenceError(f"column '{column}' cannot be read: {str(error)[:300]}") from error


def _check_image(path: Path, file: pq.ParquetFile, name: str) -> str:
    names = [field.name for field in file.schema_arrow if _holds_bytes(field.type)]
    if name not in names:
        raise ReferenceError(
            f"--image: '{path.name}' has no column '{name}' of bytes. There are: {', '.join(names) or 'none'}."
        )
    return name


def _values(column: Any) -> Iterator[Any]:
    """Yield the scalars of the bytes in a column."""
    if pa.types.is_struct(column.type):
        column = column.field("bytes")
    yield from column


def _read_groups(file: pq.ParquetFile, plan: ReferencePlan, rows: Rows, budget: Budget, first: int) -> Iterator[Step]:
    twice = name_twice(rows.names)
    start = 0
    for group in range(file.metadata.num_row_groups):
        after = start + file.metadata.row_group(group).num_rows
        if after > first:
            yield from _read_group(file, plan, rows, budget, (group, start, after, first), twice)
        start = after


def _read_group(
    file: pq.ParquetFile, plan: ReferencePlan, rows: Rows, budget: Budget, place: tuple[int, int, int, int],
    twice: set[str],
) -> Iterator[Step]:  # fmt: skip
    group, row, after, first = place
    try:
        for batch in file.iter_batches(BATCH, row_groups=[group], columns=[plan.image_column], use_threads=False):
            for value in _values(batch.column(0)):
                if first <= row < after:
                    name = rows.names[row]
                    yield BegunItem(row, name or f"row {row + 1}")
                    yield _read_picture(row, value, rows, budget, name in twice)
                row += 1
    except (OSError, pa.ArrowException, ValueError, MemoryError) as error:
        row = max(row, first)
        reason = f"rows {row + 1} to {after} cannot be read: {str(error)[:200] or type(error).__name__}"
        yield RefusedItem(row, f"row group {group}", reason, after - row)
        return
    row = max(row, first)
    if row < after:
        yield RefusedItem(row, f"row group {group}", f"rows {row + 1} to {after} are missing", after - row)


def _read_picture(row: int, value: Any, rows: Rows, budget: Budget, doubled: bool) -> Step:
    name = rows.names[row]
    try:
        patient = check_identity(rows, row, doubled)
        if not value.is_valid:
            raise BadItemError("it has no picture")
        data = value.as_buffer()
        if data.size > budget.file_bytes:
            raise BadItemError(f"it has {show_size(data.size)}; {show_size(budget.file_bytes)} are allowed")
        pixels = decode_picture(data.to_pybytes(), budget)
    except BadItemError as error:
        return RefusedItem(row, name or f"row {row + 1}", str(error))
    except MemoryError:
        return RefusedItem(row, name or f"row {row + 1}", "it needs more memory than allowed (--memory-gb)")
    order = rows.orders[row] if rows.orders else None
    return FoundItem(row, name or "", patient, order, None, rows.values(row), pixels, axes_of(pixels))


def check_identity(rows: Rows, row: int, doubled: bool) -> str | None:
    """Return the patient of a row (None: unknown); raises BadItemError if the row's name or patient is missing."""
    if rows.names[row] is None:
        raise BadItemError("it has no name")
    if doubled:
        raise BadItemError("several rows have its name")
    if rows.patients is not None and rows.patients[row] is None:
        raise BadItemError("its patient is missing")
    return rows.patients[row] if rows.patients is not None else None
