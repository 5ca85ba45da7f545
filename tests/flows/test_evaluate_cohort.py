"""Cohorts judged against a reference: by the command, as part of a build, and what that means for their release."""

from __future__ import annotations

import shutil
import sqlite3

import mlcroissant
import pytest
from mlflow.tracking import MlflowClient

from catalog import open_catalog
from flows.cohort_source import find_cohort
from flows.evaluation_sources import open_source
from flows.source_images import Choice
from synth.errors import CatalogError
from synth.evaluation.images.layout import NotComparableError
from tests.conftest import SMALL
from tests.flows.importing import run_import
from tests.flows.made_images import write_heads

EVALUATION = """
[evaluation]
reference = "heads"
kind = "T1w"
features = ["pixels"]
utility = "off"
policy = "own.toml"
[evaluation.gates.enough]
at_least = 0.5
"""
POLICY = """
name = "own"
[[gate]]
name = "enough"
metric = "usable_images"
at_least = 2.0
[[gate]]
name = "new"
metric = "copy_rate"
at_most = 0.5
missing = "fail"
"""


@pytest.fixture(scope="module")
def judged_home(small_home, tmp_path_factory):
    """A copy of the small cohort's home with a reference of 64 coarse heads."""
    folder = tmp_path_factory.mktemp("judged")
    home = shutil.copytree(small_home, folder / "home")
    run_import(write_heads(folder / "heads"), home, name="heads", licence="CC0")
    (folder / "own.toml").write_text(POLICY)
    (folder / "evaluated.toml").write_text(SMALL + EVALUATION)
    return home


