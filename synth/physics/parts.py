"""What diseases and heads add along a row of voxels: ellipsoidal lesions, overlays, and the labels of both.

A voxel that no lesion comes near and where no overlay has anything is left as it is.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from synth.physics.cells import LONGEST
from synth.physics.overlay import BLOCK

_SURELY_FLUID = 1000.0  # log-odds of what counts as fluid whatever the gains (see anatomy)
_CELL_MM = np.float32(8.0)  # of lesions.bin_lesions


@njit(inline="always")
def reach_row(where, count, lesion_start, lesion_cells, filled, boxes, reached):  # type: ignore[no-untyped-def]
    """Write into ``reached`` which of the first ``count`` template voxels a lesion or overlay may cover."""
    for k in range(count):
        reached[k] = False
    if lesion_start.shape[0] > 1:
        for k in range(count):
            y, x, z = where[0, k], where[1, k], where[2, k]
            a, b, c = int(y / _CELL_MM), int(x / _CELL_MM), int(z / _CELL_MM)
            inside = y >= 0 and x >= 0 and z >= 0 and a < lesion_cells[0] and b < lesion_cells[1]
            if inside and c < lesion_cells[2]:
                cell = (a * lesion_cells[1] + b) * lesion_cells[2] + c
                reached[k] = lesion_start[cell + 1] > lesion_start[cell]
    for n in range(boxes.shape[0]):
        low_y, low_x, low_z = np.float32(boxes[n, 1]), np.float32(boxes[n, 2]), np.float32(boxes[n, 3])
        ny, nx, nz, first = boxes[n, 4], boxes[n, 5], boxes[n, 6], boxes[n, 8]
        along, across = (nz - 1) // BLOCK + 1, (nx - 1) // BLOCK + 1
        for k in range(count):
            v, u, w = where[0, k] - low_y, where[1, k] - low_x, where[2, k] - low_z
            a, b, c = int(v), int(u), int(w)
            if v >= 0 and u >= 0 and w >= 0 and a < ny - 1 and b < nx - 1 and c < nz - 1:
                block = ((a // BLOCK) * across + b // BLOCK) * along + c // BLOCK
                reached[k] = reached[k] or filled[first + block]


@njit(cache=True, nogil=True, error_model="numpy")
def lesion_fraction(y, x, z, table, start, items, cells, edge):  # type: ignore[no-untyped-def]
    """Return the fraction of lesion (and its part) at (y, x, z), in mm from the template's first voxel."""
    a, b, c = int(y / _CELL_MM), int(x / _CELL_MM), int(z / _CELL_MM)
    if y < 0 or x < 0 or z < 0 or a >= cells[0] or b >= cells[1] or c >= cells[2]:
        return np.float32(0.0), 0
    cell = (a * cells[1] + b) * cells[2] + c
    most, part = np.float32(0.0), 0
    for place in range(start[cell], start[cell + 1]):
        n = items[place]
        u, v, w = (y - table[n, 0]) * table[n, 3], (x - table[n, 1]) * table[n, 4], (z - table[n, 2]) * table[n, 5]
        radius = math.sqrt(u * u + v * v + w * w)
        if radius > 1.6:
            continue
        if radius > 1e-6:
            # two lobes make the outline irregular: a share of the radius by direction
            lobes = table[n, 6] * math.sin(3 * u / radius + table[n, 7])
            radius *= 1 + lobes + table[n, 8] * math.sin(4 * v / radius + table[n, 9])
        depth = (1 - radius) / (edge * max(table[n, 3], table[n, 4], table[n, 5])) + 0.5
        depth = min(max(depth, 0.0), 1.0)
        if depth > most:
            most, part = np.float32(depth), int(table[n, 10])
    return most, part


