"""Region statistics of a labelled volume in one pass: label volumes, core means, noise from air."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import special

from synth.physics.grid import HEAD_LABELS, LABELS

_MIN_CORE_VOXELS = 20
_AIR_MARGIN_VOXELS = 2
_VENTRICLES = LABELS["ventricles"]
_LESION = 1 + max([*LABELS.values(), *HEAD_LABELS.values()])  # where lesions are counted, after all labels


@dataclass(frozen=True, slots=True)
class RegionStatistics:
    """Sums over the regions of one volume. Signals and noise are in stored units, volumes in millilitres.

    ``fluid_power`` is the median square in the core of the ventricles.
    """

    counts: dict[str, int]
    core_counts: dict[str, int]
    core_power: dict[str, float]
    noise_power: float
    voxel_ml: float
    fluid_power: float

    def volume_ml(self, *labels: str) -> float:
        """Return the volume of ``labels`` together."""
        return sum(self.counts[label] for label in labels) * self.voxel_ml

    @property
    def noise_sigma(self) -> float:
        """Standard deviation of the noise per channel: Rayleigh in air, so sqrt(mean square / 2); NaN without air."""
        if self.core_counts["background"] < _MIN_CORE_VOXELS or self.noise_power == 0:
            return math.nan
        return math.sqrt(self.noise_power / 2)

    def signal(self, label: str) -> float:
        """Return the signal in the core of ``label``, sqrt(mean square - 2 sigma^2); NaN if the core is too small.

        The second moment of a Rician is signal^2 + 2 sigma^2 (Gudbjartsson and Patz, MRM 1995;34:910).
        """
        if self.core_counts[label] < _MIN_CORE_VOXELS:
            return math.nan
        if label == "ventricles":
            return self._fluid_signal()
        return math.sqrt(max(self.core_power[label] - self.noise_power, 0.0))

    def _fluid_signal(self) -> float:
        """Return the signal A in ventricles, of which the median square m is that of a Rician.

        Its square over sigma^2 is a noncentral chi square of 2 degrees of freedom, noncentrality A^2 / sigma^2. The
        median, as fluid next to tissue is so dark in FLAIR that a few mixed voxels would be most of a mean square.
        """
        variance = self.noise_power / 2
        if variance <= 0:
            return math.sqrt(self.fluid_power)
        median = self.fluid_power / variance
        if median <= 2 * math.log(2):  # what noise alone has
            return 0.0
        if median > 1000:  # there the median is 1 above the noncentrality, to 0.1 %
            return math.sqrt((median - 1) * variance)
        return math.sqrt(float(special.chndtrinc(median, 2, 0.5)) * variance)


@njit(cache=True, nogil=True)
def _accumulate(pixels, tissue, lesion, pure, air_margin):  # type: ignore[no-untyped-def]
    counts = np.zeros(_LESION + 1, np.int64)
    core = np.zeros(_LESION + 1, np.int64)
    power = np.zeros(_LESION + 1, np.float64)
    fluid = np.empty(np.sum(tissue == _VENTRICLES), pixels.dtype)
    nx, ny, nz = tissue.shape
    for i in range(nx):
        for j in range(ny):
            for k in range(nz):
                label = tissue[i, j, k]
                counts[label] += 1
                hurt = 1 if lesion[i, j, k] > 0 else 0
                counts[_LESION] += hurt
                reach = air_margin if label == 0 else 1
                if i < reach or j < reach or k < reach or i >= nx - reach or j >= ny - reach or k >= nz - reach:
                    continue
                if pure.shape[0] > 0 and not pure[i, j, k]:
                    continue
                if (
                    hurt == 0
                    and tissue[i - reach, j, k] == label
                    and tissue[i + reach, j, k] == label
                    and tissue[i, j - reach, k] == label
                    and tissue[i, j + reach, k] == label
                    and tissue[i, j, k - reach] == label
                    and tissue[i, j, k + reach] == label
                    and lesion[i - 1, j, k] + lesion[i + 1, j, k] + lesion[i, j - 1, k] == 0
                    and lesion[i, j + 1, k] + lesion[i, j, k - 1] + lesion[i, j, k + 1] == 0
                ):
                    value = float(pixels[i, j, k])
                    if label == _VENTRICLES:
                        fluid[core[label]] = pixels[i, j, k]
                    core[label] += 1
                    power[label] += value * value
    return counts, core, power, fluid[: core[_VENTRICLES]]


def measure_regions(
    pixels: NDArray[np.uint16],
    tissue: NDArray[np.uint8],
    lesion: NDArray[np.uint8],
    spacing_mm: tuple[float, ...],
    pure: NDArray[np.bool_] | None = None,
) -> RegionStatistics:
    """Return the region statistics of one volume; ``tissue`` uses synth.physics.grid.LABELS, ``lesion`` 0 for none.

    Cores are only where voxels are ``pure``, if it is given.
    """
    whole = np.zeros((0, 0, 0), np.bool_) if pure is None else pure
    counts, core, power, fluid = _accumulate(pixels, tissue, lesion, whole, _AIR_MARGIN_VOXELS)
    mean = power / np.maximum(core, 1)
    return RegionStatistics(
        {**{name: int(counts[value]) for name, value in LABELS.items()}, "lesion": int(counts[_LESION])},
        {name: int(core[value]) for name, value in LABELS.items()},
        {name: float(mean[value]) for name, value in LABELS.items()},
        float(mean[LABELS["background"]]),
        math.prod(spacing_mm) / 1000,
        float(np.median(fluid.astype(np.float64) ** 2)) if len(fluid) else math.nan,
    )
