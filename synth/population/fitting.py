"""From a record table to a chain: what each node sees is laid out row by row, then a tree is grown for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from synth.errors import PopulationError
from synth.population.chain import (
    MAX_VISITS,
    SHARES,
    VISITS,
    ChainModel,
    Codings,
    Layout,
    Node,
    name_grown,
    name_label,
    name_missing_set,
    plan_layout,
)
from synth.population.encoding import Codes, Coding, encode_set, fit_coding, fit_codings
from synth.population.records import Records
from synth.population.schema import PATIENT, VISIT, Column
from synth.population.trees import Tree

Grow = Callable[[Codes, NDArray[np.int16], NDArray[np.bool_], Codes, int, bool], Tree]
RARE_FALLS = 1e-3  # share of steps in which a clock may go back, as recording errors do


@dataclass(frozen=True, slots=True)
class FitProgress:
    """One node of the chain was fitted."""

    done: int
    total: int
    name: str


@dataclass(frozen=True, slots=True)
class Rows:
    """A record table as codes. ``slots``: (slots, rows) the state after a visit was drawn."""

    slots: Codes
    before: Mapping[int, Codes]  # slot -> code at the visit before, for what a delta node sees
    first: NDArray[np.bool_]
    layout: Layout
    codings: Codings


def fit_chain(
    records: Records, family: str, grow: Grow, about: dict[str, Any] | None = None
) -> Iterator[FitProgress | ChainModel]:
    """Yield a progress record after each node, and the fitted model at last."""
    rows = encode_records(records)
    trees: list[Tree] = []
    for number, node in enumerate(rows.layout.nodes, start=1):
        trees.append(_fit_node(rows, node, node_size(rows, node), grow))
        yield FitProgress(number, len(rows.layout.nodes), node.name)
    notes = {"rows": records.table.num_rows, "patients": records.patients, **(about or {})}
    yield ChainModel(family, records.schema, rows.layout, rows.codings, tuple(trees), notes)


def encode_records(records: Records) -> Rows:
    """Return the rows of ``records`` as the states that the kernel would have passed through."""
    table, schema = records.table, records.schema
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    people = columns[PATIENT].to_numpy().astype(np.int64)
    first = columns[VISIT].to_numpy() == 0
    codings = fit_codings(schema, columns)
    bits = {c.name: encode_set(c, columns[c.name]) for c in schema.columns if c.kind == "set"}
    clocks = tuple(c.name for c in schema.columns if _is_clock(c, columns[c.name], first))
    deltas = {name: _fit_delta(name, columns[name], first) for name in clocks}
    seen = np.bincount(people)
    if seen.max() > MAX_VISITS:
        raise PopulationError(
            f"a patient has {seen.max()} visits, more than {MAX_VISITS}; is the patient column right?"
        )
    visits = fit_coding(Column(VISITS, "integer"), pa.array(seen)) if schema.repeated else None
    order = {name: np.argsort(-b.sum(axis=0), kind="stable").tolist() for name, b in bits.items()}
    layout = plan_layout(schema, clocks, order)
    made = Codings(codings, deltas, visits)
    current = {name: coding.encode(columns[name]) for name, coding in codings.items()}
    for name, labels in bits.items():
        current |= _encode_labels(schema.column(name), labels, columns[name])
    for name, coding in deltas.items():
        current[f"{name} since"] = _encode_delta(coding, columns[name], first)
        current[name_grown(name)] = _encode_growth(coding, columns[name], first, people)
    if visits is not None:
        current[VISITS] = visits.encode_numbers(seen[people].astype(np.float64)).astype(np.uint8)
        current["place"] = np.minimum(columns[VISIT].to_numpy(), 255).astype(np.uint8)
    return _fill_slots(layout, made, current, first, people)


def _is_clock(column: Column, values: Any, first: NDArray[np.bool_]) -> bool:
    """Return whether a number (never missing, not static) does not fall from visit to visit."""
    if not column.is_number or column.static or column.missing or first.all():
        return False
    steps = np.diff(values.to_numpy().astype(np.float64))[~first[1:]]
    return bool((steps < 0).mean() <= RARE_FALLS and (steps > 0).any())


def _steps(values: Any, first: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the increment since the visit before, 0 at first visits and where the clock went back."""
    numbers = values.to_numpy().astype(np.float64)
    return np.where(first, 0.0, np.maximum(np.diff(numbers, prepend=numbers[0]), 0.0))


