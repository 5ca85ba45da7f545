"""``cohortium train``: a model of images from a Reference."""

from __future__ import annotations

import importlib
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.settings import load_settings
from flows.terminal import Home, Json, print_json, say, show_steps


def train(
    recipe: Annotated[
        Path,
        typer.Argument(metavar="RECIPE", help="TOML file, e.g. flows/specs/train/radiographs-64.toml."),
    ],
    max_minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Stop learning after this time and keep what was learned.")
    ] = None,
    register: Annotated[bool, typer.Option(help="Register the model in MLflow with the alias 'candidate'.")] = True,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Try 50 steps, too, in the curve of quality against steps.")
    ] = False,
    devices: Annotated[
        str | None,
        typer.Option(
            metavar="auto|cpu|N",
            help="auto: all GPUs, or one CPU; N: so many GPUs or, where there is none, processes. They share the "
            "training.accumulate parts of each batch. Default: one CPU.",
        ),
    ] = None,
    home: Home = None,
    as_json: Json = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the recipe, print it and its hash.")] = False,
) -> None:
    """Train a model that draws images like those of a Reference, asked for by their attributes.

    First the images: cohortium import chest.parquet --name nih. Then: cohortium train RECIPE, which registers the model
    as candidate; cohortium promote NAME makes it the champion if it is better. A cohort's recipe draws with it by
    imaging.model = "models:/NAME@champion" (or @candidate).

    Run the same command again after an interruption: it goes on at the last checkpoint, and the weights are the same
    as without the interruption. The model is kept in <home>/models by its hash, with a card; MLflow gets its loss
    curve, its quality against steps and drawn images beside real ones. A privacy table in the recipe trains with
    noise, and an audit stands beside the epsilon that was spent.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    settings = load_settings(home)
    spec = _load("synth.learned.recipe").load_train_spec(recipe)
    if dry_run:
        document = {"recipe_hash": spec.content_hash, "recipe": spec.model_dump(mode="json")}
        print_json(document)
        return
    with show_steps() as tell:
        result = _load("flows.trainings").run_training(settings, spec, max_minutes, register, tell, thorough, devices)
    document = asdict(result)
    if as_json:
        print_json(document)
        return
    typer.echo(f"{result.name}: model {result.model[:12]}, {result.steps} steps, {result.seconds:.0f} s")
    if not result.finished:
        say("the time ran out before the last step; the same command without --max-minutes goes on")
    typer.echo(f"  learned from {result.train_images} images of {result.train_patients} patients")
    typer.echo(f"  draw with it: imaging.model = '{result.address or result.folder}'")
    typer.echo(f"  drawn beside real: {', '.join(result.pictures)}")
    if result.privacy is not None:
        typer.echo(f"  privacy: {_load('flows.train_learning').describe_privacy(result.privacy)}")
    for note in result.notes:
        typer.echo(f"  {note}")


def _load(name: str) -> Any:
    return importlib.import_module(name)
