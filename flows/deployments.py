"""Schedules: every recipe that has one becomes a Prefect deployment and is built at its time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import flows.settings  # noqa: F401  sets Prefect's quiet defaults before it is imported

from prefect import flow  # isort: skip
from prefect import serve as serve_deployments
from prefect.client.schemas.schedules import CronSchedule
from prefect.context import refresh_global_settings_context
from prefect.deployments.runner import RunnerDeployment

from flows.models import plan_without_trace
from flows.run import run_build
from flows.server import HOST, is_port_free, own_server, start_child, stop_child
from flows.settings import Settings, child_environment, load_settings
from flows.tracking import explain_tracking, prepare_store
from synth.errors import BusyError, SpecError
from synth.spec import CohortSpec, load_spec

SHIPPED_SPECS = Path(__file__).parent / "specs"
Say = Callable[[str], None]


@flow(name="scheduled-build", flow_run_name="{recipe}", persist_result=False)
def scheduled_build(recipe: str, home: str, workers: int) -> None:
    """Build the recipe at path ``recipe``; the same call as ``cohortium build``."""
    result = run_build(load_spec(Path(recipe)), load_settings(home, workers), _no_progress, print)
    print(json.dumps(asdict(result)))  # goes to the log of the serving process


@contextmanager
def _no_progress(total: int, done: int) -> Iterator[Callable[[int], None]]:
    yield lambda images: None


def find_scheduled(places: Sequence[Path], settings: Settings | None = None) -> list[tuple[Path, CohortSpec]]:
    """Return the recipes among ``places`` (files, or folders of them) that have a schedule, each checked.

    Raises SpecError if one cannot be used, if two have the same name, or if none has a schedule.
    """
    files = [file for place in places for file in (sorted(place.glob("*.toml")) if place.is_dir() else [place])]
    found = [(file.resolve(), recipe) for file in files if (recipe := load_spec(file)).schedule is not None]
    if not found:
        raise SpecError(
            f"no recipe with a [schedule] in {[str(place) for place in places]}; add one: cron = '0 3 * * 1'"
        )
    names = [recipe.name for _, recipe in found]
    if len(set(names)) != len(names):
        raise SpecError(f"two scheduled recipes have the same name: {sorted(names)}; rename one")
    for _, recipe in found:
        plan_without_trace(recipe, settings or load_settings())
        _read_schedule(recipe)
    return found


def _read_schedule(recipe: CohortSpec) -> CronSchedule:
    assert recipe.schedule is not None
    try:
        return CronSchedule(cron=recipe.schedule.cron, timezone=recipe.schedule.timezone)
    except ValueError as error:
        raise SpecError(f"recipe '{recipe.name}': schedule cannot be used: {error}") from error


def make_deployment(settings: Settings, path: Path, recipe: CohortSpec) -> RunnerDeployment:
    """Return the Prefect deployment that builds one recipe on its schedule."""
    deployment: RunnerDeployment = scheduled_build.to_deployment(
        name=recipe.name,
        schedule=_read_schedule(recipe),
        parameters={"recipe": str(path), "home": str(settings.home.root), "workers": settings.workers},
        description=recipe.description or None,
        tags=["cohortium"],
    )
    return deployment


def serve(
    settings: Settings, scheduled: Sequence[tuple[Path, CohortSpec]], port: int, mlflow_port: int, say: Say
) -> None:
    """Keep a deployment for each recipe and run them at their times until interrupted.

    Raises BusyError if a port is taken.
    """
    for wanted, option in ((port, "--port"), (mlflow_port, "--mlflow-port")):
        if not is_port_free(wanted):
            raise BusyError(f"port {wanted} on {HOST} is taken; choose another with {option}")
    address = settings.prefect_folder / "server.json"
    with own_server(settings, port, "full") as url, _mlflow_server(settings, mlflow_port):
        refresh_global_settings_context()  # Prefect was imported before the address of its server was known
        address.write_text(json.dumps({"api_url": url, "pid": os.getpid()}))
        try:
            say(f"Prefect UI: http://{HOST}:{port}   MLflow UI: http://{HOST}:{mlflow_port}   (Ctrl-C ends both)")
            deployments = [make_deployment(settings, path, recipe) for path, recipe in scheduled]
            serve_deployments(*deployments, limit=1, print_starting_message=False)
        finally:
            address.unlink(missing_ok=True)


@contextmanager
def _mlflow_server(settings: Settings, port: int) -> Iterator[None]:
    with explain_tracking(settings):
        prepare_store(settings)
    artifacts = (settings.home.root / "mlartifacts").as_uri()
    arguments = [settings.tracking_uri, artifacts, str(port)]
    child = start_child("flows.mlflow_server", arguments, settings.home.root / "mlflow.log", child_environment())
    try:
        yield
    finally:
        stop_child(child)
