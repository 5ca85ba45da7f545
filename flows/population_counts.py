"""Counts in drawn tables how many subjects meet each target: measured back from what was written, not from the plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.population.chain import VISITS, name_label, name_missing_set
from synth.population.conditions import Condition, TargetShare
from synth.population.sampling import SamplePlan
from synth.population.schema import VISIT, Schema

Met = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ShareReport:
    """One target: the share asked for, drawn, estimated for the population by the weights, and the natural one."""

    target: str
    requested: float
    drawn: float | None  # None: nothing was drawn, or only first visits and the target is about their number
    weighted: float | None
    natural: float
    stratum_subjects: int


class Counter:
    """Adds up, table by table, subjects and weights in the stratum of each target and those who meet it."""

    def __init__(self, schema: Schema, targets: Sequence[TargetShare], where: Sequence[Condition]) -> None:
        self.schema, self.targets, self.where = schema, targets, where
        self.sums = np.zeros((len(targets), 4))  # stratum, inside; the same weighted
        self.astray = 0  # subjects who do not meet ``where``
        asked = [c for target in targets for c in (*target.inside, *target.within)]
        self.columns = {name for c in [*where, *asked] if (name := _find_column(schema, c.node)) is not None}
        self.blind = [any(c.node == VISITS for c in (*t.inside, *t.within)) for t in targets]
        self.first_only = False

    def add(self, table: Any, first_only: bool) -> None:
        """Count the subjects of one drawn table."""
        self.first_only = first_only
        if not self.targets and not self.where:
            return
        first = table[VISIT].combine_chunks().to_numpy() == 0
        starts = np.flatnonzero(first)
        visits = np.diff(np.append(starts, len(first)))
        begun = table.select([*sorted(self.columns), "design_weight"]).take(starts) if len(starts) else table
        weights = begun["design_weight"].combine_chunks().to_numpy()
        known: dict[Condition, Met] = {}

        def met(conditions: Sequence[Condition]) -> Met:
            for condition in conditions:
                if condition not in known:
                    known[condition] = find_met(begun, condition, self.schema, visits)
            return np.logical_and.reduce([np.ones(len(starts), dtype=bool), *(known[c] for c in conditions)])

        for place, target in enumerate(self.targets):
            stratum = met(target.within)
            inside = stratum & met(target.inside)
            self.sums[place] += stratum.sum(), inside.sum(), weights[stratum].sum(), weights[inside].sum()
        seen = [c for c in self.where if not (first_only and c.node == VISITS)]
        self.astray += int(len(starts) - met(seen).sum())

    def report(self, plan: SamplePlan) -> list[ShareReport]:
        """Return one entry for each target; what was not drawn is left out."""
        found = []
        for place, (asked, target) in enumerate(zip(self.targets, plan.targets, strict=True)):
            stratum, inside, weight, weight_inside = self.sums[place]
            counted = stratum > 0 and not (self.first_only and self.blind[place])
            naturally = float(plan.natural[target.stratum].sum())
            found.append(
                ShareReport(
                    target=asked.label,
                    requested=asked.share,
                    drawn=inside / stratum if counted else None,
                    weighted=weight_inside / weight if counted and weight > 0 else None,
                    natural=float(plan.natural[target.stratum & target.inside].sum()) / naturally if naturally else 0.0,
                    stratum_subjects=int(plan.counts[target.stratum].sum()),
                )
            )
        return found


def _find_column(schema: Schema, node: str) -> str | None:
    """Return the attribute that a node is about; None for the number of visits."""
    for column in schema.columns:
        if column.kind != "set" and column.name == node:
            return column.name
        labels = [name_missing_set(column.name), *(name_label(column.name, label) for label in column.categories)]
        if column.kind == "set" and node in labels:
            return column.name
    return None


def find_met(table: Any, condition: Condition, schema: Schema, visits: NDArray[np.int64]) -> Met:
    """Return which rows of a drawn table (one a subject) meet a condition; ``visits`` are their numbers of visits."""
    name = _find_column(schema, condition.node)
    if name is None:
        return np.asarray((visits >= condition.low) & (visits <= condition.high))
    column, values = schema.column(name), table[name].combine_chunks()
    if column.kind == "set":
        return _find_labelled(values, condition, name, column.categories)
    gone = values.is_null().to_numpy(zero_copy_only=False)
    if column.is_number:
        numbers = values.to_numpy(zero_copy_only=False).astype(np.float64)
        inside = (numbers >= condition.low) & (numbers <= condition.high)
    else:
        wanted = [word in (condition.values or ()) for word in values.dictionary.to_pylist()]
        inside = np.array([*wanted, False])[values.indices.fill_null(len(wanted)).to_numpy(zero_copy_only=False)]
    return np.asarray(np.where(gone, condition.missing, inside))


def _find_labelled(values: Any, condition: Condition, name: str, labels: Sequence[str]) -> Met:
    wanted = condition.values == frozenset("1")
    if condition.node == name_missing_set(name):
        has = values.is_null().to_numpy(zero_copy_only=False)
    else:
        label = next(label for label in labels if name_label(name, label) == condition.node)
        flat = values.flatten()
        here = flat.indices.to_numpy() == flat.dictionary.to_pylist().index(label)
        has = np.zeros(len(values), dtype=bool)
        has[values.value_parent_indices().to_numpy()[here]] = True
    return np.asarray(has if wanted else ~has)
