"""``cohortium population twins|controls|trial|sites``: study designs, drawn from a model into one file."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.population_cli import Force, Model, Seed, app, open_named_model
from flows.terminal import Home, Json, print_json, print_table, show_progress

Out = Annotated[Path, typer.Option(help="File to write: .parquet or .csv.")]
Subjects = Annotated[int, typer.Option("-n", "--subjects", min=1, help="How many people to draw.")]
Where = Annotated[list[str] | None, typer.Option(help="Condition that all must meet, e.g. sex=F or age_years=40:65.")]
Target = Annotated[list[str] | None, typer.Option(help="COND@SHARE or COND@SHARE|STRATUM, as in 'sample'.")]


@app.command()
def twins(
    model: Model,
    out: Out,
    change: Annotated[list[str], typer.Option(help="What a twin has instead: sex=F, findings!=Mass.")],
    keep: Annotated[
        list[str] | None,
        typer.Option(help="Attributes the twin shares (default: all numbers, and what is the same on every visit)."),
    ] = None,
    subjects: Subjects = 1000,
    seed: Seed = 0,
    where: Where = None,
    target: Target = None,
    force: Force = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Draw people and their counterfactual twins: one attribute is changed, and what depends on it changes with it.

    Both meet the same random words, so that a twin differs only as far as the change makes it. The column ``twin``
    says original or twin; subject_index is shared.

      cohortium population twins models/chest -n 5000 --where findings=Mass --change "findings!=Mass" --out both.parquet
    """
    asked = _asked(subjects, seed, where, target)
    _run("write_twins", model, home, (asked, change, keep, _out(out, force)), as_json)


@app.command()
def controls(
    model: Model,
    out: Out,
    control: Annotated[list[str], typer.Option(help="What every control must meet, e.g. findings=none.")],
    match: Annotated[str, typer.Option(help="What a control shares with its case, e.g. sex,age_years/5 (bands of 5).")],
    ratio: Annotated[int, typer.Option(min=1, help="Controls for each case.")] = 1,
    subjects: Subjects = 1000,
    seed: Seed = 0,
    where: Where = None,
    target: Target = None,
    force: Force = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Draw cases (--where) and matched controls (--control) for each of them; ``case_index`` says whose they are.

    cohortium population controls models/chest -n 500 --where findings=Hernia --control "findings=none"
    --match "sex,age_years/5" --ratio 4 --out hernia.parquet
    """
    asked = _asked(subjects, seed, where, target)
    _run("write_controls", model, home, (asked, control, match, ratio, _out(out, force)), as_json)


@app.command()
def trial(
    model: Model,
    out: Out,
    arm: Annotated[list[str], typer.Option(help="Arm and its ratio, e.g. drug=2; give one for each arm.")],
    strata: Annotated[
        str | None, typer.Option(help="Balance arms within these, e.g. sex,age_years/20 (bands of 20).")
    ] = None,
    subjects: Subjects = 1000,
    seed: Seed = 0,
    where: Where = None,
    target: Target = None,
    force: Force = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Draw people and randomise them to the arms of a trial, in permuted blocks within strata.

    cohortium population trial models/chest -n 600 --arm drug=2 --arm placebo=1 --strata "sex,age_years/20"
    --out trial.parquet
    """
    asked = _asked(subjects, seed, where, target)
    _run("write_trial", model, home, (asked, arm, strata, _out(out, force)), as_json)


@app.command()
def sites(
    model: Model,
    plan: Annotated[
        Path, typer.Argument(metavar="SITES.toml", help="The sites: [[site]] name, share, where, targets.")
    ],
    out: Out,
    subjects: Subjects = 1000,
    seed: Seed = 0,
    force: Force = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Draw the people of a multicentre study: every site has its share of them and its own mix.

    SITES.toml:

      [[site]]
      name = "north"
      share = 0.6
      targets = ["sex=F@0.7"]
      [[site]]
      name = "south"
      share = 0.4
      where = ["age_years=60:"]
    """
    _run("write_sites", model, home, (_asked(subjects, seed, None, None), plan, _out(out, force)), as_json)


def _asked(subjects: int, seed: int, where: list[str] | None, target: list[str] | None) -> dict[str, Any]:
    return {"subjects": subjects, "seed": seed, "where": where or [], "targets": target or []}


def _out(file: Path, overwrite: bool) -> dict[str, Any]:
    return {"file": file, "overwrite": overwrite, "progress": show_progress}


def _run(name: str, model: str, home: Path | None, arguments: tuple[Any, ...], as_json: bool) -> None:
    importlib.import_module("flows.populations").check_out(arguments[-1]["file"], arguments[-1]["overwrite"])
    write = getattr(importlib.import_module("flows.population_designs"), name)
    document = write(open_named_model(model, home), *arguments)
    if as_json:
        print_json(document)
        return
    print_table(("who", "subjects"), sorted(document["counts"].items()))
    typer.echo(f"{document['file']}: {document['rows']:,} rows in {document['seconds']:.1f} s")
