"""Tables of records: CSV, TSV and Parquet within budgets, which columns are what, and which kinds attributes have."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from synth.errors import suggest_nearest
from synth.nouns import AttributeKind
from synth.references.limits import read_bytes
from synth.references.plan import MAX_TEXT, RESERVED, BadItemError, Budget, PlannedAttribute, ReferenceError, show_size

pc: Any = pyarrow.compute
Arrow = Any  # tables and arrays of Arrow, whose stubs know too little of compute functions
TABLE_SUFFIXES = (".csv", ".tsv")
PATIENT_NAMES = ("patient_id", "patient", "patientid", "subject_id", "subject", "subjectid", "participant_id",
                 "participant", "person_id", "pid", "case_id")  # fmt: skip
ORDER_NAMES = ("follow_up", "followup", "visit", "visit_number", "visit_order", "session", "timepoint", "time_point",
               "study_number", "exam_number", "scan_number")  # fmt: skip
NAME_NAMES = ("image_id", "image", "image_index", "image_name", "image_path", "filename", "file_name", "file", "path",
              "img", "img_id", "dicom_id", "id")  # fmt: skip
MISSING = ("", "n/a", "N/A", "NA", "na", "NaN", "nan", "null", "NULL", "None", "none.", "#N/A", "?", "missing")
MAX_CATEGORIES = 200
SKIPPED = "cohortium.skipped"
MAX_LABELS = 200
SEPARATORS = ("|", ";")
UNITS = {
    "years": "years", "year": "years", "months": "months", "weeks": "weeks", "days": "days", "hours": "hours",
    "ms": "ms", "s": "s", "sec": "s", "mm": "mm", "cm": "cm", "m": "m", "um": "um", "ml": "ml", "kg": "kg", "g": "g",
    "mg": "mg", "px": "pixels", "pixels": "pixels",
    "percent": "%", "pct": "%", "hu": "HU", "t": "T", "tesla": "T", "bpm": "1/min",
    "mmhg": "mmHg", "kv": "kV", "kvp": "kV", "ma": "mA", "mas": "mAs", "mgy": "mGy", "msv": "mSv", "mm2": "mm2",
    "mm3": "mm3", "mmoll": "mmol/l", "deg": "degrees", "degrees": "degrees",
}  # fmt: skip
_BRACKET = re.compile(r"[\[(]\s*([A-Za-z%/]{1,10}[23]?)\s*[\])]\s*$")
_LEADING_ZERO = r"^[+-]?0\d"


@dataclass(frozen=True, slots=True)
class TableColumns:
    """Which columns of a table are what."""

    patient: str | None
    order: str | None
    name: str | None
    attributes: tuple[PlannedAttribute, ...]
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class TableHints:
    """What is known about a table before its columns are looked at."""

    patient: str | None = None
    image: str | None = None
    wanted: tuple[str, ...] | None = None
    skipped: set[str] = field(default_factory=set)
    units: Mapping[str, str] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)


def read_text_table(path: Path, budget: Budget) -> Arrow:
    """Return a CSV or TSV as a table of strings, missing values as nulls; raises ReferenceError if it is none."""
    try:
        data = read_bytes(path, budget.table_bytes)
        first = data[: data.find(b"\n")].decode("utf-8-sig").rstrip("\r\n") if b"\n" in data else ""
    except BadItemError as error:
        raise ReferenceError(f"table '{path.name}': {error}.") from error
    except UnicodeDecodeError as error:
        raise ReferenceError(f"table '{path.name}' is not UTF-8 text: {error}. Save it as UTF-8.") from error
    delimiter = "\t" if path.suffix == ".tsv" else max((",", ";", "\t"), key=first.count)
    skipped: list[int] = []

    def skip_row(row: Any) -> Literal["skip", "error"]:
        skipped.append(int(row.number or 0))
        return "skip"

    parse = pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip_row)
    try:
        header = pa_csv.open_csv(
            io.BytesIO(data), pa_csv.ReadOptions(use_threads=False), parse,
            pa_csv.ConvertOptions(column_types={}, include_columns=None),
        ).schema.names  # fmt: skip
        _check_header(path, header, budget)
        convert = pa_csv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.string()), null_values=list(MISSING), strings_can_be_null=True
        )
        table = pa_csv.read_csv(io.BytesIO(data), pa_csv.ReadOptions(use_threads=False), parse, convert)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise ReferenceError(f"table '{path.name}' cannot be read: {str(error)[:300]}") from error
    _check_rows(path, table.num_rows, budget)
    return table.replace_schema_metadata({SKIPPED: _describe_skipped(skipped)}) if skipped else table


def _describe_skipped(numbers: list[int]) -> str:
    lines = sorted(set(numbers))
    shown = ", ".join(map(str, lines[:10])) + (" ..." if len(lines) > 10 else "")
    return f"{len(lines)} rows do not have as many cells as the header and are left out (lines {shown})"


def _check_header(path: Path, names: Sequence[str], budget: Budget) -> None:
    if len(names) > budget.columns:
        raise ReferenceError(f"table '{path.name}' has {len(names)} columns; {budget.columns} are allowed.")
    double = sorted({name for name in names if list(names).count(name) > 1})
    if double:
        raise ReferenceError(f"table '{path.name}' has several columns called '{double[0]}'; rename all but one.")
    long = [name for name in names if len(name) > MAX_TEXT]
    if long:
        raise ReferenceError(f"table '{path.name}' has a column name of {len(long[0])} characters.")


def _check_rows(path: Path, rows: int, budget: Budget) -> None:
    if rows > budget.rows:
        raise ReferenceError(f"table '{path.name}' has {rows} rows; {budget.rows} are allowed. Import a part of it.")


def open_parquet(path: Path, budget: Budget) -> pq.ParquetFile:
    """Return a Parquet file whose footer keeps to the budget; raises ReferenceError otherwise."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        names = file.schema_arrow.names
    except (OSError, pa.ArrowException, ValueError) as error:
        raise ReferenceError(
            f"'{path.name}' cannot be read as Parquet: {str(error)[:300]} Copy it again; it may be cut off."
        ) from error
    _check_header(path, names, budget)
    _check_rows(path, file.metadata.num_rows, budget)
    return file


