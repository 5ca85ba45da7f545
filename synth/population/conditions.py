"""What is asked of subjects: conditions and targets, as values and as the short text of the command line.

``sex=F``  ``sex=F,M``  ``age_years=40:65`` (both included)  ``age_years=80:``  ``visits=3:``  ``sex=missing``
``findings=Hernia`` (has it)  ``findings!=Hernia`` (has it not)  ``findings=none``; several, joined by ``;``, all hold.
A target is a condition, ``@`` and its share of the cohort, or of those who meet what follows ``|``:
``sex=F@0.6``  ``findings=Hernia@0.12|sex=F;age_years=20:40``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from synth.errors import PopulationError, suggest_nearest
from synth.population.chain import VISITS, name_label, name_missing_set
from synth.population.schema import Column, Schema

NONE, MISSING = "none", "missing"
MAX_BANDS = 200


@dataclass(frozen=True, slots=True)
class Condition:
    """One node of the chain and what it may be: some of its values, or numbers from ``low`` to ``high``, both included.

    ``values`` of a label are "0" or "1". ``missing`` says whether a missing value is admitted.
    """

    node: str
    values: frozenset[str] | None = None
    low: float = -math.inf
    high: float = math.inf
    missing: bool = False


@dataclass(frozen=True, slots=True)
class TargetShare:
    """``share`` of those who meet ``within`` (of all, if empty) are to meet ``inside``; ``label`` is its text."""

    label: str
    inside: tuple[Condition, ...]
    share: float
    within: tuple[Condition, ...] = ()


def parse_conditions(text: str, schema: Schema) -> tuple[Condition, ...]:
    """Return the conditions in ``text``, all of which must hold; raises PopulationError saying what is allowed."""
    parts = [part.strip() for part in text.split(";") if part.strip()]
    if not parts:
        raise PopulationError(f"'{text}' holds no condition; write for example sex=F;age_years=40:65.")
    return tuple(condition for part in parts for condition in _parse_condition(part, schema))


def parse_target(text: str, schema: Schema) -> TargetShare:
    """Return the target in ``text``; raises PopulationError saying what is allowed."""
    head, _, within = text.partition("|")
    inside, at, share = head.rpartition("@")
    try:
        wanted = float(share)
    except ValueError:
        wanted = math.nan
    if not at or not 0.0 <= wanted <= 1.0:
        raise PopulationError(
            f"target '{text}' cannot be read: write CONDITION@SHARE or CONDITION@SHARE|CONDITIONS with a share from "
            "0 to 1, for example sex=F@0.6."
        )
    return TargetShare(
        text.strip(), parse_conditions(inside, schema), wanted, parse_conditions(within, schema) if within else ()
    )


def _parse_condition(text: str, schema: Schema) -> tuple[Condition, ...]:
    name, sign, given = text.partition("=")
    negated = name.endswith("!")
    name, given = name.removesuffix("!").strip(), given.strip()
    if not sign or not name or not given:
        raise PopulationError(f"condition '{text}' cannot be read; write for example sex=F or age_years=40:65.")
    if name == VISITS and schema.repeated and VISITS not in schema.names:
        return (_parse_range(text, Column(VISITS, "integer", low=1.0, high=math.inf), given),)
    column = schema.column(name)
    if column.kind == "set":
        return _parse_labels(text, column, given, negated)
    if given == MISSING and column.missing and not negated:
        return (Condition(name, frozenset(), math.inf, -math.inf, missing=True),)
    if column.is_number:
        if negated:
            raise PopulationError(f"condition '{text}': numbers are asked for by ranges, for example {name}=40:65.")
        return (_parse_range(text, column, given),)
    values = [_known(text, word.strip(), column.categories) for word in given.split(",")]
    admitted = frozenset(column.categories) - frozenset(values) if negated else frozenset(values)
    return (Condition(name, admitted, missing=negated and column.missing),)


def _parse_labels(text: str, column: Column, given: str, negated: bool) -> tuple[Condition, ...]:
    if given == MISSING and column.missing:
        return (Condition(name_missing_set(column.name), frozenset("0" if negated else "1")),)
    if given == NONE and not negated:
        return tuple(Condition(name_label(column.name, label), frozenset("0")) for label in column.categories)
    labels = [_known(text, word.strip(), column.categories) for word in given.split(",")]
    return tuple(Condition(name_label(column.name, label), frozenset("0" if negated else "1")) for label in labels)


def _known(text: str, word: str, known: tuple[str, ...]) -> str:
    if word in known:
        return word
    folded = {other.casefold(): other for other in known}
    hint = f" Did you mean '{folded[word.casefold()]}'?" if word.casefold() in folded else suggest_nearest(word, known)
    shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    raise PopulationError(f"condition '{text}': '{word}' is not known.{hint} Known: {shown}.")


def _parse_range(text: str, column: Column, given: str) -> Condition:
    low, colon, high = given.partition(":")
    try:
        lowest = float(low) if low.strip() else -math.inf
        highest = (float(high) if high.strip() else math.inf) if colon else lowest
    except ValueError:
        raise PopulationError(
            f"condition '{text}': '{given}' is no range; write {column.name}=40:65, 40: or :65."
        ) from None
    if lowest > highest or (column.low is not None and column.high is not None and (
        highest < column.low or lowest > column.high
    )):  # fmt: skip
        raise PopulationError(
            f"condition '{text}': nobody is between {lowest:g} and {highest:g}; the population has "
            f"{column.low:g} to {column.high:g}."
        )
    return Condition(column.name, None, lowest, highest)


def parse_cuts(text: str, schema: Schema) -> tuple[Condition, ...]:
    """Return conditions that tell strata apart: ``sex,age_years/10`` is each sex, and ages by bands of ten years.

    Raises PopulationError for an unknown attribute or a number without the width of its bands.
    """
    cuts: list[Condition] = []
    for word in (part.strip() for part in text.split(",") if part.strip()):
        name, slash, width = word.partition("/")
        attribute, colon, label = name.partition(":")
        column = schema.column(attribute)
        if column.kind == "set":
            cuts.extend(_parse_labels(word, column, label if colon else ",".join(column.categories), False))
        elif column.is_number:
            cuts.extend(_cut_bands(word, column, width if slash else ""))
        else:
            cuts.extend(Condition(column.name, frozenset([category])) for category in column.categories)
    if not cuts:
        raise PopulationError(f"'{text}' names no attribute; write for example sex,age_years/10.")
    return tuple(cuts)


def _cut_bands(text: str, column: Column, width: str) -> list[Condition]:
    try:
        step = float(width)
    except ValueError:
        step = 0.0
    if not step > 0 or column.low is None or column.high is None:
        raise PopulationError(f"'{text}': a number is cut into bands; give their width, for example {column.name}/10.")
    first, last = math.floor(column.low / step), math.floor(column.high / step)
    if last - first >= MAX_BANDS:
        raise PopulationError(f"'{text}' makes {last - first + 1} bands, more than {MAX_BANDS}; make them wider.")
    less = 1.0 if column.kind == "integer" else 0.0
    return [Condition(column.name, None, band * step, (band + 1) * step - less) for band in range(first, last + 1)]
