"""MLflow: one run per build, with the resolved recipe, the numeric profile, metrics, pictures and the dataset.

A scorecard is logged to the run of its build or, if it was made later or of other images, to one of its own.
"""

from __future__ import annotations

import math
import re
import sqlite3
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import flows.settings  # noqa: F401  sets MLflow's quiet defaults before it is imported

import mlflow  # isort: skip
import pyarrow as pa
from mlflow.entities import Metric, Param, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from flows.databases import copy_template, create_whole
from flows.settings import Settings
from synth.engines import find_engine
from synth.errors import StorageError
from synth.nouns import Report
from synth.numerics import numeric_profile
from synth.plan import CohortPlan
from synth.population import find_population
from synth.spec import CohortSpec

EXPERIMENT = "cohorts"
EVALUATIONS = "evaluations"
SCORECARD = "scorecard"  # the folder of a scorecard's document among the artifacts of its run
MOST_METRICS = 1000  # in one call
DIGEST = 32  # characters; MLflow takes 36
_SQLITE = "sqlite:///"


@dataclass(frozen=True)
class Dataset:
    """A table that a run has used: only its size, columns and digest are logged."""

    name: str
    table: pa.Table
    digest: str
    context: str


@dataclass(frozen=True)
class ScorecardLog:
    """What MLflow is told of a scorecard. ``tags`` and ``params`` are text; ``files`` become artifacts."""

    scorecard_id: str
    title: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    files: Sequence[Path]
    datasets: Sequence[Dataset]


@contextmanager
def explain_tracking(settings: Settings) -> Iterator[None]:
    """Turn refusals of MLflow's store into a StorageError that names it."""
    try:
        yield
    except (MlflowException, OSError, sqlite3.Error) as error:
        cause = str(error).strip().splitlines()[0]
        raise StorageError(
            f"MLflow's store '{settings.tracking_uri}' cannot be written ({cause}); if the disk is full, free some "
            "space. Finished shards are kept; run the same command again."
        ) from error


def prepare_store(settings: Settings) -> None:
    """Set up MLflow's store, if it is a local one that does not exist yet."""
    if settings.tracking_uri.startswith(_SQLITE):
        artifacts = (settings.home.root / "mlartifacts").as_uri()
        create_whole(
            Path(settings.tracking_uri.removeprefix(_SQLITE)), lambda draft: _set_up_store(draft, f"{artifacts}/0")
        )


def _set_up_store(path: Path, artifacts: str) -> None:
    """Make MLflow's store ``path``, with the artifacts of its experiment Default, which we leave alone, in the home."""
    copy_template(f"mlflow-{mlflow.__version__}", path, _migrate_store)
    with closing(sqlite3.connect(path)) as store, store:
        store.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0", [artifacts])


