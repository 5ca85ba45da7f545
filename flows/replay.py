"""Replay: an image made again from its row alone, compared with what is stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from catalog import StoredImage, open_catalog
from flows.settings import Settings
from flows.shelf import FolderShelf
from synth.engines import find_engine
from synth.errors import CatalogError
from synth.nouns import Image
from synth.numerics import numeric_profile

TOLERANCE = 2  # stored units; what another numeric profile may differ by


@dataclass(frozen=True, slots=True)
class Replay:
    """How a regenerated image compares with the stored one. ``largest_difference`` is in stored units."""

    image_id: str
    identical: bool
    largest_difference: int
    note: str


def replay_images(settings: Settings, image_ids: Sequence[str]) -> list[Replay]:
    """Regenerate ``image_ids`` one by one and compare pixels and masks with the catalog's.

    Raises CatalogError for an unknown image or an engine version that is not installed.
    """
    with open_catalog(settings.home) as catalog:
        return list(_replay_each(catalog.images(image_ids), settings.shelf))


def _replay_each(stored: Iterator[StoredImage], models: FolderShelf) -> Iterator[Replay]:
    for image in stored:
        engine = find_engine(image.scan.engine, models)
        if engine.version != image.scan.engine_version:
            raise CatalogError(
                f"image '{image.image_id}' was made by engine '{engine.name}' {image.scan.engine_version}; "
                f"installed is {engine.version}. Install the version that made it to replay it."
            )
        made = {again.image_id: again for again in engine.render([image.scan])}
        yield compare_images(image, made[image.image_id])


def _explain(stored: StoredImage) -> str:
    sampler = stored.scan.parameters.get("sampler")
    if sampler is None:
        return f"tolerance on another numeric profile: {TOLERANCE}; this one: {numeric_profile()}"
    profile = numeric_profile(str(sampler["precision"]))
    return f"a network may answer otherwise on another numeric profile; this one: {profile}"


def compare_images(stored: StoredImage, made: Image) -> Replay:
    """Return how ``made`` differs from ``stored``: pixels, masks and geometry."""
    masks = stored.masks.keys() == made.masks.keys() and all(
        np.array_equal(stored.masks[name], made.masks[name]) for name in stored.masks
    )
    same_grid = np.array_equal(stored.affine, made.affine) and stored.pixels.shape == made.pixels.shape
    difference = int(np.abs(stored.pixels.astype(np.int64) - made.pixels).max()) if same_grid else -1
    identical = same_grid and difference == 0 and masks and stored.intensity_scale == made.intensity_scale
    note = "" if identical else _explain(stored)
    return Replay(stored.image_id, identical, difference, note)
