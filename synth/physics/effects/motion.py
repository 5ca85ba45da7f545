"""The head moves between lines of k-space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import fft
from scipy.spatial.transform import Rotation

from synth.physics.effects.base import CONTRAST, SNR, Effect, Encoding, KSpace, Values, Volume, along, line_numbers
from synth.physics.sequences.base import Parameter

Poses = list[tuple[float, Sequence[float]]]  # from which share of the scan, and rotation (degrees) and shift (mm)
Phases = Mapping[int, NDArray[np.complex64]]


def _draw_poses(values: dict[str, Any], generator: np.random.Generator) -> dict[str, Any]:
    count = int(values["events"])
    times = np.sort(generator.uniform(0.05, 0.95, count))
    turns = generator.uniform(-1, 1, (count, 3)) * values["rotation_deg"]
    shifts = generator.uniform(-1, 1, (count, 3)) * values["shift_mm"]
    return {**values, "poses": np.column_stack([times, turns, shifts]).tolist()}


def list_poses(values: Values) -> Poses:
    """Return when each pose starts and what it is, from the start of the scan on.

    The pose in which the centre of k-space is acquired is none: it is where the labels show the head.
    """
    poses: Poses = [(0.0, (0.0,) * 6), *((row[0], row[1:]) for row in values["poses"])]
    centre = max(number for number, (time, _) in enumerate(poses) if time <= 0.5)
    zero = np.asarray(poses[centre][1])
    return [(time, tuple((np.asarray(pose) - zero).tolist())) for time, pose in poses]


def move_volume(volume: Volume, spacing_mm: Sequence[float], pose: Sequence[float]) -> Volume:
    """Return the volume turned by ``pose[:3]`` degrees about its middle (x, y, z) by trilinear interpolation.

    Shifts (``pose[3:]``) are left to phases in k-space (shift_phases), which are exact.
    """
    if not any(pose[:3]):
        return volume
    spacing = np.asarray(spacing_mm)
    turn = Rotation.from_euler("xyz", pose[:3], degrees=True).as_matrix().T * spacing / spacing[:, None]
    middle = (np.asarray(volume.shape) - 1) / 2
    turned = np.empty_like(volume)
    _turn_volume(np.ascontiguousarray(volume), turn, middle - turn @ middle, turned)
    return turned


@njit(cache=True, nogil=True)
def _turn_volume(volume, turn, start, turned):  # type: ignore[no-untyped-def]
    """Fill ``turned`` with ``volume`` at turn @ index + start, trilinear; 0 beyond the outermost voxels."""
    nx, ny, nz = volume.shape
    for i in range(nx):
        for j in range(ny):
            x0 = turn[0, 0] * i + turn[0, 1] * j + start[0]
            y0 = turn[1, 0] * i + turn[1, 1] * j + start[1]
            z0 = turn[2, 0] * i + turn[2, 1] * j + start[2]
            for k in range(nz):
                x, y, z = x0 + turn[0, 2] * k, y0 + turn[1, 2] * k, z0 + turn[2, 2] * k
                turned[i, j, k] = np.float32(0.0)
                if x < 0 or y < 0 or z < 0 or x > nx - 1 or y > ny - 1 or z > nz - 1:
                    continue
                a, b, c = min(int(x), nx - 2), min(int(y), ny - 2), min(int(z), nz - 2)
                u, v, w = np.float32(x - a), np.float32(y - b), np.float32(z - c)
                low = (volume[a, b, c] * (1 - w) + volume[a, b, c + 1] * w) * (1 - v)
                low += (volume[a, b + 1, c] * (1 - w) + volume[a, b + 1, c + 1] * w) * v
                high = (volume[a + 1, b, c] * (1 - w) + volume[a + 1, b, c + 1] * w) * (1 - v)
                high += (volume[a + 1, b + 1, c] * (1 - w) + volume[a + 1, b + 1, c + 1] * w) * v
                turned[i, j, k] = low * (1 - u) + high * u


def shift_phases(
    shape: Sequence[int], spacing_mm: Sequence[float], pose: Sequence[float], axes: tuple[int, ...] = (0, 1, 2)
) -> Phases:
    """Return, by encoded axis, the phases of its frequencies for a shift of ``pose[3:]`` mm (Fourier shift theorem)."""
    turns = {axis: line_numbers(shape[axis]) / shape[axis] * pose[3 + axis] / spacing_mm[axis] for axis in axes}
    return {axis: np.exp(-2j * np.pi * one).astype(np.complex64) for axis, one in turns.items() if pose[3 + axis]}


@dataclass(frozen=True, slots=True)
class Period:
    """A pose of the head: the share of the scan at which it starts, the turned volume, and the phases of its shift."""

    start: float
    turned: Callable[[], Volume]
    phases: Phases


def acquire_moving(moved: Sequence[Period], sensitivity: KSpace | None, encoding: Encoding) -> KSpace:
    """Return k-space whose lines, from the lowest to the highest, are acquired in the pose of their time.

    Only one turned volume is held at a time.
    """
    whole = _encode(moved[0].turned(), sensitivity, encoding)
    if len(moved) == 1:
        return whole
    numbers = line_numbers(whole.shape[encoding.lines])
    time = (numbers - numbers.min()) / len(numbers)
    for number, period in enumerate(moved):
        last = moved[number + 1].start if number + 1 < len(moved) else 2.0
        lines = np.flatnonzero((time >= period.start) & (time < last))
        here = tuple(lines if axis == encoding.lines else slice(None) for axis in range(3))
        part = (_encode(period.turned(), sensitivity, encoding) if number else whole)[here]
        for axis, phase in period.phases.items():
            part *= along(phase[here[axis]], axis)
        whole[here] = part
    return whole


def _encode(volume: Volume, sensitivity: KSpace | None, encoding: Encoding) -> KSpace:
    seen = (volume if sensitivity is None else volume * sensitivity).astype(np.complex64)
    return np.asarray(fft.fftn(seen, axes=encoding.axes, norm="ortho", overwrite_x=True), np.complex64)


MOTION = Effect(
    "motion between lines: the head turns and shifts a few times during the scan",
    {
        "events": Parameter("", "movements of a scan", 1, 10, (1, 3), whole=True),
        "rotation_deg": Parameter("degrees", "largest turn about each axis", 0.0, 20.0, (1.0, 4.0)),
        "shift_mm": Parameter("mm", "largest shift along each axis", 0.0, 20.0, (0.5, 3.0)),
    },
    SNR | CONTRAST,
    derive=_draw_poses,
)
