"""``cohortium population``: fit, sample, check, register."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from catalog import ensure_catalog, resolve_home
from flows import cli, population_check, population_cli, populations
from flows.population_rules import Rules, parse_rules
from flows.population_tables import find_roles
from synth.population.families import FAMILIES
from synth.population.model_files import fingerprint_model, load_model
from synth.population.private import PrivateFamily
from tests.flows.people_table import PATIENTS, RULES, make_table

Run = Callable[..., tuple[int, str, str]]

# -------------------------------------------------------------------------------------------------------------- fit


def test_fit_says_what_it_recognised_and_saves_a_model(folder: Path, population: Run, tmp_path: Path) -> None:
    fit = ("fit", folder / "people.parquet", "--ignore", "image_id", "--rules", folder / "rules.toml")
    code, out, err = population(*fit, "--out", "m", "--no-register", "--json")
    assert code == 0
    document = json.loads(out)
    assert (document["patient"], document["order"], document["patients"]) == ("patient_id", "follow_up", PATIENTS)
    assert "'patient_id' is taken as the patient; use --patient" in err
    kinds = {a["name"]: (a["kind"], a["static"]) for a in document["attributes"]}
    assert kinds == {
        "age_years": ("integer", False),
        "sex": ("categorical", True),
        "findings": ("set", False),
        "spacing_mm": ("continuous", False),
    }
    model = load_model(tmp_path / "m")
    assert document["fingerprint"] == fingerprint_model(model) == fingerprint_model(load_model(folder / "model"))
    assert model.about["source"]["name"] == "people.parquet"
    assert model.about["read"]["rules"] == {"findings": {"kind": "set", "separator": "|"}}
    assert str(tmp_path) not in json.dumps(model.about)


def test_dry_run_shows_schema_and_cleaning_and_writes_nothing(folder: Path, population: Run, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(f'{RULES}[age_years]\nhigh = 70\n[sex.spellings]\nM = "male"\n')
    code, out, _ = population("fit", folder / "people.parquet", "--ignore", "image_id", "--rules", rules, "--dry-run")
    assert code == 0
    for words in ("age_years", "20 to 70", "F, male", "spelling changed", "outside any to 70: taken as missing"):
        assert words in out
    assert [p.name for p in tmp_path.iterdir()] == ["rules.toml"]


def test_csv_parquet_and_sql_give_the_same_model(
    folder: Path, population: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pa_csv.write_csv(make_table(), tmp_path / "people.csv")
    prepared = populations.prepare_table
    found = {}
    for name, table in (("csv", tmp_path / "people.csv"), ("parquet", folder / "people.parquet")):
        found[name] = prepared(str(table), lambda _: None, ignore=["image_id"], rules=folder / "rules.toml")
    assert found["csv"].records.table.equals(found["parquet"].records.table)
    assert found["csv"].records.schema == found["parquet"].records.schema


def test_a_query_over_the_catalog_is_a_table_too(tmp_path: Path, population: Run) -> None:
    ensure_catalog(resolve_home(tmp_path / "home"))
    query = "SELECT range // 4 AS subject_id, range % 4 AS visit, (range * 7919) % 61 AS age_years FROM range(400)"
    code, out, err = population("fit", query, "--sql", "--dry-run", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert (document["source"], document["patient"], document["order"]) == (f"SQL: {query}", "subject_id", "visit")
    assert (document["rows"], document["patients"]) == (400, 100)
    assert population("fit", "SELECT nothing FROM images", "--sql", "--dry-run")[0] == 1


def test_dates_sort_visits_and_are_not_learned() -> None:
    table = make_table().drop_columns(["image_id", "findings"])
    days = pa.array(18_000 + 30 * table["follow_up"].to_numpy() - table["patient_id"].to_numpy(), pa.int32())
    dated = table.drop_columns(["follow_up"]).append_column("visit_date", days.cast(pa.date32()))
    said: list[str] = []
    roles = find_roles(dated, None, None)
    prepared = populations.prepare_read_table(dated, populations.Source("x"), roles, (), Rules(), said.append)
    plain = populations.prepare_read_table(
        table, populations.Source("x"), find_roles(table, None, None), (), Rules(), said.append
    )
    assert prepared.records.table.equals(plain.records.table)
    assert any("'visit_date' holds dates: they sort visits" in remark for remark in said)


def test_other_families_and_their_options(folder: Path, population: Run) -> None:
    fit = ("fit", folder / "people.parquet", "--ignore", "image_id", "--rules", folder / "rules.toml", "--no-register")
    code, out, _ = population(*fit, "--out", "m", "--family", "independent", "--json")
    assert (code, json.loads(out)["family"]) == (0, "independent")
    code, out, err = population(*fit, "--out", "m", "--family", "independent", "--force", "--epsilon", "1")
    assert (code, out) == (1, "")
    assert "takes no --epsilon" in err
    code, out, err = population(*fit, "--out", "m2", "--family", "tree")
    assert (code, out) == (1, "")
    assert "Did you mean 'trees'?" in err


PUBLIC = """
most_visits = 4
[age_years]
kind = "integer"
low = 18
high = 90
most_step = 5
[sex]
categories = ["F", "M"]
static = true
[findings]
kind = "set"
separator = "|"
categories = ["Hernia", "Mass"]
[spacing_mm]
kind = "continuous"
low = 0.05
high = 0.3
missing = true
"""


def test_a_private_model_says_nothing_that_was_counted(
    folder: Path, population: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, "private", PrivateFamily())
    (tmp_path / "public.toml").write_text(PUBLIC)
    fit = ("fit", folder / "people.parquet", "--ignore", "image_id", "--family", "private", "--no-register")
    code, out, err = population(*fit, "--out", "m", "--rules", tmp_path / "public.toml", "--epsilon", "3", "--json")
    assert code == 0, err
    model = load_model(tmp_path / "m")
    assert model.about["privacy"]["epsilon_asked"] == 3
    assert not {"rows", "patients", "rows_in", "source", "cleaning"} & set(model.about)
    assert (model.schema.column("age_years").low, model.schema.column("age_years").high) == (18, 90)
    code, out, err = population(*fit, "--out", "m2", "--rules", folder / "rules.toml", "--epsilon", "3")
    assert (code, out) == (1, "")
    assert "is not declared" in err


# ----------------------------------------------------------------------------------------------------------- sample


def test_sample_meets_targets_and_weights_lead_back(folder: Path, population: Run, tmp_path: Path) -> None:
    ask = ("sample", folder / "model", "-n", "3000", "--seed", "4", "--where", "age_years=25:75", "--json")
    target = ("--target", "sex=F@0.3", "--target", "findings=Hernia@0.5|sex=M;age_years=30:50")
    code, out, _ = population(*ask, *target, "--out", "a.parquet")
    assert code == 0
    document = json.loads(out)
    assert (document["subjects"], document["not_meeting_where"]) == (3000, 0)
    assert 0.8 < document["admitted_share_of_population"] < 1
    assert document["effective_sample_size"] < 3000
    for found in document["targets"]:
        assert abs(found["drawn"] - found["requested"]) * found["stratum_subjects"] <= 1
        assert found["weighted"] == pytest.approx(found["natural"], abs=1e-6)
    file = pq.ParquetFile(tmp_path / "a.parquet")
    assert file.schema_arrow.metadata[b"cohortium.synthetic"] == b"YES"
    assert file.schema_arrow.metadata[b"cohortium.population_model"].decode() == document["model"]
    table = file.read().to_pandas()
    assert len(table) == document["rows"]
    assert table.subject_index.nunique() == 3000
    first = table[table.visit == 0]
    assert (first.sex == "F").mean() == pytest.approx(0.3, abs=1 / 3000)
    assert first.age_years.between(25, 75).all()
    stratum = first[(first.sex == "M") & first.age_years.between(30, 50)]
    assert stratum.findings.apply(lambda f: "Hernia" in f).mean() == pytest.approx(0.5, abs=1 / len(stratum))


def test_the_same_command_gives_the_same_bytes(folder: Path, population: Run, tmp_path: Path) -> None:
    for name in ("a.parquet", "b.parquet"):
        assert population("sample", folder / "model", "-n", "500", "--seed", "4", "--out", name)[0] == 0
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert population("sample", folder / "model", "-n", "500", "--seed", "5", "--out", "c.parquet")[0] == 0
    assert (tmp_path / "a.parquet").read_bytes() != (tmp_path / "c.parquet").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.parquet", "b.parquet", "c.parquet"]


def test_csv_of_first_visits_says_in_every_row_that_it_is_synthetic(
    folder: Path, population: Run, tmp_path: Path
) -> None:
    assert population("sample", folder / "model", "-n", "200", "--visits", "first", "--out", "a.csv")[0] == 0
    table = pa_csv.read_csv(tmp_path / "a.csv").to_pandas()
    assert len(table) == 200
    assert set(table.synthetic) == {"YES"}
    assert set(table.findings.fillna("")) <= {"", "Hernia", "Mass", "Hernia|Mass"}


def test_a_dry_run_of_sample_writes_nothing(folder: Path, population: Run, tmp_path: Path) -> None:
    code, out, _ = population("sample", folder / "model", "-n", "1000", "--target", "sex=F@0.5", "--dry-run")
    assert code == 0
    assert "sex=F@0.5" in out
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------ check


@pytest.mark.slow
def test_check_judges_against_people_whom_the_model_never_saw(
    folder: Path, population: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    ask = ("check", folder / "model", folder / "others.parquet")
    code, out, err = population(*ask, "--train", folder / "people.parquet", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["patients"]["train"] == document["patients"]["holdout"] == PATIENTS
    assert 0.4 < document["synthetic"]["values"]["classifier_auc"] < 0.75
    assert document["synthetic"]["values"].keys() == document["floor"]["values"].keys()
    population_cli._print_report(document, privacy=False)
    printed = capfd.readouterr().out
    assert "classifier_auc" in printed
    assert "privacy is not judged" in printed
    assert "membership" not in printed


def test_halves_share_nobody() -> None:
    table = populations.prepare_read_table(
        make_table().drop_columns(["image_id"]), populations.Source("x"),
        find_roles(make_table(), None, None), (), parse_rules({"findings": {"kind": "set"}}), lambda _: None,
    ).records.table  # fmt: skip
    one, two = population_check.split_patients(table, 3)
    assert one.num_rows + two.num_rows == table.num_rows
    for half in (one, two):
        people = half["patient"].to_numpy()
        assert np.array_equal(np.unique(people), np.arange(PATIENTS // 2))
        assert (np.diff(people) >= 0).all()


# --------------------------------------------------------------------------------------------------------- registry

FRESH = """
import sys, mlflow.pyfunc, mlflow
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/population-people@candidate")
drawn = model.predict({"n": 50, "seed": 3, "where": ["sex=F"], "targets": ["age_years=30:50@0.5"]})
first = drawn[drawn.visit == 0]
print(len(first), set(first.sex), first.age_years.between(30, 50).mean())
"""


@pytest.mark.slow
def test_a_fit_is_registered_and_drawn_from_in_a_fresh_process(folder: Path, population: Run, tmp_path: Path) -> None:
    fit = ("fit", folder / "people.parquet", "--ignore", "image_id", "--rules", folder / "rules.toml")
    code, out, err = population(*fit, "--out", "people", "--json")
    assert code == 0, err
    registered = json.loads(out)["registered"]
    assert (registered["uri"], registered["version"]) == ("models:/population-people@candidate", "1")
    store = f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}"
    done = subprocess.run([sys.executable, "-c", FRESH, store], capture_output=True, text=True, check=False,
                          cwd=Path(__file__).parents[2])  # fmt: skip
    assert done.stdout.split() == ["50", "{'F'}", "0.5"], done.stderr
    assert not list((tmp_path / "home").rglob("*.pkl"))
    run_folder = tmp_path / "home" / "mlartifacts" / registered["run_id"] / "artifacts"
    assert json.loads((run_folder / "schema.json").read_text())["repeated"]
    for name in (folder / "model", "models:/population-people@candidate", "models:/population-people/1"):
        assert population("sample", name, "-n", "20", "--seed", "1", "--out", "a.csv", "--force")[0] == 0
    code, _, err = population("sample", "models:/population-poeple@candidate", "-n", "20", "--out", "b.csv")
    assert code == 1
    assert "Registered: population-people" in err
    assert not (tmp_path / "b.csv").exists()


def test_a_reference_is_a_table_too(population, folder, monkeypatch, tmp_path, capfd):
    arguments = ["import", folder / "people.parquet", "--name", "people", "--licence", "none", "--source", "a test"]
    monkeypatch.setattr(sys, "argv", ["cohortium", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code, capfd.readouterr().err
    code, out, err = population("fit", "reference:people/train", "--out", "model", "--no-register", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert 0.5 * PATIENTS < document["patients"] < 0.9 * PATIENTS
    assert {a["name"] for a in document["attributes"]} >= {"age_years", "sex", "findings"}
    code, _, err = population("fit", "reference:nobody", "--out", "other", "--no-register")
    assert code == 1
    assert "nobody" in err


def test_registering_leaves_no_store_behind_for_the_next_home(population, folder):
    before = dict(os.environ)
    code, _, err = population(
        "fit", folder / "people.parquet", "--ignore", "image_id", "--rules", folder / "rules.toml", "--out", "m"
    )
    assert code == 0, err
    assert {k: v for k, v in os.environ.items() if k.startswith("MLFLOW_")} == {
        k: v for k, v in before.items() if k.startswith("MLFLOW_")
    }
