"""What a trained model says of itself: the data, the recipe, the code, and a card for readers."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from flows.train_learning import Learned, describe_privacy
from flows.training_data import TrainingData
from synth.learned.generator import Generator
from synth.learned.recipe import TrainSpec
from synth.learned.steps_curve import StepsCurve, write_table
from synth.nouns import AttributeValue

CODE = Path(__file__).parents[1] / "synth" / "learned"


def describe_training(spec: TrainSpec, data: TrainingData, learned: Learned) -> dict[str, Any]:
    """Return what a model says of its training: the data, the recipe, the code, the machine."""
    trained = learned.trained
    private = learned.privacy is not None  # its losses have no noise
    return {
        "description": spec.description,
        "reference": data.reference,
        "reference_fingerprint": data.fingerprint,
        "licence": data.licence,
        "source": data.source,
        "train_images": len(data.train),
        "train_patients": len(set(data.train.patient.tolist())),
        "patients": spec.patients,
        "recipe": spec.content_hash,
        "privacy": learned.privacy,
        "steps": trained.steps,
        "finished": trained.finished,
        "final_loss": mean_last(trained.losses) if trained.losses and not private else None,
        "cohortium": importlib.metadata.version("cohortium") if _is_installed() else "source",
        "code": hash_code(),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }


def write_card(spec: TrainSpec, data: TrainingData, about: dict[str, Any], curve: StepsCurve | None = None) -> str:
    """Return the model card, in Markdown."""
    return "\n".join(
        [
            f"# {spec.name}",
            "",
            spec.description or "A model of images.",
            "",
            f"- Draws: {spec.kind}, {' x '.join(map(str, spec.shape))}.",
            f"- May be asked for: {', '.join(spec.attributes) or 'nothing'}.",
            *write_labels(spec, data),
            f"- Learned from {about['train_images']} images of {describe_patients(about)} of reference "
            f"'{data.reference}' (fingerprint {data.fingerprint[:16]}).",
            f"- Source: {data.source}. Licence: {data.licence}.",
            f"- Recipe {spec.content_hash[:16]}, code {about['code'][:16]}, {about['steps']} steps.",
            *write_privacy(about["privacy"]),
            "- Its images are synthetic, and not for diagnosis.",
            "",
            *(write_table(curve) if curve else []),
        ]
    )


def write_labels(spec: TrainSpec, data: TrainingData) -> list[str]:
    """Return the line of a card about the label map that a model follows."""
    if spec.labels is None:
        return []
    names = f": 1, 2, ... are {', '.join(spec.labels.names)}" if spec.labels.names else ""
    return [f"- Follows a label map, if it is given one: '{spec.labels.mask}' of '{data.reference}'{names}."]


def describe_patients(about: Mapping[str, Any]) -> str:
    """Return how many patients there were, or that nobody knows."""
    if about["patients"] == "images":
        return "patients who are not known (each image counts as a patient, so all checks by patient are weaker)"
    return f"{about['train_patients']} patients"


def write_privacy(found: dict[str, Any] | None) -> list[str]:
    """Return the lines of a card about a private training."""
    if found is None:
        return []
    return [
        f"- Trained with differential privacy: {describe_privacy(found)}.",
        "- Ranges and values of what may be asked for are public: the recipe gave them, no patient did. The number of "
        "patients counts as public, too.",
    ]


def hash_code() -> str:
    """Return the SHA-256 of the code that trains and draws."""
    digest = hashlib.sha256()
    for path in sorted(CODE.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def keep_taught(model: Generator, row: dict[str, AttributeValue]) -> dict[str, AttributeValue]:
    """Return a row without the numbers that are beyond those the model was taught."""
    limits = {c.attribute.name: (c.low, c.high) for c in model.description.code.conditions if c.numeric}

    def taught(name: str, value: AttributeValue) -> bool:
        if name not in limits or not isinstance(value, int | float):
            return True
        return limits[name][0] <= value <= limits[name][1]

    return {name: value for name, value in row.items() if taught(name, value)}


def describe_row(row: dict[str, AttributeValue]) -> str:
    """Return what is asked for in two short lines."""
    words = [
        "+".join(value) or "none" if isinstance(value, tuple | list) else str(value)
        for value in row.values()
        if value is not None
    ]
    text = ", ".join(words)
    return text[:22] + "\n" + text[22:44]


def mean_last(losses: tuple[float, ...], count: int = 100) -> float:
    """Return the mean of the last losses, which are noisy."""
    last = losses[-count:]
    return sum(last) / len(last)


def _is_installed() -> bool:
    try:
        return bool(importlib.metadata.version("cohortium"))
    except importlib.metadata.PackageNotFoundError:
        return False


def flatten_recipe(spec: TrainSpec) -> dict[str, Any]:
    """Return the recipe as flat parameters: ``training.steps`` -> 3000."""
    flat: dict[str, Any] = {}
    for name, value in spec.model_dump(mode="json").items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": each for inner, each in value.items()}
        else:
            flat[name] = value
    return flat
