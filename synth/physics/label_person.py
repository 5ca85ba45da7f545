"""A Person from a label map: the map is laid over the template, and its labels become log-odds.

Each tissue's voxels are smoothed by less than a voxel, which turns the steps of the map into a surface and keeps
partial volume; the logarithm, sharpened, then has the slope of a sampled person's (see individual), so edges are as
crisp. A little of a broad smoothing lets a visit's gains move borders further than the map's own edge is wide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

from synth.physics.folding import Floats
from synth.physics.grid import LABELS
from synth.physics.individual import INSIDE_STEP, ODDS_STEP, Person
from synth.physics.label_maps import LabelMap
from synth.physics.template import CSF, GM, VENTRICLE, WM, find_nearest, find_occupied, load_fractions, load_template

_SMOOTH_VOXELS, _SMOOTH_MM = 0.45, 0.45  # standard deviation: of a map's voxel, and the least in mm
_BROAD_MM, _BROAD_SHARE = 2.5, 0.02
_SLOPE = 8.0  # log-odds per mm across an edge, as a sampled person's cortex has
_LEAST = 1e-5  # share that is taken for none
_ALIGN_MM = 6.0  # spacing of the template's voxels that are compared
_COARSE_MM = 4.0  # the map is averaged over blocks of about this size before
_NEAR_VENTRICLE_MM = 8.0  # fluid this near to the template's ventricles may be a ventricle
_EDGE = 1.5  # slope of the share inside the skull over that of the smoothed map
_CENTRE_MM = np.array([0.0, -17.0, 4.0])  # of the template, MNI
_WEIGHTS = np.array([1.0, 1.0, 2.0, 0.5], np.float32)  # of skull, white matter, ventricles and grey matter
_ROOM = 0.0  # voxels left free between tissue and the border of the template, whose own brain stem reaches it


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where a map lies over the template: map = rotation (size * (template - CENTRE)) + centre, all in millimetres.

    ``rotation_deg`` is about x, y, z; ``size`` the map's over the template's along each axis of the template.
    """

    rotation_deg: tuple[float, float, float]
    centre_mm: tuple[float, float, float]
    size: tuple[float, float, float]

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The linear part, from the template to the map."""
        return np.asarray(
            Rotation.from_euler("xyz", self.rotation_deg, degrees=True).as_matrix() * np.asarray(self.size)
        )


def alignment_from_json(values: Mapping[str, Any]) -> Alignment:
    """Return the Alignment that a scan's row stores (``asdict`` of it)."""
    return Alignment(*(tuple(float(v) for v in values[name]) for name in ("rotation_deg", "centre_mm", "size")))  # type: ignore[arg-type]


def align_map(read: LabelMap) -> Alignment:
    """Return where the map lies over the template: nine parameters that maximise the overlap of their tissues.

    The squared difference of skull, white and grey matter and ventricles, smoothed over 2 mm, is minimised (Powell's
    method) from the position at which middles and extents agree.
    """
    maps, origin = load_fractions()
    step = int(_ALIGN_MM)
    want = np.stack([
        ndimage.gaussian_filter(part, 2.0)[::step, ::step, ::step]
        for part in (maps.sum(axis=0), maps[WM], maps[VENTRICLE], maps[GM])
    ], axis=-1)  # fmt: skip
    place = np.stack(np.meshgrid(*(np.arange(n) * step for n in want.shape[:3]), indexing="ij"), -1) + origin
    affine, seen = _average(read)
    to_voxel, start = np.linalg.inv(affine), _guess(read)

    def differ(values: NDArray[np.float64]) -> float:
        tried = _unpack(values, start)
        matrix = to_voxel[:3, :3] @ tried.matrix
        shift = to_voxel[:3, :3] @ tried.centre_mm + to_voxel[:3, 3] - matrix @ _CENTRE_MM
        return float(_compare(seen, place.reshape(-1, 3), want.reshape(-1, 4), matrix, shift, _WEIGHTS))

    best = optimize.minimize(differ, np.zeros(9), method="Powell", options={"maxfev": 900, "xtol": 1e-2, "ftol": 1e-4})
    return _fit_room(read, _unpack(best.x, start))


