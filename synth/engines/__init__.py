"""The registry of engines. An engine turns scans into images; physics and learned ones answer the same protocol.

A new engine is one module and one line here; the contract suite in tests/synth/engines then tests it by being listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from synth.engines.learned import LearnedEngine
from synth.engines.mri import MriEngine
from synth.engines.mri_flow import MriFlowEngine
from synth.errors import SpecError, suggest_nearest
from synth.nouns import Image, Scan, Subject
from synth.shelf import Shelf
from synth.spec import CohortSpec


class Engine(Protocol):
    """Draws scans from subjects and renders images from scans."""

    name: str
    version: str
    description: str

    def check(self, spec: CohortSpec) -> None:
        """Raise SpecError if the recipe asks for something that this engine cannot make."""

    def check_subject(self, subject: Subject) -> None:
        """Raise SpecError if a population does not say of its subjects what this engine must know."""

    def image_bytes(self, spec: CohortSpec) -> int:
        """Return the uncompressed bytes of one image's pixels."""

    def batch(self, spec: CohortSpec) -> int:
        """Return how many scans are best rendered at once."""

    def network_precision(self, spec: CohortSpec) -> str | None:
        """Return the precision of the network that draws (see numerics), or None if none does."""

    def warm_up(self, spec: CohortSpec) -> None:
        """Load what rendering ``spec`` needs and compile the kernels, so that the first image is not slow."""

    def draw_scans(self, spec: CohortSpec, subject: Subject) -> tuple[Scan, ...]:
        """Draw every scan of ``subject``, ordered by visit, then contrast, with all its parameters."""

    def render(self, scans: Sequence[Scan]) -> list[Image]:
        """Render ``scans`` in order. An image depends on its own scan only, not on what is rendered with it."""


ENGINES: dict[str, Engine] = {"mri": MriEngine(), "flow": LearnedEngine(), "mri-flow": MriFlowEngine()}


def find_engine(name: str, models: Shelf | None = None) -> Engine:
    """Return the engine ``name``, which finds its models or label maps, if it has any, on the shelf ``models``.

    Raises SpecError naming the known engines.
    """
    if name not in ENGINES:
        raise SpecError(
            f"engine '{name}' does not exist; choose from {sorted(ENGINES)}.{suggest_nearest(name, ENGINES)}"
        )
    engine = ENGINES[name]
    if models is None:
        return engine
    return type(engine)(models=models) if isinstance(engine, LearnedEngine | MriEngine) else engine
