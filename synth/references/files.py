"""Tables whose rows name picture files, folders of pictures, and tables of records alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from synth.nouns import RefusedItem
from synth.references.columns import TableColumns, TableHints, find_columns
from synth.references.items import BegunItem, FoundItem, Step
from synth.references.limits import list_files, read_bytes, resolve_inside
from synth.references.parquet import check_identity
from synth.references.pictures import SUFFIXES, axes_of, decode_picture
from synth.references.plan import BadItemError, Budget, Options, PlannedAttribute, ReferenceError, ReferencePlan
from synth.references.tables import (
    TABLE_SUFFIXES,
    Rows,
    count_patients,
    name_twice,
    note_patients,
    open_parquet,
    read_names,
    read_parquet_columns,
    read_rows,
    read_text_table,
)

Arrow = Any
_SAMPLE = 50  # rows that are tried before a column is taken for one of file names


class FileIndex:
    """Finds the file that a row names: by its path, else by its file name or stem if that is unique in the folder."""

    def __init__(self, names: list[str]) -> None:
        self.names = set(names)
        self._by_part: dict[str, list[str]] = {}
        for name in names:
            pure = PurePosixPath(name)
            for part in {pure.name, pure.stem}:
                self._by_part.setdefault(part, []).append(name)

    def find(self, value: str) -> str:
        """Return the relative name of the file; raises BadItemError if there is none or several fit.

        Names that lead elsewhere are returned as they are, for ``resolve_inside`` to refuse.
        """
        pure = PurePosixPath(value)
        plain = pure.as_posix()
        if plain in self.names or pure.is_absolute() or ".." in pure.parts or "\\" in value:
            return plain if plain in self.names else value
        fitting = self._by_part.get(value, [])
        if len(fitting) > 1:
            raise BadItemError(f"its name fits {len(fitting)} files: {', '.join(fitting[:3])}")
        if not fitting:
            raise BadItemError("there is no such file in the folder")
        return fitting[0]


class TableOfFiles:
    """A CSV, TSV or Parquet table: records alone, or records that name picture files beside the table."""

    name = "table"
    description = "One CSV, TSV or Parquet table of records, alone or with a column that names picture files beside it."

    def detect(self, path: Path, budget: Budget) -> str | None:
        """Return why ``path`` is a source of this kind, or None."""
        return "the file is a table" if path.is_file() and path.suffix in (*TABLE_SUFFIXES, ".parquet") else None

    def describe(self, path: Path, options: Options, budget: Budget) -> ReferencePlan:
        """Return how the table will be read."""
        table = _read_table(path, budget)
        files = _named_files(path.parent, table, options)
        return _plan_table(self.name, "the file is a table", path, table, options, FileIndex(files) if files else None)

    def read(self, path: Path, plan: ReferencePlan, budget: Budget, first: int = 0) -> Iterator[Step]:
        """Yield the rows from ``first`` on."""
        yield from _read_table_rows(path, path.parent, plan, budget, first)


class PictureFolder:
    """A folder of pictures, with the one CSV or TSV that stands in it, or without a table."""

    name = "folder"
    description = "A folder of PNG, JPEG, TIFF or BMP pictures, with one CSV or TSV in it that describes them, or none."

    def detect(self, path: Path, budget: Budget) -> str | None:
        """Return why ``path`` is a source of this kind, or None."""
        if not path.is_dir():
            return None
        count = len(_pictures(list_files(path, budget)))
        return f"the folder holds {count} pictures" if count else None

    def describe(self, path: Path, options: Options, budget: Budget) -> ReferencePlan:
        """Return how the folder will be read."""
        files = list_files(path, budget)
        pictures = _pictures(files)
        if not pictures:
            raise ReferenceError(f"'{path.name}' holds no PNG, JPEG, TIFF or BMP picture.")
        reason = f"the folder holds {len(pictures)} pictures"
        tables = [name for name in files if "/" not in name and name.lower().endswith(TABLE_SUFFIXES)]
        if len(tables) > 1:
            raise ReferenceError(
                f"'{path.name}' holds {len(tables)} tables ({', '.join(tables[:5])}). Import the one that "
                f"describes the pictures: cohortium import {path.name}/{tables[0]}"
            )
        if tables:
            table_path = resolve_inside(path, tables[0])
            table = _read_table(table_path, budget)
            return _plan_table(self.name, reason, table_path, table, options, FileIndex(pictures), required=True)
        return _plan_pictures(self.name, reason, pictures, options)

    def read(self, path: Path, plan: ReferencePlan, budget: Budget, first: int = 0) -> Iterator[Step]:
        """Yield the pictures from ``first`` on, in the order of the table, or of their names."""
        tables = [name for name in plan.files if name.lower().endswith(TABLE_SUFFIXES)]
        if tables:
            yield from _read_table_rows(resolve_inside(path, tables[0]), path, plan, budget, first)
            return
        rows = _rows_of_folders(list(plan.files), plan.attributes)
        index = FileIndex(list(plan.files))
        for item in range(first, plan.items):
            yield from read_file_item(path, item, plan.files[item], index, rows, budget, False)


def _pictures(files: list[str]) -> list[str]:
    return [name for name in files if name.lower().endswith(SUFFIXES)]


def _read_table(path: Path, budget: Budget) -> Arrow:
    if path.suffix != ".parquet":
        return read_text_table(path, budget)
    file = open_parquet(path, budget)
    names = [f.name for f in file.schema_arrow if not pa.types.is_binary(f.type) and not pa.types.is_struct(f.type)]
    return read_parquet_columns(path, file, names, budget)


def _named_files(folder: Path, table: Arrow, options: Options) -> list[str]:
    """Return the files that the image column of a table names as paths beside it; empty if they are no files."""
    columns = find_columns(table, TableHints(options.patient, options.image, ()))
    name = options.image or columns.name
    if name is None or table.num_rows == 0:
        return []
    if name not in table.column_names:
        raise ReferenceError(f"--image: there is no column '{name}'. There are: {', '.join(table.column_names)}.")
    values = list(dict.fromkeys(value for value in read_names(table[name]) if value))
    suffixed = [value for value in values if value.lower().endswith(SUFFIXES)]
    if options.image is None and not any(_exists(folder, value) for value in suffixed[:_SAMPLE]):
        return []
    return [value for value in suffixed if _exists(folder, value)] or suffixed[:1]


def _exists(folder: Path, value: str) -> bool:
    try:
        resolve_inside(folder, value)
    except BadItemError:
        return False
    return True


def _plan_table(
    adapter: str, reason: str, path: Path, table: Arrow, options: Options, index: FileIndex | None,
    required: bool = False,
) -> ReferencePlan:  # fmt: skip
    if table.num_rows == 0:
        raise ReferenceError(f"table '{path.name}' has no rows.")
    if options.image and options.image not in table.column_names:
        raise ReferenceError(
            f"--image: there is no column '{options.image}'. There are: {', '.join(table.column_names)}."
        )
    hints = TableHints(options.patient, options.image, options.attributes)
    if index is not None and hints.image is None:
        hints.image = _find_file_column(table, index)
        if hints.image is None and required:
            raise ReferenceError(
                f"no column of '{path.name}' names the pictures of the folder. Name it with --image, or import the "
                "table on its own."
            )
    columns = find_columns(table, hints)
    found, notes = _match_files(table, columns, index) if index is not None else ([], [])
    return ReferencePlan(
        adapter=adapter,
        reason=reason if index is not None else f"{reason} without pictures: a reference of records only",
        items=table.num_rows,
        has_pixels=index is not None,
        files=(path.name, *found),
        image_column=columns.name if index is not None else None,
        name_column=columns.name,
        patient_column=columns.patient,
        order_column=columns.order,
        patients=count_patients(table, columns.patient),
        attributes=columns.attributes,
        notes=(*columns.notes, *notes, *note_patients(columns.patient)),
    )


def _find_file_column(table: Arrow, index: FileIndex) -> str | None:
    """Return the column of text whose first values name the most files."""
    best, name = 0, None
    for column in table.column_names:
        if pa.types.is_string(table[column].type):
            values = [value for value in read_names(table[column].slice(0, _SAMPLE)) if value]
            hits = sum(_is_found(index, value) for value in values)
            if hits > best:
                best, name = hits, column
    return name


def _is_found(index: FileIndex, value: str) -> bool:
    try:
        return index.find(value) in index.names
    except BadItemError:
        return False


def _match_files(table: Arrow, columns: TableColumns, index: FileIndex) -> tuple[list[str], list[str]]:
    values = read_names(table[columns.name]) if columns.name else []
    found = sorted({index.find(value) for value in values if value and _is_found(index, value)})
    unnamed = len(index.names) - len(found)
    return found, [f"{unnamed} pictures are left out: the table does not name them"] if unnamed else []


def _read_table_rows(path: Path, folder: Path, plan: ReferencePlan, budget: Budget, first: int) -> Iterator[Step]:
    table = _read_table(path, budget)
    rows = read_rows(table, plan.name_column, plan.patient_column, plan.order_column, plan.attributes)
    twice = name_twice(rows.names)
    index = FileIndex([name for name in plan.files if name != path.name])
    for item in range(first, len(rows)):
        doubled = rows.names[item] in twice
        if plan.has_pixels:
            yield from read_file_item(folder, item, rows.names[item], index, rows, budget, doubled)
        else:
            yield _read_record(item, rows, doubled)


def _read_record(item: int, rows: Rows, doubled: bool) -> Step:
    name = rows.names[item]
    try:
        patient = check_identity(rows, item, doubled)
    except BadItemError as error:
        return RefusedItem(item, name or f"row {item + 1}", str(error))
    return FoundItem(item, name or "", patient, rows.orders[item] if rows.orders else None, None, rows.values(item))


def read_file_item(
    folder: Path, item: int, name: str | None, index: FileIndex, rows: Rows, budget: Budget, doubled: bool
) -> Iterator[Step]:
    """Yield the steps of one picture file."""
    yield BegunItem(item, name or f"row {item + 1}")
    try:
        patient = check_identity(rows, item, doubled)
        path = resolve_inside(folder, index.find(name or ""))
        pixels = decode_picture(read_bytes(path, budget.file_bytes), budget)
    except BadItemError as error:
        yield RefusedItem(item, name or f"row {item + 1}", str(error))
        return
    except MemoryError:
        yield RefusedItem(item, name or f"row {item + 1}", "it needs more memory than allowed (--memory-gb)")
        return
    order = rows.orders[item] if rows.orders else None
    yield FoundItem(item, name or "", patient, order, None, rows.values(item), pixels, axes_of(pixels))


def _plan_pictures(adapter: str, reason: str, pictures: list[str], options: Options) -> ReferencePlan:
    if options.patient or options.image:
        raise ReferenceError("the folder has no table, so --patient and --image have no meaning for it.")
    folders = {PurePosixPath(name).parent.as_posix() for name in pictures}
    planned = PlannedAttribute(name="folder", kind="categorical", description="Folder the picture stands in.")
    wanted = options.attributes is None or "folder" in options.attributes
    return ReferencePlan(
        adapter=adapter, reason=f"{reason} and no table", items=len(pictures), has_pixels=True, files=tuple(pictures),
        attributes=(planned,) if wanted and 1 < len(folders) <= 200 else (),
        notes=("patients are unknown: each picture counts as a patient of its own",),
    )  # fmt: skip


def _rows_of_folders(pictures: list[str], attributes: tuple[PlannedAttribute, ...]) -> Rows:
    folders = [PurePosixPath(name).parent.as_posix() for name in pictures]
    names: list[str | None] = list(pictures)
    return Rows(names, None, None, {attribute.name: folders for attribute in attributes})
