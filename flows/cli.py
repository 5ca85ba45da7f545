"""The ``cohortium`` command. Answers go to stdout, all else to stderr; ``--json`` prints exactly one JSON document.

Modules that load Prefect, MLflow or the engines are imported by the command that needs them, so that
``cohortium --help`` and ``cohortium sql`` answer at once.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from flows import evaluate_cli, import_cli, kspace_cli, population_designs_cli, promote_cli, release_cli, train_cli
from flows.settings import Settings, load_settings
from flows.terminal import Home, Json, console, print_json, say, show_progress
from synth.errors import CohortiumError, RetryableError
from synth.spec import load_spec

LEAVE_AFTER_S = 4.0
INTERRUPTED, RETRYABLE, PERMANENT = 130, 75, 1

app = typer.Typer(
    name="cohortium",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="""Synthetic medical-imaging cohorts: from a recipe to checked, registered, browsable images.

    First steps:

      cohortium build flows/specs/demo.toml      build and register a cohort of brain MRI

      cohortium build flows/specs/demo-radiographs.toml   chest radiographs, drawn by a shipped model

      cohortium sql "FROM cohort_status"         see how it stands

      cohortium dashboard                        look at it in a browser

      cohortium import PATH --name NAME          register real data as a Reference, never released

      cohortium evaluate IMAGES --reference NAME judge images of any tool against it: quality, privacy, fairness

      cohortium train RECIPE                     train a model that draws such images; cohorts are built from it

      cohortium promote NAME                     make it the champion if it is better than the one before

      cohortium population --help                learn a population from a real table, draw people from it

    Everything is kept below COHORTIUM_HOME (default: ./cohortium-data). Interrupted work continues when the same
    command is run again. Exit codes: 0 done, 1 wrong input or a damaged or differing result, 2 unknown option,
    75 try again later (a full disk, a lock), 130 interrupted.""",
)
app.add_typer(population_designs_cli.app)
app.command("import")(import_cli.import_data)
app.command()(evaluate_cli.evaluate)
app.command()(train_cli.train)
app.command()(promote_cli.promote)
app.command()(kspace_cli.kspace)
app.command()(release_cli.release)
app.command()(release_cli.withdraw)

SpecPath = Annotated[Path, typer.Argument(metavar="SPEC", help="Recipe: a TOML file, e.g. flows/specs/demo.toml.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done and the recipe's hash; do nothing.")]


@app.command()
def build(
    spec: SpecPath,
    home: Home = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes (default: one a core).")] = None,
    shard_size: Annotated[
        int | None, typer.Option(min=1, help="Subjects in a shard (default: about 32 MB). Never changes an image.")
    ] = None,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Build a cohort: draw subjects, render and measure images, register, evaluate, and release it if its gates hold.

    Run the same command again after an interruption: finished shards are kept, and the result is the same as
    without the interruption. A finished recipe renders nothing but shards that 'cohortium verify' would call
    missing or damaged. A cohort whose gates do not hold is refused, which is a result and no error (exit code 0).
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave_soon)
    settings = load_settings(home, workers, shard_size)
    recipe = load_spec(spec)
    if dry_run:
        importlib.import_module("synth.evaluation.gates").check_gates(recipe)
        importlib.import_module("flows.evaluate").check_evaluation(recipe)
        print_plan(importlib.import_module("flows.models").plan_without_trace(recipe, settings), as_json)
        return
    run = importlib.import_module("flows.run")
    result = run.run_build(recipe, settings, show_progress, say)
    if as_json:
        print_json(asdict(result))
        return
    typer.echo(f"{result.cohort_id}: {result.status}, {result.images} images of {result.subjects} subjects")
    typer.echo(
        f"  shards: {result.shards_rendered} rendered, {result.shards_reused} reused; snapshot {result.snapshot_id}; "
        f"{result.seconds:.1f} s"
    )
    for reason in result.reasons:
        typer.echo(f"  refused: {reason}")
    typer.echo(f"  contact sheet: {settings.report_folder / result.cohort_id / 'contact-sheet.png'}")


def print_plan(plan: Any, as_json: bool) -> None:
    """Print a resolved recipe and what building it would do."""
    summary = {
        "cohort_id": plan.cohort_id,
        "spec_hash": plan.spec.content_hash,
        "engine": f"{plan.spec.imaging.engine} {plan.engine_version}",
        "population": f"{plan.spec.population.source} {plan.population_version}",
        "subjects": plan.spec.subjects,
        "images": plan.images,
        "shards": len(plan.shards),
    }
    if as_json:
        print_json({**summary, "spec": plan.spec.model_dump(mode="json")})
        return
    for name, value in summary.items():
        typer.echo(f"{name:<11} {value}")
    typer.echo(json.dumps(plan.spec.model_dump(mode="json"), indent=2))


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help='One SELECT, e.g. "SELECT * FROM released_images LIMIT 5".')],
    output: Annotated[str, typer.Option("--format", help="table, csv, json or parquet.")] = "table",
    home: Home = None,
) -> None:
    """Query the catalog, read-only. 'FROM descriptions' says what every table and column means.

    Released cohorts are in released_cohorts, released_subjects, released_scans, released_images and
    released_measurements; all of them, refused ones included, in the tables without that prefix.
    """
    tables = importlib.import_module("flows.tables")
    catalog = importlib.import_module("catalog")
    tables.check_format(output)
    with catalog.open_catalog(home) as opened:
        result = opened.sql(query)
    tables.write_result(result, output, sys.stdout)


@app.command()
def replay(
    wanted: Annotated[
        list[str], typer.Argument(metavar="IMAGE_ID|COHORT...", help="Images, or cohorts by id or name, to regenerate.")
    ],
    sample: Annotated[int, typer.Option(min=0, help="Images drawn of each cohort; 0: all.")] = 12,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Regenerate images from their rows and compare pixels and masks bit for bit. Exit code 1 on a difference."""
    replay_images = importlib.import_module("flows.replay").replay_images
    found = replay_images(load_settings(home), wanted, sample, show_progress)
    if as_json:
        print_json([asdict(outcome) for outcome in found])
    else:
        for outcome in found:
            verdict = "identical" if outcome.identical else f"DIFFERENT by up to {outcome.largest_difference}"
            typer.echo(f"{outcome.image_id}: {verdict}{f' ({outcome.note})' if outcome.note else ''}")
    if not all(outcome.identical for outcome in found):
        raise typer.Exit(PERMANENT)


