"""``cohortium promote``: whether a candidate becomes champion."""

from __future__ import annotations

import importlib
import signal
from dataclasses import asdict
from typing import Annotated, Any

import typer

from flows.settings import load_settings
from flows.terminal import Home, Json, print_json, print_table, say, show_steps

RULE = "the gates and the score"


def promote(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Registered model, e.g. radiographs-64.")],
    version: Annotated[int | None, typer.Option(min=1, help="Version to judge (default: alias 'candidate').")] = None,
    by: Annotated[str, typer.Option(help="Who asks for it: kept with the decision.")] = RULE,
    images: Annotated[int, typer.Option(min=1, help="Images that each model draws.")] = 1000,
    features: Annotated[
        str, typer.Option(help="Features to judge in, separated by commas; the distance in the first decides.")
    ] = "encoder,pixels",
    seed: Annotated[int, typer.Option(min=0, help="Seed of requests and noise.")] = 0,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a trained model the champion if it is better than the one before, and copies nobody.

    Candidate and champion draw images for the same requests, which are judged against unseen patients of the Reference.
    The alias 'champion' moves only if the candidate's gates of privacy hold, every control behaves, and the whole 95 %
    interval of the difference in kernel distance is in its favour. The first champion needs no such difference. The
    decision and its numbers go to MLflow; keeping the champion is a result and no error (exit code 0).

    Recipes draw with the champion by imaging.model = "models:/NAME@champion". The Reference that the candidate learned
    from must be in the catalog: without it nobody could look for copies.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    settings = load_settings(home)
    promotions: Any = importlib.import_module("flows.promotions")
    names = tuple(part.strip() for part in features.split(",") if part.strip())
    request = promotions.PromotionRequest(name, None if version is None else str(version), by, images, names, seed)
    with show_steps() as tell:
        result = promotions.run_promotion(settings, request, tell)
    if as_json:
        print_json(asdict(result))
        return
    show_decision(result)


def show_decision(result: Any) -> None:
    """Print the decision with the numbers it rests on."""
    made = result.decision
    rows = [
        (side, made["features"], found["value"], f"{_write(found['low'])} to {_write(found['high'])}", found["floor"])
        for side, found in made["scores"].items()
    ]
    print_table((made["score"], "features", "value", "95 % interval", "real patients"), rows)
    for gate in made["gates"]:
        typer.echo(f"gate {'holds' if gate['passed'] else 'FAILS'}: {gate['reason']}")
    outcome = "is champion" if made["promoted"] else "is not promoted"
    typer.echo(f"{result.name} version {result.version} {outcome}; {result.seconds:.0f} s")
    for reason in made["reasons"]:
        typer.echo(f"  {reason}")
    typer.echo(f"  champion: {'none' if result.champion is None else f'version {result.champion}'}; run {result.run}")
    for note in result.notes:
        say(note)


def _write(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"
