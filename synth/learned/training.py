"""Training of learned models, resumable at any checkpoint: every draw is keyed by its step, so no state is hidden."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from synth.errors import ModelError
from synth.evaluation.images.features.base import Tell, tell_nobody
from synth.evaluation.images.networks import make_generator
from synth.evaluation.images.sets import ImageSet
from synth.evaluation.ranks import Ints
from synth.learned.changes import change_images
from synth.learned.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from synth.learned.conditions import ConditionCode, learn_conditions, list_rows
from synth.learned.families import Family, find_family
from synth.learned.generator import Generator, ModelDescription, make_network
from synth.learned.networks import draw_weights
from synth.learned.private_training import PrivacyPlan, PrivateSteps, plan_privacy
from synth.learned.recipe import TrainSpec
from synth.learned.shapes import to_signal
from synth.seeds import stream

LEAST_IMAGES = 8
BETAS = (0.9, 0.99)
LONGEST_GRADIENT = 1.0
Clock = Callable[[], float]


class Share(Protocol):
    """One of several processes that train a model together; each takes some parts of every batch."""

    @property
    def rank(self) -> int:
        """Which process this is, from 0."""

    @property
    def world(self) -> int:
        """How many there are."""

    def add_up(self, values: Tensor) -> Tensor:
        """Return the sum of ``values`` over all processes."""


@dataclass(frozen=True)
class WholeShare:
    """The only process."""

    rank: int = 0
    world: int = 1

    def add_up(self, values: Tensor) -> Tensor:
        """Return the values."""
        return values


@dataclass(frozen=True)
class Trained:
    """A trained model before it is saved: its generator, the loss of each step, and whether time ran out."""

    generator: Generator
    losses: tuple[float, ...]
    steps: int
    finished: bool
    privacy: PrivacyPlan | None = None


@dataclass(frozen=True)
class _Lesson:
    """The training images (n, 1, *grid) from 0 to 1, their codes (n, width), and whose they are."""

    images: Tensor
    codes: Tensor
    places: tuple[slice, ...]
    patient: Ints


def train_model(
    spec: TrainSpec,
    images: ImageSet,
    folder: Path,
    *,
    start: Generator | None = None,
    secret: int | None = None,
    device: str = "cpu",
    minutes: float | None = None,
    tell: Tell = tell_nobody,
    clock: Clock = time.monotonic,
    share: Share | None = None,
) -> Trained:
    """Return the model that ``spec`` and the training ``images`` give; it goes on at a checkpoint in ``folder``.

    After ``minutes`` it stops where it is, with ``finished`` False unless that was the last step. ``start`` is a model
    whose weights are the first ones. A private training needs a ``secret`` that nobody keeps; see private_training.

    Raises ModelError for images of another shape, attributes that cannot be learned
    or a loss that is not a number; StorageError if a checkpoint cannot be written.
    """
    began = clock()
    _check_images(spec, images)
    code = start.description.code if start else learn_conditions(images, spec.attributes)
    description = ModelDescription(spec.name, spec.kind, spec.shape, spec.architecture, spec.sampler, code, spec.seed)
    lesson = _prepare(images, code)
    network = make_network(description)
    draw_weights(network, make_generator(spec.seed, "learned/weights"))
    if start is not None:
        _check_start(start, description)
        network.load_state_dict(start.network.state_dict())
    network.to(device)
    family = find_family(spec.architecture.name)
    if family.closed:
        padded = torch.cat([lesson.codes, torch.zeros(len(lesson.codes), description.width - code.width)], dim=1)
        family.fit(network, to_signal(lesson.images), padded)
        return Trained(Generator(description, network, device=device), (), 0, True)
    identity = identify_training(spec, images, start)
    share = share or WholeShare()
    loop = _Loop(spec, family, network, lesson, device, share)
    if spec.privacy is not None:
        loop.make_private(secret)
    losses = loop.restore(read_checkpoint(folder, identity))
    limit = math.inf if minutes is None else began + 60 * minutes
    written = clock()
    while loop.step < spec.training.steps and loop.agree(clock() < limit):
        losses.append(loop.advance())
        tell(f"training {spec.name}", loop.step, spec.training.steps)
        if share.rank == 0 and clock() - written > 60 * spec.training.checkpoint_minutes:
            write_checkpoint(folder, loop.capture(losses), identity)
            written = clock()
    if share.rank == 0:
        write_checkpoint(folder, loop.capture(losses), identity)
    network.load_state_dict(loop.averages())
    done = loop.step >= spec.training.steps
    return Trained(Generator(description, network, device=device), tuple(losses), loop.step, done, loop.plan)


def identify_training(spec: TrainSpec, images: ImageSet, start: Generator | None = None) -> str:
    """Return the SHA-256 of the recipe, the data and the first weights: checkpoints of one identity fit together."""
    digest = hashlib.sha256(spec.content_hash.encode())
    digest.update(np.ascontiguousarray(images.stored).tobytes())
    digest.update(repr(images.records.select(["image_id", *spec.attributes]).to_pylist()).encode())
    digest.update((start.hash if start else "").encode())
    return digest.hexdigest()


def _check_images(spec: TrainSpec, images: ImageSet) -> None:
    if images.shape != spec.shape:
        raise ModelError(f"the training images have the shape {images.shape}; the recipe asks for {spec.shape}.")
    if len(images) < LEAST_IMAGES:
        raise ModelError(f"there are {len(images)} training images; {LEAST_IMAGES} are the least to learn from.")


def _check_start(start: Generator, description: ModelDescription) -> None:
    own, other = description.architecture, start.description.architecture
    if own != other or start.description.shape != description.shape:
        raise ModelError(
            f"start: '{start.description.name}' is {other.name} {list(other.channels)} for {start.description.shape}; "
            f"the recipe asks for {own.name} {list(own.channels)} for {description.shape}. Make them the same."
        )


def _prepare(images: ImageSet, code: ConditionCode) -> _Lesson:
    codes = torch.from_numpy(code.encode(list_rows(images, code)))
    return _Lesson(torch.from_numpy(images.images(slice(None)))[:, None], codes, code.places, images.patient)


class _Loop:
    """The state of a training: weights, their average, the optimiser's moments, and the step."""

    def __init__(
        self, spec: TrainSpec, family: Family, network: nn.Module, lesson: _Lesson, device: str, share: Share
    ) -> None:
        self.spec, self.family, self.network, self.lesson, self.device = spec, family, network, lesson, device
        self.share = share
        self.step = 0
        self.optimiser = torch.optim.AdamW(
            network.parameters(), spec.training.rate, BETAS, weight_decay=spec.training.decay, fused=True
        )
        self.average = {name: values.detach().clone() for name, values in network.state_dict().items()}
        self.plan: PrivacyPlan | None = None
        self._private: PrivateSteps | None = None

    def make_private(self, secret: int | None) -> None:
        """Make all further steps private; raises ModelError without a secret or with a budget that cannot be kept."""
        if secret is None:
            raise ModelError("privacy: a private training needs a secret source of random numbers; none was given.")
        self.plan = plan_privacy(self.spec, int(self.lesson.patient.max()) + 1)
        parts = (self.network, self.optimiser, self.plan, self.lesson.patient, self.spec.training.batch)
        self._private = PrivateSteps(*parts, secret, self.device)

    def advance(self) -> float:
        """Make one step and return its loss. Raises ModelError if it is not a number."""
        training = self.spec.training
        for group in self.optimiser.param_groups:
            group["lr"] = training.rate * min(1.0, (self.step + 1) / max(1, training.warm_up))
        self.network.train()
        total = self._private.advance(self._measure) if self._private else self._advance_openly()
        if not math.isfinite(total):
            raise ModelError(
                f"the loss is {total} at step {self.step}; lower training.rate ({training.rate:g}) or use "
                "precision = 'float32'. The last checkpoint is kept."
            )
        self.step += 1
        self._follow()
        return total

    def _measure(self, network: nn.Module, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss of each chosen image."""
        images, codes = self._draw_batch(chosen, generator)
        with torch.autocast(self.device.split(":")[0], torch.bfloat16, self.spec.training.precision == "bfloat16"):
            return self.family.measure_loss(network, images, codes, generator)

    def agree(self, onward: bool) -> bool:
        """Return whether all processes want to go on."""
        return float(self.share.add_up(torch.tensor(float(not onward)))) == 0.0

    def _advance_openly(self) -> float:
        """Make one step on this process's parts of the batch; gradients are those of all parts."""
        training, share = self.spec.training, self.share
        self.optimiser.zero_grad()
        total = torch.zeros(())
        for number, part in enumerate(self._choose(training.batch).chunk(training.accumulate)):
            if number % share.world == share.rank:
                generator = make_generator(
                    self.spec.seed, f"learned/step/{self.step}" + (f"/{number}" if number else "")
                )
                loss = self._measure(self.network, part, generator).mean() / training.accumulate
                torch.autograd.backward(loss)
                total += loss.detach().cpu()
        if share.world > 1:
            total = share.add_up(total)
            for parameter in self.network.parameters():
                if parameter.grad is not None:
                    parameter.grad.copy_(share.add_up(parameter.grad))
        if bool(torch.isfinite(total)):
            nn.utils.clip_grad_norm_(self.network.parameters(), LONGEST_GRADIENT)
            self.optimiser.step()
        return float(total)

    def _draw_batch(self, chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return changed signals and codes, some attributes hidden."""
        training, lesson = self.spec.training, self.lesson
        changed, told = change_images(lesson.images[chosen], training.change, generator)
        codes = lesson.codes[chosen].clone()
        for place in lesson.places:
            codes[torch.rand(len(codes), generator=generator) < training.leave_out, place] = 0.0
        codes[torch.rand(len(codes), generator=generator) < training.leave_out_all] = 0.0
        return to_signal(changed).to(self.device), torch.cat([codes, told], dim=1).to(self.device)

    def _choose(self, batch: int) -> Tensor:
        """Return the images of this step; every image is seen once before any is seen again."""
        count, first = len(self.lesson.images), self.step * batch
        chosen: list[int] = []
        while len(chosen) < batch:
            epoch, place = divmod(first + len(chosen), count)
            order = stream(self.spec.seed, -1, -1, f"learned/order/{epoch}").permutation(count)
            chosen += order[place : place + batch - len(chosen)].tolist()
        return torch.tensor(chosen)

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average: quickly at first (Karras et al., CVPR 2024, section 3.1, find the first steps harmful)."""
        share = min(self.spec.training.average, self.step / (self.step + 10))
        for name, values in self.network.state_dict().items():
            self.average[name].lerp_(values, 1 - share)

    def averages(self) -> dict[str, Tensor]:
        """Return the average of the weights, which is the model."""
        return self.average

    def capture(self, losses: list[float]) -> Checkpoint:
        """Return everything that the next step needs."""
        tensors = {f"network/{name}": values for name, values in self.network.state_dict().items()}
        tensors |= {f"average/{name}": values for name, values in self.average.items()}
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                tensors[f"optimiser/{name}/{key}"] = value
        plain = {name: values.detach().cpu().contiguous() for name, values in tensors.items()}
        return Checkpoint(self.step, plain, tuple(losses))

    def restore(self, checkpoint: Checkpoint | None) -> list[float]:
        """Go on where a checkpoint ends; return the losses so far."""
        if checkpoint is None:
            return []
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}}
        for name, values in checkpoint.tensors.items():
            part, _, rest = name.partition("/")
            if part in parts:
                parts[part][rest] = values
        self.network.load_state_dict(parts["network"])
        self.average = {name: values.to(self.device) for name, values in parts["average"].items()}
        for name, parameter in self.network.named_parameters():
            prefix = f"optimiser/{name}/"
            found = {key[len(prefix) :]: v for key, v in checkpoint.tensors.items() if key.startswith(prefix)}
            if found:
                self.optimiser.state[parameter] = {
                    key: value.clone() if key == "step" else value.to(self.device) for key, value in found.items()
                }
        self.step = checkpoint.step
        return list(checkpoint.losses)
