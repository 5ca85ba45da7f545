"""Which attributes the images share with a reference: by name, brought to one kind, and what a user should know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from synth.errors import PermanentError, suggest_nearest
from synth.nouns import Attribute, AttributeValue

NUMBERS = ("integer", "continuous")
Convert = Callable[[AttributeValue], AttributeValue]


@dataclass(frozen=True)
class Shared:
    """The schemas of both sides: of the images what the reference has too, of the reference everything."""

    images: tuple[Attribute, ...]
    real: tuple[Attribute, ...]
    converters: Mapping[str, Convert]
    notes: tuple[str, ...]

    def convert(self, values: Mapping[str, AttributeValue]) -> dict[str, AttributeValue]:
        """Return the values of one image in the kinds of the shared schema; an attribute it lacks is missing."""
        return {a.name: self.converters[a.name](values.get(a.name)) for a in self.images}


def share_attributes(
    images: Sequence[Attribute], real: Sequence[Attribute], wanted: Sequence[str] | None = None
) -> Shared:
    """Return what both sides share; ``wanted`` names the attributes of the images that count (default: all).

    Kinds are brought together where that loses nothing: numbers become continuous, a single label a set of one, whole
    numbers the names of categories. Raises PermanentError if a wanted attribute is not one of the images'.
    """
    own = {attribute.name: attribute for attribute in images}
    for name in wanted or ():
        if name not in own:
            raise PermanentError(
                f"--attributes: the images have no attribute '{name}'.{suggest_nearest(name, own)} "
                f"They have: {', '.join(own) or 'none'}."
            )
    theirs = {attribute.name: attribute for attribute in real}
    shared: list[Attribute] = []
    converters: dict[str, Convert] = {}
    notes: list[str] = []
    for name in own if wanted is None else wanted:
        if name not in theirs:
            continue
        convert, problem = _bring_together(own[name], theirs[name])
        if convert is None:
            notes.append(f"attribute '{name}' is not compared: {problem}.")
            continue
        if {own[name].kind, theirs[name].kind} == set(NUMBERS):
            theirs[name] = _continuous(theirs[name])
        shared.append(theirs[name])
        converters[name] = convert
    if not shared:
        notes.append(
            f"images and reference share no attribute (images: {', '.join(own) or 'none'}; reference: "
            f"{', '.join(theirs) or 'none'}), so stated attributes and subgroups of the images are not judged."
        )
    elif missing := [name for name in theirs if name not in own]:
        notes.append(f"the reference also states {', '.join(missing)}, which the images do not.")
    return Shared(tuple(shared), tuple(theirs.values()), converters, tuple(notes))


def _continuous(attribute: Attribute) -> Attribute:
    return Attribute(attribute.name, "continuous", attribute.unit, attribute.description)


def _bring_together(own: Attribute, real: Attribute) -> tuple[Convert | None, str]:
    """Return how a value of the images becomes one of the reference's kind, or None and why it cannot."""
    if own.unit and real.unit and own.unit != real.unit:
        return None, f"it is in {own.unit} in the images and in {real.unit} in the reference"
    if own.kind == real.kind:
        return _keep, ""
    if own.kind in NUMBERS and real.kind in NUMBERS:
        return _to_number, ""
    if (own.kind, real.kind) == ("categorical", "set"):
        return _to_set, ""
    if (own.kind, real.kind) == ("integer", "categorical"):
        return _to_label, ""
    return None, f"it is {own.kind} in the images and {real.kind} in the reference"


def _keep(value: AttributeValue) -> AttributeValue:
    return value


def _to_number(value: AttributeValue) -> AttributeValue:
    return float(value) if isinstance(value, int | float) else None


def _to_set(value: AttributeValue) -> AttributeValue:
    return (value,) if isinstance(value, str) else None


def _to_label(value: AttributeValue) -> AttributeValue:
    return str(value) if isinstance(value, int) else None
