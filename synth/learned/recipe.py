"""TrainSpec: what a model is to be trained on, and how. TOML -> frozen, validated models with a stable content hash."""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from synth.errors import SpecError, suggest_nearest
from synth.learned.shapes import MOST_PIXELS
from synth.recipe_part import MAX_NAME, Probability, RecipePart, Unique, check_name, explain_problems

FLOWS = ("flow", "latent-flow")  # families that walk along straight lines from noise to an image
_LATER = {
    "labels": None,
    "autoencoder": None,
    "shift": 1.0,
    "fade": 0.0,
}  # came later: recipes without them keep their hash
MAPPED = (*FLOWS, "ddpm")  # families that can be given a label map


class AutoencoderSpec(RecipePart):
    """The network of family latent-flow that brings images to latent places and back (MONAI's AutoencoderKL)."""

    channels: tuple[int, ...] = Field(
        (32, 64, 64), min_length=2, max_length=6, description="width of each level; all but the first halve the grid"
    )
    latent: int = Field(4, ge=1, le=64, description="numbers of a latent place")
    blocks: int = Field(1, ge=1, le=4, description="residual blocks of each level")

    @model_validator(mode="after")
    def _check_channels(self) -> AutoencoderSpec:
        _check_widths(self.channels)
        return self

    @property
    def zoom(self) -> int:
        """Pixels along a side of a latent place."""
        return int(2 ** (len(self.channels) - 1))


class ArchitectureSpec(RecipePart):
    """Which family of models, and how large its network is. Each family says which of these it uses."""

    name: str = Field("flow", description="family: flow, latent-flow, ddpm, vae or gaussian")
    channels: tuple[int, ...] = Field((64, 96, 128), min_length=1, max_length=6, description="width of each level")
    blocks: int = Field(1, ge=1, le=4, description="residual blocks of each level")
    attention: int = Field(1, ge=0, le=6, description="how many of the coarsest levels attend to all places")
    patch: int = Field(2, ge=1, le=8, description="pixels (or latent places) along a side of the finest level's places")
    shift: float = Field(
        1.0,
        ge=0.05,
        le=20,
        description="of a flow's times; below 1: more work near the image, where detail comes about",
    )
    latent: int = Field(64, ge=1, le=4096, description="length of the code of families vae and gaussian")
    autoencoder: AutoencoderSpec | None = Field(None, description="of family latent-flow alone")

    @model_validator(mode="after")
    def _check_channels(self) -> ArchitectureSpec:
        _check_widths(self.channels)
        if self.autoencoder is not None and self.name != "latent-flow":
            raise ValueError(f"autoencoder: '{self.name}' has none; leave it out, or set name = 'latent-flow'")
        return self

    @property
    def coding(self) -> AutoencoderSpec:
        """The autoencoder, which has defaults."""
        return self.autoencoder or AutoencoderSpec()

    @property
    def coarsest(self) -> int:
        """Pixels along a side of the coarsest level's places: each side of an image is a multiple of it."""
        if self.name not in MAPPED:
            return 1
        zoom = self.coding.zoom if self.name == "latent-flow" else 1
        return int(zoom * self.patch * 2 ** (len(self.channels) - 1))


def _check_widths(channels: tuple[int, ...]) -> None:
    for width in channels:
        if width < 16 or width > 1024 or width % 16:
            raise ValueError(f"channels: each must be a multiple of 16 from 16 to 1024, got {list(channels)}")


class AutoencoderTrainingSpec(RecipePart):
    """How the autoencoder of family latent-flow learns, before the flow does.

    There is no perceptual loss: its network would have to be fetched from elsewhere.
    """

    steps: int = Field(2000, ge=0, le=10_000_000, description="updates; 0 keeps that of the model to start from")
    rate: float = Field(1e-3, gt=0, le=1, description="learning rate after the warm-up")
    error: Literal["absolute", "squared"] = Field("absolute", description="of a pixel that is brought back")
    divergence: float = Field(0.001, ge=0, le=100, description="weight of a latent number's mean Kullback-Leibler loss")


