"""Diversity of images: whether synthetic images fill the range of real ones, and differ from each other."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from synth.evaluation.images.quality.neighbourhoods import K, Prdc, compare_neighbourhoods
from synth.evaluation.images.quality.similarity import compare_structure, count_scales
from synth.evaluation.images.quality.vendi import measure_vendi
from synth.evaluation.images.resampling import (
    PAIRS,
    centred_interval,
    draw_halves,
    number_patients,
    pack_halves,
    share_interval,
    spread_of_rough,
)
from synth.evaluation.images.sets import ImageSet
from synth.evaluation.images.sides import Side, explain_unmeasurable
from synth.evaluation.metric import Score
from synth.evaluation.ranks import Floats, Interval, Ints
from synth.seeds import stream

LEAST_PATIENTS = 20
SSIM_PAIRS = 500
SSIM_BYTES = 8 << 20  # of pixels that are compared at once
NAMES = (*Prdc._fields, "vendi_score")


def measure_diversity(synthetic: Side, real: Side, *, features: str, seed: int, subgroup: str = "") -> list[Score]:
    """Return precision, recall, density and coverage (k = 5), and the Vendi score of the synthetic images.

    Values are those of all images. Intervals come from halves of the patients of both sides, whose neighbourhoods are
    found anew in each (see resampling); those of shares are Wilson's. Not measurable with fewer than 20 patients on a
    side, with features that are not numbers, or if all real images have the same; the Vendi score needs features that
    are not all 0. ``real`` in its details is the score of the real images.
    """
    more = {"features": features, "subgroup": subgroup, "images": len(synthetic)}
    reason = explain_unmeasurable(synthetic, real, LEAST_PATIENTS)
    if reason:
        return [Score.missing(name, reason, **more) for name in NAMES]
    rng = stream(seed, -1, -1, "images/neighbourhoods")
    words = tuple(pack_halves(draw_halves(side.patient, rng)) for side in (synthetic, real))
    whole, halves = compare_neighbourhoods(synthetic.features, real.features, (words[0], words[1]))
    detail = {"k": K, "n": len(synthetic), "n_real": len(real)}
    found = []
    for name, patients in zip(Prdc._fields, (synthetic.patients, real.patients, 0, real.patients), strict=True):
        value, parts = float(getattr(whole, name)), getattr(halves, name)
        error = spread_of_rough(parts[:PAIRS], parts[PAIRS:])
        interval = share_interval(value, error, patients) if patients else centred_interval(value, error, PAIRS, 0.0)
        found.append(Score.of(name, interval, detail=detail, **more))
    empty = int((~synthetic.features.any(axis=1)).sum() + (~real.features.any(axis=1)).sum())
    if empty:
        reason = f"the features of {empty} images are all 0, so they have no direction to compare"
        return [*found, Score.missing("vendi_score", reason, **more)]
    interval, own = measure_vendi(synthetic, seed)
    known, other = measure_vendi(real, seed)
    about = {
        **own,
        "real": known.value,
        "real_extrapolated": other["extrapolated"],
        "n_real": len(real),
    }
    return [*found, Score.of("vendi_score", interval, detail=about, **more)]


def measure_ms_ssim(images: ImageSet, *, seed: int, pairs: int = SSIM_PAIRS, subgroup: str = "") -> Score:
    """Return the mean MS-SSIM of random pairs of images of different patients (Odena et al., ICML 2017).

    Every patient is in as many pairs as any other, but for one. The interval allows for pairs that share a patient
    (Aronow et al., Political Analysis 2015). Not measurable with fewer than 20 patients, or on grids below 11 pixels.
    """
    codes, patients = number_patients(images.patient) if len(images) else (np.empty(0, np.int64), 0)
    more = {"subgroup": subgroup, "images": len(images)}
    if patients < LEAST_PATIENTS:
        reason = f"there are images of {patients} patients only; {LEAST_PATIENTS} are needed"
        return Score.missing("ms_ssim_pairs", reason, **more)
    if not count_scales(images.shape):
        reason = f"images of {' x '.join(map(str, images.shape))} are smaller than the window of 11 pixels"
        return Score.missing("ms_ssim_pairs", reason, **more)
    drawn = draw_pairs(codes, pairs, stream(seed, -1, -1, "images/ms-ssim"))
    step = max(1, SSIM_BYTES // (4 * math.prod(images.shape)))
    values = np.concatenate([
        compare_structure(images.images(part[:, 0]), images.images(part[:, 1]))
        for part in np.split(drawn, range(step, len(drawn), step))
    ])  # fmt: skip
    mean = float(values.mean())
    reach = float(stats.norm.ppf(0.975)) * spread_of_pairs(values, codes[drawn])
    interval = Interval(mean, max(mean - reach, 0.0), min(mean + reach, 1.0))
    detail = {"pairs": len(drawn), "scales": count_scales(images.shape)}
    return Score.of("ms_ssim_pairs", interval, detail=detail, **more)


def draw_pairs(patient: Ints, pairs: int, rng: np.random.Generator) -> Ints:
    """Return (pairs, 2) images: patients are matched at random, again and again, and an image is drawn of each."""
    order, sizes = np.argsort(patient, kind="stable"), np.bincount(patient)
    starts = np.cumsum(sizes) - sizes
    found: list[Ints] = []
    while sum(map(len, found)) < pairs:
        people = rng.permutation(len(sizes))[: len(sizes) // 2 * 2]
        chosen = order[starts[people] + rng.integers(sizes[people])]
        found.append(chosen.reshape(-1, 2))
    return np.concatenate(found)[:pairs]


def spread_of_pairs(values: Floats, patients: Ints) -> float:
    """Return the standard error of the mean over pairs; ``patients`` (pairs, 2) says whose they are.

    The variance is the sum of the products of all deviations that share a patient, over the number of pairs squared.
    """
    deviations = values - values.mean()
    by_patient = np.bincount(patients.reshape(-1), np.repeat(deviations, 2))
    alone = float((deviations**2).sum())
    return math.sqrt(max(float((by_patient**2).sum()) - alone, alone)) / len(values)
