"""One training from a recipe to a registered model: what can be checked at once is, then the flow runs."""

from __future__ import annotations

import importlib
from typing import Any

from catalog import ensure_catalog, open_catalog
from flows.server import local_server
from flows.settings import Settings
from flows.training_sources import open_training_source
from synth.evaluation.images.features.base import Tell
from synth.learned.recipe import TrainSpec


def run_training(
    settings: Settings,
    spec: TrainSpec,
    minutes: float | None,
    register: bool,
    tell: Tell,
    thorough: bool = False,
    devices: str | None = None,
) -> Any:
    """Train, keep, log and register the model of ``spec``; return how it went (see flows.train.TrainResult).

    ``devices`` is auto, cpu or a number; None is one CPU. Raises CatalogError, NotComparableError or ModelError for a
    Reference or a recipe that cannot be learned from, StorageError or BusyError if the machine or MLflow refuses;
    checkpoints are kept then, and nothing is half-registered.
    """
    if settings.home.metadata.is_file():
        ensure_catalog(settings.home)
    with open_catalog(settings.home) as catalog:
        open_training_source(catalog, spec)
    if devices is not None:
        importlib.import_module("synth.learned.devices").find_devices(devices)
    if register:
        importlib.import_module("flows.model_registry").check_registry(settings)
    with local_server(settings, meanwhile=_load_flow):
        return _load_flow().run_flow(settings, spec, minutes, register, tell, thorough, devices)


def _load_flow() -> Any:
    """Import the flow, with Prefect, torch and MLflow."""
    return importlib.import_module("flows.train")
