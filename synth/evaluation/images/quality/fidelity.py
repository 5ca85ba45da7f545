"""Fidelity of images: how far the features of synthetic images are from those of real ones."""

from __future__ import annotations

from synth.evaluation.images.quality.frechet import measure_frechet
from synth.evaluation.images.quality.kernels import measure_kernels
from synth.evaluation.images.quality.sliced import measure_sliced
from synth.evaluation.images.sides import Side, explain_unmeasurable
from synth.evaluation.metric import Score

LEAST_PATIENTS = 20
NAMES = ("frechet_distance", "kernel_distance", "mmd_rbf", "sliced_wasserstein")


def measure_fidelity(synthetic: Side, real: Side, *, features: str, seed: int, subgroup: str = "") -> list[Score]:
    """Return the four distances of synthetic from real features, all without the bias of a limited number of images.

    ``features`` names the features and ``subgroup`` the images, for the scores. Not measurable with fewer than 20
    patients on a side, with features that are not numbers, or if all real images have the same. Intervals come from
    halves of the patients of both sides (see resampling). Raises NotComparableError for features of two lengths.
    """
    more = {"features": features, "subgroup": subgroup, "images": len(synthetic)}
    reason = explain_unmeasurable(synthetic, real, LEAST_PATIENTS)
    if reason:
        return [Score.missing(name, reason, **more) for name in NAMES]
    found = {
        "frechet_distance": measure_frechet(synthetic, real, seed),
        **measure_kernels(synthetic, real, seed),
        "sliced_wasserstein": measure_sliced(synthetic, real, seed),
    }
    return [Score.of(name, found[name][0], detail=found[name][1], **more) for name in NAMES]
