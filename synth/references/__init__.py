"""Real data in: the kinds of sources that are understood, each read item by item within a budget."""

from __future__ import annotations

from pathlib import Path

from synth.errors import suggest_nearest
from synth.references.files import PictureFolder, TableOfFiles
from synth.references.items import Adapter
from synth.references.medmnist import MedMnist
from synth.references.nifti import NiftiFolder
from synth.references.parquet import ParquetImages
from synth.references.plan import Budget, Options, ReferenceError, ReferencePlan

# In the order in which they are asked: the first that recognises a source reads it.
ADAPTERS: dict[str, Adapter] = {
    adapter.name: adapter for adapter in (MedMnist(), ParquetImages(), TableOfFiles(), NiftiFolder(), PictureFolder())
}


def choose_adapter(path: Path, options: Options, budget: Budget) -> Adapter:
    """Return the adapter for ``path``: the one that was asked for, else the first that recognises it.

    Raises ReferenceError, listing what is understood, if none does.
    """
    if options.adapter is not None:
        if options.adapter not in ADAPTERS:
            hint = suggest_nearest(options.adapter, ADAPTERS)
            raise ReferenceError(f"there is no adapter '{options.adapter}'.{hint} There are: {', '.join(ADAPTERS)}.")
        return ADAPTERS[options.adapter]
    if not path.exists():
        raise ReferenceError(f"there is no file or folder '{path.name}'.")
    if path.is_dir() and not any(path.iterdir()):
        raise ReferenceError(f"the folder '{path.name}' is empty. Give the folder or file with the images.")
    for adapter in ADAPTERS.values():
        if adapter.detect(path, budget) is not None:
            return adapter
    known = "; ".join(adapter.description.rstrip(".") for adapter in ADAPTERS.values())
    raise ReferenceError(f"'{path.name}' is not understood. Understood are: {known}.")


def plan_reference(path: Path, options: Options, budget: Budget) -> ReferencePlan:
    """Return how ``path`` will be read; raises ReferenceError if it cannot be."""
    return choose_adapter(path, options, budget).describe(path, options, budget)
