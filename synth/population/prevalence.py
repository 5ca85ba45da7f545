"""The source population: probability of each age (whole years) x sex x diagnosis cell of US adults.

Age structure: US residents of 2020 by 5-year band, in millions. The wider bands 25-54 (M 64.9, F 64.6),
55-64 (20.7, 22.1) and 65+ (25.0, 31.0) sum to the US Census Bureau / CIA World Factbook 2020 estimates; how they
split into 5-year bands is approximate (not verified to the last digit), and so is the decline within a band.

Multiple sclerosis: 450.1 (women) and 159.7 (men) per 100,000 adults, highest at 55-64: Wallin 2019, Neurology
92:e1029 (PMC6442006). These totals are met exactly; the shape by age is approximate, read off its figure 2.

Glioma, meningioma and ischaemic stroke: as beside their tables below.

Alzheimer's dementia: 5.0 % at 65-74, 13.1 % at 75-84, 33.3 % from 85; 12 % of women, 9 % of men from 65:
Alzheimer's Association, Facts and Figures 2023, after Rajan 2021, Alzheimers Dement 17:1966. Met within half a
percentage point (tested). Younger onset, about 110 per 100,000 at 30-64 (all dementias), same source; its rise with
age between those knots is approximate.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from synth.nouns import Sex

AGE_MIN_YEARS = 18
AGE_MAX_YEARS = 95
SEXES: tuple[Sex, ...] = ("F", "M")
DIAGNOSES = ("none", "multiple-sclerosis", "alzheimer-disease", "glioma", "meningioma", "ischaemic-stroke")
AGES_YEARS: NDArray[np.int64] = np.arange(AGE_MIN_YEARS, AGE_MAX_YEARS)  # the cell of age a holds ages a <= age < a + 1

Floats = NDArray[np.float64]

# first age of a band (each lasts to the next one, the last to 95) -> millions of residents (F, M)
RESIDENTS_MILLIONS: dict[int, tuple[float, float]] = {
    18: (14.7, 15.4),
    25: (11.3, 11.7),
    30: (11.3, 11.6),
    35: (10.8, 10.95),
    40: (10.2, 10.1),
    45: (10.3, 10.15),
    50: (10.7, 10.4),
    55: (11.2, 10.65),
    60: (10.9, 10.05),
    65: (9.4, 8.4),
    70: (7.9, 6.8),
    75: (5.5, 4.4),
    80: (3.8, 2.7),
    85: (2.7, 1.75),
    90: (1.7, 0.95),
}
DECLINE_PER_YEAR = {75: 0.05, 80: 0.08, 85: 0.12, 90: 0.17}  # within the bands that start there; even before 75
MS_PER_100K = {"F": 450.1, "M": 159.7}
MS_AGE_YEARS = (18.0, 21.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 95.0)
MS_RELATIVE = (0.08, 0.15, 0.60, 1.20, 1.55, 1.65, 1.10, 0.45, 0.15)
AD_AGE_YEARS = (40.0, 50.0, 55.0, 60.0, 65.0, 70.0, 75.0, 80.0, 85.0, 90.0, 95.0)
AD_PROBABILITY = (0.0001, 0.0003, 0.0007, 0.002, 0.019, 0.052, 0.087, 0.128, 0.225, 0.363, 0.47)  # both sexes together
AD_SEX_FACTOR = {"F": 1.09, "M": 0.89}  # gives 12 % of women and 9 % of men from 65


# Within a year of diagnosis, per 100,000: incidence of glioblastoma, 1.58 men for each woman (CBTRUS: Ostrom 2021,
# Neuro Oncol 23:iii1; by age approximate)
GLIOMA_AGE_YEARS = (18.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0)
GLIOMA_PER_100K = (0.2, 0.6, 1.4, 3.8, 8.4, 13.4, 15.3, 9.0, 7.0)
GLIOMA_SEX_FACTOR = {"F": 0.775, "M": 1.225}
# Incidental meningioma on MRI: 0.5 % at 45 to 59, 1.6 % from 75; 1.1 % of women, 0.7 % of men (Vernooij 2007, NEJM
# 357:1821); before 45 approximate
MENINGIOMA_AGE_YEARS = (18.0, 30.0, 45.0, 52.0, 67.0, 80.0, 95.0)
MENINGIOMA_PROBABILITY = (0.0003, 0.0008, 0.003, 0.005, 0.0095, 0.016, 0.018)
MENINGIOMA_SEX_FACTOR = {"F": 1.2, "M": 0.78}
# Ever had a stroke, by age (both sexes; approximate), of which 87 % are ischaemic (Circulation 2023;147:e93)
STROKE_AGE_YEARS = (18.0, 30.0, 50.0, 70.0, 85.0, 95.0)
STROKE_PROBABILITY = (0.002, 0.006, 0.022, 0.065, 0.125, 0.15)
STROKE_ISCHAEMIC = 0.87


def residents_by_age(sex: Sex) -> Floats:
    """Return millions of residents of ``sex`` in each whole year of age, shape (77,)."""
    column = SEXES.index(sex)
    starts = [*RESIDENTS_MILLIONS, AGE_MAX_YEARS]
    bands = []
    for (start, pair), end in zip(RESIDENTS_MILLIONS.items(), starts[1:], strict=True):
        spread = np.exp(-DECLINE_PER_YEAR.get(start, 0.0) * np.arange(end - start))
        bands.append(pair[column] * spread / spread.sum())
    return np.concatenate(bands)


def ms_prevalence(sex: Sex) -> Floats:
    """Return the probability of multiple sclerosis in each whole year of age, shape (77,)."""
    shape = np.interp(AGES_YEARS + 0.5, MS_AGE_YEARS, MS_RELATIVE)
    residents = residents_by_age(sex)
    scale = MS_PER_100K[sex] / 1e5 * residents.sum() / (shape * residents).sum()
    return np.asarray(shape * scale, dtype=np.float64)


def ad_prevalence(sex: Sex) -> Floats:
    """Return the probability of Alzheimer's dementia in each whole year of age, shape (77,); 0 below 40."""
    middle = AGES_YEARS + 0.5
    curve = np.exp(np.interp(middle, AD_AGE_YEARS, np.log(AD_PROBABILITY)))
    return np.where(middle < AD_AGE_YEARS[0], 0.0, curve * AD_SEX_FACTOR[sex])


