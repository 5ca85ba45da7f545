"""From a CohortSpec to what will be built: the cohort's id, its shards and its number of images. Pure arithmetic."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from synth.engines import find_engine
from synth.nouns import ShardPlan
from synth.population import find_population
from synth.shelf import Shelf
from synth.spec import CohortSpec

SHARD_BYTES = 32 << 20  # uncompressed pixels of a shard, which sets the default number of subjects in it


@dataclass(frozen=True, slots=True)
class CohortPlan:
    """A resolved recipe: checked against its population and engine, and cut into shards."""

    spec: CohortSpec
    cohort_id: str
    engine_version: str
    population_version: str
    images: int
    shards: tuple[ShardPlan, ...]


def name_cohort(spec: CohortSpec, models: Shelf | None = None) -> str:
    """Return the cohort's id: the recipe's name and a hash of all that decides its images."""
    engine, population = find_engine(spec.imaging.engine, models), find_population(spec.population.source, models)
    content = f"{spec.images_hash}/{engine.name}/{engine.version}/{population.name}/{population.version}"
    return f"{spec.name}-{hashlib.sha256(content.encode()).hexdigest()[:10]}"


def default_shard_subjects(spec: CohortSpec, models: Shelf | None = None) -> int:
    """Return how many subjects make a shard of about SHARD_BYTES of pixels, between 1 and 64."""
    engine = find_engine(spec.imaging.engine, models)
    images_per_subject = count_images(spec, models) / spec.subjects
    return max(1, min(64, math.floor(SHARD_BYTES / (engine.image_bytes(spec) * images_per_subject))))


def count_images(spec: CohortSpec, models: Shelf | None = None) -> int:
    """Return the number of images of the cohort: one per visit and contrast, and as many for each pair."""
    images = len(spec.imaging.contrasts) * (1 + len(spec.imaging.pairs))
    return find_population(spec.population.source, models).count_visits(spec) * images


def plan_cohort(spec: CohortSpec, shard_subjects: int | None = None, models: Shelf | None = None) -> CohortPlan:
    """Check ``spec`` and cut it into shards of ``shard_subjects`` consecutive subjects.

    Models that the recipe names by their hash are on the shelf ``models``. Raises SpecError or PopulationError if the
    recipe asks for something that its engine or population cannot give. The shard size changes where images are stored,
    never what they are.
    """
    engine, population = find_engine(spec.imaging.engine, models), find_population(spec.population.source, models)
    engine.check(spec)
    population.check(spec)
    cohort_id = name_cohort(spec, models)
    engine.check_subject(population.draw_subjects(spec, cohort_id, 0, 1)[0])
    size = shard_subjects or default_shard_subjects(spec, models)
    shards = tuple(
        _plan_shard(cohort_id, first, min(size, spec.subjects - first)) for first in range(0, spec.subjects, size)
    )
    return CohortPlan(spec, cohort_id, engine.version, population.version, count_images(spec, models), shards)


def _plan_shard(cohort_id: str, first: int, subjects: int) -> ShardPlan:
    return ShardPlan(f"{cohort_id}-{first:07d}-{subjects}", cohort_id, first, subjects)
