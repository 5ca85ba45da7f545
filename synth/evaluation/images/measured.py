"""Adherence that was measured while images were made: how many lie within the tolerance of their request."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from synth.evaluation.images.resampling import number_patients, share_interval
from synth.evaluation.metric import Score
from synth.evaluation.ranks import Ints


def score_measured(name: str, patient: Ints, within: NDArray[np.bool_]) -> Score:
    """Return ``measured_within.NAME``: the share of images within tolerance, (n,) each, with Wilson's interval.

    Images of one patient do not count as many: the error of the share p is that of whole patients,
    sqrt(sum_i (w_i - p n_i)^2 m / (m - 1)) / n with w_i of n_i images within, m patients (ratio estimator; Cochran,
    Sampling Techniques, 1977).
    """
    score = f"measured_within.{name}"
    if not len(within):
        return Score.missing(score, "no image was measured")
    codes, patients = number_patients(patient)
    hits, images = np.bincount(codes, within, patients), np.bincount(codes, minlength=patients)
    share = float(within.mean())
    spread = float(((hits - share * images) ** 2).sum()) * patients / max(1, patients - 1)
    interval = share_interval(share, math.sqrt(spread) / len(within), patients)
    return Score.of(score, interval, images=len(within))
