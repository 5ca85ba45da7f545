"""From a recipe to a plan: which cells are admitted, in which mix, and how many whole subjects each gets.

Cells are sex x diagnosis x age band; bands end wherever the recipe speaks of an age.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synth.errors import PopulationError
from synth.nouns import Sex
from synth.population.conditioning import (
    Cells,
    Counts,
    Floats,
    Target,
    design_weights,
    group_cells,
    solve_mix,
    sum_groups,
)
from synth.population.permutation import permute_index
from synth.population.prevalence import AGE_MAX_YEARS, AGES_YEARS, DIAGNOSES, SEXES, source_table
from synth.population.rounding import round_counts
from synth.population_spec import PopulationSpec, parse_band
from synth.seeds import COHORT_LEVEL, stream, stream_key
from synth.spec import CohortSpec

STRATA: tuple[tuple[Sex, str], ...] = tuple((sex, diagnosis) for sex in SEXES for diagnosis in DIAGNOSES)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recipe comes down to. Arrays over cells are ordered by sex, diagnosis, age band."""

    cells: Cells  # share of the population that population.where leaves; codes sex, diagnosis, band
    targets: tuple[Target, ...]  # what the recipe asks for
    wanted: Floats  # share of the cohort
    counts: Counts  # whole subjects
    design_weight: Floats  # leads from the cohort back to the population; mean 1 over the cohort
    bands_years: Floats  # borders of the age bands
    age_edges_years: Floats  # borders of the admitted ages: whole years and the borders of the bands
    age_cdf: Floats  # cumulated probability of age at those borders, one row a cell

    def stratum_of(self, cell: int) -> tuple[Sex, str]:
        """Return (sex, diagnosis) of a cell."""
        return STRATA[cell // (len(self.bands_years) - 1)]

    def band_of(self, cell: int) -> tuple[float, float]:
        """Return (youngest, oldest) age in years of a cell; the oldest is not in it."""
        band = cell % (len(self.bands_years) - 1)
        return float(self.bands_years[band]), float(self.bands_years[band + 1])


def restrict_table(population: PopulationSpec) -> tuple[Floats, Floats]:
    """Return (probability of sex x diagnosis x age that ``where`` leaves, sum 1; borders of those ages in years).

    Ages are cut at whole years and wherever the recipe speaks of an age; within a year of age they are even.
    Raises PopulationError if nobody is left.
    """
    where = population.where
    low, high = where.age_years or (float(AGES_YEARS[0]), float(AGE_MAX_YEARS))
    cuts = [*AGES_YEARS.tolist(), AGE_MAX_YEARS, *_spoken_ages(population)]
    edges = np.unique([low, high, *(float(cut) for cut in cuts if low < cut < high)])
    sexes = np.array([where.sex is None or sex in where.sex for sex in SEXES])
    diagnoses = np.array([where.diagnosis is None or name in where.diagnosis for name in DIAGNOSES])
    year = np.clip(np.floor(edges[:-1]).astype(np.int64) - AGES_YEARS[0], 0, len(AGES_YEARS) - 1)
    table = source_table()[:, :, year] * sexes[:, None, None] * diagnoses[None, :, None] * np.diff(edges)
    if table.sum() <= 0:
        raise PopulationError(
            f"population.where leaves nobody: age_years {low:g} to {high:g}, sex {_listed(where.sex, SEXES)}, "
            f"diagnosis {_listed(where.diagnosis, DIAGNOSES)}. Widen one of them"
            " (Alzheimer's disease is only modelled from 40 years on)."
        )
    return table / table.sum(), edges


def _listed(given: tuple[str, ...] | None, known: tuple[str, ...]) -> list[str]:
    return list(known if given is None else given)


def _spoken_ages(population: PopulationSpec) -> list[float]:
    ages = [age for band in population.targets.age_years or () for age in parse_band(band)]
    return ages + [age for wanted in population.prevalence for age in wanted.where.age_years or ()]


def list_targets(population: PopulationSpec, cells: Cells, bands_years: Floats) -> list[Target]:
    """Return what the recipe asks for as targets over the cells, labelled as errors name them."""
    targets = []
    for attribute, names in (("sex", SEXES), ("diagnosis", DIAGNOSES)):
        for name, share in _settle(getattr(population.targets, attribute) or {}).items():
            mask = cells.select(**{attribute: [names.index(name)]})
            targets.append(Target(f"targets.{attribute}.{name} = {share:g}", mask, share))
    for name, share in _settle(population.targets.age_years or {}).items():
        mask = cells.select(band=_bands_within(bands_years, parse_band(name)))
        targets.append(Target(f"targets.age_years.{name} = {share:g}", mask, share))
    for wanted in population.prevalence:
        within = np.ones(len(cells.p), dtype=np.bool_)
        if wanted.where.sex is not None:
            within &= cells.select(sex=[SEXES.index(sex) for sex in wanted.where.sex])
        if wanted.where.age_years is not None:
            within &= cells.select(band=_bands_within(bands_years, wanted.where.age_years))
        inside = cells.select(diagnosis=[DIAGNOSES.index(wanted.diagnosis)])
        label = wanted.label.replace(wanted.diagnosis, f"{wanted.diagnosis} = {wanted.share:g}", 1)
        targets.append(Target(f"prevalence {label}", inside, wanted.share, within))
    return targets


def _settle(shares: dict[str, float]) -> dict[str, float]:
    """Return shares that sum to 1 exactly if they were meant to."""
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()} if 0 < abs(total - 1) < 1e-9 else shares


