"""Effects on lines of k-space: Gibbs truncation, partial Fourier, undersampling, ghosts and spikes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.physics.effects.base import CONTRAST, SNR, Effect, Encoding, KSpace, Values, along, line_numbers
from synth.physics.sequences.base import Parameter


def truncate(k: KSpace, values: Values, encoding: Encoding) -> KSpace:
    """Keep the central ``share`` of k-space along every encoded axis; the rest is filled with zeros.

    The point spread is a sinc: edges ring and overshoot by 9 % of their height (Wilbraham and Gibbs). Source:
    Bracewell, The Fourier Transform and Its Applications (2000), chapter 10.
    """
    kept = k.copy()
    for axis in encoding.axes:
        inside = np.abs(line_numbers(k.shape[axis])) <= values["share"] * k.shape[axis] / 2
        kept *= along(inside, axis).astype(np.float32)
    return kept


def cut_lines(k: KSpace, values: Values, encoding: Encoding) -> KSpace:
    """Acquire only ``share`` of the lines, from one end past the centre; the rest is filled with zeros.

    Source: McGibney et al., MRM 1993;30:51. Resolution is kept where the phase is flat, and edges blur along the axis.
    """
    count = k.shape[encoding.lines]
    kept = line_numbers(count) >= -math.floor((values["share"] - 0.5) * count)
    return k * along(kept, encoding.lines).astype(np.float32)


def sampled_lines(count: int, acceleration: int, centre_share: float) -> NDArray[np.bool_]:
    """Return which lines are acquired: every ``acceleration``-th, and ``centre_share`` of all around the centre."""
    numbers = line_numbers(count)
    return np.asarray((numbers % acceleration == 0) | (np.abs(numbers) < centre_share * count / 2))


def weigh_lines(count: int, values: Values) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Return which of ``count`` lines an undersampled scan acquires, and their weights: R where lines are thinned."""
    step, share = int(values["acceleration"]), 0.0 if values["sense"] else values["centre_share"]
    sampled = sampled_lines(count, step, share)
    weights = np.where(np.abs(line_numbers(count)) < share * count / 2, 1, step) * sampled
    return sampled, weights.astype(np.float32)


def skip_lines(k: KSpace, values: Values, encoding: Encoding) -> KSpace:
    """Acquire every R-th line and a full centre, weighted by R where it is thinned; the rest is filled with zeros.

    Without a centre and with one coil the image is the sum of R copies shifted by FOV/R. Source: Pruessmann et al., MRM
    1999;42:952.
    """
    weights = weigh_lines(k.shape[encoding.lines], values)[1]
    return np.asarray(k * along(weights, encoding.lines), np.complex64)


def modulate_lines(k: KSpace, values: Values, encoding: Encoding) -> KSpace:
    """Weaken every n-th line by ``amplitude``: n - 1 ghosts of amplitude / n, shifted by multiples of FOV / n.

    Source: Haacke and Patrick, Magn Reson Imaging 1986;4:359 (periodic motion and flow).
    """
    numbers, every = line_numbers(k.shape[encoding.lines]), int(values["every"])
    weight = np.where(numbers % every == every // 2, 1 - values["amplitude"], 1.0)
    return k * along(weight, encoding.lines).astype(np.float32)


def add_spikes(k: KSpace, values: Values, encoding: Encoding) -> KSpace:
    """Add a spike at each place: a wave over the image, ``amplitude`` times the mean signal of the volume.

    Places are frequencies in cycles per voxel (-0.5 to 0.5) along the three axes, with a phase in turns. Where an axis
    is not encoded, a spike hits one slice.
    """
    k = k.copy()
    height = values["amplitude"] * max(float(np.abs(plane).max()) for plane in k)
    for *frequency, phase in values["places"]:
        index = tuple(round(f * n) % n for f, n in zip(frequency, k.shape, strict=True))
        k[index] += np.complex64(height * np.exp(2j * np.pi * phase))
    return k


def _draw_places(values: dict[str, Any], generator: np.random.Generator) -> dict[str, Any]:
    count = int(values["count"])
    frequency = generator.uniform(0.04, 0.4, (count, 3)) * generator.choice([-1.0, 1.0], (count, 3))
    return {**values, "places": np.column_stack([frequency, generator.random(count)]).tolist()}


def _snap_acceleration(values: dict[str, Any], generator: np.random.Generator) -> dict[str, Any]:
    """SENSE unfolds whole shares of the field of view: 2 or 4."""
    return {**values, "acceleration": 4.0} if values["sense"] and values["acceleration"] > 2 else values


GIBBS = Effect(
    "Gibbs ringing: k-space is truncated and filled with zeros",
    {"share": Parameter("", "acquired share of k-space along each axis", 0.3, 1.0, (0.6, 0.9))},
    SNR,
    kspace=truncate,
)
PARTIAL_FOURIER = Effect(
    "partial Fourier: lines of one end are not acquired",
    {"share": Parameter("", "acquired share of the lines", 0.55, 1.0, (0.65, 0.875))},
    SNR,
    kspace=cut_lines,
)
UNDERSAMPLING = Effect(
    "undersampling: every R-th line, filled with zeros or unfolded by SENSE",
    {
        "acceleration": Parameter("", "R, one line of R is acquired", 2, 4, (2, 2), whole=True),
        "centre_share": Parameter("", "fully acquired share of lines in the centre", 0.0, 0.5, (0.06, 0.1)),
        "sense": Parameter("", "1 to unfold by SENSE, 0 to fill with zeros", 0, 1, (0, 0), whole=True),
    },
    SNR | CONTRAST,
    derive=_snap_acceleration,
    kspace=skip_lines,
)
GHOSTS = Effect(
    "ghosts: every n-th line is weaker",
    {
        "every": Parameter("", "n", 2, 12, (2, 6), whole=True),
        "amplitude": Parameter("", "missing share of these lines", 0.0, 1.0, (0.05, 0.3)),
    },
    SNR | CONTRAST,
    kspace=modulate_lines,
)
SPIKES = Effect(
    "spikes: single samples of k-space are wrong, which draws stripes",
    {
        "count": Parameter("", "spikes of a scan", 1, 20, (1, 3), whole=True),
        "amplitude": Parameter("", "of each wave over the mean signal", 0.0, 3.0, (0.15, 0.5)),
    },
    SNR | CONTRAST,
    derive=_draw_places,
    kspace=add_spikes,
)
