"""Subjects from a model, streamed: any slice of a population is drawn without the rest, the same whatever the batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from synth.errors import PopulationError
from synth.population.chain import MAX_CODES, ChainModel, name_label, name_missing_set
from synth.population.kernel import draw_first, draw_later
from synth.population.schema import PATIENT, VISIT, Column
from synth.seeds import COHORT_LEVEL, key_words, stream_key

BATCH = 1 << 16
MOST_ATTEMPTS = 2_000_000
MAX_SUBJECTS = 1 << 48
Indices = NDArray[np.int64]
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Limits:
    """What subjects may be, by constraint and level; arrays as ``draw_first`` takes them."""

    constraint_of: NDArray[np.int64]  # node -> constraint, or -1
    weight: NDArray[np.float64]  # (constraints, levels, codes): share of a code's values that is admitted
    lowest: NDArray[np.float64]  # (constraints, levels)
    highest: NDArray[np.float64]
    largest: NDArray[np.float64]  # (constraints, levels): most probability that any leaf gives to what is admitted

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Return the arrays in the kernel's order."""
        return self.constraint_of, self.weight, self.lowest, self.highest, self.largest


@dataclass(frozen=True, slots=True)
class Drawn:
    """A batch as codes: one row a visit. ``starts`` has one entry more than there are subjects."""

    subjects: Indices
    starts: Indices
    states: NDArray[np.uint8]
    values: NDArray[np.float64]
    attempts: Indices
    visits: NDArray[np.int32]  # of each subject


def no_limits(model: ChainModel) -> Limits:
    """Return limits that admit everybody."""
    nodes = len(model.layout.nodes)
    one = np.ones((1, 1))
    return Limits(np.full(nodes, -1), np.ones((1, 1, MAX_CODES)), -np.inf * one, np.inf * one, one)


def draw_codes(
    model: ChainModel,
    seed: int,
    subjects: Indices,
    limits: Limits | None = None,
    levels: NDArray[np.int64] | None = None,
    later: bool = True,
    twins: tuple[NDArray[np.int64], Indices] | None = None,
    most_attempts: int = MOST_ATTEMPTS,
    stage: str = "population/subjects",
) -> Drawn:
    """Return the subjects with these indices, all visits or (``later`` false) the first.

    ``levels`` (subjects, constraints) says which level of each constraint of ``limits`` a subject is to have.
    ``twins`` = (codes to force by subject and node, -1 for none; the attempts of the originals). Raises
    PopulationError if a subject is not found in ``most_attempts``.
    """
    packed, layout = model.packed, model.layout
    count = len(subjects)
    key0, key1 = key_words(stream_key(seed, COHORT_LEVEL, COHORT_LEVEL, stage))
    numbers = sum(column.is_number for column in model.schema.columns)
    states = np.zeros((count, len(layout.slots)), dtype=np.uint8)
    values = np.zeros((count, numbers))
    visits = np.ones(count, dtype=np.int32)
    forced = twins[0] if twins else np.empty((0, 0), dtype=np.int64)
    attempts = twins[1].copy() if twins else np.zeros(count, dtype=np.int64)
    wanted = np.zeros((count, 1), dtype=np.int64) if levels is None else np.ascontiguousarray(levels, dtype=np.int64)
    chosen = limits or no_limits(model)
    arrays = (subjects.astype(np.int64), key0, key1, tuple(packed))
    failed = draw_first(*arrays, chosen.arrays(), wanted, forced, attempts, most_attempts, states, values, visits)
    if failed >= 0:
        raise PopulationError(
            f"subject {subjects[failed]} was not found in {most_attempts} draws: what is asked of it hardly occurs in "
            "the population. Widen the condition, or fit the model to more records of that kind."
        )
    starts = np.concatenate([[0], np.cumsum(visits, dtype=np.int64)])
    if not model.schema.repeated or not later:
        return Drawn(subjects, np.arange(count + 1), states, values, attempts, visits)
    all_states = np.zeros((int(starts[-1]), states.shape[1]), dtype=np.uint8)
    all_values = np.zeros((int(starts[-1]), numbers))
    all_states[starts[:-1]], all_values[starts[:-1]] = states, values
    draw_later(*arrays, model.clock_nodes, layout.slot("place"), starts, all_states, all_values)
    return Drawn(subjects, starts, all_states, all_values, attempts, visits)