def read_parquet_columns(path: Path, file: pq.ParquetFile, names: Sequence[str], budget: Budget) -> Arrow:
    """Return some columns of a Parquet file; their size is checked in the footer first."""
    size = sum(
        file.metadata.row_group(group).column(place).total_uncompressed_size
        for group in range(file.metadata.num_row_groups)
        for place in range(file.metadata.num_columns)
        if file.metadata.row_group(group).column(place).path_in_schema.split(".")[0] in names
    )
    if size > budget.table_bytes:
        raise ReferenceError(
            f"the columns of '{path.name}' take {show_size(size)}; {show_size(budget.table_bytes)} are allowed. "
            "Choose fewer with --attributes."
        )
    try:
        return file.read(columns=list(names), use_threads=False)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise ReferenceError(f"the columns of '{path.name}' cannot be read: {str(error)[:300]}") from error


def find_columns(table: Arrow, hints: TableHints) -> TableColumns:
    """Return which columns name patients, order and images, and the attributes with their kinds."""
    names = [name for name in table.column_names if name not in hints.skipped]
    patient = _choose(names, hints.patient, PATIENT_NAMES, "--patient")
    rest = [name for name in names if name not in (patient, hints.image)]
    name = hints.image if hints.image in names else _first(rest, NAME_NAMES)
    if name is not None and not _names_rows(table[name]):
        name = None
    rest = [column for column in rest if column != name]
    order = next((c for c in rest if _plain(c) in ORDER_NAMES and _is_numeric(table[c])), None) if patient else None
    metadata = table.schema.metadata or {}
    notes = [metadata[SKIPPED.encode()].decode()] if SKIPPED.encode() in metadata else []
    if patient is not None and table[patient].null_count:
        notes.append(f"column '{patient}' is missing in {table[patient].null_count} rows; they are refused")
    picked = _pick(rest, order, hints.wanted, table.column_names)
    attributes = []
    for column in picked:
        found = _describe_column(table[column], column, hints, notes)
        if found is not None:
            attributes.append(found)
    return TableColumns(patient, order, name, tuple(_avoid_reserved(attributes)), tuple(notes))


