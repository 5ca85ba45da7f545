"""The flow that judges a cohort against a reference: judge -> store and decide -> log and show."""

from __future__ import annotations

from contextvars import ContextVar

import flows.settings  # noqa: F401  sets Prefect's quiet defaults before it is imported

import httpx  # isort: skip
from prefect import flow, task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.context import refresh_global_settings_context

from catalog import ReleaseRow
from flows.evaluations import EvaluationResult, Job, log_verdict
from flows.scorecards import Verdict, judge_images, store_verdict
from flows.server import explain_server_failure

_JOB: ContextVar[Job] = ContextVar("evaluation")


@task(name="judge-images", cache_policy=NO_CACHE, persist_result=False)
def judge(job: Job) -> Verdict:
    """Read both sides, compute every score, apply the policy, write the document."""
    return judge_images(job.settings, job.request, job.tell)


@task(name="store-and-decide", cache_policy=NO_CACHE, persist_result=False)
def store(job: Job, verdict: Verdict) -> ReleaseRow | None:
    """Store the scorecard and the decision that follows from it."""
    return store_verdict(job.settings, verdict)


@task(name="publish", cache_policy=NO_CACHE, persist_result=False)
def publish(job: Job, verdict: Verdict) -> str:
    """Hand scores, gates and document to MLflow and Prefect."""
    show_gates(verdict)
    return log_verdict(job.settings, verdict)


def show_gates(verdict: Verdict) -> None:
    """Keep the gates of a scorecard, and where its document is, as artifacts of the running flow."""
    table = [
        {"gate": gate.gate, "value": f"{gate.value:.4g}", "threshold": f"{gate.threshold:.4g}", "passed": gate.passed}
        for gate in verdict.row.gates
    ]
    create_table_artifact(table, key="scorecard-gates", description=f"Gates of {verdict.row.scorecard_id}")
    create_link_artifact(verdict.index.as_uri(), key="scorecard-document", link_text=verdict.row.scorecard_id)


@flow(name="evaluate-cohort", flow_run_name="{cohort_id}", persist_result=False, validate_parameters=False)
def evaluate_cohort(cohort_id: str) -> EvaluationResult:
    """Judge a cohort against a reference, and decide about it anew."""
    job = _JOB.get()
    verdict = judge(job)
    release = store(job, verdict)
    return EvaluationResult(verdict, release, publish(job, verdict))


def run_flow(job: Job, cohort_id: str) -> EvaluationResult:
    """Run the flow on ``job``. Flow parameters are stored as JSON, so it is given the cohort's id alone.

    Raises StorageError or RetryableError if Prefect's server fails, besides what the tasks raise.
    """
    refresh_global_settings_context()  # Prefect was imported before the address of its server was known
    token = _JOB.set(job)
    try:
        result = evaluate_cohort(cohort_id)
    except httpx.HTTPError as error:
        raise explain_server_failure(job.settings, error) from error
    finally:
        _JOB.reset(token)
    return result