def _unpack(values: NDArray[np.float64], start: Alignment) -> Alignment:
    """Return ``start`` changed by angles in 10 degrees, shifts in 10 mm and the logarithm of sizes in tenths."""
    turned = np.asarray(start.rotation_deg) + 10 * values[:3]
    moved = np.asarray(start.centre_mm) + 10 * values[3:6]
    size = np.asarray(start.size) * np.exp(0.1 * np.clip(values[6:], -4, 4))
    return alignment_from_json({"rotation_deg": turned, "centre_mm": moved, "size": size})


def _average(read: LabelMap) -> tuple[NDArray[np.float64], Floats]:
    """Return the affine of the map in blocks, and skull, white matter, deep fluid and grey matter in them, smoothed."""
    step = np.maximum(1, np.rint(_COARSE_MM / read.spacing_mm)).astype(int)
    blocks = -(-np.asarray(read.tissue.shape) // step)
    after = blocks * step - read.tissue.shape
    padded = np.pad(read.tissue, [(0, int(n)) for n in after])
    deep = read.tissue == LABELS["ventricles"]
    if not read.has_ventricles:
        depth = ndimage.distance_transform_edt(read.tissue > 0, read.spacing_mm)
        deep = (read.tissue == LABELS["csf"]) & (depth > 20)
    parts = (padded > 0, padded == LABELS["white_matter"], np.pad(deep, [(0, int(n)) for n in after]),
             padded == LABELS["grey_matter"])  # fmt: skip
    shape = np.stack([blocks, step], axis=1).ravel()
    affine = read.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ ((step - 1) / 2)
    affine[:3, :3] *= step
    means = [part.reshape(shape).mean(axis=(1, 3, 5), dtype=np.float32) for part in parts]
    sigma = np.sqrt(np.maximum(2.0**2 - (read.spacing_mm * step) ** 2 / 12, 0)) / (read.spacing_mm * step)
    return affine, np.stack([ndimage.gaussian_filter(part, sigma) for part in means])


def _guess(read: LabelMap) -> Alignment:
    """Return the alignment at which the middle and the extent of what is inside the skull agree along each axis."""
    fractions, origin = load_fractions()
    inside = np.argwhere(fractions.sum(axis=0) > 0.5) + origin
    own = np.argwhere(read.tissue > 0)[::7] @ read.affine[:3, :3].T + read.affine[:3, 3]
    (low, high), (own_low, own_high) = (np.percentile(points, (1, 99), axis=0) for points in (inside, own))
    size = (own_high - own_low) / (high - low)
    centre = (own_low + own_high) / 2 - size * ((low + high) / 2 - _CENTRE_MM)
    return alignment_from_json({"rotation_deg": np.zeros(3), "centre_mm": centre, "size": size})


def _fit_room(read: LabelMap, alignment: Alignment) -> Alignment:
    """Return the alignment with sizes, and if need be a shift, so that all tissue lies within the template's voxels."""
    template = load_template()
    shape = np.asarray(template.fractions.shape[:3])
    points = np.argwhere(read.tissue > 0)[::3] @ read.affine[:3, :3].T + read.affine[:3, 3]
    own = (points - alignment.centre_mm) @ np.linalg.inv(alignment.matrix).T + _CENTRE_MM - template.origin_mm
    low, high = own.min(axis=0), own.max(axis=0)
    last = shape - 1 - _ROOM
    factor = np.minimum((last - _ROOM) / (high - low), 1.0)
    middle, half = (low + high) / 2, factor * (high - low) / 2
    moved = np.maximum(_ROOM - middle + half, 0) + np.minimum(last - middle - half, 0)
    shift = (1 - factor) * (middle + template.origin_mm - _CENTRE_MM) + moved
    return alignment_from_json({
        "rotation_deg": alignment.rotation_deg,
        "centre_mm": alignment.centre_mm - (alignment.matrix / factor) @ shift,
        "size": np.asarray(alignment.size) / factor,
    })  # fmt: skip


def find_ventricles(read: LabelMap, alignment: Alignment) -> LabelMap:
    """Return the map with its ventricles told from its other fluid, if its table does not tell them.

    They are the largest connected fluid near those of the template.
    """
    if read.has_ventricles:
        return read
    maps, origin = load_fractions()
    away, _ = find_nearest(maps[VENTRICLE] < 0.5)
    fluid = np.argwhere(read.tissue == LABELS["csf"])
    world = fluid @ read.affine[:3, :3].T + read.affine[:3, 3]
    place = (world - alignment.centre_mm) @ np.linalg.inv(alignment.matrix).T + _CENTRE_MM - origin
    index = np.rint(place).astype(int)
    known = np.all((index >= 0) & (index < away.shape), axis=1)
    near = np.zeros(read.tissue.shape, bool)
    near[tuple(fluid[known][away[tuple(index[known].T)] <= _NEAR_VENTRICLE_MM].T)] = True
    parts, count = ndimage.label(near)
    if not count:
        return read
    tissue = read.tissue.copy()
    tissue[parts == int(np.bincount(parts.ravel())[1:].argmax()) + 1] = LABELS["ventricles"]
    return LabelMap(tissue, read.affine, True)


@njit(inline="always")
def _read_shares(shares, x: float, y: float, z: float, own) -> None:  # type: ignore[no-untyped-def]
    """Write the four shares at voxel (x, y, z) of a map, trilinear, into ``own``; beyond the map they are 0."""
    _, mx, my, mz = shares.shape
    if x < 0 or y < 0 or z < 0 or x >= mx - 1 or y >= my - 1 or z >= mz - 1:
        own[:] = 0
        return
    a, b, c = int(x), int(y), int(z)
    fx, fy, fz = np.float32(x - a), np.float32(y - b), np.float32(z - c)
    gx, gy, gz = np.float32(1.0) - fx, np.float32(1.0) - fy, np.float32(1.0) - fz
    for q in range(4):
        near = gy * (gz * shares[q, a, b, c] + fz * shares[q, a, b, c + 1]) + fy * (
            gz * shares[q, a, b + 1, c] + fz * shares[q, a, b + 1, c + 1]
        )
        far = gy * (gz * shares[q, a + 1, b, c] + fz * shares[q, a + 1, b, c + 1]) + fy * (
            gz * shares[q, a + 1, b + 1, c] + fz * shares[q, a + 1, b + 1, c + 1]
        )
        own[q] = gx * near + fx * far


@njit(cache=True, nogil=True)
def _compare(shares, place, want, matrix, shift, weights):  # type: ignore[no-untyped-def]
    """Return the weighted squared difference of ``want`` (n, 4) and of a map's shares at matrix @ place + shift."""
    own, total = np.empty(4, np.float32), 0.0
    for n in range(len(place)):
        px, py, pz = place[n, 0], place[n, 1], place[n, 2]
        _read_shares(
            shares,
            matrix[0, 0] * px + matrix[0, 1] * py + matrix[0, 2] * pz + shift[0],
            matrix[1, 0] * px + matrix[1, 1] * py + matrix[1, 2] * pz + shift[1],
            matrix[2, 0] * px + matrix[2, 1] * py + matrix[2, 2] * pz + shift[2],
            own,
        )
        for q in range(4):
            total += weights[q] * (own[q] - want[n, q]) ** 2
    return total


@njit(cache=True, nogil=True)
def _take_odds(shares, matrix, shift, sharp, odds):  # type: ignore[no-untyped-def]
    """Write ``odds`` (see Person.odds) from ``shares`` (4, x, y, z) of the map, whose voxel is matrix @ i + shift.

    ``shares`` are those of grey matter, white matter, fluid and ventricles; ``sharp`` multiplies log-odds.
    """
    nx, ny, nz, _ = odds.shape
    own = np.empty(4, np.float32)
    least = np.float32(_LEAST)
    for i in range(nx):
        for j in range(ny):
            for k in range(nz):
                x = matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 2] * k + shift[0]
                y = matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 2] * k + shift[1]
                z = matrix[2, 0] * i + matrix[2, 1] * j + matrix[2, 2] * k + shift[2]
                _read_shares(shares, x, y, z, own)
                inside = own[0] + own[1] + own[2] + own[3]
                # a share of one half is the border; the rest is as steep as a voxel's own partial volume
                share = min(max((inside - np.float32(0.5)) * np.float32(_EDGE) + np.float32(0.5), 0.0), 1.0)
                if share == 0:
                    continue
                grey = math.log(max(own[0], least))
                odds[i, j, k, 0] = _round_odds((math.log(max(own[1], least)) - grey) * sharp)
                odds[i, j, k, 1] = _round_odds((math.log(max(own[2], least)) - grey) * sharp)
                odds[i, j, k, 2] = _round_odds((math.log(max(own[3], least)) - grey) * sharp)
                odds[i, j, k, 3] = np.int16(round(share / INSIDE_STEP))


