"""The training flow: read the Reference -> learn -> learn to read images -> draw -> keep -> log and register.

A training that ends anywhere is simply run again: it goes on at its last checkpoint and ends with the same weights.
"""

from __future__ import annotations

import importlib
import shutil
import time
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import flows.settings  # noqa: F401  sets Prefect's quiet defaults before it is imported

import httpx  # isort: skip
import torch
from filelock import FileLock, Timeout
from prefect import flow, task
from prefect.artifacts import create_image_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.context import refresh_global_settings_context

from catalog import open_catalog
from catalog.home import make_folder
from flows.evaluation_sides import open_work_folder
from flows.models import IMAGES, keep_model
from flows.pictures import embed_picture
from flows.scorecards import make_plain, use_threads
from flows.server import explain_server_failure
from flows.settings import Settings
from flows.train_facts import describe_row, describe_training, flatten_recipe, keep_taught, mean_last, write_card
from flows.train_learning import Learned, learn_model
from flows.train_pictures import choose_groups, draw_curve, draw_groups, draw_pairs
from flows.training_data import TrainingData, read_training_data
from synth.errors import BusyError
from synth.evaluation.images.features.base import Tell
from synth.evaluation.images.sets import RealImages
from synth.learned.conditions import list_rows
from synth.learned.distillation import describe_distillation
from synth.learned.measurers import STEPS, Measurer, fit_measurer
from synth.learned.model_files import load_model, save_model
from synth.learned.recipe import TrainSpec
from synth.learned.steps_curve import StepsCurve, describe_metrics, measure_curve, plan_curve
from synth.seeds import stream, stream_key

LEAST_STEPS = 50  # in which what reads images is trained
PAIRS = 24  # drawn images that are shown beside real ones


@dataclass
class Job:
    """What the tasks of one training share."""

    settings: Settings
    spec: TrainSpec
    minutes: float | None
    register: bool
    tell: Tell
    folder: Path  # of checkpoints, and of what is read; the latter goes with the command
    thorough: bool = False
    devices: str | None = None  # None: one CPU


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What ``cohortium train --json`` prints. ``finished`` is False if the time ran out before the last step."""

    name: str
    model: str
    folder: str
    address: str | None
    steps: int
    finished: bool
    loss: float | None
    train_images: int
    train_patients: int
    measured: tuple[str, ...]
    pairs: str
    pictures: tuple[str, ...]
    curve: dict[str, Any] | None
    privacy: dict[str, Any] | None
    seconds: float
    notes: tuple[str, ...]


_JOB: ContextVar[Job] = ContextVar("training")


@task(name="read-reference", cache_policy=NO_CACHE, persist_result=False)
def read_images(job: Job, folder: Path) -> TrainingData:
    """Bring the images of the Reference to the recipe's grid."""
    with open_catalog(job.settings.home) as catalog:
        return read_training_data(catalog, job.spec, folder, job.tell)


@task(name="learn", cache_policy=NO_CACHE, persist_result=False)
def learn(job: Job, data: TrainingData) -> Learned:
    """Train the network and, with [few_steps], the student that draws in few; audit a private training."""
    return learn_model(job.settings, job.spec, data, job.folder, job.minutes, job.devices, job.tell)


@task(name="learn-to-read", cache_policy=NO_CACHE, persist_result=False)
def learn_to_read(job: Job, data: TrainingData) -> Measurer | None:
    """Train what reads attributes back from images, examined on patients of the validation split."""
    steps = min(STEPS, max(LEAST_STEPS, job.spec.training.steps))  # a trial is a trial
    return fit_measurer(data.train, data.validation, job.spec.attributes, job.spec.seed, steps=steps, tell=job.tell)


@task(name="try-steps", cache_policy=NO_CACHE, persist_result=False)
def try_steps(job: Job, data: TrainingData, learned: Learned) -> StepsCurve:
    """Measure how near to real images few and many steps bring the model, and its few-step student."""
    real = RealImages(data.reference, data.fingerprint, data.train, data.validation, data.holdout, data.layout)
    trained = learned.trained
    tried, count = plan_curve(job.spec, trained.steps, job.thorough)
    student = None if learned.model is trained.generator else learned.model
    return measure_curve(trained.generator, student, real, tried, count, job.spec.seed, job.tell)


