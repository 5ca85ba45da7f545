"""How far a subject's disease has come at each visit: loads, growth, time since onset, new lesions; in mL and years.

"approximate" marks what comes from general knowledge and was not checked against a paper. Everything is drawn from one
stream of its own, so volumes of the brain are those of the same subject without these draws.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from synth.errors import PopulationError
from synth.nouns import AttributeValue
from synth.population.volumes import draw_truncated

# White-matter hyperintensities of age, mL: medians by age, log-normal spread, nobody above the most. Most people from
# 60 on have some (95 %: de Leeuw et al., JNNP 2001;70:9), and load rises steeply with age (Habes et al., Brain
# 2016;139:1164); the values are approximate.
HYPERINTENSITY_AGES = (40.0, 50.0, 60.0, 70.0, 80.0, 95.0)
HYPERINTENSITY_MEDIAN_ML = (0.15, 0.6, 2.2, 5.5, 12.0, 24.0)
HYPERINTENSITY_SIGMA, HYPERINTENSITY_MOST_ML, HYPERINTENSITY_LEAST_ML = 0.9, 80.0, 0.2
HYPERINTENSITY_FACTOR = {"none": 1.0, "alzheimer-disease": 1.5, "ischaemic-stroke": 1.6}
FAZEKAS_FROM_ML = (1.0, 8.0, 25.0)  # least load of grades 1, 2 and 3 (approximate; grades: Fazekas et al., AJR 1987)

# Alzheimer's disease: share of the hippocampi lost beyond age when first seen, and a year later: 4.7 against 1.4 %
# (Barnes et al., Neurobiol Aging 2009;30:1711).
LOSS_MEAN, LOSS_SD, LOSS_RANGE = 0.2, 0.07, (0.05, 0.4)
LOSS_A_YEAR, LOSS_A_YEAR_SD, LOSS_MOST = 0.033, 0.01, 0.5

# Multiple sclerosis: new lesions a year in untreated people, 11.0 in two years (placebo arm of AFFIRM, Polman et al.,
# NEJM 2006;354:899), very unlike between people (gamma, shape approximate).
NEW_LESIONS_PER_YEAR, NEW_LESIONS_SHAPE = 5.5, 1.2

# Glioma: what shows on T2 when first seen, log-normal (approximate); speed of the front 2 sqrt(D rho), mm a year, and
# rho / D, 1/mm2 (spans those of Wang et al., Cancer Res 2009;69:9133, and Harpold et al., JNEN 2007;66:1; approximate).
GLIOMA_MEDIAN_ML, GLIOMA_SIGMA, GLIOMA_RANGE_ML, GLIOMA_MOST_ML = 40.0, 0.6, (8.0, 110.0), 170.0
FRONT_MM_YEAR, FRONT_SIGMA, FRONT_RANGE = 25.0, 0.8, (2.0, 120.0)
RHO_OVER_D, RHO_OVER_D_SIGMA, RHO_OVER_D_RANGE = 0.25, 0.4, (0.1, 0.6)

# Meningioma: volume when first seen (approximate) and relative growth a year (Hashiba et al., J Neurosurg 2009;110:675)
MENINGIOMA_MEDIAN_ML, MENINGIOMA_SIGMA, MENINGIOMA_RANGE_ML, MENINGIOMA_MOST_ML = 7.0, 0.9, (1.0, 50.0), 70.0
MENINGIOMA_GROWTH, MENINGIOMA_GROWTH_SIGMA = 0.08, 0.7

# Ischaemic stroke: share and volume of the infarct by artery (median, least, most; approximate), time of the first
# scan, and how it shrinks to what stays (approximate; Gaudinski et al., Stroke 2008;39:2765).
ARTERIES = {"MCA": (0.77, 35.0, 3.0, 150.0), "PCA": (0.15, 15.0, 2.0, 45.0), "ACA": (0.08, 10.0, 2.0, 30.0)}
INFARCT_SIGMA, FIRST_SCAN_DAYS, INFARCT_STAYS, INFARCT_SHRINKS_DAYS = 0.8, (0.25, 7.0), 0.65, 60.0

MIN_CHANCE = 1e-3  # a draw that its bounds leave less of than this is refused
DAYS = 365.25


@dataclass(frozen=True, slots=True)
class Severity:
    """Load of the lesion mask at each visit, that of multiple sclerosis left out, in mL; attributes."""

    lesion_ml: tuple[float, ...]
    subject: Mapping[str, AttributeValue] = field(default_factory=dict)
    visits: tuple[Mapping[str, AttributeValue], ...] = ()


def draw_severity(
    rng: np.random.Generator, diagnosis: str, ages_years: Sequence[float], new_lesions: float = 1.0
) -> Severity:
    """Return how far the disease of one subject has come at its visits; ``new_lesions`` is the effect of treatment.

    Raises PopulationError if the follow-up is longer than the disease can be followed.
    """
    loads = _draw_hyperintensities(rng, diagnosis, ages_years)
    years = [age - ages_years[0] for age in ages_years]
    own, subject = [0.0] * len(years), dict[str, AttributeValue]()
    visits = [dict[str, AttributeValue]() for _ in years]
    if diagnosis == "multiple-sclerosis":
        subject, visits = _draw_new_lesions(rng, years, new_lesions)
    elif diagnosis == "alzheimer-disease":
        visits = _draw_medial_temporal_loss(rng, years)
    elif diagnosis == "glioma":
        own, subject = _draw_glioma(rng, years)
    elif diagnosis == "meningioma":
        own = _draw_meningioma(rng, years)
    elif diagnosis == "ischaemic-stroke":
        own, subject, visits = _draw_infarct(rng, years)
    for visit, load in zip(visits, loads, strict=True):
        if diagnosis in HYPERINTENSITY_FACTOR:
            visit |= {"hyperintensity_ml": load, "fazekas": grade_fazekas(load)}
    return Severity(tuple(a + b for a, b in zip(own, loads, strict=True)), subject, tuple(visits))


def grade_fazekas(load_ml: float) -> int:
    """Return the Fazekas grade (0 to 3) that goes with a load of hyperintensities."""
    return sum(load_ml >= least for least in FAZEKAS_FROM_ML)


def _draw_hyperintensities(rng: np.random.Generator, diagnosis: str, ages_years: Sequence[float]) -> list[float]:
    """Return the load of each visit; a person keeps its place among others of the age. 0 where it would be a trace."""
    factor = HYPERINTENSITY_FACTOR.get(diagnosis, 0.0)
    logs = np.log(HYPERINTENSITY_MEDIAN_ML)
    medians = [factor * math.exp(float(np.interp(age, HYPERINTENSITY_AGES, logs))) for age in ages_years]
    highest = math.log(HYPERINTENSITY_MOST_ML / max(medians[-1], 1e-9)) / HYPERINTENSITY_SIGMA
    z, _ = draw_truncated(rng, -math.inf, highest)
    loads = [median * math.exp(HYPERINTENSITY_SIGMA * z) for median in medians]
    return [load if load >= HYPERINTENSITY_LEAST_ML else 0.0 for load in loads]


def _draw_new_lesions(
    rng: np.random.Generator, years: list[float], effect: float
) -> tuple[dict[str, AttributeValue], list[dict[str, AttributeValue]]]:
    rate = float(rng.gamma(NEW_LESIONS_SHAPE, NEW_LESIONS_PER_YEAR / NEW_LESIONS_SHAPE))
    visits: list[dict[str, AttributeValue]] = [{}]
    for before, after in itertools.pairwise(years):
        visits.append({"new_lesions": int(rng.poisson(rate * effect * (after - before)))})
    return {"new_lesions_per_year": rate}, visits


def _draw_medial_temporal_loss(rng: np.random.Generator, years: list[float]) -> list[dict[str, AttributeValue]]:
    low, high = ((bound - LOSS_MEAN) / LOSS_SD for bound in LOSS_RANGE)
    first = LOSS_MEAN + LOSS_SD * draw_truncated(rng, low, high)[0]
    pace = max(LOSS_A_YEAR + LOSS_A_YEAR_SD * float(rng.standard_normal()), 0.01)
    return [
        {"medial_temporal_loss": LOSS_MOST - (LOSS_MOST - first) * math.exp(-pace * t / (LOSS_MOST - first))}
        for t in years
    ]


def _draw_log_normal(
    rng: np.random.Generator, median: float, sigma: float, low: float, high: float
) -> tuple[float, float]:
    """Return (a log-normal number from ``low`` to ``high``, the chance of that interval)."""
    z, chance = draw_truncated(rng, *(math.log(bound / median) / sigma for bound in (low, high)))
    return median * math.exp(sigma * z), chance


def _draw_glioma(rng: np.random.Generator, years: list[float]) -> tuple[list[float], dict[str, AttributeValue]]:
    """Return the volumes that show on T2, growing as balls whose front moves at 2 sqrt(D rho), and D and rho."""
    first, _ = _draw_log_normal(rng, GLIOMA_MEDIAN_ML, GLIOMA_SIGMA, *GLIOMA_RANGE_ML)
    radius, most = (float(np.cbrt(3000 * ml / (4 * math.pi))) for ml in (first, GLIOMA_MOST_ML))
    fastest = min((most - radius) / years[-1], FRONT_RANGE[1]) if years[-1] > 0 else FRONT_RANGE[1]
    if fastest <= FRONT_RANGE[0]:
        raise _refuse("glioma", GLIOMA_MOST_ML, years)
    speed, chance = _draw_log_normal(rng, FRONT_MM_YEAR, FRONT_SIGMA, FRONT_RANGE[0], fastest)
    if chance < MIN_CHANCE:
        raise _refuse("glioma", GLIOMA_MOST_ML, years)
    ratio, _ = _draw_log_normal(rng, RHO_OVER_D, RHO_OVER_D_SIGMA, *RHO_OVER_D_RANGE)
    grown = [4 / 3 * math.pi * (radius + speed * t) ** 3 / 1000 for t in years]
    root = math.sqrt(ratio)
    return grown, {"diffusion_mm2_year": speed / (2 * root), "rho_year": speed * root / 2}


def _draw_meningioma(rng: np.random.Generator, years: list[float]) -> list[float]:
    first, _ = _draw_log_normal(rng, MENINGIOMA_MEDIAN_ML, MENINGIOMA_SIGMA, *MENINGIOMA_RANGE_ML)
    rate = MENINGIOMA_GROWTH * math.exp(MENINGIOMA_GROWTH_SIGMA * float(rng.standard_normal()))
    room = MENINGIOMA_MOST_ML - first
    return [MENINGIOMA_MOST_ML - room * math.exp(-rate * first / room * t) for t in years]


def _draw_infarct(
    rng: np.random.Generator, years: list[float]
) -> tuple[list[float], dict[str, AttributeValue], list[dict[str, AttributeValue]]]:
    artery = str(rng.choice(list(ARTERIES), p=[share for share, *_ in ARTERIES.values()]))
    _, median, least, most = ARTERIES[artery]
    acute, _ = _draw_log_normal(rng, median, INFARCT_SIGMA, least, most)
    low, high = (math.log(day) for day in FIRST_SCAN_DAYS)
    onset = math.exp(float(rng.uniform(low, high)))
    days = [onset + DAYS * t for t in years]
    own = [acute * (INFARCT_STAYS + (1 - INFARCT_STAYS) * math.exp(-day / INFARCT_SHRINKS_DAYS)) for day in days]
    return own, {"artery": artery}, [{"days_since_onset": day} for day in days]


def _refuse(diagnosis: str, most_ml: float, years: list[float]) -> PopulationError:
    return PopulationError(
        f"no {diagnosis} stays below {most_ml:g} mL for {years[-1]:.1f} years. Shorten the follow-up: "
        "imaging.visits.interval_years (in years: 0.25 is three months) or count."
    )
