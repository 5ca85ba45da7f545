"""Volumes of one brain over its visits: intracranial, brain, grey matter, lateral ventricles and MS lesions, in mL.

Healthy anatomy at age 48: PMC10511609 (table 1), as in PHYSICS.md. Its spread pools ages 20 to 84, so taking it as the
spread at one age is on the wide side. Rates and disease effects name their source where they are defined below;
"approximate" marks what comes from general knowledge and was not checked against a paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from synth.errors import PopulationError
from synth.population.prevalence import DIAGNOSES

REFERENCE_AGE_YEARS = 48.0
NORMAL = NormalDist()

INTRACRANIAL_ML = {"M": (1538.0, 137.0), "F": (1393.0, 91.0)}  # mean, SD; no age effect (Matsumae 1996)
BRAIN_ML = {"M": (1162.0, 130.0), "F": (1068.0, 88.0)}  # mean, SD at 48
VENTRICLE_ML = {"M": (27.1, 13.0), "F": (20.2, 10.0)}  # mean, SD at 48
# Brain = ICV * (brain mean / ICV mean) + residual. The first part has SD = ICV SD * ratio: M 137 * .7555 = 103.5,
# F 91 * .7667 = 69.8 mL. The residual makes up the rest: sqrt(130^2 - 103.5^2) = 78.7, sqrt(88^2 - 69.8^2) = 53.6 mL.
BRAIN_RATIO = {sex: BRAIN_ML[sex][0] / INTRACRANIAL_ML[sex][0] for sex in "MF"}
BRAIN_RESIDUAL = {  # as a fraction of the mean brain
    sex: math.sqrt(BRAIN_ML[sex][1] ** 2 - (INTRACRANIAL_ML[sex][1] * BRAIN_RATIO[sex]) ** 2) / BRAIN_ML[sex][0]
    for sex in "MF"
}
# Log-normal with mean m and SD s: sigma^2 = ln(1 + (s/m)^2), median = m * exp(-sigma^2 / 2)
VENTRICLE_SIGMA = {sex: math.sqrt(math.log(1 + (VENTRICLE_ML[sex][1] / VENTRICLE_ML[sex][0]) ** 2)) for sex in "MF"}
VENTRICLE_MEDIAN_ML = {sex: VENTRICLE_ML[sex][0] * math.exp(-(VENTRICLE_SIGMA[sex] ** 2) / 2) for sex in "MF"}

# Size at the first visit relative to a healthy brain of that age, and loss or growth on top of ageing, per year.
# Alzheimer: whole-brain loss about 1.5-2 %/yr in all, ventricles about 9 %/yr (2 % in controls: CT study, Weill
# Cornell) against 5.6 %/yr (PHYSICS.md); first-visit factors approximate. MS: 0.5-1.35 %/yr in all (De Stefano 2014,
# CNS Drugs 28:147, range approximate), twice the healthy loss; 2.0 % in 5 treated years in PMC6705629. Rest
# approximate; tumours act on the volumes of their visit in the engine (synth.physics.diseases).
_ALIKE, _NOTHING = dict.fromkeys(DIAGNOSES, 1.0), dict.fromkeys(DIAGNOSES, 0.0)
BRAIN_FACTOR = {**_ALIKE, "multiple-sclerosis": 0.97, "alzheimer-disease": 0.95, "ischaemic-stroke": 0.985}
BRAIN_EXTRA_LOSS = {**_NOTHING, "multiple-sclerosis": 0.004, "alzheimer-disease": 0.011, "ischaemic-stroke": 0.003}
VENTRICLE_FACTOR = {**_ALIKE, "multiple-sclerosis": 1.3, "alzheimer-disease": 1.65, "ischaemic-stroke": 1.1}
VENTRICLE_EXTRA_GROWTH = {**_NOTHING, "multiple-sclerosis": 0.015, "alzheimer-disease": 0.04, "ischaemic-stroke": 0.02}
RATE_SIGMA = 0.3  # log-normal spread of one person's rate of loss (mean 1); approximate
VENTRICLE_RATE_SIGMA = 0.4  # of growth: 5.6 +- 3.6 %/yr in PHYSICS.md, measurement error included

# Grey over white matter at 48, alike in both sexes (AJNR 2002;23:1327; so in the table). PMC10511609, table 1: cortex
# 457.6, insula 12.8, limbic system 33.2 and basal ganglia 13.6 mL against cerebral white matter 417.9 and brain stem
# 42.7 mL; of the cerebellum's 135.8 mL three quarters count as grey (approximate). 619 / 495 = 1.25. Spread at a given
# age: var(ln g - ln w) follows from the SDs of cortex, white matter and brain in the table, .10 to .11 over all ages.
GREY_TO_WHITE, GREY_TO_WHITE_SIGMA = 1.25, 0.09

# MS lesion volume at the first visit: log-normal, median 6, mean 10 mL (approximate), truncated to 0.5-50 mL.
# Growth about 8 %/yr of the first volume (median, Radiology 1999;213:395), flattening below LESION_CEILING_ML.
LESION_MEDIAN_ML, LESION_SIGMA, LESION_RANGE_ML = 6.0, math.sqrt(2 * math.log(10 / 6)), (0.5, 50.0)
LESION_GROWTH_MEDIAN, LESION_GROWTH_SIGMA, LESION_CEILING_ML = 0.08, 0.5, 80.0

# Bounds that the anatomy of the engines can show, on every visit
BRAIN_FRACTION = (0.55, 0.90)
VENTRICLE_RANGE_ML = (5.0, 120.0)
FILLED_FRACTION = 0.97  # brain + 1.15 * ventricles <= 0.97 * ICV
VENTRICLE_SPACE = 1.15
# z correlations at a given age: larger ventricles and more lesions go with a smaller brain (approximate; total change
# correlated with lesion load at r = -0.38 in PMC6705629)
BRAIN_VENTRICLE_R, BRAIN_LESION_R = -0.4, -0.25
MAX_DRAWS = 200
MIN_CHANCE = 1e-3  # a subject whose bounds leave less than this of the brain distribution is drawn again


@dataclass(frozen=True, slots=True)
class Volumes:
    """The volumes of one subject: intracranial, and brain, grey matter, ventricles and lesions per visit, in mL."""

    intracranial_ml: float
    brain_ml: tuple[float, ...]
    grey_ml: tuple[float, ...]
    ventricle_ml: tuple[float, ...]
    lesion_ml: tuple[float, ...]


def brain_loss(age_years: float) -> float:
    """Return the log of brain lost by healthy ageing up to ``age_years`` (integral of the yearly rate).

    Rate: 0 before 35, 0.2 %/yr at 35 rising linearly to 0.5 %/yr at 60, 0.5 %/yr after (Hedman 2012, Hum Brain Mapp).
    """
    rising = min(max(age_years - 35.0, 0.0), 25.0)
    return 0.002 * rising + 0.003 / 25.0 * rising**2 / 2 + 0.005 * max(age_years - 60.0, 0.0)


def grey_share_loss(age_years: float) -> float:
    """Return the log by which grey over white matter has fallen up to ``age_years`` (integral of the yearly rate).

    Rate: grey matter loses 0.32 %/yr at 35 and 0.55 at 70, white matter 0.02 and 0.47 (J Neurol 2017;264:520), so their
    ratio falls by 0.30 and 0.08 %/yr: linear in between, 0.30 before 35 and 0.08 after 70 (approximate).
    """
    slowing = min(max(age_years - 35.0, 0.0), 35.0)
    return 0.003 * min(age_years, 70.0) - 0.0022 / 35.0 * slowing**2 / 2 + 0.0008 * max(age_years - 70.0, 0.0)


def ventricle_growth(age_years: float) -> float:
    """Return the log of ventricle growth by healthy ageing from 18 to ``age_years``.

    Rate: 1.8 %/yr (20 % per decade, J Am Geriatr Soc 1992;40:225) until 45, rising linearly to 3.6 %/yr at 85
    (4.3 +- 1.1 %/yr in healthy elderly, Bradley 2002, Br J Radiol 75:506; 5.6 +- 3.6 %/yr at 79 in PHYSICS.md). Medians
    of 14 mL at 25 and 50 mL at 80 follow (mean of the sexes); the rise in between is approximate.
    """
    rising = min(max(age_years - 45.0, 0.0), 40.0)
    return 0.018 * (age_years - 18.0) + 0.018 / 40.0 * rising**2 / 2 + 0.018 * max(age_years - 85.0, 0.0)


def draw_truncated(rng: np.random.Generator, low: float, high: float) -> tuple[float, float]:
    """Return (a standard normal between ``low`` and ``high`` by inverse CDF, the chance of that interval)."""
    uniform = float(rng.random())
    if low > 0:  # the mirrored tail keeps its precision
        value, chance = _inverse(1.0 - uniform, -high, -low)
        return -value, chance
    return _inverse(uniform, low, high)


def _inverse(uniform: float, low: float, high: float) -> tuple[float, float]:
    if high <= low:
        return low, 0.0
    start, end = NORMAL.cdf(low), NORMAL.cdf(high)
    if end - start < 1e-15:
        return low, 0.0
    value = NORMAL.inv_cdf(min(max(start + uniform * (end - start), 1e-300), 1 - 1e-16))
    return min(max(value, low), high), end - start  # the inverse may leave the interval by a rounding error


def draw_volumes(
    rng: np.random.Generator,
    sex: str,
    diagnosis: str,
    ages_years: Sequence[float],
    max_draws: int = MAX_DRAWS,
    effect: tuple[float, float] = (1.0, 1.0),
) -> Volumes:
    """Return the volumes of one subject at its visits, drawn jointly from ``rng``; every visit keeps the bounds.

    ``effect`` is that of a treatment from the first visit on: factors of the disease's lesion growth and of its loss.
    Raises PopulationError when ``max_draws`` draws found no brain that stays inside the bounds on all visits.
    """
    for _ in range(max_draws):
        volumes = _draw_once(rng, sex, diagnosis, ages_years, effect)
        if volumes is not None:
            return volumes
    raise PopulationError(
        f"no brain fits: sex {sex}, {diagnosis}, seen from age {ages_years[0]:.1f} to {ages_years[-1]:.1f}. A brain "
        f"must fill {BRAIN_FRACTION[0]:.0%} to {BRAIN_FRACTION[1]:.0%} of the skull on every visit. Shorten the "
        "follow-up (imaging.visits) or lower the highest age (population.where.age_years)."
    )


def _draw_once(
    rng: np.random.Generator, sex: str, diagnosis: str, ages_years: Sequence[float], effect: tuple[float, float]
) -> Volumes | None:
    mean_icv, sd_icv = INTRACRANIAL_ML[sex]
    icv = mean_icv + sd_icv * draw_truncated(rng, -3.0, 3.0)[0]
    pace = math.exp(RATE_SIGMA * rng.standard_normal() - RATE_SIGMA**2 / 2)
    swell = math.exp(VENTRICLE_RATE_SIGMA * rng.standard_normal() - VENTRICLE_RATE_SIGMA**2 / 2)
    lesions, z_lesion = _draw_lesions(rng, diagnosis, ages_years)
    lesions = [lesions[0] + effect[0] * (load - lesions[0]) for load in lesions] if effect[0] != 1 else lesions
    ventricles, z_ventricle = _draw_ventricles(rng, sex, diagnosis, ages_years, swell, effect[1])
    if not ventricles:
        return None
    start = ages_years[0]
    kept = [
        math.exp(
            -pace * (brain_loss(age) - brain_loss(start) + effect[1] * BRAIN_EXTRA_LOSS[diagnosis] * (age - start))
        )
        for age in ages_years
    ]
    factor = BRAIN_FACTOR[diagnosis] * math.exp(brain_loss(REFERENCE_AGE_YEARS) - brain_loss(start))
    first = _draw_first_brain(rng, sex, icv, factor, kept, ventricles, (z_ventricle, z_lesion))
    if first is None:
        return None
    brain = tuple(first * k for k in kept)
    usual = math.exp(GREY_TO_WHITE_SIGMA * draw_truncated(rng, -3.0, 3.0)[0])
    return Volumes(icv, brain, _divide_brain(brain, ages_years, usual), tuple(ventricles), tuple(lesions))


def _divide_brain(brain_ml: Sequence[float], ages_years: Sequence[float], usual: float) -> tuple[float, ...]:
    """Return the grey matter (mL) of each visit; ``usual`` is how far grey over white is off that of others."""
    start = grey_share_loss(REFERENCE_AGE_YEARS)
    ratios = [GREY_TO_WHITE * usual * math.exp(start - grey_share_loss(age)) for age in ages_years]
    return tuple(brain * ratio / (1 + ratio) for brain, ratio in zip(brain_ml, ratios, strict=True))


def _draw_ventricles(
    rng: np.random.Generator, sex: str, diagnosis: str, ages_years: Sequence[float], swell: float, effect: float
) -> tuple[list[float], float]:
    """Return ventricle volumes (mL) per visit, inside the bounds, and the z value of the first; none if too rare."""
    start = ages_years[0]
    growth = [
        swell
        * (ventricle_growth(age) - ventricle_growth(start) + effect * VENTRICLE_EXTRA_GROWTH[diagnosis] * (age - start))
        for age in ages_years
    ]
    sigma = VENTRICLE_SIGMA[sex]
    ageing = math.exp(ventricle_growth(start) - ventricle_growth(REFERENCE_AGE_YEARS))
    median = VENTRICLE_MEDIAN_ML[sex] * VENTRICLE_FACTOR[diagnosis] * ageing
    lowest, highest = (math.log(bound / median) / sigma for bound in VENTRICLE_RANGE_ML)
    z, chance = draw_truncated(rng, lowest, highest - growth[-1] / sigma)
    return ([] if chance < MIN_CHANCE else [median * math.exp(sigma * z + g) for g in growth]), z


def _draw_first_brain(
    rng: np.random.Generator,
    sex: str,
    icv: float,
    factor: float,
    kept: Sequence[float],
    ventricles: Sequence[float],
    z_others: tuple[float, float],
) -> float | None:
    """Return the brain (mL) of the first visit given ventricles and lesions, inside all bounds; None if too rare."""
    lowest = BRAIN_FRACTION[0] * icv / kept[-1]
    highest = min(
        BRAIN_FRACTION[1] * icv,
        *((FILLED_FRACTION * icv - VENTRICLE_SPACE * v) / k for v, k in zip(ventricles, kept, strict=True)),
    )
    mean = BRAIN_RATIO[sex] * icv * factor
    sd = BRAIN_RESIDUAL[sex] * BRAIN_ML[sex][0] * factor
    shift = BRAIN_VENTRICLE_R * z_others[0] + BRAIN_LESION_R * z_others[1]
    spread = math.sqrt(1 - BRAIN_VENTRICLE_R**2 - BRAIN_LESION_R**2)
    low, high = (((bound - mean) / sd - shift) / spread for bound in (lowest, highest))
    z, chance = draw_truncated(rng, low, high)
    return None if chance < MIN_CHANCE else mean + sd * (shift + spread * z)


def _draw_lesions(rng: np.random.Generator, diagnosis: str, ages_years: Sequence[float]) -> tuple[list[float], float]:
    """Return lesion volumes (mL) per visit and the z value of the first; zeros without MS."""
    if diagnosis != "multiple-sclerosis":
        return [0.0] * len(ages_years), 0.0
    low, high = (math.log(bound / LESION_MEDIAN_ML) / LESION_SIGMA for bound in LESION_RANGE_ML)
    z, _ = draw_truncated(rng, low, high)
    first = LESION_MEDIAN_ML * math.exp(LESION_SIGMA * z)
    rate = LESION_GROWTH_MEDIAN * math.exp(LESION_GROWTH_SIGMA * rng.standard_normal())
    room = LESION_CEILING_ML - first
    years = [age - ages_years[0] for age in ages_years]
    return [LESION_CEILING_ML - room * math.exp(-rate * first / room * t) for t in years], z
