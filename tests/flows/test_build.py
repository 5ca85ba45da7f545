"""``cohortium build`` as a user runs it: results, interruptions, two at once, repairs, refusals, tracking."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from mlflow.tracking import MlflowClient

from catalog import open_catalog, resolve_home, verify_all
from catalog.writer import open_writer
from flows.run import BuildResult
from flows.shards import render_shard
from infra.benchmarks.kill_test import (
    COMMIT,
    Build,
    find_faults,
    finished_files,
    read_content,
    run_kills,
    temporary_files,
)
from synth.errors import DamagedShardError
from synth.plan import plan_cohort
from synth.spec import load_spec

SHARDS_OF_2 = ("--shard-size", "2", "--workers", "2")
ONE_WORKER = ("--shard-size", "2", "--workers", "1")  # a second one takes longer to start than six subjects take


@pytest.fixture(scope="session")
def expected(small_home):
    """What every home that holds the small cohort must contain."""
    return read_content(small_home)


def pixels_by_image(home: Path) -> dict[str, tuple[str, str]]:
    query = "SELECT image_id, pixels_sha256, CAST(list_transform(masks, lambda m: m.sha256) AS VARCHAR) FROM pixels"
    with open_catalog(home) as catalog:
        return {image: (pixels, masks) for image, pixels, masks in catalog.sql(query).rows()}


# ------------------------------------------------------------------------------------------------ plain result


def test_build_prints_one_json_document_and_releases(small_build):
    document = small_build.outcome.json()
    assert list(document) == list(BuildResult.__dataclass_fields__)
    assert set(document) == {
        "cohort_id", "snapshot_id", "status", "reasons", "subjects", "images", "shards_rendered", "shards_reused",
        "seconds",
    }  # fmt: skip
    assert (document["status"], document["reasons"]) == ("released", [])
    assert (document["subjects"], document["images"]) == (6, 18)
    assert (document["shards_rendered"], document["shards_reused"]) == (3, 0)
    with open_catalog(small_build.home) as catalog:
        assert catalog.sql("SELECT count(*) FROM released_images").scalar() == 18
        assert catalog.snapshot_id >= document["snapshot_id"]
    assert verify_all(small_build.home).damaged == ()
    assert temporary_files(small_build.home) == []


def test_build_is_quiet_on_stderr(small_build):
    """Nothing but the progress bar: no log lines, warnings or tracebacks of Prefect, MLflow or Alembic."""
    lines = [line for line in small_build.outcome.err.splitlines() if line.strip()]
    assert all(line.startswith("images ") for line in lines), small_build.outcome.err


def test_finished_recipe_renders_nothing_and_says_so(small_build, cohortium):
    first = small_build.outcome.json()
    again = cohortium("build", small_build.recipe, "--home", small_build.home, "--json")
    assert again.code == 0
    document = again.json()
    assert "finished: nothing to render (3 shards checked)" in again.err
    assert (document["shards_rendered"], document["shards_reused"]) == (0, 3)
    assert [document[key] for key in ("cohort_id", "snapshot_id", "status")] == [
        first[key] for key in ("cohort_id", "snapshot_id", "status")
    ]
    assert document["seconds"] < first["seconds"] / 3


# ------------------------------------------------------------------------------------------------ interruptions


@pytest.mark.slow
def test_kill_9_of_the_flow_loses_and_doubles_nothing(small_build, expected, tmp_path):
    """Five kills; infra/benchmarks/kill_test.py does twenty. That two workers end with their parent: test_pool."""
    generator = random.Random(20260101)
    duration = small_build.outcome.json()["seconds"] + 2
    delays = [0.0, *(duration * (n + generator.random()) / 3 for n in range(3)), COMMIT]
    kills, ends = [], []
    for outcome in run_kills(small_build.recipe, tmp_path, delays, *ONE_WORKER):
        if isinstance(outcome, Path):
            ends.append(outcome)
            assert find_faults(outcome, expected) == []
        else:
            kills.append(outcome)
            assert outcome.orphans == (), f"left after the kill at {outcome.delay_s:.1f} s"
    assert len(kills) == len(delays)
    check_tracking(ends[-1], small_build.cohort_id)


def writing_workers(build: Build) -> list[psutil.Process]:
    """Return the workers that are in the middle of a shard, whose temporary file bears their number."""
    writing = {path.name.split(".")[-3] for path in build.home.rglob(".*.tmp")}
    return [worker for worker in build.workers() if str(worker.pid) in writing] if writing else []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_at_once_and_the_next_run_continues(number, small_build, expected, tmp_path):
    """The next run loses a worker in the middle of a shard, which is survived and reported."""
    build = Build(small_build.recipe, tmp_path / "home", *(SHARDS_OF_2 if number == signal.SIGINT else ONE_WORKER))
    assert build.wait_until(lambda: bool(finished_files(build.home)))
    build.process.send_signal(number)
    assert build.process.wait(60) == 130
    assert "finished shards are kept" in build.stderr()
    assert "Traceback" not in build.stderr()
    assert build.wait_for_orphans() == []
    if number == signal.SIGINT:
        again = Build(small_build.recipe, tmp_path / "home", *ONE_WORKER)
        caught: list[psutil.Process] = []
        assert again.wait_until(lambda: bool(caught.extend(writing_workers(again)) or caught))
        caught[0].kill()
        document = again.finish()
        assert (document["status"], document["shards_reused"] >= 1) == ("released", True)
        assert "1 worker process(es) died and were replaced" in again.stderr()
        assert find_faults(build.home, expected) == []
        assert again.wait_for_orphans() == []


def test_ctrl_c_while_starting_is_an_interruption_too(small_build, tmp_path):
    build = Build(small_build.recipe, tmp_path / "home")
    assert build.wait_until((build.home / "catalog.sqlite").exists)
    build.process.send_signal(signal.SIGINT)
    assert build.process.wait(60) == 130
    assert "Traceback" not in build.stderr()


# ------------------------------------------------------------------------------------------------ two at once


@pytest.mark.slow
def test_builds_at_once_of_one_recipe_and_of_another(small_build, expected, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text('name = "other"\nsubjects = 3\n')
    home = tmp_path / "home"
    builds = [Build(small_build.recipe, home, *ONE_WORKER) for _ in range(2)]
    builds.append(Build(other, home, "--shard-size", "2", "--workers", "1"))
    first, second, third = (build.finish() for build in builds)
    assert sorted((first["shards_rendered"], second["shards_rendered"])) == [0, 3]
    assert [first[key] for key in ("cohort_id", "snapshot_id", "status")] == [
        second[key] for key in ("cohort_id", "snapshot_id", "status")
    ]
    assert sum("another process is building" in build.stderr() for build in builds) == 1
    assert (third["status"], third["shards_rendered"], third["images"]) == ("released", 2, 3)
    assert third["cohort_id"] != first["cohort_id"]
    with open_catalog(home) as catalog:
        assert catalog.sql("SELECT count(*), count(DISTINCT image_id) FROM released_images").rows() == [(21, 21)]
    found = pixels_by_image(home)
    assert {image: found[image] for image in found if image.startswith("small")} == pixels_by_image(small_build.home)
    assert verify_all(home).damaged == ()
    check_tracking(home, str(first["cohort_id"]))


# ------------------------------------------------------------------------------------------------ shards


@pytest.mark.parametrize("size", [1, 4])
def test_shard_size_never_changes_an_image(size, small_build, tmp_path):
    """In one process without orchestration; workers and shards of 2 made the other side."""
    plan = plan_cohort(load_spec(small_build.recipe), size)
    home = resolve_home(tmp_path / "home")
    found = {}
    for shard in plan.shards:
        record = render_shard(home, plan.spec.model_dump_json(), shard)
        rows = pq.read_table(home.root / record.path, columns=["image_id", "pixels_sha256"]).to_pydict()
        found.update(zip(rows["image_id"], rows["pixels_sha256"], strict=True))
    assert found == {image: pixels for image, (pixels, _) in pixels_by_image(small_build.home).items()}


def flip_a_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


@pytest.mark.slow
def test_damaged_and_lost_shards_are_named_refused_and_repaired(small_build, small_copy, expected, cohortium, prefect):
    with open_catalog(small_copy) as catalog:
        flipped, lost, sound = catalog.shards()
        images = catalog.sql("SELECT list(image_id) FROM images WHERE shard_id = ?", [flipped.shard_id]).scalar()
    flip_a_byte(small_copy / flipped.path)
    (small_copy / lost.path).unlink()
    before = (small_copy / sound.path).stat().st_mtime_ns

    checked = cohortium("verify", "--home", small_copy, "--json")
    assert checked.code == 1
    assert checked.json()["shards"] == 3
    assert {shard["shard_id"] for shard in checked.json()["damaged"]} == {flipped.shard_id, lost.shard_id}
    with open_catalog(small_copy) as catalog, pytest.raises(DamagedShardError, match=flipped.shard_id):
        list(catalog.images(images))

    repaired = cohortium("build", small_build.recipe, "--home", small_copy, "--workers", "1", "--json", env=prefect)
    assert repaired.code == 0, repaired.err
    assert (repaired.json()["shards_rendered"], repaired.json()["shards_reused"]) == (2, 1)
    assert repaired.json()["snapshot_id"] == small_build.outcome.json()["snapshot_id"]
    assert flipped.shard_id in repaired.err
    assert lost.shard_id in repaired.err
    assert (small_copy / sound.path).stat().st_mtime_ns == before
    clean = cohortium("verify", "--home", small_copy, "--json")
    assert (clean.code, clean.json()) == (0, {"shards": 3, "damaged": []})
    assert find_faults(small_copy, expected) == []


# ------------------------------------------------------------------------------------------------ gates


def miss_one_request(home: Path) -> None:
    """Make one image's SNR miss its request: the engine never does, so no recipe is refused by itself."""
    with open_writer(resolve_home(home)) as connection:
        connection.execute(
            """UPDATE measurements SET measured = requested + 3 * tolerance, "within" = false
               WHERE name = 'snr' AND image_id = (SELECT min(image_id) FROM images)"""
        )


