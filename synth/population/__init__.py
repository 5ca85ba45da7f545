"""Populations: joint distributions over subject attributes, from which subjects are drawn before any pixel."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Protocol

from synth.errors import PopulationError, suggest_nearest
from synth.nouns import Subject
from synth.pins import read_pin
from synth.population.adult_brain import AdultBrain
from synth.population.learned import LearnedPopulation
from synth.population.model_files import load_model
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

    def cleaning_report(self) -> CleaningReport | None:
        """Return what was dropped and merged when real tables were read; None if that was elsewhere."""


SHIPPED = Path(__file__).with_name("models")
POPULATIONS: dict[str, Population] = {
    "adult-brain": AdultBrain(),
    "chest-radiographs": LearnedPopulation(
        "chest-radiographs",
        functools.partial(load_model, SHIPPED / "chest-radiographs"),
        (
            "Age, sex, view and findings by visit: learned from the records of NIH ChestX-ray14, 98,979 images of "
            "27,600 patients (NIH Clinical Center; Wang et al., CVPR 2017)",
        ),
    ),
}


@functools.lru_cache(4)
def _open_pinned(name: str, sha256: str, models: Shelf) -> LearnedPopulation:
    return LearnedPopulation(name, functools.partial(models.open_population, sha256))


def find_population(name: str, models: Shelf | None = None) -> Population:
    """Return the population called ``name``, or the model on the shelf ``models`` whose hash is pinned to the name.

    Raises PopulationError with the nearest known name.
    """
    pin = read_pin(name)
    if pin is not None and models is not None:
        return _open_pinned(pin.name, pin.sha256, models)
    if name not in POPULATIONS:
        hint = suggest_nearest(name, POPULATIONS)
        raise PopulationError(
            f"population.source: '{name}' is not known.{hint} Known: {', '.join(sorted(POPULATIONS))}."
        )
    return POPULATIONS[name]
