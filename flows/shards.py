"""What a worker does: subjects -> scans -> images -> one shard on disk. Nothing heavy is imported beyond the engine."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from catalog.home import Home
from catalog.records import ShardRecord
from catalog.shards import write_shard
from synth.engines import find_engine
from synth.nouns import Image, ShardPlan, Subject
from synth.population import find_population
from synth.spec import CohortSpec


@functools.cache
def parse_spec_json(spec_json: str) -> CohortSpec:
    """Return the spec in ``spec_json``; parsed once per process."""
    return CohortSpec.model_validate_json(spec_json)


def warm_up(spec_json: str) -> None:
    """Get a fresh worker ready for a recipe: anatomy loaded, kernels compiled."""
    spec = parse_spec_json(spec_json)
    find_engine(spec.imaging.engine).warm_up(spec)


def render_images(spec: CohortSpec, subjects: list[Subject]) -> Iterator[Image]:
    """Yield every image of ``subjects``, subject by subject, with its measurements."""
    engine = find_engine(spec.imaging.engine)
    for subject in subjects:
        yield from engine.render(engine.draw_scans(spec, subject))


def render_shard(home: Home, spec_json: str, plan: ShardPlan) -> ShardRecord:
    """Render the shard of ``plan`` and write it below ``home``; returns its record."""
    spec = parse_spec_json(spec_json)
    population = find_population(spec.population.source)
    stop = plan.first_subject + plan.subjects
    subjects = population.draw_subjects(spec, plan.cohort_id, plan.first_subject, stop)
    return write_shard(home, plan, subjects, render_images(spec, subjects))
