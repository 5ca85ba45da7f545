"""One promotion: what can be checked at once is, then the flow runs."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from catalog import ensure_catalog
from flows.server import local_server
from flows.settings import Settings
from synth.errors import ModelError
from synth.evaluation.images.features.base import Tell


@dataclass(frozen=True, slots=True)
class PromotionRequest:
    """Which version of a registered model is to be champion, and how it is judged."""

    name: str
    version: str | None
    by: str
    images: int
    features: tuple[str, ...]
    seed: int


def run_promotion(settings: Settings, request: PromotionRequest, tell: Tell) -> Any:
    """Judge, decide and record; return how it went (see flows.promote.PromotionResult).

    Raises ModelError for what cannot be judged, CatalogError without its Reference, StorageError if MLflow refuses:
    the champion is as before then.
    """
    least = importlib.import_module("synth.learned.promotion").LEAST_IMAGES
    if request.images < least:
        raise ModelError(f"--images: {request.images} decide nothing; draw {least} at least.")
    importlib.import_module("flows.model_registry").read_aliases(settings, request.name)
    if settings.home.metadata.is_file():
        ensure_catalog(settings.home)
    with local_server(settings, meanwhile=_load_flow):
        return _load_flow().run_flow(settings, request, tell)


def _load_flow() -> Any:
    """Import the flow, with Prefect, torch and MLflow."""
    return importlib.import_module("flows.promote")
