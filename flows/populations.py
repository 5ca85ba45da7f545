"""Population models from the command line to the pure functions: fit and sample, a few calls each."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from flows.population_counts import Counter, ShareReport
from flows.population_rules import Rules, load_rules
from flows.population_tables import Roles, Source, explain_options, find_roles, read_table, settle_table
from synth.errors import PopulationError
from synth.population.chain import ChainModel
from synth.population.conditions import parse_conditions, parse_target
from synth.population.families import Family, find_family
from synth.population.fitting import FitProgress
from synth.population.model_files import check_target, explain_write, fingerprint_model, load_model, save_model
from synth.population.records import RESERVED, Records, prepare_records
from synth.population.sampling import SamplePlan, plan_sample, stream_sample

pc: Any = pyarrow.compute
Progress = Callable[[int, int, str], AbstractContextManager[Callable[[int], None]]]  # (total, done, unit) -> advance
Say = Callable[[str], None]
PRIVATE = "private"  # the family whose models may hold nothing that was counted without noise
NOTICE = "Synthetic data made by Cohortium; no real person is shown."
_FLAT = "|"  # between the labels of a set in CSV


@dataclass(frozen=True, slots=True)
class Prepared:
    """A real table as records, with where it is from and how it was read."""

    records: Records
    source: Source
    roles: Roles
    ignored: tuple[str, ...]
    rules: Rules


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model that was saved, and how long its fit took."""

    model: ChainModel
    fingerprint: str
    prepared: Prepared
    seconds: float


# -------------------------------------------------------------------------------------------------------------- fit


def prepare_table(
    table: str,
    say: Say,
    *,
    sql: bool = False,
    home: Path | None = None,
    patient: str | None = None,
    order: str | None = None,
    ignore: Sequence[str] = (),
    rules: Path | None = None,
) -> Prepared:
    """Return a real table as records; what was recognised and changed on the way is said.

    Raises PopulationError naming the column and the option that helps.
    """
    said = load_rules(rules) if rules is not None else Rules()
    with explain_options():
        read, source = read_table(table, sql, home, ignore)
        return prepare_read_table(read, source, find_roles(read, patient, order), tuple(ignore), said, say)


def prepare_read_table(
    read: Any, source: Source, roles: Roles, ignored: tuple[str, ...], rules: Rules, say: Say
) -> Prepared:
    """Return a table that was read as records."""
    for remark in roles.remarks:
        say(remark)
    settled, remarks = settle_table(read, roles)
    for remark in remarks:
        say(remark)
    records = prepare_records(settled, roles.patient, roles.order, rules.cleaning)
    if roles.order in RESERVED and roles.order in records.schema.names:
        raise PopulationError(
            f"column '{roles.order}' sorts the visits and holds more than their numbers, which would be learned, but "
            "samples use that name themselves; rename it, for example to month."
        )
    return Prepared(records, source, roles, ignored, rules)


def choose_family(name: str, prepared: Prepared, options: Mapping[str, float | int | None]) -> Family:
    """Return the family called ``name`` with its options; raises PopulationError for one that it does not take."""
    family = find_family(name)
    given: dict[str, Any] = {option: value for option, value in options.items() if value is not None}
    known = {field.name for field in dataclasses.fields(family)} if dataclasses.is_dataclass(family) else set()
    for option in given:
        if option not in known:
            raise PopulationError(f"family '{name}' takes no --{option.replace('_', '-')}; leave it out.")
    if "domain" in known and prepared.rules.columns:
        repeated = prepared.roles.patient is not None
        names = [name for name in prepared.records.schema.names if name in prepared.rules.columns]
        rules = Rules({name: prepared.rules.columns[name] for name in names}, prepared.rules.most_visits)
        given["domain"] = rules.domain(repeated)
    if not given:
        return family
    changed: Family = dataclasses.replace(family, **given)  # type: ignore[type-var]
    return changed


def fit_table(prepared: Prepared, family: Family, out: Path, overwrite: bool, progress: Progress) -> Fitted:
    """Fit a model and save it to the folder ``out``; raises PopulationError or StorageError, then nothing is left."""
    check_target(out, overwrite)
    started, model = time.monotonic(), None
    with explain_options():
        steps = family.fit_steps(prepared.records)
        first = next(steps)
        total = first.total if isinstance(first, FitProgress) else 1
        with progress(total, 0, "nodes") as advance:
            for step in itertools.chain([first], steps):
                if isinstance(step, ChainModel):
                    model = step
                else:
                    advance(1)
    if model is None:
        raise PopulationError("the family gave no model")
    seconds = time.monotonic() - started
    model = dataclasses.replace(model, about={**model.about, **describe_origin(prepared, model.family == PRIVATE)})
    return Fitted(model, save_model(model, out, overwrite), prepared, seconds)


def describe_origin(prepared: Prepared, private: bool) -> dict[str, Any]:
    """Return what a model says of where it is from; of a private one, nothing that was read from the records."""
    origin: dict[str, Any] = {
        "read": {
            "patient": prepared.roles.patient,
            "order": prepared.roles.order,
            "ignore": list(prepared.ignored),
            "rules": prepared.rules.to_json(),
        }
    }
    if not private:
        origin["source"] = dataclasses.asdict(prepared.source)
        origin["rows_in"] = prepared.records.rows_in
        origin["cleaning"] = [dataclasses.asdict(change) for change in prepared.records.cleaning]
    return origin