class TrainingSpec(RecipePart):
    """How long and how the network learns."""

    steps: int = Field(3000, ge=1, le=10_000_000, description="updates of the weights")
    batch: int = Field(64, ge=1, le=65536, description="images of one update")
    accumulate: int = Field(1, ge=1, le=1024, description="parts that a batch is cut into to save memory")
    rate: float = Field(4e-4, gt=0, le=1, description="learning rate after the warm-up")
    warm_up: int = Field(100, ge=0, description="steps in which the rate rises")
    fade: Probability = Field(0.0, description="share of the steps, the last ones, in which the rate falls to 0")
    decay: float = Field(0.01, ge=0, le=1, description="weight decay of AdamW")
    average: float = Field(0.999, ge=0, lt=1, description="decay of the average of weights that is kept at the end")
    leave_out: Probability = Field(0.1, description="chance that an attribute is hidden, each by itself")
    leave_out_all: Probability = Field(0.1, description="chance that all are, which guidance needs")
    change: Probability = Field(0.9, description="chance that an image is shifted, turned, zoomed or its gamma changed")
    precision: Literal["bfloat16", "float32"] = Field("bfloat16", description="of the network's products in training")
    checkpoint_minutes: float = Field(2.0, gt=0, description="time between checkpoints")
    autoencoder: AutoencoderTrainingSpec | None = Field(None, description="of family latent-flow alone")

    @model_validator(mode="after")
    def _check_parts(self) -> TrainingSpec:
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate: a batch of {self.batch} cannot be cut into {self.accumulate} equal parts")
        return self

    @property
    def coding(self) -> AutoencoderTrainingSpec:
        """How the autoencoder learns, which has defaults."""
        return self.autoencoder or AutoencoderTrainingSpec()


class SamplerSpec(RecipePart):
    """How images are drawn from the trained network."""

    steps: int = Field(8, ge=1, le=1000, description="steps from noise to an image")
    solver: Literal["heun", "euler"] = Field("heun", description="of a flow: heun looks twice a step")
    guidance: float = Field(1.5, ge=0, le=20, description="1: as learned; more exaggerates what is asked for")
    precision: Literal["bfloat16", "float32"] = Field("bfloat16", description="of the network's products in sampling")


class FewStepsSpec(RecipePart):
    """A student that draws in a few steps what the model draws in many, guidance included."""

    steps: int = Field(4, ge=1, le=64, description="steps of the student")
    images: int = Field(4000, ge=8, le=10_000_000, description="paths of the model that the student learns from")
    updates: int = Field(1000, ge=1, le=10_000_000, description="updates of the student's weights")
    batch: int = Field(64, ge=1, le=65536, description="places on paths of one update")
    rate: float = Field(2e-4, gt=0, le=1, description="learning rate, which falls to 0")
    average: float = Field(0.99, ge=0, lt=1, description="decay of the average of weights that is kept")
    leave_out: Probability = Field(0.15, description="chance that a path is not asked for an attribute, each by itself")


class LabelMapSpec(RecipePart):
    """A mask whose labels drive the image: where each is, is part of what the network is told."""

    mask: str = Field(min_length=1, max_length=40, description="name of a mask of the cohort that is learned from")
    names: Annotated[tuple[str, ...], Unique] = Field(
        (), max_length=64, description="what its labels 1, 2, ... are; 0 is none of them. Default: their numbers"
    )


class PrivacySpec(RecipePart):
    """Differential privacy of the training (DP-SGD): the budget that may be spent, and how that is audited."""

    epsilon: float = Field(gt=0, le=1000, description="largest privacy loss")
    delta: float = Field(gt=0, lt=1, description="chance that it is larger; below one over the number of patients")
    clip: float = Field(1.0, gt=0, description="largest length of one image's gradient")
    canaries: int = Field(60, ge=24, le=10_000, description="patients whose marked image, trained on or not, audits it")
    public: dict[str, Annotated[tuple[str, ...], Field(min_length=1)] | tuple[float, float]] = Field(
        default_factory=dict,
        description="of each attribute what everybody may know: [lowest, highest] of a number, or its values",
    )


