"""The head moves between lines of k-space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.spatial.transform import Rotation

from synth.physics.effects.base import CONTRAST, SNR, Effect, Encoding, KSpace, Values, Volume, along, line_numbers
from synth.physics.sequences.base import Parameter

Poses = list[tuple[float, Sequence[float]]]  # from which share of the scan, and rotation (degrees) and shift (mm)


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

    Shifts (``pose[3:]``) are left to phases in k-space (shift_phase), which are exact.
    """
    if not any(pose[:3]):
        return volume
    spacing = np.asarray(spacing_mm)
    turn = Rotation.from_euler("xyz", pose[:3], degrees=True).as_matrix().T * spacing / spacing[:, None]
    middle = (np.asarray(volume.shape) - 1) / 2
    return np.asarray(ndimage.affine_transform(volume, turn, middle - turn @ middle, order=1), np.float32)


def shift_phase(
    shape: Sequence[int], spacing_mm: Sequence[float], pose: Sequence[float], axes: tuple[int, ...] = (0, 1, 2)
) -> KSpace:
    """Return the phases in k-space of a shift of ``pose[3:]`` mm along the encoded ``axes`` (Fourier shift theorem)."""
    phase: NDArray[Any] = np.ones((1, 1, 1), np.complex64)
    for axis in axes:
        turns = line_numbers(shape[axis]) / shape[axis] * pose[3 + axis] / spacing_mm[axis]
        phase = phase * along(np.exp(-2j * np.pi * turns), axis)
    return np.asarray(phase, np.complex64)


def acquire_moving(
    moved: Sequence[tuple[float, Volume, KSpace]], sensitivity: KSpace | None, encoding: Encoding
) -> KSpace:
    """Return k-space whose lines, from the lowest to the highest, are acquired in the pose of their time.

    ``moved`` has for each pose the share of the scan at which it starts, the turned volume and the phases of its shift.
    """
    whole: KSpace | None = None
    for first, last, volume, phase in _periods(moved):
        seen = volume if sensitivity is None else volume * sensitivity
        k = np.asarray(fft.fftn(seen, axes=encoding.axes, norm="ortho"), np.complex64) * phase
        numbers = line_numbers(k.shape[encoding.lines])
        time = (numbers - numbers.min()) / len(numbers)
        part = k * along((time >= first) & (time < last), encoding.lines).astype(np.float32)
        whole = part if whole is None else whole + part
    assert whole is not None
    return whole


def _periods(moved: Sequence[tuple[float, Volume, KSpace]]) -> Iterator[tuple[float, float, Volume, KSpace]]:
    ends = [*(time for time, _, _ in moved[1:]), 2.0]
    for (first, volume, phase), last in zip(moved, ends, strict=True):
        yield first, last, volume, phase


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
