"""Training on several devices with Lightning Fabric, which starts the processes and adds gradients up.

Fabric was chosen over Accelerate because it is a small library that needs nothing that is not here already, and leaves
the loop to us. A batch is cut into ``training.accumulate`` parts; each device takes some of them, and every part's
draws are keyed by its number, so that the model is the same on any number of devices, up to the order of sums.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from synth.errors import ModelError
from synth.evaluation.images.features.base import Tell, tell_nobody
from synth.evaluation.images.sets import ImageSet
from synth.learned.checkpoints import find_newest_step
from synth.learned.generator import Generator
from synth.learned.recipe import TrainSpec
from synth.learned.training import Trained, train_model

EVERY = 1.0  # seconds between looks at how far the processes are


@dataclass(frozen=True)
class FabricShare:
    """One process among several; see training.Share."""

    fabric: Any

    @property
    def rank(self) -> int:
        """Which process this is."""
        return int(self.fabric.global_rank)

    @property
    def world(self) -> int:
        """How many there are."""
        return int(self.fabric.world_size)

    def add_up(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all processes."""
        return torch.as_tensor(self.fabric.all_reduce(values, reduce_op="sum"))


def train_on_devices(
    spec: TrainSpec,
    images: ImageSet,
    folder: Path,
    devices: int,
    *,
    start: Generator | None = None,
    accelerator: str = "auto",
    minutes: float | None = None,
    tell: Tell = tell_nobody,
) -> Trained:
    """Return what train_model does, with ``devices`` processes of one device each.

    Raises ModelError if ``training.accumulate`` is no multiple of them, or for a private recipe, besides what
    train_model raises.
    """
    if spec.privacy is not None:
        raise ModelError("privacy: a private training runs on one device; leave --devices out.")
    if spec.training.accumulate % devices:
        raise ModelError(
            f"training.accumulate: {spec.training.accumulate} parts of a batch cannot be shared by {devices} devices; "
            f"make it a multiple of {devices}."
        )
    if devices > 1:
        fabric: Any = Fabric(accelerator=accelerator, devices=devices, strategy="ddp_spawn")
        with _watch(folder, spec, tell):
            fabric.launch(partial(_train_share, spec=spec, images=images, folder=folder, start=start, minutes=minutes))
        minutes = 0.0  # what follows only reads the last checkpoint
    return train_model(spec, images, folder, start=start, minutes=minutes, tell=tell)


def _train_share(
    fabric: Any, spec: TrainSpec, images: ImageSet, folder: Path, start: Generator | None, minutes: float | None
) -> None:
    """Train in one of the processes; the first writes checkpoints."""
    share = FabricShare(fabric)
    train_model(spec, images, folder, start=start, device=str(fabric.device), minutes=minutes, share=share)


@contextmanager
def _watch(folder: Path, spec: TrainSpec, tell: Tell) -> Iterator[None]:
    """Tell how far the processes are, as their checkpoints show."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(EVERY):
            tell(f"training {spec.name}", find_newest_step(folder), spec.steps)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
