"""Populations that were learned from a table: any attributes, drawn by a chain (see chain) under a recipe's conditions.

A recipe's ``where`` and ``targets`` speak of the first visit. How often somebody comes is learned, too: the recipe says
only how many visits are imaged at most.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from synth.errors import PopulationError, suggest_nearest
from synth.imaging_spec import VisitsSpec
from synth.nouns import AttributeValue, Subject, Visit
from synth.population.chain import ChainModel, name_label
from synth.population.conditions import NONE, Condition, TargetShare
from synth.population.model_files import fingerprint_model
from synth.population.sampler import Drawn, decode
from synth.population.sampling import SamplePlan, draw_planned, plan_sample
from synth.population.scanners import CleaningReport
from synth.population.schema import Column, Schema
from synth.population_spec import LabelsSpec, PopulationSpec, parse_band
from synth.spec import CohortSpec

DIGITS = 12  # of the fingerprint in a version
_KEPT_PLANS = 4
_WHERE = ("age_years", "sex", "diagnosis", "manufacturer", "field_strength_t")  # keys of their own in recipes
_TARGETS = ("sex", "diagnosis", "age_years")
_TEXTS = ("sex", "diagnosis", "manufacturer", "manufacturer_model")  # columns of subjects in the catalog
_NUMBERS = ("intracranial_ml", "field_strength_t")
_SLICE = 1 << 16  # subjects drawn at once to count their visits


class LearnedPopulation:
    """A fitted model as a population of recipes. ``load`` returns the model; it is called when first needed."""

    def __init__(self, name: str, load: Callable[[], ChainModel], sources: tuple[str, ...] = ()) -> None:
        self.name = name
        self._load, self._sources = load, sources
        self._plans: dict[str, SamplePlan] = {}

    @functools.cached_property
    def model(self) -> ChainModel:
        """The fitted model."""
        return self._load()

    @functools.cached_property
    def version(self) -> str:
        """The beginning of the model's fingerprint."""
        return fingerprint_model(self.model)[:DIGITS]

    def check(self, spec: CohortSpec) -> None:
        """Raise PopulationError, saying what to change, if this population cannot deliver ``spec``."""
        if spec.population.arms:
            raise PopulationError("population.arms is for adult-brain; draw a trial with 'cohortium population trial'.")
        if spec.population.prevalence:
            raise PopulationError(
                f"population.prevalence is for adult-brain; of '{self.name}' ask for shares in population.targets."
            )
        visits, usual = spec.imaging.visits, VisitsSpec()
        if (visits.interval_years, visits.share) != (usual.interval_years, usual.share):
            raise PopulationError(
                f"imaging.visits: '{self.name}' has learned who comes back and when; give only the largest count."
            )
        if visits.count > 1 and not self.model.schema.repeated:
            raise PopulationError(f"imaging.visits.count: '{self.name}' knows one visit of each subject; leave it out.")
        self._plan(spec)

    def count_visits(self, spec: CohortSpec) -> int:
        """Return the number of visits of all subjects together."""
        most = spec.imaging.visits.count
        if most == 1:
            return spec.subjects
        plan, total = self._plan(spec), 0
        for start in range(0, spec.subjects, _SLICE):
            drawn = draw_planned(plan, start, min(start + _SLICE, spec.subjects), later=False)
            total += int(np.minimum(drawn.visits, most).sum())
        return total

    def draw_subjects(self, spec: CohortSpec, cohort_id: str, start: int, stop: int) -> list[Subject]:
        """Return the subjects ``start`` to ``stop - 1``; the same ones whatever the slicing."""
        plan, most = self._plan(spec), spec.imaging.visits.count
        drawn = draw_planned(plan, start, stop, later=most > 1)
        places = plan.find_cells(drawn.subjects) if plan.frame.axes else None
        weights = np.ones(len(drawn.subjects)) if places is None else plan.weights[places]
        rows = _list_rows(self.model, drawn)
        subjects = []
        for place, index in enumerate(drawn.subjects.tolist()):
            first, after = int(drawn.starts[place]), int(drawn.starts[place + 1])
            visits = rows[first : min(after, first + most)]
            subjects.append(build_subject(self.model.schema, cohort_id, index, visits, float(weights[place])))
        return subjects

    def expected_shares(self, spec: CohortSpec) -> dict[str, dict[str, float]]:
        """Return attribute -> category -> wanted share; only what the recipe asks for, the rest follows the model."""
        return {name: dict(shares) for name, shares in _read_targets(spec.population).items()}

    def describe_sources(self) -> tuple[str, ...]:
        """Return one sentence per source of the model."""
        about = self.model.about
        learned = f"Learned from {about.get('rows', '?')} records of {about.get('patients', '?')} patients"
        return self._sources or (learned,)

    def cleaning_report(self) -> CleaningReport | None:
        """Return None: what was cleaned is in the model's own document."""
        return None

    def _plan(self, spec: CohortSpec) -> SamplePlan:
        asked = spec.population.model_dump(mode="json", exclude={"source"})
        key = json.dumps([asked, spec.subjects, spec.seed], sort_keys=True)
        if key not in self._plans:
            if len(self._plans) >= _KEPT_PLANS:
                self._plans.pop(next(iter(self._plans)))
            schema = self.model.schema
            conditions = list(read_conditions(spec.population, schema))
            targets = list(read_targets(spec.population, schema))
            self._plans[key] = plan_sample(self.model, spec.subjects, spec.seed, conditions, targets)
        return self._plans[key]


