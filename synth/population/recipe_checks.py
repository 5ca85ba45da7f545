"""Refusals: what a recipe may not ask of the adult-brain population, and what to do instead."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from synth.errors import PopulationError, suggest_nearest
from synth.population.prevalence import AGE_MAX_YEARS, AGE_MIN_YEARS, DIAGNOSES, SEXES
from synth.population.recipe import STRATA, Plan, follow_up_count, make_plan
from synth.population.scanners import FIELD_STRENGTHS_T, load_scanner_mix, restrict_mix
from synth.population.severity import draw_severity
from synth.population.volumes import draw_volumes
from synth.population_spec import parse_band
from synth.seeds import COHORT_LEVEL, stream
from synth.spec import CohortSpec

OLDEST_FOLLOW_UP_YEARS = 105.0
JITTER = 0.1  # visits fall up to 10 % early or late
PROBES = 8
PROBE_DRAWS = 4  # a subject that needs more than these is too far from the model to be asked for
EVERYDAY_NAMES = {
    "ms": "multiple-sclerosis",
    "ad": "alzheimer-disease",
    "alzheimer": "alzheimer-disease",
    "alzheimers": "alzheimer-disease",
    "dementia": "alzheimer-disease",
    "stroke": "ischaemic-stroke",
    "infarct": "ischaemic-stroke",
    "ischemic-stroke": "ischaemic-stroke",
    "glioblastoma": "glioma",
    "gbm": "glioma",
    "healthy": "none",
    "control": "none",
    "controls": "none",
    "female": "F",
    "woman": "F",
    "women": "F",
    "male": "M",
    "man": "M",
    "men": "M",
}


def check_recipe(spec: CohortSpec) -> None:
    """Raise PopulationError, saying what to change, if the population cannot deliver ``spec``."""
    for check in CHECKS:
        check(spec)


def _refuse_unknown(field: str, given: Iterable[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            folded = {word.casefold(): word for word in known}
            meant = EVERYDAY_NAMES.get(name.casefold(), folded.get(name.casefold()))
            hint = f" Did you mean '{meant}'?" if meant in known else suggest_nearest(name, known)
            raise PopulationError(f"{field}: '{name}' is not known.{hint} Known: {', '.join(known)}.")


def _check_names(spec: CohortSpec) -> None:
    where, targets = spec.population.where, spec.population.targets
    for field, own in (("where", where.attributes), ("targets", targets.attributes)):
        for name in own:
            raise PopulationError(f"population.{field}: adult-brain knows no attribute '{name}'.")
    _refuse_unknown("population.where.sex", where.sex or (), SEXES)
    _refuse_unknown("population.where.diagnosis", where.diagnosis or (), DIAGNOSES)
    _refuse_unknown("population.targets.sex", targets.sex or (), SEXES)
    _refuse_unknown("population.targets.diagnosis", targets.diagnosis or (), DIAGNOSES)
    for wanted in spec.population.prevalence:
        _refuse_unknown("population.prevalence.diagnosis", (wanted.diagnosis,), DIAGNOSES)
        _refuse_unknown("population.prevalence.where.sex", wanted.where.sex or (), SEXES)


def _refuse_unmodelled(field: str, low: float, high: float) -> None:
    if low < AGE_MIN_YEARS or high > AGE_MAX_YEARS:
        raise PopulationError(
            f"{field}: [{low:g}, {high:g}] is outside the modelled ages; use {AGE_MIN_YEARS} to {AGE_MAX_YEARS} years."
        )


def _check_ages(spec: CohortSpec) -> None:
    low, high = spec.population.where.age_years or (AGE_MIN_YEARS, AGE_MAX_YEARS)
    _refuse_unmodelled("population.where.age_years", low, high)
    for band in spec.population.targets.age_years or ():
        _refuse_unmodelled("population.targets.age_years", *parse_band(band))
    for wanted in spec.population.prevalence:
        _refuse_unmodelled("population.prevalence.where.age_years", *(wanted.where.age_years or (low, high)))
    visits = spec.imaging.visits
    last = high + (visits.count - 1) * visits.interval_years * (1 + JITTER)
    if follow_up_count(spec) and last > OLDEST_FOLLOW_UP_YEARS:
        raise PopulationError(
            f"imaging.visits: {visits.count} visits {visits.interval_years:g} years apart would follow subjects of up "
            f"to {high:g} years to the age of {last:.0f}; the model ends at {OLDEST_FOLLOW_UP_YEARS:g}. Use fewer or "
            "closer visits, or a lower highest age in population.where.age_years."
        )


def _check_scanners(spec: CohortSpec) -> None:
    where, twins = spec.population.where, spec.population.twins
    _check_mix("population.where", where.manufacturer, where.field_strength_t)
    if twins is not None:
        maker, tesla = twins.manufacturer, twins.field_strength_t
        _check_mix("population.twins", None if maker is None else (maker,), None if tesla is None else (tesla,))
        if tesla is not None and spec.imaging.field_strength_t is not None:
            raise PopulationError(
                f"population.twins.field_strength_t: {tesla:g} T would change nothing, as imaging.field_strength_t "
                f"scans everybody at {spec.imaging.field_strength_t:g} T. Leave one of them out."
            )


def _check_mix(place: str, asked: tuple[str, ...] | None, fields: tuple[float, ...] | None) -> None:
    if asked is None and fields is None:
        return  # nothing to check, and reading the mix takes half a second
    makers = sorted({scanner.manufacturer for scanner in load_scanner_mix()[0]})
    _refuse_unknown(f"{place}.manufacturer", asked or (), makers)
    for field in fields or ():
        if field not in FIELD_STRENGTHS_T:
            raise PopulationError(
                f"{place}.field_strength_t: no scanner of the population has {field:g} T. "
                f"Known: {', '.join(f'{known:g}' for known in FIELD_STRENGTHS_T)} T. To scan everybody at another "
                "field, leave this out and set imaging.field_strength_t (engine 'mri')."
            )
    restrict_mix(asked, fields, place)


def _check_counts(spec: CohortSpec) -> None:
    plan = make_plan(spec)
    for target in plan.targets:
        if target.share > 0 and plan.counts[target.stratum & target.inside].sum() == 0:
            part = float(plan.wanted[target.stratum & target.inside].sum())
            of = f"{spec.subjects} subjects"
            if target.within is not None:
                of = f"the {plan.counts[target.within].sum()} subjects in its stratum"
            raise PopulationError(
                f"population.{target.label}: a share of {target.share:g} of {of} is no subject. "
                f"Ask for a larger share or for at least {math.ceil(1 / part - 1e-9)} subjects."
            )
    visits = spec.imaging.visits
    if visits.count > 1 and visits.share > 0 and follow_up_count(spec) == 0:
        raise PopulationError(
            f"imaging.visits.share: a share of {visits.share:g} of {spec.subjects} subjects is no subject. "
            "Ask for a larger share or more subjects, or set imaging.visits.count = 1."
        )
    _probe_volumes(spec, plan)


def _probe_volumes(spec: CohortSpec, plan: Plan) -> None:
    """Draw a few of the hardest subjects (oldest, longest follow-up), so that a cohort does not fail half-way."""
    visits = spec.imaging.visits
    years = (visits.count - 1) * visits.interval_years * (1 + JITTER) if follow_up_count(spec) else 0.0
    for sex, diagnosis in STRATA:
        drawn = [cell for cell in np.flatnonzero(plan.counts).tolist() if plan.stratum_of(cell) == (sex, diagnosis)]
        oldest = max((plan.band_of(cell)[1] for cell in drawn), default=0.0)
        for probe in range(PROBES if drawn else 0):
            rng = stream(spec.seed, COHORT_LEVEL, probe, f"population/probe/{sex}/{diagnosis}")
            ages = (oldest, oldest + years) if years else (oldest,)
            draw_volumes(rng, sex, diagnosis, ages, PROBE_DRAWS)
            draw_severity(stream(spec.seed, COHORT_LEVEL, probe, f"population/probe/{diagnosis}"), diagnosis, ages)


def _check_arms(spec: CohortSpec) -> None:
    arms, visits = spec.population.arms, spec.imaging.visits
    if arms and (visits.count == 1 or visits.share < 1):
        raise PopulationError(
            f"population.arms: a treatment acts between visits; {visits.share:g} of the subjects have {visits.count}. "
            "Set imaging.visits.count to 2 or more and imaging.visits.share to 1."
        )
    for name, arm in arms.items():
        if arm.share * spec.subjects < 1:
            raise PopulationError(
                f"population.arms.{name}: a share of {arm.share:g} of {spec.subjects} subjects is no subject. Ask for "
                f"a larger share or for at least {math.ceil(1 / arm.share - 1e-9)} subjects."
            )


CHECKS: tuple[Callable[[CohortSpec], None], ...] = (
    _check_names,
    _check_ages,
    _check_scanners,
    _check_arms,
    _check_counts,
)
