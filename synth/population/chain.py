"""The model behind every family: a chain of nodes, each a tree that draws one code given what was drawn before it.

The first visit of a subject is drawn column by column: what stays the same, numbers that only grow (age), the rest, the
labels of sets, then how many visits follow. Every later visit is drawn given the one before it, what was seen how
often, its place and the number of visits. A set is drawn label by label.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synth.errors import PopulationError
from synth.population.encoding import Coding
from synth.population.schema import Column, Schema
from synth.population.trees import LEAF, Tree

Role = Literal["plain", "delta", "label", "visits"]
ROLES: tuple[Role, ...] = ("plain", "delta", "label", "visits")
MISSING = "missing"  # stands in the place of a label for a set that is missing altogether
VISITS = "visits"  # the name under which the number of visits can be conditioned on
MAX_VISITS = 60_000
SHARES = 7  # steps of the share of earlier visits that showed a label; 0 is never


@dataclass(frozen=True, slots=True)
class Node:
    """One draw. ``slot`` is where its code is kept; ``features`` are the slots its tree may look at."""

    name: str  # attribute, or attribute:label
    role: Role
    first: bool  # drawn on the first visit, or on every later one
    slot: int
    features: tuple[int, ...]
    attribute: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """Which slot of a subject's state holds what. Kernel and fit share it."""

    slots: tuple[str, ...]  # names, for reading a model by eye
    ordered: tuple[bool, ...]  # whether the codes of a slot have an order
    nodes: tuple[Node, ...]
    previous: tuple[tuple[int, int], ...]  # (slot, slot that keeps its value of the visit before)
    seen: tuple[tuple[int, int, int], ...]  # (label's slot, slot of its count, slot of its share of earlier visits)
    clocks: tuple[str, ...]  # numbers that never fall from visit to visit

    def slot(self, name: str) -> int:
        """Return the slot called ``name``."""
        return self.slots.index(name)


@dataclass(frozen=True, slots=True)
class Codings:
    """How attributes, increments of clocks and numbers of visits are coded."""

    columns: Mapping[str, Coding]
    deltas: Mapping[str, Coding]
    visits: Coding | None


@dataclass(frozen=True)
class ChainModel:
    """A fitted population model. ``about`` says what it was learned from and how, as plain JSON values."""

    family: str
    schema: Schema
    layout: Layout
    codings: Codings
    trees: tuple[Tree, ...]  # one for each node of the layout
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def clock_nodes(self) -> NDArray[np.int64]:
        """For each delta node: its place, its clock's slot, first interval and codes, and the slot of its growth."""
        rows = []
        for place, node in enumerate(self.layout.nodes):
            if node.role == "delta":
                start = next(
                    int(self.packed.nodes[n, 6])
                    for n, other in enumerate(self.layout.nodes)
                    if other.name == node.attribute and other.first
                )
                size = len(self.codings.columns[node.attribute].low)
                grown = self.layout.slot(name_grown(node.attribute))
                rows.append((place, self.layout.slot(node.attribute), start, size, grown))
        return np.array(rows, dtype=np.int64).reshape(-1, 5)

    @functools.cached_property
    def packed(self) -> Packed:
        """The model as flat arrays for the kernel."""
        return pack_model(self)


def plan_layout(schema: Schema, clocks: tuple[str, ...], label_order: Mapping[str, list[int]]) -> Layout:
    """Return the layout of a schema. ``label_order`` gives, for each set, its labels in the order of drawing."""
    return _LayoutPlanner(schema, clocks, label_order).plan()


def name_label(attribute: str, label: str) -> str:
    """Return the name of the slot and node of one label of a set."""
    return f"{attribute}:{label}"


def name_missing_set(attribute: str) -> str:
    """Return the name of the slot and node that says whether a set is missing."""
    return f"{attribute} {MISSING}"


def name_grown(clock: str) -> str:
    """Return the name of the slot that says how much a clock has grown from the first visit to the one before."""
    return f"{clock} grown"


