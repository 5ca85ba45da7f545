"""Populations: joint distributions over subject attributes, from which subjects are drawn before any pixel."""

from __future__ import annotations

from typing import Protocol

from synth.errors import PopulationError, suggest_nearest
from synth.nouns import Subject
from synth.population.adult_brain import AdultBrain
from synth.population.scanners import CleaningReport
from synth.shelf import Shelf
from synth.spec import CohortSpec


class Population(Protocol):
    """What every population can do. ``version`` changes whenever the same recipe would give other subjects."""

    @property
    def name(self) -> str:
        """Name used as ``population.source`` in recipes."""

    @property
    def version(self) -> str:
        """Version of the model and of the data it reads."""

    def check(self, spec: CohortSpec) -> None:
        """Raise PopulationError, saying what to change, if this population cannot deliver ``spec``."""

    def count_visits(self, spec: CohortSpec) -> int:
        """Return the number of visits of all subjects together."""

    def draw_subjects(self, spec: CohortSpec, cohort_id: str, start: int, stop: int) -> list[Subject]:
        """Return the subjects ``start`` to ``stop - 1``; the same ones whatever the slicing."""

    def expected_shares(self, spec: CohortSpec) -> dict[str, dict[str, float]]:
        """Return attribute -> category -> wanted share of the cohort."""

    def describe_sources(self) -> tuple[str, ...]:
        """Return one sentence per source of the model."""

    def cleaning_report(self) -> CleaningReport:
        """Return what was dropped and merged when real tables were read."""


POPULATIONS: dict[str, Population] = {"adult-brain": AdultBrain()}


def find_population(name: str, models: Shelf | None = None) -> Population:
    """Return the population called ``name``, or the model on the shelf ``models`` whose hash is pinned to the name.

    Raises PopulationError with the nearest known name.
    """
    if name not in POPULATIONS:
        hint = suggest_nearest(name, POPULATIONS)
        raise PopulationError(
            f"population.source: '{name}' is not known.{hint} Known: {', '.join(sorted(POPULATIONS))}."
        )
    return POPULATIONS[name]
