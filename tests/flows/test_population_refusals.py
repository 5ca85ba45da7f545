"""``cohortium population``: tables, rules and requests that cannot be used, each refused with one clear message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows import populations
from synth.population.model_files import load_model
from tests.flows.people_table import make_table

Run = Callable[..., tuple[int, str, str]]


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
def test_a_table_that_cannot_be_learned_is_refused(name: str, population: Run, tmp_path: Path) -> None:
    make, words = BAD_TABLES[name]
    pq.write_table(make(), tmp_path / "bad.parquet")
    code, out, err = population("fit", "bad.parquet", "--out", "m", "--no-register", "--json")
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
def test_bad_rules_are_refused(name: str, folder: Path, population: Run, tmp_path: Path) -> None:
    content, words = BAD_RULES[name]
    (tmp_path / "rules.toml").write_bytes(content.encode("latin-1"))
    code, out, err = population(
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
def test_a_sample_that_cannot_be_drawn_is_refused(name: str, folder: Path, population: Run, tmp_path: Path) -> None:
    options, words = BAD_SAMPLES[name]
    for file in ("file", "file.csv"):
        (tmp_path / file).write_text("mine")
    out_option = () if "--out" in options else ("--out", "a.parquet")
    code, out, err = population("sample", folder / "model", "-n", "100", *options, *out_option, "--json")
    assert (code, out) == (1, "")
    assert err.count("error: ") == 1
    for word in words:
        assert word in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "file.csv"]
    assert {p.read_text() for p in tmp_path.iterdir()} == {"mine"}


def test_missing_and_damaged_files_are_named(folder: Path, population: Run, tmp_path: Path) -> None:
    (tmp_path / "torn.parquet").write_bytes((folder / "people.parquet").read_bytes()[:-40])
    (tmp_path / "empty.csv").write_text("")
    for table, words in {
        "none.parquet": "does not exist",
        "torn.parquet": "cannot be read",
        "empty.csv": "cannot be read",
        "people.xlsx": "neither .parquet nor .csv",
    }.items():
        code, out, err = population("fit", table, "--out", "m")
        assert (code, out, err.count("error: ")) == (1, "", 1)
        assert (table in err, words in err) == (True, True)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.json").write_text("{}")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"\xff" * 100)
    for model in ("none", "m"):
        code, out, err = population("sample", model, "--out", "a.csv")
        assert (code, out, f"'{model}'" in err) == (1, "", True)
    assert not (tmp_path / "a.csv").exists()


def test_a_place_that_cannot_be_written_is_seen_before_the_fit(folder: Path, population: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fit = ("fit", folder / "people.parquet", "--ignore", "image_id", "--rules", folder / "rules.toml")
    for out_folder, words in {"file/m": "is no folder", "file": "is no model"}.items():
        code, out, err = population(*fit, "--out", out_folder)
        assert (code, out) == (1, "")
        assert words in err
    assert population(*fit)[0] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_sample_that_fails_halfway_leaves_nothing(
    folder: Path, population: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Any:
        yield next(populations_stream)
        raise OSError(28, "No space left on device")

    plan, _ = populations.make_plan(load_model(folder / "model"), 100, 0, [], [])
    populations_stream = populations.stream_sample(plan)
    monkeypatch.setattr(populations, "stream_sample", fail)
    code, out, err = population("sample", folder / "model", "-n", "100", "--out", "a.parquet")
    assert (code, out) == (75, "")
    assert "No space left" in err
    assert list(tmp_path.iterdir()) == []
