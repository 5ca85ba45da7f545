"""What a training learns: the network on one device or several, its few-step student, or a network in private."""

from __future__ import annotations

import importlib
import os
import secrets
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalog.home import explain_refusals
from flows.models import IMAGES, find_model
from flows.settings import Settings
from flows.training_data import TrainingData
from synth.errors import ModelError
from synth.evaluation.images.features.base import Tell
from synth.learned.audit import Audit, audit_model, plant_canaries
from synth.learned.conditions import list_rows
from synth.learned.distillation import distil_model
from synth.learned.generator import Generator
from synth.learned.model_files import load_model
from synth.learned.recipe import TrainSpec
from synth.learned.training import Trained, train_model

SECRET = "canaries"  # the file that says which patients are canaries, for as long as the checkpoints
Learn = Callable[..., Trained]


@dataclass(frozen=True)
class Learned:
    """A training, the model that is kept of it (the student, if it has one), and what its privacy is known to be."""

    trained: Trained
    model: Generator
    privacy: dict[str, Any] | None = None


def learn_model(
    settings: Settings,
    spec: TrainSpec,
    data: TrainingData,
    folder: Path,
    minutes: float | None,
    devices: str | None,
    tell: Tell,
) -> Learned:
    """Train what ``spec`` asks for; checkpoints are in ``folder``. ``devices`` is as for find_devices; None: one CPU.

    Raises ModelError for what cannot be learned, or if the audit of a private training contradicts its accounts.
    """
    start = load_model(find_model(IMAGES, spec.start, settings)) if spec.start else None
    if spec.privacy is not None:
        return _learn_privately(spec, data, folder, start, minutes, devices, tell)
    trained = _choose_trainer(devices)(spec, data.train, folder, start=start, minutes=minutes, tell=tell)
    if spec.few_steps is None or not trained.finished:
        return Learned(trained, trained.generator)
    rows = list_rows(data.train, trained.generator.description.code)
    return Learned(trained, distil_model(trained.generator, rows, spec.few_steps, spec.seed, tell, data.train.maps))


def _choose_trainer(devices: str | None) -> Learn:
    if devices is None:
        return train_model
    several: Any = importlib.import_module("synth.learned.devices")  # loads Lightning Fabric
    found = several.find_devices(devices)

    def train(spec: TrainSpec, images: Any, folder: Path, **options: Any) -> Trained:
        return several.train_on_devices(spec, images, folder, found, **options)

    return train


def _learn_privately(
    spec: TrainSpec,
    data: TrainingData,
    folder: Path,
    start: Generator | None,
    minutes: float | None,
    devices: str | None,
    tell: Tell,
) -> Learned:
    """Train with canaries among the patients, and audit what they give away before anything else is done."""
    asked = spec.privacy
    assert asked is not None
    if devices not in (None, "cpu"):
        raise ModelError("privacy: a private training runs on one CPU; leave --devices out.")
    if start is not None and start.description.about.get("reference_fingerprint") == data.fingerprint:
        raise ModelError(
            f"start: '{start.description.name}' learned from reference '{data.reference}' already, which no noise "
            "undoes. Start from a model of other data, or leave start out."
        )
    images, canaries = plant_canaries(data.train, asked.canaries, asked.delta, read_secret(folder))
    secret = secrets.randbits(128)  # of the noise: never stored
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # hints of Opacus to whoever develops with it
        trained = train_model(spec, images, folder, start=start, secret=secret, minutes=minutes, tell=tell)
    if trained.privacy is None:
        raise ModelError(f"privacy: family '{spec.architecture.name}' was trained without noise; choose flow or ddpm.")
    tell("auditing with canaries", 0, 1)
    audit: Audit = audit_model(trained.generator.measure_losses, canaries, asked.delta)
    return Learned(trained, trained.generator, trained.privacy.describe(trained.steps, audit))


def read_secret(folder: Path) -> int:
    """Return the secret that decides about the canaries of a training; an interrupted one goes on with its own."""
    path = folder / SECRET
    if path.is_file():
        return int(path.read_text(encoding="ascii"), 16)
    with explain_refusals(folder):
        draft = path.with_suffix(".partial")
        draft.write_text(f"{secrets.randbits(128):032x}", encoding="ascii")
        os.replace(draft, path)
    return int(path.read_text(encoding="ascii"), 16)


def describe_privacy(found: dict[str, Any]) -> str:
    """Return in a sentence what a private training spent and what its audit shows; never the one without the other."""
    audit = found["audit"]
    return (
        f"epsilon {found['epsilon']:g} at delta {found['delta']:g} by the accounts, for all images of a patient; "
        f"{audit['canaries']} canaries show that it is at least {audit['epsilon_low']:g} (95 % confidence; an audit of "
        f"this size shows {audit['epsilon_most']:.2g} at most)"
    )
