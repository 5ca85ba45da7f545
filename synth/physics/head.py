"""What lies around the brain: dura, skull, orbits, muscle, fat and skin, laid over the template as one overlay.

Layers follow distances. The inner surface of the skull is the dura's; its outer one lies outside of the dura's smooth
hull (a closing) by the thickness of the skull; skin lies outside of that by the thickness of the scalp, and melts into
a face and a neck, which go on beyond the field of view. Distances live on a grid of 2 mm, fractions on one of 1 mm.

Thickness of the skull: 6.5 mm in men, 7.1 mm in women on average (Li et al., Int J Vehicle Safety 2007;2:345), thicker
at forehead and occiput, thin at the temples; diploe lies where two tables leave room for it, so it is thick where the
skull is (Lynnerup et al., Head Face Med 2005;1:13). Scalp, muscles, face and neck are approximate.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synth.physics.folding import Floats
from synth.physics.grid import HEAD_LABELS
from synth.physics.head_kernel import FIELD_STEP, fill_head
from synth.physics.head_parts import list_capsules, list_ellipsoids
from synth.physics.individual import INSIDE_STEP, load_prior
from synth.physics.overlay import OUTSIDE, Overlay, Part
from synth.physics.template import load_template
from synth.seeds import stream_from_key

PARTS = (  # in the order that the kernel knows
    Part("dura", OUTSIDE, 0, HEAD_LABELS["membranes"]),
    Part("bone", OUTSIDE, 0, HEAD_LABELS["bone"]),
    Part("marrow", OUTSIDE, 0, HEAD_LABELS["marrow"]),
    Part("fat", OUTSIDE, 0, HEAD_LABELS["fat"]),
    Part("muscle", OUTSIDE, 0, HEAD_LABELS["muscle"]),
    Part("skin", OUTSIDE, 0, HEAD_LABELS["skin"]),
    Part("humour", OUTSIDE, 0, HEAD_LABELS["fluid"]),
    Part("nerve", OUTSIDE, 0, HEAD_LABELS["nerves"]),
)
LOW_MM, HIGH_MM = (-96.0, -134.0, -118.0), (96.0, 118.0, 110.0)  # MNI; more than any field of view shows
_STEP_MM = 2  # of the grid of distances
_CLOSING_MM = 16.0
_TABLE_OUTER_MM, _TABLE_INNER_MM, _DURA_MM, _GALEA_MM = 1.8, 1.5, 1.0, 0.8
_SPLINE_LOSS = (151 / 315) ** -1.5  # what the mean square of cubic B-splines takes from white noise, undone


@dataclass(frozen=True, slots=True)
class HeadShape:
    """What is drawn of a head: mean thicknesses in millimetres, the size of the face, and the key of its fields."""

    key: str
    skull_mm: float
    fat_mm: float
    skin_mm: float
    temporal_mm: float
    face: float
    diploe: float


def draw_head(generator: np.random.Generator, key: int, sex: str | None) -> HeadShape:
    """Draw one head. Of unknown sex the skull is in between."""
    skull_mm = {"M": 6.5, "F": 7.1}.get(sex or "", 6.8)

    def around(mean: float, spread: float) -> float:
        return float(mean * (1 + spread * np.clip(generator.standard_normal(), -2, 2)))

    return HeadShape(
        hex(key),
        around(skull_mm, 0.13),
        around(2.6, 0.3),
        around(1.8, 0.12),
        around(8.0, 0.15),
        around(1.0, 0.03),
        float(generator.uniform(0.0, 0.3)),
    )


def head_from_json(values: Mapping[str, Any]) -> HeadShape:
    """Return the HeadShape that a scan's row stores."""
    return HeadShape(**values)


def head_to_json(head: HeadShape) -> dict[str, Any]:
    """Return a HeadShape as a scan's row stores it."""
    return asdict(head)


# --------------------------------------------------------------------------------------------------- the inner surface


@dataclass(frozen=True, slots=True, eq=False)
class Vault:
    """Signed distances in mm (negative inside) on the grid of 2 mm: from the dura, and from its smooth hull."""

    dura: Floats
    hull: Floats


def grid_shape() -> tuple[int, int, int]:
    """Return the shape of the grid of distances."""
    x, y, z = (int((high - low) / _STEP_MM) + 1 for low, high in zip(LOW_MM, HIGH_MM, strict=True))
    return x, y, z


