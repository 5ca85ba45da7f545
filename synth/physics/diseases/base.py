"""What a disease of the MRI engine is: tissues of its own, a draw, a state at each visit, and what that looks like."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from synth.nouns import Subject, Visit
from synth.physics.anatomy import Volumes
from synth.physics.look import Look
from synth.physics.relaxation import TissueKind

Values = dict[str, Any]  # JSON values: keys of streams as hexadecimal text


class Disease(ABC):
    """One disease. ``draw`` and ``state`` choose everything, ``lay`` only applies it, so that rows can be replayed.

    ``name`` is, of most, the diagnosis; ``description`` says what is seen, ``sources`` where its numbers are from, and
    ``tissues`` are those that its parts name. A state with ``volume_ml`` asks for a lesion mask of that volume: the
    size handed to ``lay`` (template millilitres, about that volume, above 0) is solved until the mask has it.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    sources: ClassVar[tuple[str, ...]]
    tissues: ClassVar[Mapping[str, TissueKind]] = {}

    def affects(self, subject: Subject) -> bool:
        """Return whether ``subject`` has it on any visit: unless a disease says otherwise, if it was diagnosed."""
        return subject.diagnosis == self.name

    @abstractmethod
    def draw(self, generator: np.random.Generator, key: int, subject: Subject) -> Values:
        """Draw what is the same on all visits; ``key`` is a stream for fields, drawn again at each rendering."""

    @abstractmethod
    def state(self, drawn: Values, subject: Subject, visit: Visit) -> Values:
        """Return how far it has come on ``visit``; draws nothing but from keys in ``drawn``."""

    def aim(self, state: Values, volumes: Volumes) -> Volumes:
        """Return the volumes that the labels of the visit are to have, given those of the same head without it.

        Unless a disease says otherwise they are the same: the population knows what is lost.
        """
        return volumes

    @abstractmethod
    def lay(self, drawn: Values, state: Values, size_ml: float) -> Look:
        """Return what it looks like; its mask grows with ``size_ml``."""


def read_number(attributes: Mapping[str, Any], name: str, otherwise: float) -> float:
    """Return the attribute ``name``, or ``otherwise`` where the population gives no number."""
    value = attributes.get(name)
    return float(value) if isinstance(value, int | float) else otherwise


def own_volume_ml(visit: Visit) -> float:
    """Return what the load of ``visit`` leaves for one disease beside hyperintensities of age, in mL."""
    return max((visit.lesion_ml or 0.0) - read_number(visit.attributes, "hyperintensity_ml", 0.0), 0.0)
