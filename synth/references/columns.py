"""What the columns of a table of records are: patients, order, names, and attributes with their kinds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute

from synth.errors import suggest_nearest
from synth.nouns import AttributeKind
from synth.references.plan import RESERVED, PlannedAttribute, ReferenceError
from synth.references.tables import SKIPPED, Arrow

pc: Any = pyarrow.compute
PATIENT_NAMES = ("patient_id", "patient", "patientid", "subject_id", "subject", "subjectid", "participant_id",
                 "participant", "person_id", "pid", "case_id")  # fmt: skip
ORDER_NAMES = ("follow_up", "followup", "visit", "visit_number", "visit_order", "session", "timepoint", "time_point",
               "study_number", "exam_number", "scan_number")  # fmt: skip
NAME_NAMES = ("image_id", "image", "image_index", "image_name", "image_path", "filename", "file_name", "file", "path",
              "img", "img_id", "dicom_id", "id")  # fmt: skip
MAX_CATEGORIES = 200
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