@pytest.fixture(scope="module")
def evaluated(judged_home, cohortium):
    """The cohort judged by the command; nine volumes are too few for most scores, so the controls cannot behave."""
    outcome = cohortium(
        "evaluate", "small", "--reference", "heads", "--kind", "T1w", "--features", "pixels", "--utility", "off",
        "--home", judged_home, "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    return outcome.json()


@pytest.fixture(scope="module")
def built(judged_home, evaluated, cohortium):
    """The recipe with an [evaluation] built after that: nothing is rendered, everything is judged again."""
    outcome = cohortium("build", judged_home.parent / "evaluated.toml", "--home", judged_home, "--json")
    assert outcome.code == 0, outcome.err
    return outcome


def status(home):
    with open_catalog(home) as catalog:
        return catalog.sql("SELECT * FROM cohort_status").dicts()[0]


# -------------------------------------------------------------------------------------------------------- by a command


def test_a_cohort_is_judged_with_what_was_measured_while_it_was_made(evaluated, judged_home):
    scores = {metric["name"]: metric for metric in evaluated["metrics"] if not metric["subgroup"]}
    with open_catalog(judged_home) as catalog:
        rows = catalog.sql(
            """SELECT name, avg(CAST("within" AS INTEGER)), count(*) FROM measurements
               WHERE image_id LIKE '%-t1w-%' GROUP BY name"""
        ).rows()
    assert rows
    for name, share, images in rows:
        score = scores[f"measured_within.{name}"]
        assert (score["value"], score["images"], score["family"]) == (pytest.approx(share), images, "adherence")
        assert score["low"] < score["value"] <= score["high"] <= 1
    assert scores["usable_images"]["value"] == 1
    assert evaluated["images_name"] == evaluated["cohort_id"]
    assert evaluated["request"]["kind"] == "T1w"
    assert evaluated["layout"]["spacing_mm"] == 15.0


def test_scores_that_nobody_can_measure_refuse_the_cohort_with_the_reasons(evaluated, judged_home):
    assert evaluated["controls_valid"] is False
    decision = evaluated["decision"]
    assert (decision["decision"], decision["decided_by"]) == ("refused", "gates")
    assert any(reason.startswith("scorecard.controls: ") for reason in decision["reasons"])
    assert decision["policy_hash"] == evaluated["policy"]["hash"]
    with open_catalog(judged_home) as catalog:
        first, second = catalog.sql("SELECT decision, policy_hash FROM releases ORDER BY release_number").rows()[:2]
        assert first == ("released", None)
        assert second == ("refused", evaluated["policy"]["hash"])
        report = catalog.sql(
            "SELECT gates, passed, scorecard_id FROM reports WHERE report_id = ?", [decision["report_id"]]
        ).dicts()[0]
    names = [gate["gate"] for gate in report["gates"]]
    assert {"images_complete", "adherence.snr", "scorecard.controls", "scorecard.copies"} <= set(names)
    assert (report["passed"], report["scorecard_id"]) == (False, evaluated["scorecard_id"])


def test_prefect_keeps_the_run_of_a_cohorts_evaluation(evaluated, built, judged_home):
    with sqlite3.connect(judged_home / "prefect" / "prefect.db") as database:
        artifacts = dict(database.execute("SELECT key, data FROM artifact ORDER BY created").fetchall())
        flows = database.execute(
            "SELECT f.name, r.name, r.state_type FROM flow_run AS r JOIN flow AS f ON f.id = r.flow_id"
        ).fetchall()
    assert ("evaluate-cohort", evaluated["cohort_id"], "COMPLETED") in flows
    assert "scorecard-gates" in artifacts
    assert "scorecard-document" in artifacts
    assert flows.count(("build-cohort", evaluated["cohort_id"], "COMPLETED")) == 2


def test_the_evaluation_is_a_run_of_its_own_with_the_snapshot_as_digest(evaluated, judged_home):
    client = MlflowClient(tracking_uri=f"sqlite:///{judged_home / 'mlflow.db'}")
    run = client.get_run(evaluated["mlflow_run_id"])
    assert run.data.tags["judged"] == evaluated["cohort_id"]
    datasets = {entry.dataset.name: entry.dataset.digest for entry in run.inputs.dataset_inputs}
    assert datasets == {
        evaluated["cohort_id"]: f"snap-{evaluated['decision']['snapshot_id']}",
        "heads": evaluated["reference_fingerprint"][:32],
    }


def test_the_metadata_reads_the_shards_that_are_published_beside_it(evaluated, judged_home, tmp_path):
    shutil.copy(next(file for file in evaluated["files"] if file.endswith("croissant.json")), tmp_path)
    with open_catalog(judged_home) as catalog:
        for shard in catalog.shards(evaluated["cohort_id"]):
            shutil.copy(judged_home / shard.path, tmp_path)
    dataset = mlcroissant.Dataset(tmp_path / "croissant.json")
    [records] = dataset.metadata.record_sets
    found = [record["images/image_id"].decode() for record in dataset.records(records.id)]
    assert len(set(found)) == 18
    assert all(name.startswith(evaluated["cohort_id"]) for name in found)


# ----------------------------------------------------------------------------------------------------- part of a build


def test_a_recipe_with_an_evaluation_is_judged_by_its_own_policy_before_it_is_decided(built, judged_home):
    assert built.json()["status"] == "refused"
    assert built.json()["shards_rendered"] == 0
    assert "scorecard: reading reference heads" in built.err
    found = status(judged_home)
    with open_catalog(judged_home) as catalog:
        card = catalog.sql("SELECT * FROM scorecards WHERE scorecard_id = ?", [found["scorecard_id"]]).dicts()[0]
        gates = catalog.sql("SELECT gates FROM reports WHERE report_id = ?", [found["report_id"]]).scalar()
    assert card["policy"] == "own"
    assert card["policy_hash"] == found["policy_hash"]
    thresholds = {gate["gate"]: gate["threshold"] for gate in gates}
    assert thresholds["scorecard.enough"] == 0.5  # the recipe's own limit
    assert "scorecard.precision" not in thresholds  # the earlier scorecard's gates are replaced
    assert "adherence.snr" in thresholds


def test_scores_and_document_of_a_build_are_in_its_run(built, judged_home):
    client = MlflowClient(tracking_uri=f"sqlite:///{judged_home / 'mlflow.db'}")
    found = status(judged_home)
    experiments = [client.get_experiment_by_name("cohorts").experiment_id]
    [run] = client.search_runs(experiments, f"tags.spec_hash = '{found['spec_hash']}'")
    assert run.data.tags["status"] == "refused"
    assert run.data.metrics["scorecard.usable_images"] == 1
    assert run.data.metrics["adherence.snr"] >= 0.95
    assert {file.path for file in client.list_artifacts(run.info.run_id, "scorecard")} >= {"scorecard/index.html"}
    datasets = {entry.dataset.name for entry in run.inputs.dataset_inputs}
    assert datasets == {found["cohort_id"], "heads"}


def test_a_finished_evaluation_is_not_made_again(built, judged_home, cohortium):
    again = cohortium("build", judged_home.parent / "evaluated.toml", "--home", judged_home, "--json")
    assert "finished: nothing to render" in again.err
    assert again.json()["status"] == "refused"


def test_a_reference_that_is_not_there_is_seen_before_anything_is_rendered(small_build, tmp_path, here):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        small_build.recipe.read_text() + EVALUATION.replace('policy = "own.toml"\n', "").replace("enough", "copies")
    )
    code, out, err = here("build", recipe, "--json")
    assert (code, out) == (1, "")
    assert "there is no reference 'heads'" in err
    assert not (tmp_path / "home" / "data" / "main" / "pixels").exists()
    recipe.write_text(recipe.read_text().replace("gates.copies", "gates.copy"))
    code, out, err = here("build", recipe, "--dry-run", "--json")
    assert (code, out) == (1, "")
    assert "has no gate 'copy'" in err
    assert "Did you mean 'copies'" in err


