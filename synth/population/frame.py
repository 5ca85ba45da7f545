"""The frame of a conditioned sample: every constrained attribute is cut into the levels that conditions tell apart.

A cell is one level of each; conditions and targets are sets of cells, and a subject is drawn within its cell.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synth.errors import PopulationError
from synth.population.chain import MAX_CODES, ChainModel, Node
from synth.population.conditioning import Target
from synth.population.conditions import Condition, TargetShare
from synth.population.encoding import Coding
from synth.population.sampler import Drawn, Limits

MAX_CELLS = 20_000
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Level:
    """A part of a node's values: the share of each code that is in it, and for numbers from where to where it goes."""

    weight: Floats  # (codes,)
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Axis:
    """One constrained node; its last level admits whatever the others together do."""

    place: int  # of the node in the chain
    node: Node
    coding: Coding | None
    levels: tuple[Level, ...]

    def classify(self, model: ChainModel, drawn: Drawn) -> NDArray[np.int64]:
        """Return the level of each drawn first visit; -1 if it is in none."""
        parts = self.levels[:-1]
        codes = drawn.states[:, self.node.slot].astype(np.int64)
        found = np.full(len(codes), -1, dtype=np.int64)
        for number, level in enumerate(parts):
            inside = level.weight[codes] > 0
            if self.coding is not None and self.coding.column.is_number:
                visits = self.node.role == "visits"
                values = drawn.visits if visits else drawn.values[:, _number_place(model, self.node)]
                inside &= np.isnan(values) | ((values >= level.low) & (values <= level.high))
            found[inside] = number
        return found


