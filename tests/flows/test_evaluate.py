"""``cohortium evaluate`` on images of another tool: one evaluation by the real command, looked at from all sides."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from catalog import open_catalog, resolve_home
from flows import evaluate_cli
from flows.evaluation_request import EvaluationRequest
from flows.evaluations import run_evaluation
from flows.scorecards import name_scorecard
from flows.settings import load_settings
from flows.source_images import Choice
from flows.tracking import name_metric
from synth.evaluation.document.write import INTERNAL_FILES, PUBLIC_FILES
from synth.evaluation.images.scorecard import ScorecardSettings
from synth.evaluation.metrics import find_metric
from synth.evaluation.policy import load_policy
from tests.flows.importing import run_import
from tests.flows.made_images import write_made, write_real

QUICK = ("--features", "pixels", "--utility", "off")
POLICY = """
name = "own"
[[gate]]
name = "no-copies"
metric = "copy_rate"
at_most = 0.0
missing = "fail"
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A home with a reference, and a folder of made pictures, two of them copies and one no picture."""
    folder = tmp_path_factory.mktemp("evaluate")
    run_import(
        write_real(folder / "real.parquet", patients=100),
        folder / "home",
        name="discs",
        licence="CC0",
        source="made up",
    )
    with open_catalog(folder / "home") as catalog:
        train = [row["name"] for row in catalog.reference("discs").records("train").to_pylist()]
    people = [tuple(int(part) for part in name.removeprefix("im").split("-")) for name in sorted(train)[:2]]
    write_made(folder / "made", copies=people)
    (folder / "own.toml").write_text(POLICY)
    return folder


@pytest.fixture(scope="module")
def evaluated(made, cohortium):
    """What the command printed."""
    outcome = cohortium(
        "evaluate", made / "made", "--reference", "discs", *QUICK, "--policy", made / "own.toml", "--home",
        made / "home", "--output", made / "out", "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    return outcome


def make_request(made, **changes):
    values = {
        "images": str(made / "made"),
        "reference": "discs",
        "policy": load_policy(made / "own.toml"),
        "settings": ScorecardSettings(features=("pixels",), utility="off"),
    }
    return EvaluationRequest(**{**values, **changes})


def run_again(made, **changes):
    told = []
    result = run_evaluation(
        load_settings(made / "home", workers=1), make_request(made, **changes), lambda *x: told.append(x)
    )
    return result, told


# -------------------------------------------------------------------------------------------------------- what it says


def test_one_json_document_holds_scores_copies_controls_and_gates(evaluated):
    document = evaluated.json()
    assert {"metrics", "copies", "controls", "controls_valid", "gates", "passed", "policy", "document"} <= set(document)
    assert {metric["family"] for metric in document["metrics"]} >= {"fidelity", "diversity", "adherence", "privacy"}
    for metric in document["metrics"]:
        assert {"family", "name", "features", "subgroup", "value", "low", "high", "control", "goal"} <= set(metric)
        assert find_metric(metric["name"]).family == metric["family"]
        assert metric["value"] is not None or metric["reason"]
    assert document["counts"]["images"] == 40
    assert document["unusable"] == [{"name": "bad.png", "reason": "it is no PNG, JPEG, TIFF or BMP picture"}]
    assert document["policy"]["name"] == "own"
    assert document["cohort_id"] is document["decision"] is None
    assert any("which the images do not" in note for note in document["notes"])


def test_copies_are_named_with_the_real_image_and_fail_the_gate(made, evaluated):
    document = evaluated.json()
    with open_catalog(made / "home") as catalog:
        ids = {row["name"]: row["image_id"] for row in catalog.reference("discs").records("train").to_pylist()}
    made_from = sorted(ids)[:2]
    found = {(copy["image_id"], copy["reference_image_id"]) for copy in document["copies"]}
    assert found >= {("made38.png", ids[made_from[0]]), ("made39.png", ids[made_from[1]])}
    gates = {gate["gate"]: gate for gate in document["gates"]}
    assert not gates["no-copies"]["passed"]
    assert document["passed"] is False


def test_what_is_printed_is_what_is_stored_and_nothing_is_released(made, evaluated):
    document = evaluated.json()
    with open_catalog(made / "home") as catalog:
        row = catalog.sql("SELECT * FROM scorecards WHERE scorecard_id = ?", [document["scorecard_id"]]).dicts()[0]
        metrics = catalog.sql(
            "SELECT * FROM scorecard_metrics WHERE scorecard_id = ? ORDER BY place", [document["scorecard_id"]]
        ).dicts()
        copies = catalog.sql("SELECT count(*) FROM scorecard_copies").scalar()
        for table in ("cohorts", "images", "releases", "reports", "released_scorecards"):
            assert catalog.sql(f"SELECT count(*) FROM {table}").scalar() == 0
        assert catalog.sql("SELECT count(*) FROM reference_sets").scalar() == 1
    assert (row["policy"], row["policy_hash"]) == (document["policy"]["name"], document["policy"]["hash"])
    assert (row["images_name"], row["cohort_id"], row["passed"]) == ("made", None, False)
    assert row["reference_fingerprint"] == document["reference_fingerprint"]
    assert [m["name"] for m in metrics] == [m["name"] for m in document["metrics"]]
    assert [m["value"] for m in metrics] == [m["value"] for m in document["metrics"]]
    assert copies == len(document["copies"])
    assert json.loads(row["report_json"])["metrics"] == document["metrics"]
    assert (made / "home" / row["document"] / "index.html").as_posix() == document["document"]
    assert str(made) not in row["request_json"] + row["report_json"]
    assert list((made / "home" / "work").glob("evaluate-*")) == []


def test_the_document_stands_in_the_home_and_where_it_was_wanted(made, evaluated):
    document = evaluated.json()
    names = {*INTERNAL_FILES, *PUBLIC_FILES}
    assert {Path(file).name for file in document["files"]} == names
    for file in map(Path, document["files"]):
        assert (made / "out" / file.name).read_bytes() == file.read_bytes()
    about = json.loads((made / "out" / "report.json").read_text())["about"]
    assert about["policy_hash"] == document["policy"]["hash"]
    assert about["reference_licence"] == "CC0"
    assert about["command"].startswith("cohortium evaluate made --reference discs")
    assert str(made) not in (made / "out" / "card.md").read_text()


def test_mlflow_has_scores_document_and_both_datasets(made, evaluated):
    document = evaluated.json()
    client = MlflowClient(tracking_uri=f"sqlite:///{made / 'home' / 'mlflow.db'}")
    run = client.get_run(document["mlflow_run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.tags["scorecard_id"] == document["scorecard_id"]
    assert run.data.params["scorecard.features"] == "['pixels']"
    stored = {name: value for name, value in run.data.metrics.items() if name.startswith("scorecard.")}
    precision = next(m for m in document["metrics"] if m["name"] == "precision" and not m["subgroup"])
    assert stored["scorecard.precision.pixels"] == pytest.approx(precision["value"])
    assert stored["scorecard.precision.pixels.control"] == pytest.approx(precision["control"])
    assert stored["scorecard.copies"] == len(document["copies"])
    files = {file.path for file in client.list_artifacts(run.info.run_id, "scorecard")}
    assert files == {f"scorecard/{name}" for name in (*INTERNAL_FILES, *PUBLIC_FILES)}
    datasets = {entry.dataset.name: entry.dataset.digest for entry in run.inputs.dataset_inputs}
    assert datasets == {"made": document["images_sha256"][:32], "discs": document["reference_fingerprint"][:32]}


def test_no_server_is_started_for_images_of_others(made, evaluated):
    assert not (made / "home" / "prefect").exists()


def test_the_command_is_quiet_but_for_its_bar(evaluated):
    lines = [line for line in evaluated.err.splitlines() if line.strip()]
    assert not [line for line in lines if "Traceback" in line or "Warning" in line or "warning" in line], evaluated.err


# --------------------------------------------------------------------------------------------------------- coming again


def test_the_same_evaluation_again_gives_the_same_scorecard_and_stores_it_once(made, evaluated):
    result, told = run_again(made)
    assert result.verdict.row.scorecard_id == evaluated.json()["scorecard_id"]
    assert result.mlflow_run_id == evaluated.json()["mlflow_run_id"]
    with open_catalog(made / "home") as catalog:
        assert catalog.sql("SELECT count(*) FROM scorecards").scalar() == 1
    steps = list(dict.fromkeys(what for what, _, _ in told))
    assert steps[:2] == ["reading made", "reading reference discs"]
    assert [(done, total) for what, done, total in told if what == "reading made"][-1] == (41, 41)


def test_a_look_at_some_images_and_one_family_is_another_scorecard(made, evaluated, tmp_path):
    home = shutil.copytree(made / "home", tmp_path / "home")
    settings = ScorecardSettings(features=("pixels",), families=("diversity",), utility="off")
    request = make_request(made, choice=Choice(limit=12, seed=1), settings=settings)
    result = run_evaluation(load_settings(home, workers=1), request, lambda *told: None)
    document = result.to_json()
    assert document["scorecard_id"] != evaluated.json()["scorecard_id"]
    assert {m["family"] for m in document["metrics"]} <= {"diversity", "adherence"}
    gates = {gate["gate"]: gate for gate in document["gates"]}
    assert "not measurable" in gates["no-copies"]["reason"]
    assert not gates["no-copies"]["passed"]


# ------------------------------------------------------------------------------------------------------------- commands


def test_dry_run_says_what_would_be_done_and_does_nothing(made, evaluated, here):
    before = sorted(path for path in (made / "home").rglob("*"))
    arguments = ("evaluate", made / "made", "--reference", "discs", "--home", made / "home", "--dry-run")
    document = json.loads(here(*arguments, "--json")[1])
    assert (document["images_name"], document["images"], document["attributes"]) == ("made", 41, ["sex", "age_years"])
    assert sum(document["reference_images"].values()) == 200
    assert (document["policy"], document["decides"]) == ("default", False)
    assert document["policy_hash"] == load_policy().content_hash
    assert "note: the reference also states findings" in here(*arguments)[1]
    assert sorted(path for path in (made / "home").rglob("*")) == before


def test_failed_gates_are_a_result_and_an_error_only_if_that_is_wanted(made, evaluated, here, monkeypatch):
    class Result:
        @staticmethod
        def to_json():
            return evaluated.json()

    real = evaluate_cli._load
    monkeypatch.setattr(
        evaluate_cli, "_load",
        lambda name: type("M", (), {"run_evaluation": staticmethod(lambda *_: Result)}) if name == "flows.evaluations"
        else real(name),
    )  # fmt: skip
    arguments = ("evaluate", made / "made", "--reference", "discs", "--home", made / "home")
    code, out, _ = here(*arguments)
    assert code == 0
    for words in (
        "privacy",
        "copy_rate",
        "gate FAILS: no-copies",
        "control ",
        "made38.png of ",
        "scorecard/index.html",
    ):
        assert words in out
    assert here(*arguments, "--strict")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("made", "--reference", "disks"), "there is no reference 'disks' in the catalog. Did you mean 'discs'?"),
        (("mad", "--reference", "discs"), "there is no file, folder or cohort 'mad'"),
        (("made", "--reference", "discs", "--families", "fidelty"), "Did you mean 'fidelity'"),
        (("made", "--reference", "discs", "--utility", "fast"), "there is no utility 'fast'"),
        (("made", "--reference", "discs", "--attributes", "sx"), "no column 'sx'"),
        (("reference:discs/holdout", "--reference", "discs", "--attributes", "sx"), "no attribute 'sx'"),
        (("made", "--reference", "discs", "--policy", "absent"), "policy 'absent' cannot be read"),
    ],
)
def test_wrong_input_is_explained_before_anything_is_done(made, monkeypatch, here, arguments, words):
    monkeypatch.chdir(made)
    code, out, err = here("evaluate", *arguments, "--home", made / "home", "--dry-run")
    assert (code, out) == (1, "")
    assert words in err


def test_where_there_is_no_catalog_none_is_made(made, tmp_path, here):
    code, _, err = here("evaluate", made / "made", "--reference", "discs", "--home", tmp_path / "home")
    assert (code, "there is no catalog" in err) == (1, True)
    assert not (tmp_path / "home").exists()


# --------------------------------------------------------------------------------------------------------------- names


def test_ids_are_safe_whatever_the_images_are_called():
    for name in ("made", "../Ünsafe name.parquet", "...", "x" * 300, "reference:cxr/holdout"):
        scorecard_id = name_scorecard(name, {"a": 1})
        assert resolve_home("h").resolve_below(f"reports/{scorecard_id}/scorecard").name == "scorecard"
        assert len(scorecard_id) <= 127
        assert set(scorecard_id) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert name_scorecard("a", {"x": [1.0]}) != name_scorecard("a", {"x": [1.00001]})
    assert name_scorecard("a", {"x": [1.0]}) == name_scorecard("a", {"x": [1.0 + 1e-9]})
    assert name_metric("gap.precision.sex=F,age_years=20-40") == "gap.precision.sex-F-age_years-20-40"
