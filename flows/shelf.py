"""The models that are kept in a folder, each in a folder named by its hash; torch is loaded when one of images is."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synth.errors import ModelError, PopulationError
from synth.nouns import AttributeValue

MOST_LOADED = 4


@dataclass(frozen=True, slots=True)
class FolderShelf:
    """The models below ``folder``."""

    folder: Path

    def open_generator(self, sha256: str) -> Any:
        """Return a model of images; raises ModelError if it is not there or damaged."""
        return _load_generator(self.folder, sha256)

    def draw_images(
        self,
        generator: Any,
        rows: Sequence[Mapping[str, AttributeValue]],
        keys: Sequence[int],
        budget: int,
        maps: Any = None,
    ) -> Any:
        """Return an image for each row, drawn again up to ``budget`` times while it misses what was asked for."""
        return importlib.import_module("synth.learned.redraws").draw_until_met(generator, rows, keys, budget, maps)

    def find_label_map(self, sha256: str) -> Path | None:
        """Return the file of a label map, or None if it is not there."""
        return next(iter(sorted((self.folder / sha256).glob("labels.nii*"))), None)

    def open_population(self, sha256: str) -> Any:
        """Return a model of people; raises PopulationError if it is not there or damaged."""
        return _load_population(self.folder, sha256)


@functools.lru_cache(MOST_LOADED)
def _load_generator(folder: Path, sha256: str) -> Any:
    if not (folder / sha256).is_dir():
        raise ModelError(_say_missing("model of images", folder, sha256))
    importlib.import_module("torch").set_num_threads(1)  # sums of several threads may differ in the last bit
    return importlib.import_module("synth.learned.model_files").load_model(folder / sha256, sha256)


@functools.lru_cache(MOST_LOADED)
def _load_population(folder: Path, sha256: str) -> Any:
    if not (folder / sha256).is_dir():
        raise PopulationError(_say_missing("population model", folder, sha256))
    files = importlib.import_module("synth.population.model_files")
    model = files.load_model(folder / sha256)
    if files.fingerprint_model(model) != sha256:
        raise PopulationError(f"'{folder / sha256}' holds another model than its name says; restore a backup.")
    return model


def _say_missing(kind: str, folder: Path, sha256: str) -> str:
    return (
        f"{kind} {sha256[:12]} is not in '{folder}'. Restore it there, or build again from a recipe that gives its "
        "address (a name, a folder or models:/NAME@ALIAS)."
    )
