"""The part of a recipe that says who is in the cohort."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from synth.arm_spec import ArmSpec, check_arms
from synth.recipe_part import Probability, RecipePart

BRAIN = "adult-brain"  # the population whose attributes are keys of their own; others know theirs themselves


class LabelsSpec(RecipePart):
    """Which labels of a set a subject must have, and which not."""

    all: tuple[str, ...] = Field((), description="labels that must all be there")
    without: tuple[str, ...] = Field((), description="labels that must not be there")


Wanted = LabelsSpec | Annotated[tuple[str, ...], Field(min_length=1)] | tuple[float, float]


class WhereSpec(RecipePart):
    """Restricts the population before anything is drawn. A list means "any of these"."""

    age_years: tuple[float, float] | None = Field(None, description="youngest and oldest age at the first visit")
    sex: tuple[str, ...] | None = Field(None, description="sexes to include: F, M")
    diagnosis: tuple[str, ...] | None = Field(None, description="diagnoses to include")
    manufacturer: tuple[str, ...] | None = Field(None, description="scanner makers to include")
    field_strength_t: tuple[float, ...] | None = Field(
        None, description="field strengths in tesla of the population's scanners to include"
    )
    attributes: dict[str, Wanted] = Field(
        default_factory=dict,
        description="of a learned population: any attribute and its values, [lowest, highest], or labels of a set; "
        "may be written beside the keys above",
    )

    @model_validator(mode="after")
    def _check_range(self) -> WhereSpec:
        if self.age_years is not None and not self.age_years[0] < self.age_years[1]:
            raise ValueError(f"age_years must be [youngest, oldest] with youngest < oldest, got {list(self.age_years)}")
        return self


def parse_band(text: str) -> tuple[float, float]:
    """Return (youngest, oldest) of an age band such as "20-40", which holds ages from 20 to just below 40 years.

    Raises ValueError, saying how to write it.
    """
    youngest, dash, oldest = text.partition("-")
    try:
        low, high = float(youngest), float(oldest)
    except ValueError:
        low, high = 0.0, 0.0
    if not dash or not 0 <= low < high < math.inf:
        raise ValueError(f"age band '{text}' must be written 'youngest-oldest' in years, such as '20-40'")
    return low, high


class TargetsSpec(RecipePart):
    """Wanted shares of the cohort by category; what the shares of an attribute leave over keeps its natural mix."""

    sex: dict[str, Probability] | None = Field(None, description="wanted share by sex, e.g. {F = 0.5}")
    diagnosis: dict[str, Probability] | None = Field(None, description="wanted share by diagnosis")
    age_years: dict[str, Probability] | None = Field(
        None, description="wanted share by age at the first visit, in bands that do not overlap, e.g. {'20-40' = 0.5}"
    )
    attributes: dict[str, dict[str, Probability]] = Field(
        default_factory=dict,
        description="of a learned population: wanted shares by any attribute; may be written beside the keys above",
    )

    @model_validator(mode="after")
    def _check_sums(self) -> TargetsSpec:
        bands = sorted((parse_band(name), name) for name in self.age_years or ())
        for (before, first), (after, second) in itertools.pairwise(bands):
            if after[0] < before[1]:
                raise ValueError(f"targets.age_years: the bands '{first}' and '{second}' overlap; let them only touch")
        for attribute in ("sex", "diagnosis", "age_years"):
            shares = getattr(self, attribute)
            if shares is not None and sum(shares.values()) > 1 + 1e-9:
                raise ValueError(f"targets.{attribute} sum to {sum(shares.values()):g}; shares must sum to 1 at most")
        return self


class StratumSpec(RecipePart):
    """The part of the cohort that a prevalence is a share of."""

    sex: tuple[str, ...] | None = Field(None, description="sexes of the stratum")
    age_years: tuple[float, float] | None = Field(
        None, description="ages at the first visit, from the first to just below the second"
    )

    @model_validator(mode="after")
    def _check_range(self) -> StratumSpec:
        if self.age_years is not None and not self.age_years[0] < self.age_years[1]:
            raise ValueError(f"age_years must be [youngest, oldest] with youngest < oldest, got {list(self.age_years)}")
        return self


class PrevalenceSpec(RecipePart):
    """A conditional prevalence: ``share`` of the subjects in ``where`` have ``diagnosis``."""

    diagnosis: str = Field(description="the diagnosis")
    share: Probability = Field(description="share of the stratum that has it")
    where: StratumSpec = Field(default_factory=StratumSpec, description="the stratum; without it, the whole cohort")

    @property
    def label(self) -> str:
        """The prevalence in words, such as "multiple-sclerosis where sex F, age_years 20-40"."""
        parts = [f"sex {'/'.join(self.where.sex)}"] if self.where.sex is not None else []
        if self.where.age_years is not None:
            parts.append(f"age_years {self.where.age_years[0]:g}-{self.where.age_years[1]:g}")
        return f"{self.diagnosis} where {', '.join(parts)}" if parts else self.diagnosis


class TwinsSpec(RecipePart):
    """What the twins of a recipe's people have instead; at least one thing."""

    diagnosis: Literal["none"] | None = Field(None, description="none: the disease is absent")
    sex: Literal["F", "M", "other"] | None = Field(None, description="sex of the twins; other: not their original's")
    manufacturer: str | None = Field(None, description="maker of the twins' scanners")
    field_strength_t: float | None = Field(None, description="field strength in tesla of the twins' scanners")

    @model_validator(mode="after")
    def _check_some(self) -> TwinsSpec:
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise ValueError("twins differ in something: give one of " + ", ".join(type(self).model_fields))
        return self


