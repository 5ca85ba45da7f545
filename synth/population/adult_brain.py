"""Population "adult-brain": US adults of 18 to 95 years, healthy, with multiple sclerosis or Alzheimer's disease.

Every subject is drawn from its own named streams, so any slice of the cohort is the same whatever the slicing.
"""

from __future__ import annotations

import functools

import numpy as np

from synth.errors import PopulationError
from synth.nouns import Sex, Subject, Visit
from synth.population.prevalence import DIAGNOSES, SEXES, SOURCES
from synth.population.recipe import assign_cells, follow_up_count, make_plan
from synth.population.recipe_checks import JITTER, check_recipe
from synth.population.scanners import IDC_VERSION, CleaningReport, Scanner, draw_scanner, load_scanner_mix, restrict_mix
from synth.population.twins import change_shares, make_twin
from synth.population.volumes import draw_volumes
from synth.seeds import COHORT_LEVEL, stream
from synth.spec import CohortSpec


class AdultBrain:
    """Age, sex and diagnosis from the literature; anatomy from the literature; scanners from a real index."""

    name = "adult-brain"
    version = f"4+idc{IDC_VERSION}"

    def check(self, spec: CohortSpec) -> None:
        """Raise PopulationError, saying what to change, if this population cannot deliver ``spec``."""
        check_recipe(spec)

    def count_visits(self, spec: CohortSpec) -> int:
        """Return the number of visits of all subjects together."""
        return spec.subjects + follow_up_count(spec) * (spec.imaging.visits.count - 1)

    def draw_subjects(self, spec: CohortSpec, cohort_id: str, start: int, stop: int) -> list[Subject]:
        """Return the subjects ``start`` to ``stop - 1`` of a recipe that passed ``check``.

        Raises PopulationError if the range is not within the cohort.
        """
        if not 0 <= start <= stop <= spec.subjects:
            raise PopulationError(
                f"subjects {start} to {stop} are asked of a cohort of {spec.subjects}; stay within it."
            )
        plan = make_plan(spec)
        where, visits = spec.population.where, spec.imaging.visits
        mix = restrict_mix(where.manufacturer, where.field_strength_t)
        cells, ages, followed = assign_cells(plan, spec, start, stop)
        subjects = []
        for offset, cell in enumerate(cells.tolist()):
            sex, diagnosis = plan.stratum_of(cell)
            index = start + offset
            scanner = draw_scanner(mix, stream(spec.seed, index, COHORT_LEVEL, "population/scanner"))
            years = draw_visit_years(spec.seed, index, visits.count if followed[offset] else 1, visits.interval_years)
            weight = float(plan.design_weight[cell])
            build = functools.partial(
                build_subject, spec.seed, cohort_id, index,
                age_years=float(ages[offset]), design_weight=weight, years=years, scanner=scanner,
            )  # fmt: skip
            person = build(sex, diagnosis)
            subjects.append(person if spec.population.twins is None else make_twin(spec, person, build))
        return subjects

    def expected_shares(self, spec: CohortSpec) -> dict[str, dict[str, float]]:
        """Return attribute -> category -> wanted share of the cohort (natural mix where there is no target).

        ``age_years`` has the age bands that are asked for, ``prevalence`` the conditional prevalences by their label.
        """
        plan, population = make_plan(spec), spec.population
        codes = {"sex": SEXES, "diagnosis": DIAGNOSES}
        shares: dict[str, dict[str, float]] = {
            attribute: dict(zip(names, np.bincount(plan.cells.codes[attribute], plan.wanted).tolist(), strict=True))
            for attribute, names in codes.items()
        }
        if population.targets.age_years:
            shares["age_years"] = dict(population.targets.age_years)
        if population.prevalence:
            shares["prevalence"] = {wanted.label: wanted.share for wanted in population.prevalence}
        return change_shares(population, shares)

    def describe_sources(self) -> tuple[str, ...]:
        """Return one sentence per source of the model."""
        return (
            *SOURCES,
            "Intracranial, brain, grey-matter and ventricle volumes: PMC10511609 table 1; ageing: Hedman 2012, "
            "and of grey against white matter J Neurol 2017;264:520",
            f"Scanners: brain MR patients of NCI Imaging Data Commons (idc-index-data {IDC_VERSION})",
        )

    def cleaning_report(self) -> CleaningReport:
        """Return what was dropped and merged when the scanner mix was read."""
        return load_scanner_mix()[1]


def draw_visit_years(seed: int, index: int, count: int, interval_years: float) -> list[float]:
    """Return the years since the first visit of each visit; gaps are ``interval_years`` give or take 10 %."""
    gaps = stream(seed, index, COHORT_LEVEL, "population/visits").uniform(1 - JITTER, 1 + JITTER, count - 1)
    years = [0.0]
    for gap in gaps.tolist():
        years.append(years[-1] + interval_years * gap)
    return years


def build_subject(
    seed: int,
    cohort_id: str,
    index: int,
    sex: Sex,
    diagnosis: str,
    age_years: float,
    design_weight: float,
    years: list[float],
    scanner: Scanner,
) -> Subject:
    """Return one subject with the volumes of its visits drawn from its own stream."""
    ages = [age_years + year for year in years]
    volumes = draw_volumes(stream(seed, index, COHORT_LEVEL, "population/volumes"), sex, diagnosis, ages)
    visits = tuple(
        Visit(number, year, age, brain, ventricle, lesion, {"grey_matter_ml": grey, "white_matter_ml": brain - grey})
        for number, (year, age, brain, grey, ventricle, lesion) in enumerate(
            zip(years, ages, volumes.brain_ml, volumes.grey_ml, volumes.ventricle_ml, volumes.lesion_ml, strict=True)
        )
    )
    return Subject(
        subject_id=f"{cohort_id}-s{index:07d}",
        cohort_id=cohort_id,
        subject_index=index,
        age_years=age_years,
        sex=sex,
        diagnosis=diagnosis,
        intracranial_ml=volumes.intracranial_ml,
        manufacturer=scanner.manufacturer,
        manufacturer_model=scanner.model,
        field_strength_t=scanner.field_strength_t,
        design_weight=design_weight,
        visits=visits,
    )
