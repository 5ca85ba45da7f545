"""Models in MLflow, of people and of images: a run that says how each was made, and a registered model, no pickle."""

from __future__ import annotations

import re
import shutil
import sqlite3
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flows.settings import Settings  # sets MLflow's quiet defaults before it is imported
from flows.tracking import use_store

import mlflow  # isort: skip
import mlflow.pyfunc
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from synth.errors import ModelError, PermanentError, PopulationError, StorageError, suggest_nearest

CANDIDATE, CHAMPION = "candidate", "champion"
PREFIX = "population-"
UNREGISTERED = "Run the same command again when it answers, or leave it out with --no-register."
LONGEST_TAG = 1000
MOST_POINTS = 1000  # of a curve; MLflow stores each as a row
_NEEDED = ("mlflow", "numba", "numpy", "pandas", "pyarrow", "pydantic", "safetensors", "scipy")  # besides Cohortium


@dataclass(frozen=True, slots=True)
class ModelKind:
    """A kind of registered model. ``artifact`` is the folder of its files, which the code in ``code`` loads."""

    name: str
    experiment: str
    artifact: str
    prefix: str
    code: str
    needed: tuple[str, ...]
    error: type[PermanentError]


PEOPLE = ModelKind(
    "population model", "populations", "population", PREFIX, "population_pyfunc.py", _NEEDED, PopulationError
)
IMAGES = ModelKind(
    "model of images", "models", "images", "", "images_pyfunc.py", (*_NEEDED, "monai", "torch"), ModelError
)
KINDS = {kind.name: kind for kind in (PEOPLE, IMAGES)}


@dataclass(frozen=True, slots=True)
class RunLog:
    """What else the run of a model is told: ``curves`` are values by step, ``files`` become artifacts."""

    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    files: Sequence[Path] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """Where a model is registered."""

    name: str
    version: str
    run_id: str

    @property
    def uri(self) -> str:
        """The address by which ``sample`` and MLflow find it."""
        return f"models:/{self.name}@{CANDIDATE}"


def name_model(text: str) -> str:
    """Return the registered name for a model called ``text``: population- and letters, digits and '-'."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:48].strip("-")
    return f"{PREFIX}{plain.removeprefix(PREFIX) or 'model'}"


def register_model(
    settings: Settings,
    folder: Path,
    name: str,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    documents: Mapping[str, Any],
    kind: ModelKind = PEOPLE,
    log: RunLog | None = None,
) -> RegisteredModel:
    """Log a run with the model in ``folder`` as its artifact and register it with the alias candidate.

    Nothing is registered before all of it is stored. ``documents`` are kept as JSON files by name. Raises StorageError
    if MLflow's store cannot be written.
    """
    unregistered = f"the model is saved in '{folder}', but not registered"
    with _explain_store(settings, unregistered, UNREGISTERED), warnings.catch_warnings(), use_store(settings):
        warnings.simplefilter("ignore")  # hints about signatures and type hints
        experiment = _find_experiment(settings, kind)
        with mlflow.start_run(experiment_id=experiment, run_name=name) as run:
            mlflow.log_params({key: str(value)[:500] for key, value in params.items() if value is not None})
            mlflow.log_metrics(dict(metrics))
            for file, document in documents.items():
                mlflow.log_dict(document, f"{file}.json")
            _log_rest(log or RunLog(), run.info.run_id)
            logged = _log_model(folder, kind)
        made = _add_version(name, logged, run.info.run_id)
    return RegisteredModel(name, made, run.info.run_id)


def check_registry(settings: Settings) -> None:
    """Raise StorageError if MLflow's store does not answer: before hours of work, not after them."""
    with _explain_store(settings, "nothing was done yet", UNREGISTERED), use_store(settings):
        MlflowClient().search_registered_models(max_results=1)


def _add_version(name: str, logged: Any, run_id: str) -> str:
    """Register a logged model as a new version, the candidate; if that fails half-way, what there is of it goes."""
    client = MlflowClient()
    new = not client.search_registered_models(f"name = '{name}'")
    version_made: str | None = None
    if new:
        client.create_registered_model(name)
    try:
        version_made = str(
            client.create_model_version(name, logged.model_uri, run_id, model_id=logged.model_id).version
        )
        client.set_registered_model_alias(name, CANDIDATE, version_made)
    except (MlflowException, OSError):
        with suppress(MlflowException, OSError):
            if new:
                client.delete_registered_model(name)
            elif version_made is not None:
                client.delete_model_version(name, version_made)
        raise
    return version_made