class _LayoutPlanner:
    def __init__(self, schema: Schema, clocks: tuple[str, ...], label_order: Mapping[str, list[int]]) -> None:
        self.schema, self.clocks = schema, clocks
        self.labels = {
            c.name: ([name_missing_set(c.name)] if c.missing else [])
            + [name_label(c.name, c.categories[place]) for place in label_order[c.name]]
            for c in schema.columns
            if c.kind == "set"
        }
        self.slots: list[str] = []
        self.ordered: list[bool] = []
        self.nodes: list[Node] = []

    def add(self, name: str, ordered: bool) -> int:
        self.slots.append(name)
        self.ordered.append(ordered)
        return len(self.slots) - 1

    def plan(self) -> Layout:
        """Give every attribute its slots, then chain the nodes of a first and of a later visit."""
        single = [c for c in self.schema.columns if c.kind != "set"]
        single.sort(key=lambda c: (not c.static, c.name not in self.clocks, not c.is_number))  # stable
        sets = [c for c in self.schema.columns if c.kind == "set"]
        for column in single:
            self.add(column.name, column.is_number)
        for column in sets:
            for name in self.labels[column.name]:
                self.add(name, True)
        drawn = [self._draw(column.name, "plain", True, []) for column in single[:1]]
        for column in single[1:]:
            drawn.append(self._draw(column.name, "plain", True, drawn))
        for column in sets:
            drawn = self._chain_set(column, True, drawn)
        previous: list[tuple[int, int]] = []
        seen: list[tuple[int, int, int]] = []
        if self.schema.repeated:
            visits = self.add(VISITS, True)
            self.nodes.append(Node(VISITS, "visits", True, visits, tuple(drawn), VISITS))
            previous, seen = self._plan_later(single, sets, visits)
        return Layout(
            tuple(self.slots), tuple(self.ordered), tuple(self.nodes), tuple(previous), tuple(seen), self.clocks
        )

    def _plan_later(
        self, single: list[Column], sets: list[Column], visits: int
    ) -> tuple[list[tuple[int, int]], list[tuple[int, int, int]]]:
        place = self.add("place", True)
        static = [self.slots.index(c.name) for c in single if c.static]
        moving = [c.name for c in single if not c.static and c.name not in self.clocks]
        labels = [name for column in sets for name in self.labels[column.name]]
        previous = []
        for name in [*moving, *labels]:
            slot = self.slots.index(name)
            previous.append((slot, self.add(f"{name} before", self.ordered[slot])))
        seen = [
            (self.slots.index(name), self.add(f"{name} seen", True), self.add(f"{name} share", True)) for name in labels
        ]
        grown = [self.add(name_grown(name), True) for name in self.clocks]
        known = [*static, *(kept for _, kept in previous), *(share for _, _, share in seen), *grown, visits, place]
        for name in self.clocks:
            slot = self.add(f"{name} since", True)
            current = self.slots.index(name)
            self.nodes.append(
                Node(f"{name} since", "delta", False, slot, (*known, current, slot), name)  # its own: the one before
            )
            known = [*known, current, slot]
        for name in moving:
            known.append(self._draw(name, "plain", False, known))
        for column in sets:
            known = self._chain_set(column, False, known)
        return previous, seen

    def _draw(self, name: str, role: Role, first: bool, known: list[int], attribute: str = "") -> int:
        slot = self.slots.index(name)
        self.nodes.append(Node(name, role, first, slot, tuple(known), attribute or name))
        return slot

    def _chain_set(self, column: Column, first: bool, known: list[int]) -> list[int]:
        for name in self.labels[column.name]:
            known = [*known, self._draw(name, "label", first, known, column.name)]
        return known