@njit(inline="always")
def _round_odds(value: float) -> int:
    return int(np.int16(round(min(max(value, -120.0), 120.0) / ODDS_STEP)))


def smooth_shares(read: LabelMap) -> tuple[Floats, float]:
    """Return the shares of GM, WM, fluid and ventricles in each voxel of a map, and what sharpens their logarithm."""
    spacing = read.spacing_mm
    sigma_mm = np.maximum(_SMOOTH_VOXELS * spacing, _SMOOTH_MM)
    shares = np.empty((4, *read.tissue.shape), np.float32)
    for place, label in ((GM, "grey_matter"), (WM, "white_matter"), (CSF, "csf"), (VENTRICLE, "ventricles")):
        own = (read.tissue == LABELS[label]).astype(np.float32)
        broad = ndimage.gaussian_filter(own, np.maximum(_BROAD_MM, 1.5 * sigma_mm) / spacing, truncate=3)
        shares[place] = (1 - _BROAD_SHARE) * ndimage.gaussian_filter(own, sigma_mm / spacing) + _BROAD_SHARE * broad
    # the logarithm of the odds across a flat edge has the slope 4 / sqrt(2 pi) / sigma in its middle
    return shares, _SLOPE * float(np.cbrt(sigma_mm.prod())) * math.sqrt(2 * math.pi) / 4


