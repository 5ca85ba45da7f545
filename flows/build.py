"""The build flow: recipe -> shards -> catalog -> report -> decision -> pictures and tracking.

The catalog and the shards on disk are the truth, so a build that ends anywhere is simply run again.
"""

from __future__ import annotations

import importlib
import time
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import flows.settings  # noqa: F401  sets Prefect's quiet defaults before it is imported

import httpx  # isort: skip
from prefect import flow, task
from prefect.artifacts import (
    create_image_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.context import refresh_global_settings_context
from prefect.task_runners import ThreadPoolTaskRunner

from catalog import CohortRow, ReleaseRow, ShardRecord, commit_cohort, commit_report, open_catalog, record_event
from catalog.home import explain_refusals
from flows.evaluate import evaluate_build, judge_build, read_gates
from flows.pictures import draw_contact_sheet, embed_picture
from flows.server import explain_server_failure
from flows.survey import PUBLISHED, check_repairs
from flows.tracking import explain_tracking, finish_run, profile_build, start_run
from flows.workshop import Workshop
from synth.nouns import Report


@dataclass(frozen=True, slots=True)
class Decided:
    """The stored report of a build, the decision that follows, and the verdict about its images if one was made."""

    report: Report
    release: ReleaseRow
    verdict: Any = None


_SHOP: ContextVar[Workshop] = ContextVar("workshop")


@task(name="render-shards", task_run_name="render-shards-{number}", cache_policy=NO_CACHE, persist_result=False)
def render_chunk(shop: Workshop, number: int) -> list[ShardRecord]:
    """Render a series of shards on one worker of the pool."""
    return shop.render_chunk(number)


@task(name="start-tracking", cache_policy=NO_CACHE, persist_result=False)
def start_tracking(shop: Workshop) -> str:
    """Open the build's MLflow run."""
    with explain_tracking(shop.settings):
        return start_run(shop.settings, shop.plan)


@task(name="register", cache_policy=NO_CACHE, persist_result=False)
def register_cohort(shop: Workshop, rendered: list[ShardRecord], run_id: str) -> int:
    """Register the cohort in one transaction; return its snapshot."""
    plan, spec = shop.plan, shop.plan.spec
    if shop.survey.registered:
        check_repairs(shop.survey.records, rendered)
    row = CohortRow(
        cohort_id=plan.cohort_id,
        name=spec.name,
        spec_hash=spec.content_hash,
        images_hash=spec.images_hash,
        spec_json=shop.spec_json,
        engine=spec.imaging.engine,
        engine_version=plan.engine_version,
        population=spec.population.source,
        population_version=plan.population_version,
        subjects=spec.subjects,
        images=plan.images,
        numeric_profile=profile_build(shop.settings, plan),
        mlflow_run_id=run_id,
    )
    return commit_cohort(shop.settings.home, row, [*shop.survey.finished, *rendered])


@task(name="evaluate-and-decide", cache_policy=NO_CACHE, persist_result=False)
def decide_release(shop: Workshop) -> Decided:
    """Evaluate the registered cohort, store its Report and the decision that follows from its gates.

    A recipe with an [evaluation] has its images judged against the reference first; both parts decide together.
    """
    home, plan = shop.settings.home, shop.plan
    with open_catalog(home) as catalog:
        report = evaluate_build(catalog, plan)
    shop.pool.close()  # nothing is left to render, and judging needs the memory
    verdict = judge_build(shop.settings, plan.spec, plan.cohort_id, shop.tell)
    release = commit_report(home, report, verdict and verdict.row)
    with open_catalog(home) as catalog:
        return Decided(replace(report, gates=read_gates(catalog, release.report_id)), release, verdict)


@task(name="publish", cache_policy=NO_CACHE, persist_result=False)
def publish_build(shop: Workshop, decided: Decided, run_id: str, snapshot_id: int, seconds: float) -> None:
    """Draw the contact sheet and hand scorecard and pictures to Prefect and MLflow."""
    plan, settings, report = shop.plan, shop.settings, decided.report
    with open_catalog(settings.home) as catalog, explain_refusals(settings.report_folder):
        sheet = draw_contact_sheet(
            catalog,
            plan.cohort_id,
            plan.spec.imaging.contrasts,
            settings.report_folder / plan.cohort_id / "contact-sheet.png",
        )
        subjects = catalog.sql("SELECT * FROM subjects WHERE cohort_id = ?", [plan.cohort_id]).arrow()
    table = [
        {"gate": g.gate, "value": f"{g.value:.4g}", "threshold": f"{g.threshold:.4g}", "passed": g.passed}
        for g in report.gates
    ]
    create_table_artifact(table, key="scorecard", description=f"Scorecard of {plan.cohort_id}")
    create_image_artifact(embed_picture(sheet), key="contact-sheet", description=f"Contact sheet of {plan.cohort_id}")
    extra = {
        "subjects": float(plan.spec.subjects),
        "images": float(plan.images),
        "seconds": seconds,
        "worker_deaths": float(shop.pool.deaths),
    }
    with explain_tracking(settings):
        finish_run(settings, run_id, plan, report, decided.release.decision, snapshot_id, subjects, [sheet], extra)
    if decided.verdict is not None:
        importlib.import_module("flows.evaluation_flow").show_gates(decided.verdict)
        importlib.import_module("flows.evaluations").log_verdict(settings, decided.verdict, run_id)
    detail = {"spec_hash": plan.spec.content_hash, "snapshot_id": snapshot_id, "mlflow_run_id": run_id}
    record_event(settings.home, PUBLISHED, f"build of {plan.cohort_id} finished", plan.cohort_id, detail)


@flow(name="build-cohort", flow_run_name="{cohort_id}", persist_result=False, validate_parameters=False)
def build_cohort(cohort_id: str) -> int:
    """Render what is missing, register, evaluate, decide and publish; return the cohort's snapshot."""
    started = time.monotonic()
    shop = _SHOP.get()
    tracking = start_tracking.submit(shop)
    progress = create_progress_artifact(0.0, key="rendering", description=f"Shards of {cohort_id}")
    futures = [render_chunk.submit(shop, number) for number in range(len(shop.chunks))]
    rendered: list[ShardRecord] = []
    for number, future in enumerate(futures):
        rendered += future.result()
        update_progress_artifact(progress, progress=100 * (number + 1) / len(futures))
    run_id = tracking.result()
    snapshot_id = register_cohort(shop, rendered, run_id)
    decided = decide_release(shop)
    publish_build(shop, decided, run_id, snapshot_id, time.monotonic() - started)
    return snapshot_id


def run_flow(shop: Workshop) -> int:
    """Run the build flow on ``shop`` with one thread for each worker, and one for tracking.

    Flow parameters are stored as JSON, so the flow is given the cohort's id and finds its workshop in the context.
    Raises StorageError or RetryableError if Prefect's server fails, besides what the tasks raise.
    """
    refresh_global_settings_context()  # Prefect was imported before the address of its server was known
    runner = ThreadPoolTaskRunner(max_workers=shop.settings.workers + 1)
    token = _SHOP.set(shop)
    try:
        return int(build_cohort.with_options(task_runner=runner)(shop.plan.cohort_id))
    except httpx.HTTPError as error:
        raise explain_server_failure(shop.settings, error) from error
    finally:
        _SHOP.reset(token)