class PopulationSpec(RecipePart):
    """Who is in the cohort."""

    source: str = Field(
        BRAIN, min_length=1, description="name of the population model, the folder of one, or models:/NAME@ALIAS"
    )
    where: WhereSpec = Field(default_factory=WhereSpec, description="restriction of the population")
    targets: TargetsSpec = Field(default_factory=TargetsSpec, description="wanted shares by category")
    prevalence: tuple[PrevalenceSpec, ...] = Field((), description="wanted shares of a diagnosis within strata")
    twins: TwinsSpec | None = Field(
        None, description="the cohort is made of the twins of the people it would have without this key"
    )
    arms: Annotated[dict[str, ArmSpec], AfterValidator(check_arms)] = Field(
        {}, description="of a trial: its arms by name, e.g. {placebo = {share = 0.5}, drug = {share = 0.5}}"
    )

    @model_validator(mode="before")
    @classmethod
    def _gather_attributes(cls, data: Any) -> Any:
        """Move attributes that only a learned population can know below ``attributes``."""
        if not isinstance(data, dict) or data.get("source", BRAIN) == BRAIN:
            return data
        parts: dict[str, type[RecipePart]] = {"where": WhereSpec, "targets": TargetsSpec}
        moved = {name: _move_unknown(data[name], part) for name, part in parts.items() if name in data}
        return {**data, **moved}

    @model_validator(mode="after")
    def _check_prevalence(self) -> PopulationSpec:
        labels = [wanted.label for wanted in self.prevalence]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"prevalence: '{label}' is given {labels.count(label)} times; give it once")
        if self.twins is not None and self.source != BRAIN:
            raise ValueError(f"twins: only '{BRAIN}' has them here; of other models, 'cohortium population twins' has")
        return self


def _move_unknown(given: Any, part: type[RecipePart]) -> Any:
    if not isinstance(given, dict) or not isinstance(given.get("attributes", {}), dict):
        return given
    own = {name: value for name, value in given.items() if name not in part.model_fields}
    kept = {name: value for name, value in given.items() if name not in own}
    return {**kept, "attributes": {**kept.get("attributes", {}), **own}} if own else given
