"""What a metric is, and one score of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from synth.evaluation.ranks import Interval

Family = Literal["fidelity", "diversity", "adherence", "utility", "privacy", "fairness"]
Goal = Literal["lower", "higher", "zero", "control"]  # control: as near to the control's value as possible
SevenC = Literal["congruence", "coverage", "constraint", "completeness", "compliance", "comprehension", "consistency"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One thing that is measured. ``low`` and ``high`` bound its values; ``goal`` says which value is best.

    ``cost`` says what computing it takes, ``source`` where it was defined, ``seven_c`` which question of the 7 Cs
    scorecard it answers (Zamzmi et al., Communications Engineering 2025;4:130).
    """

    name: str
    family: Family
    goal: Goal
    low: float
    high: float
    description: str
    cost: str
    source: str
    seven_c: SevenC


@dataclass(frozen=True, slots=True)
class Score:
    """One value of a metric, with the ends of its 95 % interval and the same score of the control.

    ``name`` is a metric's, or ``metric.what`` where there is one of each. ``features`` names the features it was
    computed in, empty where it needs none. ``subgroup`` is empty for all images, else ``sex=F`` or, for an
    intersection, ``sex=F,age_years=40-60``. ``value`` is None where it cannot be measured, and ``reason`` says why.
    ``images`` is how many images of that side it rests on; ``detail`` holds further numbers, such as a biased value.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    control: float | None = None
    features: str = ""
    subgroup: str = ""
    images: int = 0
    reason: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, found: Interval, **more: Any) -> Score:
        """Return the score with the value and interval ``found``."""
        value, low, high = (float(number) if math.isfinite(number) else None for number in found)
        return cls(name, value, low, high, **more)

    @classmethod
    def missing(cls, name: str, reason: str, **more: Any) -> Score:
        """Return a score that could not be measured, and why."""
        return cls(name, None, reason=reason, **more)
