"""Thick slices: voxels are long along one axis, and slices do not end sharply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from synth.physics.effects.base import Effect, Values, Volume
from synth.physics.sequences.base import Parameter

_OTHERS = 0.02  # of a voxel


@dataclass(frozen=True, slots=True)
class Slices:
    """Slices along ``axis``: ``weights`` (slice, voxel) sum to 1 over the voxels; ``centres`` in voxels."""

    axis: int
    spacing_mm: float
    centres: NDArray[np.float64]
    weights: NDArray[np.float32]


def slice_profile(distance_mm: NDArray[np.float64], thickness_mm: float, edge: float) -> NDArray[np.float64]:
    """Return the sensitivity of a slice at a distance from its middle: a box of ``thickness_mm`` with soft edges.

    The box is convolved with a Gaussian of standard deviation ``edge`` times the thickness, so the width at half of the
    middle stays the thickness. Source: Bernstein, King, Zhou (2004), section 8.1, for pulses of few lobes.
    """
    half, soft = thickness_mm / 2, np.sqrt(2) * edge * thickness_mm
    return np.asarray((erf((distance_mm + half) / soft) - erf((distance_mm - half) / soft)) / 2)


def plan_slices(shape: tuple[int, ...], spacing_mm: float, values: Values) -> Slices:
    """Return the slices of a volume: as many as fit, in its middle, ``thickness_mm`` + ``gap_mm`` apart."""
    axis, step = int(values["axis"]), values["thickness_mm"] + values["gap_mm"]
    count = max(1, int(shape[axis] * spacing_mm // step))
    centres = (shape[axis] - 1) / 2 + (np.arange(count) - (count - 1) / 2) * step / spacing_mm
    distance = (np.arange(shape[axis]) - centres[:, None]) * spacing_mm
    offsets = np.asarray([-0.375, -0.125, 0.125, 0.375]) * spacing_mm  # a voxel is not a point
    weights = slice_profile(distance[..., None] + offsets, values["thickness_mm"], values["edge"]).mean(axis=-1)
    return Slices(axis, step, centres, np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32))


def average_slices(volume: Volume, slices: Slices) -> Volume:
    """Return the volume averaged over each slice."""
    return np.asarray(
        np.moveaxis(np.tensordot(slices.weights, volume, (1, slices.axis)), 0, slices.axis), np.float32, order="C"
    )


def vote_slices(
    masks: Mapping[str, NDArray[np.uint8]], slices: Slices
) -> tuple[dict[str, NDArray[np.uint8]], NDArray[np.bool_]]:
    """Return the masks of thick voxels, and which voxels hold one tissue and no lesion (all but _OTHERS of them).

    Tissue is the label that fills most of a voxel; a lesion is where lesions fill half of it, of the label
    that most of it has.
    """
    fullest, tissue = np.zeros(0, np.float32), np.zeros(0, np.uint8)
    for label in np.flatnonzero(np.bincount(masks["tissue"].ravel())).tolist():
        share = average_slices((masks["tissue"] == label).astype(np.float32), slices)
        if not len(tissue):
            fullest, tissue = share, np.full(share.shape, label, np.uint8)
        tissue[share > fullest] = label
        fullest = np.maximum(fullest, share)
    kinds = np.flatnonzero(np.bincount(masks["lesion"].ravel(), minlength=2)[1:]) + 1
    hurt = np.zeros(tissue.shape, np.float32)
    most, lesion = hurt.copy(), np.zeros(tissue.shape, np.uint8)
    for kind in kinds.tolist():
        share = average_slices((masks["lesion"] == kind).astype(np.float32), slices)
        lesion[share > most] = kind
        most, hurt = np.maximum(most, share), hurt + share
    pure = np.maximum(1 - fullest, hurt) <= _OTHERS
    return {"tissue": tissue, "lesion": lesion * (hurt > 0.5)}, pure


def slice_affine(affine: NDArray[np.float64], slices: Slices) -> NDArray[np.float64]:
    """Return the affine of the volume of slices."""
    changed = affine.copy()
    changed[:3, 3] += affine[:3, slices.axis] * slices.centres[0]
    changed[:3, slices.axis] *= slices.spacing_mm / np.linalg.norm(affine[:3, slices.axis])
    return changed


SLICES = Effect(
    "thick slices: voxels are long along one axis, through a slice profile",
    {
        "thickness_mm": Parameter("mm", "slice thickness", 1, 10, (3, 5)),
        "gap_mm": Parameter("mm", "gap between slices", 0, 5, (0.0, 1.0)),
        "axis": Parameter("", "axis across the slices: 0 sagittal, 1 coronal, 2 axial", 0, 2, (2, 2), whole=True),
        "edge": Parameter("", "softness of the edges over the thickness", 0.01, 0.5, (0.08, 0.15)),
    },
    frozenset(),
    shared=True,
)
