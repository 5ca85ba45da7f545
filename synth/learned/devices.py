"""Training on several devices with Lightning Fabric, which starts the processes and adds gradients up.

Fabric was chosen over Accelerate because it is a small library that needs nothing that is not here already, and leaves
the loop to us. A batch is cut into ``training.accumulate`` parts; each device takes some of them, and every part's
draws are keyed by its number, so that the model is the same on any number of devices, up to the order of sums.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from synth.errors import CohortiumError, ModelError, RetryableError, StorageError
from synth.evaluation.images.features.base import Tell, tell_nobody
from synth.evaluation.images.sets import ImageSet
from synth.learned.checkpoints import find_newest_step
from synth.learned.generator import Generator
from synth.learned.recipe import TrainSpec
from synth.learned.training import Trained, train_model

EVERY = 1.0  # seconds between looks at how far the processes are


@dataclass(frozen=True)
class Devices:
    """``count`` devices that train together; ``accelerator`` is cpu or cuda."""

    accelerator: str = "cpu"
    count: int = 1


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


def find_devices(asked: str) -> Devices:
    """Return what ``asked`` means on this machine: auto (all GPUs, or one CPU), cpu (one), or how many.

    A number means GPUs or, where there is none, processes on the CPU. Raises ModelError for anything else, or more
    GPUs than there are.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "cpu" or (asked == "auto" and not gpus):
        return Devices()
    if asked == "auto":
        return Devices("cuda", gpus)
    if not asked.isdecimal() or int(asked) < 1:
        raise ModelError(f"--devices: '{asked}' is not known; give auto, cpu, or a number of devices from 1.")
    if gpus and int(asked) > gpus:
        raise ModelError(f"--devices: {asked} are more than the {gpus} GPUs of this machine; give auto to use all.")
    return Devices("cuda" if gpus else "cpu", int(asked))


def train_on_devices(
    spec: TrainSpec,
    images: ImageSet,
    folder: Path,
    devices: Devices,
    *,
    start: Generator | None = None,
    minutes: float | None = None,
    tell: Tell = tell_nobody,
) -> Trained:
    """Return what train_model does, with a process for each of several devices; it goes on at a checkpoint likewise.

    Raises ModelError if ``training.accumulate`` is no multiple of them, or for a private recipe, besides what
    train_model raises; RetryableError if a process ends unexpectedly.
    """
    if devices.count == 1:
        return train_model(spec, images, folder, start=start, device=devices.accelerator, minutes=minutes, tell=tell)
    if spec.privacy is not None:
        raise ModelError("privacy: a private training runs on one device; leave --devices out.")
    if spec.training.accumulate % devices.count:
        raise ModelError(
            f"training.accumulate: {spec.training.accumulate} parts of a batch cannot be shared by {devices.count} "
            f"devices; make it a multiple of {devices.count}."
        )
    fabric: Any = Fabric(accelerator=devices.accelerator, devices=devices.count, strategy="ddp_spawn")
    job = partial(  # Fabric looks into arguments, and refuses frozen ones
        _train_share, parent=os.getpid(), spec=spec, images=images, folder=folder, start=start, minutes=minutes
    )
    try:
        with _watch(folder, spec, tell):
            fabric.launch(job)
    except (ProcessRaisedException, ProcessExitedException) as error:
        raise explain_end(str(error)) from error
    return train_model(spec, images, folder, start=start, minutes=0.0, tell=tell)  # reads the last checkpoint


def explain_end(report: str) -> CohortiumError:
    """Return the error that ended one of the processes, of which ``report`` is the traceback."""
    last = (report.strip().splitlines() or ["no reason was given"])[-1]
    for kind in (ModelError, StorageError):
        if last.startswith(name := f"{kind.__module__}.{kind.__qualname__}: "):
            return kind(last.removeprefix(name))
    return RetryableError(
        f"a process of the training ended ({last}). Run the command again: it goes on at the last checkpoint."
    )


def _train_share(
    fabric: Any,
    parent: int,
    spec: TrainSpec,
    images: ImageSet,
    folder: Path,
    start: Generator | None,
    minutes: float | None,
) -> None:
    """Train in one of the processes; the first writes checkpoints. It ends when the ``parent`` process has ended."""

    def end_with_parent(*_: object) -> None:
        if os.getppid() != parent:
            raise RetryableError("the command that started this process has ended")

    share, device = FabricShare(fabric), str(fabric.device)
    train_model(spec, images, folder, start=start, device=device, minutes=minutes, tell=end_with_parent, share=share)


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