# ------------------------------------------------------------------------------------------------ what a recipe asks


def read_conditions(asked: PopulationSpec, schema: Schema) -> Iterator[Condition]:
    """Yield the conditions of ``population.where``; raises PopulationError naming what the population knows."""
    named = {name: getattr(asked.where, name) for name in _WHERE}
    for name, wanted in {**named, **asked.where.attributes}.items():
        if wanted is None:
            continue
        field = f"population.where.{name}"
        column = _find_column(field, name, schema)
        if isinstance(wanted, LabelsSpec):
            yield from _read_labels(field, column, wanted)
        elif column.is_number:
            yield _read_range(field, column, wanted)
        elif column.kind == "set":
            yield from _read_labels(field, column, LabelsSpec(all=_texts(field, column, wanted)))
        else:
            values = _texts(field, column, wanted)
            for value in values:
                _check_known(field, value, column)
            yield Condition(name, frozenset(values))


def read_targets(asked: PopulationSpec, schema: Schema) -> Iterator[TargetShare]:
    """Yield the targets of ``population.targets``; raises PopulationError naming what the population knows."""
    for name, shares in _read_targets(asked).items():
        field = f"population.targets.{name}"
        column = _find_column(field, name, schema)
        for category, share in shares.items():
            label = f"targets.{name}.{category} = {share:g}"
            if column.is_number:
                inside: tuple[Condition, ...] = (_read_band(field, column, category),)
            elif column.kind == "set":
                inside = tuple(_read_labels(field, column, LabelsSpec(all=(category,))))
            else:
                _check_known(field, category, column)
                inside = (Condition(name, frozenset([category])),)
            yield TargetShare(label, inside, share)


def _read_targets(asked: PopulationSpec) -> dict[str, Mapping[str, float]]:
    named = {name: getattr(asked.targets, name) for name in _TARGETS}
    return {name: shares for name, shares in {**named, **asked.targets.attributes}.items() if shares}


def _find_column(field: str, name: str, schema: Schema) -> Column:
    if name not in schema.names:
        raise PopulationError(
            f"{field}: the population has no '{name}'.{suggest_nearest(name, schema.names)} It knows: "
            f"{', '.join(schema.names)}."
        )
    return schema.column(name)


def _check_known(field: str, value: str, column: Column) -> None:
    if value not in column.categories:
        raise PopulationError(
            f"{field}: '{value}' is not known.{suggest_nearest(value, column.categories)} Known: "
            f"{', '.join(column.categories)}."
        )