def describe_attributes(prepared: Prepared) -> list[dict[str, Any]]:
    """Return one entry for each attribute: name, kind, values (categories or bounds), share missing, static."""
    table, found = prepared.records.table, []
    for column in prepared.records.schema.columns:
        values: Any = list(column.categories) or [column.low, column.high]
        missing = table[column.name].null_count / table.num_rows
        found.append(
            {"name": column.name, "kind": column.kind, "values": values, "missing": missing, "static": column.static}
        )
    return found


# ----------------------------------------------------------------------------------------------------------- sample


def make_plan(
    model: ChainModel, subjects: int, seed: int, where: Sequence[str], targets: Sequence[str]
) -> tuple[SamplePlan, Counter]:
    """Return the plan of a conditioned sample and what counts its targets in the drawn tables."""
    with explain_options():
        asked = [parse_target(text, model.schema) for text in targets]
        conditions = [condition for text in where for condition in parse_conditions(text, model.schema)]
        plan = plan_sample(model, subjects, seed, conditions, asked)
    return plan, Counter(model.schema, asked, conditions)


def write_sample(
    plan: SamplePlan, counter: Counter, out: Path, first_only: bool, overwrite: bool, progress: Progress
) -> tuple[int, float]:
    """Stream the subjects of a plan into ``out`` (.parquet or .csv) at constant memory; return (rows, seconds).

    The file is complete or not there at all. Raises PopulationError for a wrong place, StorageError for a full disk.
    """
    before = 0

    def counted() -> Iterator[Any]:
        nonlocal before
        for table in stream_sample(plan, later=not first_only):
            counter.add(table, first_only)
            last = int(table["subject_index"][-1].as_py()) + 1
            yield table, last - before
            before = last

    marks = mark_sample(plan.model, {"subjects": plan.subjects, "seed": plan.seed})
    return write_tables(counted(), out, marks, plan.subjects, overwrite, progress)


def mark_sample(model: ChainModel, sample: Mapping[str, Any]) -> dict[str, str]:
    """Return the marks of a file of synthetic people: that they are, the model, and what was asked of it."""
    return {
        "cohortium.synthetic": "YES",
        "cohortium.notice": NOTICE,
        "cohortium.population_model": fingerprint_model(model),
        "cohortium.sample": json.dumps(dict(sample)),
    }


def write_tables(
    tables: Iterator[Any], out: Path, marks: Mapping[str, str], total: int, overwrite: bool, progress: Progress
) -> tuple[int, float]:
    """Stream (table, subjects in it) into ``out`` (.parquet or .csv); return (rows, seconds).

    The file is complete or not there at all. Raises PopulationError for a wrong place, StorageError for a full disk.
    """
    check_out(out, overwrite)
    started, rows = time.monotonic(), 0
    with progress(total, 0, "subjects") as advance, _open_whole(out) as draft:
        writer = None
        try:
            for table, subjects in tables:
                made = table if out.suffix == ".parquet" else _flatten(table)
                writer = writer or _open_writer(draft, out.suffix, made.schema, marks)
                writer.write_table(made)
                rows += table.num_rows
                advance(subjects)
        finally:
            if writer is not None:
                writer.close()
    return rows, time.monotonic() - started


def check_out(out: Path, overwrite: bool) -> None:
    """Raise PopulationError if a sample may not be written to ``out``."""
    if out.suffix not in (".parquet", ".csv"):
        raise PopulationError(f"--out '{out}' must end in .parquet or .csv.")
    if os.path.lexists(out) and (out.is_dir() or not overwrite):
        raise PopulationError(
            f"'{out}' exists; choose another file{'' if out.is_dir() else ', or overwrite it with --force'}."
        )


@contextmanager
def _open_whole(out: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes ``out`` if all goes well, and is removed if not."""
    draft = out.with_name(f".{out.name}.{os.getpid()}.part")
    with explain_write(out):
        try:
            yield draft
            with draft.open("rb+") as file:
                os.fsync(file.fileno())
            draft.replace(out)
        finally:
            draft.unlink(missing_ok=True)


def _open_writer(draft: Path, suffix: str, schema: Any, marks: Mapping[str, str]) -> Any:
    if suffix == ".csv":
        return pa_csv.CSVWriter(draft, schema)
    return pq.ParquetWriter(draft, schema.with_metadata(dict(marks)), compression="zstd")


def _flatten(table: Any) -> Any:
    """Return a table that CSV can hold: plain text, labels joined, and every row marked as synthetic."""
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_list(column.type):
            column = pc.binary_join(column.cast(pa.list_(pa.string())), _FLAT)
        elif pa.types.is_dictionary(column.type):
            column = column.cast(pa.string())
        columns[name] = column
    return pa.table({**columns, "synthetic": pa.array(["YES"] * table.num_rows)})


def summarise(plan: SamplePlan, shares: Sequence[ShareReport]) -> dict[str, Any]:
    """Return what a sample is: who was asked for, in which shares, and what its weights cost."""
    return {
        "model": fingerprint_model(plan.model),
        "family": plan.model.family,
        "subjects": plan.subjects,
        "seed": plan.seed,
        "admitted_share_of_population": plan.admitted,
        "effective_sample_size": plan.effective_subjects,
        "targets": [dataclasses.asdict(share) for share in shares],
    }


def open_model(name: str, fetch: Callable[[str], Path]) -> ChainModel:
    """Return the model in a folder, or the registered one that ``models:/NAME@ALIAS`` or ``models:/NAME/3`` names."""
    return load_model(fetch(name) if name.startswith("models:/") else Path(name))
