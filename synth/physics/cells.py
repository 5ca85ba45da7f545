"""Shares of the tissues along a row of voxels, from a person's log-odds (see Person).

The cell of eight template voxels that a voxel's middle lies in is read once, trilinear, with its slopes; samples of the
voxel that lie near follow from these. All that comes after the reading is vectors along the row, in float32.

Buffers are flat, LONGEST numbers a row: compilers only make vectors if they know that rows do not overlap.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import float32, njit
from numba.core import types
from numba.extending import intrinsic

from synth.physics.float32 import exponential
from synth.physics.individual import INSIDE_STEP, ODDS_STEP

LONGEST = 208  # voxels in a row; 13 lines of a cache, an odd number, so that rows do not evict each other
CHANNELS = 5  # of a person's log-odds
CELL_ROWS = 4 * CHANNELS  # of each channel its value, then its slopes along the three axes
SHARE_ROWS = 6  # GM, WM, CSF, ventricle, log-odds of WM and of CSF against GM
_INSIDE = 3  # the channel of the share inside the skull
_LEAST = 0.004  # share of tissue that is worth a signal
_SURE = 0.998  # share in the middle of a voxel from which all of it is taken for one tissue
_NOWHERE = -1e6  # a place where nothing is
_LANES = 8  # channels that are read at once: those of a voxel, and three of the next one that nobody uses
_I32, _I64, _SHORTS = ir.IntType(32), ir.IntType(64), ir.VectorType(ir.IntType(16), _LANES)


def _declare_read(
    typing: Any, odds: Any, place: Any, plane: Any, row: Any, fy: Any, fx: Any, fz: Any, out: Any, column: Any
) -> Any:
    """Write the value of each channel within a cell and its slopes along y, x and z into ``column`` of ``out``.

    ``place`` is where the cell's first voxel lies in the flat ``odds``; the next voxels along the first and second axis
    are ``plane`` and ``row`` away.
    """
    index, share = types.int64, types.float32
    return types.void(odds, index, index, index, share, share, share, out, index), _generate_read


def _at(builder: Any, data: Any, index: Any, kind: Any, bytes_log2: int) -> Any:
    """Return where number ``index`` of ``data`` is, as the address of a ``kind``; numbers have 2**bytes_log2 bytes."""
    address = builder.add(builder.ptrtoint(data, _I64), builder.shl(index, _I64(bytes_log2)))
    return builder.inttoptr(address, kind.as_pointer())


def _go(builder: Any, near: Any, far: Any, way: Any) -> tuple[Any, Any]:
    """Return what lies ``way`` from ``near`` to ``far``, and the slope."""
    slope = builder.fsub(far, near)
    return builder.fadd(near, builder.fmul(slope, way)), slope


def _generate_read(context: Any, builder: Any, signature: Any, given: Any) -> None:
    """Generate the code that _declare_read declares: vectors of channels, which numba alone does not make."""
    odds, out = (context.make_array(signature.args[n])(context, builder, given[n]).data for n in (0, 7))
    place, plane, row = given[1:4]
    lanes = ir.VectorType(ir.FloatType(), _LANES)
    empty, first = ir.Constant(lanes, ir.Undefined), ir.Constant(ir.VectorType(_I32, _LANES), [0] * _LANES)
    ways = [builder.shuffle_vector(builder.insert_element(empty, way, _I32(0)), empty, first) for way in given[4:7]]

    def edge(start: Any) -> tuple[Any, Any]:
        ends = (_at(builder, odds, at, _SHORTS, 1) for at in (start, builder.add(start, _I64(CHANNELS))))
        near, far = (builder.sitofp(builder.load(end, align=2), lanes) for end in ends)
        return _go(builder, near, far, ways[2])

    sides = []
    for start in (place, builder.add(place, plane)):
        (near, near_z), (far, far_z) = edge(start), edge(builder.add(start, row))
        sides.append((*_go(builder, near, far, ways[1]), _go(builder, near_z, far_z, ways[1])[0]))
    value, along_y = _go(builder, sides[0][0], sides[1][0], ways[0])
    along_x, along_z = (_go(builder, sides[0][n], sides[1][n], ways[0])[0] for n in (1, 2))
    for number, each in enumerate((value, along_y, along_x, along_z)):
        for lane in range(CHANNELS):
            at = builder.add(given[8], _I64((number * CHANNELS + lane) * LONGEST))
            builder.store(builder.extract_element(each, _I32(lane)), _at(builder, out, at, ir.FloatType(), 2), align=4)


_read_cell: Any = intrinsic(_declare_read)


@njit(inline="always")
def read_row(odds, occupied, place, offset, count, cells):  # type: ignore[no-untyped-def]
    """Read the cells around the first ``count`` template voxels of ``place`` (3, n), each moved by ``offset`` (3).

    ``odds`` and ``occupied`` are those of a Person. Without tissue the share inside the skull is 0 all around. Return
    the first voxel with tissue and the one after the last.
    """
    nx, ny, nz = odds.shape[0], odds.shape[1], odds.shape[2]
    oy, ox, oz = offset[0], offset[1], offset[2]
    row = nz * CHANNELS
    plane = ny * row
    start, stop = count, 0
    for k in range(count):
        y, x, z = place[0, k] + oy, place[1, k] + ox, place[2, k] + oz
        a, b, c = int(y), int(x), int(z)
        # the last voxel of a line is not read: three numbers more than a voxel has are
        seen = y >= 0 and x >= 0 and z >= 0 and a < nx - 1 and b < ny - 1 and c < nz - 2
        if seen and occupied[a >> 2, b >> 2, c >> 2]:
            fy, fx, fz = y - float32(a), x - float32(b), z - float32(c)
            _read_cell(odds, a * plane + b * row + c * CHANNELS, plane, row, fy, fx, fz, cells, k)
            start, stop = min(start, k), k + 1
        else:
            for n in range(4):
                cells[(n * CHANNELS + _INSIDE) * LONGEST + k] = float32(0.0)
    return start, stop


@njit(inline="always")
def add_shares(cells, count, offset, white, fluid, shares):  # type: ignore[no-untyped-def]
    """Add the shares at ``offset`` (3, template voxels) from the middle of the first ``count`` voxels to ``shares``.

    A softmax of log-odds: ``white`` is added to those of white matter, ``fluid`` (a row) to those of fluid.
    """
    oy, ox, oz = offset[0], offset[1], offset[2]
    for k in range(count):
        wm = cells[k] + oy * cells[5 * LONGEST + k] + ox * cells[10 * LONGEST + k] + oz * cells[15 * LONGEST + k]
        csf = (
            cells[LONGEST + k]
            + oy * cells[6 * LONGEST + k]
            + ox * cells[11 * LONGEST + k]
            + oz * cells[16 * LONGEST + k]
        )
        vent = (
            cells[2 * LONGEST + k]
            + oy * cells[7 * LONGEST + k]
            + ox * cells[12 * LONGEST + k]
            + oz * cells[17 * LONGEST + k]
        )
        inside = (
            cells[3 * LONGEST + k]
            + oy * cells[8 * LONGEST + k]
            + ox * cells[13 * LONGEST + k]
            + oz * cells[18 * LONGEST + k]
        )
        fold = abs(
            cells[4 * LONGEST + k]
            + oy * cells[9 * LONGEST + k]
            + ox * cells[14 * LONGEST + k]
            + oz * cells[19 * LONGEST + k]
        )
        inside = min(max(inside * float32(INSIDE_STEP), float32(0.0)), float32(1.0))
        log_wm = (wm + fold) * float32(ODDS_STEP) + white
        log_csf = (csf - float32(2.0) * fold) * float32(ODDS_STEP) + fluid[k]
        log_vent = vent * float32(ODDS_STEP)
        most = max(max(log_wm, log_csf), max(log_vent, float32(0.0)))  # so that nothing overflows
        for_gm, for_wm = exponential(-most), exponential(log_wm - most)
        for_csf, for_vent = exponential(log_csf - most), exponential(log_vent - most)
        share = inside / (for_gm + for_wm + for_csf + for_vent)
        shares[k] += for_gm * share
        shares[LONGEST + k] += for_wm * share
        shares[2 * LONGEST + k] += for_csf * share
        shares[3 * LONGEST + k] += for_vent * share
        shares[4 * LONGEST + k] += log_wm if inside > 0 else float32(0.0)
        shares[5 * LONGEST + k] += log_csf if inside > 0 else float32(0.0)


@njit(inline="always")
def settle_row(shares, count, samples, place):  # type: ignore[no-untyped-def]
    """Keep ``shares`` of the middle, ``samples`` times, where they are one tissue's, and empty those of other voxels.

    The place of the first is set to where nothing is read, so that samples add nothing to it.
    """
    for k in range(count):
        most = max(max(shares[k], shares[LONGEST + k]), max(shares[2 * LONGEST + k], shares[3 * LONGEST + k]))
        kept = float32(samples) if most >= float32(_SURE) else float32(0.0)
        for n in range(SHARE_ROWS):
            shares[n * LONGEST + k] *= kept
        place[0, k] = float32(_NOWHERE) if most >= float32(_SURE) else place[0, k]


@njit(inline="always")
def name_row(shares, each, count, part, tissue):  # type: ignore[no-untyped-def]
    """Write GM, WM and CSF with ventricle into the first rows of ``part``, and the ``tissue`` that has most.

    ``shares`` times ``each`` are those of the first ``count`` voxels; a voxel half outside of the skull has none.
    """
    for k in range(count):
        gm, wm = each * shares[k], each * shares[LONGEST + k]
        csf, vent = each * shares[2 * LONGEST + k], each * shares[3 * LONGEST + k]
        inside = gm + wm + csf + vent
        most = max(gm, wm)
        label = 2 if gm >= wm else 3
        label = 1 if csf >= most else label
        label = 4 if vent >= max(most, csf) else label
        tissue[k] = label if inside > float32(0.5) else 0
        kept = float32(1.0) if inside >= float32(_LEAST) else float32(0.0)
        part[k], part[LONGEST + k], part[2 * LONGEST + k] = kept * gm, kept * wm, kept * (csf + vent)
