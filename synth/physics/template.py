"""The real anatomy that everything is rendered from: the ICBM 2009a tissue maps that nilearn carries.

Fonov et al., NeuroImage 2009;47:S102 (152 adults, symmetric, 1 mm). Four maps are made of them: grey matter, white
matter, cerebrospinal fluid and the lateral (with third) ventricles, whose sum is 1 inside the intracranial space.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synth.errors import PermanentError

TEMPLATE_VERSION = f"icbm152-2009a-nilearn{importlib.metadata.version('nilearn')}"
GM, WM, CSF, VENTRICLE = range(4)
SUBARACHNOID_MM = 1  # nilearn's mask hugs the pia; the space up to the dura is filled with fluid this thick
_MARGIN_MM = 6  # of empty space kept around the brain
_VENTRICLE_SEED_MM = (0.0, 0.0, 18.0)  # body of the lateral ventricles, MNI


@dataclass(frozen=True, slots=True)
class Template:
    """Tissue fractions at 1 mm.

    ``fractions`` is uint8 (0-255), shape (x, y, z, 4), in the order GM, WM, CSF, VENTRICLE.
    ``occupied`` is bool, one entry for each block of 4 x 4 x 4 voxels: whether it or its upper border holds tissue.
    ``origin_mm`` is the position of voxel (0, 0, 0) in MNI millimetres (axes are RAS+).
    """

    fractions: NDArray[np.uint8]
    occupied: NDArray[np.bool_]
    origin_mm: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WhiteMatterSites:
    """Where white-matter lesions may sit: positions in MNI millimetres, shape (n, 3), and two distances in mm."""

    position_mm: NDArray[np.float32]
    template_origin_mm: NDArray[np.float64]
    ventricle_distance_mm: NDArray[np.float32]
    cortex_distance_mm: NDArray[np.float32]


def _load_map(name: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    import nibabel as nib  # with readers of every format: processes that only plan do without

    package = importlib.util.find_spec("nilearn")  # found, not imported: nilearn.datasets takes a second to import
    if package is None or package.origin is None:
        raise PermanentError("package 'nilearn' carries the anatomy but is not installed; run 'make setup'")
    folder = Path(package.origin).parent / "datasets" / "data"
    image = nib.Nifti1Image.from_filename(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz")
    return np.asarray(image.dataobj).astype(np.float32) / np.float32(255), np.asarray(image.affine)


def _find_ventricles(csf: NDArray[np.float32], origin_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the component of fluid nearest the body of the lateral ventricles, grown by 2 mm to take its rim."""
    labels, _ = ndimage.label(csf > 0.5)
    seed = np.round(np.asarray(_VENTRICLE_SEED_MM) - origin_mm).astype(int)
    inside = labels[tuple(slice(s - 12, s + 13) for s in seed)]
    biggest = int(np.bincount(inside[inside > 0]).argmax())
    return np.asarray(ndimage.binary_dilation(labels == biggest, iterations=2))


def place_axes(shape: tuple[int, ...], origin_mm: NDArray[np.float64]) -> list[NDArray[np.float32]]:
    """Return the position of voxels along x, y and z in MNI millimetres, each ready to be broadcast to ``shape``."""
    return [
        (origin_mm[axis] + np.arange(n)).reshape([-1 if a == axis else 1 for a in range(3)]).astype(np.float32)
        for axis, n in enumerate(shape)
    ]


