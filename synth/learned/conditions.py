"""What an image is asked to show, as numbers for a network: any subset of attributes may be given."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synth.errors import ModelError, suggest_nearest
from synth.evaluation.images.sets import ImageSet
from synth.nouns import Attribute, AttributeValue

Codes = NDArray[np.float32]
BUMPS = 6  # along the range of a number
LEAST_FREQUENT = 3  # images that show a value; rarer ones cannot be learned
MOST_CATEGORIES = 200


@dataclass(frozen=True)
class Condition:
    """One attribute that a model was taught: ``values`` of a category or set, ``low`` to ``high`` of a number."""

    attribute: Attribute
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0

    @property
    def numeric(self) -> bool:
        """Whether its values are numbers."""
        return self.attribute.kind in ("integer", "continuous")

    @property
    def width(self) -> int:
        """How many numbers encode it: one says that it is given."""
        return 1 + (1 + BUMPS if self.numeric else len(self.values))

    def encode(self, value: AttributeValue) -> Codes:
        """Return (width,) numbers; all 0 if the value is missing. Raises ModelError for a value it was not taught."""
        code = np.zeros(self.width, np.float32)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return code
        code[0] = 1.0
        if self.numeric:
            code[1:] = self._encode_number(value)
            return code
        for name in [value] if isinstance(value, str) else _read_set(self.attribute.name, value):
            if name not in self.values:
                raise ModelError(
                    f"{self.attribute.name}: the model was not taught '{name}'; it knows {', '.join(self.values)}."
                    + suggest_nearest(name, self.values)
                )
            code[1 + self.values.index(name)] = 1.0
        return code

    def _encode_number(self, value: AttributeValue) -> Codes:
        name, unit = self.attribute.name, self.attribute.unit
        if not isinstance(value, int | float):
            raise ModelError(f"{name}: '{value}' is no number; give one from {self.low:g} to {self.high:g} {unit}.")
        if not self.low <= value <= self.high:
            raise ModelError(f"{name}: the model was taught {self.low:g} to {self.high:g} {unit}, not {value:g}.")
        place = (value - self.low) / max(self.high - self.low, 1e-9)
        bumps = np.exp(-0.5 * ((place - np.linspace(0, 1, BUMPS)) * (BUMPS - 1)) ** 2)
        return np.asarray([2 * place - 1, *bumps], np.float32)


@dataclass(frozen=True)
class ConditionCode:
    """The attributes of a model, in order; their codes stand side by side."""

    conditions: tuple[Condition, ...]

    @property
    def width(self) -> int:
        """The length of a whole code."""
        return sum(condition.width for condition in self.conditions)

    @property
    def places(self) -> tuple[slice, ...]:
        """Where each attribute's code is."""
        ends = np.cumsum([0, *(condition.width for condition in self.conditions)])
        return tuple(slice(int(a), int(b)) for a, b in itertools.pairwise(ends))

    def encode(self, rows: Sequence[Mapping[str, AttributeValue]]) -> Codes:
        """Return (n, width) codes; attributes that a row does not name are not asked for.

        Raises ModelError for an attribute or a value that the model was not taught.
        """
        known = [condition.attribute.name for condition in self.conditions]
        codes = np.zeros((len(rows), self.width), np.float32)
        for number, row in enumerate(rows):
            for name in row:
                if name not in known:
                    raise ModelError(
                        f"the model was not taught '{name}'; it knows {', '.join(known) or 'no attributes'}."
                        + suggest_nearest(name, known)
                    )
            for condition, place in zip(self.conditions, self.places, strict=True):
                codes[number, place] = condition.encode(row.get(condition.attribute.name))
        return codes


def _read_set(name: str, value: AttributeValue) -> Sequence[str]:
    if isinstance(value, tuple | list):
        return [str(item) for item in value]
    raise ModelError(f"{name}: {value!r} is no text and no list of texts.")


