"""The promotion flow: fetch candidate and champion -> read the Reference -> draw and judge both -> decide -> record."""

from __future__ import annotations

import importlib
import math
import time
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flows.settings  # noqa: F401  sets Prefect's quiet defaults before it is imported

import httpx  # isort: skip
from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.context import refresh_global_settings_context

from catalog import open_catalog
from flows.evaluation_sides import open_work_folder
from flows.models import IMAGES, find_model, keep_model
from flows.promotions import PromotionRequest
from flows.scorecards import make_plain, use_threads
from flows.server import explain_server_failure
from flows.settings import Settings
from flows.training_data import TrainingData, read_training_data
from synth.errors import ModelError
from synth.evaluation.images.features.base import Tell
from synth.evaluation.images.sets import RealImages
from synth.evaluation.policy import load_policy
from synth.learned.families import ClosedFamily, find_family
from synth.learned.generator import Generator
from synth.learned.model_files import load_model
from synth.learned.promotion import (
    Contender,
    Judged,
    Promotion,
    choose_requests,
    judge_contender,
    list_settings,
    settle_promotion,
)
from synth.learned.recipe import TrainSpec


@dataclass
class Job:
    """What the tasks of one promotion share."""

    settings: Settings
    request: PromotionRequest
    tell: Tell


@dataclass(frozen=True)
class Entrant:
    """A registered version, loaded."""

    version: str
    model: Generator

    @property
    def name(self) -> str:
        """How decisions call it."""
        return f"{self.model.description.name} {self.version}"


@dataclass(frozen=True, slots=True)
class PromotionResult:
    """What ``cohortium promote --json`` prints. ``run`` is the MLflow run that holds the decision."""

    name: str
    version: str
    decision: dict[str, Any]
    champion: str | None
    run: str
    seconds: float
    notes: tuple[str, ...]


_JOB: ContextVar[Job] = ContextVar("promotion")


@task(name="fetch-models", cache_policy=NO_CACHE, persist_result=False)
def fetch_entrants(job: Job) -> tuple[Entrant, Entrant | None]:
    """Return the candidate and the champion, if there is one, each checked and kept below the home."""
    registry: Any = importlib.import_module("flows.model_registry")
    name, asked = job.request.name, job.request.version
    aliases = registry.read_aliases(job.settings, name)
    version = asked or aliases.get(registry.CANDIDATE)
    if version is None:
        raise ModelError(f"model '{name}' has no alias '{registry.CANDIDATE}'; give a version: --version N.")
    champion = aliases.get(registry.CHAMPION)
    if version == champion:
        raise ModelError(f"version {version} of '{name}' is the champion already; train again, or give --version N.")
    first = _fetch(job.settings, name, version)
    if champion is None:
        return first, None
    second = _fetch(job.settings, name, champion)
    if second.model.description.shape != first.model.description.shape:
        raise ModelError(
            f"version {version} draws {first.model.description.shape}, champion {champion} "
            f"{second.model.description.shape}; register the one under another name."
        )
    return first, second


def _fetch(settings: Settings, name: str, version: str) -> Entrant:
    folder = find_model(IMAGES, f"models:/{name}/{version}", settings)
    kept = settings.home.models / keep_model(IMAGES, folder, settings.home.models)
    return Entrant(version, load_model(kept))


@task(name="read-reference", cache_policy=NO_CACHE, persist_result=False)
def read_images(job: Job, candidate: Entrant, folder: Path) -> TrainingData:
    """Bring the images of the Reference that the candidate was trained on to its grid."""
    described = candidate.model.description
    reference = described.about.get("reference")
    if not reference:
        raise ModelError(f"{candidate.name} does not say which Reference it learned from, so nothing can be judged.")
    spec = TrainSpec(
        name=job.request.name, reference=str(reference), patients="images", kind=described.kind,
        shape=described.shape, attributes=tuple(a.name for a in described.attributes),
        architecture=described.architecture,
    )  # fmt: skip
    with open_catalog(job.settings.home) as catalog:
        data = read_training_data(catalog, spec, folder, job.tell)
    if data.fingerprint != described.about.get("reference_fingerprint"):
        raise ModelError(
            f"reference '{data.reference}' is not the one that {candidate.name} learned from: its fingerprint is "
            f"{data.fingerprint[:16]}, not {str(described.about.get('reference_fingerprint'))[:16]}. What it copies "
            "cannot be found; train it again."
        )
    return data


