"""Label maps in NIfTI files: somebody's anatomy, as FreeSurfer, SynthSeg or BrainWeb write it.

A file is named by the SHA-256 of its bytes, so that an image is rendered again from the very map that it was rendered
from. What cannot be somebody's brain is refused before anything is drawn.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synth.errors import SpecError
from synth.physics.grid import LABELS
from synth.physics.label_files import hash_file, refuse_map
from synth.physics.label_tables import LARGEST, TISSUES, Table
from synth.physics.template import SUBARACHNOID_MM

VOXEL_MM = (0.3, 8.0)
BRAIN_ML = (400.0, 2500.0)
_CLOSING_MM = 12.0  # of the hull whose gaps (sulci, fissures) hold fluid where a map has none
_OWN_FLUID = 0.05  # of the brain: a map with so much fluid has that around the brain, too
_MARGIN_MM = 6.0  # of empty space kept around the tissue
_WORK_MM = 2.0  # the hull is found on voxels of about this size


@dataclass(frozen=True, slots=True)
class LabelMap:
    """Somebody's tissues: uint8 (x, y, z), values of grid.LABELS, and the affine to millimetres (RAS+, any axes).

    ``has_ventricles`` says whether the table knows ventricles; else they are found among the fluid.
    """

    tissue: NDArray[np.uint8]
    affine: NDArray[np.float64]
    has_ventricles: bool

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """Edges of a voxel."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))


def read_label_map(path: Path, table: Table, name: str = "") -> LabelMap:
    """Return the tissues of the label map at ``path``, fluid filled in where it has none (see fill_fluid).

    ``name`` is how errors call it. Raises SpecError, saying what is allowed, for what is no NIfTI file, has another
    number of dimensions than three, fractions or labels that the ``table`` does not know, no orientation, voxels beyond
    VOXEL_MM, or a brain beyond BRAIN_ML.
    """
    from synth.references.plan import BadItemError, Budget
    from synth.references.volumes import read_volume  # loads nibabel, which processes that only plan do without

    name = name or path.name
    try:
        volume = read_volume(path, Budget())
    except BadItemError as error:
        raise refuse_map(name, str(error)) from error
    affine = np.asarray(volume.affine).reshape(4, 4)
    if not volume.placed:
        raise refuse_map(name, "its header does not say how it lies (sform and qform are unset); set one of them")
    _check_affine(name, affine)
    numbers = _read_numbers(name, volume.pixels, volume.intensity_scale)
    found = np.flatnonzero(np.bincount(numbers.ravel()))
    look_up = np.full(int(found[-1]) + 1, 255, np.uint8)
    for tissue, own in table.items():
        look_up[[number for number in own if number < len(look_up)]] = TISSUES.index(tissue)
    unknown = [int(number) for number in found if look_up[number] == 255]
    if unknown:
        known = sum(len(own) for own in table.values())
        raise refuse_map(
            name,
            f"the table knows {known} labels, but not {', '.join(map(str, unknown[:10]))}"
            f"{' and others' if len(unknown) > 10 else ''}; set imaging.anatomy.table to one that lists them",
        )
    read = LabelMap(look_up[numbers], affine, bool(table.get("ventricles")))
    _check_brain(name, read)
    cropped = _crop(read)
    return LabelMap(fill_fluid(cropped), cropped.affine, cropped.has_ventricles)


@functools.lru_cache(maxsize=2)
def open_label_map(path: Path, sha256: str, table: tuple[tuple[str, tuple[int, ...]], ...]) -> LabelMap:
    """Return the label map whose bytes have the hash ``sha256``; raises SpecError if they have another."""
    seen = hash_file(path)
    if seen != sha256:
        raise SpecError(
            f"label map '{path.name}' has the SHA-256 {seen[:12]}, not {sha256[:12]}: it was changed or replaced. "
            "Restore the file that the images were made from."
        )
    return read_label_map(path, dict(table))


def _check_affine(name: str, affine: NDArray[np.float64]) -> None:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if spacing.min() < VOXEL_MM[0] or spacing.max() > VOXEL_MM[1]:
        raise refuse_map(
            name,
            f"its affine has voxels of {' x '.join(f'{mm:.3g}' for mm in spacing)} mm; "
            f"{VOXEL_MM[0]:g} to {VOXEL_MM[1]:g} mm are allowed",
        )
    axes = affine[:3, :3] / spacing
    if abs(float(np.linalg.det(axes))) < 0.9:
        raise refuse_map(name, "its affine is sheared, with axes that are not at right angles; resample it first")


