"""The real command, and one small cohort built by it, shared by every test that only looks at (or copies) a home."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SMALL = """\
name = "small"
description = "Six adults, some with multiple sclerosis, half of them seen twice."
subjects = 6
seed = 11

[population]
where = { age_years = [20, 80], diagnosis = ["none", "multiple-sclerosis"] }
targets = { sex = { F = 0.5 }, diagnosis = { multiple-sclerosis = 0.5 } }

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


@dataclass(frozen=True, slots=True)
class SmallBuild:
    """The home of the small cohort, its recipe, and what building it printed."""

    home: Path
    recipe: Path
    outcome: Outcome

    @property
    def cohort_id(self) -> str:
        return str(self.outcome.json()["cohort_id"])


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what the tests cache away from the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COHORTIUM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def cohortium() -> Command:
    return run_cohortium


@pytest.fixture(scope="session")
def small_build(tmp_path_factory: pytest.TempPathFactory) -> SmallBuild:
    """Six subjects, 18 images in 3 shards, built by the real command. Never change it: copy it."""
    folder = tmp_path_factory.mktemp("small")
    recipe = folder / "small.toml"
    recipe.write_text(SMALL)
    outcome = run_cohortium("build", recipe, "--home", folder / "home", "--shard-size", "2", "--workers", "2", "--json")
    assert outcome.code == 0, outcome.err
    return SmallBuild(folder / "home", recipe, outcome)


@pytest.fixture(scope="session")
def small_home(small_build: SmallBuild) -> Path:
    """The home of the small cohort; read-only for tests."""
    return small_build.home


@pytest.fixture
def small_copy(small_home: Path, tmp_path: Path) -> Path:
    """A copy of the small cohort's home that a test may change."""
    return Path(shutil.copytree(small_home, tmp_path / "copy"))
