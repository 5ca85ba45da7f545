"""One person's tissue, sampled from the template: its maps average 152 people, so nobody's brain looks like them.

The maps become log-odds. In the cortex and the cerebellum, where the 152 disagree, the maps are tempered and the
person's own folds are added (see folding); where they agree, around the ventricles and in the deep nuclei, they count
as they are. Sharpened (a softmax at a temperature below 1, see render) that is crisp tissue. The fields live in the
template, so all visits of a person deform the same brain.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from synth.physics.folding import DEPTH_STEP, GAP_MM, PLACE_STEP, WIDTH_STEP, Floats, Surface, draw_fields, find_surface
from synth.physics.template import (
    CSF,
    GM,
    VENTRICLE,
    WM,
    find_cerebellum,
    find_nearest,
    find_occupied,
    load_fractions,
    place_axes,
)
from synth.seeds import stream_from_key

ODDS_STEP = 1 / 256  # of the int16 that log-odds are stored in
INSIDE_STEP = 1 / 16384  # of the int16 that the share inside the skull is stored in
_LEAST = 1 / 512  # share of a tissue that is taken for none
_LEAST_VENTRICLE = 1e-20  # no gain of fluid may turn a sulcus into a ventricle
_WEIGHT_STEP = 1 / 255

# How the cortex answers to the distance from a sulcus. The gains of a visit move these thicknesses (see anatomy).
_TEMPERATURE, _DEEP_TEMPERATURE = 0.27, 0.7
_SLOPE = 2.2  # log-odds of white against grey matter per mm from the sulcus; those of fluid fall twice as fast
_CORTEX_MM, _SULCUS_MM = 1.8, 0.4  # from the middle of a sulcus to white matter, and to grey matter
_CROWN_MM, _CROWN_SLOPE = 4.0, 3.0  # from the surface to white matter where a gyrus is highest
_RIM_MM, _RIM_SLOPE, _RIM_MIDLINE = 3.0, 2.0, 0.3  # fluid gains on gyri, too; in the midline less
_FUNDUS_MM, _FUNDUS_SPREAD_MM, _FUNDUS_ROUND_MM = 22.0, 5.0, 5.0  # depth of sulci, its spread, and how they end
_TEMPER = 0.8  # how little the maps count where the cortex folds
_SURE, _SURE_GAIN = 2.5, 2.0  # log-odds of white matter from which the maps count again, and how much
# Wall of the ventricles: log-odds per mm and their range; those of white matter in the rim beside it, and its width
_WALL_SLOPE, _WALL_RANGE, _WALL_WHITE, _WALL_MM = 5.0, (-46.0, 15.0), 2.0, 3
_ROUGH = 0.3  # irregularity, in log-odds
# Folia of the cerebellum: sheets that fan out from its root, in MNI mm
_ROOT_Y_MM, _ROOT_Z_MM, _ROOT_BEND = -38.0, -32.0, 0.6
_FOLIA_RATE, _FOLIA_MM, _FOLIA_BEND, _FOLIA_CORTEX = 24.0, 1.44, 0.35, 0.3


@dataclass(frozen=True, slots=True)
class Person:
    """What a head is rendered from, at 1 mm in the template's space.

    ``odds`` is int16 (x, y, z, 5): log-odds of white matter, fluid and ventricle against grey matter and the distance f
    from a fold in ODDS_STEP (a voxel's white matter has |f| more, its fluid 2 |f| less), after the share inside the
    skull in INSIDE_STEP, which is the fourth. ``occupied`` and ``origin_mm`` are as in Template.
    """

    odds: NDArray[np.int16]
    occupied: NDArray[np.bool_]
    origin_mm: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prior:
    """What everybody shares: the maps as log-odds against grey matter, int16 (x, y, z, 3), and where folds may be.

    ``folds`` and ``folia`` are uint8 (x, y, z): the weight of a person's own folds in cortex and in the cerebellum;
    ``inside`` is int16 in INSIDE_STEP.
    """

    odds: NDArray[np.int16]
    folds: NDArray[np.uint8]
    folia: NDArray[np.uint8]
    inside: NDArray[np.int16]
    surface: Surface
    occupied: NDArray[np.bool_]
    origin_mm: NDArray[np.float64]


def _weigh_folds(shape: tuple[int, ...], origin_mm: NDArray[np.float64], ventricle: Floats) -> Floats:
    """Return a smooth weight: 0 in deep nuclei, brain stem and around the ventricles, 1 elsewhere."""
    x, y, z = place_axes(shape, origin_mm)
    nuclei = np.sqrt((x / 33) ** 2 + ((y + 8) / 34) ** 2 + ((z - 4) / 22) ** 2)
    stem = np.sqrt((x / 17) ** 2 + ((y + 28) / 16) ** 2 + ((z + 32) / 34) ** 2)
    away, _ = find_nearest(ventricle < 0.3)
    weight = np.clip((np.minimum(nuclei, stem) - 0.95) / 0.25, 0, 1) * np.clip((away - 2) / 6, 0, 1)
    return np.asarray(weight, np.float32)


def _weigh_folia(shape: tuple[int, ...], origin_mm: NDArray[np.float64]) -> Floats:
    """Return the weight of folia: the cerebellum outside of its core."""
    x, y, z = place_axes(shape, origin_mm)
    radius = np.sqrt((_ROOT_BEND * x) ** 2 + (y - _ROOT_Y_MM) ** 2 + (z - _ROOT_Z_MM) ** 2)
    return np.asarray(find_cerebellum(shape, origin_mm) * np.clip((radius - 12) / 8, 0, 1), np.float32)


def _sharpen_ventricles(odds: Floats, maps: Floats) -> None:
    """Give ventricles a wall, in place: ``odds`` (x, y, z, 3) are log-odds of WM, CSF and ventricle against GM.

    Roofs lie at other heights in each of the 152, so their mean fades over many millimetres, and growth would stretch
    it. Log-odds of ventricle against the likeliest other tissue become its distance from the border (value over slope)
    times a constant, and the mixture of fluid and white matter that the maps call a rim of grey matter becomes white.
    """
    away, _ = find_nearest(maps[VENTRICLE] < 0.5)
    box = ndimage.find_objects((maps[VENTRICLE] > 0).astype(np.int8))[0]
    box = tuple(slice(max(s.start - _WALL_MM, 0), s.stop + _WALL_MM) for s in box)
    near = odds[box]
    nuclei = ndimage.binary_dilation(ndimage.binary_opening(maps[GM][box] > 0.5, iterations=2), iterations=1)
    beside = (away[box] <= _WALL_MM) & (maps[VENTRICLE][box] < 0.5) & ~nuclei & (maps[CSF][box] < 0.3)
    rim = ndimage.gaussian_filter(beside.astype(np.float32), 0.7)
    near[..., 0] += rim * np.maximum(_WALL_WHITE - near[..., 0], 0)
    others = np.maximum(near[..., :2].max(axis=-1), 0)
    over = near[..., 2] - others
    slope = np.sqrt(sum(g * g for g in np.gradient(over)))
    near[..., 2] = others + np.clip(_WALL_SLOPE * over / np.maximum(slope, 1), *_WALL_RANGE)


@functools.cache
def load_prior() -> Prior:
    """Return what everybody shares."""
    maps, origin = load_fractions()
    shape = maps.shape[1:]
    surface = find_surface(maps, origin)  # takes most memory, so it comes before anything is held
    grey = np.log(np.maximum(maps[GM], _LEAST))
    logs = np.empty((*shape, 3), np.float32)
    for place, tissue in enumerate((WM, CSF, VENTRICLE)):
        least = _LEAST if tissue != VENTRICLE else _LEAST_VENTRICLE
        logs[..., place] = np.log(np.maximum(maps[tissue], least)) - grey
    _sharpen_ventricles(logs, maps)
    logs /= ODDS_STEP
    odds = np.rint(logs, out=logs).astype(np.int16)
    del logs, grey
    inside = np.rint(np.minimum(maps.sum(axis=0), 1) / INSIDE_STEP).astype(np.int16)
    folds, folia = (
        np.rint(weight / _WEIGHT_STEP).astype(np.uint8)
        for weight in (_weigh_folds(shape, origin, maps[VENTRICLE]), _weigh_folia(shape, origin))
    )
    near = ndimage.binary_dilation(inside > 0, np.ones((3, 3, 3)))  # a voxel's samples lie up to a voxel off
    return Prior(odds, folds, folia, inside, surface, find_occupied(near[..., None]), origin)


@njit(inline="always")
def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, np.float32(low)), np.float32(high))  # type: ignore[return-value]


@njit(inline="always")
def _store(value: float) -> int:
    return int(np.int16(round(_clip(value, -120.0, 120.0) * np.float32(256.0))))


@njit(inline="always")
def _read_fields(fields, y: float, x: float, z: float, own) -> None:  # type: ignore[no-untyped-def]
    """Write the fields at node (y, x, z), trilinear, into ``own``."""
    a, b, c = int(y), int(x), int(z)
    fy, fx, fz = y - a, x - b, z - c
    gy, gx, gz = np.float32(1.0) - fy, np.float32(1.0) - fx, np.float32(1.0) - fz
    for q in range(3):
        near = gx * (gz * fields[a, b, c, q] + fz * fields[a, b, c + 1, q]) + fx * (
            gz * fields[a, b + 1, c, q] + fz * fields[a, b + 1, c + 1, q]
        )
        far = gx * (gz * fields[a + 1, b, c, q] + fz * fields[a + 1, b, c + 1, q]) + fx * (
            gz * fields[a + 1, b + 1, c, q] + fz * fields[a + 1, b + 1, c + 1, q]
        )
        own[q] = gy * near + fy * far


@njit(cache=True, nogil=True)
def _sample(odds, folds, folia, inside, place, depth, seam, width, fields, origin_mm, out):  # type: ignore[no-untyped-def]
    """Write ``out`` (see Person.odds), which is zero; the rest is as in Prior, ``fields`` as draw_fields gives them."""
    nx, ny, nz = folds.shape
    own = np.empty(3, np.float32)
    node = np.float32(PLACE_STEP / GAP_MM)
    for i in range(nx):
        for j in range(ny):
            for k in range(nz):
                if inside[i, j, k] == 0:
                    continue
                wm, csf, vent = (
                    odds[i, j, k, 0] * np.float32(ODDS_STEP),
                    odds[i, j, k, 1] * np.float32(ODDS_STEP),
                    odds[i, j, k, 2] * np.float32(ODDS_STEP),
                )
                weight, fold = folds[i, j, k] * np.float32(_WEIGHT_STEP), np.float32(0.0)
                if weight > 0:
                    _read_fields(
                        fields, place[i, j, k, 0] * node, place[i, j, k, 1] * node, place[i, j, k, 2] * node, own
                    )
                    below = depth[i, j, k] * np.float32(DEPTH_STEP)
                    fundus = np.float32(_FUNDUS_MM) + np.float32(_FUNDUS_SPREAD_MM) * own[1]
                    most = fundus - below - seam[i, j, k] * np.float32(DEPTH_STEP)
                    cortex, past = _clip(most / np.float32(_FUNDUS_ROUND_MM), -1.0, 1.0), max(4 - most, np.float32(0.0))
                    crown = np.float32(_CROWN_SLOPE) * max(np.float32(_CROWN_MM) - below, np.float32(0.0))
                    distance = own[0] * width[i, j, k] * np.float32(WIDTH_STEP)
                    share = folia[i, j, k] * np.float32(_WEIGHT_STEP)
                    if share > 0:
                        x, y, z = origin_mm[0] + i, origin_mm[1] + j, origin_mm[2] + k
                        reach = math.sqrt((_ROOT_BEND * x) ** 2 + (y - _ROOT_Y_MM) ** 2)
                        turn = _FOLIA_RATE * math.atan2(z - _ROOT_Z_MM, reach)
                        folium = np.float32(_FOLIA_MM * math.sin(turn + _FOLIA_BEND * own[0]))
                        distance += share * (folium - distance)
                        cortex += share * (np.float32(_FOLIA_CORTEX) - cortex)
                        past, crown = past * (1 - share), crown * (1 - share)
                    strong = weight * _clip(below * np.float32(1 / 3), 0.0, 1.0)
                    slope, keep = np.float32(_SLOPE) * strong, 1 - np.float32(_TEMPER) * strong
                    sure = strong * _clip(wm - np.float32(_SURE), 0.0, 4.0)
                    fold = slope * distance
                    wm = wm * keep + np.float32(_SURE_GAIN) * sure - slope * np.float32(_CORTEX_MM) * cortex
                    wm += weight * (np.float32(_ROUGH) * own[2] - crown)
                    lateral = _clip(abs(origin_mm[0] + i) / 3 - 1, _RIM_MIDLINE, 1.0)
                    rim = np.float32(_RIM_SLOPE) * lateral * max(np.float32(_RIM_MM) - below, np.float32(0.0))
                    csf = csf * keep - sure + np.float32(2 * _SULCUS_MM) * slope + weight * (rim - past)
                sharp = 1 / (np.float32(_DEEP_TEMPERATURE) + np.float32(_TEMPERATURE - _DEEP_TEMPERATURE) * weight)
                out[i, j, k, 0], out[i, j, k, 1] = _store(wm * sharp), _store(csf * sharp)
                out[i, j, k, 2], out[i, j, k, 3] = _store(vent * sharp), inside[i, j, k]
                out[i, j, k, 4] = _store(fold * sharp)


@functools.lru_cache(maxsize=1)
def sample_person(key: int) -> Person:
    """Return the person whose fields are drawn from the stream ``key``."""
    prior = load_prior()
    shape, surface = prior.folds.shape, prior.surface
    fields = draw_fields(stream_from_key(key), surface)
    odds = np.zeros((*shape, 5), np.int16)
    _sample(
        prior.odds, prior.folds, prior.folia, prior.inside, surface.place, surface.depth, surface.seam,
        surface.width, fields, prior.origin_mm, odds,
    )  # fmt: skip
    return Person(odds, prior.occupied, prior.origin_mm)
