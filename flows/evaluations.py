"""One evaluation from a request to a result: judge, store, log.

The evaluation of a cohort changes who sees it, so it is a flow: Prefect keeps its run and its gates beside those of the
build. Images made elsewhere, and looks at a part of a cohort, change nothing: they start no server, which would take
longer than reading a thousand small pictures.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from catalog import ReleaseRow, ensure_catalog, open_catalog
from flows.cohort_source import CohortSource
from flows.evaluation_request import EvaluationRequest
from flows.scorecards import Verdict, check_request, judge_images, make_plain, open_sides, store_verdict
from flows.server import local_server
from flows.settings import Settings
from synth.evaluation.images.features.base import Tell
from synth.evaluation.metric import Score

Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """What the steps of one evaluation share."""

    settings: Settings
    request: EvaluationRequest
    tell: Tell


@dataclass(frozen=True)
class EvaluationResult:
    """What came of an evaluation. ``release`` is the decision about a cohort, None if it decides about none."""

    verdict: Verdict
    release: ReleaseRow | None
    mlflow_run_id: str

    def to_json(self) -> dict[str, Any]:
        """Return what ``cohortium evaluate --json`` prints: the report with gates, verdict and places."""
        row, release = self.verdict.row, self.release
        return make_plain(
            {
                "scorecard_id": row.scorecard_id,
                "cohort_id": row.cohort_id,
                "images_sha256": row.images_sha256,
                "reference_id": row.reference_id,
                "passed": row.passed,
                "policy": {"name": row.policy, "hash": row.policy_hash},
                "gates": [asdict(gate) for gate in row.gates],
                **row.report,
                "request": dict(row.request),
                "decision": None if release is None else asdict(release),
                "document": str(self.verdict.index),
                "files": [str(file) for file in self.verdict.files],
                "mlflow_run_id": self.mlflow_run_id,
            }
        )


def run_evaluation(settings: Settings, request: EvaluationRequest, tell: Tell) -> EvaluationResult:
    """Judge the images of a request, store what was found, and log it; of a cohort also decide about it anew.

    Raises PermanentError for what cannot be compared or does not exist, StorageError and BusyError as a build does;
    then nothing is stored, and the same call begins again.
    """
    check_request(request)
    with open_catalog_up_to_date(settings) as catalog:
        source, _ = open_sides(catalog, request)
        cohort_id = source.cohort_id if isinstance(source, CohortSource) and request.is_whole else None
    job = Job(settings, request, tell)
    if cohort_id is None:
        return conclude(job, judge_images(settings, request, tell))
    with local_server(settings, meanwhile=_load_flow):
        result: EvaluationResult = _load_flow().run_flow(job, cohort_id)
        return result


def conclude(job: Job, verdict: Verdict) -> EvaluationResult:
    """Store a verdict, then log it."""
    release = store_verdict(job.settings, verdict)
    return EvaluationResult(verdict, release, log_verdict(job.settings, verdict))


def open_catalog_up_to_date(settings: Settings) -> Any:
    """Return the catalog for reading, brought up to date if it is there; raises CatalogError if it is not."""
    if settings.home.metadata.is_file():
        ensure_catalog(settings.home)
    return open_catalog(settings.home)


def log_verdict(settings: Settings, verdict: Verdict, run_id: str | None = None) -> str:
    """Log a verdict to MLflow, to the run of a build or to its own; return the id of the run."""
    tracking = importlib.import_module("flows.tracking")
    row = verdict.row
    with open_catalog(settings.home) as catalog:
        reference = catalog.reference(row.reference_id)
        real, snapshot_id = _flatten_lists(reference.records()), catalog.snapshot_id
    digest = f"snap-{snapshot_id}" if row.cohort_id else row.images_sha256
    log = tracking.ScorecardLog(
        scorecard_id=row.scorecard_id,
        title=f"{row.images_name} against {reference.name}",
        tags={
            "scorecard_id": row.scorecard_id,
            "judged": row.images_name,
            "reference_id": row.reference_id,
            "reference_fingerprint": row.reference_fingerprint,
            "policy_hash": row.policy_hash,
            "controls_valid": str(row.controls_valid),
            "passed": str(row.passed),
        },
        params={f"{tracking.SCORECARD}.{name}": str(value) for name, value in row.request.items() if value is not None},
        metrics=dict(_list_metrics(verdict)),
        files=verdict.files,
        datasets=[
            tracking.Dataset(row.images_name, _flatten_lists(verdict.records), digest, "images"),
            tracking.Dataset(reference.name, real, row.reference_fingerprint, "reference"),
        ],
    )
    with tracking.explain_tracking(settings):
        found: str = tracking.log_scorecard(settings, log, run_id)
    return found


def name_score(score: Score) -> str:
    """Return metric, features and subgroup of a score as one name."""
    return ".".join(part for part in ("scorecard", score.name, score.features, score.subgroup) if part)


def _list_metrics(verdict: Verdict) -> Iterator[tuple[str, float]]:
    for score in verdict.report.scores:
        for suffix, value in (("", score.value), (".control", score.control)):
            if value is not None and np.isfinite(value):
                yield name_score(score) + suffix, float(value)
    yield "scorecard.copies", float(len(verdict.report.copies))
    yield "scorecard.images", float(verdict.row.images)


def _flatten_lists(table: pa.Table) -> pa.Table:
    """Return ``table`` with sets of labels as one text, which MLflow can describe."""
    for place, column in enumerate(table.column_names):
        if pa.types.is_list(table.schema.field(column).type):
            texts = [None if value is None else "|".join(value) for value in table.column(column).to_pylist()]
            table = table.set_column(place, column, pa.array(texts, pa.string()))
    return table


def _load_flow() -> Any:
    """Import the flow, with Prefect and MLflow."""
    return importlib.import_module("flows.evaluation_flow")
