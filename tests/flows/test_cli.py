"""The command line: wrong input, full disks, dry runs, queries.

The real command in a process of its own, but for two long lists of refusals: those run it in this process, and some
of each list also the real one.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from catalog import open_catalog, resolve_home
from catalog.migrations import LATEST
from catalog.writer import open_writer
from infra.benchmarks.kill_test import Build, finished_files, temporary_files

HEAD = 'name = "x"\nsubjects = 8\n'
BAD_RECIPES = {
    "malformed": ('name = "x"\nsubjects = = 4\n', "not valid TOML", "line 2"),
    "unknown key": (HEAD + "sed = 3\n", "sed: unknown key", "Did you mean 'seed'?"),
    "unknown key below": (HEAD + "[imaging]\ncontrast = ['T1w']\n", "imaging.contrast: unknown", "'contrasts'?"),
    "no name": ("subjects = 8\n", "name: required", ""),
    "zero subjects": ('name = "x"\nsubjects = 0\n', "subjects: ", "greater than or equal to 1"),
    "ten million": ('name = "x"\nsubjects = 10_000_000\n', "subjects: ", "less than or equal to 1000000"),
    "half a subject": ('name = "x"\nsubjects = 2.5\n', "subjects: ", "2.5"),
    "path as name": ('name = "../../etc/x"\nsubjects = 8\n', "name '../../etc/x' is not allowed", "a-z, 0-9 and '-'"),
    "absolute name": ('name = "/tmp/x"\nsubjects = 8\n', "is not allowed", "a-z, 0-9 and '-'"),
    "long name": (f'name = "{"x" * 41}"\nsubjects = 8\n', "name: ", "40 characters"),
    "shares above one": (
        HEAD + "[population.targets]\nsex = { F = 0.7, M = 0.4 }\n",
        "targets.sex sum to 1.1",
        "shares must sum to 1 at most",
    ),
    "share of nobody": (
        HEAD + "[population.targets]\ndiagnosis = { multiple-sclerosis = 0.01 }\n",
        "multiple-sclerosis",
        "subjects",
    ),
    "impossible target": (
        HEAD + "[population]\nwhere = { sex = ['F'] }\ntargets = { sex = { M = 0.5 } }\n",
        "sex",
        "M",
    ),
    "unknown population": (HEAD + "[population]\nsource = 'adult-brian'\n", "adult-brian",
                           "Did you mean 'adult-brain'?"),
    "unknown diagnosis": (HEAD + "[population]\nwhere = { diagnosis = ['multiple-sklerosis'] }\n", "multiple-sklerosis",
                          "Did you mean 'multiple-sclerosis'?"),
    "unknown engine": (HEAD + "[imaging]\nengine = 'mir'\n", "mir", "Did you mean 'mri'?"),
    "unknown contrast": (HEAD + "[imaging]\ncontrasts = ['T1']\n", "'T1'", "T1w"),
    "contrast twice": (HEAD + "[imaging]\ncontrasts = ['T1w', 'T1w']\n", "imaging.contrasts", "once"),
    "resolution": (HEAD + "[imaging]\nresolution_mm = 0.1\n", "0.1", "1"),
    "unknown measurement": (HEAD + "[gates]\nadherence = { srn = 0.9 }\n", "srn", "Did you mean 'snr'?"),
    "infinite": (HEAD + "[imaging]\nsnr = [20.0, inf]\n", "imaging.snr", "finite"),
    "not text": (b"name = '\xff\xfe'\n", "cannot be read", "utf-8"),
}  # fmt: skip


def write_bad(folder: Path, name: str) -> Path:
    recipe, content = folder / "bad.toml", BAD_RECIPES[name][0]
    recipe.write_bytes(content if isinstance(content, bytes) else content.encode())
    return recipe


def check_refusal(name: str, code: int, out: str, err: str) -> None:
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert err.count("error:") == 1
    assert "Traceback" not in err
    for words in BAD_RECIPES[name][1:]:
        assert words in err


@pytest.mark.parametrize("name", BAD_RECIPES)
def test_bad_recipe_is_refused_with_one_clear_message(name, tmp_path, here):
    (tmp_path / "home").mkdir()
    check_refusal(name, *here("build", write_bad(tmp_path, name), "--json", "--dry-run"))
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize("name", ["ten million", "share of nobody", "unknown measurement"])
def test_build_itself_refuses_before_it_touches_the_home(name, tmp_path, cohortium):
    outcome = cohortium("build", write_bad(tmp_path, name), "--home", tmp_path / "home", "--json")
    check_refusal(name, outcome.code, outcome.out, outcome.err)
    assert not (tmp_path / "home").exists()


def test_missing_recipe(tmp_path, cohortium):
    outcome = cohortium("build", tmp_path / "none.toml", "--home", tmp_path / "home", "--json")
    assert (outcome.code, outcome.out) == (1, "")
    assert "none.toml' cannot be read" in outcome.err


# ------------------------------------------------------------------------------------------------ disks


@pytest.mark.parametrize(("place", "remedy"), [("file/home", "a file stands where"), ("/proc/home", "COHORTIUM_HOME")])
def test_home_that_cannot_be_made(place, remedy, small_build, tmp_path, cohortium):
    (tmp_path / "file").write_text("")
    outcome = cohortium("build", small_build.recipe, "--home", tmp_path / place, "--json")
    assert (outcome.code, outcome.out) == (75, "")
    assert str(tmp_path / place) in outcome.err
    assert remedy in outcome.err
    assert "Traceback" not in outcome.err


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own; the factory takes its size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = []

    def mount(size: str, *options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "none", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for path in mounted:
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_disk_without_room_is_seen_before_anything_is_rendered(small_build, small_disk, cohortium):
    disk = small_disk("3m")
    outcome = cohortium("build", small_build.recipe, "--home", disk / "home", "--json")
    assert (outcome.code, outcome.out) == (75, "")
    assert "GB are free" in outcome.err
    assert str(disk / "home") in outcome.err


@pytest.mark.slow
def test_disk_that_fills_up_ends_the_build_and_room_continues_it(small_build, small_disk):
    disk = small_disk("60m")
    build = Build(small_build.recipe, disk / "home", "--shard-size", "1", "--workers", "1")
    assert build.wait_until(lambda: bool(finished_files(build.home)))
    with (disk / "ballast").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    assert build.process.wait(60) == 75, build.stderr()
    assert "Traceback" not in build.stderr()
    assert "disk is full" in build.stderr()
    assert str(build.home) in build.stderr()
    assert build.wait_for_orphans() == []
    assert temporary_files(build.home) == []
    (disk / "ballast").unlink()
    again = Build(small_build.recipe, disk / "home", "--shard-size", "1", "--workers", "1").finish()
    assert again["status"] == "released"
    assert again["shards_reused"] >= 1


def test_read_only_disk_is_named(small_build, small_disk, cohortium):
    disk = small_disk("3m", "ro")
    outcome = cohortium("build", small_build.recipe, "--home", disk / "home", "--json")
    assert (outcome.code, outcome.out) == (75, "")
    assert "read-only" in outcome.err
    assert "COHORTIUM_HOME" in outcome.err


# ------------------------------------------------------------------------------------------------ other catalogs


def test_catalog_of_a_newer_version_is_left_alone(small_build, small_copy, cohortium):
    with open_writer(resolve_home(small_copy)) as connection:
        connection.execute(f"INSERT INTO migrations VALUES ({LATEST + 1}, 'from the future', '', now())")
    before = (small_copy / "catalog.sqlite").read_bytes()
    for arguments in (("build", small_build.recipe, "--json"), ("sql", "SELECT 1"), ("verify", "--json")):
        outcome = cohortium(*arguments, "--home", small_copy)
        assert (outcome.code, outcome.out) == (1, "")
        assert "newer version of Cohortium" in outcome.err
        assert "upgrade" in outcome.err
    assert (small_copy / "catalog.sqlite").read_bytes() == before


@pytest.mark.parametrize("command", [("sql", "SELECT 1"), ("verify", "--json"), ("replay", "x-1")])
def test_reading_where_there_is_no_catalog_creates_nothing(command, tmp_path, cohortium):
    outcome = cohortium(*command, "--home", tmp_path / "home")
    assert (outcome.code, outcome.out) == (1, "")
    assert "there is no catalog" in outcome.err
    assert not (tmp_path / "home").exists()


# ------------------------------------------------------------------------------------------------ dry run, describe


def test_dry_run_says_what_would_be_done_and_does_nothing(small_build, tmp_path, cohortium):
    options = ("--home", tmp_path / "home", "--shard-size", "2", "--dry-run")
    document = cohortium("build", small_build.recipe, *options, "--json", cwd=tmp_path).json()
    assert document["cohort_id"] == small_build.cohort_id
    assert (document["subjects"], document["images"], document["shards"]) == (6, 18, 3)
    assert document["spec"]["population"]["targets"]["sex"] == {"F": 0.5}
    text = cohortium("build", small_build.recipe, *options, cwd=tmp_path)
    assert (text.code, text.err) == (0, "")
    assert document["spec_hash"] in text.out
    assert list(tmp_path.iterdir()) == []


def test_describe_lists_what_recipes_can_ask_for(tmp_path, cohortium):
    document = cohortium("describe", "--json", cwd=tmp_path).json()
    assert "mri" in document["engines"]
    assert "adult-brain" in document["populations"]
    assert "snr" in document["measurements"]
    assert "images" in document["tables"]


def test_help_is_quick_and_loads_no_orchestrator(tmp_path):
    code = "import sys, flows.cli; print(sorted({'prefect', 'mlflow', 'numba'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------------------------------------ sql

QUESTION = """
    SELECT diagnosis, sex, age_decade, count(*) AS images, sum(design_weight) AS weighted
    FROM released_images JOIN released_subjects USING (subject_id)
    GROUP BY ALL ORDER BY ALL
