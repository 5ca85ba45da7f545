"""What a disease of the MRI engine is: tissues of its own, a draw, a state at each visit, and what that looks like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from synth.nouns import Subject, Visit
from synth.physics.anatomy import Volumes
from synth.physics.look import Look
from synth.physics.relaxation import TissueKind

Values = dict[str, Any]  # JSON values: keys of streams as hexadecimal text


class Disease(Protocol):
    """One disease. ``draw`` and ``state`` choose everything, ``lay`` only applies it, so that rows can be replayed.

    ``tissues`` are those that its parts name. A state with ``volume_ml`` asks for a lesion mask of that volume: the
    size handed to ``lay`` (template millilitres, about that volume) is solved until the mask has it.
    """

    @property
    def name(self) -> str:
        """Its name: of most, the diagnosis."""

    @property
    def description(self) -> str:
        """What is seen of it."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Where its numbers are from."""

    @property
    def tissues(self) -> Mapping[str, TissueKind]:
        """The tissues that it brings."""

    def affects(self, subject: Subject) -> bool:
        """Return whether ``subject`` has it on any visit."""

    def draw(self, generator: np.random.Generator, key: int, subject: Subject) -> Values:
        """Draw what is the same on all visits; ``key`` is a stream for fields, drawn again at each rendering."""

    def state(self, drawn: Values, subject: Subject, visit: Visit) -> Values:
        """Return how far it has come on ``visit``; draws nothing but from keys in ``drawn``."""

    def aim(self, state: Values, volumes: Volumes) -> Volumes:
        """Return the volumes that the labels of the visit are to have, given those of the same head without it."""

    def lay(self, drawn: Values, state: Values, size_ml: float) -> Look:
        """Return what it looks like; its mask grows with ``size_ml``."""


def own_volume_ml(visit: Visit) -> float:
    """Return what the load of ``visit`` leaves for one disease beside hyperintensities of age, in mL."""
    other = visit.attributes.get("hyperintensity_ml")
    return max((visit.lesion_ml or 0.0) - (float(other) if isinstance(other, int | float) else 0.0), 0.0)
