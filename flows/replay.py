"""Replay: an image made again from its row alone, compared with what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from catalog import Catalog, StoredImage, open_catalog
from flows.cohort_source import find_cohort
from flows.settings import Settings
from flows.shelf import FolderShelf
from flows.source_images import Choice
from synth.engines import find_engine
from synth.errors import CatalogError
from synth.nouns import Image
from synth.numerics import numeric_profile

Show = Callable[[int, int], AbstractContextManager[Callable[[int], None]]]  # (total, done) -> advance, as show_progress
TOLERANCE = 2  # stored units; what another numeric profile may differ by


@dataclass(frozen=True, slots=True)
class Replay:
    """How a regenerated image compares with the stored one. ``largest_difference`` is in stored units."""

    image_id: str
    identical: bool
    largest_difference: int
    note: str


def replay_images(settings: Settings, wanted: Sequence[str], sample: int = 0, show: Show | None = None) -> list[Replay]:
    """Regenerate images one by one and compare pixels and masks with the catalog's.

    ``wanted`` names images, or cohorts by id or name, of which ``sample`` images are drawn (0: all are taken). Raises
    CatalogError for what is unknown or an engine version that is not installed.
    """
    with open_catalog(settings.home) as catalog:
        image_ids = [image_id for name in wanted for image_id in _choose_images(catalog, name, sample)]
        replays = _replay_each(catalog.images(image_ids), settings.shelf)
        if show is None:
            return list(replays)
        found = []
        with show(len(image_ids), 0) as advance:
            for replayed in replays:
                found.append(replayed)
                advance(1)
    return found


def _choose_images(catalog: Catalog, name: str, sample: int) -> list[str]:
    if not catalog.sql("SELECT count(*) FROM cohorts WHERE cohort_id = $1 OR name = $1", [name]).scalar():
        return [name]
    query = "SELECT image_id FROM images WHERE cohort_id = ? ORDER BY image_id"
    found = [str(row[0]) for row in catalog.sql(query, [find_cohort(catalog, name)]).rows()]
    drawn = Choice(limit=sample or None).draw(len(found))
    return found if drawn is None else [found[place] for place in sorted(drawn)]


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