def find_nearest(inside: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return the distance of each voxel from the nearest one that is not ``inside``, in voxels, and that voxel's index.

    As scipy's distance transform, without its float64 differences along all axes at once (120 MB).
    """
    nearest = ndimage.distance_transform_edt(inside, return_distances=False, return_indices=True)
    square = np.zeros(inside.shape, np.float32)
    for axis, count in enumerate(inside.shape):
        here = np.arange(count, dtype=np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        square += np.subtract(nearest[axis], here, dtype=np.float32) ** 2
    return np.sqrt(square, out=square), nearest


def find_cerebellum(shape: tuple[int, ...], origin_mm: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return a smooth weight, 1 in cerebellum and lower brain stem, 0 in the cerebrum.

    Averaging 152 people blurs the thin folia into half fluid; left so, ageing would dissolve the whole cerebellum.
    """
    _, y, z = place_axes(shape, origin_mm)
    below_tentorium = 1 / (1 + np.exp((z - (-14 - 0.25 * (y + 60))) / 3))
    behind = 1 / (1 + np.exp((y + 30) / 3))
    return np.broadcast_to(below_tentorium * behind, shape)


def _read_fractions() -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the four maps as float32 (4, x, y, z), cropped around the brain, and the position of voxel (0, 0, 0)."""
    head, affine = _load_map("t1")
    box = ndimage.find_objects((head > 0).astype(np.int8))[0]
    box = tuple(slice(max(s.start - _MARGIN_MM, 0), s.stop + _MARGIN_MM) for s in box)
    origin = affine[:3, 3] + [s.start for s in box]
    brain = ndimage.binary_fill_holes(head[box] > 0)
    grey, white = (_load_map(name)[0][box] * brain for name in ("gm", "wm"))
    dura = ndimage.binary_dilation(brain, ndimage.generate_binary_structure(3, 2), iterations=SUBARACHNOID_MM)
    fluid = np.where(dura, np.clip(1 - grey - white, 0, 1), 0).astype(np.float32)
    folia = find_cerebellum(fluid.shape, origin) * brain * fluid * (1 - fluid)
    grey, fluid = grey + folia, fluid - folia
    near = _find_ventricles(fluid * brain, origin)
    return np.stack([grey, white, np.where(near, 0, fluid), np.where(near, fluid, 0)]), origin


@functools.cache
def load_template() -> Template:
    """Return the template."""
    maps, origin = _read_fractions()
    fractions = np.empty((*maps.shape[1:], len(maps)), np.uint8)
    for tissue, share in enumerate(maps):
        fractions[..., tissue] = np.rint(share * 255)
    return Template(fractions, find_occupied(fractions), origin)


def load_fractions() -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the template's maps as float32 (4, x, y, z), made anew (80 MB), and the position of voxel (0, 0, 0)."""
    template = load_template()
    maps = np.empty((template.fractions.shape[3], *template.fractions.shape[:3]), np.float32)
    for tissue, share in enumerate(maps):
        np.multiply(template.fractions[..., tissue], np.float32(1 / 255), out=share)
    return maps, template.origin_mm


def load_map(tissue: int, box: tuple[slice, ...] = (slice(None),) * 3) -> NDArray[np.float32]:
    """Return the template's share of one ``tissue`` in a box."""
    return np.asarray(load_template().fractions[..., tissue][box] * np.float32(1 / 255), np.float32)


def find_occupied(fractions: NDArray[np.uint8] | NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return whether each block of 4 x 4 x 4 voxels, with the next voxel along each axis, holds any tissue."""
    tissue = np.pad(fractions.any(axis=-1), [(0, 1 + -n % 4) for n in fractions.shape[:3]])
    for axis in range(3):
        tissue = np.take(tissue, range(tissue.shape[axis] - 1), axis) | np.take(
            tissue, range(1, tissue.shape[axis]), axis
        )
    x, y, z = (n // 4 for n in tissue.shape)
    return np.asarray(tissue.reshape(x, 4, y, 4, z, 4).any(axis=(1, 3, 5)))


@functools.cache
def find_white_matter_sites() -> WhiteMatterSites:
    """Return every voxel at least 2 mm deep in white matter, above the brain stem and cerebellum."""
    maps, origin = load_fractions()
    depth, _ = find_nearest(maps[WM] > 0.6)
    index = np.argwhere(depth >= 2)
    position = (index + origin).astype(np.float32)
    hemispheres = (position[:, 2] > -15) & (position[:, 1] > -95)
    index = index[hemispheres]
    ventricle, _ = find_nearest(maps[VENTRICLE] < 0.5)
    cortex, _ = find_nearest(maps[GM] < 0.5)
    return WhiteMatterSites(
        position[hemispheres],
        origin,
        ventricle[tuple(index.T)].astype(np.float32),
        cortex[tuple(index.T)].astype(np.float32),
    )
