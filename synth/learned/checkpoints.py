"""Checkpoints of a training: everything that the next step needs, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from synth.errors import ModelError, StorageError

KEPT = 2
PREFIX, SUFFIX = "step-", ".safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """State after ``step`` steps; ``tensors`` are named by part and parameter. ``losses`` has one entry a step."""

    step: int
    tensors: Mapping[str, Tensor]
    losses: tuple[float, ...]


def write_checkpoint(folder: Path, checkpoint: Checkpoint, recipe_hash: str) -> None:
    """Write a checkpoint, keep the newest two; raises StorageError if the disk refuses, and older ones stay."""
    path = folder / f"{PREFIX}{checkpoint.step:08d}{SUFFIX}"
    facts = {"recipe": recipe_hash, "step": str(checkpoint.step), "losses": json.dumps(checkpoint.losses)}
    partial = path.with_suffix(".partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(safetensors.torch.save(dict(checkpoint.tensors), facts))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        for old in _list(folder)[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError(
            f"the checkpoint of step {checkpoint.step} cannot be written to '{folder}' ({error.strerror}). Free some "
            "space and run the command again: it goes on at the last checkpoint."
        ) from error


def read_checkpoint(folder: Path, recipe_hash: str) -> Checkpoint | None:
    """Return the newest checkpoint of a recipe that can be read, or None.

    Raises ModelError if the folder holds those of another recipe.
    """
    for path in reversed(_list(folder)):
        try:
            with safetensors.safe_open(path, "pt") as file:
                facts = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, safetensors.SafetensorError):
            continue  # damaged; the one before it counts
        if facts.get("recipe") != recipe_hash:
            raise ModelError(
                f"'{folder}' holds checkpoints of another recipe, of other data or of another version of Cohortium; "
                "remove that folder."
            )
        return Checkpoint(int(facts["step"]), tensors, tuple(json.loads(facts["losses"])))
    return None


def find_newest_step(folder: Path) -> int:
    """Return the step of the newest checkpoint, 0 if there is none."""
    found = _list(folder)
    return int(found[-1].name.removeprefix(PREFIX).removesuffix(SUFFIX)) if found else 0


def _list(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{PREFIX}*{SUFFIX}"))