@njit(cache=True, nogil=True, error_model="numpy")
def cover(y, x, z, filled, raster, boxes, rules, first, shares, own, left, part, k):  # type: ignore[no-untyped-def]
    """Give the overlays at template voxel (y, x, z) their share of ``shares``: GM, WM, CSF, ventricle and air.

    ``first`` is the number of parts before those of overlays. Shares go into column ``k`` of ``part``, from its fourth
    row on; ``own`` (parts) and ``left`` (5) are scratch. Return whether anything was given.
    """
    covered = False
    for n in range(boxes.shape[0]):
        start, number = boxes[n, 0], boxes[n, 7]
        ny, nx, nz = boxes[n, 4], boxes[n, 5], boxes[n, 6]
        v, u, w = y - np.float32(boxes[n, 1]), x - np.float32(boxes[n, 2]), z - np.float32(boxes[n, 3])
        there = np.float32(0.0)  # of what any part of the box may replace
        for t in range(5):
            if boxes[n, 9] >> t & 1:
                there = max(there, shares[t])
        if there > 0 and v >= 0 and u >= 0 and w >= 0 and v < ny - 1 and u < nx - 1 and w < nz - 1:
            a, b, c = int(v), int(u), int(w)
            block = ((a // BLOCK) * ((nx - 1) // BLOCK + 1) + b // BLOCK) * ((nz - 1) // BLOCK + 1) + c // BLOCK
            if not filled[boxes[n, 8] + block]:
                first += number
                continue
            fy, fx, fz = v - np.float32(a), u - np.float32(b), w - np.float32(c)
            for q in range(number):
                own[q] = np.float32(0.0)
            for da in range(2):
                wy = fy if da else np.float32(1.0) - fy
                for db in range(2):
                    wx = wy * (fx if db else np.float32(1.0) - fx) * np.float32(1 / 255)
                    low, high = np.float32(wx * (np.float32(1.0) - fz)), np.float32(wx * fz)
                    place = start + (((a + da) * nx + b + db) * nz + c) * number
                    for q in range(number):
                        own[q] += low * raster[place + q] + high * raster[place + number + q]
            for t in range(5):
                left[t] = np.float32(1.0)
            for q in range(number):
                if own[q] > 0:
                    taken, replaces = np.float32(0.0), rules[first + q, 0]
                    for t in range(5):
                        if replaces >> t & 1:
                            taken += own[q] * shares[t]
                            left[t] -= own[q]
                    part[(3 + first + q) * LONGEST + k] += taken
                    covered = True
            for t in range(5):
                shares[t] *= max(left[t], np.float32(0.0))
        first += number
    return covered


@njit(cache=True, nogil=True, error_model="numpy")
def name_parts(part, k, rules, inside, air):  # type: ignore[no-untyped-def]
    """Return the lesion label of a voxel (0: none) and the tissue that a part makes of it (0: as it was).

    ``inside`` and ``air`` are what the parts have left of the tissues and of what lies outside of the skull.
    """
    whole, hurt, taken = inside, np.float32(0.0), np.float32(0.0)
    most, label, most_taken, occupied = np.float32(0.0), 0, np.float32(0.0), 0
    for n in range(rules.shape[0]):
        share = part[(3 + n) * LONGEST + k]
        whole += share
        if rules[n, 1] > 0:
            hurt += share
            if share > most:
                most, label = share, rules[n, 1]
        if rules[n, 2] > 0:
            taken += share
            if share > most_taken:
                most_taken, occupied = share, rules[n, 2]
    if hurt <= 0.5 * whole or whole <= 0.5:
        label = 0
    if taken <= whole - taken or taken <= air:
        occupied = 0
    return label, occupied


@njit(cache=True, nogil=True, error_model="numpy")
def lay_row(  # type: ignore[no-untyped-def]
    where, count, reached, shares, each, table, starts, items, cells, edge, filled, raster, boxes, rules, ellipsoids,
    part, tissue, lesion, log_odds,
):  # fmt: skip
    """Lay lesions and overlays over the ``reached`` of the first ``count`` voxels of a row.

    ``shares`` times ``each`` are those of the tissues (see add_shares). Columns of ``part`` get what is left of GM, WM,
    CSF with ventricle, and what each part has; ``tissue``, ``lesion`` and ``log_odds`` (or empty) are rows of the
    outputs.
    """
    beyond = False  # whether anything lies outside of the skull
    for n in range(rules.shape[0]):
        beyond = beyond or rules[n, 0] >> 4 & 1 == 1
    own, left, found = np.zeros(rules.shape[0], np.float32), np.empty(5, np.float32), np.empty(5, np.float32)
    for k in range(count):
        gm, wm = each * shares[k], each * shares[LONGEST + k]
        csf, vent = each * shares[2 * LONGEST + k], each * shares[3 * LONGEST + k]
        inside = gm + wm + csf + vent
        if not reached[k] or (inside < 0.004 and not beyond):
            continue
        y, x, z = where[0, k], where[1, k], where[2, k]
        if table.shape[0] > 0 and wm > 0.05:
            hurt, n = lesion_fraction(y, x, z, table, starts, items, cells, edge)
            hurt = wm * hurt
            part[(3 + n) * LONGEST + k] = hurt
            wm = wm - hurt
        air, covered = np.float32(0.0), False
        if boxes.shape[0] > 0:
            found[0], found[1], found[2], found[3] = gm, wm, csf, vent
            found[4] = max(np.float32(1.0) - inside, np.float32(0.0))
            covered = cover(y, x, z, filled, raster, boxes, rules, ellipsoids, found, own, left, part, k)
            gm, wm, csf, vent, air = found[0], found[1], found[2], found[3], found[4]
        if covered or table.shape[0] > 0:
            label, occupies = name_parts(part, k, rules, gm + wm + csf + vent, air)
            lesion[k] = label
            if occupies > 0:
                tissue[k] = occupies
                if log_odds.shape[0] > 0:
                    log_odds[k, 1] = np.float32(_SURELY_FLUID)
        part[k], part[LONGEST + k], part[2 * LONGEST + k] = gm, wm, csf + vent
