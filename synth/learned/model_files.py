"""Learned models on disk: a folder of ``model.json`` and ``weights.safetensors``. Nothing in it can run.

A folder comes into being whole or not at all. The hash of both files is the model's identity, and is checked.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from synth.errors import ModelError, StorageError
from synth.learned.conditions import Condition, ConditionCode
from synth.learned.generator import Generator, ModelDescription, Pixels, make_network
from synth.learned.maps import MapCode
from synth.learned.measurers import Measurer, read_measurer
from synth.learned.recipe import ArchitectureSpec, SamplerSpec
from synth.nouns import Attribute, AttributeKind

MODEL_FILE, WEIGHTS_FILE = "model.json", "weights.safetensors"
READERS = "measurers/"  # before the names of their weights
FORMAT_VERSION = 1  # raise it when an older reader would misread what is written
MOST_JSON_BYTES, MOST_WEIGHT_BYTES = 4 << 20, 4 << 30
SHIPPED = Path(__file__).with_name("models")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Condition(_Part):
    name: str
    kind: AttributeKind
    unit: str
    description: str
    values: tuple[str, ...]
    low: float
    high: float


class _Map(_Part):
    mask: str
    names: tuple[str, ...]


class ModelDocument(_Part):
    """What ``model.json`` holds."""

    format: Literal["cohortium-model"] = "cohortium-model"
    format_version: int = FORMAT_VERSION
    name: str
    kind: str
    shape: tuple[int, ...] = Field(min_length=2, max_length=3)
    seed: int
    architecture: ArchitectureSpec
    sampler: SamplerSpec
    conditions: tuple[_Condition, ...]
    weights_sha256: str
    measurers: list[dict[str, Any]] = []
    map: _Map | None = None
    pixels: Pixels = "uint16"
    about: dict[str, Any]


def save_model(
    folder: Path,
    description: ModelDescription,
    weights: Mapping[str, Tensor],
    half: bool = False,
    card: str = "",
    measurer: Measurer | None = None,
) -> str:
    """Write a model to ``folder``, which must not exist, and return its hash.

    ``half`` stores weights in half precision. Raises StorageError if the disk refuses; nothing is left then.
    """
    kind = torch.float16 if half else torch.float32
    readers = measurer.network.state_dict() if measurer else {}
    named = dict(weights) | {f"{READERS}{name}": values for name, values in readers.items()}
    stored = {name: values.detach().cpu().to(kind).contiguous() for name, values in sorted(named.items())}
    blob = safetensors.torch.save(stored)
    document = ModelDocument(
        name=description.name,
        kind=description.kind,
        shape=description.shape,
        seed=description.seed,
        architecture=description.architecture,
        sampler=description.sampler,
        conditions=tuple(
            _Condition(**asdict(c.attribute), values=c.values, low=c.low, high=c.high)
            for c in description.code.conditions
        ),
        measurers=measurer.describe() if measurer else [],
        map=_Map(**asdict(description.map)) if description.map else None,
        pixels=description.pixels,
        weights_sha256=hashlib.sha256(blob).hexdigest(),
        about=dict(description.about),
    )
    text = document.model_dump_json(indent=1).encode()
    files = {MODEL_FILE: text, WEIGHTS_FILE: blob} | ({"README.md": card.encode()} if card else {})
    try:
        _write_folder(folder, files)
    except OSError as error:
        raise StorageError(f"the model cannot be written to '{folder}' ({error.strerror}); nothing is left.") from error
    return hash_model(folder)


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        for name, content in files.items():
            with (made / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        os.replace(made, folder)
    except OSError:
        shutil.rmtree(made, ignore_errors=True)
        raise


def hash_model(folder: Path) -> str:
    """Return the SHA-256 of what makes a model: its description and the weights that this names."""
    return hashlib.sha256(_read(folder, MODEL_FILE, MOST_JSON_BYTES)).hexdigest()


def is_model(folder: Path) -> bool:
    """Return whether a folder holds a model, damaged or not."""
    return (folder / MODEL_FILE).is_file()


def load_model(folder: Path, expected: str | None = None, device: str = "cpu") -> Generator:
    """Return the model in ``folder``, whose hash must be ``expected`` if that is given.

    Raises ModelError if files are missing, foreign or changed.
    """
    text, blob = _read(folder, MODEL_FILE, MOST_JSON_BYTES), _read(folder, WEIGHTS_FILE, MOST_WEIGHT_BYTES)
    found = hashlib.sha256(text).hexdigest()
    if expected is not None and found != expected:
        raise ModelError(f"'{folder}' holds model {found[:12]}, not {expected[:12]}; it was changed or replaced.")
    document = _parse(folder, text)
    if hashlib.sha256(blob).hexdigest() != document.weights_sha256:
        raise ModelError(
            f"'{folder / WEIGHTS_FILE}' is damaged or was changed: its SHA-256 is not the registered one. Restore it, "
            "or name the model by the address it came from."
        )
    description = _describe(document)
    network = make_network(description).to_empty(device="cpu")
    try:
        weights = {name: values.float() for name, values in safetensors.torch.load(blob).items()}
        readers = {name.removeprefix(READERS): weights.pop(name) for name in list(weights) if name.startswith(READERS)}
        network.load_state_dict(weights)
        measurer = read_measurer(document.measurers, document.shape, readers) if document.measurers else None
    except (SafetensorError, RuntimeError, TypeError, KeyError) as error:
        raise ModelError(
            f"'{folder / WEIGHTS_FILE}' does not fit the network that '{MODEL_FILE}' describes."
        ) from error
    return Generator(description, network, found, device, measurer)


def read_description(folder: Path) -> ModelDescription:
    """Return what a model is, without its weights; raises ModelError as load_model."""
    return _describe(_parse(folder, _read(folder, MODEL_FILE, MOST_JSON_BYTES)))


def _describe(document: ModelDocument) -> ModelDescription:
    code = ConditionCode(
        tuple(
            Condition(Attribute(c.name, c.kind, c.unit, c.description), c.values, c.low, c.high)
            for c in document.conditions
        )
    )
    return ModelDescription(
        document.name, document.kind, document.shape, document.architecture, document.sampler, code, document.seed,
        document.about, MapCode(document.map.mask, document.map.names) if document.map else None, document.pixels,
    )  # fmt: skip


def _parse(folder: Path, text: bytes) -> ModelDocument:
    try:
        document = ModelDocument.model_validate_json(text)
    except ValidationError as error:
        raise ModelError(
            f"'{folder / MODEL_FILE}' is no model of Cohortium: {error.errors()[0]['msg']}. Models are folders of "
            f"{MODEL_FILE} and {WEIGHTS_FILE}, as `cohortium train` writes them; other formats are not read."
        ) from error
    if document.format_version > FORMAT_VERSION:
        raise ModelError(
            f"'{folder}' has format {document.format_version}, newer than {FORMAT_VERSION}; update Cohortium."
        )
    return document


def _read(folder: Path, name: str, most: int) -> bytes:
    path = folder / name
    try:
        if path.stat().st_size > most:
            raise ModelError(f"'{path}' has {path.stat().st_size} bytes; {most} are the most that is read.")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"'{folder}' is no model: '{name}' cannot be read ({error.strerror}). A model is a folder of {MODEL_FILE} "
            f"and {WEIGHTS_FILE}, as `cohortium train` writes them."
        ) from error