@dataclass(frozen=True, slots=True)
class Frame:
    """Axes and cells: ``levels`` (cells, axes) says which level of each axis a cell is."""

    axes: tuple[Axis, ...]
    levels: NDArray[np.int64]

    def find_cells(self, levels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the cell of each row of levels (rows, axes); -1 where a level is -1."""
        sizes = [len(axis.levels) - 1 for axis in self.axes]
        cells = np.zeros(len(levels), dtype=np.int64)
        for place, size in enumerate(sizes):
            cells = cells * size + levels[:, place]
        return np.where((levels < 0).any(axis=1), -1, cells)

    def mask(self, conditions: Sequence[Condition]) -> NDArray[np.bool_]:
        """Return which cells meet all ``conditions``, each of which was told to build_frame."""
        met = np.ones(len(self.levels), dtype=bool)
        for condition in conditions:
            place = next(n for n, axis in enumerate(self.axes) if axis.node.name == condition.node)
            axis = self.axes[place]
            inside = np.array([_admits(condition, level, axis.coding, axis.node) for level in axis.levels[:-1]])
            met &= inside[self.levels[:, place]]
        return met

    def targets(self, shares: Sequence[TargetShare]) -> list[Target]:
        """Return the targets as sets of cells."""
        return [
            Target(s.label, self.mask(s.inside), s.share, self.mask(s.within) if s.within else None) for s in shares
        ]


def find_coding(model: ChainModel, node: Node) -> Coding | None:
    """Return the coding of a node's values; None for labels."""
    return model.codings.visits if node.role == "visits" else model.codings.columns.get(node.name)


def _number_place(model: ChainModel, node: Node) -> int:
    return [c.name for c in model.schema.columns if c.is_number].index(node.attribute)


def build_frame(
    model: ChainModel, where: Sequence[Condition], targets: Sequence[TargetShare], cuts: Sequence[Condition] = ()
) -> Frame:
    """Return the frame in which ``where``, ``targets`` and ``cuts`` can be told apart.

    Raises PopulationError if ``where`` contradicts itself or there would be more than MAX_CELLS cells.
    """
    asked = [*(c for target in targets for c in (*target.inside, *target.within)), *cuts]
    names = list(dict.fromkeys(c.node for c in (*where, *asked)))
    first = {node.name: (place, node) for place, node in enumerate(model.layout.nodes) if node.first}
    axes = []
    for name in sorted(names, key=lambda name: first[name][0]):
        place, node = first[name]
        levels = _cut_levels(model, place, [c for c in where if c.node == name], [c for c in asked if c.node == name])
        axes.append(Axis(place, node, find_coding(model, node), levels))
    cells = math.prod(len(axis.levels) - 1 for axis in axes)
    if cells > MAX_CELLS:
        raise PopulationError(
            f"the conditions and targets cut the population into {cells} cells, more than {MAX_CELLS}; ask about "
            "fewer attributes at once, or with fewer ranges."
        )
    levels_of = list(itertools.product(*(range(len(axis.levels) - 1) for axis in axes)))
    return Frame(tuple(axes), np.array(levels_of, dtype=np.int64).reshape(cells, len(axes)))


def _cut_levels(
    model: ChainModel, place: int, where: Sequence[Condition], asked: Sequence[Condition]
) -> tuple[Level, ...]:
    """Return the levels of one node: its elementary parts that ``where`` admits, then all of those together."""
    node = model.layout.nodes[place]
    coding = find_coding(model, node)
    size = model.trees[place].probability.shape[1]
    if coding is not None and coding.column.is_number:
        parts = _cut_numbers(coding, size, [*where, *asked])
    else:
        parts = []
        for code in range(size):
            weight = np.zeros(MAX_CODES)
            weight[code] = 1.0
            parts.append(Level(weight, -math.inf, math.inf))
    named = [(level, tuple(_admits(c, level, coding, node) for c in [*where, *asked])) for level in parts]
    kept = [(level, signs[len(where) :]) for level, signs in named if all(signs[: len(where)])]
    if not kept and coding is not None and coding.column.is_number:
        raise PopulationError(
            f"nobody can meet all that is asked of '{node.name}': the population has {coding.low[0]:g} to "
            f"{coding.high[-1]:g}, or the conditions contradict."
        )
    if not kept:
        raise PopulationError(f"nobody can meet all that is asked of '{node.name}'; the conditions contradict.")
    merged: dict[tuple[object, ...], Level] = {}
    for level, signs in kept:
        key = (signs, level.low, level.high)
        merged[key] = Level(merged[key].weight + level.weight, level.low, level.high) if key in merged else level
    levels = list(merged.values())
    total = Level(
        np.minimum(sum((level.weight for level in levels), np.zeros(MAX_CODES)), 1.0),
        min((level.low for level in levels if not math.isnan(level.low)), default=math.nan),
        max((level.high for level in levels if not math.isnan(level.high)), default=math.nan),
    )
    return (*levels, total)


def _cut_numbers(coding: Coding, size: int, conditions: Sequence[Condition]) -> list[Level]:
    """Return the parts that the borders of all conditions cut a number into, and the missing value if there is one."""
    whole = coding.column.kind == "integer"
    low, high = float(coding.low[0]), float(coding.high[-1])
    borders = {low}
    for condition in conditions:
        if math.isfinite(condition.low):
            borders.add(math.ceil(condition.low) if whole else condition.low)
        if math.isfinite(condition.high):
            borders.add(math.floor(condition.high) + 1.0 if whole else condition.high)
    cuts = sorted(border for border in borders if low <= border <= high)
    parts = []
    for start, after in itertools.pairwise([*cuts, math.inf]):
        stop = high if after == math.inf else (after - 1.0 if whole else after)
        weight = np.zeros(MAX_CODES)
        weight[: len(coding.low)] = _overlap(coding, start, stop, whole)
        parts.append(Level(weight, start, stop))
    if coding.column.missing:
        weight = np.zeros(MAX_CODES)
        weight[size - 1] = 1.0
        parts.append(Level(weight, math.nan, math.nan))
    return parts


def _overlap(coding: Coding, start: float, stop: float, whole: bool) -> Floats:
    """Return the share of each interval's values that lies between ``start`` and ``stop``."""
    extra = 1.0 if whole else 0.0
    inside = np.minimum(coding.high, stop) - np.maximum(coding.low, start) + extra
    length = coding.high - coding.low + extra
    within = (coding.low >= start) & (coding.high <= stop)
    shares = np.divide(np.maximum(inside, 0.0), length, out=np.zeros_like(length), where=length > 0)
    return np.where(within, 1.0, np.where(length > 0, shares, 0.0))


def _admits(condition: Condition, level: Level, coding: Coding | None, node: Node) -> bool:
    if coding is not None and coding.column.is_number:
        return _is_inside(condition, level)
    code = int(np.argmax(level.weight))
    if node.role == "label":
        return condition.values is not None and str(code) in condition.values
    assert coding is not None
    if coding.column.missing and code == coding.missing_code:
        return condition.missing
    return condition.values is not None and coding.column.categories[code] in condition.values


def _is_inside(condition: Condition, level: Level) -> bool:
    """Whether a part of a number meets a condition; parts never straddle its borders."""
    if math.isnan(level.low):
        return condition.missing
    return condition.low <= level.low and level.high <= condition.high


def make_limits(model: ChainModel, frame: Frame) -> Limits:
    """Return the frame as the kernel takes it: constraint ``k`` is axis ``k``, its levels those of the axis."""
    most = max((len(axis.levels) for axis in frame.axes), default=1)
    shape = (max(len(frame.axes), 1), most)
    weight, lowest, highest = np.zeros((*shape, MAX_CODES)), np.full(shape, -math.inf), np.full(shape, math.inf)
    largest = np.ones(shape)
    constraint_of = np.full(len(model.layout.nodes), -1, dtype=np.int64)
    for k, axis in enumerate(frame.axes):
        constraint_of[axis.place] = k
        probability = model.trees[axis.place].probability
        for number, level in enumerate(axis.levels):
            weight[k, number] = level.weight
            lowest[k, number], highest[k, number] = level.low, level.high
            largest[k, number] = (probability @ level.weight[: probability.shape[1]]).max()
    if not frame.axes:
        weight[:] = 1.0
    return Limits(constraint_of, weight, lowest, highest, largest)
