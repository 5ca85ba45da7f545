"""From the distances of a head to the fractions of its parts (see synth.physics.head), voxel by voxel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from synth.physics.head_parts import AIR, EYE, LENS, ORBIT, STRAND, TURBINATE

_DURA, _BONE, _MARROW, _FAT, _MUSCLE, _SKIN, _HUMOUR, _NERVE = range(8)  # places in head.PARTS
FIELD_STEP = 1 / 256  # of the integers that fields are stored in
_DEEP_MM = 3.0  # inside of the dura by more than this nothing is laid


@njit(inline="always")
def _cover(distance: Any) -> Any:
    """Return how much of a voxel lies within a surface whose distance from its middle is given in mm."""
    return min(max(np.float32(0.5) - distance, np.float32(0.0)), np.float32(1.0))


@njit(inline="always")
def _ellipsoid_mm(row, x: float, y: float, z: float) -> Any:  # type: ignore[no-untyped-def]
    u, v, w = x - row[1], y - row[2], z - row[3]
    if abs(u) > row[4] + 4 or abs(v) > row[5] + 4 or abs(w) > row[6] + 4:
        return np.float32(9.0)
    u, v, w = u / row[4], v / row[5], w / row[6]
    first = math.sqrt(u * u + v * v + w * w)
    u, v, w = u / row[4], v / row[5], w / row[6]
    return np.float32(first * (first - 1) / max(math.sqrt(u * u + v * v + w * w), 1e-6))


@njit(inline="always")
def _capsule_mm(row, x: float, y: float, z: float) -> Any:  # type: ignore[no-untyped-def]
    ax, ay, az = row[4] - row[1], row[5] - row[2], row[6] - row[3]
    u, v, w = x - row[1], y - row[2], z - row[3]
    along = (u * ax + v * ay + w * az) / (ax * ax + ay * ay + az * az)
    along = min(max(along, 0.0), 1.0)
    u, v, w = u - along * ax, v - along * ay, w - along * az
    return np.float32(math.sqrt(u * u + v * v + w * w) - row[7])


@njit(inline="always")
def _give(own, rest, part: int, share: Any) -> Any:  # type: ignore[no-untyped-def]
    """Give ``part`` its share of what is left of a voxel; return what is left then."""
    own[part] += share * rest
    return rest * (np.float32(1.0) - share)


@njit(cache=True, nogil=True)
def _find_near(rows, x: float, y: float, near) -> int:  # type: ignore[no-untyped-def]
    """Write the numbers of the ellipsoids or rods that a column of voxels may meet into ``near``; return how many."""
    count = 0
    for n in range(rows.shape[0]):
        if rows.shape[1] == 7:
            meets = abs(x - rows[n, 1]) < rows[n, 4] + 4 and abs(y - rows[n, 2]) < rows[n, 5] + 4
        else:
            reach = rows[n, 7] + 8
            meets = (
                min(rows[n, 1], rows[n, 4]) - reach < x < max(rows[n, 1], rows[n, 4]) + reach
                and min(rows[n, 2], rows[n, 5]) - reach < y < max(rows[n, 2], rows[n, 5]) + reach
            )
        if meets:
            near[count] = n
            count += 1
    return count


@njit(cache=True, nogil=True)
def _fill_small(x, y, z, ellipsoids, capsules, own, rest, deep):  # type: ignore[no-untyped-def]
    """Give airways, eyes, orbits, nerves and the spine their share of a voxel, in the order of the rows.

    ``ellipsoids`` and ``capsules`` are those near by; ``deep`` is 0 where the face is thin. Returns what is left.
    """
    one = np.float32(1.0)
    for n in range(capsules.shape[0]):
        kind, d = int(capsules[n, 0]), _capsule_mm(capsules[n], x, y, z)
        if d > 7:
            continue
        rest = _give(own, rest, _MUSCLE if kind == STRAND else _NERVE, _cover(d))
        if capsules[n, 7] > 4:  # the spinal cord in its canal
            rest = _give(own, rest, _HUMOUR, _cover(d - np.float32(3.5)))
            rest = _give(own, rest, _BONE, _cover(d - np.float32(6.0)))
    for n in range(ellipsoids.shape[0]):
        kind, d = int(ellipsoids[n, 0]), _ellipsoid_mm(ellipsoids[n], x, y, z)
        if d > 3:
            continue
        if kind == AIR:
            rest *= one - _cover(d)
            rest = _give(own, rest, _BONE, _cover(d - np.float32(1.2)) * np.float32(0.7))
        elif kind == TURBINATE:
            wave = math.sin(abs(x) * 0.85 + 0.9 * math.sin(z * 0.35)) + 0.1
            mucosa = one if abs(x) < 1.2 else min(max(np.float32(0.5 + 1.6 * wave), np.float32(0.0)), one)
            rest = _give(own, rest, _MUSCLE, _cover(d) * mucosa)
            rest *= one - _cover(d)
        elif kind == LENS:
            rest = _give(own, rest, _MUSCLE, _cover(d))
        elif kind == EYE:
            rest = _give(own, rest, _HUMOUR, _cover(d + one))
            rest = _give(own, rest, _DURA, _cover(d))
        elif kind == ORBIT:
            rest = _give(own, rest, _FAT, _cover(d))
            rest = _give(own, rest, _BONE, _cover(d - np.float32(1.5)) * deep)
        else:
            rest = _give(own, rest, _MARROW, _cover(d + np.float32(2.0)) * np.float32(0.4))
            rest = _give(own, rest, _BONE, _cover(d))
    return rest


@njit(cache=True, nogil=True)
def fill_head(fields, thick, ellipsoids, capsules, low, out):  # type: ignore[no-untyped-def]
    """Write ``out`` (x, y, z, parts), uint8, from the fields of a head (see Surfaces).

    thick: in template mm: skin, outer table, inner table, dura, one mm of the image; then the marrow in diploe.
    """
    nx, ny, nz, parts = out.shape
    own = np.empty(parts, np.float32)
    seen = np.empty(6, np.float32)
    skin_mm, outer_mm, inner_mm, dura_mm, unit, diploe = thick
    one, half = np.float32(1.0), np.float32(0.5)
    near_e, near_c = np.empty(ellipsoids.shape[0], np.int64), np.empty(capsules.shape[0], np.int64)
    for i in range(nx):
        a, fx = i >> 1, half * (i & 1)
        for j in range(ny):
            b, fy = j >> 1, half * (j & 1)
            x, y = low[0] + i, low[1] + j
            some_e = ellipsoids[near_e[: _find_near(ellipsoids, x, y, near_e)]]
            some_c = capsules[near_c[: _find_near(capsules, x, y, near_c)]]
            small = len(some_e) + len(some_c) > 0
            for k in range(nz):
                c, fz = k >> 1, half * (k & 1)
                near = fields[a, b, c]
                if near[0] < -5 / FIELD_STEP or near[2] > 5 / FIELD_STEP:
                    continue
                for q in range(6):
                    value = (one - fx) * (
                        (one - fy) * ((one - fz) * near[q] + fz * fields[a, b, c + 1, q])
                        + fy * ((one - fz) * fields[a, b + 1, c, q] + fz * fields[a, b + 1, c + 1, q])
                    ) + fx * (
                        (one - fy) * ((one - fz) * fields[a + 1, b, c, q] + fz * fields[a + 1, b, c + 1, q])
                        + fy * ((one - fz) * fields[a + 1, b + 1, c, q] + fz * fields[a + 1, b + 1, c + 1, q])
                    )
                    seen[q] = value * np.float32(FIELD_STEP)
                dura, outer, skin = seen[0], seen[1], seen[2]
                if dura < -_DEEP_MM or skin > 0.5:
                    continue
                own[:] = 0
                z = low[2] + k
                # the sagittal sinus lies in the dura
                sinus = np.float32(3.0) * math.exp(-x * x * 0.06) if z > -20 else np.float32(0.0)
                rest = _give(own, _cover(skin), _DURA, _cover(dura - dura_mm - sinus))
                rest = _give(own, rest, _SKIN, _cover(-skin - skin_mm))
                if small and z < 12 and rest > 0:
                    rest = _fill_small(x, y, z, some_e, some_c, own, rest, _cover(np.float32(4.0) + skin))
                bone = _cover(outer)
                if bone > 0:
                    share = _cover(outer_mm + outer) * _cover(inner_mm + dura_mm - dura)
                    share *= min(max(diploe + np.float32(0.12) * seen[4], np.float32(0.03)), np.float32(0.95))
                    rest = _give(own, rest, _MARROW, bone * share)
                    rest = _give(own, rest, _BONE, bone)
                rest = _give(own, rest, _FAT, _cover(-skin - skin_mm - seen[3] * unit))
                deep = min(max(outer / 4 - one, np.float32(0.0)), one)
                streak = max(np.float32(0.8) - np.float32(7.0) * seen[5], np.float32(0.0))  # between muscles
                rest = _give(own, rest, _FAT, deep * streak)
                own[_MUSCLE] += rest
                total, before = np.float32(0.0), 0
                for q in range(parts):
                    total += own[q]
                    now = int(total * 255 + half)
                    out[i, j, k, q] = now - before
                    before = now
