"""The fused kernel: deformation, partial volume, lesions, signal, receive bias and Rician noise in one pass.

The image grid is walked row by row; nothing larger than a row is held besides the outputs. The deformation and the
bias are cubic B-splines on a coarse node grid, contracted plane -> row -> voxel, so a voxel costs four taps.
Noise is Philox4x32-10 counted by voxel, so a voxel's noise does not depend on what is rendered with it.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from synth.philox import philox_block
from synth.physics.grid import NODE_SPACING_MM, Grid
from synth.physics.individual import INSIDE_STEP, ODDS_STEP, Person
from synth.physics.lesions import Lesions

# Of a voxel, from its middle to its samples along each axis: closer than for its mean (0.25, as above 1 mm), since
# images pass frequencies up to their limit undamped.
_FINE_SHARE = 0.15


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
def _lesion_fraction(y: float, x: float, z: float, table, start, items, cells, edge: float) -> float:  # type: ignore[no-untyped-def]
    """Return the fraction of lesion at template position (y, x, z) in mm from the template's first voxel."""
    a, b, c = int(y / 8.0), int(x / 8.0), int(z / 8.0)
    if a < 0 or b < 0 or c < 0 or a >= cells[0] or b >= cells[1] or c >= cells[2]:
        return 0.0
    cell = (a * cells[1] + b) * cells[2] + c
    most = 0.0
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
        most = max(most, min(max(depth, 0.0), 1.0))
    return most


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
def _render_slab(  # type: ignore[no-untyped-def]
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
    signals: float32 (contrasts, 4) for GM, WM, CSF, lesion; sigma, scale: (contrasts,); keys: uint32 (contrasts, 2).
    images: uint16 (contrasts, x, y, z), may be empty along the first axis: then only labels are made.
    log_odds: float32 (x, y, z, 2) or empty; see Rendering.
    """
    ny, nz = tissue.shape[1], tissue.shape[2]
    contrasts = images.shape[0]
    channels = 3 + contrasts
    _, rows, columns, _ = nodes.shape
    tx, ty, tz, _ = odds.shape
    samples, each = offsets.shape[0], np.float32(1.0 / max(offsets.shape[0], 1))
    white, fluid = gains[0], gains[1]
    plane = np.empty((rows, columns, channels), np.float32)
    line = np.empty((columns, channels), np.float32)
    part = np.empty((4, nz), np.float32)
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
            for k in range(nz):
                part[0, k] = part[1, k] = part[2, k] = part[3, k] = 0.0
                tissue[i, j, k] = 0
                lesion[i, j, k] = 0
                y, x, z = where[0, k], where[1, k], where[2, k]
                if y < 0 or x < 0 or z < 0:
                    continue
                a, b, c = int(y), int(x), int(z)
                if a >= tx - 1 or b >= ty - 1 or c >= tz - 1:
                    continue
                if not occupied[a >> 2, b >> 2, c >> 2]:
                    continue
                gm, wm, csf, vent, log_wm, log_csf = _sample_shares(odds, y, x, z, white, fluid)
                if samples > 1 and max(max(gm, wm), max(csf, vent)) < np.float32(0.998):
                    gm = wm = csf = vent = log_wm = log_csf = np.float32(0.0)
                    for n in range(samples):
                        one = _sample_shares(
                            odds, y + offsets[n, 0], x + offsets[n, 1], z + offsets[n, 2], white, fluid
                        )
                        gm, wm, csf, vent = gm + one[0], wm + one[1], csf + one[2], vent + one[3]
                        log_wm, log_csf = log_wm + one[4], log_csf + one[5]
                    gm, wm, csf, vent = gm * each, wm * each, csf * each, vent * each
                    log_wm, log_csf = log_wm * each, log_csf * each
                inside = gm + wm + csf + vent
                if inside < 0.004:
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
                hurt = np.float32(0.0)
                if lesion_table.shape[0] > 0 and wm > 0.05:
                    hurt = wm * _lesion_fraction(
                        y, x, z, lesion_table, lesion_start, lesion_items, lesion_cells, lesion_edge
                    )
                    if hurt > 0.5 * inside:
                        lesion[i, j, k] = 1
                part[0, k], part[1, k], part[2, k], part[3, k] = gm, wm - hurt, csf + vent, hurt
            row = ((i * ny) + j) * ((nz + 1) // 2)
            for q in range(contrasts):
                s0, s1, s2, s3 = signals[q, 0], signals[q, 1], signals[q, 2], signals[q, 3]
                noise, gain = sigma[q], scale[q]
                for pair in range((nz + 1) // 2):
                    u0, u1, u2, u3 = philox_block(row + pair, 0, 0, 0, keys[q, 0], keys[q, 1])
                    for half in range(2):
                        k = 2 * pair + half
                        if k < nz:
                            ua = u0 if half == 0 else u2
                            ub = u1 if half == 0 else u3
                            signal = s0 * part[0, k] + s1 * part[1, k] + s2 * part[2, k] + s3 * part[3, k]
                            signal = signal * where[3 + q, k]
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


@dataclass(frozen=True, slots=True)
class Rendering:
    """What one pass gives: ``images`` uint16 (contrast, x, y, z), ``tissue`` and ``lesion`` uint8 (x, y, z).

    ``log_odds`` is empty, or the mean log-odds of WM and of CSF against GM of every voxel inside the skull, float32
    (x, y, z, 2).
    """

    images: NDArray[np.uint16]
    tissue: NDArray[np.uint8]
    lesion: NDArray[np.uint8]
    log_odds: NDArray[np.float32]


def _place_samples(grid: Grid, nodes: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float32]:
    """Return where a voxel is sampled, from its middle in template voxels, shape (samples, 3): 4 up to 1 mm, else 8."""
    corners = np.stack(np.meshgrid(*[(-1.0, 1.0)] * 3, indexing="ij"), axis=-1).reshape(8, 3)
    if grid.resolution_mm <= 1:
        corners = corners[corners.prod(axis=1) > 0] * _FINE_SHARE * 4
    corners = corners / 4
    steps = [np.diff(nodes[..., :3], axis=axis).mean(axis=(0, 1, 2)) for axis in range(3)]
    return np.asarray(corners @ np.asarray(steps) * (grid.resolution_mm / NODE_SPACING_MM), np.float32)


def render_volumes(
    grid: Grid,
    person: Person,
    nodes: NDArray[np.float32] | NDArray[np.float64],
    log_gains: tuple[float, float],
    lesions: Lesions,
    *,
    signals: NDArray[np.float32] | None = None,
    sigma: NDArray[np.float32] | None = None,
    scale: NDArray[np.float32] | None = None,
    keys: NDArray[np.uint32] | None = None,
    step: int = 1,
    with_log_odds: bool = False,
    threads: int = 1,
) -> Rendering:
    """Render all contrasts of one visit, or only its labels if no ``signals`` are given.

    ``nodes`` (nx, ny, nz, 3 + contrasts) holds the template voxel coordinate and each contrast's bias at the nodes of
    ``grid``; ``signals`` (contrasts, 4) the signal of GM, WM, CSF and lesion; ``sigma`` the noise standard deviation
    per channel in the same unit; ``scale`` the stored value per unit of signal; ``keys`` (contrasts, 2) the noise keys.
    ``log_gains`` are added to the log-odds of white matter and of fluid (not of ventricles) against grey matter.
    ``step`` > 1 renders one in ``step`` voxels along each axis. The result does not depend on ``threads``.
    """
    contrasts = 0 if signals is None else len(signals)
    shape = tuple(n // step for n in grid.shape)
    images = np.empty((contrasts, *shape), np.uint16)
    tissue, lesion = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
    log_odds = np.zeros((*shape, 2) if with_log_odds else (0, 0, 0, 0), np.float32)
    empty = np.zeros((0, 4), np.float32)
    edges = np.linspace(0, shape[0], threads + 1).astype(int)
    arguments = (
        step,
        grid.resolution_mm / NODE_SPACING_MM,
        np.ascontiguousarray(nodes, np.float32),
        person.odds,
        person.occupied,
        np.asarray(log_gains, np.float32),
        _place_samples(grid, nodes),
        lesions.table,
        lesions.cell_start,
        lesions.cell_items,
        lesions.cell_shape,
        np.float32(max(1.0, grid.resolution_mm)),
        empty if signals is None else signals,
        np.zeros(0, np.float32) if sigma is None else sigma,
        np.zeros(0, np.float32) if scale is None else scale,
        np.zeros((0, 2), np.uint32) if keys is None else keys,
        images,
        tissue,
        lesion,
        log_odds,
    )
    if threads == 1:
        _render_slab(0, shape[0], *arguments)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda n: _render_slab(edges[n], edges[n + 1], *arguments), range(threads)))
    return Rendering(images, tissue, lesion, log_odds)
