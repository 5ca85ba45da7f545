"""From a recipe to a plan: which cells are admitted, how they are raked, and how many whole subjects each gets."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synth.errors import PopulationError
from synth.population.prevalence import AGE_MAX_YEARS, AGES_YEARS, DIAGNOSES, SEXES, source_table
from synth.population.raking import Counts, Floats, rake_table, round_table
from synth.seeds import COHORT_LEVEL, stream
from synth.spec import CohortSpec

STRATA = tuple((sex, diagnosis) for sex in SEXES for diagnosis in DIAGNOSES)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recipe comes down to. Arrays over strata follow ``STRATA`` (sex, then diagnosis), 6 entries."""

    source: Floats  # share of the population that population.where leaves
    raked: Floats  # wanted share of the cohort
    counts: Counts  # whole subjects
    design_weight: Floats  # source / raked, mean 1 over the raked mix
    age_edges_years: Floats  # borders of the admitted age cells, shape (78,)
    age_cdf: Floats  # cumulated probability of age at those borders, shape (6, 78)


def restrict_table(spec: CohortSpec) -> tuple[Floats, Floats]:
    """Return (probability of sex x diagnosis x age cell that ``where`` leaves, sum 1; borders of the cut age cells).

    Raises PopulationError if nobody is left.
    """
    where = spec.population.where
    low, high = where.age_years or (AGES_YEARS[0], AGE_MAX_YEARS)
    edges = np.clip(np.append(AGES_YEARS, AGE_MAX_YEARS).astype(np.float64), low, high)
    sexes = np.array([where.sex is None or sex in where.sex for sex in SEXES])
    diagnoses = np.array([where.diagnosis is None or name in where.diagnosis for name in DIAGNOSES])
    table = source_table() * sexes[:, None, None] * diagnoses[None, :, None] * np.diff(edges)
    if table.sum() <= 0:
        raise PopulationError(
            f"population.where leaves nobody: age_years {low:g} to {high:g}, sex {_listed(where.sex, SEXES)}, "
            f"diagnosis {_listed(where.diagnosis, DIAGNOSES)}. Widen one of them"
            " (Alzheimer's disease is only modelled from 40 years on)."
        )
    return table / table.sum(), edges


def _listed(given: tuple[str, ...] | None, known: tuple[str, ...]) -> list[str]:
    return list(known if given is None else given)


def make_plan(spec: CohortSpec) -> Plan:
    """Return the plan of a recipe; a pure function of it, about 1 ms.

    Raises PopulationError if ``where`` leaves nobody or the targets cannot be met.
    """
    table, edges = restrict_table(spec)
    targets = spec.population.targets
    source = table.sum(axis=2)
    raked = rake_table(source, (SEXES, DIAGNOSES), (targets.sex, targets.diagnosis))
    weight = np.divide(source, raked, out=np.zeros_like(source), where=raked > 0)
    cells = np.concatenate([np.zeros((len(STRATA), 1)), np.cumsum(table.reshape(len(STRATA), -1), axis=1)], axis=1)
    total = cells[:, -1:]
    return Plan(
        source=source.ravel(),
        raked=raked.ravel(),
        counts=round_table(raked, spec.subjects).ravel(),
        design_weight=(weight / (weight * raked).sum()).ravel(),
        age_edges_years=edges,
        age_cdf=np.divide(cells, total, out=np.zeros_like(cells), where=total > 0),
    )


@functools.lru_cache(maxsize=2)
def permuted_positions(seed: int, subjects: int) -> NDArray[np.int32]:
    """Return the position of each subject index in the systematic sample: a seeded permutation of 0..subjects-1."""
    positions = stream(seed, COHORT_LEVEL, COHORT_LEVEL, "population/order").permutation(subjects).astype(np.int32)
    positions.setflags(write=False)
    return positions


def assign_strata(plan: Plan, spec: CohortSpec, start: int, stop: int) -> tuple[Counts, Floats, NDArray[np.bool_]]:
    """Return (stratum, age in years, whether there is follow-up) of the subjects ``start`` to ``stop - 1``.

    Systematic sampling with a random start (Cochran 1977, chapter 8): the k-th of the n subjects of a stratum has the
    age at quantile (k + u) / n. Follow-up falls on evenly spaced positions, so that it is spread over sex, diagnosis
    and age alike; exactly ``follow_up_count`` subjects of the cohort have it.
    """
    position = permuted_positions(spec.seed, spec.subjects)[start:stop].astype(np.int64)
    ends = np.cumsum(plan.counts)
    stratum = np.searchsorted(ends, position, side="right")
    rng = stream(spec.seed, COHORT_LEVEL, COHORT_LEVEL, "population/offsets")
    offsets = rng.random(len(STRATA))
    skip = int(rng.integers(spec.subjects))
    rank = position - (ends - plan.counts)[stratum]
    quantile = (rank + offsets[stratum]) / plan.counts[stratum]
    ages = np.empty(len(position))
    for index in np.unique(stratum):
        inside = stratum == index
        ages[inside] = np.interp(quantile[inside], plan.age_cdf[index], plan.age_edges_years)
    chosen = follow_up_count(spec)
    return stratum, ages, (position + skip) * chosen % spec.subjects < chosen


def follow_up_count(spec: CohortSpec) -> int:
    """Return how many subjects of the cohort have follow-up visits."""
    visits = spec.imaging.visits
    return int(visits.share * spec.subjects + 0.5) if visits.count > 1 else 0
