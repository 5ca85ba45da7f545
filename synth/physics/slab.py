"""The fused kernel: deformation, partial volume, diseases, signal, receive bias and Rician noise in one pass.

The image grid is walked row by row; nothing larger than a row is held besides the outputs. The deformation and the
bias are cubic B-splines on a coarse node grid, contracted plane -> row -> voxel, so a voxel costs four taps.
Noise is Philox4x32-10 counted by voxel, so a voxel's noise does not depend on what is rendered with it.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from synth.philox import philox_block
from synth.physics.individual import INSIDE_STEP, ODDS_STEP
from synth.physics.overlay import BLOCK

_SURELY_FLUID = 1000.0  # log-odds of what counts as fluid whatever the gains (see anatomy)


@njit(inline="always")
def _bspline_weights(t: float) -> tuple[float, float, float, float]:
    """Return the four uniform cubic B-spline weights at fraction t in [0, 1)."""
    s = 1.0 - t
    return s * s * s / 6, (3 * t * t * t - 6 * t * t + 4) / 6, (3 * s * s * s - 6 * s * s + 4) / 6, t * t * t / 6


@njit(cache=True, nogil=True)
def philox_words(counter: int, k0: int, k1: int) -> tuple[int, int, int, int]:
    """Return the four words of one Philox4x32-10 block (for tests against numpy and the published vectors)."""
    return philox_block(counter & 0xFFFFFFFF, counter >> 32, 0, 0, k0, k1)


@njit(inline="always")
def _lesion_fraction(y, x, z, table, start, items, cells, edge):  # type: ignore[no-untyped-def]
    """Return the fraction of lesion (and its part) at (y, x, z), in mm from the template's first voxel."""
    a, b, c = int(y / 8.0), int(x / 8.0), int(z / 8.0)
    if a < 0 or b < 0 or c < 0 or a >= cells[0] or b >= cells[1] or c >= cells[2]:
        return 0.0, 0
    cell = (a * cells[1] + b) * cells[2] + c
    most, part = 0.0, 0
    for place in range(start[cell], start[cell + 1]):
        row = table[items[place]]
        dy, dx, dz = y - row[0], x - row[1], z - row[2]
        u, v, w = dy * row[3], dx * row[4], dz * row[5]
        radius = math.sqrt(u * u + v * v + w * w)
        if radius > 1.6:
            continue
        if radius > 1e-6:
            # two lobes make the outline irregular: a share of the radius by direction
            radius *= 1 + row[6] * math.sin(3 * u / radius + row[7]) + row[8] * math.sin(4 * v / radius + row[9])
        depth = (1 - radius) / (edge * max(row[3], row[4], row[5])) + 0.5
        depth = min(max(depth, 0.0), 1.0)
        if depth > most:
            most, part = depth, int(row[10])
    return most, part


@njit(cache=True, nogil=True)
def _cover(y, x, z, filled, raster, boxes, rules, first, shares, part, k):  # type: ignore[no-untyped-def]
    """Give the overlays at template voxel (y, x, z) their share of ``shares``: GM, WM, CSF, ventricle and air.

    ``first`` is the number of parts before those of overlays. Shares go into column ``k`` of ``part``, from its fourth
    row on. Return whether anything was given.
    """
    own = np.zeros(rules.shape[0], np.float32)
    left = np.empty(5, np.float32)
    covered = False
    for n in range(boxes.shape[0]):
        start, number = boxes[n, 0], boxes[n, 7]
        ny, nx, nz = boxes[n, 4], boxes[n, 5], boxes[n, 6]
        v, u, w = y - boxes[n, 1], x - boxes[n, 2], z - boxes[n, 3]
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
            fy, fx, fz = v - a, u - b, w - c
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
                    part[3 + first + q, k] += taken
                    covered = True
            for t in range(5):
                shares[t] *= max(left[t], np.float32(0.0))
        first += number
    return covered


