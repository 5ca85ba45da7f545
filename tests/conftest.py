"""The real command, and one small cohort built by it, shared by every test that only looks at (or copies) a home."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

if "PYTEST_XDIST_WORKER" in os.environ:  # one core for each test process: nested threads would only fight over them
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything loads torch

ROOT = Path(__file__).resolve().parents[1]
SMALL = """\
name = "small"
description = "Six adults, half with multiple sclerosis, half of them seen twice."
subjects = 6
seed = 11

[population]
where = { age_years = [20, 80], diagnosis = ["none", "multiple-sclerosis"] }
targets = { sex = { F = 0.5 }, diagnosis = { multiple-sclerosis = 0.5 }, age_years = { "20-50" = 0.5 } }

[[population.prevalence]]
diagnosis = "multiple-sclerosis"
share = 0.6
where = { sex = ["F"], age_years = [20, 80] }

[imaging]
contrasts = ["T1w", "FLAIR"]
visits = { count = 2, interval_years = 2.0, share = 0.5 }

[gates]
population_error_max = 0.1
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Outcome]


def run_cohortium(*arguments: str | Path, env: dict[str, str] | None = None, cwd: Path = ROOT) -> Outcome:
    """Run the real command in a process of its own."""
    command = [sys.executable, "-m", "flows", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **(env or {})}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, timeout=300, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def cohortium() -> Command:
    return run_cohortium


@dataclass(frozen=True, slots=True)
class SmallBuild:
    """The home of the small cohort, its recipe, and what building it printed."""

    home: Path
    recipe: Path
    outcome: Outcome

    @property
    def cohort_id(self) -> str:
        return str(self.outcome.json()["cohort_id"])


# ------------------------------------------------------------------------------------- made once for all test processes

Make = Callable[[Path], object]
MakeOnce = Callable[[str, Make], Path]


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """Return a function that has a folder filled by the test process that asks first; the others wait for it."""
    own = tmp_path_factory.getbasetemp()
    common = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def make_once(name: str, make: Make) -> Path:
        folder, whole = common / name, common / f"{name}.whole"
        with FileLock(common / f"{name}.lock"):
            if not whole.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
                folder.mkdir()
                make(folder)
                whole.touch()
        return folder

    return make_once


@pytest.fixture(scope="session", autouse=True)
def _own_cache(make_once: MakeOnce) -> Iterator[None]:
    """Keep what the tests cache away from the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COHORTIUM_CACHE", str(make_once("cache", lambda folder: None)))
        yield


def _build_small(folder: Path) -> None:
    recipe = folder / "small.toml"
    recipe.write_text(SMALL)
    outcome = run_cohortium("build", recipe, "--home", folder / "home", "--shard-size", "2", "--workers", "2", "--json")
    assert outcome.code == 0, outcome.err
    (folder / "outcome.json").write_text(json.dumps(asdict(outcome)))


@pytest.fixture(scope="session")
def small_build(make_once: MakeOnce, tmp_path_factory: pytest.TempPathFactory) -> SmallBuild:
    """Six subjects, 18 images in 3 shards, built by the real command. Never change it: copy it."""
    made = make_once("small", _build_small)
    folder = Path(shutil.copytree(made, tmp_path_factory.mktemp("small") / "own"))
    outcome = Outcome(**json.loads((folder / "outcome.json").read_text()))
    return SmallBuild(folder / "home", folder / "small.toml", outcome)


@pytest.fixture(scope="session")
def small_home(small_build: SmallBuild) -> Path:
    """The home of the small cohort; read-only for tests."""
    return small_build.home


@pytest.fixture
def small_copy(small_home: Path, tmp_path: Path) -> Path:
    """A copy of the small cohort's home that a test may change."""
    return Path(shutil.copytree(small_home, tmp_path / "copy"))