def _read_numbers(name: str, pixels: NDArray[np.generic], scale: float) -> NDArray[np.uint16]:
    values = pixels if scale == 1 else np.asarray(pixels, np.float64) * scale
    if not np.isfinite(values).all():
        raise refuse_map(name, "it has values that are not finite; labels are whole numbers")
    if np.asarray(values).dtype.kind == "f" and bool((np.asarray(values) != np.rint(values)).any()):
        worst = float(np.asarray(values)[np.asarray(values) != np.rint(values)].ravel()[0])
        raise refuse_map(
            name, f"it has fractions ({worst:g}); labels are whole numbers. Is it an image, or was it interpolated?"
        )
    low, high = float(np.min(values)), float(np.max(values))
    if low < 0 or high > LARGEST:
        raise refuse_map(name, f"its labels go from {low:g} to {high:g}; 0 to {LARGEST} are allowed")
    return np.asarray(values).astype(np.uint16)


def _check_brain(name: str, read: LabelMap) -> None:
    grey, white = ((read.tissue == LABELS[label]).sum() * read.voxel_ml for label in ("grey_matter", "white_matter"))
    if grey + white == 0:
        raise refuse_map(name, "it has no brain: no voxel is grey or white matter by the table imaging.anatomy.table")
    for tissue, ml in (("grey matter", grey), ("white matter", white)):
        if ml < 0.1 * (grey + white):
            raise refuse_map(
                name, f"it has {ml:.3g} mL of {tissue}, {ml / (grey + white):.0%} of the brain; 10 % at least"
            )
    if not BRAIN_ML[0] <= grey + white <= BRAIN_ML[1]:
        raise refuse_map(
            name,
            f"its brain has {grey + white:.0f} mL; {BRAIN_ML[0]:g} to {BRAIN_ML[1]:g} mL are allowed. Check the table "
            "and the size of its voxels",
        )


def fill_fluid(read: LabelMap) -> NDArray[np.uint8]:
    """Return the tissues, of a map without fluid around the brain with fluid up to the dura.

    FreeSurfer's aseg ends at the pia. The dura lies SUBARACHNOID_MM outside of the brain's hull (a closing by 12 mm),
    as in the template; what is background within it becomes fluid. A map whose fluid is 5 % of its brain is kept as it
    is.
    """
    counts = np.bincount(read.tissue.ravel(), minlength=len(LABELS))
    if counts[LABELS["csf"]] > _OWN_FLUID * (counts[LABELS["grey_matter"]] + counts[LABELS["white_matter"]]):
        return read.tissue
    spacing, size = read.spacing_mm, np.asarray(read.tissue.shape)
    step = np.maximum(1, np.rint(_WORK_MM / spacing)).astype(int)
    before = np.ceil((_CLOSING_MM + 4) / spacing / step).astype(int) * step
    blocks = -(-(size + 2 * before) // step)
    after = blocks * step - size - before
    padded = np.pad(read.tissue > 0, np.stack([before, after], axis=1))
    coarse = padded.reshape(np.stack([blocks, step], axis=1).ravel()).mean(axis=(1, 3, 5), dtype=np.float32) >= 0.5
    grown = ndimage.distance_transform_edt(~coarse, spacing * step) <= _CLOSING_MM
    outside_mm = _CLOSING_MM - ndimage.distance_transform_edt(grown, spacing * step)  # of the hull; negative within
    place = [(np.arange(n) + b + 0.5) / s - 0.5 for n, b, s in zip(size, before, step, strict=True)]
    within = _interpolate_axes(outside_mm.astype(np.float32), place) < SUBARACHNOID_MM
    filled = read.tissue.copy()
    filled[(read.tissue == 0) & within] = LABELS["csf"]
    return filled


def _crop(read: LabelMap) -> LabelMap:
    """Return the part of a map that holds tissue, with room for fluid around it."""
    margin = np.ceil(_MARGIN_MM / read.spacing_mm).astype(int)
    box = ndimage.find_objects((read.tissue > 0).astype(np.int8))[0]
    padded = np.pad(read.tissue, [(m, m) for m in margin])
    own = padded[tuple(slice(s.start, s.stop + 2 * m) for s, m in zip(box, margin, strict=True))]
    affine = read.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ ([s.start for s in box] - margin)
    return LabelMap(np.ascontiguousarray(own), affine, read.has_ventricles)


def _interpolate_axes(values: NDArray[np.float32], place: list[NDArray[np.float64]]) -> NDArray[np.float32]:
    """Return ``values`` at places along each axis, linear."""
    for axis, at in enumerate(place):
        low = np.clip(at.astype(int), 0, values.shape[axis] - 2)
        share = np.clip(at - low, 0, 1).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        values = np.take(values, low, axis) * (1 - share) + np.take(values, low + 1, axis) * share
    return values
