"""Several receive coils: sensitivities, their combination, SENSE and its g-factor."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from synth.physics.effects.base import CONTRAST, SNR, Effect, KSpace, Volume, along
from synth.physics.sequences.base import Parameter

_RING_MM = 120.0  # radius of the ring of coils
_LOOP_MM = 55.0  # radius of a coil


def make_sensitivities(positions_mm: list[NDArray[np.float64]], count: int, turn: float) -> Iterable[KSpace]:
    """Yield the sensitivity of each coil, complex64 (x, y, z), the root of the sum of squares being 1 everywhere.

    ``positions_mm`` are the coordinates along the three axes. Coils stand on a ring around z, the first at ``turn`` of
    a turn, and alternate above and below the middle. Sensitivity falls with distance d as (1 + d^2 / a^2)^-1.5, the law
    of Biot and Savart on the axis of a loop of radius a; its phase is the angle under which a coil sees the voxel.
    """
    x, y, z = (along(np.asarray(line, np.float32), axis) for axis, line in enumerate(positions_mm))

    def see(number: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Return 1 + (d / a)^2 for a coil, and the two parts of the distance d in its plane."""
        angle = 2 * np.pi * (number / count + turn)
        dx, dy = x - np.float32(_RING_MM * np.cos(angle)), y - np.float32(_RING_MM * np.sin(angle))
        dz = z - np.float32(30 if number % 2 else -30)
        return 1 + (dx**2 + dy**2 + dz**2) / np.float32(_LOOP_MM**2), dx, dy

    total = np.sqrt(sum(see(number)[0] ** -3 for number in range(count)))
    for number in range(count):
        square, dx, dy = see(number)
        phase = -(dx + 1j * dy) / np.maximum(np.hypot(dx, dy), np.float32(1e-3))
        yield np.asarray(phase / (square * np.sqrt(square) * total), np.complex64)


class Unfolding:
    """SENSE: least-squares unfolding of images that are folded R times along an axis (Pruessmann et al. 1999).

    Coils are added one by one: E^H E and E^H y of each set of R voxels that fall on one another are summed.
    """

    def __init__(self, shape: tuple[int, ...], acceleration: int, axis: int) -> None:
        self._fold, self._axis = acceleration, axis
        self._period = shape[axis] // acceleration
        folded = tuple(self._period if a == axis else n for a, n in enumerate(shape))
        self._gram = np.zeros((acceleration, acceleration, *folded), np.complex64)
        self._data = np.zeros((acceleration, *folded), np.complex64)

    def _split(self, volume: KSpace) -> list[KSpace]:
        return np.split(volume, self._fold, axis=self._axis)

    def add(self, sensitivity: KSpace, folded: KSpace) -> None:
        """Add the image of one coil, folded over the whole field of view: the sum of R shifted copies."""
        seen, parts = self._split(folded)[0], self._split(sensitivity)
        for row in range(self._fold):
            self._data[row] += np.conj(parts[row]) * seen
            for column in range(self._fold):
                self._gram[row, column] += np.conj(parts[row]) * parts[column]

    def solve(self) -> KSpace:
        """Return the unfolded image."""
        gram = np.moveaxis(self._gram, (0, 1), (-2, -1))
        data = np.moveaxis(self._data, 0, -1)[..., None]
        solved = np.moveaxis(np.linalg.solve(gram, data)[..., 0], -1, 0)
        return np.asarray(np.concatenate(list(solved), axis=self._axis), np.complex64)

    def g_factor(self) -> Volume:
        """Return the g-factor: sqrt([(E^H E)^-1]_rr [E^H E]_rr), 1 or more."""
        gram = np.moveaxis(self._gram, (0, 1), (-2, -1))
        diagonal = np.einsum("...ii->...i", gram).real * np.einsum("...ii->...i", np.linalg.inv(gram)).real
        return np.asarray(np.concatenate(list(np.moveaxis(np.sqrt(diagonal), -1, 0)), axis=self._axis), np.float32)


COILS = Effect(
    "several receive coils: root of the sum of squares, so noise is non-central chi",
    {
        "count": Parameter("", "receive coils", 1, 32, (8, 8), whole=True),
        "turn": Parameter("turns", "where the first coil stands", 0.0, 1.0, (0.0, 1.0)),
    },
    SNR | CONTRAST,
    shared=True,
)
