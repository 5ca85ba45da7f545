"""Real tables for population models: read from Parquet, CSV or the catalog, and who their rows belong to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from catalog import open_catalog
from synth.errors import PopulationError, suggest_nearest
from synth.population.cleaning import MAX_CATEGORIES
from synth.population.records import RESERVED

pc: Any = pyarrow.compute
SUFFIXES = (".parquet", ".csv")
REFERENCE = "reference:"
_PATIENT = ("patientid", "subjectid", "participantid", "personid", "patient", "subject", "participant", "person")
_ORDER = (
    "followup",
    "followupnumber",
    "visit",
    "visitnumber",
    "visitdate",
    "session",
    "timepoint",
    "studydate",
    "examdate",
)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a table comes from: a file's name and SHA-256, or the query."""

    name: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Roles:
    """Which columns say who and when; ``remarks`` say how they were found."""

    patient: str | None
    order: str | None
    remarks: tuple[str, ...] = ()


@contextmanager
def explain_options() -> Iterator[None]:
    """Say remedies of the models in the words of the command line."""
    try:
        yield
    except PopulationError as error:
        text = re.sub(r"(?<!--)\bignore '([^']*)'", r"--ignore \1", str(error))
        text = re.sub(r"^(patient|order|ignore): ", r"--\1: ", text)
        raise PopulationError(text.replace("population.where", "--where")) from error


def read_table(table: str, sql: bool, home: Path | None, ignore: Sequence[str] = ()) -> tuple[Any, Source]:
    """Return the table at a path, of a reference or of a query, without the ignored columns, and where it is from.

    A reference is ``reference:NAME`` or, for the patients of one split alone, ``reference:NAME/train``.

    Raises PopulationError or CatalogError if it cannot be read.
    """
    if sql:
        with open_catalog(home) as catalog:
            found = catalog.sql(table).arrow()
        made = found if isinstance(found, pa.Table) else pa.table(found)
        source = Source(f"SQL: {' '.join(table.split())}")
        _check_ignored(made.column_names, ignore)
    elif table.startswith(REFERENCE):
        made, source = _read_reference(table, home)
        _check_ignored(made.column_names, ignore)
    else:
        made, source = _read_file(Path(table), ignore)
    names = made.column_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PopulationError(f"column '{twice[0]}' is there more than once; rename one of them.")
    return made.drop_columns([name for name in ignore if name in names]), source


def _read_reference(table: str, home: Path | None) -> tuple[Any, Source]:
    """Return the records of a reference with their patient and visit, and where they are from."""
    name, _, split = table.removeprefix(REFERENCE).partition("/")
    with open_catalog(home) as catalog:
        reference = catalog.reference(name)
        made, fingerprint = reference.records(split or None), reference.fingerprint
    return made.drop_columns(["image_id", "name", "split", "visit_order"]), Source(table, fingerprint)


def _check_ignored(names: Sequence[str], ignore: Sequence[str]) -> None:
    for name in ignore:
        if name not in names:
            hint = suggest_nearest(name, names)
            raise PopulationError(f"--ignore: the table has no column '{name}'.{hint} It has: {', '.join(names)}.")


def _read_file(path: Path, ignore: Sequence[str]) -> tuple[Any, Source]:
    if path.suffix.lower() not in SUFFIXES:
        raise PopulationError(
            f"'{path}' is neither .parquet nor .csv. Convert it, or give a query over the catalog with --sql."
        )
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if path.suffix.lower() == ".parquet":
            with pq.ParquetFile(path) as parquet:
                names = parquet.schema_arrow.names
                _check_ignored(names, ignore)
                kept = names if len(set(names)) < len(names) else [name for name in names if name not in ignore]
                return parquet.read(columns=kept), Source(path.name, digest)
        options = pa_csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
        read = pa_csv.read_csv(path, convert_options=options)
        _check_ignored(read.column_names, ignore)
        return read, Source(path.name, digest)
    except FileNotFoundError as error:
        raise PopulationError(f"table '{path}' does not exist; give the path of a .parquet or .csv file.") from error
    except (OSError, pa.ArrowException) as error:
        raise PopulationError(f"table '{path}' cannot be read: {str(error).splitlines()[0]}.") from error


