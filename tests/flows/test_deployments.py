"""Schedules: which recipes are served, what is refused, and one that really runs at its minute."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import pytest

from catalog import open_catalog
from flows.deployments import SHIPPED_SPECS, find_scheduled, make_deployment
from flows.server import HOST, find_free_port, is_port_free
from flows.settings import load_settings
from infra.benchmarks.kill_test import MARK, describe_process, find_marked, heed_ctrl_c
from synth.errors import SpecError

ROOT = Path(__file__).resolve().parents[2]


def write_recipe(folder: Path, name: str, cron: str | None = "0 3 * * 1", timezone: str = "UTC") -> Path:
    path = folder / f"{name}-{uuid.uuid4().hex[:6]}.toml"
    schedule = "" if cron is None else f"[schedule]\ncron = '{cron}'\ntimezone = '{timezone}'\n"
    path.write_text(f"name = '{name}'\nsubjects = 2\n{schedule}")
    return path


def test_shipped_recipes_with_a_schedule_are_found():
    found = find_scheduled([SHIPPED_SPECS])
    assert {recipe.name for _, recipe in found} == {"ageing", "ms-rare"}
    assert all(path.is_absolute() for path, _ in found)


def test_files_and_folders_may_be_mixed(tmp_path):
    (tmp_path / "more").mkdir()
    first = write_recipe(tmp_path, "first")
    write_recipe(tmp_path / "more", "second")
    write_recipe(tmp_path / "more", "idle", cron=None)
    assert [recipe.name for _, recipe in find_scheduled([first, tmp_path / "more"])] == ["first", "second"]


@pytest.mark.parametrize(
    ("cron", "timezone"),
    [("61 * * * *", "UTC"), ("every day", "UTC"), ("* * *", "UTC"), ("0 3 * * 1", "Mars/Olympus")],
)
def test_schedule_that_cannot_be_used_names_its_recipe(cron, timezone, tmp_path):
    with pytest.raises(SpecError, match="recipe 'odd': schedule cannot be used"):
        find_scheduled([write_recipe(tmp_path, "odd", cron, timezone)])


def test_two_recipes_of_one_name(tmp_path):
    write_recipe(tmp_path, "twin")
    write_recipe(tmp_path, "twin")
    with pytest.raises(SpecError, match="the same name"):
        find_scheduled([tmp_path])


def test_nothing_scheduled_says_how_to(tmp_path):
    write_recipe(tmp_path, "idle", cron=None)
    with pytest.raises(SpecError, match=r"no recipe with a \[schedule\].*cron = "):
        find_scheduled([tmp_path])


def test_deployment_carries_schedule_and_home(tmp_path):
    [(path, recipe)] = find_scheduled([write_recipe(tmp_path, "weekly", timezone="Europe/Berlin")])
    deployment = make_deployment(load_settings(tmp_path / "home", 2), path, recipe)
    [schedule] = deployment.schedules
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("0 3 * * 1", "Europe/Berlin")
    assert deployment.parameters == {"recipe": str(path), "home": str(tmp_path / "home"), "workers": 2}


def test_dry_run_lists_schedules_and_starts_nothing(tmp_path, cohortium):
    outcome = cohortium("serve", write_recipe(tmp_path, "weekly"), "--home", tmp_path / "home", "--dry-run")
    assert outcome.code == 0
    assert "weekly: '0 3 * * 1' UTC" in outcome.err
    assert not (tmp_path / "home").exists()


def test_taken_port_is_named(tmp_path, cohortium):

    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        outcome = cohortium("serve", write_recipe(tmp_path, "x"), "--home", tmp_path / "home", "--port", str(port))
    assert (outcome.code, outcome.out) == (75, "")
    assert f"port {port} on {HOST} is taken; choose another with --port" in outcome.err


def ask_prefect(url: str, path: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(f"{url}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.URLError:
        return []


@pytest.mark.slow
def test_served_recipe_is_built_at_its_minute_and_ctrl_c_ends_all(tmp_path):
    recipe, home, mark = write_recipe(tmp_path, "minute", "* * * * *"), tmp_path / "home", uuid.uuid4().hex
    port, mlflow_port = find_free_port(), find_free_port()
    ports = ["--port", str(port), "--mlflow-port", str(mlflow_port)]
    url = f"http://{HOST}:{port}/api"
    log = (tmp_path / "serve.log").open("w+")
    server = subprocess.Popen(
        [sys.executable, "-m", "flows", "serve", str(recipe), "--home", str(home), "--workers", "1", *ports],
        stdout=log, stderr=log, cwd=ROOT, env={**os.environ, MARK: mark}, start_new_session=True,
        preexec_fn=heed_ctrl_c,
    )  # fmt: skip
    try:
        runs: list[Any] = []
        deadline = time.monotonic() + 240
        while not runs and time.monotonic() < deadline and server.poll() is None:
            time.sleep(1)
            done = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}, "deployment_id": {"is_null_": False}}}
            runs = ask_prefect(url, "/flow_runs/filter", done)
        log.seek(0)
        assert runs, log.read()
        assert [d["name"] for d in ask_prefect(url, "/deployments/filter", {})] == ["minute"]
        with urllib.request.urlopen(f"http://{HOST}:{port}/", timeout=10) as page:
            assert b"<title>Prefect" in page.read()
        with urllib.request.urlopen(f"http://{HOST}:{mlflow_port}/health", timeout=10) as page:
            assert page.read() == b"OK"
        with open_catalog(home) as catalog:
            assert catalog.sql("SELECT name, status FROM cohort_status").rows() == [("minute", "released")]
        server.send_signal(signal.SIGINT)
        assert server.wait(15) == 0
        deadline = time.monotonic() + 5
        while find_marked(mark) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert [describe_process(process) for process in find_marked(mark)] == []
        assert is_port_free(port)
        assert is_port_free(mlflow_port)
        assert not (home / "prefect" / "server.json").exists()
        log.seek(0)
        assert "Traceback" not in log.read()
    finally:
        for process in find_marked(mark):
            process.kill()
        server.wait()
        log.close()
