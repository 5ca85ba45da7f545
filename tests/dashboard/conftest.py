"""The small cohort beside a refused one, as the dashboard shows them; and the dashboard run on a home."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from catalog import CohortRow, Home, commit_cohort, commit_report, ensure_catalog, open_catalog, resolve_home
from flows.evaluate import evaluate_build
from flows.shards import render_shard
from synth.nouns import GateResult, Report
from synth.plan import plan_cohort
from synth.spec import parse_spec

ROOT = Path(__file__).resolve().parents[2]
REFUSED = """\
name = "refused"
description = "Two adults with multiple sclerosis."
subjects = 2
seed = 3
population = { where = { age_years = [40, 60], diagnosis = ["multiple-sclerosis"] } }
imaging = { contrasts = ["FLAIR"] }
"""
FAILED = GateResult(
    "adherence.snr", 0.5, 0.95, False,
    "adherence.snr: 1 of 2 images within tolerance (0.5000), 0.9500 required; short by 0.4500, worst miss 2.0 times "
    "the tolerance",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shown:
    """A home with a released and a refused cohort, and an image with lesions."""

    home: Path
    released: str
    refused: str
    image: str


def add_cohort(home: Home, recipe: str, *instead: GateResult) -> None:
    """Build a cohort in this process, without flow or workers; ``instead`` replaces gates of its report."""
    spec = parse_spec(recipe)
    plan = plan_cohort(spec)
    records = [render_shard(home, spec.model_dump_json(), shard) for shard in plan.shards]
    row = CohortRow(
        plan.cohort_id, spec.name, spec.content_hash, spec.images_hash, spec.model_dump_json(), "mri",
        plan.engine_version, "adult-brain", plan.population_version, spec.subjects, plan.images,
    )  # fmt: skip
    commit_cohort(home, row, records)
    with open_catalog(home) as catalog:
        report = evaluate_build(catalog, plan)
    replaced = {gate.gate for gate in instead}
    gates = (*(gate for gate in report.gates if gate.gate not in replaced), *instead)
    commit_report(home, Report(report.cohort_id, report.spec_hash, report.scores, gates))


@pytest.fixture(scope="session")
def shown(small_build, make_once, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """Six released subjects and two refused ones, rendered for real; copy the home before changing it."""

    def add_refused(folder: Path) -> None:
        shutil.copytree(small_build.home, folder / "home")
        add_cohort(resolve_home(folder / "home"), REFUSED, FAILED)

    home = Path(shutil.copytree(make_once("shown", add_refused) / "home", tmp_path_factory.mktemp("shown") / "home"))
    with open_catalog(home) as catalog:
        [refused] = catalog.sql("SELECT cohort_id FROM cohorts WHERE name = 'refused'").rows()[0]
        query = (
            "SELECT min(image_id) FROM images JOIN scans USING (scan_id) WHERE lesion_ml > 0 AND scans.cohort_id = ?"
        )
        return Shown(home, small_build.cohort_id, refused, catalog.sql(query, [small_build.cohort_id]).scalar())


@pytest.fixture
def empty_home(tmp_path: Path) -> Path:
    """A catalog without any cohort."""
    ensure_catalog(tmp_path / "empty")
    return tmp_path / "empty"


Open = Callable[..., AppTest]


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> Open:
    """Return a function that runs one page of the dashboard on a home, with the given query parameters."""

    def run(home: Path, at: str = "cohorts", **query: str) -> AppTest:
        monkeypatch.setenv("COHORTIUM_HOME", str(home))
        app = AppTest.from_file(str(ROOT / "dashboard" / "app.py"), default_timeout=30)
        app.switch_page(f"screens/{at}.py")
        for name, value in query.items():
            app.query_params[name] = value
        return app.run()

    return run