class Packed(NamedTuple):
    """Flat arrays of a model, as the kernel takes them. One row of ``nodes`` a node: see ``NODE_FIELDS``."""

    nodes: NDArray[np.int64]
    split_feature: NDArray[np.int16]
    split_code: NDArray[np.uint8]
    split_equal: NDArray[np.bool_]
    split_left: NDArray[np.int32]
    split_right: NDArray[np.int32]
    leaf_start: NDArray[np.int64]  # where a leaf's probabilities begin in ``probability``
    probability: NDArray[np.float64]
    intervals: NDArray[np.float64]  # (codes of all numbers, 2): lowest and highest value
    previous: NDArray[np.int64]
    seen: NDArray[np.int64]


NODE_FIELDS = ("role", "first", "slot", "size", "root", "number", "interval", "codes", "whole")
MAX_CODES = 256


def pack_model(model: ChainModel) -> Packed:
    """Return the flat arrays of ``model``.

    Fields of a node: ``number`` is its place among the numbers of a visit (-1: none), ``interval`` and ``codes`` are
    where its intervals are and how many, ``whole`` is 1 for integers.
    """
    layout, numbers = model.layout, [c.name for c in model.schema.columns if c.is_number]
    intervals: list[NDArray[np.float64]] = []
    starts: dict[tuple[str, str], int] = {}
    for kind, codings in (("", model.codings.columns), ("delta", model.codings.deltas)):
        for name, number in codings.items():
            if number.column.is_number:
                starts[kind, name] = sum(map(len, intervals))
                intervals.append(np.stack([number.low, number.high], axis=1))
    if model.codings.visits is not None:
        starts["", VISITS] = sum(map(len, intervals))
        intervals.append(np.stack([model.codings.visits.low, model.codings.visits.high], axis=1))
    rows, offsets = [], 0
    for node, tree in zip(layout.nodes, model.trees, strict=True):
        coding = _coding_of(model, node)
        is_number = coding is not None and coding.column.is_number
        key = ("delta" if node.role == "delta" else "", node.attribute)
        rows.append(
            (
                ROLES.index(node.role), int(node.first), node.slot, tree.probability.shape[1], offsets,
                numbers.index(node.attribute) if is_number and node.attribute in numbers else -1,
                starts[key] if is_number else -1,
                len(coding.low) if coding is not None and is_number else 0,
                int(coding is not None and coding.column.kind == "integer"),
            )
        )  # fmt: skip
        offsets += len(tree.feature)
    if any(row[3] > MAX_CODES for row in rows):
        raise PopulationError(f"an attribute has more than {MAX_CODES} codes, which the model cannot hold.")
    trees = model.trees
    roots = np.cumsum([0, *(len(tree.feature) for tree in trees)])
    begins = np.cumsum([0, *(tree.probability.size for tree in trees)])
    return Packed(
        nodes=np.array(rows, dtype=np.int64).reshape(-1, len(NODE_FIELDS)),
        split_feature=np.concatenate([tree.feature for tree in trees]),
        split_code=np.concatenate([tree.threshold for tree in trees]),
        split_equal=np.concatenate([tree.equal for tree in trees]),
        split_left=np.concatenate([tree.left + root for tree, root in zip(trees, roots, strict=False)]),
        split_right=np.concatenate([tree.right + root for tree, root in zip(trees, roots, strict=False)]),
        leaf_start=np.concatenate(
            [np.where(t.feature == LEAF, t.leaf * t.probability.shape[1] + begin, -1)
             for t, begin in zip(trees, begins, strict=False)]
        ).astype(np.int64),
        probability=np.concatenate([tree.probability.ravel() for tree in trees]),
        intervals=np.concatenate(intervals) if intervals else np.empty((0, 2)),
        previous=np.array(layout.previous, dtype=np.int64).reshape(-1, 2),
        seen=np.array(layout.seen, dtype=np.int64).reshape(-1, 3),
    )  # fmt: skip


def _coding_of(model: ChainModel, node: Node) -> Coding | None:
    if node.role == "delta":
        return model.codings.deltas[node.attribute]
    if node.role == "visits":
        return model.codings.visits
    return model.codings.columns.get(node.name)