"""


def test_released_images_per_diagnosis_sex_and_decade_design_weighted(small_home, cohortium):
    answer = pd.DataFrame(cohortium("sql", QUESTION, "--format", "json", "--home", small_home).json())
    with open_catalog(small_home) as catalog:
        images = catalog.sql("SELECT image_id, subject_id FROM images").df()
        subjects = catalog.sql("SELECT * FROM subjects").df()
    subjects["age_decade"] = (subjects.age_years // 10 * 10).astype(int)
    joined = images.merge(subjects, on="subject_id")
    keys = ["diagnosis", "sex", "age_decade"]
    by_hand = joined.groupby(keys).agg(images=("image_id", "count"), weighted=("design_weight", "sum")).reset_index()
    assert answer.images.sum() == 18
    pd.testing.assert_frame_equal(answer, by_hand.sort_values(keys).reset_index(drop=True), check_dtype=False)


def test_sql_formats_hold_the_same_answer(small_home, cohortium, tmp_path):
    query = "SELECT image_id, visit, kind FROM released_images ORDER BY image_id LIMIT 5"
    ask = ("sql", query, "--home", small_home, "--format")
    table = cohortium(*ask, "table")
    wanted = cohortium(*ask, "json").json()
    assert len(wanted) == 5
    assert all(row["image_id"] in table.out for row in wanted)
    assert pd.read_csv(io.StringIO(cohortium(*ask, "csv").out)).to_dict("records") == wanted
    with (tmp_path / "answer.parquet").open("wb") as file:
        subprocess.run([sys.executable, "-m", "flows", *map(str, ask), "parquet"], stdout=file, check=True)
    assert pq.read_table(tmp_path / "answer.parquet").to_pylist() == wanted


REFUSED = {
    "insert": "INSERT INTO releases SELECT * FROM releases",
    "update": "UPDATE images SET status = 'x'",
    "copy": "COPY images TO '{folder}/out.csv'",
    "attach": "ATTACH '{folder}/new.db' AS other",
    "pragma": "PRAGMA database_list",
    "two": "SELECT 1; SELECT 2",
    "drop": "DROP TABLE images",
    "set": "SET memory_limit = '1GB'",
    "files": "SELECT * FROM read_text('/etc/passwd')",
    "logging": "FROM enable_logging(storage='file', storage_path='{folder}/log')",
    "nothing": "",
}


@pytest.mark.parametrize("name", REFUSED)
def test_sql_only_reads(name, small_home, tmp_path, here):
    code, out, err = here("sql", REFUSED[name].format(folder=tmp_path), "--home", small_home)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_unknown_format_and_wrong_sql(small_home, cohortium):
    outcome = cohortium("sql", "SELECT 1", "--format", "jsn", "--home", small_home)
    assert (outcome.code, outcome.out) == (1, "")
    assert "Did you mean 'json'?" in outcome.err
    for query, words in (("SELECT nothing FROM images", "nothing"), (REFUSED["insert"], "INSERT")):
        outcome = cohortium("sql", query, "--home", small_home)
        assert (outcome.code, outcome.out) == (1, "")
        assert words in outcome.err
        assert "Traceback" not in outcome.err


def test_home_comes_from_the_environment_too(small_home, tmp_path, cohortium):
    outcome = cohortium(
        "sql", "SELECT count(*) AS n FROM images", "--format", "json", env={"COHORTIUM_HOME": str(small_home)}
    )
    assert json.loads(outcome.out) == [{"n": 18}]
