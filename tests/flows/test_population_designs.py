"""``cohortium population twins|controls|trial|sites``: whole files; what cannot be is refused with one message."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from synth.population.model_files import save_model
from tests.synth.population.people import fit_people

SITES = '[[site]]\nname = "north"\nshare = 0.6\ntargets = ["sex=F@0.7"]\n[[site]]\nname = "south"\nshare = 0.4\n'


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "people"
    save_model(fit_people(patients=1500), folder)
    return folder


def read(out: str) -> tuple[Any, list[dict[str, Any]]]:
    document = json.loads(out)
    rows = [row for row in pq.read_table(document["file"]).to_pylist() if row["visit"] == 0]
    return document, rows


def test_twins_share_who_they_are(population, model, tmp_path):
    out = tmp_path / "twins.parquet"
    code, printed, _ = population(
        "twins", model, "-n", 200, "--where", "findings=oedema", "--change", "findings!=oedema", "--out", out, "--json"
    )
    document, rows = read(printed)
    assert code == 0
    assert document["counts"] == {"twin=original": 200, "twin=twin": 200}
    pairs = {}
    for row in rows:
        pairs.setdefault(row["subject_index"], {})[row["twin"]] = row
    assert all("oedema" in p["original"]["findings"] and "oedema" not in p["twin"]["findings"] for p in pairs.values())
    assert all(p["original"]["age_years"] == p["twin"]["age_years"] for p in pairs.values())
    assert pq.read_metadata(out).metadata[b"cohortium.synthetic"] == b"YES"


def test_controls_belong_to_cases(population, model, tmp_path):
    code, printed, _ = population(
        "controls",
        model,
        "-n",
        60,
        "--where",
        "findings=hernia",
        "--control",
        "findings!=hernia",
        "--match",
        "sex,age_years/10",
        "--ratio",
        2,
        "--out",
        tmp_path / "c.parquet",
        "--json",
    )
    document, rows = read(printed)
    assert code == 0
    assert document["counts"] == {"role=case": 60, "role=control": 120}
    cases = {row["case_index"]: row for row in rows if row["role"] == "case"}
    for row in rows:
        case = cases[row["case_index"]]
        assert (row["sex"], row["age_years"] // 10) == (case["sex"], case["age_years"] // 10)
        assert ("hernia" in row["findings"]) == (row["role"] == "case")


def test_trial_is_balanced(population, model, tmp_path):
    code, printed, _ = population(
        "trial",
        model,
        "-n",
        300,
        "--arm",
        "drug=2",
        "--arm",
        "placebo",
        "--strata",
        "sex",
        "--out",
        tmp_path / "t.parquet",
        "--json",
    )
    _, rows = read(printed)
    assert code == 0
    for sex in ("F", "M"):
        counts = Counter(row["arm"] for row in rows if row["sex"] == sex)
        assert abs(counts["drug"] - 2 * counts["placebo"]) <= 2


def test_sites_have_their_mix(population, model, tmp_path):
    sites = tmp_path / "sites.toml"
    sites.write_text(SITES)
    code, printed, _ = population("sites", model, sites, "-n", 100, "--out", tmp_path / "s.parquet", "--json")
    _, rows = read(printed)
    assert code == 0
    assert Counter(row["site"] for row in rows) == {"north": 60, "south": 40}
    assert sum(row["sex"] == "F" for row in rows if row["site"] == "north") == 42


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("twins", "--change", "age_years=40:50"), "leaves several"),
        (("twins", "--change", "sex=X"), "'X' is not known"),
        (("trial", "--arm", "drug=2"), "two or more"),
        (("trial", "--arm", "drug=two", "--arm", "placebo"), "cannot be read"),
        (("trial", "--arm", "a", "--arm", "b", "--strata", "age_years"), "give their width"),
        (("controls", "--control", "sex=F", "--match", "sex"), "cannot be matched and asked"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_written(population, model, tmp_path, arguments, message):
    out = tmp_path / "out.parquet"
    code, printed, err = population(arguments[0], model, "-n", 20, *arguments[1:], "--out", out)
    assert code == 1
    assert message in err
    assert not printed
    assert list(tmp_path.glob("*.parquet")) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[site]]\nname = 'a'\n", "share (number) are needed"),
        ("[[site]]\nname = 'a'\nshare = 1.0\nmix = 1\n", "'mix' is not known"),
        ("[[site]]\nname = 'a'\nshare = 0.5\n", "sum to 1"),
        ("sites = 1", "one [[site]] for each site"),
        ("[[site", "cannot be read"),
    ],
)
def test_sites_that_cannot_be_read_are_refused(population, model, tmp_path, text, message):
    sites = tmp_path / "sites.toml"
    sites.write_text(text)
    code, _, err = population("sites", model, sites, "-n", 20, "--out", tmp_path / "out.parquet")
    assert code == 1
    assert message in err
