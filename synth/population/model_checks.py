"""What a model must be for the kernel to draw from it: the kernel reads flat arrays without looking at their bounds.

Every check raises PopulationError with the first thing that is wrong. A model that passes may be nonsense, but it is
drawn within its arrays and in finite time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from synth.errors import PopulationError
from synth.population.chain import (
    MAX_CODES,
    MAX_VISITS,
    VISITS,
    ChainModel,
    Layout,
    Node,
    name_label,
    name_missing_set,
)
from synth.population.encoding import Coding
from synth.population.schema import Column, Schema
from synth.population.trees import LEAF, Tree

PLACE = "place"  # the slot of the number of a visit
MAX_SLOTS = 1 << 15  # features are 16-bit
LARGEST = 2.0**62  # of whole numbers, which become int64
SUM_TOLERANCE = 1e-6  # of probabilities


def check_model(model: ChainModel) -> None:
    """Raise PopulationError, saying what is wrong, if drawing from ``model`` could leave its arrays."""
    _check_schema(model.schema)
    _check_codings(model)
    _check_slots(model.layout)
    _check_nodes(model)
    if len(model.trees) != len(model.layout.nodes):
        raise PopulationError(f"it has {len(model.trees)} trees for {len(model.layout.nodes)} nodes")
    for node, tree in zip(model.layout.nodes, model.trees, strict=True):
        flaw = _find_tree_flaw(tree, node, _count_codes(model, node))
        if flaw:
            raise PopulationError(f"the tree of '{node.name}': {flaw}")
    _check_memory(model.schema, model.layout, _find_clock_slots(model))


def _check_schema(schema: Schema) -> None:
    _refuse_repeats("attribute", schema.names)
    if not schema.columns:
        raise PopulationError("it has no attributes")
    for column in schema.columns:
        _refuse_repeats(f"category of '{column.name}'", column.categories)
        if column.is_number == bool(column.categories):
            raise PopulationError(f"attribute '{column.name}' of kind {column.kind} has the wrong categories")
        if column.is_number and not _is_range(column.low, column.high):
            raise PopulationError(f"attribute '{column.name}' lacks bounds that are finite and in order")
        if len(column.categories) >= MAX_CODES:
            raise PopulationError(f"attribute '{column.name}' has {len(column.categories)} categories")


def _is_range(low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and math.isfinite(low) and math.isfinite(high) and low <= high


def _refuse_repeats(what: str, names: Iterable[object]) -> None:
    met: set[object] = set()
    for name in names:
        if name in met:
            raise PopulationError(f"there is more than one {what} '{name}'; rename one of them")
        met.add(name)


# ---------------------------------------------------------------------------------------------------------- codings


def _check_codings(model: ChainModel) -> None:
    codings, single = model.codings, [c for c in model.schema.columns if c.kind != "set"]
    if set(codings.columns) != {c.name for c in single}:
        raise PopulationError("its codings are not those of its attributes")
    for column in single:
        if codings.columns[column.name].column != column:
            raise PopulationError(f"the coding of '{column.name}' is of another attribute")
    if set(codings.deltas) != set(model.layout.clocks):
        raise PopulationError("its increments are not those of its clocks")
    if (codings.visits is not None) != model.schema.repeated:
        raise PopulationError("the coding of its numbers of visits does not fit its schema")
    visits = {} if codings.visits is None else {VISITS: codings.visits}
    for name, coding in [*codings.columns.items(), *codings.deltas.items(), *visits.items()]:
        flaw = _find_coding_flaw(coding)
        if flaw:
            raise PopulationError(f"the intervals of '{name}' {flaw}")
    for name, coding in codings.deltas.items():
        if coding.column.missing or coding.low[0] < 0:
            raise PopulationError(f"the increments of '{name}' are below 0")
    if codings.visits is not None and (
        codings.visits.column.missing or codings.visits.low[0] < 1 or codings.visits.high[-1] > MAX_VISITS
    ):
        raise PopulationError(f"its numbers of visits are not from 1 to {MAX_VISITS}")


def _find_coding_flaw(coding: Coding) -> str | None:
    low, high = coding.low, coding.high
    if low.ndim != 1 or low.shape != high.shape:
        return "do not match"
    if not coding.column.is_number:
        return "are those of a number" if low.size else None
    if not 1 <= coding.size <= MAX_CODES:
        return f"are {low.size}, but 1 to {MAX_CODES} codes can be held"
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return "are not finite"
    if (low > high).any() or (high[:-1] > low[1:]).any():
        return "overlap or are not in order"
    if coding.column.kind == "integer" and (
        (low != np.floor(low)).any() or (high != np.floor(high)).any() or max(-low[0], high[-1]) > LARGEST
    ):
        return "are not whole numbers"
    return None


# ----------------------------------------------------------------------------------------------------------- layout


def _check_slots(layout: Layout) -> None:
    if not 0 < len(layout.slots) < MAX_SLOTS or len(layout.slots) != len(layout.ordered):
        raise PopulationError(f"it has {len(layout.slots)} slots and {len(layout.ordered)} signs of order")
    _refuse_repeats("slot", layout.slots)
    _refuse_repeats("clock", layout.clocks)


def _check_nodes(model: ChainModel) -> None:
    layout, schema = model.layout, model.schema
    _refuse_repeats("node", ((node.name, node.first) for node in layout.nodes))
    columns = {column.name: column for column in schema.columns}
    for node in layout.nodes:
        if not 0 <= node.slot < len(layout.slots) or layout.slots[node.slot] != node.name:
            raise PopulationError(f"node '{node.name}' is kept in a slot of another name")
        if not all(0 <= slot < len(layout.slots) for slot in node.features):
            raise PopulationError(f"node '{node.name}' looks at slots that there are not")
        if not (node.first or schema.repeated) or not _fits_role(model, node, columns.get(node.attribute)):
            raise PopulationError(f"node '{node.name}' of role {node.role} does not fit the attributes")
    for name in layout.clocks:
        if name not in columns or not columns[name].is_number or columns[name].missing:
            raise PopulationError(f"clock '{name}' is no number that is always known")
    begun = {node.name for node in layout.nodes if node.first}
    lacking = [name for name in _names_of_nodes(schema) if name not in begun]
    if lacking:
        raise PopulationError(f"nothing draws '{lacking[0]}' at the first visit")


def _fits_role(model: ChainModel, node: Node, column: Column | None) -> bool:
    """Return whether a node is about what its role says."""
    if node.role == "visits":
        return node.name == VISITS and node.first and model.schema.repeated
    if column is None:
        return False
    if node.role == "plain":
        return node.name == node.attribute and column.kind != "set"
    if node.role == "delta":
        return not node.first and node.attribute in model.layout.clocks and node.name == f"{node.attribute} since"
    return column.kind == "set" and node.name in _names_of_column(column)


def _names_of_column(column: Column) -> list[str]:
    if column.kind != "set":
        return [column.name]
    missing = [name_missing_set(column.name)] if column.missing else []
    return [*missing, *(name_label(column.name, label) for label in column.categories)]


def _names_of_nodes(schema: Schema) -> list[str]:
    names = [name for column in schema.columns for name in _names_of_column(column)]
    return [*names, VISITS] if schema.repeated else names


def _find_clock_slots(model: ChainModel) -> list[int]:
    """Return the slots that the kernel fills for clocks, besides their own: from the fifth column of clock_nodes on."""
    try:
        return [int(slot) for slot in model.clock_nodes[:, 4:].ravel()]
    except (ValueError, StopIteration) as error:
        raise PopulationError("a clock lacks a slot that it needs; an older version may have fitted it") from error


def _check_memory(schema: Schema, layout: Layout, clock_slots: list[int]) -> None:
    """Check what is remembered from visit to visit: it must not be written over what is drawn."""
    if not schema.repeated:
        if layout.previous or layout.seen:
            raise PopulationError("it remembers visits, but has none to remember")
        return
    if PLACE not in layout.slots:
        raise PopulationError("it does not know the place of a visit")
    kept = [slot for _, slot in layout.previous] + [slot for _, *slots in layout.seen for slot in slots]
    read = [slot for slot, _ in layout.previous] + [slot for slot, _, _ in layout.seen]
    if not all(0 <= slot < len(layout.slots) for slot in [*kept, *read]):
        raise PopulationError("it remembers slots that there are not")
    written = [*kept, *clock_slots, layout.slot(PLACE)]
    if len(set(written)) < len(written) or {node.slot for node in layout.nodes} & set(written):
        raise PopulationError("what it remembers is written over what it draws")


# ------------------------------------------------------------------------------------------------------------ trees


def _count_codes(model: ChainModel, node: Node) -> int:
    """Return the number of codes that a node may draw."""
    if node.role == "label":
        return 2
    if node.role == "delta":
        return model.codings.deltas[node.attribute].size
    if node.role == "visits" and model.codings.visits is not None:
        return model.codings.visits.size
    return model.codings.columns[node.name].size


def _find_tree_flaw(tree: Tree, node: Node, codes: int) -> str | None:
    parts = (tree.feature, tree.threshold, tree.equal, tree.left, tree.right, tree.leaf)
    size = len(tree.feature)
    if size < 1 or any(part.shape != (size,) for part in parts):
        return "its arrays differ in length"
    if tree.probability.ndim != 2 or len(tree.probability) < 1 or tree.probability.shape[1] != codes:
        return f"its probabilities have the shape {tree.probability.shape}, but there are {codes} codes"
    inner = np.flatnonzero(tree.feature != LEAF)
    leaves = tree.leaf[tree.feature == LEAF]
    if not np.isin(tree.feature[inner], np.array(node.features, dtype=np.int64)).all():
        return "it asks about something that it may not look at"
    if not (_is_below(tree.left, inner, size) and _is_below(tree.right, inner, size)):
        return "a branch does not lead to a place after it"
    if leaves.size == 0 or leaves.min() < 0 or leaves.max() >= len(tree.probability):
        return "a leaf has no probabilities"
    if not np.isfinite(tree.probability).all() or (tree.probability < 0).any():
        return "probabilities are not all finite and at least 0"
    if (np.abs(tree.probability.sum(axis=1) - 1) > SUM_TOLERANCE).any():
        return "probabilities do not sum to 1"
    return None


def _is_below(children: NDArray[np.int32], inner: NDArray[np.int64], size: int) -> bool:
    """Return whether children come after their parents, so that a walk ends, and are there."""
    return bool((children[inner] > inner).all() and (children[inner] < size).all())