@task(name="keep", cache_policy=NO_CACHE, persist_result=False)
def keep(job: Job, data: TrainingData, learned: Learned, measurer: Measurer | None, curve: StepsCurve | None) -> Path:
    """Save the model below the home, in the folder of its hash."""
    model, teacher = learned.model, learned.trained.generator
    about = describe_training(job.spec, data, learned)
    if model is not teacher and job.spec.few_steps is not None:
        about["few_steps"] = describe_distillation(teacher, job.spec.few_steps)
    draft = job.folder / "model"
    shutil.rmtree(draft, ignore_errors=True)
    eight_bits = data.layout.intensity == "absolute"
    described = replace(model.description, about=about, pixels="uint8" if eight_bits else "uint16")
    card = write_card(job.spec, data, about, curve)
    save_model(draft, described, model.network.state_dict(), half=True, card=card, measurer=measurer)
    kept = job.settings.home.models / keep_model(IMAGES, draft, job.settings.home.models)
    shutil.rmtree(draft, ignore_errors=True)
    return kept


@task(name="draw-pairs", cache_policy=NO_CACHE, persist_result=False)
def draw_beside_real(job: Job, data: TrainingData, kept: Path) -> Path:
    """Draw what real validation images show, beside them; a model that knows labels follows theirs."""
    model = load_model(kept)
    count = min(PAIRS, len(data.validation))
    order = stream(job.spec.seed, -1, -1, "train/pairs").permutation(len(data.validation))[:count]
    rows = [list_rows(data.validation, model.description.code)[place] for place in order]
    rows = [keep_taught(model, row) for row in rows]
    keys = [stream_key(job.spec.seed, place, 0, "train/pairs") for place in range(count)]
    made = model.sample(rows, keys, None if data.validation.maps is None else data.validation.maps[order])
    place = find_pictures(job, kept)
    captions = [describe_row(row) for row in rows]
    return draw_pairs(data.validation.images(order), made, captions, place / "real-above-drawn.png")


@task(name="draw-groups", cache_policy=NO_CACHE, persist_result=False)
def draw_by_attribute(job: Job, data: TrainingData, kept: Path, curve: StepsCurve | None) -> tuple[Path, ...]:
    """Draw what real validation images of each sex, age band, view and finding show, below them; and the curve."""
    model, place, found = load_model(kept), find_pictures(job, kept), []
    shown = [keep_taught(model, row) for row in list_rows(data.validation, model.description.code)]
    for condition in model.description.code.conditions:
        name = condition.attribute.name
        groups = choose_groups(data.validation, condition, job.spec.seed)
        made = []
        for group in groups:
            keys = [stream_key(job.spec.seed, int(one), 0, f"train/groups/{name}") for one in group.places]
            made.append(model.sample([shown[one] for one in group.places], keys))
        real = [data.validation.images(group.places) for group in groups]
        if groups:
            found.append(draw_groups(groups, real, made, place / f"by-{name}.png"))
    if curve is not None and curve.points:
        found.append(draw_curve(curve, place / "quality-against-steps.png"))
    return tuple(found)


def find_pictures(job: Job, kept: Path) -> Path:
    """Return the folder of a model's pictures, which is made."""
    place = job.settings.report_folder / "models" / kept.name[:16]
    make_folder(place)
    return place


