"""Rules files: how the columns of a real table are read, and what of them is public. TOML -> checked values.

[age_years]                 # a column of the table
kind = "integer"            # categorical, integer, continuous or set; recognised if left out
low = 0
high = 110
outside = "missing"         # or "drop": what becomes of rows with other values
[sex.spellings]
male = "M"                  # as found = as meant; "" makes it missing
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from synth.errors import PopulationError, suggest_nearest
from synth.population.cleaning import Rule
from synth.population.private_domain import PublicDomain
from synth.population.schema import Column, Kind, Schema

MOST_VISITS = "most_visits"


class ColumnRules(BaseModel):
    """What a rules file may say of one column."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Kind | None = Field(None, description="categorical, integer, continuous or set")
    low: float | None = Field(None, description="lowest value that is believed")
    high: float | None = Field(None, description="highest value that is believed")
    outside: Literal["missing", "drop"] = Field("missing", description="what becomes of values that are not believed")
    spellings: dict[str, str] = Field(default_factory=dict, description="as found = as meant; '' makes it missing")
    separator: str | None = Field(None, min_length=1, description="splits text into the labels of a set")
    categories: tuple[str, ...] | None = Field(None, description="private only: all values or labels there can be")
    missing: bool = Field(False, description="private only: whether it may be missing")
    static: bool = Field(False, description="private only: whether it is the same on all visits")
    most_step: float | None = Field(None, gt=0, description="private only: never falls, and grows at most so much")

    @model_validator(mode="after")
    def _check_bounds(self) -> ColumnRules:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        return self

    @property
    def rule(self) -> Rule:
        """How the column is cleaned."""
        return Rule(self.kind, self.low, self.high, self.outside, self.spellings, self.separator)


@dataclass(frozen=True, slots=True)
class Rules:
    """A rules file: what is said of each column, and the most visits that a patient counts with (private only)."""

    columns: Mapping[str, ColumnRules] = field(default_factory=dict)
    most_visits: int | None = None

    @property
    def cleaning(self) -> dict[str, Rule]:
        """The rules that prepare_records takes."""
        return {name: column.rule for name, column in self.columns.items()}

    def to_json(self) -> dict[str, Any]:
        """Return what was said as plain JSON values, as load_rules reads it."""
        said = {name: column.model_dump(mode="json", exclude_defaults=True) for name, column in self.columns.items()}
        return said | ({MOST_VISITS: self.most_visits} if self.most_visits is not None else {})

    def domain(self, repeated: bool) -> PublicDomain:
        """Return the public domain that the rules declare; what is not declared is left for the family to refuse."""
        columns = tuple(
            Column(name, r.kind or "categorical", r.categories or (), r.low, r.high, r.missing, r.static)
            for name, r in self.columns.items()
        )
        steps = {name: r.most_step for name, r in self.columns.items() if r.most_step is not None}
        made = PublicDomain(Schema(columns, repeated), steps)
        return made if self.most_visits is None else PublicDomain(made.schema, steps, self.most_visits)


def load_rules(path: Path) -> Rules:
    """Return the rules in the TOML file ``path``; raises PopulationError naming the place and what is allowed."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PopulationError(f"rules '{path}' cannot be read: {error}. Give the path of a TOML file.") from error
    except tomllib.TOMLDecodeError as error:
        raise PopulationError(
            f"rules '{path}' are not valid TOML: {error}. Correct that place and try again."
        ) from error
    return parse_rules(values, f"rules '{path}'")


def parse_rules(values: Mapping[str, Any], where: str = "rules") -> Rules:
    """Return the rules in ``values``; ``where`` names them in errors."""
    most = values.get(MOST_VISITS)
    if most is not None and (type(most) is not int or most < 1):
        raise PopulationError(f"{where}: {MOST_VISITS} is {most!r}; give a whole number of 1 or more.")
    columns, problems = {}, []
    for name, said in values.items():
        if name == MOST_VISITS:
            continue
        if not isinstance(said, dict):
            hint = suggest_nearest(name, [MOST_VISITS])
            problems.append(
                f"  {name}: not a table.{hint} Write [{name}] and what is to be said of that column below it."
            )
            continue
        try:
            columns[name] = ColumnRules.model_validate(said)
        except ValidationError as error:
            problems += [_explain(name, problem) for problem in error.errors()]
    if problems:
        raise PopulationError(f"{where} cannot be used:\n" + "\n".join(problems))
    return Rules(columns, most)


def _explain(column: str, problem: Any) -> str:
    place = ".".join([column, *map(str, problem["loc"])])
    if problem["type"] == "extra_forbidden":
        known = list(ColumnRules.model_fields)
        hint = suggest_nearest(str(problem["loc"][-1]), known) or f" Known keys here: {', '.join(known)}."
        return f"  {place}: unknown key.{hint}"
    given = "" if isinstance(problem["input"], dict) else f" (given: {problem['input']!r})"
    return f"  {place}: {problem['msg'].removeprefix('Value error, ')}{given}"
