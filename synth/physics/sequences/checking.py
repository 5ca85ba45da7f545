"""What a recipe may ask of protocols: known names, values within limits, and combinations that leave time."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from synth.errors import SpecError, suggest_nearest
from synth.physics.relaxation import RELAXATION
from synth.physics.sequences import SEQUENCES
from synth.physics.sequences.base import Parameter, Range, Rule, Sequence, Wanted

_STEPS = 60  # halvings when the bound of a value is looked for


def series_of(contrast: str) -> str:
    """Return the name under which recipes set the protocol of ``contrast``."""
    return SEQUENCES[contrast].series or contrast


def check_contrasts(contrasts: Iterable[str]) -> None:
    """Raise SpecError naming the first contrast that does not exist, with the choice."""
    for contrast in contrasts:
        if contrast not in SEQUENCES:
            raise SpecError(
                f"imaging.contrasts: '{contrast}' is unknown to engine 'mri'; choose from {list(SEQUENCES)}."
                + suggest_nearest(contrast, SEQUENCES)
            )


def check_field_strength(field_strength_t: float | None) -> None:
    """Raise SpecError if there are no relaxation values at ``field_strength_t``."""
    if field_strength_t is not None and field_strength_t not in RELAXATION:
        known = sorted(RELAXATION)
        raise SpecError(
            f"imaging.field_strength_t: {field_strength_t:g} T has no relaxation values in engine 'mri'; choose from "
            f"{', '.join(f'{known_t:g}' for known_t in known)} T ({known[0]:g} to {known[-1]:g} T)."
        )


def check_protocols(
    contrasts: Iterable[str], protocol: Mapping[str, Wanted], field_strengths_t: Iterable[float]
) -> None:
    """Raise SpecError naming field, value and range of the first impossible value of ``imaging.protocol``.

    Combinations are checked at ``field_strengths_t``, whose usual ranges hold for what the recipe leaves out.
    """
    series = {series_of(contrast): SEQUENCES[contrast] for contrast in contrasts}
    for name, wanted in protocol.items():
        if name not in series:
            raise SpecError(
                f"imaging.protocol.{name}: the recipe has no such contrast; it has {', '.join(series)}."
                + suggest_nearest(name, series)
            )
        for parameter, value in wanted.items():
            check_value(f"imaging.protocol.{name}.{parameter}", parameter, value, series[name].parameters)
        for field_strength_t, rule in itertools.product(field_strengths_t, series[name].rules):
            _check_rule(f"imaging.protocol.{name}", rule, series[name], wanted, field_strength_t)


def check_value(field: str, name: str, value: float | Range, known: Mapping[str, Parameter]) -> None:
    """Raise SpecError if parameter ``name`` is unknown or ``value`` beyond its limits; ``field`` is its place."""
    if name not in known:
        raise SpecError(f"{field}: unknown parameter.{suggest_nearest(name, known)} Known: {', '.join(known)}.")
    parameter = known[name]
    low, high = value if isinstance(value, tuple) else (value, value)
    limits = f"{parameter.lowest:g} to {parameter.highest:g} {parameter.unit}".rstrip()
    for one in (low, high):
        if not parameter.lowest <= one <= parameter.highest:
            raise SpecError(f"{field}: {one:g} is impossible for the {parameter.description}; allowed is {limits}.")
        if parameter.whole and one != int(one):
            raise SpecError(f"{field}: {one:g} must be a whole number, {limits}.")
    if low > high:
        raise SpecError(f"{field}: [{low:g}, {high:g}] must be [lowest, highest], within {limits}.")


def _least_slack(rule: Rule, ranges: Mapping[str, Range]) -> float:
    corners = itertools.product(*(ranges[name] for name in rule.fields))
    return min(rule.slack(dict(zip(rule.fields, corner, strict=True))) for corner in corners)


def _check_rule(field: str, rule: Rule, sequence: Sequence, wanted: Wanted, field_strength_t: float) -> None:
    ranges = sequence.ranges(field_strength_t, wanted)
    if any(name not in ranges for name in rule.fields) or _least_slack(rule, ranges) > 0:
        return
    name = next(name for name in rule.fields if name in wanted)
    unit = sequence.parameters[name].unit
    others = ", ".join(f"{other} {_show_range(ranges[other])}" for other in rule.fields if other != name)
    raise SpecError(
        f"{field}.{name}: {_show_range(ranges[name])} {unit} is impossible: {rule.words}; at {field_strength_t:g} T "
        f"with {others}, {_show_bound(rule, ranges, name, sequence.parameters[name])} {unit}".rstrip()
        + "."
    )


def _show_range(values: Range) -> str:
    return f"{values[0]:g}" if values[0] == values[1] else f"{values[0]:g} to {values[1]:g}"


def _show_bound(rule: Rule, ranges: Mapping[str, Range], name: str, parameter: Parameter) -> str:
    """Return in words up to or from where ``name`` would be possible, if it is anywhere."""
    good, bad = parameter.lowest, parameter.highest
    words = "it must be below"
    if _least_slack(rule, {**ranges, name: (good, good)}) <= 0:
        good, bad = bad, good
        words = "it must be above"
    if _least_slack(rule, {**ranges, name: (good, good)}) <= 0:
        return f"no value from {parameter.lowest:g} to {parameter.highest:g} is possible,"
    for _ in range(_STEPS):
        middle = (good + bad) / 2
        if _least_slack(rule, {**ranges, name: (middle, middle)}) > 0:
            good = middle
        else:
            bad = middle
    return f"{words} {bad:g}"
