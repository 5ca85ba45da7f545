"""Scorecards: stored once and whole, part of a decision, kept by later builds, hidden where they name people."""

import dataclasses
import json
import shutil

import pytest

from catalog import (
    ScorecardRow,
    commit_cohort,
    commit_cohort_scorecard,
    commit_reference,
    commit_report,
    commit_scorecard,
    find_finished_shards,
    find_reference,
    open_catalog,
    release_cohort,
    resolve_home,
    withdraw_cohort,
)
from catalog.lake import open_read_write
from catalog.migrations import MIGRATIONS
from catalog.tables import TABLES
from catalog.views import RELEASED
from catalog.writer import open_writer
from synth.errors import CatalogError
from synth.nouns import GateResult
from tests.catalog.test_references import ID, make_row, write_all

TABLES_OF_SCORECARDS = ("scorecards", "scorecard_metrics", "scorecard_copies")
METRIC = {
    "family": "fidelity", "seven_c": "congruence", "goal": "lower", "name": "kernel_distance", "value": 0.25,
    "low": 0.125, "high": None, "control": 0.0, "features": "pixels", "subgroup": "", "images": 12, "reason": "",
    "detail": {"biased": 0.5},
}  # fmt: skip
MISSING = {**METRIC, "name": "copy_rate", "value": None, "low": None, "control": None, "reason": "too few images"}
COPY = {"image_id": "a", "reference_image_id": f"{ID}-i00000000", "reference_patient_id": "patient 0", "score": 1.0}


@pytest.fixture(scope="module")
def judged_template(template, tmp_path_factory):
    """The tiny cohort beside a reference; to be copied."""
    home = resolve_home(shutil.copytree(template.root, tmp_path_factory.mktemp("judged") / "home"))
    commit_reference(home, make_row(), write_all(home))
    return home


@pytest.fixture
def judged(judged_template, tmp_path):
    return resolve_home(shutil.copytree(judged_template.root, tmp_path / "home"))


def make_scorecard(home, name="0", passed=True, controls_valid=True, cohort_id=None, **changes):
    state = find_reference(home, "real")
    reason = f"copies: copy_rate is {0.0 if passed else 0.5}; at most 0.002 is required"
    row = ScorecardRow(
        scorecard_id=f"mine-{name}",
        cohort_id=cohort_id,
        images_name=cohort_id or "mine.parquet",
        images_sha256="1" * 64,
        images=12,
        reference_id=state.reference_id,
        reference_fingerprint=state.fingerprint,
        policy="default",
        policy_hash="p" * 64,
        gates=(
            GateResult("copies", 0.0 if passed else 0.5, 0.002, passed, reason),
            GateResult("utility", float("nan"), float("nan"), True, "utility: not measurable"),
        ),
        controls_valid=controls_valid,
        seed=3,
        request={"features": ["pixels"]},
        document=f"reports/mine-{name}/scorecard",
        report={"metrics": [METRIC, MISSING], "copies": [COPY], "controls": []},
    )
    return dataclasses.replace(row, **changes)


def count(home):
    with open_catalog(home) as c:
        return [c.sql(f"SELECT count(*) FROM {table}").scalar() for table in TABLES_OF_SCORECARDS]


def look(home):
    """Return (status, reasons, scorecard, policy hash, images that readers see)."""
    with open_catalog(home) as c:
        row = c.sql("SELECT status, reasons, scorecard_id, policy_hash FROM cohort_status").rows()[0]
        return (*row, c.sql("SELECT count(*) FROM released_images").scalar())


# ---------------------------------------------------------------------------------------------- images made elsewhere


def test_a_scorecard_of_foreign_images_is_stored_once_and_releases_nothing(judged):
    row = make_scorecard(judged)
    snapshot = commit_scorecard(judged, row)
    assert commit_scorecard(judged, row) == snapshot
    assert count(judged) == [1, 2, 1]
    with open_catalog(judged) as c:
        stored = c.sql("SELECT * FROM scorecards").dicts()[0]
        assert (stored["cohort_id"], stored["passed"], stored["controls_valid"]) == (None, True, True)
        assert [gate["reason"] for gate in stored["gates"]] == [gate.reason for gate in row.gates]
        assert [gate["threshold"] for gate in stored["gates"]] == [0.002, None]
        assert json.loads(stored["report_json"]) == row.report
        assert (stored["seed"], stored["policy_hash"], stored["document"]) == (3, "p" * 64, row.document)
        metrics = c.sql("SELECT * EXCLUDE (detail_json, scorecard_id) FROM scorecard_metrics ORDER BY place").dicts()
        assert metrics == [
            {"place": place, **{key: metric[key] for key in metric if key != "detail"}}
            for place, metric in enumerate((METRIC, MISSING))
        ]
        assert c.sql("SELECT DISTINCT detail_json FROM scorecard_metrics").scalar() == '{"biased": 0.5}'
        assert c.sql("SELECT * EXCLUDE (scorecard_id) FROM scorecard_copies").dicts() == [COPY]
        assert c.sql("SELECT count(*) FROM releases").scalar() == 0