def _texts(field: str, column: Column, wanted: Any) -> tuple[str, ...]:
    if not all(isinstance(value, str) for value in wanted):
        raise PopulationError(f"{field}: {list(wanted)} are no names; choose from {', '.join(column.categories)}.")
    return tuple(wanted)


def _read_labels(field: str, column: Column, wanted: LabelsSpec) -> Iterator[Condition]:
    """Yield one condition a label: it is there ("1") or not; the label "none" stands for no label at all."""
    if column.kind != "set":
        raise PopulationError(f"{field}: '{column.name}' holds one value, not labels; give a list of values.")
    if wanted.all == (NONE,):
        wanted = LabelsSpec(without=column.categories)
    for labels, sign in ((wanted.all, "1"), (wanted.without, "0")):
        for label in labels:
            _check_known(field, label, column)
            yield Condition(name_label(column.name, label), frozenset(sign))


def _read_range(field: str, column: Column, wanted: Any) -> Condition:
    """Return the condition of a number from ``wanted[0]`` to ``wanted[1]``, both included."""
    if len(wanted) != 2 or any(isinstance(value, str) for value in wanted):
        raise PopulationError(f"{field}: '{column.name}' is a number; give [lowest, highest].")
    low, high = float(wanted[0]), float(wanted[1])
    if low > high or (column.high is not None and low > column.high) or (column.low is not None and high < column.low):
        raise PopulationError(
            f"{field}: nobody is between {low:g} and {high:g}; the population has {column.low:g} to {column.high:g}."
        )
    return Condition(column.name, None, low, high)


def _read_band(field: str, column: Column, band: str) -> Condition:
    """Return the condition of a band such as "20-40", which holds 20 to just below 40."""
    try:
        low, high = parse_band(band)
    except ValueError as error:
        raise PopulationError(f"{field}: {error}.") from error
    return _read_range(field, column, (low, high - 1 if column.kind == "integer" else math.nextafter(high, low)))


# ------------------------------------------------------------------------------------------------- drawn as subjects


def _list_rows(model: ChainModel, drawn: Drawn) -> list[dict[str, AttributeValue]]:
    """Return name -> value of every visit that was drawn; labels of a set as a tuple."""
    columns = {name: values.to_pylist() for name, values in decode(model, drawn).items()}
    count = len(drawn.states)
    return [
        {name: tuple(values[i]) if isinstance(values[i], list) else values[i] for name, values in columns.items()}
        for i in range(count)
    ]


def build_subject(
    schema: Schema, cohort_id: str, index: int, rows: list[dict[str, AttributeValue]], design_weight: float
) -> Subject:
    """Return one subject from the attributes of its visits; those with a column in the catalog are in it as well."""
    static = {column.name for column in schema.columns if column.static}
    first, start = rows[0], _number(rows[0].get("age_years"))
    visits = tuple(
        Visit(
            visit=number,
            years_since_first=_years_between(start, _number(row.get("age_years"))),
            age_years=_number(row.get("age_years")),
            attributes={name: value for name, value in row.items() if name not in static},
        )
        for number, row in enumerate(rows)
    )
    texts = {name: value if isinstance(value := first.get(name), str) else None for name in _TEXTS}
    numbers = {name: _number(first.get(name)) for name in _NUMBERS}
    return Subject(
        subject_id=f"{cohort_id}-s{index:07d}",
        cohort_id=cohort_id,
        subject_index=index,
        age_years=start,
        sex=texts["sex"],
        diagnosis=texts["diagnosis"],
        intracranial_ml=numbers["intracranial_ml"],
        manufacturer=texts["manufacturer"],
        manufacturer_model=texts["manufacturer_model"],
        field_strength_t=numbers["field_strength_t"],
        design_weight=design_weight,
        visits=visits,
        attributes={name: value for name, value in first.items() if name in static},
    )


def _number(value: AttributeValue) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _years_between(first: float | None, later: float | None) -> float | None:
    return None if first is None or later is None else later - first