def glioma_prevalence(sex: Sex) -> Floats:
    """Return the probability of a glioma found within the year, in each whole year of age, shape (77,)."""
    per_100k = np.interp(AGES_YEARS + 0.5, GLIOMA_AGE_YEARS, GLIOMA_PER_100K)
    return np.asarray(per_100k / 1e5 * GLIOMA_SEX_FACTOR[sex])


def meningioma_prevalence(sex: Sex) -> Floats:
    """Return the probability of a meningioma in each whole year of age, shape (77,)."""
    share = np.interp(AGES_YEARS + 0.5, MENINGIOMA_AGE_YEARS, MENINGIOMA_PROBABILITY)
    return np.asarray(share * MENINGIOMA_SEX_FACTOR[sex])


def stroke_prevalence(sex: Sex) -> Floats:
    """Return the probability of ever having had an ischaemic stroke in each whole year of age, shape (77,)."""
    return np.asarray(np.interp(AGES_YEARS + 0.5, STROKE_AGE_YEARS, STROKE_PROBABILITY) * STROKE_ISCHAEMIC)


_PREVALENCES = (ms_prevalence, ad_prevalence, glioma_prevalence, meningioma_prevalence, stroke_prevalence)


@functools.cache
def source_table() -> Floats:
    """Return the joint probability of sex x diagnosis x age in whole years, shape (2, 6, 77), sum 1, read-only.

    Diagnoses exclude each other: who has none of them is "none". Two at once are not drawn, the most frequent of which,
    Alzheimer's disease after a stroke, would be 1 in 25 of those above 85.
    """
    layers = []
    for sex in SEXES:
        ill = np.stack([prevalence(sex) for prevalence in _PREVALENCES])
        layers.append(residents_by_age(sex) * np.concatenate([1.0 - ill.sum(axis=0, keepdims=True), ill]))
    table = np.stack(layers)
    table /= table.sum()
    table.setflags(write=False)
    return table


SOURCES = (
    "Age and sex: US residents of 2020, Census Bureau / CIA World Factbook totals (5-year split approximate)",
    "Multiple sclerosis: Wallin 2019, Neurology 92:e1029, PMC6442006 (totals exact, shape by age approximate)",
    "Glioma: incidence of glioblastoma, CBTRUS, Ostrom 2021, Neuro Oncol 23:iii1 (by age approximate)",
    "Meningioma: incidental on MRI, Vernooij 2007, NEJM 357:1821 (before 45 approximate)",
    "Ischaemic stroke: Heart Disease and Stroke Statistics 2023, Circulation 147:e93 (by age approximate)",
    "Alzheimer's dementia: Alzheimer's Association, Facts and Figures 2023; Rajan 2021, Alzheimers Dement 17:1966",
)