@task(name="judge", cache_policy=NO_CACHE, persist_result=False)
def judge(job: Job, candidate: Entrant, champion: Entrant | None, data: TrainingData) -> Promotion:
    """Draw the same images with both, judge them, and decide."""
    asked = job.request
    real = RealImages(data.reference, data.fingerprint, data.train, data.validation, data.holdout, data.layout)
    settings = list_settings(asked.features, asked.seed, job.settings.encoder_folder)
    requests = choose_requests(real.train, candidate.model.description.code, asked.images, asked.seed)
    with use_threads(job.settings.workers):
        first = judge_contender(_contend(candidate), requests, real, settings, load_policy(), job.tell)
        second: Judged | None = None
        if champion is not None:
            second = judge_contender(_contend(champion), requests, real, settings, None, job.tell)
        return settle_promotion(first, second, real, settings, job.tell)


def _contend(entrant: Entrant) -> Contender:
    model = entrant.model
    closed = isinstance(
        find_family(model.description.architecture.name), ClosedFamily
    )  # such a model has no loss by image
    return Contender(entrant.name, model, model.description.code, None if closed else model.measure_losses)


@task(name="record", cache_policy=NO_CACHE, persist_result=False)
def record(job: Job, candidate: Entrant, champion: Entrant | None, data: TrainingData, made: Promotion) -> str:
    """Log the decision with its numbers to MLflow, and move the alias if it says so; return the run."""
    registry: Any = importlib.import_module("flows.model_registry")
    asked, policy = job.request, load_policy()
    decision = {
        **made.to_json(),
        "by": asked.by,
        "seed": asked.seed,
        "reference": data.reference,
        "reference_fingerprint": data.fingerprint,
        "policy": policy.name,
        "policy_hash": policy.content_hash,
        "candidate_sha256": candidate.model.hash,
        "champion_sha256": champion.model.hash if champion else None,
    }
    tags = {
        "promotion": "promoted" if made.promoted else "kept back",
        "promotion_reasons": "; ".join(made.reasons),
        "promotion_by": asked.by,
        "promotion_against": made.champion.name if made.champion else "no champion",
    }
    metrics = {f"{side}_{key}": value for side, judged in (("candidate", made.candidate), ("champion", made.champion))
               if judged is not None for key, value in decision["scores"][judged.name].items()}  # fmt: skip
    if made.difference is not None:
        metrics |= {f"difference_{key}": value for key, value in made.difference._asdict().items()}
    metrics = {name: value for name, value in metrics.items() if value is not None and math.isfinite(value)}
    documents = {"promotion": make_plain(decision), "candidate-scorecard": make_plain(made.candidate.report.to_json())}
    if made.champion is not None:
        documents["champion-scorecard"] = make_plain(made.champion.report.to_json())
    place = (job.settings, asked.name, candidate.version, made.promoted)
    return str(registry.record_decision(*place, tags, metrics, documents))


@flow(name="promote-model", flow_run_name="{name}", persist_result=False, validate_parameters=False)
def promote_flow(name: str) -> PromotionResult:
    """Judge the candidate of the job beside the champion, move or keep the alias, and record why."""
    job, began = _JOB.get(), time.monotonic()
    candidate, champion = fetch_entrants(job)
    with open_work_folder(job.settings.home) as folder:
        data = read_images(job, candidate, folder)
        made = judge(job, candidate, champion, data)
        run = record(job, candidate, champion, data, made)
    decision = make_plain(made.to_json())
    after = candidate.version if made.promoted else (champion.version if champion else None)
    shown = [{"fact": key, "value": str(value)} for key, value in decision.items()]
    create_table_artifact(shown, key="promotion", description=f"Promotion of {candidate.name}")
    seconds = round(time.monotonic() - began, 1)
    return PromotionResult(name, candidate.version, decision, after, run, seconds, data.notes)


def run_flow(settings: Settings, request: PromotionRequest, tell: Tell) -> PromotionResult:
    """Run the flow. Raises StorageError or RetryableError if Prefect's server fails, besides what the tasks raise."""
    refresh_global_settings_context()  # Prefect was imported before the address of its server was known
    token = _JOB.set(Job(settings, request, tell))
    try:
        result: PromotionResult = promote_flow(request.name)
    except httpx.HTTPError as error:
        raise explain_server_failure(settings, error) from error
    finally:
        _JOB.reset(token)
    return result
