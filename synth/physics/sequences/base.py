"""What a pulse sequence is: the parameters of its protocol, what they must obey, and its signal.

All times are in milliseconds and angles in degrees. Signals are relative to the equilibrium magnetisation of water
(proton density 1), so they lie between 0 and 1 and are combined linearly over the tissues of a voxel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.errors import SpecError
from synth.physics.relaxation import Tissue

Protocol = Mapping[str, float]
Range = tuple[float, float]
Wanted = Mapping[str, float | Range]  # of a recipe: a value, or the range that it is drawn from evenly


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a protocol.

    It is drawn evenly from ``usual``, one range for all field strengths or one for each (tesla). A recipe may ask for
    anything from ``lowest`` to ``highest``. ``whole`` numbers are counts. What is the ``person``'s is the same on all
    visits. Where ``usual`` is None, the sequence derives the value from the others unless a recipe asks for it.
    """

    unit: str
    description: str
    lowest: float
    highest: float
    usual: Range | Mapping[float, Range] | None
    whole: bool = False
    person: bool = False

    def usual_range(self, field_strength_t: float) -> Range | None:
        """Return the range that is drawn from at ``field_strength_t``."""
        return self.usual[field_strength_t] if isinstance(self.usual, Mapping) else self.usual


@dataclass(frozen=True, slots=True)
class Rule:
    """What the parameters ``fields`` must obey together, in words, and by how much they do: positive is possible.

    ``slack`` must be monotone in each parameter, so that a range is possible if its corners are.
    """

    fields: tuple[str, ...]
    words: str
    slack: Callable[[Protocol], float]


@dataclass(frozen=True, slots=True)
class Draw:
    """What a protocol is drawn from: a stream of the visit and one of the person, the tissues and the field (tesla).

    ``wanted`` is what a recipe asks for in place of usual ranges and derived values.
    """

    generator: np.random.Generator
    person: np.random.Generator
    tissues: Mapping[str, Tissue]
    field_strength_t: float
    wanted: Wanted = field(default_factory=dict)

    def range_of(self, name: str, otherwise: Range | None = None) -> Range | None:
        """Return the range that is wanted of parameter ``name``."""
        given = self.wanted.get(name, otherwise)
        return given if given is None or isinstance(given, tuple) else (float(given), float(given))


def _keep(protocol: dict[str, float], draw: Draw) -> dict[str, float]:
    return protocol


@dataclass(frozen=True, slots=True)
class Map:
    """How an image is computed from several acquisitions: ``split`` gives their protocols by contrast.

    ``value(signals, sigmas, protocol)`` is its mean in a tissue of ``signals``, with their noise.
    ``combine(images, sigmas, protocol)`` takes float32 images (signal) and the noise of each; it returns float32 in
    ``unit``, stored in steps of ``step``.
    """

    unit: str
    step: float
    split: Callable[[Protocol], Mapping[str, Protocol]]
    combine: Callable[..., Any]
    value: Callable[[tuple[float, ...], tuple[float, ...], Protocol], float]


@dataclass(frozen=True, slots=True)
class Sequence:
    """A contrast: its parameters, the rules they obey, and ``signal(name, tissue, protocol)``.

    ``derive`` completes a drawn protocol. Contrasts of one ``series`` share protocol, receive bias and noise level, and
    recipes set them together. ``reference`` is the protocol in which the SNR of a series is drawn. ``train`` gives the
    amplitude of each echo over that of the effective one, and ``map`` computes the image from several.
    """

    description: str
    parameters: Mapping[str, Parameter]
    signal: Callable[[str, Tissue, Protocol], float]
    rules: tuple[Rule, ...] = ()
    derive: Callable[[dict[str, float], Draw], dict[str, float]] = _keep
    series: str | None = None
    fixed: Protocol = field(default_factory=dict)
    reference: Callable[[Protocol], Protocol] | None = None
    map: Map | None = None
    train: Callable[[Tissue, Protocol], NDArray[np.float64]] | None = None

    def draw_protocol(self, draw: Draw) -> dict[str, float]:
        """Draw a protocol.

        Each parameter uses up its part of the stream whether it is wanted or not, so asking for one leaves the others
        as they were.
        """
        protocol: dict[str, float] = {}
        for name, parameter in self.parameters.items():
            usual = parameter.usual_range(draw.field_strength_t)
            if usual is None:
                continue
            low, high = draw.range_of(name) or usual
            generator = draw.person if parameter.person else draw.generator
            if parameter.whole:
                protocol[name] = float(min(math.floor(generator.uniform(low, high + 1)), high))
            else:
                protocol[name] = float(generator.uniform(low, high))
        protocol = self.derive({**protocol, **self.fixed}, draw)
        for rule in self.rules:
            if rule.slack(protocol) <= 0:
                given = ", ".join(f"{name} {protocol[name]:g}" for name in rule.fields)
                raise SpecError(f"imaging.protocol: at {draw.field_strength_t:g} T {rule.words}, got {given}.")
        return protocol

    def ranges(self, field_strength_t: float, wanted: Wanted | None = None) -> dict[str, Range]:
        """Return the range of every parameter that is not derived, those of ``wanted`` as asked for."""
        asked = wanted or {}
        found = {}
        for name, parameter in self.parameters.items():
            given = asked.get(name, parameter.usual_range(field_strength_t))
            if given is not None:
                found[name] = given if isinstance(given, tuple) else (float(given), float(given))
        return found


def plain(signal: Callable[..., float]) -> Callable[[str, Tissue, Protocol], float]:
    """Return ``signal(tissue, **protocol)`` as the signal of a sequence that treats all tissues alike."""
    return lambda name, tissue, protocol: signal(tissue, **protocol)


def at_fields(low: Range, t1_5: Range, t3: Range, t7: Range) -> dict[float, Range]:
    """Return the ranges of a parameter at 0.064, 1.5, 3 and 7 tesla."""
    return {0.064: low, 1.5: t1_5, 3.0: t3, 7.0: t7}