@njit(cache=True, nogil=True)
def _name_parts(part, k, rules, inside, air):  # type: ignore[no-untyped-def]
    """Return the lesion label of a voxel (0: none) and the tissue that a part makes of it (0: as it was).

    ``inside`` and ``air`` are what the parts have left of the tissues and of what lies outside of the skull.
    """
    whole, hurt, taken = inside, np.float32(0.0), np.float32(0.0)
    most, label, most_taken, occupied = np.float32(0.0), 0, np.float32(0.0), 0
    for n in range(rules.shape[0]):
        share = part[3 + n, k]
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


@njit(inline="always")
def _sample_shares(odds, y: float, x: float, z: float, white: float, fluid: float):  # type: ignore[no-untyped-def]
    """Return the shares of GM, WM, CSF and ventricle at a template voxel: trilinear log-odds, then a softmax.

    The last two are the log-odds of WM and of CSF against GM.
    """
    a, b, c, none = int(y), int(x), int(z), np.float32(0.0)
    if y < 0 or x < 0 or z < 0 or a >= odds.shape[0] - 1 or b >= odds.shape[1] - 1 or c >= odds.shape[2] - 1:
        return none, none, none, none, none, none
    fy, fx, fz = y - a, x - b, z - c
    wm = csf = vent = inside = fold = np.float32(0.0)
    for da in range(2):
        wy = fy if da else np.float32(1.0) - fy
        for db in range(2):
            wx = wy * (fx if db else np.float32(1.0) - fx)
            for dc in range(2):
                w = wx * (fz if dc else np.float32(1.0) - fz)
                wm += w * odds[a + da, b + db, c + dc, 0]
                csf += w * odds[a + da, b + db, c + dc, 1]
                vent += w * odds[a + da, b + db, c + dc, 2]
                inside += w * odds[a + da, b + db, c + dc, 3]
                fold += w * odds[a + da, b + db, c + dc, 4]
    inside = min(inside * np.float32(INSIDE_STEP), np.float32(1.0))
    fold = abs(fold)
    log_wm = (wm + fold) * np.float32(ODDS_STEP) + white
    log_csf = (csf - np.float32(2.0) * fold) * np.float32(ODDS_STEP) + fluid
    for_wm, for_csf = math.exp(log_wm), math.exp(log_csf)
    for_vent = math.exp(vent * np.float32(ODDS_STEP))
    share = inside / (np.float32(1.0) + for_wm + for_csf + for_vent)
    return share, for_wm * share, for_csf * share, for_vent * share, log_wm, log_csf


