"""``cohortium population``: fit, sample, check, register; and what is refused, each time with one clear message."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from synth.seeds import stream

Run = Callable[..., Any]
PATIENTS = 400


def make_table(patients: int = PATIENTS, seed: int = 5) -> pa.Table:
    """Return records of people of up to four visits: sex and age matter for the findings, some spacings are missing."""
    rng = stream(seed, 0, 0, "test/records")
    visits = rng.integers(1, 5, patients)
    who = np.repeat(np.arange(patients), visits)
    place = np.arange(len(who)) - np.repeat(np.cumsum(visits) - visits, visits)
    age = rng.integers(20, 80, patients)[who] + place
    woman = (rng.random(patients) < 0.6)[who]
    hernia, mass = rng.random(len(who)) < np.where(woman, 0.3, 0.1), rng.random(len(who)) < 0.15
    spacing = np.round(rng.normal(0.15, 0.02, len(who)), 4)
    return pa.table(
        {
            "image_id": [f"i{number:06d}" for number in range(len(who))],
            "patient_id": who,
            "follow_up": place,
            "age_years": age,
            "sex": np.where(woman, "F", "M"),
            "findings": ["|".join(["Hernia"] * int(h) + ["Mass"] * int(m)) for h, m in zip(hernia, mass, strict=True)],
            "spacing_mm": pa.array(spacing, mask=rng.random(len(who)) < 0.1),
        }
    )  # fmt: skip


RULES = '[findings]\nkind = "set"\nseparator = "|"\n'


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run ``cohortium population`` in this process, in the test's folder; return (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("COHORTIUM_HOME", str(tmp_path / "home"))

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cohortium", "population", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capfd.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return call


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


# -------------------------------------------------------------------------------------------------------------- fit


def test_fit_says_what_it_recognised_and_saves_a_model(folder: Path, run: Run, tmp_path: Path) -> None:
    fit = ("fit", folder / "people.parquet", "--ignore", "image_id", "--rules", folder / "rules.toml")
    code, out, err = run(*fit, "--out", "m", "--no-register", "--json")
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


def test_dry_run_shows_schema_and_cleaning_and_writes_nothing(folder: Path, run: Run, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(f'{RULES}[age_years]\nhigh = 70\n[sex.spellings]\nM = "male"\n')
    code, out, _ = run("fit", folder / "people.parquet", "--ignore", "image_id", "--rules", rules, "--dry-run")
    assert code == 0
    for words in ("age_years", "20 to 70", "F, male", "spelling changed", "outside any to 70: taken as missing"):
        assert words in out
    assert [p.name for p in tmp_path.iterdir()] == ["rules.toml"]


def test_csv_parquet_and_sql_give_the_same_model(
    folder: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pa_csv.write_csv(make_table(), tmp_path / "people.csv")
    prepared = populations.prepare_table
    found = {}
    for name, table in (("csv", tmp_path / "people.csv"), ("parquet", folder / "people.parquet")):
        found[name] = prepared(str(table), lambda _: None, ignore=["image_id"], rules=folder / "rules.toml")
    assert found["csv"].records.table.equals(found["parquet"].records.table)
    assert found["csv"].records.schema == found["parquet"].records.schema


def test_a_query_over_the_catalog_is_a_table_too(tmp_path: Path, run: Run) -> None:
    ensure_catalog(resolve_home(tmp_path / "home"))
    query = "SELECT range // 4 AS subject_id, range % 4 AS visit, (range * 7919) % 61 AS age_years FROM range(400)"
    code, out, err = run("fit", query, "--sql", "--dry-run", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert (document["source"], document["patient"], document["order"]) == (f"SQL: {query}", "subject_id", "visit")
    assert (document["rows"], document["patients"]) == (400, 100)
    assert run("fit", "SELECT nothing FROM images", "--sql", "--dry-run")[0] == 1


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


def test_other_families_and_their_options(folder: Path, run: Run) -> None:
    fit = ("fit", folder / "people.parquet", "--ignore", "image_id", "--rules", folder / "rules.toml", "--no-register")
    code, out, _ = run(*fit, "--out", "m", "--family", "independent", "--json")
    assert (code, json.loads(out)["family"]) == (0, "independent")
    code, out, err = run(*fit, "--out", "m", "--family", "independent", "--force", "--epsilon", "1")
    assert (code, out) == (1, "")
    assert "takes no --epsilon" in err
    code, out, err = run(*fit, "--out", "m2", "--family", "tree")
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
    folder: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, "private", PrivateFamily())
    (tmp_path / "public.toml").write_text(PUBLIC)
    fit = ("fit", folder / "people.parquet", "--ignore", "image_id", "--family", "private", "--no-register")
    code, out, err = run(*fit, "--out", "m", "--rules", tmp_path / "public.toml", "--epsilon", "3", "--json")
    assert code == 0, err
    model = load_model(tmp_path / "m")
    assert model.about["privacy"]["epsilon_asked"] == 3
    assert not {"rows", "patients", "rows_in", "source", "cleaning"} & set(model.about)
    assert (model.schema.column("age_years").low, model.schema.column("age_years").high) == (18, 90)
    code, out, err = run(*fit, "--out", "m2", "--rules", folder / "rules.toml", "--epsilon", "3")
    assert (code, out) == (1, "")
    assert "is not declared" in err


# ----------------------------------------------------------------------------------------------------------- sample


def test_sample_meets_targets_and_weights_lead_back(folder: Path, run: Run, tmp_path: Path) -> None:
    ask = ("sample", folder / "model", "-n", "3000", "--seed", "4", "--where", "age_years=25:75", "--json")
    target = ("--target", "sex=F@0.3", "--target", "findings=Hernia@0.5|sex=M;age_years=30:50")
    code, out, _ = run(*ask, *target, "--out", "a.parquet")
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


def test_the_same_command_gives_the_same_bytes(folder: Path, run: Run, tmp_path: Path) -> None:
    for name in ("a.parquet", "b.parquet"):
        assert run("sample", folder / "model", "-n", "500", "--seed", "4", "--out", name)[0] == 0
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert run("sample", folder / "model", "-n", "500", "--seed", "5", "--out", "c.parquet")[0] == 0
    assert (tmp_path / "a.parquet").read_bytes() != (tmp_path / "c.parquet").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.parquet", "b.parquet", "c.parquet"]


def test_csv_of_first_visits_says_in_every_row_that_it_is_synthetic(folder: Path, run: Run, tmp_path: Path) -> None:
    assert run("sample", folder / "model", "-n", "200", "--visits", "first", "--out", "a.csv")[0] == 0
    table = pa_csv.read_csv(tmp_path / "a.csv").to_pandas()
    assert len(table) == 200
    assert set(table.synthetic) == {"YES"}
    assert set(table.findings.fillna("")) <= {"", "Hernia", "Mass", "Hernia|Mass"}


def test_a_dry_run_of_sample_writes_nothing(folder: Path, run: Run, tmp_path: Path) -> None:
    code, out, _ = run("sample", folder / "model", "-n", "1000", "--target", "sex=F@0.5", "--dry-run")
    assert code == 0
    assert "sex=F@0.5" in out
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------ check


@pytest.mark.slow
def test_check_judges_against_people_whom_the_model_never_saw(
    folder: Path, run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    ask = ("check", folder / "model", folder / "others.parquet")
    code, out, err = run(*ask, "--train", folder / "people.parquet", "--json")
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
def test_a_fit_is_registered_and_drawn_from_in_a_fresh_process(folder: Path, run: Run, tmp_path: Path) -> None:
    fit = ("fit", folder / "people.parquet", "--ignore", "image_id", "--rules", folder / "rules.toml")
    code, out, err = run(*fit, "--out", "people", "--json")
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
        assert run("sample", name, "-n", "20", "--seed", "1", "--out", "a.csv", "--force")[0] == 0
    code, _, err = run("sample", "models:/population-poeple@candidate", "-n", "20", "--out", "b.csv")
    assert code == 1
    assert "Registered: population-people" in err
    assert not (tmp_path / "b.csv").exists()


# -------------------------------------------------------------------------------------------------------- wrong input


def change(**columns: Any) -> pa.Table:
    """Return the table with columns added or replaced (None: left out), findings and image_id left out."""
    table = make_table().drop_columns(["findings", "image_id"])
    for name, values in columns.items():
        if name in table.column_names:
            table = table.drop_columns([name])
        if values is not None:
            table = table.append_column(name, pa.array(values))
    return table


ROWS = make_table().num_rows
BAD_TABLES: dict[str, tuple[Callable[[], pa.Table], tuple[str, ...]]] = {
    "empty": (lambda: make_table().slice(0, 0), ("0 rows",)),
    "one row": (lambda: change().slice(0, 1), ("1 rows",)),
    "constant column": (lambda: change(site=["A"] * ROWS), ("'site'", "every row", "--ignore site")),
    "missing column": (lambda: change(site=pa.nulls(ROWS, pa.string())), ("'site'", "missing", "--ignore site")),
    "many categories": (
        lambda: pa.table({"code": [f"c{n % 100_000}" for n in range(100_100)], "sex": ["F", "M"] * 50_050}),
        ("'code'", "100000 different values", "--ignore code"),
    ),
    "names of rows": (lambda: make_table(), ("'image_id'", "Add --ignore image_id")),
    "numbers of rows": (lambda: change(study_id=range(ROWS)), ("'study_id'", "--ignore study_id")),
    "dates as text": (
        lambda: change(born=[f"19{50 + n % 40}-01-0{1 + n % 9}" for n in range(ROWS)]),
        ("'born'", "dates as text", "--ignore born"),
    ),
    "numbers as text": (
        lambda: change(weight=[f"{50 + n % 40}.5" for n in range(ROWS)]), ("'weight'", "rules.weight.kind"),
    ),
    "a name of samples": (lambda: change(design_weight=range(ROWS)), ("'design_weight'", "rename it")),
    "visits that are months": (
        lambda: change(follow_up=None, visit=6 * make_table()["follow_up"].to_numpy()), ("'visit'", "rename it"),
    ),
    "missing patient": (
        lambda: change(patient_id=[None, *range(ROWS - 1)]), ("'patient_id'", "missing in 1 rows"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_table_that_cannot_be_learned_is_refused(name: str, run: Run, tmp_path: Path) -> None:
    make, words = BAD_TABLES[name]
    pq.write_table(make(), tmp_path / "bad.parquet")
    code, out, err = run("fit", "bad.parquet", "--out", "m", "--no-register", "--json")
    assert (code, out) == (1, "")
    assert err.count("error: ") == 1
    for word in words:
        assert word in err
    assert [p.name for p in tmp_path.iterdir()] == ["bad.parquet"]


BAD_RULES = {
    "malformed": ("[age_years\n", ("not valid TOML", "line 1")),
    "unknown key": ("[age_years]\nlowest = 3\n", ("age_years.lowest: unknown key", "Did you mean 'low'?")),
    "unknown kind": ("[age_years]\nkind = 'number'\n", ("age_years.kind", "'integer'")),
    "bounds": ("[age_years]\nlow = 9\nhigh = 3\n", ("low 9 is above high 3",)),
    "no table": ("age_years = 3\n", ("age_years: not a table", "[age_years]")),
    "unknown column": ("[age_yaers]\nlow = 3\n", ("no column 'age_yaers'", "Did you mean 'age_years'?")),
    "no text": ("\xff\xfe", ("cannot be read", "utf-8")),
}


@pytest.mark.parametrize("name", BAD_RULES)
def test_bad_rules_are_refused(name: str, folder: Path, run: Run, tmp_path: Path) -> None:
    content, words = BAD_RULES[name]
    (tmp_path / "rules.toml").write_bytes(content.encode("latin-1"))
    code, out, err = run(
        "fit", folder / "people.parquet", "--ignore", "image_id", "--rules", "rules.toml", "--out", "m"
    )
    assert (code, out) == (1, "")
    assert err.count("error: ") == 1
    for word in words:
        assert word in err
    assert [p.name for p in tmp_path.iterdir()] == ["rules.toml"]


BAD_SAMPLES = {
    "unknown attribute": (("--where", "sxe=F"), ("'sxe' is not known", "Did you mean 'sex'?")),
    "unknown value": (("--where", "sex=f"), ("Did you mean 'F'?",)),
    "nobody": (("--where", "age_years=200:300"), ("nobody is between 200 and 300",)),
    "contradiction": (("--where", "sex=F", "--where", "sex=M"), ("contradict",)),
    "targets above one": (("--target", "sex=F@0.7", "--target", "sex=M@0.5"), ("sum to 1.2", "sex=F@0.7; sex=M@0.5")),
    "negative share": (("--target", "findings=Hernia@-0.1"), ("findings=Hernia@-0.1", "from 0 to 1")),
    "no share": (("--target", "sex=F"), ("CONDITION@SHARE",)),
    "stratum of nobody": (("--target", "findings=Mass@0.2|age_years=90:99"), ("nobody is between 90 and 99",)),
    "stratum left out": (
        ("--where", "sex=M", "--target", "findings=Mass@0.2|sex=F"), ("findings=Mass@0.2|sex=F",),
    ),
    "out of another kind": (("--out", "a.xlsx"), ("must end in .parquet or .csv",)),
    "out below a file": (("--out", "file/a.csv"), ("'file/a.csv' cannot be written", "choose another place")),
    "out exists": (("--out", "file.csv"), ("'file.csv' exists", "--force")),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_SAMPLES)
def test_a_sample_that_cannot_be_drawn_is_refused(name: str, folder: Path, run: Run, tmp_path: Path) -> None:
    options, words = BAD_SAMPLES[name]
    for file in ("file", "file.csv"):
        (tmp_path / file).write_text("mine")
    out_option = () if "--out" in options else ("--out", "a.parquet")
    code, out, err = run("sample", folder / "model", "-n", "100", *options, *out_option, "--json")
    assert (code, out) == (1, "")
    assert err.count("error: ") == 1
    for word in words:
        assert word in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "file.csv"]
    assert {p.read_text() for p in tmp_path.iterdir()} == {"mine"}


def test_missing_and_damaged_files_are_named(folder: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "torn.parquet").write_bytes((folder / "people.parquet").read_bytes()[:-40])
    (tmp_path / "empty.csv").write_text("")
    for table, words in {
        "none.parquet": "does not exist",
        "torn.parquet": "cannot be read",
        "empty.csv": "cannot be read",
        "people.xlsx": "neither .parquet nor .csv",
    }.items():
        code, out, err = run("fit", table, "--out", "m")
        assert (code, out, err.count("error: ")) == (1, "", 1)
        assert (table in err, words in err) == (True, True)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.json").write_text("{}")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"\xff" * 100)
    for model in ("none", "m"):
        code, out, err = run("sample", model, "--out", "a.csv")
        assert (code, out, f"'{model}'" in err) == (1, "", True)
    assert not (tmp_path / "a.csv").exists()


def test_a_place_that_cannot_be_written_is_seen_before_the_fit(folder: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fit = ("fit", folder / "people.parquet", "--ignore", "image_id", "--rules", folder / "rules.toml")
    for out_folder, words in {"file/m": "is no folder", "file": "is no model"}.items():
        code, out, err = run(*fit, "--out", out_folder)
        assert (code, out) == (1, "")
        assert words in err
    assert run(*fit)[0] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_sample_that_fails_halfway_leaves_nothing(
    folder: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Any:
        yield next(populations_stream)
        raise OSError(28, "No space left on device")

    plan, _ = populations.make_plan(load_model(folder / "model"), 100, 0, [], [])
    populations_stream = populations.stream_sample(plan)
    monkeypatch.setattr(populations, "stream_sample", fail)
    code, out, err = run("sample", folder / "model", "-n", "100", "--out", "a.parquet")
    assert (code, out) == (75, "")
    assert "No space left" in err
    assert list(tmp_path.iterdir()) == []


def test_a_reference_is_a_table_too(run, folder, monkeypatch, tmp_path, capfd):
    arguments = ["import", folder / "people.parquet", "--name", "people", "--licence", "none", "--source", "a test"]
    monkeypatch.setattr(sys, "argv", ["cohortium", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code, capfd.readouterr().err
    code, out, err = run("fit", "reference:people/train", "--out", "model", "--no-register", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert 0.5 * PATIENTS < document["patients"] < 0.9 * PATIENTS
    assert {a["name"] for a in document["attributes"]} >= {"age_years", "sex", "findings"}
    code, _, err = run("fit", "reference:nobody", "--out", "other", "--no-register")
    assert code == 1
    assert "nobody" in err


def test_registering_leaves_no_store_behind_for_the_next_home(run, folder):
    before = dict(os.environ)
    code, _, err = run(
        "fit", folder / "people.parquet", "--ignore", "image_id", "--rules", folder / "rules.toml", "--out", "m"
    )
    assert code == 0, err
    assert {k: v for k, v in os.environ.items() if k.startswith("MLFLOW_")} == {
        k: v for k, v in before.items() if k.startswith("MLFLOW_")
    }
