"""Encoders as files: weights as safetensors, everything else as JSON. Neither can run anything when it is read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError

from synth.errors import PermanentError
from synth.evaluation.images.features.encoder import VERSION, Encoder, EncoderForm, EncoderNetwork
from synth.evaluation.images.features.encoder_lessons import EncoderSettings
from synth.evaluation.images.sets import RealImages

WEIGHTS_FILE, FORM_FILE = "encoder.safetensors", "encoder.json"
MOST_PIXELS, MOST_WIDTH = 1 << 24, 4096  # of an encoder that is read: larger numbers are not an encoder of ours
_MEAN, _SPREAD = "feature_mean", "feature_spread"


class EncoderFileError(PermanentError):
    """A stored encoder cannot be read: not ours, damaged, or changed since it was saved."""


class _StoredForm(BaseModel):
    """What encoder.json holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    grid: tuple[int, ...] = Field(min_length=2, max_length=3)
    widths: tuple[int, ...] = Field(min_length=1, max_length=12)
    embedding: int = Field(ge=1, le=MOST_WIDTH)
    mean: float = Field(allow_inf_nan=False)
    spread: float = Field(gt=0, allow_inf_nan=False)
    weights_sha256: str
    learned: dict[str, Any] = {}

    def build(self) -> EncoderForm:
        """Return the form; raises ValueError if a network of it would not be one of ours."""
        if min(self.grid) < 1 or np.prod(self.grid, dtype=float) > MOST_PIXELS:
            raise ValueError(f"a grid of {self.grid}")
        if min(self.widths) < 1 or max(self.widths) > MOST_WIDTH:
            raise ValueError(f"widths of {self.widths}")
        return EncoderForm(self.grid, self.widths, self.embedding, self.mean, self.spread)


def encoder_key(real: RealImages, settings: EncoderSettings | None = None) -> str:
    """Return what an encoder of this reference and these settings is kept under: equal keys, equal training."""
    split = hashlib.sha256()
    for images in (real.train, real.validation):
        split.update("\n".join([images.name, *images.image_ids, ""]).encode())
    parts = {
        "version": VERSION, "reference": real.fingerprint, "split": split.hexdigest(),
        "layout": asdict(real.layout), "settings": asdict(settings or EncoderSettings()),
    }  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def save_encoder(encoder: Encoder, folder: Path) -> None:
    """Write ``folder``/encoder.safetensors and encoder.json; the JSON last, so that a torn pair is noticed."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: values.detach().cpu().contiguous() for name, values in encoder.weights.items()}
    tensors |= {_MEAN: torch.from_numpy(encoder.mean), _SPREAD: torch.from_numpy(encoder.spread)}
    written = safetensors.torch.save(tensors)
    form = {
        "version": VERSION, **asdict(encoder.form), "weights_sha256": hashlib.sha256(written).hexdigest(),
        "learned": dict(encoder.learned),
    }  # fmt: skip
    _replace_file(folder / WEIGHTS_FILE, written)
    _replace_file(folder / FORM_FILE, (json.dumps(form, indent=1) + "\n").encode())


def load_encoder(folder: Path, device: str = "cpu") -> Encoder:
    """Return the encoder of save_encoder; raises EncoderFileError if it is not whole, not ours or was changed."""
    form_file, weights_file = folder / FORM_FILE, folder / WEIGHTS_FILE
    try:
        stored = _StoredForm.model_validate_json(form_file.read_bytes())
        written = weights_file.read_bytes()
        form = stored.build()
    except OSError as error:
        raise EncoderFileError(
            f"no encoder can be read from {folder}: {error.strerror or error}. It needs {FORM_FILE} and {WEIGHTS_FILE}."
        ) from error
    except (ValidationError, ValueError) as error:
        raise EncoderFileError(f"{form_file} does not describe an encoder of Cohortium: {error}") from error
    if stored.version != VERSION:
        raise EncoderFileError(f"{form_file} is of '{stored.version}'; this is {VERSION}. Train the encoder again.")
    if hashlib.sha256(written).hexdigest() != stored.weights_sha256:
        raise EncoderFileError(f"{weights_file} is not what {FORM_FILE} was written for. Train the encoder again.")
    return _build_encoder(form, written, stored.learned, device, weights_file)


def _build_encoder(form: EncoderForm, written: bytes, learned: dict[str, Any], device: str, file: Path) -> Encoder:
    try:
        tensors = safetensors.torch.load(written)
    except SafetensorError as error:
        raise EncoderFileError(f"{file} is not a safetensors file: {error}") from error
    wanted = {name: tuple(values.shape) for name, values in EncoderNetwork(form).state_dict().items()}
    wanted |= {_MEAN: (form.embedding,), _SPREAD: (form.embedding,)}
    given = {name: tuple(values.shape) for name, values in tensors.items()}
    if given != wanted or any(values.dtype != torch.float32 for values in tensors.values()):
        wrong = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
        raise EncoderFileError(f"{file} has other arrays than its form needs (float32): {', '.join(wrong[:5])}.")
    mean, spread = tensors.pop(_MEAN).numpy(), tensors.pop(_SPREAD).numpy()
    return Encoder(form, tensors, mean, spread, learned, device)


def _replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old or the new content, never half of it."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(content)
    temporary.replace(path)