def decode(model: ChainModel, drawn: Drawn) -> dict[str, Any]:
    """Return the attributes of a batch as Arrow arrays by name, one entry a visit."""
    numbers = [column.name for column in model.schema.columns if column.is_number]
    return {
        column.name: _decode_set(model, column, drawn)
        if column.kind == "set"
        else _decode_number(column, drawn.values[:, numbers.index(column.name)])
        if column.is_number
        else _decode_category(column, drawn.states[:, model.layout.slot(column.name)])
        for column in model.schema.columns
    }


def _decode_number(column: Column, values: NDArray[np.float64]) -> Any:
    mask = np.isnan(values) if column.missing else None
    if column.kind == "integer":
        return pa.array(np.nan_to_num(values).astype(np.int64), mask=mask)
    return pa.array(np.ascontiguousarray(values), mask=mask)


def _decode_category(column: Column, codes: NDArray[np.uint8]) -> Any:
    codes = np.ascontiguousarray(codes)
    mask = codes == len(column.categories) if column.missing else None
    indices = pa.array(codes, pa.uint8(), mask=mask)
    return pa.DictionaryArray.from_arrays(indices, pa.array(column.categories, pa.string()))


def _decode_set(model: ChainModel, column: Column, drawn: Drawn) -> Any:
    slots = np.array([model.layout.slot(name_label(column.name, label)) for label in column.categories], dtype=np.int64)
    offsets, places = _list_labels(drawn.states, slots)
    names = pa.DictionaryArray.from_arrays(pa.array(places), pa.array(column.categories, pa.string()))
    if not column.missing:
        return pa.ListArray.from_arrays(pa.array(offsets), names)
    gone = drawn.states[:, model.layout.slot(name_missing_set(column.name))] == 1
    return pa.ListArray.from_arrays(pa.array(offsets), names, mask=pa.array(gone))


@njit(cache=True, nogil=True)
def _list_labels(states, slots):  # type: ignore[no-untyped-def]
    """Return (offset of each row's labels, places of the labels)."""
    rows = states.shape[0]
    offsets = np.zeros(rows + 1, np.int32)
    for row in range(rows):
        count = 0
        for slot in slots:
            count += states[row, slot]
        offsets[row + 1] = offsets[row] + count
    places = np.empty(offsets[rows], np.uint8)
    for row in range(rows):
        at = offsets[row]
        for place in range(slots.size):
            if states[row, slots[place]]:
                places[at] = place
                at += 1
    return offsets, places


def stream_in_order(
    make: Callable[[int, int], Made], start: int, stop: int, batch: int = BATCH, threads: int | None = None
) -> Iterator[Made]:
    """Yield ``make(first, stop)`` of consecutive slices, in order, with a few made ahead on ``threads`` threads."""
    workers = threads or max(1, min(os.cpu_count() or 1, 16))
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[Future[Made]] = []
        for first in range(start, stop, batch):
            waiting.append(pool.submit(make, first, min(first + batch, stop)))
            if len(waiting) > workers:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def sample_records(model: ChainModel, count: int, seed: int) -> pa.Table:
    """Return the record table (see schema) of the subjects 0 to ``count - 1`` of the model, unconditioned."""

    def make(start: int, stop: int) -> pa.Table:
        drawn = draw_codes(model, seed, np.arange(start, stop))
        sizes = np.diff(drawn.starts)
        places = np.arange(len(drawn.states)) - np.repeat(drawn.starts[:-1], sizes)
        people = {PATIENT: pa.array(np.repeat(drawn.subjects, sizes)), VISIT: pa.array(places.astype(np.int32))}
        table = pa.table({**people, **decode(model, drawn)})
        return table.cast(_plain_schema(table.schema))

    return pa.concat_tables(stream_in_order(make, 0, count))


def _plain_schema(schema: Any) -> Any:
    """Return ``schema`` with strings where there are dictionaries."""

    def plain(kind: Any) -> Any:
        if pa.types.is_dictionary(kind):
            return kind.value_type
        return pa.list_(plain(kind.value_type)) if pa.types.is_list(kind) else kind

    return pa.schema([pa.field(field.name, plain(field.type)) for field in schema])