@functools.cache
def find_template_vault() -> Vault:
    """Return the distances that everybody has who is sampled from the template."""
    return find_vault(load_prior().inside)


def find_vault(inside: NDArray[np.int16]) -> Vault:
    """Return the distances from the dura, given the share inside the skull in INSIDE_STEP at the template's voxels."""
    padded = np.pad(inside, [(0, -n % _STEP_MM) for n in inside.shape])
    shape = [value for n in padded.shape for value in (n // _STEP_MM, _STEP_MM)]
    share = padded.reshape(shape).mean(axis=(1, 3, 5), dtype=np.float32) * np.float32(INSIDE_STEP)
    # block n of the template has its middle at origin + 2 n + 0.5
    first = load_template().origin_mm + (_STEP_MM - 1) / 2 - np.asarray(LOW_MM)
    whole = np.zeros(grid_shape(), np.float32)
    start = np.floor(first / _STEP_MM).astype(int)
    whole[tuple(slice(s, s + n) for s, n in zip(start, share.shape, strict=True))] = share
    whole = ndimage.shift(whole, first / _STEP_MM - start, order=1, mode="nearest")
    within = whole >= 0.5
    dura = _STEP_MM * (ndimage.distance_transform_edt(~within) - ndimage.distance_transform_edt(within))
    dura = (dura - np.sign(dura) * _STEP_MM / 2).astype(np.float32)
    grown = dura <= _CLOSING_MM
    hull = _STEP_MM * (ndimage.distance_transform_edt(~grown) - ndimage.distance_transform_edt(grown))
    hull = (hull - np.sign(hull) * _STEP_MM / 2 + _CLOSING_MM).astype(np.float32)
    return Vault(ndimage.gaussian_filter(dura, 0.8), ndimage.gaussian_filter(hull, 2.0))


# ------------------------------------------------------------------------------------------------------- one's surfaces


def _axes() -> list[Floats]:
    """Return the MNI position of the nodes along each axis, ready to be broadcast."""
    return [
        (low + _STEP_MM * np.arange(n)).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, (low, n) in enumerate(zip(LOW_MM, grid_shape(), strict=True))
    ]


def _bump(*pairs: tuple[Floats, float]) -> Floats:
    """Return a Gaussian bump of the (offset, width) along each axis."""
    return np.exp(-sum((offset / np.float32(width)) ** 2 for offset, width in pairs) / 2)


def _draw_smooth(generator: np.random.Generator, spacing_mm: float) -> Floats:
    """Draw a smooth Gaussian field on the grid of distances, of variance about 1: B-splines ``spacing_mm`` apart."""
    shape = grid_shape()
    field = generator.standard_normal([math.ceil(n * _STEP_MM / spacing_mm) + 3 for n in shape], np.float32)
    for axis, count in enumerate(shape):
        place = np.arange(count) * (_STEP_MM / spacing_mm)
        t = place - place.astype(int)
        taps = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (1 - t) ** 3 - 6 * (1 - t) ** 2 + 4, t**3)
        weights = np.zeros((count, field.shape[axis]), np.float32)
        for offset, tap in enumerate(taps):
            weights[np.arange(count), place.astype(int) + offset] = tap / 6
        field = np.moveaxis(np.tensordot(weights, field, (1, axis)), 0, axis)
    return np.asarray(field * np.float32(_SPLINE_LOSS), np.float32)


def _join(first: Floats, second: Floats, width_mm: float) -> Floats:
    """Return the union of two distances, its groove filled over ``width_mm`` (polynomial smooth minimum)."""
    mix = np.maximum(width_mm - np.abs(first - second), 0) / width_mm
    return np.asarray(np.minimum(first, second) - mix * mix * (width_mm / 4), np.float32)


def _ellipsoid(x: Floats, y: Floats, z: Floats, middle: tuple[float, ...], radii: tuple[float, ...]) -> Floats:
    """Return about the distance from an ellipsoid, exact in first order at its surface."""
    u, v, w = x - middle[0], y - middle[1], z - middle[2]
    first = np.sqrt((u / radii[0]) ** 2 + (v / radii[1]) ** 2 + (w / radii[2]) ** 2)
    second = np.sqrt((u / radii[0] ** 2) ** 2 + (v / radii[1] ** 2) ** 2 + (w / radii[2] ** 2) ** 2)
    return np.asarray(first * (first - 1) / np.maximum(second, 1e-6), np.float32)


@dataclass(frozen=True, slots=True)
class Surfaces:
    """Six fields of one head, int16 (x, y, z, 6) in FIELD_STEP.

    Distances from the dura, the outer skull and the skin; then the thickness of fat, the texture of marrow, and a field
    that is 0 on the planes between muscles.
    """

    fields: NDArray[np.int16]


def _store(field: Floats) -> NDArray[np.int16]:
    return np.asarray(np.rint(np.clip(field, -120, 120) * np.float32(1 / FIELD_STEP)), np.int16)


def shape_surfaces(vault: Vault, head: HeadShape, scale: float) -> Surfaces:
    """Return the surfaces of one head; ``scale`` is image over template millimetres."""
    x, y, z = _axes()
    generator = stream_from_key(int(head.key, 16))
    wide, broad, fat_field = (_draw_smooth(generator, mm) for mm in (34.0, 22.0, 26.0))
    fields = np.empty((*grid_shape(), 6), np.int16)
    fields[..., 4] = _store(_draw_smooth(generator, 7.0))
    coarse, fine = (np.abs(_draw_smooth(generator, mm)) for mm in (17.0, 9.0))
    fields[..., 5] = _store(np.minimum(coarse, 1.6 * fine))
    del coarse, fine
    side = np.abs(x)
    temple = _bump((side - 70, 18.0), (y - 12, 30.0), (z + 12, 26.0))
    flank = _bump((side - 74, 18.0), (y + 15, 60.0), (z - 5, 45.0))
    skull = head.skull_mm * (
        1
        + 0.25 * _bump((x, 45.0), (y - 75, 22.0), (z - 5, 30.0))
        + 0.35 * _bump((x, 30.0), (y + 110, 25.0), (z + 12, 24.0))
        - 0.35 * flank
        - 0.2 * temple
        + 0.08 * wide
        + 0.04 * broad
    )
    base = _bump((x, 60.0), (y + 10, 55.0), (z + 62, 20.0))
    outer = vault.hull - (np.maximum(skull, 2.0) + 2.5 * base) / scale
    thick = 1 + 0.8 * _bump((y + 60, 40.0), (z + 55, 25.0), (x, 60.0)) - 0.3 * flank
    fat = head.fat_mm * np.exp(np.float32(0.25) * fat_field) * thick
    soft = head.skin_mm + _GALEA_MM + fat + head.temporal_mm * temple
    skin = outer - soft / scale
    size = head.face / scale
    face = _ellipsoid(x, y, z, (0, 34, -70), (66 * size, 54 * size, 78 * size))
    nose = _ellipsoid(x, y, z, (0, 88 * head.face, -56), (13 * size, 16 * size, 20 * size))
    tube = np.sqrt((x / (56 * size)) ** 2 + ((y + 38 + 0.25 * (z + 90)) / (54 * size)) ** 2) * (54 * size) - 54 * size
    neck = np.asarray(np.maximum(tube, z + 52), np.float32)
    skin = _join(_join(_join(skin, face, 22.0), neck, 26.0), nose, 12.0) + 0.4 * broad
    for place, field in enumerate((vault.dura, outer, skin, fat)):
        fields[..., place] = _store(field)
    return Surfaces(fields)


def lay_head(vault: Vault, head: HeadShape, scale: float) -> Overlay:
    """Return the overlay of one head; ``scale`` is image over template millimetres, so that thicknesses are kept."""
    fields = shape_surfaces(vault, head, scale).fields
    shape = [int(high - low) for low, high in zip(LOW_MM, HIGH_MM, strict=True)]
    out = np.zeros((*shape, len(PARTS)), np.uint8)
    thick = np.asarray(
        [
            head.skin_mm / scale,
            _TABLE_OUTER_MM / scale,
            _TABLE_INNER_MM / scale,
            _DURA_MM / scale,
            1 / scale,
            head.diploe,
        ],
        np.float32,
    )
    fill_head(
        fields, thick, list_ellipsoids(scale, head.face), list_capsules(scale), np.asarray(LOW_MM, np.float32), out
    )
    x, y, z = (int(v) for v in np.rint(np.asarray(LOW_MM) - load_template().origin_mm))
    return Overlay(out, (x, y, z), PARTS)
