"""Training of learned models, resumable at any checkpoint: every draw is keyed by its step, so no state is hidden."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from synth.errors import ModelError
from synth.evaluation.images.features.base import Tell, tell_nobody
from synth.evaluation.images.networks import make_generator
from synth.evaluation.images.sets import ImageSet
from synth.learned.changes import count_changes
from synth.learned.checkpoints import read_checkpoint, write_checkpoint
from synth.learned.conditions import ConditionCode, declare_conditions, learn_conditions, list_rows
from synth.learned.families import ClosedFamily, find_family
from synth.learned.generator import Generator, ModelDescription, make_network
from synth.learned.loop import Lesson, Loop, Share, WholeShare
from synth.learned.maps import MapCode, learn_map
from synth.learned.networks import draw_weights
from synth.learned.private_training import PrivacyPlan
from synth.learned.recipe import TrainSpec
from synth.learned.shapes import to_signal

LEAST_IMAGES = 8
Clock = Callable[[], float]


@dataclass(frozen=True)
class Trained:
    """A trained model before it is saved: its generator, the loss of each step, and whether time ran out."""

    generator: Generator
    losses: tuple[float, ...]
    steps: int
    finished: bool
    privacy: PrivacyPlan | None = None


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

    Raises ModelError for images of another shape, attributes or labels that cannot be learned
    or a loss that is not a number; StorageError if a checkpoint cannot be written.
    """
    began = clock()
    _check_images(spec, images)
    code = start.description.code if start else _find_conditions(spec, images)
    drawn = _find_map(spec, images, start)
    description = ModelDescription(
        spec.name, spec.kind, spec.shape, spec.architecture, spec.sampler, code, spec.seed, map=drawn
    )
    lesson = _prepare(spec, images, code, drawn)
    network = make_network(description)
    draw_weights(network, make_generator(spec.seed, "learned/weights"))
    if start is not None:
        _check_start(start, description)
        network.load_state_dict(start.network.state_dict())
    network.to(device)
    family = find_family(spec.architecture.name)
    if isinstance(family, ClosedFamily) and spec.privacy is not None:
        raise ModelError(f"privacy: family '{spec.architecture.name}' is fitted without noise; choose flow or ddpm.")
    if isinstance(family, ClosedFamily):
        padded = torch.cat([lesson.codes, torch.zeros(len(lesson.codes), description.width - code.width)], dim=1)
        family.fit(network, to_signal(lesson.images), padded)
        return Trained(Generator(description, network, device=device), (), 0, True)
    identity = identify_training(spec, images, start)
    share = share or WholeShare()
    loop = Loop(spec, family, network, lesson, device, share)
    if spec.privacy is not None:
        loop.make_private(secret)
    losses = loop.restore(read_checkpoint(folder, identity))
    limit = math.inf if minutes is None else began + 60 * minutes
    written = clock()
    while loop.step < spec.steps and loop.agree(clock() < limit):
        losses.append(loop.advance())
        tell(f"training {spec.name}", loop.step, spec.steps)
        if share.rank == 0 and clock() - written > 60 * spec.training.checkpoint_minutes:
            write_checkpoint(folder, loop.capture(losses), identity)
            written = clock()
    if share.rank == 0:
        write_checkpoint(folder, loop.capture(losses), identity)
    network.load_state_dict(loop.averages())
    done = loop.step >= spec.steps
    return Trained(Generator(description, network, device=device), tuple(losses), loop.step, done, loop.plan)


def identify_training(spec: TrainSpec, images: ImageSet, start: Generator | None = None) -> str:
    """Return the SHA-256 of the recipe, the data, the first weights and what a network is told of an image's changes.

    Checkpoints of one identity fit together.
    """
    digest = hashlib.sha256(spec.content_hash.encode())
    digest.update(np.ascontiguousarray(images.stored).tobytes())
    digest.update(repr(images.records.select(["image_id", *spec.attributes]).to_pylist()).encode())
    digest.update(f"{start.hash if start else ''} {count_changes(len(spec.shape))}".encode())
    if spec.labels is not None and images.maps is not None:
        digest.update(np.ascontiguousarray(images.maps).tobytes())
    return digest.hexdigest()


def _find_conditions(spec: TrainSpec, images: ImageSet) -> ConditionCode:
    """Return what can be asked for; of a private training nothing of it is learned from the patients."""
    if spec.privacy is not None:
        return declare_conditions(images, spec.attributes, spec.privacy.public)
    return learn_conditions(images, spec.attributes)


def _find_map(spec: TrainSpec, images: ImageSet, start: Generator | None) -> MapCode | None:
    """Return the label map that drives the images; a model that is trained further keeps its own."""
    found = learn_map(spec.labels, images) if spec.labels is not None else None
    if start is None:
        return found
    own = start.description.map
    if found is not None and (own is None or (spec.labels and spec.labels.names and found != own)):
        raise ModelError(
            f"labels: '{start.description.name}' was taught {own.describe() if own else 'no label map'}, the recipe "
            f"names {found.describe()}. Make them the same, or start from nothing."
        )
    return own


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


def _prepare(spec: TrainSpec, images: ImageSet, code: ConditionCode, drawn: MapCode | None) -> Lesson:
    codes = torch.from_numpy(code.encode(list_rows(images, code)))
    maps = None
    if drawn is not None:  # a model that was taught labels may learn on from images without
        shown = images.maps if spec.labels is not None else None
        maps = torch.from_numpy(drawn.encode(shown, len(images), images.shape))
    pixels = torch.from_numpy(images.images(slice(None)))[:, None]
    return Lesson(pixels, codes, code.places, images.patient, maps)
