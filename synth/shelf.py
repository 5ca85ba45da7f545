"""Where engines and populations find the models that a recipe names by their hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from synth.nouns import AttributeValue

if TYPE_CHECKING:  # they load torch and numba
    from synth.learned.generator import Generator
    from synth.learned.maps import Labels
    from synth.learned.redraws import Drawn
    from synth.population.chain import ChainModel

Rows = Sequence[Mapping[str, AttributeValue]]


class Shelf(Protocol):
    """Models by their hash, each loaded once. Whoever runs an engine brings one, so that torch loads only then."""

    def __hash__(self) -> int:
        """Return a hash: equal shelves hold the same models, so what was opened can be kept."""

    def open_generator(self, sha256: str) -> Generator:
        """Return a model of images; raises ModelError if it is not there or damaged."""

    def draw_images(
        self, generator: Generator, rows: Rows, keys: Sequence[int], budget: int, maps: Labels | None = None
    ) -> list[Drawn]:
        """Return an image for each row, drawn again up to ``budget`` times while it misses what was asked for.

        ``maps`` (n, *shape) are the labels that drive the images of a model which follows them.
        """

    def find_label_map(self, sha256: str) -> Path | None:
        """Return the file of a label map, or None if it is not there."""

    def open_population(self, sha256: str) -> ChainModel:
        """Return a model of people; raises PopulationError if it is not there or damaged."""