def _bands_within(bands_years: Floats, ages: tuple[float, float]) -> list[int]:
    return np.flatnonzero((bands_years[:-1] >= ages[0]) & (bands_years[1:] <= ages[1])).tolist()


def make_plan(spec: CohortSpec) -> Plan:
    """Return the plan of a recipe; a pure function of it, some 10 ms the first time.

    Raises PopulationError if ``where`` leaves nobody or the targets cannot be met.
    """
    return _make_plan(spec.population.model_dump_json(), spec.subjects)


@functools.lru_cache(maxsize=8)
def _make_plan(population_json: str, subjects: int) -> Plan:
    population = PopulationSpec.model_validate_json(population_json)
    table, edges = restrict_table(population)
    cells, bands, cdf = _make_cells(table, edges, _spoken_ages(population))
    targets = list_targets(population, cells, bands)
    wanted = solve_mix(cells.p, targets)
    counts = round_counts(wanted, subjects, targets, _margins(cells, wanted, len(bands) - 1))
    weights = _weigh(cells.p, wanted, counts, targets)
    return Plan(cells, tuple(targets), wanted, counts, weights, bands, edges, cdf)


def _make_cells(table: Floats, edges: Floats, spoken: list[float]) -> tuple[Cells, Floats, Floats]:
    """Return the cells, the borders of their age bands, and the distribution of age within each cell."""
    bands = np.unique([edges[0], edges[-1], *(age for age in spoken if edges[0] < age < edges[-1])])
    band = np.searchsorted(bands, edges[:-1], side="right") - 1
    split = np.where(band == np.arange(len(bands) - 1)[:, None], table[:, :, None, :], 0.0)  # sex, diagnosis, band, age
    codes = np.indices(split.shape[:3]).reshape(3, -1)
    ages = split.reshape(-1, len(edges) - 1)
    cumulated = np.concatenate([np.zeros((len(ages), 1)), np.cumsum(ages, axis=1)], axis=1)
    total = cumulated[:, -1:]
    cdf = np.divide(cumulated, total, out=np.zeros_like(cumulated), where=total > 0)
    return Cells(total.ravel() / total.sum(), {"sex": codes[0], "diagnosis": codes[1], "band": codes[2]}), bands, cdf


def _margins(cells: Cells, wanted: Floats, bands: int) -> list[Target]:
    """Return the sums that should stay near their share although nobody asked: each sex, diagnosis and age band."""
    sizes = {"sex": len(SEXES), "diagnosis": len(DIAGNOSES), "band": bands}
    masks = [cells.select(**{name: [code]}) for name, size in sizes.items() if size > 1 for code in range(size)]
    return [Target("margin", mask, float(wanted[mask].sum())) for mask in masks if 0 < wanted[mask].sum() < 1 - 1e-12]


def _weigh(p: Floats, wanted: Floats, counts: Counts, targets: list[Target]) -> Floats:
    """Return the design weight of each cell: one for all cells that the targets cannot tell apart, from the counts."""
    groups = np.where(wanted > 0, group_cells(p, targets), -1)
    weights = design_weights(sum_groups(groups, p), sum_groups(groups, counts))
    return np.where(groups >= 0, weights[groups], 0.0)


def assign_cells(plan: Plan, spec: CohortSpec, start: int, stop: int) -> tuple[Counts, Floats, NDArray[np.bool_]]:
    """Return (cell, age in years, whether there is follow-up) of the subjects ``start`` to ``stop - 1``.

    A keyed permutation says which place of the cohort, ordered by cell, each subject has; nothing is held in memory but
    the slice. Systematic sampling with a random start (Cochran 1977, chapter 8): the k-th of the n subjects of a cell
    has the age at quantile (k + u) / n. Follow-up falls on evenly spaced places, so that it is spread over sex,
    diagnosis and age alike; exactly ``follow_up_count`` subjects of the cohort have it.
    """
    key = stream_key(spec.seed, COHORT_LEVEL, COHORT_LEVEL, "population/order")
    position = permute_index(np.arange(start, stop), spec.subjects, key)
    ends = np.cumsum(plan.counts)
    cell = np.searchsorted(ends, position, side="right")
    rng = stream(spec.seed, COHORT_LEVEL, COHORT_LEVEL, "population/offsets")
    offsets = rng.random(len(plan.counts))
    skip = int(rng.integers(spec.subjects))
    rank = position - (ends - plan.counts)[cell]
    quantile = (rank + offsets[cell]) / plan.counts[cell]
    ages = np.empty(len(position))
    for index in np.unique(cell):
        inside = cell == index
        low, high = plan.band_of(index)
        drawn = np.interp(quantile[inside], plan.age_cdf[index], plan.age_edges_years)
        ages[inside] = np.clip(drawn, low, np.nextafter(high, low))
    chosen = follow_up_count(spec)
    return cell, ages, (position + skip) % spec.subjects * chosen % spec.subjects < chosen


def follow_up_count(spec: CohortSpec) -> int:
    """Return how many subjects of the cohort have follow-up visits."""
    visits = spec.imaging.visits
    return int(visits.share * spec.subjects + 0.5) if visits.count > 1 else 0