def make_person(read: LabelMap, alignment: Alignment) -> Person:
    """Return the Person whose anatomy is the map's, in the template's space (see Person)."""
    template = load_template()
    shares, sharp = smooth_shares(find_ventricles(read, alignment))
    to_voxel = np.linalg.inv(read.affine)
    matrix = to_voxel[:3, :3] @ alignment.matrix
    centre = to_voxel[:3, :3] @ alignment.centre_mm + to_voxel[:3, 3]
    shift = centre + matrix @ (template.origin_mm - _CENTRE_MM)
    odds = np.zeros((*template.fractions.shape[:3], 5), np.int16)
    _take_odds(shares, matrix, shift, np.float32(sharp), odds)
    near = ndimage.binary_dilation(odds[..., 3] > 0, np.ones((3, 3, 3)))  # a voxel's samples lie up to a voxel off
    return Person(odds, find_occupied(near[..., None]), template.origin_mm)


def measure_map(read: LabelMap, alignment: Alignment) -> dict[str, float]:
    """Return the volumes of a map in millilitres: intracranial_ml, brain_ml, ventricle_ml and grey_ml."""
    found = find_ventricles(read, alignment)
    counts = np.bincount(found.tissue.ravel(), minlength=len(LABELS)) * found.voxel_ml
    grey, white = float(counts[LABELS["grey_matter"]]), float(counts[LABELS["white_matter"]])
    return {
        "intracranial_ml": float(counts[1:].sum()),
        "brain_ml": grey + white,
        "ventricle_ml": float(counts[LABELS["ventricles"]]),
        "grey_ml": grey,
    }
