"""What an effect of the scanner is: parameters drawn for a scan, and an operator that applies them.

Operators draw nothing. Volumes are float32 (x, y, z), k-space is complex64 in the order of the FFT (frequency 0 first),
transformed by the orthonormal FFT, so that noise has one standard deviation in both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.physics.sequences.base import Parameter, Rule

Volume = NDArray[np.float32]
KSpace = NDArray[np.complex64]
Values = Mapping[str, Any]  # of a scan's row: JSON

CONTRAST = frozenset({"gm_wm_ratio", "csf_wm_ratio"})
SNR = frozenset({"snr"})


@dataclass(frozen=True, slots=True)
class Encoding:
    """Which axes of a volume are encoded in k-space, and along which of them its lines follow one another in time."""

    axes: tuple[int, ...] = (0, 1, 2)
    lines: int = 1


def _keep(values: dict[str, Any], generator: np.random.Generator) -> dict[str, Any]:
    return values


@dataclass(frozen=True, slots=True)
class Effect:
    """An effect: its parameters, the rules they obey, and which measurements no longer say what was asked for.

    ``derive`` completes drawn values with lists (poses, places). ``kspace(k, values, encoding)`` corrupts k-space;
    effects that act elsewhere have none. What is ``shared`` is drawn once for all contrasts of a visit.
    """

    description: str
    parameters: Mapping[str, Parameter]
    spoils: frozenset[str] = frozenset()
    rules: tuple[Rule, ...] = ()
    derive: Callable[[dict[str, Any], np.random.Generator], dict[str, Any]] = _keep
    kspace: Callable[[KSpace, Values, Encoding], KSpace] | None = None
    shared: bool = False


def line_numbers(count: int) -> NDArray[np.int64]:
    """Return the signed number of each line of k-space, in the order of the FFT."""
    return np.asarray(np.rint(np.fft.fftfreq(count) * count), np.int64)


def along(values: NDArray[Any], axis: int, dimensions: int = 3) -> NDArray[Any]:
    """Return a line of values shaped to be multiplied with a volume along ``axis``."""
    return values.reshape([-1 if a == axis else 1 for a in range(dimensions)])