@njit(cache=True, nogil=True)
def render_slab(  # type: ignore[no-untyped-def]
    first,
    last,
    step,
    nodes_per_voxel,
    nodes,
    odds,
    occupied,
    gains,
    offsets,
    lesion_table,
    lesion_start,
    lesion_items,
    lesion_cells,
    lesion_edge,
    filled,
    raster,
    boxes,
    rules,
    ellipsoids,
    moved,
    signals,
    sigma,
    scale,
    keys,
    images,
    tissue,
    lesion,
    log_odds,
):
    """Render planes ``first`` to ``last`` of the outputs.

    nodes: float32 (nx, ny, nz, 3 + contrasts): template voxel coordinate and bias of each contrast, B-spline nodes.
    odds, occupied: see Person; where ``occupied`` is False nothing is sampled.
    gains: added to the log-odds of white matter and of fluid; offsets: where a voxel is sampled, see _place_samples.
    filled, raster, boxes, rules: see Packed; the first ``ellipsoids`` rules are those of the lesion table's parts.
    moved: whether nodes end with four more channels: from where a voxel is to where its tissue is taken from (template
    voxels), and log-odds of fluid that are added there.
    signals: float32 (contrasts, 3 + parts): GM, WM, CSF, parts; sigma, scale: (contrasts); keys: (contrasts, 2).
    images: uint16 (contrasts, x, y, z), may be empty along the first axis: then only labels are made.
    log_odds: float32 (x, y, z, 2) or empty; see Rendering.
    """
    ny, nz = tissue.shape[1], tissue.shape[2]
    contrasts = images.shape[0]
    channels, parts = 3 + contrasts + (4 if moved else 0), rules.shape[0]
    _, rows, columns, _ = nodes.shape
    tx, ty, tz, _ = odds.shape
    samples, each = offsets.shape[0], np.float32(1.0 / max(offsets.shape[0], 1))
    white, fluid = gains[0], gains[1]
    plane = np.empty((rows, columns, channels), np.float32)
    line = np.empty((columns, channels), np.float32)
    part = np.empty((3 + parts, nz), np.float32)
    total = np.empty(nz, np.float32)
    shares = np.empty(5, np.float32)
    beyond = False  # whether anything lies outside of the skull
    for n in range(parts):
        beyond = beyond or rules[n, 0] >> 4 & 1 == 1
    where = np.empty((channels, nz), np.float32)
    weights = np.empty((nz, 4), np.float32)
    base = np.empty(nz, np.int64)
    for k in range(nz):
        position = (k * step + step // 2) * nodes_per_voxel
        base[k] = int(position)
        w0, w1, w2, w3 = _bspline_weights(position - base[k])
        weights[k, 0], weights[k, 1], weights[k, 2], weights[k, 3] = w0, w1, w2, w3
    for i in range(first, last):
        position = (i * step + step // 2) * nodes_per_voxel
        node = int(position)
        w0, w1, w2, w3 = _bspline_weights(position - node)
        for b in range(rows):
            for c in range(columns):
                for q in range(channels):
                    plane[b, c, q] = (
                        w0 * nodes[node, b, c, q]
                        + w1 * nodes[node + 1, b, c, q]
                        + w2 * nodes[node + 2, b, c, q]
                        + w3 * nodes[node + 3, b, c, q]
                    )
        for j in range(ny):
            position = (j * step + step // 2) * nodes_per_voxel
            node = int(position)
            w0, w1, w2, w3 = _bspline_weights(position - node)
            for c in range(columns):
                for q in range(channels):
                    line[c, q] = (
                        w0 * plane[node, c, q]
                        + w1 * plane[node + 1, c, q]
                        + w2 * plane[node + 2, c, q]
                        + w3 * plane[node + 3, c, q]
                    )
            for q in range(channels):
                for k in range(nz):
                    c = base[k]
                    where[q, k] = (
                        weights[k, 0] * line[c, q]
                        + weights[k, 1] * line[c + 1, q]
                        + weights[k, 2] * line[c + 2, q]
                        + weights[k, 3] * line[c + 3, q]
                    )
            for n in range(3 + parts):
                for k in range(nz):
                    part[n, k] = 0.0
            for k in range(nz):
                tissue[i, j, k] = 0
                lesion[i, j, k] = 0
                py, px, pz = where[0, k], where[1, k], where[2, k]
                y, x, z, own_fluid = py, px, pz, fluid
                if moved:
                    y, x, z = y + where[channels - 4, k], x + where[channels - 3, k], z + where[channels - 2, k]
                    own_fluid += where[channels - 1, k]
                seen = not (y < 0 or x < 0 or z < 0)
                if seen:
                    a, b, c = int(y), int(x), int(z)
                    seen = a < tx - 1 and b < ty - 1 and c < tz - 1
                    if seen:
                        seen = occupied[a >> 2, b >> 2, c >> 2]
                if not (seen or beyond):
                    continue
                gm = wm = csf = vent = log_wm = log_csf = np.float32(0.0)
                if seen:
                    gm, wm, csf, vent, log_wm, log_csf = _sample_shares(odds, y, x, z, white, own_fluid)
                    if samples > 1 and max(max(gm, wm), max(csf, vent)) < np.float32(0.998):
                        gm = wm = csf = vent = log_wm = log_csf = np.float32(0.0)
                        for n in range(samples):
                            one = _sample_shares(
                                odds, y + offsets[n, 0], x + offsets[n, 1], z + offsets[n, 2], white, own_fluid
                            )
                            gm, wm, csf, vent = gm + one[0], wm + one[1], csf + one[2], vent + one[3]
                            log_wm, log_csf = log_wm + one[4], log_csf + one[5]
                        gm, wm, csf, vent = gm * each, wm * each, csf * each, vent * each
                        log_wm, log_csf = log_wm * each, log_csf * each
                inside = gm + wm + csf + vent
                if inside < 0.004 and not beyond:
                    continue
                if inside > 0.5:
                    if vent >= max(gm, max(wm, csf)):
                        tissue[i, j, k] = 4
                    elif csf >= max(gm, wm):
                        tissue[i, j, k] = 1
                    else:
                        tissue[i, j, k] = 2 if gm >= wm else 3
                    if log_odds.shape[0] > 0:
                        log_odds[i, j, k, 0], log_odds[i, j, k, 1] = log_wm, log_csf
                if lesion_table.shape[0] > 0 and wm > 0.05:
                    hurt, n = _lesion_fraction(
                        py, px, pz, lesion_table, lesion_start, lesion_items, lesion_cells, lesion_edge
                    )
                    hurt = wm * hurt
                    part[3 + n, k] = hurt
                    wm = wm - hurt
                air, covered = np.float32(0.0), False
                if boxes.shape[0] > 0:
                    shares[0], shares[1], shares[2], shares[3] = gm, wm, csf, vent
                    shares[4] = max(np.float32(1.0) - inside, np.float32(0.0))
                    covered = _cover(py, px, pz, filled, raster, boxes, rules, ellipsoids, shares, part, k)
                    gm, wm, csf, vent, air = shares[0], shares[1], shares[2], shares[3], shares[4]
                if covered or lesion_table.shape[0] > 0:
                    label, occupies = _name_parts(part, k, rules, gm + wm + csf + vent, air)
                    lesion[i, j, k] = label
                    if occupies > 0:
                        tissue[i, j, k] = occupies
                        if log_odds.shape[0] > 0:
                            log_odds[i, j, k, 1] = np.float32(_SURELY_FLUID)
                part[0, k], part[1, k], part[2, k] = gm, wm, csf + vent
            row = ((i * ny) + j) * ((nz + 1) // 2)
            for q in range(contrasts):
                for k in range(nz):
                    total[k] = signals[q, 0] * part[0, k] + signals[q, 1] * part[1, k] + signals[q, 2] * part[2, k]
                for n in range(3, 3 + parts):
                    for k in range(nz):
                        total[k] += signals[q, n] * part[n, k]
                noise, gain = sigma[q], scale[q]
                for pair in range((nz + 1) // 2):
                    u0, u1, u2, u3 = philox_block(row + pair, 0, 0, 0, keys[q, 0], keys[q, 1])
                    for half in range(2):
                        k = 2 * pair + half
                        if k < nz:
                            ua = u0 if half == 0 else u2
                            ub = u1 if half == 0 else u3
                            signal = total[k] * where[3 + q, k]
                            # |signal + complex Gaussian|, by Box-Muller in polar form
                            uniform = (np.float32(ua) + np.float32(0.5)) * np.float32(2**-32)
                            square = np.float32(-2.0) * math.log(uniform)
                            value = noise * math.sqrt(square)
                            if signal > 0:
                                angle = np.float32(ub) * np.float32(2 * math.pi * 2**-32)
                                cross = np.float32(2.0) * signal * value * math.cos(angle)
                                power = signal * signal + cross + value * value
                                value = math.sqrt(max(power, np.float32(0.0)))
                            value *= gain
                            images[q, i, j, k] = np.uint16(min(value + np.float32(0.5), np.float32(65535.0)))
