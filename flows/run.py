"""One build from a recipe to a result: checks, lock, survey, and the flow only if something is left to do."""

from __future__ import annotations

import importlib
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import ModuleType

from catalog import ensure_catalog, open_catalog, remove_abandoned
from flows.evaluate import check_evaluation
from flows.models import pin_models
from flows.server import local_server
from flows.settings import Settings
from flows.survey import Survey, survey_cohort
from flows.terminal import say_steps
from flows.workshop import Advance, lock_cohort, open_workshop
from synth.engines import find_engine
from synth.errors import StorageError
from synth.evaluation.gates import check_gates
from synth.nouns import Status
from synth.plan import CohortPlan, plan_cohort
from synth.spec import CohortSpec

Progress = Callable[[int, int], AbstractContextManager[Advance]]  # (images in all, images finished) -> advance
Say = Callable[[str], None]
_SNAPSHOT = "SELECT max(snapshot_id) FROM snapshots() WHERE commit_extra_info LIKE '{\"cohort_id\":%' || ? || '}'"


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What ``cohortium build --json`` prints."""

    cohort_id: str
    snapshot_id: int
    status: Status
    reasons: tuple[str, ...]
    subjects: int
    images: int
    shards_rendered: int
    shards_reused: int
    seconds: float


def plan_build(spec: CohortSpec, settings: Settings) -> CohortPlan:
    """Return the checked plan of a recipe; raises SpecError or PopulationError before anything is touched."""
    check_gates(spec)
    check_evaluation(spec)
    return plan_cohort(pin_models(spec, settings), settings.shard_subjects, settings.shelf)


def run_build(spec: CohortSpec, settings: Settings, progress: Progress, say: Say) -> BuildResult:
    """Build the cohort of ``spec``, or what is missing of it, and return how it stands.

    Raises the errors of plan_build; StorageError, BusyError, WorkerError or RetryableError if the machine refuses:
    finished shards are kept then, nothing is half-registered, and the same call continues.
    """
    started = time.monotonic()
    plan = plan_build(spec, settings)
    ensure_catalog(settings.home)
    check_evaluation(spec, settings.home)
    with lock_cohort(settings, plan.cohort_id, say):
        remove_abandoned(settings.home, plan.cohort_id)
        survey = survey_cohort(settings.home, plan)
        if survey.complete:
            say(f"'{plan.cohort_id}' is finished: nothing to render ({len(survey.finished)} shards checked)")
        else:
            _check_space(settings, plan, survey)
            _render_rest(settings, plan, survey, progress, say)
            remove_abandoned(settings.home, plan.cohort_id)  # of workers that died or outlived a killed flow
    return _read_result(settings, plan, survey, time.monotonic() - started)


def _render_rest(settings: Settings, plan: CohortPlan, survey: Survey, progress: Progress, say: Say) -> None:
    if survey.registered and survey.missing:
        names = ", ".join(shard.shard_id for shard in survey.missing)
        say(f"{len(survey.missing)} registered shards are missing or damaged and rendered again: {names}")
    elif survey.registered:
        say("every image is registered: evaluating and publishing again, nothing to render")
    elif survey.finished and survey.missing:
        say(f"continuing: {len(survey.finished)} shards are finished, {len(survey.missing)} are missing")
    done = sum(record.images for record in survey.finished)
    with (
        progress(plan.images, done) as advance,
        open_workshop(settings, plan, survey, advance) as shop,  # workers begin while all else starts
        local_server(settings, meanwhile=_load_flow),
    ):
        shop.tell = say_steps(say)
        _load_flow().run_flow(shop)
        if shop.pool.deaths:
            say(f"{shop.pool.deaths} worker process(es) died and were replaced; their shards were rendered again")


def _load_flow() -> ModuleType:
    """Import the flow, with Prefect and MLflow."""
    return importlib.import_module("flows.build")


def _check_space(settings: Settings, plan: CohortPlan, survey: Survey) -> None:
    """Raise StorageError if the missing images will not fit on the disk, before a minute is spent on them."""
    images = plan.images - sum(record.images for record in survey.finished)
    needed = find_engine(plan.spec.imaging.engine, settings.shelf).image_bytes(plan.spec) * images
    free = shutil.disk_usage(settings.home.root).free
    if needed > free:
        raise StorageError(
            f"'{plan.cohort_id}' needs about {needed / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free at "
            f"'{settings.home.root}'. Free some space, set COHORTIUM_HOME to another disk, or ask for fewer subjects."
        )


def _read_result(settings: Settings, plan: CohortPlan, survey: Survey, seconds: float) -> BuildResult:
    with open_catalog(settings.home) as catalog:
        row = catalog.sql(
            "SELECT status, reasons, subjects, images FROM cohort_status WHERE cohort_id = ?", [plan.cohort_id]
        ).dicts()[0]
        snapshot_id = catalog.sql(_SNAPSHOT, [f'"{plan.cohort_id}"']).scalar()
    return BuildResult(
        cohort_id=plan.cohort_id,
        snapshot_id=snapshot_id,
        status=row["status"],
        reasons=tuple(row["reasons"]),
        subjects=row["subjects"],
        images=row["images"],
        shards_rendered=len(survey.missing),
        shards_reused=len(survey.finished),
        seconds=round(seconds, 2),
    )