@pytest.mark.slow
def test_refused_cohort_says_why_and_other_gates_decide_again_without_rendering(
    small_build, small_copy, cohortium, prefect
):
    strict = small_copy / "strict.toml"
    strict.write_text(small_build.recipe.read_text() + "adherence = { snr = 1.0 }\n")
    loose = small_copy / "loose.toml"
    loose.write_text(small_build.recipe.read_text() + "adherence = { snr = 0.9 }\n")
    miss_one_request(small_copy)
    refused = cohortium("build", strict, "--home", small_copy, "--json", env=prefect)
    assert refused.code == 0, refused.err
    document = refused.json()
    assert (document["status"], document["shards_rendered"]) == ("refused", 0)
    assert document["cohort_id"] == small_build.cohort_id
    [reason] = document["reasons"]
    assert reason.startswith("adherence.snr: ")
    assert "0.9444" in reason  # 17 of 18
    assert "1.0000" in reason
    with open_catalog(small_copy) as catalog:
        assert catalog.sql("SELECT count(*) FROM released_images").scalar() == 0
        assert catalog.sql("SELECT count(*) FROM images").scalar() == 18
        assert catalog.image(catalog.sql("SELECT min(image_id) FROM images").scalar()).pixels.any()
        [(decision, reasons)] = catalog.sql("SELECT decision, reasons FROM cohort_status").rows()
        assert (decision, list(reasons)) == ("refused", [reason])

    released = cohortium("build", loose, "--home", small_copy, "--json", env=prefect)
    assert (released.json()["status"], released.json()["shards_rendered"]) == ("released", 0)
    with open_catalog(small_copy) as catalog:
        assert catalog.sql("SELECT count(*) FROM released_images").scalar() == 18
    # the recipe that is built decides, not the last
    back = cohortium("build", strict, "--home", small_copy, "--json", env=prefect)
    assert back.json()["status"] == "refused"