@task(name="register", cache_policy=NO_CACHE, persist_result=False)
def register(
    job: Job, data: TrainingData, learned: Learned, kept: Path, pictures: tuple[Path, ...], curve: StepsCurve | None
) -> str:
    """Log curves, pictures, data and code, and register the model as candidate; return its address."""
    registry: Any = importlib.import_module("flows.model_registry")
    spec, trained, about = job.spec, learned.trained, dict(load_model(kept).description.about)
    params = {"model": kept.name, "recipe": spec.content_hash, "reference": data.reference, **flatten_recipe(spec)}
    params["threads"] = torch.get_num_threads()
    metrics = {"steps": float(trained.steps), "train_images": float(len(data.train))}
    if trained.losses:
        metrics["final_loss"] = mean_last(trained.losses)
    if learned.privacy is not None:
        metrics |= {
            "privacy_epsilon": learned.privacy["epsilon"],
            "privacy_epsilon_audited": learned.privacy["audit"]["epsilon_low"],
        }
    log = registry.RunLog(
        curves={"loss": trained.losses} if trained.losses else {},
        files=pictures,
        tags={"reference_fingerprint": data.fingerprint, "code": about["code"], "model_sha256": kept.name},
    )
    documents = {"recipe": spec.model_dump(mode="json"), "about": about}
    if curve is not None:
        metrics |= describe_metrics(curve)
        documents["steps-curve"] = make_plain(curve.to_json())
    made = registry.register_model(job.settings, kept, spec.name, params, metrics, documents, registry.IMAGES, log)
    return str(made.uri)


@flow(name="train-model", flow_run_name="{name}", persist_result=False, validate_parameters=False)
def train_flow(name: str) -> TrainResult:
    """Train the model of the job, keep it, log it, and register it."""
    job, began = _JOB.get(), time.monotonic()
    with open_work_folder(job.settings.home) as folder:
        data = read_images(job, folder)
        learned = learn(job, data)
        trained = learned.trained
        private = job.spec.privacy is not None  # what reads images would have seen them without noise
        measurer = learn_to_read(job, data) if job.spec.attributes and not private else None
        curve = None if private else try_steps(job, data, learned)  # its floor would be without noise, too
        kept = keep(job, data, learned, measurer, curve)
        pairs = draw_beside_real(job, data, kept)
        pictures = (pairs, *draw_by_attribute(job, data, kept, curve))
        address = register(job, data, learned, kept, pictures, curve) if job.register else None
    create_image_artifact(embed_picture(pairs), key="real-above-drawn", description=f"Model {kept.name[:12]}")
    read = tuple(reading.task.name for reading in measurer.readings) if measurer else ()
    result = TrainResult(
        name=name,
        model=kept.name,
        folder=str(kept),
        address=address,
        steps=trained.steps,
        finished=trained.finished,
        loss=mean_last(trained.losses) if trained.losses else None,
        train_images=len(data.train),
        train_patients=len(set(data.train.patient.tolist())),
        measured=read,
        pairs=str(pairs),
        pictures=tuple(map(str, pictures)),
        curve=make_plain(curve.to_json()) if curve else None,
        privacy=learned.privacy,
        seconds=round(time.monotonic() - began, 1),
        notes=data.notes,
    )
    shown = [{"fact": key, "value": str(value)} for key, value in asdict(result).items()]
    create_table_artifact(shown, key="training", description=f"Training of {name}")
    return result


def run_flow(
    settings: Settings,
    spec: TrainSpec,
    minutes: float | None,
    registered: bool,
    tell: Tell,
    thorough: bool = False,
    devices: str | None = None,
) -> TrainResult:
    """Run the flow; one process at a time trains a recipe.

    Raises BusyError if another does, StorageError or RetryableError if Prefect's server fails, besides what the tasks
    raise.
    """
    refresh_global_settings_context()  # Prefect was imported before the address of its server was known
    folder = settings.home.root / "training" / f"{spec.name}-{spec.content_hash[:10]}"
    make_folder(folder)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BusyError(f"another process trains '{spec.name}' in '{settings.home.root}'; wait for it.") from error
    token = _JOB.set(Job(settings, spec, minutes, registered, tell, folder, thorough, devices))
    try:
        with use_threads(settings.workers):
            result: TrainResult = train_flow(spec.name)
    except httpx.HTTPError as error:
        raise explain_server_failure(settings, error) from error
    finally:
        _JOB.reset(token)
        lock.release()
    return result