def test_a_scorecard_that_cannot_be_stored_leaves_nothing(judged):
    wrong = make_scorecard(judged, report={"metrics": [METRIC], "copies": [{**COPY, "score": "alike"}], "controls": []})
    with pytest.raises(CatalogError, match="refused"):
        commit_scorecard(judged, wrong)
    with pytest.raises(CatalogError, match="not registered with that content"):
        commit_scorecard(judged, make_scorecard(judged, reference_fingerprint="0" * 64))
    with pytest.raises(CatalogError, match="is not allowed"):
        commit_scorecard(judged, make_scorecard(judged, scorecard_id="../x"))
    assert count(judged) == [0, 0, 0]


# ------------------------------------------------------------------------------------------------------------ cohorts


def test_gates_of_the_recipe_and_of_the_policy_must_all_hold(judged, maker):
    m = maker()
    own = {"cohort_id": m.cohort_id}
    commit_report(judged, m.report())
    assert look(judged) == ("released", [], None, None, 12)
    refused = commit_cohort_scorecard(judged, make_scorecard(judged, "a", passed=False, **own))
    assert (refused.decision, refused.policy_hash) == ("refused", "p" * 64)
    assert refused.reasons == ("scorecard.copies: copy_rate is 0.5; at most 0.002 is required",)
    assert look(judged) == ("refused", list(refused.reasons), "mine-a", "p" * 64, 0)
    with pytest.raises(CatalogError, match=r"scorecard\.copies: copy_rate is 0\.5"):
        release_cohort(judged, m.cohort_id, "please", "Ada")
    released = commit_cohort_scorecard(judged, make_scorecard(judged, "b", **own))
    assert released.decision == "released"
    assert commit_cohort_scorecard(judged, make_scorecard(judged, "b", **own)) == released
    assert look(judged) == ("released", [], "mine-b", "p" * 64, 12)
    assert commit_report(judged, m.report(passed=False)).decision == "refused"
    with open_catalog(judged) as c:
        gates = c.sql("SELECT gates FROM reports WHERE NOT passed ORDER BY created_at DESC LIMIT 1").scalar()
    assert [gate["gate"] for gate in gates] == ["adherence.snr", "scorecard.copies", "scorecard.utility"]
    assert count(judged)[0] == 2


def test_building_again_does_not_forget_what_a_scorecard_found(judged, maker):
    m = maker()
    commit_report(judged, m.report())
    refused = commit_cohort_scorecard(judged, make_scorecard(judged, passed=False, cohort_id=m.cohort_id))
    assert commit_report(judged, m.report()) == refused
    other = commit_report(judged, m.report(spec_hash="c" * 64))
    assert (other.decision, other.policy_hash) == ("refused", "p" * 64)
    assert look(judged)[2] == "mine-0"


def test_report_and_scorecard_of_a_build_are_one_decision(judged, maker):
    m = maker()
    row = make_scorecard(judged, cohort_id=m.cohort_id)
    first = commit_report(judged, m.report(), row)
    assert (first.decision, first.release_id) == ("released", f"{m.cohort_id}-r0001")
    assert commit_report(judged, m.report(), row) == first
    assert commit_cohort_scorecard(judged, row) == first
    with pytest.raises(CatalogError, match="is not of cohort"):
        commit_report(judged, m.report(), make_scorecard(judged, "b", cohort_id="other-1"))
    assert count(judged) == [1, 2, 1]


def test_controls_that_misbehave_fail_a_cohort_whose_gates_hold(judged, maker):
    m = maker()
    row = make_scorecard(judged, controls_valid=False, cohort_id=m.cohort_id)
    refused = commit_report(judged, m.report(), row)
    assert refused.decision == "refused"
    assert refused.reasons == ("scorecard.controls: the controls do not behave, so nothing is proven",)
    with open_catalog(judged) as c:
        assert c.sql("SELECT passed FROM scorecards").scalar() is False


def test_a_look_at_a_part_of_a_cohort_decides_nothing(judged, maker):
    m = maker()
    commit_report(judged, m.report())
    commit_scorecard(judged, make_scorecard(judged, passed=False, cohort_id=m.cohort_id))
    assert count(judged) == [1, 2, 1]
    assert look(judged) == ("released", [], None, None, 12)


