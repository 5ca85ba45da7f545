"""Any encoder that lies in a file of the user's own: TorchScript, ONNX, or an encoder of Cohortium.

A TorchScript or ONNX file is a program. It runs with the rights of whoever names it, so only files from a source that
is trusted belong here; Cohortium itself never downloads or writes one.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from synth.evaluation.images.features.base import FeatureExtractor
from synth.evaluation.images.features.encoder_files import FORM_FILE, WEIGHTS_FILE, EncoderFileError, load_encoder
from synth.evaluation.images.features.fitting import resize_images
from synth.evaluation.images.layout import Floats32

TORCHSCRIPT, ONNX, SAFETENSORS = (".pt", ".ts", ".pth", ".torchscript"), (".onnx",), (".safetensors",)
USUAL_SIZE, USUAL_BATCH = 224, 16  # where neither the file nor the user says
MOST_FEATURES = 16384
Shape = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class FileSettings:
    """What a file may not say of itself. None takes it from the file, else 224 pixels and 3 channels (volumes: 1).

    Each channel is (intensity - ``mean``) / ``spread``, where intensity is 0 for black and 1 for white: a network that
    wants 0 to 255 has a spread of 1 / 255. Give one number, or one a channel.
    """

    size: int | None = None
    channels: int | None = None
    mean: tuple[float, ...] = (0.0,)
    spread: tuple[float, ...] = (1.0,)


@dataclass(frozen=True)
class _Program:
    """A loaded file: what it computes, and what it says of its input (batch, then channels and grid, None: any)."""

    run: Callable[[Floats32], Any]
    batch: int | None
    channels: int | None
    grid: Shape
    channels_last: bool = False


@dataclass(frozen=True)
class FileFeatures:
    """Features of a program in a file. Nothing is rescaled, so that scores can be compared with published ones."""

    path: Path
    fingerprint: str
    dimensions: int
    grid: tuple[int, ...]
    channels: int
    batch: int
    settings: FileSettings
    program: _Program

    @property
    def name(self) -> str:
        """The name that scores carry."""
        return f"file:{self.path.stem}"

    def extract(self, images: Floats32) -> Floats32:
        """Return (n, dimensions) features of (n, *grid) images; raises EncoderFileError if they are not numbers."""
        found = [
            _run(self, images[start : start + self.batch])[: len(images) - start]
            for start in range(0, len(images), self.batch)
        ]
        return np.concatenate(found) if found else np.empty((0, self.dimensions), np.float32)


def load_local_encoder(
    path: Path, dimensions: int, settings: FileSettings | None = None, device: str = "cpu"
) -> FeatureExtractor:
    """Return the encoder in ``path`` for images with ``dimensions`` axes in space, tried on one batch.

    Raises EncoderFileError if it is missing, of another kind, or does not take such images.
    """
    settings = settings or FileSettings()
    if path.is_dir() or path.suffix.lower() in SAFETENSORS:
        return _load_own(path, dimensions, device)
    loaders = {**dict.fromkeys(TORCHSCRIPT, _load_torchscript), **dict.fromkeys(ONNX, _load_onnx)}
    loader = loaders.get(path.suffix.lower())
    if loader is None:
        allowed = ", ".join((*TORCHSCRIPT, *ONNX, *SAFETENSORS))
        raise EncoderFileError(f"'{path.name}' is no encoder that can be read: its name must end in {allowed}.")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EncoderFileError(f"encoder {path} cannot be read: {error.strerror or error}.") from error
    program = loader(path, dimensions, device)
    sizes = [own or settings.size or USUAL_SIZE for own in program.grid]
    if settings.size and any(own not in (None, settings.size) for own in program.grid):
        raise EncoderFileError(f"encoder {path.name} takes a grid of {program.grid}; size {settings.size} was given.")
    channels = settings.channels or program.channels or (3 if dimensions == 2 else 1)
    fingerprint = hashlib.sha256(f"{digest}/{asdict(settings)}/{sizes}/{channels}".encode()).hexdigest()
    features = FileFeatures(
        path, fingerprint, 0, tuple(sizes), channels, program.batch or USUAL_BATCH, settings, program
    )
    _check_scale(features)
    found = _run(features, np.linspace(0, 1, int(np.prod(sizes)), dtype=np.float32).reshape(1, *sizes))
    return replace(features, dimensions=found.shape[1])


def _load_own(path: Path, dimensions: int, device: str) -> FeatureExtractor:
    if path.is_file() and path.name != WEIGHTS_FILE:
        raise EncoderFileError(
            f"'{path.name}' holds weights without the network they belong to. Cohortium reads its own {WEIGHTS_FILE} "
            f"beside {FORM_FILE}; export other networks as TorchScript or ONNX."
        )
    folder = path if path.is_dir() else path.parent
    encoder = load_encoder(folder, device)
    if len(encoder.form.grid) != dimensions:
        raise EncoderFileError(
            f"the encoder in {folder} was trained on images with {len(encoder.form.grid)} axes; "
            f"these have {dimensions}."
        )
    return replace(encoder, name=f"file:{folder.name}")


def _load_torchscript(path: Path, dimensions: int, device: str) -> _Program:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # exported files are many and stay readable
        try:
            module = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            raise EncoderFileError(
                f"encoder {path.name} is not a TorchScript file: {_first_line(error)} Weights alone (torch.save) are "
                "refused, for reading them can run code; export the model with torch.jit.trace."
            ) from error
    module.eval()
    kernels = [values for values in module.state_dict().values() if values.ndim == dimensions + 2]
    channels = int(kernels[0].shape[1]) if kernels else None  # of the first convolution

    def run(images: Floats32) -> Any:
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            return module(torch.from_numpy(images).to(device))

    return _Program(run, None, channels, (None,) * dimensions)


def _load_onnx(path: Path, dimensions: int, device: str) -> _Program:
    try:
        import onnxruntime  # type: ignore[import-untyped]
        from onnxruntime.capi import onnxruntime_pybind11_state as state  # type: ignore[import-untyped]
    except ImportError as error:
        raise EncoderFileError(
            f"encoder {path.name} needs the library onnxruntime: pip install 'cohortium[onnx]'."
        ) from error
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")
    failures = (*(getattr(state, name) for name in names), state.RuntimeException, ValueError)
    wanted = ["CUDAExecutionProvider"] * device.startswith("cuda") + ["CPUExecutionProvider"]
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised, and said once
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except failures as error:
        raise EncoderFileError(f"encoder {path.name} is not an ONNX model: {_first_line(error)}") from error
    given = session.get_inputs()[0]
    shape = [size if isinstance(size, int) and size > 0 else None for size in given.shape]
    if len(session.get_inputs()) != 1 or len(shape) != dimensions + 2 or given.type != "tensor(float)":
        raise EncoderFileError(
            f"encoder {path.name} takes {len(session.get_inputs())} inputs, the first {given.type} {given.shape}; "
            f"it must take one of float32 with {dimensions + 2} axes: images, channels and {dimensions} in space."
        )
    last = shape[1] not in (1, 3) and shape[-1] in (1, 3)
    channels, grid = (shape[-1], shape[1:-1]) if last else (shape[1], shape[2:])

    def run(images: Floats32) -> Any:
        try:
            return session.run(None, {given.name: images})
        except failures as error:
            raise RuntimeError(_first_line(error)) from error

    return _Program(run, shape[0], channels, tuple(grid), last)


def _check_scale(features: FileFeatures) -> None:
    for name in ("mean", "spread"):
        given = getattr(features.settings, name)
        if len(given) not in (1, features.channels) or not np.isfinite(given).all():
            raise EncoderFileError(
                f"encoder {features.path.name} has {features.channels} channels; {name} has {len(given)} numbers "
                f"({given}). Give one number, or one a channel."
            )
    if min(features.settings.spread) <= 0:
        raise EncoderFileError(f"spread must be above 0; {features.settings.spread} was given.")


def _run(features: FileFeatures, images: Floats32) -> Floats32:
    """Return (batch, d) features of up to one batch of images, filled up to a whole one with black images."""
    resized = resize_images(images, features.grid)
    filled = np.zeros((features.batch, features.channels, *features.grid), np.float32)
    filled[: len(images)] = resized[:, None]
    axes = (features.channels, *[1] * len(features.grid))
    mean, spread = (
        np.broadcast_to(np.asarray(part, np.float32), features.channels).reshape(axes)
        for part in (features.settings.mean, features.settings.spread)
    )
    filled = (filled - mean) / spread
    if features.program.channels_last:
        filled = np.ascontiguousarray(np.moveaxis(filled, 1, -1))
    try:
        raw = features.program.run(filled)
    except (RuntimeError, ValueError, TypeError) as error:
        raise EncoderFileError(
            f"encoder {features.path.name} does not take images of shape {filled.shape}: {_first_line(error)}. "
            "An ONNX file can state its size; of others say size and channels in Python: FileSettings."
        ) from error
    return _pool(raw, features, filled.shape)


def _pool(raw: Any, features: FileFeatures, given: tuple[int, ...]) -> Floats32:
    """Return what a program gave as (batch, d): of several outputs the pooled one, means over tokens or space."""
    output = _choose_output(raw)
    values = output.detach().float().cpu().numpy() if isinstance(output, torch.Tensor) else np.asarray(output)
    if values.ndim > 2:  # axes of one value, such as those that pooling leaves
        values = values.reshape(len(values), *([size for size in values.shape[1:] if size > 1] or [1]))
    if values.ndim > 3:  # (batch, d, *space), or d last
        space = tuple(range(1, values.ndim - 1)) if features.program.channels_last else tuple(range(2, values.ndim))
        values = values.mean(axis=space)
    elif values.ndim == 3:  # (batch, tokens, d) of a transformer
        values = values.mean(axis=1)
    if values.ndim != 2 or len(values) != features.batch or not 1 <= values.shape[1] <= MOST_FEATURES:
        raise EncoderFileError(
            f"encoder {features.path.name} was given images of shape {given} and returned {np.shape(output)}; "
            f"it must return one vector of at most {MOST_FEATURES} numbers an image."
        )
    if not np.isfinite(values).all():
        raise EncoderFileError(
            f"encoder {features.path.name} returned values that are not numbers (NaN or infinite). "
            "Check the scale of its input (mean, spread)."
        )
    return np.asarray(values, np.float32)


def _choose_output(raw: Any) -> Any:
    """Return the output named pooler_output, else the first with two axes, else the first."""
    if isinstance(raw, dict):
        return raw.get("pooler_output", next(iter(raw.values()), None))
    if isinstance(raw, list | tuple):
        return next((part for part in raw if np.ndim(part) == 2), raw[0] if raw else None)
    return raw


def _first_line(error: BaseException) -> str:
    """Return the line of a library's error that says what is wrong: the last one that is not empty."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