def _migrate_store(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Alembic's, about constraints without a name
        MlflowClient(f"{_SQLITE}{path}").search_experiments()


def start_run(settings: Settings, plan: CohortPlan) -> str:
    """Return the id of the build's run: a new one, or the one that an interrupted build of the same recipe left."""
    client = _open_client(settings)
    experiment_id = _find_experiment(settings, client, EXPERIMENT)
    query = f"tags.cohort_id = '{plan.cohort_id}' and tags.spec_hash = '{plan.spec.content_hash}'"
    left = client.search_runs([experiment_id], query, max_results=1)
    if left:
        client.set_terminated(left[0].info.run_id, status=RunStatus.to_string(RunStatus.RUNNING))
        return str(left[0].info.run_id)
    tags = {"cohort_id": plan.cohort_id, "spec_hash": plan.spec.content_hash, "mlflow.runName": plan.cohort_id}
    run = client.create_run(experiment_id, tags=tags)
    client.log_batch(run.info.run_id, params=[Param(name, value) for name, value in _flatten(plan.spec).items()])
    client.log_dict(run.info.run_id, plan.spec.model_dump(mode="json"), "spec.json")
    client.log_dict(run.info.run_id, profile_build(settings, plan), "environment.json")
    cleaning = find_population(plan.spec.population.source, settings.shelf).cleaning_report()
    if cleaning is not None:
        client.log_dict(run.info.run_id, asdict(cleaning), "population-cleaning.json")
    return str(run.info.run_id)


def profile_build(settings: Settings, plan: CohortPlan) -> dict[str, str]:
    """Return what decides the last bit of a cohort's images besides its plan."""
    engine = find_engine(plan.spec.imaging.engine, settings.shelf)
    return numeric_profile(engine.network_precision(plan.spec))


def _find_experiment(settings: Settings, client: MlflowClient, name: str) -> str:
    """Return the id of an experiment; it is made if there is none."""
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    location = (settings.home.root / "mlartifacts").as_uri() if _is_local(settings) else None
    return str(client.create_experiment(name, artifact_location=location))


def finish_run(
    settings: Settings,
    run_id: str,
    plan: CohortPlan,
    report: Report,
    decision: str,
    snapshot_id: int,
    subjects: pa.Table,
    pictures: list[Path],
    extra: dict[str, float],
) -> None:
    """Log metrics, pictures and the dataset (subjects, with the catalog snapshot as its digest) and end the run."""
    client = _open_client(settings)
    client.set_tag(run_id, "status", decision)
    client.set_tag(run_id, "snapshot_id", str(snapshot_id))
    scores = {name: value for name, value in {**report.scores, **extra}.items() if math.isfinite(value)}
    now_ms = int(time.time() * 1000)
    client.log_batch(run_id, metrics=[Metric(name_metric(name), value, now_ms, 0) for name, value in scores.items()])
    gates = [
        {"gate": g.gate, "value": _finite(g.value), "threshold": _finite(g.threshold), "passed": g.passed}
        for g in report.gates
    ]
    client.log_dict(run_id, {"gates": gates, "reasons": list(report.reasons)}, "report.json")
    for picture in pictures:
        client.log_artifact(run_id, str(picture))
    _log_datasets(settings, run_id, [Dataset(plan.cohort_id, subjects, f"snap-{snapshot_id}", "cohort")])


def log_scorecard(settings: Settings, log: ScorecardLog, run_id: str | None = None) -> str:
    """Log a scorecard to the run of its build, or to a run of its own that equal scorecards share; return the run."""
    client = _open_client(settings)
    own = run_id is None
    if run_id is None:
        run_id = _find_run(settings, client, log)
    for name, text in log.tags.items():
        client.set_tag(run_id, name, text)
    known = client.get_run(run_id).data.params
    params = [Param(name, text[:500]) for name, text in log.params.items() if name not in known]
    client.log_batch(run_id, params=params)
    now_ms = int(time.time() * 1000)
    metrics = [Metric(name_metric(name), value, now_ms, 0) for name, value in log.metrics.items()]
    for first in range(0, len(metrics), MOST_METRICS):
        client.log_batch(run_id, metrics=metrics[first : first + MOST_METRICS])
    for file in log.files:
        client.log_artifact(run_id, str(file), SCORECARD)
    if own:
        _log_datasets(settings, run_id, log.datasets)
    else:
        _log_datasets(settings, run_id, [dataset for dataset in log.datasets if dataset.context == "reference"])
    return run_id


def _find_run(settings: Settings, client: MlflowClient, log: ScorecardLog) -> str:
    experiment_id = _find_experiment(settings, client, EVALUATIONS)
    left = client.search_runs([experiment_id], f"tags.scorecard_id = '{log.scorecard_id}'", max_results=1)
    if left:
        return str(left[0].info.run_id)
    tags = {"scorecard_id": log.scorecard_id, "mlflow.runName": log.title}
    return str(client.create_run(experiment_id, tags=tags).info.run_id)


def name_metric(name: str) -> str:
    """Return ``name`` as MLflow takes it: other characters than letters, digits and ``_-. :/`` become a dash."""
    return re.sub(r"[^\w\-. :/]", "-", name, flags=re.ASCII)[:250]


def _log_datasets(settings: Settings, run_id: str, datasets: Sequence[Dataset]) -> None:
    """Log tables as inputs of a run, and end it."""
    with warnings.catch_warnings(), use_store(settings), mlflow.start_run(run_id=run_id):
        warnings.simplefilter("ignore")  # hints about integer columns with missing values
        for one in datasets:
            frame, source = one.table.to_pandas(), str(settings.home.metadata)
            dataset = mlflow.data.from_pandas(frame, source=source, name=one.name, digest=one.digest[:DIGEST])
            mlflow.log_input(dataset, context=one.context)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _open_client(settings: Settings) -> MlflowClient:
    prepare_store(settings)
    return MlflowClient(settings.tracking_uri)


@contextmanager
def use_store(settings: Settings) -> Iterator[None]:
    """Let MLflow's functions that know no store use ours, and forget it again.

    MLflow puts it into the environment, from where later builds of other homes would take it.
    """
    prepare_store(settings)
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(settings.tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None forgets


def _is_local(settings: Settings) -> bool:
    return settings.tracking_uri.startswith("sqlite:")


def _flatten(spec: CohortSpec) -> dict[str, str]:
    """Return the recipe as flat parameters: ``imaging.snr`` -> ``[20.0, 60.0]``."""
    flat: dict[str, str] = {}

    def visit(prefix: str, value: object) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                visit(f"{prefix}.{name}" if prefix else name, inner)
        elif value is not None:
            flat[prefix] = str(value)[:500]

    visit("", spec.model_dump(mode="json"))
    return flat