# ------------------------------------------------------------------------------------------------ tracking


def check_tracking(home: Path, cohort_id: str) -> None:
    """Exactly one finished MLflow run for the cohort, with all that belongs to it."""
    client = MlflowClient(tracking_uri=f"sqlite:///{home / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    [run] = client.search_runs(experiments, f"tags.cohort_id = '{cohort_id}'")
    assert run.info.status == "FINISHED"
    assert run.data.params["imaging.contrasts"] == "['T1w', 'FLAIR']"
    assert run.data.tags["status"] == "released"
    assert run.data.metrics["images"] == 18
    assert run.data.metrics["adherence.snr"] >= 0.95
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"contact-sheet.png", "spec.json", "environment.json", "report.json"} <= names
    with open_catalog(home) as catalog:
        snapshots = {
            row["snapshot_id"]
            for row in catalog.sql("SELECT snapshot_id, commit_extra_info AS key FROM snapshots()").dicts()
            if json.loads(row["key"] or "{}").get("cohort_id") == cohort_id
        }
    digests = {entry.dataset.digest for entry in run.inputs.dataset_inputs}
    assert digests == {f"snap-{snapshot}" for snapshot in snapshots}
    assert {entry.dataset.name for entry in run.inputs.dataset_inputs} == {cohort_id}


def test_one_mlflow_run_holds_recipe_metrics_pictures_and_dataset(small_build):
    check_tracking(small_build.home, small_build.cohort_id)


def test_prefect_keeps_scorecard_contact_sheet_and_progress(small_build):
    with sqlite3.connect(small_build.home / "prefect" / "prefect.db") as database:
        artifacts = dict(database.execute("SELECT key, data FROM artifact").fetchall())
        states = database.execute("SELECT name, state_type FROM flow_run").fetchall()
    assert {"scorecard", "contact-sheet", "rendering"} <= set(artifacts)
    assert "images_complete" in artifacts["scorecard"]
    assert "data:image/png;base64," in artifacts["contact-sheet"]
    assert states == [(small_build.cohort_id, "COMPLETED")]