def learn_conditions(images: ImageSet, attributes: Sequence[str]) -> ConditionCode:
    """Return the code of ``attributes`` as the training ``images`` show them.

    Values that fewer than 3 images show are left out. Raises ModelError for an attribute that the images do not have,
    or that has one value only, naming it.
    """
    schema = {attribute.name: attribute for attribute in images.schema}
    found = []
    for name in attributes:
        if name not in schema:
            raise ModelError(_say_unknown(name, schema))
        found.append(_learn_condition(schema[name], [v for v in images.values(name) if v is not None]))
    return ConditionCode(tuple(found))


def declare_conditions(
    images: ImageSet, attributes: Sequence[str], public: Mapping[str, Sequence[str] | tuple[float, float]]
) -> ConditionCode:
    """Return the code of ``attributes`` with the ranges and values of ``public``; nothing is learned from the images.

    Raises ModelError for an attribute that the images do not have, or what does not fit its kind.
    """
    schema = {attribute.name: attribute for attribute in images.schema}
    found = []
    for name in attributes:
        if name not in schema:
            raise ModelError(_say_unknown(name, schema))
        found.append(_declare_condition(schema[name], public.get(name, ())))
    return ConditionCode(tuple(found))


def _declare_condition(attribute: Attribute, known: Sequence[str] | tuple[float, float]) -> Condition:
    values = tuple(value for value in known if isinstance(value, str))
    numbers = [float(value) for value in known if not isinstance(value, str)]
    if attribute.kind in ("integer", "continuous"):
        if len(numbers) != 2 or not numbers[0] < numbers[1]:
            raise ModelError(f"privacy.public: '{attribute.name}' is a number; give [lowest, highest].")
        return Condition(attribute, (), numbers[0], numbers[1])
    if numbers or not (1 if attribute.kind == "set" else 2) <= len(values) <= MOST_CATEGORIES:
        raise ModelError(
            f"privacy.public: '{attribute.name}' is a {attribute.kind} attribute; list its values, "
            f"{MOST_CATEGORIES} at most."
        )
    return Condition(attribute, tuple(sorted(set(values))))


def _say_unknown(name: str, known: Iterable[str]) -> str:
    return f"attributes: the reference has no '{name}'; choose from {', '.join(known) or 'none'}." + suggest_nearest(
        name, known
    )


def _learn_condition(attribute: Attribute, values: Sequence[AttributeValue]) -> Condition:
    if attribute.kind in ("integer", "continuous"):
        numbers = [float(value) for value in values if isinstance(value, int | float) and math.isfinite(value)]
        if len(set(numbers)) < 2:
            raise ModelError(f"attributes: '{attribute.name}' has one value only; leave it out.")
        return Condition(attribute, (), min(numbers), max(numbers))
    names = [str(name) for value in values for name in ([value] if isinstance(value, str) else value or ())]  # type: ignore[union-attr]
    counts = {name: names.count(name) for name in sorted(set(names))}
    kept = tuple(name for name, count in counts.items() if count >= LEAST_FREQUENT)
    if len(kept) < (1 if attribute.kind == "set" else 2):
        raise ModelError(
            f"attributes: '{attribute.name}' has one class only ({', '.join(counts) or 'no value'}); leave it out."
        )
    if len(kept) > MOST_CATEGORIES:
        raise ModelError(f"attributes: '{attribute.name}' has {len(kept)} classes; {MOST_CATEGORIES} are the most.")
    return Condition(attribute, kept)


def list_rows(images: ImageSet, code: ConditionCode) -> list[dict[str, AttributeValue]]:
    """Return what each image shows; values that the code does not hold, and attributes of others, become missing."""
    own = {attribute.name for attribute in images.schema}
    names = [c.attribute.name for c in code.conditions]
    columns = {name: images.values(name) if name in own else [None] * len(images) for name in names}
    return [
        {c.attribute.name: _keep_known(c, columns[c.attribute.name][i]) for c in code.conditions}
        for i in range(len(images))
    ]


def _keep_known(condition: Condition, value: AttributeValue) -> AttributeValue:
    if value is None:
        return None
    if condition.numeric:
        return value if isinstance(value, int | float) and condition.low <= value <= condition.high else None
    if isinstance(value, str):
        return value if value in condition.values else None
    return tuple(name for name in value if name in condition.values)  # type: ignore[union-attr]
