"""Who is judged apart: sexes, age bands, sites and scanners, their intersections, and gaps between them."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synth.evaluation.images.sets import ImageSet
from synth.evaluation.metric import Score
from synth.evaluation.ranks import Z95, Interval

LEAST_IMAGES = 25  # of a subgroup, on each side, for a score
MOST_VALUES = 8  # of an attribute whose values are subgroups
AGE_BANDS = (0, 20, 40, 60, 80, 150)  # years
_AGE = re.compile(r"age(_years)?$")
_CROSSED = re.compile(
    r"sex|gender|ethnicity|race|site|hospital|centre|center|institution|scanner|manufacturer|field_strength.*"
)
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Subgroup:
    """Images whose attributes have these values. ``attribute`` is ``sex``, or ``sex,age_years`` of an intersection."""

    name: str
    attribute: str
    conditions: tuple[tuple[str, str], ...]

    def mask(self, images: ImageSet) -> Mask:
        """Return which images belong to it; none where an attribute is missing."""
        found = np.ones(len(images), bool)
        for attribute, value in self.conditions:
            found &= np.array([text == value for text in _describe_values(images, attribute)], bool)
        return found


def find_subgroups(real: ImageSet, synthetic: ImageSet) -> tuple[Subgroup, ...]:
    """Return the subgroups of the attributes that both sides have, in the order of the reference's schema.

    Each value of a categorical attribute of 2 to 8 values and each age band that the reference has is one. Sex, age
    and site or scanner are crossed too, two at a time.
    """
    values = {}
    for attribute in real.schema:
        if attribute.name not in synthetic.records.column_names:
            continue
        if attribute.kind == "categorical" or _AGE.fullmatch(attribute.name):
            seen = sorted({text for text in _describe_values(real, attribute.name) if text})
            if 2 <= len(seen) <= MOST_VALUES:
                values[attribute.name] = seen
    found = [Subgroup(f"{name}={v}", name, ((name, v),)) for name, seen in values.items() for v in seen]
    crossed = [name for name in values if _AGE.fullmatch(name) or _CROSSED.fullmatch(name)]
    for first, second in itertools.combinations(crossed, 2):
        for one, other in itertools.product(values[first], values[second]):
            conditions = ((first, one), (second, other))
            found.append(Subgroup(f"{first}={one},{second}={other}", f"{first},{second}", conditions))
    return tuple(group for group in found if group.mask(real).any())


def measure_representation(subgroups: Iterable[Subgroup], real: ImageSet, synthetic: ImageSet) -> list[Score]:
    """Return each subgroup's share among the synthetic images over its share among the real ones.

    The interval is Katz's for a ratio of two proportions, on the logarithm (Biometrics 1978), with half an image
    added; it begins at 0 where the subgroup has no synthetic image.
    """
    found = []
    for group in subgroups:
        a, b = int(group.mask(synthetic).sum()), int(group.mask(real).sum())
        n, m = max(1, len(synthetic)), max(1, len(real))
        ratio = (a / n) / (b / m)
        error = np.sqrt(max(0.0, 1 / (a + 0.5) - 1 / (n + 0.5) + 1 / (b + 0.5) - 1 / (m + 0.5)))
        centre = np.log((a + 0.5) / (n + 0.5) * (m + 0.5) / (b + 0.5))
        low, high = (float(np.exp(centre + sign * Z95 * error)) for sign in (-1, 1))
        interval = Interval(ratio, low if a else 0.0, high)
        found.append(Score.of("representation", interval, control=1.0, subgroup=group.name, images=a,
                              detail={"real_images": b}))  # fmt: skip
    return found


def measure_gaps(scores: Sequence[Score], subgroups: Sequence[Subgroup]) -> list[Score]:
    """Return, for each metric and attribute, the largest difference between subgroups, and the real one as control.

    The interval is that of the difference of the two extreme subgroups, from theirs; it does not allow for their being
    the extremes, as the control does not either. Subgroups that could not be measured are named in ``reason``.
    """
    attribute_of = {group.name: group.attribute for group in subgroups}
    families: dict[tuple[str, str, str], list[Score]] = defaultdict(list)
    for score in scores:
        if score.subgroup in attribute_of and score.name.partition(".")[0] != "representation":
            families[score.name, score.features, attribute_of[score.subgroup]].append(score)
    return [_measure_gap(*key, members) for key, members in families.items()]


def _measure_gap(name: str, features: str, attribute: str, members: Sequence[Score]) -> Score:
    known = [score for score in members if score.value is not None]
    left_out = [score.subgroup for score in members if score.value is None]
    reason = f"not measurable in {', '.join(left_out)}" if left_out else ""
    more = {"features": features, "subgroup": attribute, "reason": reason}
    if len(known) < 2:
        text = f"fewer than two subgroups of {attribute} could be measured; {reason or 'there is only one'}"
        return Score.missing(f"gap.{name}", text, features=features, subgroup=attribute)
    low, high = min(known, key=_value), max(known, key=_value)
    gap = _value(high) - _value(low)
    error = float(np.hypot(_error(low), _error(high)))
    controls = [score.control for score in known if score.control is not None]
    control = max(controls) - min(controls) if len(controls) == len(known) else None
    interval = Interval(gap, max(0.0, gap - Z95 * error), gap + Z95 * error)
    detail = {"lowest": low.subgroup, "highest": high.subgroup}
    return Score.of(
        f"gap.{name}", interval, control=control, images=min(s.images for s in known), detail=detail, **more
    )


def _value(score: Score) -> float:
    return score.value if score.value is not None else float("nan")


def _error(score: Score) -> float:
    if score.low is None or score.high is None:
        return 0.0
    return (score.high - score.low) / (2 * Z95)


def _describe_values(images: ImageSet, attribute: str) -> list[str]:
    values = images.values(attribute)
    if _AGE.fullmatch(attribute):
        return [_name_band(value) for value in values]
    return ["" if value is None else str(value) for value in values]


def _name_band(age: object) -> str:
    if not isinstance(age, int | float) or not age >= 0:
        return ""
    place = int(np.searchsorted(AGE_BANDS, age, side="right"))
    if place >= len(AGE_BANDS):
        return ""
    low, high = AGE_BANDS[place - 1], AGE_BANDS[place]
    return f"{low}-{high}" if high < AGE_BANDS[-1] else f"{low}+"
