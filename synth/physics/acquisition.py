"""From a contrast to what the kernel renders: protocol and noise are drawn, then signals, and images of maps, follow.

A contrast is one channel of the kernel. A map (ADC) is computed from several, which are those of the contrasts it is
made of: with the same protocol, receive bias and noise, so it is the map of the very images of that visit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.physics.effects.blurring import fill_lines
from synth.physics.effects.chain import draw_effects
from synth.physics.effects.transmit import scale_protocol
from synth.physics.relaxation import TISSUES, Tissue
from synth.physics.sequences import SEQUENCES
from synth.physics.sequences.base import Draw, Protocol
from synth.physics.sequences.fast_spin_echo import effective_echo
from synth.seeds import key_words, stream, stream_key
from synth.spec import CohortSpec

_STORED_MAXIMUM = 3000.0  # stored value of the brightest tissue before bias and noise


@dataclass(frozen=True, slots=True)
class Channel:
    """One volume that is acquired: contrast and row, the signal of each tissue, noise, receive bias and stored unit.

    ``sigma`` is the standard deviation of the noise per channel of the receiver, in the unit of the signal; ``scale``
    is the stored value per unit of signal.
    """

    kind: str
    row: Mapping[str, Any]
    signals: dict[str, float]
    sigma: float
    scale: float
    bias_range: float
    bias_key: int
    noise_key: int

    @property
    def series(self) -> str:
        """The name of the series that the contrast belongs to."""
        return SEQUENCES[self.kind].series or self.kind

    @property
    def noise_words(self) -> tuple[int, int]:
        """The key of the kernel's noise."""
        return key_words(self.noise_key)


@dataclass(frozen=True, slots=True)
class Stored:
    """Pixels as they are stored; times ``scale`` they are in ``unit``."""

    pixels: NDArray[np.uint16]
    scale: float
    unit: str


def draw_acquisition(
    spec: CohortSpec,
    subject_index: int,
    visit: int,
    kind: str,
    tissues: Mapping[str, Tissue],
    field_strength_t: float,
) -> dict[str, Any]:
    """Draw everything about one acquisition but the head: the part of a scan's row that is its own."""
    sequence = SEQUENCES[kind]
    series = sequence.series or kind

    def key(stage: str) -> str:
        return hex(stream_key(spec.seed, subject_index, visit, f"mri/{stage}"))

    generator = stream(spec.seed, subject_index, visit, f"mri/acquisition/{series}")
    person = stream(spec.seed, subject_index, -1, f"mri/acquisition/{series}")
    wanted = spec.imaging.protocol.get(series, {})
    protocol = sequence.draw_protocol(Draw(generator, person, tissues, field_strength_t, wanted))
    snr = float(generator.uniform(*spec.imaging.snr))
    bias_range = float(generator.uniform(0.1, 0.4))
    shared: dict[str, Any] = {"bias_range": bias_range, "bias_key": key(f"bias/{series}")}
    effects = draw_effects(spec.imaging.effects, spec.seed, subject_index, visit, series, field_strength_t)
    if sequence.train is None:
        effects.pop("blurring", None)
    own_effects = {"effects": effects} if effects else {}
    parts = sequence.map.split(protocol) if sequence.map is not None else {kind: protocol}
    drawn = [
        {"protocol": dict(one), "snr": snr * _share_of_snr(name, one, tissues), "noise_key": key(f"noise/{name}")}
        for name, one in parts.items()
    ]
    if sequence.map is None:
        [own] = drawn
        return {"protocol": own["protocol"], "snr": own["snr"], **shared, "noise_key": own["noise_key"]} | own_effects
    named = [{"kind": name, **one} for name, one in zip(parts, drawn, strict=True)]
    return {"protocol": protocol, **shared, "parts": named} | own_effects


def _share_of_snr(kind: str, protocol: Protocol, tissues: Mapping[str, Tissue]) -> float:
    """Return the SNR of an image over that of its series' reference, whose noise it has."""
    sequence = SEQUENCES[kind]
    if sequence.reference is None:
        return 1.0
    own, reference = (sequence.signal("wm", tissues["wm"], p) for p in (protocol, sequence.reference(protocol)))
    return own / reference


def request_signals(kind: str, parameters: Mapping[str, Any]) -> dict[str, float]:
    """Return what an image should show of each tissue: its signal without noise, or the mean of a map with it."""
    sequence, protocol = SEQUENCES[kind], parameters["protocol"]
    if sequence.map is not None:
        channels = list_channels(kind, parameters)
        sigmas = tuple(channel.sigma for channel in channels)
        signals = {name: tuple(channel.signals[name] for channel in channels) for name in parameters["relaxation"]}
        return {name: sequence.map.value(signals[name], sigmas, protocol) for name in signals}
    tissues = parameters["relaxation"]
    return {name: sequence.signal(name, Tissue(**tissues[name]), protocol) for name in tissues}


def signals_at_level(kind: str, row: Mapping[str, Any], level: float) -> dict[str, float]:
    """Return the signal of each tissue where flip angles are ``level`` times the nominal ones."""
    protocol, factor = scale_protocol(row["protocol"], level)
    scaled = request_signals(kind, {**row, "protocol": protocol})
    return {name: factor * value for name, value in scaled.items()}


def line_weights(kind: str, row: Mapping[str, Any], name: str, count: int) -> NDArray[np.float32]:
    """Return the weights that the echo train of a contrast gives to ``count`` lines of tissue ``name``."""
    train, protocol = SEQUENCES[kind].train, row["protocol"]
    assert train is not None  # contrasts without a train are not struck by blurring
    effective = effective_echo(protocol["te_ms"], protocol["echo_spacing_ms"]) - 1
    return fill_lines(count, train(Tissue(**row["relaxation"][name]), protocol), effective)


def list_channels(kind: str, parameters: Mapping[str, Any]) -> list[Channel]:
    """Return what the kernel renders for a scan's row: one channel, or those that its map is computed from."""
    channels = []
    for part in parameters.get("parts", [{"kind": kind}]):
        row = {**parameters, **part}
        signals = request_signals(row["kind"], row)
        channels.append(
            Channel(
                row["kind"],
                row,
                signals,
                0.0 if row["snr"] is None else signals["wm"] / row["snr"],
                _STORED_MAXIMUM / max(signals[name] for name in TISSUES),  # a disease must not dim the rest
                row["bias_range"],
                int(row["bias_key"], 16),
                int(row["noise_key"], 16),
            )
        )
    return channels


def reconstruct(
    kind: str, parameters: Mapping[str, Any], volumes: NDArray[np.uint16], channels: Sequence[Channel]
) -> Stored:
    """Return the image of a scan from its rendered ``volumes`` (channel, x, y, z)."""
    found = SEQUENCES[kind].map
    if found is None:
        return Stored(volumes[0], float(1 / np.float64(channels[0].scale)), "fraction of fully relaxed water signal")
    scales = np.asarray([1 / channel.scale for channel in channels], np.float32)
    sigmas = np.asarray([channel.sigma for channel in channels])
    values = found.combine(volumes * scales[:, None, None, None], sigmas, parameters["protocol"])
    return Stored(np.rint(values / found.step).astype(np.uint16), found.step, found.unit)
