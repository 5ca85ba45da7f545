"""K-space of a scan, made again from its row: what the coils of the scanner acquired, and the image that follows.

Shards hold uint16 pixels and uint8 masks. K-space is complex, several coils of it are 8 to 250 times the size of the
image, and all of it follows from the row, so it is acquired again when it is asked for, to the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synth.engines.mri_labels import find_whom
from synth.engines.mri_render import render_clean, store_magnitude
from synth.errors import PermanentError
from synth.nouns import Scan
from synth.physics.acquisition import list_channels
from synth.physics.effects.base import KSpace, along
from synth.physics.effects.chain import LEFT_OUT, choose_encoding, combine_coils, sample_coils
from synth.physics.effects.lines import weigh_lines
from synth.physics.sequences import SEQUENCES
from synth.shelf import Shelf


@dataclass(frozen=True, slots=True)
class Acquisition:
    """K-space of one scan.

    ``samples`` complex64 (coil, x, y, z), frequency 0 first, orthonormal FFT along ``axes``, in the unit of the signal;
    lines that were not acquired are 0. ``sampled`` says which lines along axis ``lines`` were; ``weights`` is what they
    are multiplied with before the transform back. ``sensitivities`` complex64 (coil, x, y, z), or None for one coil
    that sees all alike. Magnitude times ``scale`` is the stored value.
    """

    samples: KSpace
    sampled: NDArray[np.bool_]
    weights: NDArray[np.float32]
    sensitivities: KSpace | None
    axes: tuple[int, ...]
    lines: int
    scale: float


def acquire_kspace(scan: Scan, models: Shelf | None = None) -> Acquisition:
    """Return the k-space of ``scan``, bit for bit that which its image was reconstructed from.

    Where nothing acts on k-space and the scan has no partner with the same noise, noise was added to the image; its
    k-space is then that of the image but for another draw of the noise. Label maps are on the shelf ``models``. Raises
    PermanentError for a map, which is
    computed from several acquisitions.
    """
    _refuse_map(scan)
    [(channel, scene, _, clean)] = render_clean(scan, find_whom(scan.parameters, models), 1)
    effects = scan.parameters.get("effects", {})
    encoding = choose_encoding(effects)
    coils = list(sample_coils(clean, effects, scene))
    count = coils[0][1].shape[encoding.lines]
    sampled, weights = np.ones(count, np.bool_), np.ones(count, np.float32)
    if LEFT_OUT in effects:
        sampled, weights = weigh_lines(count, effects[LEFT_OUT])
    sensitivities = [sensitivity for sensitivity, _ in coils if sensitivity is not None]
    return Acquisition(
        np.stack([k * along(sampled, encoding.lines).astype(np.float32) for _, k in coils]),
        sampled,
        weights,
        np.stack(sensitivities) if sensitivities else None,
        encoding.axes,
        encoding.lines,
        channel.scale,
    )


def reconstruct_kspace(scan: Scan, acquired: Acquisition) -> NDArray[np.uint16]:
    """Return the pixels of ``scan`` from its k-space, the way the engine does: zero-filled or by SENSE."""
    _refuse_map(scan)
    [channel] = list_channels(scan.kind, scan.parameters)
    sensitivities = [None] * len(acquired.samples) if acquired.sensitivities is None else acquired.sensitivities
    coils = zip(sensitivities, acquired.samples, strict=True)
    return store_magnitude(combine_coils(coils, scan.parameters.get("effects", {})), channel)


def _refuse_map(scan: Scan) -> None:
    known = SEQUENCES.get(scan.kind)
    if known is None or known.map is not None:
        raise PermanentError(
            f"scan '{scan.scan_id}' ({scan.kind}) has no k-space of its own: only contrasts of engine 'mri' that "
            "are not maps have; of ADC, take DWI-b0 and DWI-b1000."
        )
