"""The command in the test's own process, and a table of people with a model fitted to it."""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows import cli
from flows.server import find_free_port, own_server
from flows.settings import load_settings
from tests.flows.people_table import RULES, make_table

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Run]:
    """Run the command in this process, in the test's folder; return (exit code, stdout, stderr).

    For the many cases that differ in a word or two: a process of its own costs each of them a second.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("COHORTIUM_HOME", str(tmp_path / "home"))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cohortium", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capfd.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of flows that use a Prefect server which runs already, as a shared one does."""
    settings = load_settings(tmp_path_factory.mktemp("prefect"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PREFECT_API_URL", "PREFECT_HOME"):
            patch.setenv(name, "")  # own_server sets both for this process too: they are put back
            patch.delenv(name)
        with own_server(settings, find_free_port(), "api") as url:
            patch.undo()
            yield {"PREFECT_API_URL": url}


@pytest.fixture
def population(here: Run) -> Run:
    """Run ``cohortium population``, likewise."""
    return functools.partial(here, "population")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, rules and a model fitted by the command. Read-only for tests."""
    place = tmp_path_factory.mktemp("people")
    pq.write_table(make_table(), place / "people.parquet")
    pq.write_table(make_table(seed=6), place / "others.parquet")
    (place / "rules.toml").write_text(RULES)
    arguments = ("fit", "people.parquet", "--out", "model", "--ignore", "image_id", "--rules", "rules.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(sys, "argv", ["cohortium", "population", *arguments, "--no-register", "--json"])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert not end.value.code
    return place
