"""What is public about records before anybody looks at them, and records as codes of that domain alone.

Whatever a private model knows of its domain (categories, bounds, what may be missing, how many visits there can be)
must be declared: learned from the records it would give away who is in them. Rows are read one patient at a time: a
number outside its bounds takes the nearest bound, an undeclared value becomes missing, and a row with a value that is
missing where none may be is left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from synth.errors import PopulationError
from synth.population.chain import VISITS, Codings, name_label, name_missing_set
from synth.population.encoding import Coding
from synth.population.private_counts import Codes, choose_rows
from synth.population.records import Records
from synth.population.schema import PATIENT, Column, Schema

BINS = 20  # of a number, equally wide
WIDENING = 1.4  # of the intervals of numbers of visits and of steps of a clock
STEP_HALVINGS = 8  # intervals of a continuous step


@dataclass(frozen=True, slots=True)
class PublicDomain:
    """The declared domain of a record table: nothing in it may come from the records themselves.

    ``steps``: numbers that never fall from visit to visit (age) -> the most they grow from one visit to the next.
    ``most_visits``: patients with more count as having so many.
    """

    schema: Schema
    steps: Mapping[str, float] = field(default_factory=dict)
    most_visits: int = 50

    def to_json(self) -> dict[str, Any]:
        """Return the domain as plain JSON values."""
        value = {"schema": self.schema.to_json(), "steps": dict(self.steps), "most_visits": self.most_visits}
        plain: dict[str, Any] = json.loads(json.dumps(value))  # tuples as lists
        return plain

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PublicDomain:
        """Return the domain that ``to_json`` wrote."""
        return cls(Schema.from_json(value["schema"]), dict(value["steps"]), int(value["most_visits"]))


@dataclass(frozen=True, slots=True)
class PublicCodes:
    """Records as codes. A patient has one row in ``first`` and at most ``most_rows`` in ``later``.

    ``later`` also holds the codes at the visit before (``name before``) and steps of clocks (``name since``).
    """

    first: Mapping[str, Codes]
    later: Mapping[str, Codes]
    sizes: Mapping[str, int]
    codings: Codings


def check_domain(domain: PublicDomain | None, records: Records) -> PublicDomain:
    """Return the domain, or raise PopulationError naming every column that is not declared in full."""
    if domain is None:
        raise PopulationError(
            "a private model learns no domain from the records, so it must be declared (PublicDomain): "
            + "; ".join(f"'{c.name}' needs {_say_needed(c)}" for c in records.schema.columns)
            + ". Declare what is known without the records, from a code book or the design of the study."
        )
    wrong = [f"column '{c.name}' needs {_say_needed(c)}" for c in domain.schema.columns if not _is_declared(c)]
    declared, found = set(domain.schema.names), set(records.schema.names)
    wrong += [
        f"column '{name}' of the records is not declared" for name in records.schema.names if name not in declared
    ]
    wrong += [f"declared column '{name}' is not in the records" for name in domain.schema.names if name not in found]
    wrong += [problem for name in domain.steps for problem in _check_step(domain, name)]
    if domain.most_visits < 1:
        wrong.append(f"most_visits is {domain.most_visits}, give at least 1")
    if wrong:
        raise PopulationError(f"the public domain does not fit: {'; '.join(wrong)}.")
    columns = tuple(replace(c, low=_as_float(c.low), high=_as_float(c.high)) for c in domain.schema.columns)
    return replace(domain, schema=replace(domain.schema, columns=columns))


def _as_float(bound: float | None) -> float | None:
    return None if bound is None else float(bound)


def _is_declared(column: Column) -> bool:
    if column.is_number:
        low, high = column.low, column.high
        if low is None or high is None or not (math.isfinite(low) and math.isfinite(high) and low < high):
            return False
        return column.kind == "continuous" or math.ceil(low) < math.floor(high)
    return len(set(column.categories)) == len(column.categories) > (0 if column.kind == "set" else 1)


def _say_needed(column: Column) -> str:
    if column.is_number:
        return "its bounds (low below high)"
    return "its labels" if column.kind == "set" else "its categories (at least two, each once)"


def _check_step(domain: PublicDomain, name: str) -> list[str]:
    if name not in domain.schema.names:
        return [f"steps: '{name}' is not a declared column"]
    column = domain.schema.column(name)
    if not column.is_number or column.missing or column.static or not domain.schema.repeated:
        return [
            f"steps: '{name}' must be a number that is never missing and not static, of patients with several visits"
        ]
    return [] if domain.steps[name] > 0 else [f"steps: '{name}' grows by {domain.steps[name]:g}, give more than 0"]


def make_codings(domain: PublicDomain) -> Codings:
    """Return how values are coded, from the declared domain alone."""
    schema = domain.schema
    columns = {c.name: _cut_evenly(c) for c in schema.columns if c.kind != "set"}
    deltas = {name: _cut_steps(schema.column(name), most) for name, most in domain.steps.items()}
    visits = _cut_growing(Column(VISITS, "integer"), 1, domain.most_visits) if schema.repeated else None
    return Codings(columns, deltas, visits)


def _cut_evenly(column: Column) -> Coding:
    if not column.is_number or column.low is None or column.high is None:
        return Coding(column, np.empty(0), np.empty(0))
    if column.kind == "continuous":
        edges = np.linspace(column.low, column.high, BINS + 1)
        return Coding(column, edges[:-1], edges[1:])
    values = int(np.floor(column.high)) - int(np.ceil(column.low)) + 1
    bins = min(values, BINS)
    starts = np.ceil(column.low) + np.arange(bins + 1) * values // bins
    return Coding(column, starts[:-1].astype(np.float64), starts[1:].astype(np.float64) - 1)


def _cut_growing(column: Column, low: int, high: int) -> Coding:
    """Return intervals of whole numbers whose widths grow: 1, 2, 3, 4-5, ..."""
    starts = [low]
    while starts[-1] < high:
        starts.append(max(starts[-1] + 1, int(starts[-1] * WIDENING)))
    lows = np.array([start for start in starts if start <= high], dtype=np.float64)
    return Coding(column, lows, np.append(lows[1:] - 1, float(high)))


def _cut_steps(column: Column, most: float) -> Coding:
    named = Column(f"{column.name} since", column.kind)
    if column.kind == "integer":
        rest = _cut_growing(named, 1, max(int(most), 1))
        return Coding(named, np.append(0.0, rest.low), np.append(0.0, rest.high))
    edges = most * 2.0 ** -np.arange(STEP_HALVINGS, -1, -1.0)
    low = np.concatenate([[0.0, np.nextafter(0.0, 1.0)], edges[:-1]])
    return Coding(named, low, np.concatenate([[0.0], edges]))


def encode_public(records: Records, domain: PublicDomain, most_rows: int) -> PublicCodes:
    """Return the codes of the first visits and of at most ``most_rows`` later visits of each patient."""
    codings = make_codings(domain)
    current: dict[str, Codes] = {}
    allowed = np.ones(records.table.num_rows, dtype=bool)
    numbers: dict[str, NDArray[np.float64]] = {}
    for column in domain.schema.columns:
        values = records.table[column.name].combine_chunks()
        if column.kind == "set":
            made, fits = _encode_labels(column, values)
        elif column.is_number:
            numbers[column.name], fits = _read_numbers(column, values)
            made = {column.name: _encode_numbers(codings.columns[column.name], numbers[column.name])}
        else:
            made, fits = _encode_categories(column, values)
        current |= made
        allowed &= fits
    sizes = dict.fromkeys(current, 2) | {name: coding.size for name, coding in codings.columns.items()}
    sizes |= {f"{name} since": coding.size for name, coding in codings.deltas.items()}
    people = records.table[PATIENT].combine_chunks().to_numpy().astype(np.int64)[allowed]
    current = {name: codes[allowed] for name, codes in current.items()}
    starts = np.flatnonzero(np.diff(people, prepend=-1) != 0)
    total = np.diff(np.append(starts, len(people)))
    if codings.visits is not None:
        seen = codings.visits.encode_numbers(total.astype(np.float64))
        current[VISITS] = np.repeat(seen, total)
        sizes[VISITS] = codings.visits.size
    first = {name: codes[starts] for name, codes in current.items()}
    if codings.visits is None:
        return PublicCodes(first, {}, sizes, codings)
    place = np.arange(len(people)) - np.repeat(starts, total)
    chosen = np.flatnonzero((place > 0) & choose_rows(place - 1, np.repeat(total, total) - 1, most_rows))
    later = {name: codes[chosen] for name, codes in current.items()}
    later |= {f"{name} before": codes[chosen - 1] for name, codes in current.items()}
    for name, coding in codings.deltas.items():
        values = numbers[name][allowed]
        later[f"{name} since"] = coding.encode_numbers(np.maximum(values[chosen] - values[chosen - 1], 0.0))
    return PublicCodes(first, later, sizes, codings)


def _read_numbers(column: Column, values: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        raise PopulationError(f"column '{column.name}' is declared {column.kind}, but holds {values.type}.")
    numbers = np.clip(values.to_numpy(zero_copy_only=False).astype(np.float64), column.low, column.high)
    if column.kind == "integer":
        numbers = np.round(numbers)
    return numbers, ~np.isnan(numbers) | column.missing


def _encode_numbers(coding: Coding, numbers: NDArray[np.float64]) -> Codes:
    missing = np.isnan(numbers)
    return np.where(missing, coding.missing_code, coding.encode_numbers(np.where(missing, coding.low[0], numbers)))


def _encode_categories(column: Column, values: Any) -> tuple[dict[str, Codes], NDArray[np.bool_]]:
    if not pa.types.is_string(values.type):
        raise PopulationError(f"column '{column.name}' is declared categorical, but holds {values.type}.")
    codes = _look_up(column, values)
    missing = len(column.categories) if column.missing else 0
    return {column.name: np.where(codes < 0, missing, codes)}, (codes >= 0) | column.missing


def _encode_labels(column: Column, values: Any) -> tuple[dict[str, Codes], NDArray[np.bool_]]:
    if not pa.types.is_list(values.type):
        raise PopulationError(f"column '{column.name}' is declared a set, but holds {values.type}.")
    bits = np.zeros((len(values), len(column.categories) + 1), dtype=np.int64)  # the last: labels nobody declared
    bits[values.value_parent_indices().to_numpy(), _look_up(column, values.flatten())] = 1
    gone = values.is_null().to_numpy(zero_copy_only=False)
    made = {name_label(column.name, label): bits[:, place] for place, label in enumerate(column.categories)}
    if column.missing:
        made = {name_missing_set(column.name): gone.astype(np.int64), **made}
    return made, ~gone | column.missing


def _look_up(column: Column, words: Any) -> Codes:
    """Return the place of each word among the categories, -1 for any other and for a missing one."""
    places = {name: place for place, name in enumerate(column.categories)}
    encoded = words.dictionary_encode()
    known = np.array([*(places.get(word, -1) for word in encoded.dictionary.to_pylist()), -1], dtype=np.int64)
    codes: Codes = known[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
    return codes
