"""What benchmarks of learned models share: a recipe and its reference, what models are asked for and draw."""

from __future__ import annotations

import argparse
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from catalog import open_catalog
from flows.settings import load_settings
from flows.training_data import TrainingData, read_training_data
from synth.errors import SpecError
from synth.evaluation.images.sets import ImageSet, RealImages, make_image_set
from synth.evaluation.ranks import Interval
from synth.learned.conditions import list_rows
from synth.learned.generator import Generator
from synth.learned.recipe import TrainSpec, load_train_spec
from synth.learned.redraws import draw_until_met
from synth.nouns import AttributeValue
from synth.seeds import stream, stream_key

EVERY = 60.0  # seconds between two lines about progress
Row = Mapping[str, AttributeValue]


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """Let the user name a recipe, change it, and say how much of the machine is used."""
    parser.add_argument("recipe", type=Path, help="recipe of training; names reference, grid and attributes")
    parser.add_argument("--home", type=Path, help="home that holds the reference (default: COHORTIUM_HOME)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="'KEY = VALUE'",
        help="change the recipe, in TOML, such as 'training.steps = 500' or 'shape = [32, 32]'; may be repeated",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of all draws but those of training")
    parser.add_argument("--threads", type=int, default=2, help="of torch")


def load_recipe(path: Path, changes: Sequence[str]) -> TrainSpec:
    """Return the recipe with changes such as ``training.steps = 500``; raises SpecError if one is no TOML."""
    document = load_train_spec(path).model_dump(mode="json")
    for change in changes:
        try:
            merge_into(document, tomllib.loads(change))
        except tomllib.TOMLDecodeError as error:
            raise SpecError(f"--set '{change}' is not valid TOML: {error}.") from error
    return TrainSpec.model_validate(document)


def merge_into(document: dict[str, Any], change: Mapping[str, Any]) -> None:
    """Replace values of nested tables in place."""
    for name, value in change.items():
        if isinstance(value, dict) and isinstance(document.get(name), dict):
            merge_into(document[name], value)
        else:
            document[name] = value


def read_reference(spec: TrainSpec, home: Path | None, folder: Path) -> TrainingData:
    """Return the images of the recipe's reference, written below ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with open_catalog(load_settings(home).home) as catalog:
        return read_training_data(catalog, spec, folder, make_teller())


def join_reference(data: TrainingData, train: ImageSet | None = None) -> RealImages:
    """Return the reference as scores take it; ``train`` stands in for the training images."""
    return RealImages(data.reference, data.fingerprint, train or data.train, data.validation, data.holdout, data.layout)


def choose_rows(model: Generator, train: ImageSet, count: int, seed: int) -> list[dict[str, AttributeValue]]:
    """Return what ``count`` random training images show; each is asked for once before any is again."""
    rows = list_rows(train, model.description.code)
    order = stream(seed, -1, -1, "benchmark/rows").permutation(len(rows))
    return [rows[place] for place in np.resize(order, count)]


def draw_images(
    model: Generator, rows: Sequence[Row], seed: int, name: str, redraws: int = 0, stage: str = "benchmark/noise"
) -> ImageSet:
    """Return an image for each row, which states what was asked for; ``redraws`` is the budget of an image."""
    keys = [stream_key(seed, place, 0, stage) for place in range(len(rows))]
    if redraws:
        images = np.stack([drawn.image for drawn in draw_until_met(model, rows, keys, redraws)])
    else:
        images = model.sample(rows, keys)
    schema = model.description.attributes
    return make_image_set(name, images, {a.name: [row.get(a.name) for row in rows] for a in schema}, schema)


def change_sampler(model: Generator, text: str | None) -> Generator:
    """Return the model that draws by STEPS:SOLVER:GUIDANCE, or as it is."""
    if not text:
        return model
    steps, solver, guidance = text.split(":")
    return model.with_sampler(steps=int(steps), solver=solver, guidance=float(guidance))


def make_teller() -> Any:
    """Return a Tell that writes to the terminal once a minute."""
    last = {"at": time.monotonic()}

    def tell(what: str, done: int, total: int) -> None:
        if time.monotonic() - last["at"] > EVERY:
            last["at"] = time.monotonic()
            print(f"   {what}: {done} of {total}", file=sys.stderr, flush=True)

    return tell


def write_interval(found: Interval | None, digits: int = 3) -> str:
    """Return a value with its 95 % interval."""
    if found is None:
        return "not measurable"
    return f"{found.value:.{digits}g} ({found.low:.{digits}g} to {found.high:.{digits}g})"
