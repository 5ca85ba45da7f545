"""What a table of subjects holds: its columns, their kinds, and who repeats.

A *record table* is an Arrow table in canonical form: ``patient`` (int64, from 0), ``visit`` (int32, from 0 within each
patient, rows of a patient together and in order), then one column for each attribute of the schema. Categorical values
are strings, integers int64, continuous values float64, sets lists of strings; missing values are null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from synth.errors import PopulationError, suggest_nearest
from synth.nouns import AttributeKind

Kind = AttributeKind
PATIENT, VISIT = "patient", "visit"


@dataclass(frozen=True, slots=True)
class Column:
    """One attribute. ``categories`` are the values of a categorical column or the labels of a set."""

    name: str
    kind: Kind
    categories: tuple[str, ...] = ()
    low: float | None = None  # bounds of a number, both included
    high: float | None = None
    missing: bool = False  # whether it may be missing
    static: bool = False  # whether it is the same on all visits of a patient

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers."""
        return self.kind in ("integer", "continuous")


@dataclass(frozen=True, slots=True)
class Schema:
    """The attributes of a record table, in order, and whether patients have several visits."""

    columns: tuple[Column, ...]
    repeated: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the attributes."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """Return the attribute called ``name``; raises PopulationError with the nearest known name."""
        for column in self.columns:
            if column.name == name:
                return column
        hint = suggest_nearest(name, self.names)
        raise PopulationError(f"attribute '{name}' is not known.{hint} Known: {', '.join(self.names)}.")

    def to_json(self) -> dict[str, Any]:
        """Return the schema as plain JSON values."""
        return {"repeated": self.repeated, "columns": [asdict(column) for column in self.columns]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Schema:
        """Return the schema that ``to_json`` wrote."""
        columns = [Column(**{**column, "categories": tuple(column["categories"])}) for column in value["columns"]]
        return cls(tuple(columns), bool(value["repeated"]))
