"""A population model judged against real people whom it never saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from flows.population_rules import parse_rules
from flows.population_tables import explain_options, find_roles, read_table
from flows.populations import Say, prepare_read_table
from synth.errors import PopulationError, suggest_nearest
from synth.evaluation.records.report import RecordReport, evaluate_records
from synth.population.chain import ChainModel
from synth.population.records import Records
from synth.population.sampler import sample_records
from synth.population.schema import PATIENT
from synth.seeds import COHORT_LEVEL, stream

pc: Any = pyarrow.compute


def check_table(
    model: ChainModel, table: str, train: str | None, say: Say, *, sql: bool, home: Path | None, seed: int
) -> RecordReport:
    """Return the report of as many synthetic patients as there are training ones, against the patients of ``table``.

    Without ``train``, half of the patients of ``table`` stand for it. Tables are read as the one that was fitted.
    """
    held = _read_again(model, table, say, sql, home)
    if train is not None:
        real = _read_again(model, train, say, sql, home).table
        holdout = held.table
    else:
        real, holdout = split_patients(held.table, seed)
    patients = int(pc.max(real[PATIENT]).as_py()) + 1
    drawn = sample_records(model, patients, seed)
    return evaluate_records(drawn, real, holdout, model.schema, seed)


def _read_again(model: ChainModel, table: str, say: Say, sql: bool, home: Path | None) -> Records:
    """Return a table as the records of a model: only its attributes, read by the rules of its fit."""
    how = model.about.get("read", {})
    rules = parse_rules(how.get("rules", {}), "the model's rules")
    with explain_options():
        read, source = read_table(table, sql, home)
        roles = find_roles(read, how.get("patient"), how.get("order"))
        wanted = [name for name in (roles.patient, roles.order, *model.schema.names) if name is not None]
        for name in wanted:
            if name not in read.column_names:
                hint = suggest_nearest(name, read.column_names)
                raise PopulationError(f"table '{table}' lacks the column '{name}' that the model needs.{hint}")
        return prepare_read_table(read.select(list(dict.fromkeys(wanted))), source, roles, (), rules, say).records


def split_patients(table: Any, seed: int) -> tuple[Any, Any]:
    """Return two record tables of half the patients each, drawn without regard to their records."""
    people = table[PATIENT].combine_chunks().to_numpy()
    count = int(people[-1]) + 1
    order = stream(seed, COHORT_LEVEL, COHORT_LEVEL, "check/halves").permutation(count)
    halves = []
    for chosen in np.array_split(order, 2):
        inside = np.zeros(count, dtype=bool)
        inside[chosen] = True
        numbers = np.cumsum(inside) - 1
        kept = inside[people]
        half = table.filter(pa.array(kept))
        halves.append(half.set_column(0, PATIENT, pa.array(numbers[people[kept]])))
    return halves[0], halves[1]