def _pick(rest: list[str], order: str | None, wanted: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    if wanted is None:
        return [name for name in rest if name != order]
    for name in wanted:
        if name not in known:
            raise ReferenceError(
                f"--attributes: there is no column '{name}'.{suggest_nearest(name, known)} "
                f"There are: {', '.join(known)}."
            )
    return list(dict.fromkeys(wanted))


def _choose(names: list[str], given: str | None, usual: Sequence[str], option: str) -> str | None:
    if given is not None:
        if given not in names:
            raise ReferenceError(
                f"{option}: there is no column '{given}'.{suggest_nearest(given, names)} There are: {', '.join(names)}."
            )
        return given
    return _first(names, usual)


def _first(names: Iterable[str], usual: Sequence[str]) -> str | None:
    by_plain = {_plain(name): name for name in names}
    return next((by_plain[word] for word in usual if word in by_plain), None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _names_rows(column: Arrow) -> bool:
    kind = column.type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)


def _is_numeric(column: Arrow) -> bool:
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return True
    return pa.types.is_string(column.type) and _parse_numbers(column) is not None


def _avoid_reserved(attributes: list[PlannedAttribute]) -> list[PlannedAttribute]:
    return [
        a.model_copy(update={"name": f"{a.name}_in_source"}) if a.name.lower() in RESERVED else a for a in attributes
    ]


def _describe_column(column: Arrow, name: str, hints: TableHints, notes: list[str]) -> PlannedAttribute | None:
    """Return the attribute in a column, or None with a note where it is none."""
    meaning = {
        "name": name, "column": name, "unit": hints.units.get(name, ""),
        "description": hints.descriptions.get(name, ""),
    }  # fmt: skip
    if column.null_count == len(column):
        notes.append(f"column '{name}' is left out: it is missing in every row")
        return None
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        if pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type):
            return _limit(PlannedAttribute(kind="set", **meaning), column, hints, notes)
    elif pa.types.is_boolean(kind):
        return PlannedAttribute(kind="categorical", **meaning)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _describe_numbers(column.cast(pa.float64(), safe=False), meaning)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        numbers = _parse_numbers(column)
        if numbers is not None:
            return _describe_numbers(numbers, meaning)
        separator = _find_separator(column)
        planned = PlannedAttribute(kind="set" if separator else "categorical", separator=separator, **meaning)
        return _limit(planned, column, hints, notes)
    elif pa.types.is_temporal(kind) and hints.wanted is not None:
        return PlannedAttribute(kind="categorical", **meaning)
    notes.append(f"column '{name}' is left out: values of type {kind} are neither numbers nor categories nor labels")
    return None


def _describe_numbers(numbers: Arrow, meaning: dict[str, str]) -> PlannedAttribute:
    present = numbers.drop_null()
    present = present.filter(pc.is_finite(present))
    whole = bool(pc.all(pc.equal(pc.floor(present), present)).as_py()) if len(present) else False
    small = bool(pc.all(pc.less_equal(pc.abs(present), 2.0**53)).as_py()) if len(present) else False
    unit = meaning["unit"] or guess_unit(meaning["name"])
    kind: AttributeKind = "integer" if whole and small else "continuous"
    return PlannedAttribute(kind=kind, **{**meaning, "unit": unit})


def guess_unit(name: str) -> str:
    """Return the unit at the end of a column's name ('age_years', 'height (cm)'), or an empty string."""
    bracket = _BRACKET.search(name)
    if bracket:
        return UNITS.get(bracket[1].lower(), bracket[1])
    words = _plain(name).split("_")
    return UNITS.get(words[-1], "") if len(words) > 1 else ""


def _parse_numbers(column: Arrow) -> Arrow | None:
    """Return the numbers written in a column of text, or None if some are none or have leading zeros."""
    trimmed = pc.utf8_trim_whitespace(column)
    if pc.any(pc.match_substring_regex(trimmed, _LEADING_ZERO)).as_py():
        return None
    try:
        return trimmed.cast(pa.float64())
    except pa.ArrowInvalid:
        return None


def _find_separator(column: Arrow) -> str:
    """Return what separates labels in a column of text, or '': the parts must be far fewer than the wholes."""
    distinct = pc.unique(column).drop_null()
    for separator in SEPARATORS:
        joined = distinct.filter(pc.match_substring(distinct, separator))
        if len(joined) == 0:
            continue
        parts = pc.unique(pc.utf8_trim_whitespace(pc.list_flatten(pc.split_pattern(distinct, separator))))
        if len(parts) <= MAX_LABELS and len(parts) < len(distinct) + len(joined):
            return separator
    return ""


