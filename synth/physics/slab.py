"""The fused kernel: deformation, partial volume, diseases, signal, receive bias and Rician noise in one pass.

The image grid is walked row by row; nothing larger than a row is held besides the outputs. The deformation and the
bias are cubic B-splines on a coarse node grid, contracted plane -> row -> voxel, so a voxel costs four taps.
Noise is Philox4x32-10 counted by voxel, so a voxel's noise does not depend on what is rendered with it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from synth.philox import philox_block
from synth.physics.cells import CELL_ROWS, LONGEST, SHARE_ROWS, add_shares, name_row, read_row, settle_row
from synth.physics.parts import lay_row, reach_row
from synth.physics.rician import draw_words, store_row

_NEAR = 0.3  # template voxels: samples as close to the middle of a voxel follow from the slopes there


@njit(inline="always")
def _bspline_weights(t: float) -> tuple[float, float, float, float]:
    """Return the four uniform cubic B-spline weights at fraction t in [0, 1)."""
    s = 1.0 - t
    return s * s * s / 6, (3 * t * t * t - 6 * t * t + 4) / 6, (3 * s * s * s - 6 * s * s + 4) / 6, t * t * t / 6


@njit(cache=True, nogil=True)
def philox_words(counter: int, k0: int, k1: int) -> tuple[int, int, int, int]:
    """Return the four words of one Philox4x32-10 block (for tests against numpy and the published vectors)."""
    return philox_block(counter & 0xFFFFFFFF, counter >> 32, 0, 0, k0, k1)


@njit(cache=True, nogil=True, error_model="numpy")
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
    only_parts,
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
    voxels), and log-odds of fluid that are added there; only_parts: whether voxels that no part can cover stay empty.
    signals: float32 (contrasts, 3 + parts): GM, WM, CSF, parts; sigma, scale: (contrasts); keys: (contrasts, 2).
    images: uint16 (contrasts, x, y, z), may be empty along the first axis: then only labels are made.
    log_odds: float32 (x, y, z, 2) or empty; see Rendering.
    """
    ny, nz = tissue.shape[1], tissue.shape[2]
    contrasts = images.shape[0]
    channels, parts = 3 + contrasts + (4 if moved else 0), rules.shape[0]
    _, rows, columns, _ = nodes.shape
    each = np.float32(1.0 / offsets.shape[0])
    near = np.abs(offsets).max() < _NEAR
    plane = np.empty((rows, columns, channels), np.float32)
    line = np.empty((columns, channels), np.float32)
    part, reached = np.empty((3 + parts) * LONGEST, np.float32), np.zeros(nz, np.bool_)
    total = np.empty(nz, np.float32)
    none = np.zeros((0, 2), np.float32)
    cells, shares = np.zeros(CELL_ROWS * LONGEST, np.float32), np.zeros(SHARE_ROWS * LONGEST, np.float32)
    fluid, words = np.zeros(LONGEST, np.float32), np.empty(2 * LONGEST, np.uint32)
    middle = np.zeros(3, np.float32)
    where = np.empty((channels, nz), np.float32)
    place = np.empty((3, nz), np.float32)
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
                fluid[k] = gains[1]
                tissue[i, j, k] = 0
                lesion[i, j, k] = 0
            for n in range(3):
                for k in range(nz):
                    place[n, k] = where[n, k]
            if moved:
                for n in range(3):
                    for k in range(nz):
                        place[n, k] += where[channels - 4 + n, k]
                for k in range(nz):
                    fluid[k] += where[channels - 1, k]
            for n in range(SHARE_ROWS * LONGEST):
                shares[n] = np.float32(0.0)
            for n in range((3 + parts) * LONGEST):
                part[n] = np.float32(0.0)
            some = parts > 0
            if some:
                reach_row(where, nz, lesion_start, lesion_cells, filled, boxes, reached)
                if only_parts:
                    for k in range(nz):
                        place[0, k] = place[0, k] if reached[k] else np.float32(-1e6)
            _, stop = read_row(odds, occupied, place, middle, nz, cells)
            if not near:
                add_shares(cells, stop, middle, gains[0], fluid, shares)
                settle_row(shares, stop, offsets.shape[0], place)
            for n in range(offsets.shape[0]):
                if near:
                    add_shares(cells, stop, offsets[n], gains[0], fluid, shares)
                else:
                    read_row(odds, occupied, place, offsets[n], stop, cells)
                    add_shares(cells, stop, middle, gains[0], fluid, shares)
            name_row(shares, each, stop, part, tissue[i, j])
            if log_odds.shape[0] > 0:
                for k in range(stop):
                    known = each if tissue[i, j, k] > 0 else np.float32(0.0)
                    log_odds[i, j, k, 0] = known * shares[4 * LONGEST + k]
                    log_odds[i, j, k, 1] = known * shares[5 * LONGEST + k]
            if some:
                lay_row(
                    where, nz, reached, shares, each, lesion_table, lesion_start, lesion_items, lesion_cells,
                    lesion_edge, filled, raster, boxes, rules, ellipsoids, part, tissue[i, j], lesion[i, j],
                    log_odds[i, j] if log_odds.shape[0] > 0 else none,
                )  # fmt: skip
            row, blocks = ((i * ny) + j) * ((nz + 1) // 2), (nz + 1) // 2
            for q in range(contrasts):
                for k in range(nz):
                    total[k] = np.float32(0.0)
                for n in range(3 + parts):
                    level = signals[q, n]
                    for k in range(nz):
                        total[k] += level * part[n * LONGEST + k]
                for k in range(nz):
                    total[k] *= where[3 + q, k]
                draw_words(row, blocks, keys[q, 0], keys[q, 1], words)
                store_row(total, words, sigma[q], scale[q], images[q, i, j])