def _fit_delta(name: str, values: Any, first: NDArray[np.bool_]) -> Coding:
    kind = "integer" if pa.types.is_integer(values.type) else "continuous"
    return fit_coding(Column(f"{name} since", kind), pa.array(_steps(values, first)[~first]))  # type: ignore[arg-type]


def _encode_delta(coding: Coding, values: Any, first: NDArray[np.bool_]) -> Codes:
    codes = coding.encode_numbers(_steps(values, first)).astype(np.uint8)
    return np.where(first, 0, codes).astype(np.uint8)


def _encode_growth(coding: Coding, values: Any, first: NDArray[np.bool_], people: NDArray[np.int64]) -> Codes:
    """Return the code of the growth from the first visit to the one before; 0 at first visits."""
    numbers = values.to_numpy().astype(np.float64)
    before = np.concatenate([numbers[:1], numbers[:-1]])
    grown = np.maximum(before - numbers[first][people], 0.0)
    return np.where(first, 0, coding.encode_numbers(grown)).astype(np.uint8)


def _encode_labels(column: Column, bits: Codes, values: Any) -> dict[str, Codes]:
    labels = {name_label(column.name, label): bits[:, place] for place, label in enumerate(column.categories)}
    if column.missing:
        labels[name_missing_set(column.name)] = values.is_null().to_numpy(zero_copy_only=False).astype(np.uint8)
    return labels


def _fill_slots(
    layout: Layout, codings: Codings, current: Mapping[str, Codes], first: NDArray[np.bool_], people: NDArray[np.int64]
) -> Rows:
    rows = len(first)
    slots = np.zeros((len(layout.slots), rows), dtype=np.uint8)
    for place, name in enumerate(layout.slots):
        if name in current:
            slots[place] = current[name]

    def shift(codes: Codes) -> Codes:
        moved = np.concatenate([codes[:1], codes[:-1]])
        return np.where(first, 0, moved).astype(np.uint8)

    for slot, kept in layout.previous:
        slots[kept] = shift(slots[slot])
    starts = np.flatnonzero(first)
    places = np.arange(rows) - starts[people]
    for slot, seen, share in layout.seen:
        total = np.cumsum(slots[slot], dtype=np.int64)
        count = total - slots[slot] - (total[starts] - slots[slot][starts])[people]
        slots[seen] = np.minimum(count, 255)
        visits = np.clip(places, 1, 255)
        slots[share] = np.where(count == 0, 0, 1 + np.minimum(slots[seen] * SHARES // visits, SHARES - 1))
    before = {}
    for name in layout.clocks:
        for slot in (layout.slot(name), layout.slot(f"{name} since")):
            before[slot] = shift(slots[slot])
    return Rows(slots, before, first, layout, codings)


def node_size(rows: Rows, node: Node) -> int:
    """Return the number of codes of a node."""
    if node.role == "label":
        return 2
    if node.role == "delta":
        return rows.codings.deltas[node.attribute].size
    if node.role == "visits" and rows.codings.visits is not None:
        return rows.codings.visits.size
    return rows.codings.columns[node.name].size


def _fit_node(rows: Rows, node: Node, size: int, grow: Grow) -> Tree:
    """Return the tree of one node, grown on the rows in which the kernel would walk it."""
    chosen = rows.first if node.first else ~rows.first
    features = np.empty((len(node.features), int(chosen.sum())), dtype=np.uint8)
    for place, slot in enumerate(node.features):
        if node.role == "delta" and slot in rows.before and slot in _own_slots(rows.layout, node):
            features[place] = rows.before[slot][chosen]
        else:
            features[place] = rows.slots[slot][chosen]
    ordered = np.array([rows.layout.ordered[slot] for slot in node.features], dtype=bool)
    slots, target = np.array(node.features, np.int16), rows.slots[node.slot][chosen]
    return grow(features, slots, ordered, target, size, rows.layout.ordered[node.slot])


def _own_slots(layout: Layout, node: Node) -> tuple[int, int]:
    return layout.slot(node.attribute), node.slot