@app.command()
def verify(home: Home = None, as_json: Json = False) -> None:
    """Hash every registered shard again and name the damaged ones. Exit code 1 if any is.

    To repair them, build the recipe of their cohort again: it renders missing and damaged shards anew.
    """
    catalog = importlib.import_module("catalog")
    shards, damaged = 0, []
    with show_progress(len(catalog.registered_shards(home)), 0) as advance:
        for step in catalog.verify_shards(home):
            shards = step.checked
            advance(1)
            if step.damaged is not None:
                damaged.append(asdict(step.damaged))
    if as_json:
        print_json({"shards": shards, "damaged": damaged})
    else:
        typer.echo(f"{shards} shards checked, {len(damaged)} damaged")
        for found in damaged:
            typer.echo(f"  {found['shard_id']}: {found['reason']} ({found['path']})")
    if damaged:
        raise typer.Exit(PERMANENT)


@app.command()
def dashboard(
    home: Home = None,
    port: Annotated[int, typer.Option(min=1024, max=65535, help="Port on 127.0.0.1.")] = 8501,
) -> None:
    """Open the dashboard on 127.0.0.1: cohorts, subjects, images, slices with masks, requested against measured."""
    importlib.import_module("flows.dashboard").run_dashboard(load_settings(home), port)


@app.command()
def serve(
    specs: Annotated[
        list[Path] | None, typer.Argument(metavar="[SPEC|FOLDER]...", help="Recipes (default: the shipped ones).")
    ] = None,
    home: Home = None,
    port: Annotated[int, typer.Option(min=1024, max=65535, help="Port of the Prefect UI on 127.0.0.1.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1024, max=65535, help="Port of the MLflow UI on 127.0.0.1.")] = 5000,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes of a build.")] = None,
    dry_run: DryRun = False,
) -> None:
    """Build every recipe that has a schedule at its time; Prefect and MLflow UIs on 127.0.0.1. Ctrl-C ends it."""
    deployments = importlib.import_module("flows.deployments")
    settings = load_settings(home, workers)
    scheduled = deployments.find_scheduled(specs or [deployments.SHIPPED_SPECS], settings)
    for path, recipe in scheduled:
        when = f"'{recipe.schedule.cron}' {recipe.schedule.timezone}"
        say(f"{recipe.name}: {when}, recipe hash {recipe.content_hash[:10]} ({path})")
    if not dry_run:
        deployments.serve(settings, scheduled, port, mlflow_port, say)


@app.command()
def describe(home: Home = None, as_json: Json = False) -> None:
    """List what recipes can ask for: engines, contrasts, populations, measurements, and the tables of the catalog."""
    registries = importlib.import_module("flows.registries").describe_registries()
    if as_json:
        print_json(registries)
        return
    for family, entries in registries.items():
        typer.echo(f"{family}:")
        for name, text in entries.items():
            typer.echo(f"  {name:<22} {text}")


def report_error(error: CohortiumError) -> int:
    """Print an error without a traceback and return the exit code of its family."""
    console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
    return RETRYABLE if isinstance(error, RetryableError) else PERMANENT


def main() -> None:
    """Run the command line; errors made on purpose are shown as one message."""
    try:
        app()
    except CohortiumError as error:
        sys.exit(report_error(error))
    except SystemExit as end:
        if end.code != INTERRUPTED:  # Typer's answer to Ctrl-C
            raise
        leave_interrupted()
    except RuntimeError as error:
        if str(error) != "Query interrupted":  # DuckDB's answer to Ctrl-C
            raise
        leave_interrupted()


def leave_soon(number: int, frame: FrameType | None) -> None:
    """Interrupt the build, and make sure that it ends soon: some libraries swallow interrupts, some threads go on."""
    timer = threading.Timer(LEAVE_AFTER_S, leave_interrupted)
    timer.daemon = True
    timer.start()
    raise KeyboardInterrupt


def leave_interrupted() -> None:
    """Say so and end at once: DuckDB's threads may abort a Python that takes itself down in order.

    Workers and servers end with this process, and a build may be cut off anywhere.
    """
    console.show_cursor(True)  # a progress bar hides it
    say("interrupted: finished shards are kept, nothing else is half-written; run the same command again")
    sys.stdout.flush()
    os._exit(INTERRUPTED)


__all__ = ["Settings", "app", "main"]
