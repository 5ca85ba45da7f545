"""One side of a comparison: the features of its images, and whose they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synth.evaluation.images.layout import Floats32, NotComparableError
from synth.evaluation.ranks import Ints


@dataclass(frozen=True)
class Side:
    """``features`` is (n, d) float32, ``patient`` (n,) says whose each row is; equal numbers are one patient.

    Patients of two sides are never the same, whatever their numbers.
    """

    features: Floats32
    patient: Ints

    def __len__(self) -> int:
        return len(self.features)

    @property
    def patients(self) -> int:
        """How many patients there are."""
        return len(np.unique(self.patient))


def explain_unmeasurable(synthetic: Side, real: Side, least: int) -> str:
    """Return why two sides cannot be compared, or an empty text; ``least`` patients are needed on each.

    Raises NotComparableError if the features are not of one length, or patients are not one a row.
    """
    for name, side in (("synthetic", synthetic), ("real", real)):
        if side.features.ndim != 2 or side.patient.shape != (len(side),):
            raise NotComparableError(
                f"{name} features are {side.features.shape} for patients {side.patient.shape}; give (n, d) and (n,)."
            )
    if synthetic.features.shape[1] != real.features.shape[1]:
        raise NotComparableError(
            f"synthetic features have length {synthetic.features.shape[1]} and real ones {real.features.shape[1]}; "
            "compute both with one extractor."
        )
    return _explain_few(synthetic, real, least) or _explain_values(synthetic, real)


def _explain_few(synthetic: Side, real: Side, least: int) -> str:
    few = [f"{side.patients} {name}" for name, side in (("synthetic", synthetic), ("real", real))
           if side.patients < least]  # fmt: skip
    return f"there are images of {' and '.join(few)} patients only; {least} of each side are needed" if few else ""


def _explain_values(synthetic: Side, real: Side) -> str:
    for name, side in (("synthetic", synthetic), ("real", real)):
        if not np.isfinite(side.features).all():
            rows = int((~np.isfinite(side.features).all(axis=1)).sum())
            return f"the features of {rows} {name} images are not numbers (NaN or infinite)"
    if not real.features.size or not np.ptp(real.features, axis=0).any():
        return "all real images have the same features"
    return ""
