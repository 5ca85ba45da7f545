"""Population "adult-brain": US adults of 18 to 95 years, healthy or with one disease of the brain.

Every subject is drawn from its own named streams, so any slice of the cohort is the same whatever the slicing.
"""

from __future__ import annotations

import functools

import numpy as np

from synth.errors import PopulationError
from synth.nouns import Sex, Subject, Visit
from synth.population.permutation import permute_index
from synth.population.prevalence import DIAGNOSES, SEXES, SOURCES
from synth.population.recipe import assign_cells, follow_up_count, make_plan
from synth.population.recipe_checks import JITTER, check_recipe
from synth.population.scanners import IDC_VERSION, CleaningReport, Scanner, draw_scanner, load_scanner_mix, restrict_mix
from synth.population.severity import draw_severity
from synth.population.twins import change_shares, make_twin
from synth.population.volumes import draw_volumes
from synth.seeds import COHORT_LEVEL, stream, stream_key
from synth.spec import CohortSpec


class AdultBrain:
    """Age, sex and diagnosis from the literature; anatomy from the literature; scanners from a real index."""

    name = "adult-brain"
    version = f"5+idc{IDC_VERSION}"

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
        arms = assign_arms(spec, start, stop)
        subjects = []
        for offset, cell in enumerate(cells.tolist()):
            sex, diagnosis = plan.stratum_of(cell)
            index = start + offset
            scanner = draw_scanner(mix, stream(spec.seed, index, COHORT_LEVEL, "population/scanner"))
            years = draw_visit_years(spec.seed, index, visits.count if followed[offset] else 1, visits.interval_years)
            weight = float(plan.design_weight[cell])
            build = functools.partial(
                build_subject, spec, cohort_id, index,
                age_years=float(ages[offset]), design_weight=weight, years=years, scanner=scanner, arm=arms[offset],
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
            "Loads and growth of lesions, infarcts, tumours; hippocampal atrophy: synth/population/severity.py",
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


def assign_arms(spec: CohortSpec, start: int, stop: int) -> list[str | None]:
    """Return the arm of the subjects ``start`` to ``stop - 1``: shuffled, each with its share of whole subjects."""
    arms = spec.population.arms
    if not arms:
        return [None] * (stop - start)
    key = stream_key(spec.seed, COHORT_LEVEL, COHORT_LEVEL, "population/arms")
    position = permute_index(np.arange(start, stop), spec.subjects, key)
    ends = np.rint(np.cumsum([arm.share for arm in arms.values()]) * spec.subjects)
    names = list(arms)
    return [names[place] for place in np.searchsorted(ends, position, side="right").tolist()]


def build_subject(
    spec: CohortSpec,
    cohort_id: str,
    index: int,
    sex: Sex,
    diagnosis: str,
    age_years: float,
    design_weight: float,
    years: list[float],
    scanner: Scanner,
    arm: str | None = None,
) -> Subject:
    """Return one subject with the volumes and the severity of its visits, each drawn from a stream of its own."""
    ages = [age_years + year for year in years]
    treatment = None if arm is None else spec.population.arms[arm]
    new_lesions, loss = (1.0, 1.0) if treatment is None else (treatment.new_lesions, treatment.loss)
    rng = stream(spec.seed, index, COHORT_LEVEL, "population/volumes")
    volumes = draw_volumes(rng, sex, diagnosis, ages, effect=(new_lesions, loss))
    own = stream(spec.seed, index, COHORT_LEVEL, "population/severity")
    severity = draw_severity(own, diagnosis, ages, new_lesions)
    visits = tuple(
        Visit(
            number, year, ages[number], brain, volumes.ventricle_ml[number],
            volumes.lesion_ml[number] + severity.lesion_ml[number],
            {"grey_matter_ml": grey, "white_matter_ml": brain - grey, **severity.visits[number]},
        )
        for number, (year, brain, grey) in enumerate(zip(years, volumes.brain_ml, volumes.grey_ml, strict=True))
    )  # fmt: skip
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
        attributes={**severity.subject, **({} if arm is None else {"arm": arm})},
    )