def test_a_scorecard_needs_a_finished_cohort(judged, maker):
    with pytest.raises(CatalogError, match="is not finished; build its recipe again"):
        commit_cohort_scorecard(judged, make_scorecard(judged, cohort_id=maker().cohort_id))
    with pytest.raises(CatalogError, match="there is no cohort 'absent-1'"):
        commit_cohort_scorecard(judged, make_scorecard(judged, cohort_id="absent-1"))
    assert count(judged) == [0, 0, 0]


def test_a_withdrawn_cohort_stays_hidden_when_a_scorecard_passes(judged, maker):
    m = maker()
    commit_report(judged, m.report())
    withdraw_cohort(judged, m.cohort_id, "a doubt", "Ada")
    still = commit_cohort_scorecard(judged, make_scorecard(judged, cohort_id=m.cohort_id))
    assert (still.decision, still.reasons) == ("withdrawn", ("withdrawn by Ada: a doubt",))
    assert look(judged)[4] == 0
    back = release_cohort(judged, m.cohort_id, "no doubt", "Ada")
    assert (back.decision, back.policy_hash) == ("released", "p" * 64)
    assert look(judged)[2:] == ("mine-0", "p" * 64, 12)


def test_readers_see_the_scorecard_of_a_release_without_real_patients(judged, maker):
    m = maker()
    commit_scorecard(judged, make_scorecard(judged, "foreign"))
    commit_report(judged, m.report(), make_scorecard(judged, "a", passed=False, cohort_id=m.cohort_id))
    with open_catalog(judged) as c:
        assert c.sql("SELECT count(*) FROM released_scorecards").scalar() == 0
    commit_cohort_scorecard(judged, make_scorecard(judged, "b", cohort_id=m.cohort_id))
    with open_catalog(judged) as c:
        assert [row["scorecard_id"] for row in c.sql("FROM released_scorecards").dicts()] == ["mine-b"]
        assert {row["scorecard_id"] for row in c.sql("FROM released_scorecard_metrics").dicts()} == {"mine-b"}
        released = [f"released_{name}" for name in ("scorecards", "scorecard_metrics")]
        shown = str([c.sql(f"FROM {view}").dicts() for view in [*released, *(view.name for view in RELEASED)]])
    assert "patient 0" not in shown
    assert f"{ID}-i0" not in shown
    assert "reports/" not in shown


# --------------------------------------------------------------------------------------------------------- migrations


def test_a_catalog_with_decisions_of_the_version_before_is_brought_up_to_date(home, maker, monkeypatch):
    m = maker()
    with monkeypatch.context() as patch:
        patch.setattr("catalog.migrations.MIGRATIONS", MIGRATIONS[:2])
        patch.setattr("catalog.migrations.LATEST", 2)
        patch.setattr("catalog.migrations.VIEWS", ())
        m.build(home)
        gate = "{'gate': 'adherence.snr', 'value': 1, 'threshold': 0.95, 'passed': true, 'reason': ''}"
        with open_writer(home) as connection:
            connection.execute(f"INSERT INTO reports VALUES ('r', '{m.cohort_id}', 'a', '{{}}', [{gate}], true, now())")
            connection.execute(
                f"INSERT INTO releases VALUES ('r1', '{m.cohort_id}', 1, 'a', 'r', 'released', [], 'gates', now())"
            )
    with pytest.raises(CatalogError, match="'cohortium build SPEC' or 'cohortium import PATH --name NAME': both"):
        open_catalog(home)
    commit_reference(home, make_row(), write_all(home))
    assert look(home) == ("released", [], None, None, 12)
    refused = commit_cohort_scorecard(home, make_scorecard(home, passed=False, cohort_id=m.cohort_id))
    assert refused.decision == "refused"
    with open_catalog(home) as c:
        gates = c.sql("SELECT gates FROM reports ORDER BY created_at DESC LIMIT 1").scalar()
        assert [gate["gate"] for gate in gates] == ["adherence.snr", "scorecard.copies", "scorecard.utility"]
        assert c.sql("SELECT policy_hash FROM releases WHERE release_number = 1").scalar() is None
        described = {(row["table_name"], row["column_name"]) for row in c.tables()}
    assert {(table.name, column.name) for table in TABLES for column in table.columns} <= described
    with open_read_write(home) as connection:
        query = "SELECT count(*) FROM duckdb_columns() WHERE comment IS NULL AND table_name LIKE 'scorecard%'"
        assert connection.execute(query).fetchone() == (0,)
    assert commit_cohort(home, m.row([]), list(find_finished_shards(home, m.plans()).values()))