def _log_rest(log: RunLog, run_id: str) -> None:
    mlflow.set_tags(dict(log.tags))
    for name, values in log.curves.items():
        every = max(1, -(-len(values) // MOST_POINTS))
        now_ms = int(time.time() * 1000)
        points = [Metric(name, float(values[step]), now_ms, step) for step in range(0, len(values), every)]
        for first in range(0, len(points), MOST_POINTS):
            MlflowClient().log_batch(run_id, metrics=points[first : first + MOST_POINTS])
    for file in log.files:
        mlflow.log_artifact(str(file))


def _log_model(folder: Path, kind: ModelKind) -> Any:
    """Log the model in ``folder`` with the active run, from a copy: MLflow names an artifact as its folder."""
    with tempfile.TemporaryDirectory() as place:
        staged = Path(place) / kind.artifact
        shutil.copytree(folder, staged)
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name(kind.code)),
            artifacts={kind.artifact: str(staged)},
            pip_requirements=[f"{package}=={version(package)}" for package in kind.needed],
        )


def fetch_version(settings: Settings, uri: str, kind: str) -> tuple[str, Path]:
    """Return the address of the version that ``uri`` names now, and its folder; ``kind`` is one of KINDS."""
    folder = fetch_model(settings, uri, KINDS[kind])
    name, at, alias = uri.rstrip("/").removeprefix("models:/").partition("@")
    if not at:
        return f"models:/{name}", folder
    with _explain_store(settings, f"'{uri}' cannot be fetched"), use_store(settings):
        return f"models:/{name}/{MlflowClient().get_model_version_by_alias(name, alias).version}", folder


def fetch_model(settings: Settings, uri: str, kind: ModelKind = PEOPLE) -> Path:
    """Return the folder of the registered model that ``models:/NAME@ALIAS`` or ``models:/NAME/3`` names.

    Only data is fetched: the code that MLflow keeps with the model is not run.
    """
    with _explain_store(settings, f"'{uri}' cannot be fetched"), use_store(settings):
        try:
            return Path(mlflow.artifacts.download_artifacts(f"{uri.rstrip('/')}/artifacts/{kind.artifact}"))
        except (MlflowException, OSError) as error:
            known = sorted(model.name for model in MlflowClient().search_registered_models())
            known = [name for name in known if name.startswith(PREFIX) == (kind is PEOPLE)]
            raise kind.error(
                f"'{uri}' is no registered {kind.name} ({_first_line(error)}). "
                f"Registered: {', '.join(known) or 'none'}; write models:/NAME@{CANDIDATE} or models:/NAME/VERSION."
            ) from error


def read_aliases(settings: Settings, name: str) -> dict[str, str]:
    """Return alias -> version of a registered model of images; raises ModelError, saying what there is, if none is."""
    with _explain_store(settings, f"model '{name}' cannot be looked up"), use_store(settings):
        found = {model.name: model for model in MlflowClient().search_registered_models()}
    if name not in found or name.startswith(PREFIX):
        known = [each for each in sorted(found) if not each.startswith(PREFIX)]
        raise ModelError(
            f"no model of images is registered as '{name}'.{suggest_nearest(name, known)} Registered: "
            f"{', '.join(known) or 'none'}; `cohortium train` registers one."
        )
    return {str(alias): str(version) for alias, version in dict(found[name].aliases).items()}


def record_decision(
    settings: Settings,
    name: str,
    version: str,
    promoted: bool,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    documents: Mapping[str, Any],
) -> str:
    """Log a run about whether a version becomes champion, tag the version, and move the alias last; return the run.

    ``documents`` are kept as JSON files by name. Raises StorageError if MLflow's store cannot be written; the alias is
    then where it was.
    """
    unmoved = f"the decision about '{name}' version {version} is not recorded, and the champion is as before"
    with _explain_store(settings, unmoved), use_store(settings):
        experiment, client = _find_experiment(settings, IMAGES), MlflowClient()
        with mlflow.start_run(experiment_id=experiment, run_name=f"promote {name} {version}") as run:
            mlflow.log_params({"model": name, "version": version, "promoted": str(promoted)})
            mlflow.log_metrics(dict(metrics))
            mlflow.set_tags(dict(tags))
            for file, document in documents.items():
                mlflow.log_dict(document, f"{file}.json")
        for key, text in {**tags, "promotion_run": run.info.run_id}.items():
            client.set_model_version_tag(name, version, key, text[:LONGEST_TAG])
        if promoted:
            client.set_registered_model_alias(name, CHAMPION, version)
    return str(run.info.run_id)


def _find_experiment(settings: Settings, kind: ModelKind) -> str:
    client = MlflowClient()
    experiment = client.get_experiment_by_name(kind.experiment)
    if experiment is not None:
        return str(experiment.experiment_id)
    local = settings.tracking_uri.startswith("sqlite:")
    location = (settings.home.root / "mlartifacts").as_uri() if local else None
    return str(client.create_experiment(kind.experiment, artifact_location=location))


@contextmanager
def _explain_store(settings: Settings, happened: str, hint: str = "Try again when it answers.") -> Iterator[None]:
    try:
        yield
    except StorageError as error:  # of what prepares the store
        raise StorageError(f"{happened}: {error}") from error
    except (MlflowException, OSError, sqlite3.Error) as error:
        raise StorageError(
            f"{happened}: MLflow's store '{settings.tracking_uri}' refused ({_first_line(error)}). {hint}"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
