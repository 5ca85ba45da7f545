"""Multiple sclerosis: lesions of white matter that appear one after the other, enhance for weeks, shrink, and stay.

A subject's lesions are drawn once, in order of appearance (synth.physics.lesions); a visit shows those born before it.
Where the population says how many are new since the visit before (``new_lesions``), as many are; else as many as make
up the load. Plaques are the tissue "lesion" that everybody's protocols know.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from synth.nouns import Subject, Visit
from synth.physics import anatomy, lesions
from synth.physics.diseases.base import Disease, Values, read_number
from synth.physics.grid import LESIONS
from synth.physics.look import Look
from synth.physics.overlay import WHITE, Part
from synth.physics.relaxation import TissueKind
from synth.physics.template import load_template
from synth.seeds import stream_from_key

NAME = "multiple-sclerosis"
NEW_LESIONS_PER_YEAR = 5.5  # untreated: 11.0 in two years, placebo arm of AFFIRM
_WEEK = 7 / 365.25
_ENHANCES_WEEKS, _ENHANCES_SIGMA = 2.0, 0.93  # log-normal: median 2, mean 3.07 weeks
_BLACK_HOLE_SHARE = 0.36  # of lesions that stay dark on T1
_FIRST_SIZE, _GROWS_WEEKS = 0.4, 1.5  # share of the later volume at birth, and how fast it fills (approximate)
_SWELLING, _SHRINKS_WEEKS = 0.7, 10.0  # a young lesion is swollen by this much, and loses that over weeks
_PARTS = (
    Part("lesion", WHITE, LESIONS["lesion"]),
    Part("ms-black-hole", WHITE, LESIONS["core"]),
    Part("ms-active", WHITE, LESIONS["enhancing"]),
)
_PLAQUE, _BLACK_HOLE, _ACTIVE = range(3)


@dataclass(frozen=True, slots=True)
class Lives:
    """What is drawn of each lesion besides its shape (n,): waits between births, time in an interval, and its fate."""

    wait: NDArray[np.float64]
    moment: NDArray[np.float64]
    enhances_years: NDArray[np.float64]
    black_hole: NDArray[np.bool_]


@functools.lru_cache(maxsize=4)
def draw_lives(key: int) -> tuple[NDArray[np.float32], Lives]:
    """Draw the lesions of a subject in order of appearance, and their lives."""
    generator = stream_from_key(key)
    table = lesions.draw_lesions(generator)
    number = len(table)
    return table, Lives(
        generator.standard_exponential(number),
        generator.random(number),
        _WEEK * _ENHANCES_WEEKS * np.exp(_ENHANCES_SIGMA * generator.standard_normal(number)),
        generator.random(number) < _BLACK_HOLE_SHARE,
    )


def date_births(lives: Lives, per_year: float, counts: list[int], years: list[float]) -> NDArray[np.float64]:
    """Return when each lesion was born, in years since the first visit.

    ``counts`` lesions were there at ``years``, the visits so far. Before the first visit births are a Poisson process.
    """
    first = counts[0]
    births = np.empty(counts[-1])
    births[:first] = -np.cumsum(lives.wait[:first][::-1])[::-1] / per_year
    for visit in range(1, len(counts)):
        new = slice(counts[visit - 1], counts[visit])
        span = years[visit] - years[visit - 1]
        births[new] = years[visit - 1] + span * np.sort(lives.moment[new])
    return births


def size_at_age(age_years: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the volume of lesions of this age over what they have in the long run: they fill, swell and shrink.

    Most of what a lesion loses it loses within about ten weeks (Meier et al., AJNR 2007;28:1956); amounts approximate.
    """
    weeks = age_years / _WEEK
    filled = 1 - (1 - _FIRST_SIZE) * np.exp(-weeks / _GROWS_WEEKS)
    return np.asarray(filled * (1 + _SWELLING * np.exp(-weeks / _SHRINKS_WEEKS)))


class MultipleSclerosis(Disease):
    """Lesions of white matter; labels: lesion, core (black holes), enhancing (active ones)."""

    name = NAME
    description = "periventricular and juxtacortical lesions of white matter: plaques, black holes, enhancing ones"
    sources = (
        "placement: Filippi et al., Brain 2019;142:1858",
        "new lesions, untreated and treated: AFFIRM, Polman et al., NEJM 2006;354:899",
        "enhancement: Cotton et al., Neurology 2003;60:640 (median 2, mean 3.07 weeks)",
        "black holes: van Waesberghe et al., AJNR 1998;19:675 (36 % of enhancing lesions stay dark)",
    )
    tissues: ClassVar[dict[str, TissueKind]] = {
        "ms-black-hole": TissueKind(
            "wm", 2.1, 3.9, 0.84, (1.1, 1.5), (0.01, 0.03), "T1 between plaque and fluid (approximate)"
        ),
        "ms-active": TissueKind(
            "wm",
            1.6,
            3.0,
            0.79,
            (0.9, 1.3),
            (0.3, 1.0),
            "diffusivity: Tievsky et al., AJNR 1999;20:1491; rest approximate",
        ),
    }

    def affects(self, subject: Subject) -> bool:
        """Return whether it was diagnosed, or there are lesions without a diagnosis."""
        load = any((visit.lesion_ml or 0) > 0 for visit in subject.visits)
        return load and (subject.diagnosis or NAME) == NAME

    def draw(self, generator: np.random.Generator, key: int, subject: Subject) -> Values:
        """Draw the subject's lesions (by their key) and how many a year were new before the first visit."""
        rate = NEW_LESIONS_PER_YEAR * float(generator.gamma(2.0, 0.5))
        rate = read_number(subject.attributes, "new_lesions_per_year", rate)
        return {"lesion_key": hex(key), "new_per_year": max(rate, 0.3)}

    def state(self, drawn: Values, subject: Subject, visit: Visit) -> Values:
        """Return the load, and how many lesions there were at each visit so far."""
        table, _ = draw_lives(int(drawn["lesion_key"], 16))
        shrinks = anatomy.guess_scale(subject.intracranial_ml or 0.0) ** 3
        counts: list[int] = []
        years: list[float] = []
        for seen in subject.visits[: visit.visit + 1]:
            new = seen.attributes.get("new_lesions")
            if counts and isinstance(new, int):
                count = min(counts[-1] + new, len(table))
            else:
                count = max(lesions.count_lesions(table, seen.lesion_ml or 0.0, shrinks), counts[-1] if counts else 0)
            counts.append(count)
            years.append(seen.years_since_first or 0.0)
        return {"volume_ml": visit.lesion_ml or 0.0, "counts": counts, "years": years}

    def lay(self, drawn: Values, state: Values, size_ml: float) -> Look:
        """Return the lesions of the visit, all of them scaled so that their ellipsoids hold ``size_ml`` together."""
        count, now = state["counts"][-1], state["years"][-1]
        if count == 0:
            return Look()
        table, lives = draw_lives(int(drawn["lesion_key"], 16))
        births = date_births(lives, drawn["new_per_year"], state["counts"], state["years"])
        shown = table[:count].copy()
        active = now - births <= lives.enhances_years[:count]
        shown[:, 10] = np.where(active, _ACTIVE, np.where(lives.black_hole[:count], _BLACK_HOLE, _PLAQUE))
        shown[:, 3:6] /= np.cbrt(size_at_age(now - births))[:, None]
        scale = np.cbrt(size_ml / lesions.lesion_volumes_ml(shown).sum())
        binned = lesions.bin_lesions(lesions.scale_lesions(shown, float(scale)), load_template().fractions.shape[:3])
        return Look(replace(binned, parts=_PARTS))