def _limit(planned: PlannedAttribute, column: Arrow, hints: TableHints, notes: list[str]) -> PlannedAttribute | None:
    """Return the attribute unless it holds free text, names or dates that nobody asked for."""
    if planned.kind == "set":
        flat = pc.list_flatten(column if not planned.separator else pc.split_pattern(column, planned.separator))
        distinct, most = len(pc.unique(flat)), MAX_LABELS
    else:
        distinct, most = len(pc.unique(column).drop_null()), MAX_CATEGORIES
    unlimited = hints.wanted is not None
    alone = distinct > 20 and distinct > 0.5 * (len(column) - column.null_count)
    if not unlimited and (distinct > most or alone):
        notes.append(
            f"column '{planned.column}' is left out: its {distinct} different texts look like names, dates or free "
            f"text (--attributes {planned.column} keeps it)"
        )
        return None
    return planned


def read_values(table: Arrow, attribute: PlannedAttribute) -> list[Any]:
    """Return an attribute's values: str, int, float, sorted list of str, or None where it is missing."""
    column = table[attribute.column]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if attribute.kind in ("integer", "continuous"):
        return _read_numbers(column, attribute)
    if attribute.kind == "set":
        if attribute.separator:
            column = pc.split_pattern(column, attribute.separator)
        values = column.to_pylist()
        return [None if v is None else sorted({_text(x) for x in v if x is not None and x.strip()}) for v in values]
    if pa.types.is_boolean(column.type):
        return [None if value is None else str(value).lower() for value in column.to_pylist()]
    texts = column.cast(pa.string()).to_pylist()
    return [None if value is None or value.strip() in MISSING else _text(value) for value in texts]


def _read_numbers(column: Arrow, attribute: PlannedAttribute) -> list[Any]:
    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    numbers = (pc.utf8_trim_whitespace(column) if text else column).cast(pa.float64(), safe=False).to_pylist()
    whole = attribute.kind == "integer"
    return [None if n is None or not math.isfinite(n) else int(n) if whole else n for n in numbers]


def read_names(column: Arrow) -> list[str | None]:
    """Return identifiers as text; None where they are missing or empty."""
    kind = column.type
    if pa.types.is_floating(kind):
        values = [None if v is None or not math.isfinite(v) else f"{v:.17g}" for v in column.to_pylist()]
    else:
        values = column.cast(pa.string()).to_pylist()
    return [None if v is None or not v.strip() else _text(v) for v in values]


def _text(value: str) -> str:
    return value.strip()[:MAX_TEXT]


@dataclass(frozen=True, slots=True)
class Rows:
    """A table as lists, ready to be given out row by row."""

    names: list[str | None]
    patients: list[str | None] | None
    orders: list[float | None] | None
    attributes: dict[str, list[Any]]

    def __len__(self) -> int:
        return len(self.names)

    def values(self, row: int) -> dict[str, Any]:
        """Return the attributes of one row."""
        return {name: column[row] for name, column in self.attributes.items()}


def read_rows(
    table: Arrow, name: str | None, patient: str | None, order: str | None, attributes: Sequence[PlannedAttribute]
) -> Rows:
    """Return the planned columns of a table as lists; rows without a name are called by their number, from 1."""
    numbered: list[str | None] = [f"row {row + 1}" for row in range(table.num_rows)]
    orders = _read_numbers(table[order], _ORDER) if order else None
    return Rows(
        read_names(table[name]) if name else numbered,
        read_names(table[patient]) if patient else None,
        orders,
        {attribute.name: read_values(table, attribute) for attribute in attributes},
    )


_ORDER = PlannedAttribute(name="order", kind="continuous")


def name_twice(names: Sequence[str | None]) -> set[str]:
    """Return the names that several rows have."""
    seen: set[str] = set()
    twice: set[str] = set()
    for name in names:
        if name is not None:
            (twice if name in seen else seen).add(name)
    return twice


def count_patients(table: Arrow, patient: str | None) -> int | None:
    """Return the number of patients in a table, or None if they are unknown."""
    return None if patient is None else len(pc.unique(table[patient]).drop_null())


def note_patients(patient: str | None) -> tuple[str, ...]:
    """Return what to say where no column names the patients."""
    return () if patient else ("patients are unknown: each record counts as a patient of its own (see --patient)",)
