"""K-space of stored images, as files that anybody can load: one .npz an image, without pickle."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from catalog import StoredImage, open_catalog
from flows.settings import Settings
from flows.shelf import FolderShelf
from synth.engines import find_engine
from synth.errors import CatalogError


@dataclass(frozen=True, slots=True)
class SavedKSpace:
    """K-space of one image on disk, and whether the stored image follows from it bit for bit."""

    image_id: str
    file: str
    coils: int
    sampled_share: float
    identical: bool


def save_kspace(settings: Settings, image_ids: Sequence[str], folder: Path) -> Iterator[SavedKSpace]:
    """Acquire ``image_ids`` again and write ``folder/IMAGE_ID.npz`` for each; the content is that of Acquisition.

    Raises CatalogError for an unknown image, another engine than 'mri' or a version that is not installed.
    """
    with open_catalog(settings.home) as catalog:
        for stored in catalog.images(image_ids):
            yield _save_one(stored, folder, settings.shelf)


def _save_one(stored: StoredImage, folder: Path, models: FolderShelf) -> SavedKSpace:
    scan, engine = stored.scan, find_engine(stored.scan.engine)
    if engine.name != "mri" or engine.version != scan.engine_version:
        raise CatalogError(
            f"image '{stored.image_id}' was made by engine '{scan.engine}' {scan.engine_version}; k-space is that of "
            f"engine 'mri', of which {find_engine('mri').version} is installed."
        )
    kspace = importlib.import_module("synth.engines.mri_kspace")
    acquired = kspace.acquire_kspace(scan, models)
    again = kspace.reconstruct_kspace(scan, acquired)
    file = folder / f"{stored.image_id}.npz"
    folder.mkdir(parents=True, exist_ok=True)
    sensitivities = {} if acquired.sensitivities is None else {"sensitivities": acquired.sensitivities}
    np.savez(
        file,
        kspace=acquired.samples,
        sampled=acquired.sampled,
        weights=acquired.weights,
        axes=np.asarray(acquired.axes),
        lines=np.asarray(acquired.lines),
        scale=np.asarray(acquired.scale),
        synthetic=np.asarray("YES"),
        **sensitivities,
    )
    identical = bool(np.array_equal(again, stored.pixels))
    return SavedKSpace(stored.image_id, str(file), len(acquired.samples), float(acquired.sampled.mean()), identical)