class TrainSpec(RecipePart):
    """A recipe for a model. The same recipe and data give the same weights on the same machine."""

    name: str = Field(description="short name, lower-case letters, digits and dashes", max_length=MAX_NAME)
    description: str = Field("", description="what the model is for, in a sentence or two")
    reference: str = Field(description="Reference whose training patients are learned from, or cohort:NAME")
    patients: Literal["known", "images"] = Field(
        "known", description="images: each counts as a patient, where the reference does not say whose they are"
    )
    kind: str = Field("image", min_length=1, max_length=40, description="contrast or view that the model draws")
    seed: int = Field(0, strict=True, ge=0, lt=2**63, description="seed of every random draw")
    shape: tuple[int, ...] = Field(min_length=2, max_length=3, description="pixels (y, x) or voxels (x, y, z)")
    attributes: Annotated[tuple[str, ...], Unique] = Field((), description="attributes that can be asked for")
    start: str | None = Field(None, description="model to start from: a folder or models:/NAME@ALIAS")
    labels: LabelMapSpec | None = None
    architecture: ArchitectureSpec = Field(default_factory=ArchitectureSpec)
    training: TrainingSpec = Field(default_factory=TrainingSpec)
    sampler: SamplerSpec = Field(default_factory=SamplerSpec)
    few_steps: FewStepsSpec | None = None
    privacy: PrivacySpec | None = None

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        return check_name(name)

    @model_validator(mode="after")
    def _check_shape(self) -> TrainSpec:
        pixels = math.prod(self.shape)
        if min(self.shape) < 8 or pixels > MOST_PIXELS:
            raise ValueError(
                f"shape: {list(self.shape)} must have 8 pixels a side at least, {MOST_PIXELS} in all at most"
            )
        step = self.architecture.coarsest
        if any(side % step for side in self.shape):
            latent = f", {self.architecture.coding.zoom} pixels of a latent place" if self._latent else ""
            raise ValueError(
                f"shape: each side must be a multiple of {step} (patch {self.architecture.patch} and "
                f"{len(self.architecture.channels)} levels of channels{latent}), got {list(self.shape)}"
            )
        return self

    @model_validator(mode="after")
    def _check_family(self) -> TrainSpec:
        name = self.architecture.name
        if self.labels is not None and name not in MAPPED:
            raise ValueError(f"labels: family '{name}' cannot be given a label map; choose from {', '.join(MAPPED)}")
        if self.training.autoencoder is not None and not self._latent:
            raise ValueError(f"training.autoencoder: family '{name}' has none; leave it out")
        if self._latent and self.training.coding.steps == 0 and self.start is None:
            raise ValueError("training.autoencoder.steps: 0 needs a model to start from, whose autoencoder is kept")
        if self.labels is not None and not self.labels.names and self.privacy is not None:
            raise ValueError("labels.names: a private training learns nothing else of its images; name the labels")
        if self._latent and self.privacy is not None:
            raise ValueError("privacy: the scale of latent places is measured without noise; use family 'flow'")
        return self

    @property
    def _latent(self) -> bool:
        return self.architecture.name == "latent-flow"

    @property
    def steps(self) -> int:
        """Updates of all stages of the training."""
        return self.training.steps + (self.training.coding.steps if self._latent else 0)

    @model_validator(mode="after")
    def _check_privacy(self) -> TrainSpec:
        if self.privacy is None:
            return self
        if self.few_steps is not None:
            raise ValueError("few_steps: a student would learn what patients show without noise; leave it out")
        for name in self.privacy.public:
            if name not in self.attributes:
                raise ValueError(
                    f"privacy.public: '{name}' is not among the attributes.{suggest_nearest(name, self.attributes)}"
                )
        if silent := [name for name in self.attributes if name not in self.privacy.public]:
            raise ValueError(
                f"privacy.public: required for {', '.join(silent)}: [lowest, highest] of a number, or the values; "
                "learned from the images, they could give a patient away"
            )
        return self

    @property
    def content_hash(self) -> str:
        """SHA-256 of everything that decides the weights."""
        asked = self.model_dump(mode="json", exclude={"description", "sampler", "few_steps", "name", "patients"})
        for part in (asked, asked["architecture"], asked["training"]):
            for later, default in _LATER.items():
                if part.get(later, ...) == default:
                    del part[later]
        return hashlib.sha256(json.dumps(asked, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def parse_train_spec(text: str, where: str = "recipe") -> TrainSpec:
    """Return the recipe in the TOML ``text``; raises SpecError naming the line, or the field and what is allowed."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{where} is not valid TOML: {error}. Correct that place and run the command again.") from error
    try:
        return TrainSpec.model_validate(data)
    except ValidationError as error:
        raise SpecError(f"{where} cannot be used:\n" + "\n".join(explain_problems(error, TrainSpec))) from error


def load_train_spec(path: Path) -> TrainSpec:
    """Return the recipe in the TOML file ``path``; raises SpecError if it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"recipe '{path}' cannot be read: {error}. Give the path of a TOML file.") from error
    return parse_train_spec(text, f"recipe '{path}'")