# ------------------------------------------------------------------------------------------------- people and releases


def test_nobody_can_release_what_a_scorecard_has_refused(built, judged_home, here):
    ask = ("--by", "Ada", "--reason", "looks fine", "--home", judged_home)
    for extra in ((), ("--dry-run",), ("--json",)):
        code, out, err = here("release", "small", *ask, *extra)
        assert (code, out) == (1, "")
        assert "scorecard.controls" in err
        assert "nobody can override them" in err
    assert status(judged_home)["decision"] == "refused"


# --------------------------------------------------------------------------------------------------------------- names


def test_a_cohort_is_found_by_id_or_name_and_its_contrast_must_be_chosen(small_home, monkeypatch, tmp_path):
    with open_catalog(small_home) as catalog:
        cohort_id = find_cohort(catalog, "small")
        assert find_cohort(catalog, cohort_id) == cohort_id
        with pytest.raises(CatalogError, match=r"no file, folder or cohort 'smal'\. Did you mean 'small'"):
            find_cohort(catalog, "smal")
        with pytest.raises(NotComparableError, match=r"images of FLAIR and T1w; choose .* --kind FLAIR"):
            open_source(catalog, "small", Choice())
        with pytest.raises(NotComparableError, match=r"has FLAIR, T1w\. Did you mean 'T1w'"):
            open_source(catalog, "small", Choice("T1"))
        source = open_source(catalog, cohort_id, Choice("T1w"))
        items = list(source.read())
        rows = catalog.sql("SELECT image_id, subject_id FROM images WHERE kind = 'T1w' ORDER BY image_id").rows()
        assert [(item.image_id, item.patient_id) for item in items] == rows
        assert (source.count, source.kind, items[0].form.axes) == (9, "T1w", "xyz")
        assert {"age_years", "sex", "diagnosis", "manufacturer", "field_strength_t"} <= set(items[0].attributes)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "small").mkdir()
        with pytest.raises(CatalogError, match=r"is a cohort and a file or folder; write '\./small'"):
            open_source(catalog, "small", Choice("T1w"))