def find_roles(table: Any, patient: str | None, order: str | None) -> Roles:
    """Return who and when: as told, else as the names of the columns say."""
    remarks = []
    if patient is None and (found := _find_named(table, _PATIENT)) is not None:
        patient = found
        remarks.append(f"'{found}' is taken as the patient; use --patient to name another column")
    if patient is None and table.num_rows:
        remarks.append("no column names the patient, so every row is a person of its own; use --patient to name one")
    if order is None and patient is not None and (found := _find_named(table, _ORDER)) is not None:
        order = found
        remarks.append(f"'{found}' is taken as what sorts the visits of a patient; use --order to name another column")
    return Roles(patient, order, tuple(remarks))


def _find_named(table: Any, names: Sequence[str]) -> str | None:
    plain = {re.sub(r"[^a-z]", "", name.lower()): name for name in reversed(table.column_names)}
    return next((plain[name] for name in names if name in plain), None)


def settle_table(table: Any, roles: Roles) -> tuple[Any, tuple[str, ...]]:
    """Return the table ready for prepare_records, and remarks: dates that sort visits become their places.

    Raises PopulationError, naming all of them, for columns that name rows, and for names that models use themselves.
    """
    given = {"--patient": roles.patient, "--order": roles.order}
    for option, name in given.items():
        if name is not None and name not in table.column_names:
            hint = suggest_nearest(name, table.column_names)
            raise PopulationError(
                f"{option}: the table has no column '{name}'.{hint} It has: {', '.join(table.column_names)}."
            )
    remarks = []
    if roles.order is not None and roles.patient is not None and _is_date(table[roles.order].type):
        table = _rank_dates(table, roles.patient, roles.order)
        remarks.append(
            f"'{roles.order}' holds dates: they sort visits and are not learned; add a column of days since the first "
            "visit to learn them"
        )
    if table.num_rows > 1:
        _refuse_names(table, roles)
    return table, tuple(remarks)


def _is_date(kind: Any) -> bool:
    return bool(pa.types.is_date(kind) or pa.types.is_timestamp(kind))


def _rank_dates(table: Any, patient: str, order: str) -> Any:
    people = table[patient].combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy().astype(np.int64)
    dates = pc.rank(table[order].combine_chunks(), "ascending", tiebreaker="first").to_numpy().astype(np.int64)
    placed = np.lexsort((dates, people))
    starts = np.flatnonzero(np.r_[True, np.diff(people[placed]) > 0])
    rank = np.empty(len(people), dtype=np.int64)
    rank[placed] = np.arange(len(people)) - np.repeat(starts, np.diff(np.r_[starts, len(people)]))
    return table.set_column(table.column_names.index(order), order, pa.array(rank))


def _refuse_names(table: Any, roles: Roles) -> None:
    attributes = [name for name in table.column_names if name not in (roles.patient, roles.order)]
    taken = [name for name in attributes if name in RESERVED]
    if taken:
        raise PopulationError(f"column '{taken[0]}' has a name that samples use themselves; rename it or --ignore it.")
    rows = [name for name in attributes if _names_rows(name, table[name])]
    if rows:
        options = " ".join(f"--ignore {name}" for name in rows)
        raise PopulationError(
            f"column '{rows[0]}' has a different value in every row, so it names rows and is nothing to learn from. "
            f"Add {options}."
        )


def _names_rows(name: str, column: Any) -> bool:
    """Return whether a column has a value of its own in every row: text, or whole numbers called an id."""
    kind = column.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    is_id = pa.types.is_integer(kind) and re.search(r"(^|[_ .-])u?id$|[a-z]U?ID$", name) is not None
    if not (is_text or is_id) or len(column) <= MAX_CATEGORIES:
        return False
    first = str(column[0].as_py())
    if re.fullmatch(r"[\d\s.,/:+TZ-]+", first) and re.search(r"\d[-./]\d", first):
        return False  # a date or a decimal number as text, which has a remedy of its own
    return int(pc.count_distinct(column, mode="only_valid").as_py()) == len(column)
