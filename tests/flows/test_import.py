"""``cohortium import``: the real command on small and real sources, and how patients are split."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog import open_catalog
from flows.import_feed import read_items
from synth.nouns import ReferenceImage
from synth.references import plan_reference
from synth.references.plan import Budget, Options
from synth.references.splits import DEFAULT_SHARES
from tests.flows.importing import run_import
from tests.synth.references.sources import encode, make_pixels, write_bids, write_npz, write_parquet

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
UNKNOWN = "warning: the licence is unknown"


# ---------------------------------------------------------------------------------------------------- the command


def test_the_command_shows_imports_and_says_when_there_is_nothing_to_do(tmp_path, cohortium):
    path = write_parquet(tmp_path / "x.parquet", png=[b"bad", *(encode(make_pixels(i)) for i in range(1, 9))])
    pq.write_table(pq.read_table(path).take([1, 0, *range(2, 9)]), path, row_group_size=4)
    home = tmp_path / "home"
    common = (path, "--name", "chest", "--home", home)
    dry = cohortium("import", *common, "--dry-run", "--json")
    assert dry.code == 0, dry.err
    assert (dry.json()["adapter"], dry.json()["items"], dry.json()["patients"]) == ("parquet", 9, 5)
    assert "patient_column  patient_id" in cohortium("import", *common, "--dry-run").out
    assert not home.exists()
    first = cohortium("import", *common, "--json")
    assert first.code == 0, first.err
    assert UNKNOWN in first.err
    document = first.json()
    assert (document["images"], document["patients"], document["unchanged"]) == (8, 5, False)
    assert sum(document["splits"].values()) == 8
    assert document["attributes"][0] == {"name": "age_years", "kind": "integer", "unit": "years"}
    assert [(r["name"], r["item"]) for r in document["refused"]] == [("im0", 1)]
    again = cohortium("import", *common, "--licence", "CC BY 4.0", "--source", "a paper")
    assert "was imported already, nothing to do" in again.out
    assert "licence: CC BY 4.0; source: a paper" in again.out
    assert "im0: it is no PNG" in again.out
    assert UNKNOWN not in again.err
    other = cohortium("import", *common, "--attributes", "sex", "--json")
    assert (other.code, other.out) == (1, "")
    assert "choose another --name" in other.err
    assert cohortium("verify", "--home", home, "--json").json() == {"shards": 1, "damaged": []}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("absent.parquet", "--name", "x"), "no file or folder 'absent.parquet'"),
        (("x.parquet", "--name", "../x"), "--name '../x' is not allowed"),
        (("x.parquet", "--name", "x" * 60), "is not allowed"),
        (("x.parquet", "--name", "x", "--patient", "persn"), "no column 'persn'"),
        (("bad.parquet", "--name", "x"), "'bad.parquet' cannot be read as Parquet"),
    ],
)
def test_wrong_input_is_explained(tmp_path, here, arguments, words):
    write_parquet(tmp_path / "x.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1" + b"x" * 100)
    code, out, err = here("import", *arguments, "--home", "home", "--json")
    assert (code, out) == (1, "")
    assert words in err
    assert "Traceback" not in err
    assert not (tmp_path / "home").exists()


# ------------------------------------------------------------------------------------------------------- real data


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder with real data, ../shared/data, is not there")
@pytest.mark.parametrize(
    ("file", "images", "patients", "attribute"),
    [
        ("nih_cxr_sample.parquet", 786, 542, ("findings", "set")),
        ("pneumoniamnist_28.npz", 2698, 2698, ("label", "categorical")),
        ("nih_cxr14_metadata.parquet", 98979, 27600, ("pixel_spacing_mm", "continuous")),
    ],
)
def test_the_real_files_import_with_one_command(tmp_path, cohortium, file, images, patients, attribute):
    outcome = cohortium("import", SHARED / file, "--name", "real", "--home", tmp_path, "--licence", "x", "--json")
    assert outcome.code == 0, outcome.err
    document = outcome.json()
    assert (document["images"], document["patients"], document["refused"]) == (images, patients, [])
    assert attribute in [(a["name"], a["kind"]) for a in document["attributes"]]
    with open_catalog(tmp_path) as c:
        crossing = "SELECT count(*) FROM (FROM reference_images GROUP BY patient_id HAVING count(DISTINCT split) > 1)"
        assert c.sql(crossing.replace("(FROM", "(SELECT patient_id FROM")).scalar() == 0
        assert c.reference("real").records().num_rows == images
        for view in ("cohorts", "subjects", "scans", "images", "measurements"):
            assert c.sql(f"SELECT count(*) FROM released_{view}").scalar() == 0
        shares = {split: count / images for split, count in document["splits"].items()}
    if file.startswith("nih"):
        assert all(abs(shares[split] - share) < 0.06 for split, share in DEFAULT_SHARES.items())


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder with real data, ../shared/data, is not there")
def test_the_real_volumes_import_as_a_folder(tmp_path):
    (tmp_path / "scans").mkdir()
    for name in ("real_t1_head.nii.gz", "real_flair_lesion.nii.gz"):
        shutil.copy(SHARED / name, tmp_path / "scans")
    _, result = run_import(tmp_path / "scans", tmp_path / "home")
    assert result.state.images == 2
    with open_catalog(tmp_path / "home") as c:
        shapes = [image.pixels.shape for image in c.reference("real").images()]
    assert shapes == [(124, 160, 140), (188, 256, 190)]


# ------------------------------------------------------------------------------------------- splits and attributes


# Few, for each example starts two parsers; tests/synth/references/test_splits.py tries many without any.
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    patients=st.lists(st.sampled_from([f"p{n}" for n in range(12)]), min_size=2, max_size=40),
    seed=st.integers(0, 2**31),
)
def test_no_patient_crosses_splits(tmp_path, patients, seed):
    table = pa.table({"patient_id": patients, "age_years": list(range(len(patients)))})
    pq.write_table(table, tmp_path / "x.parquet")
    plan = plan_reference(tmp_path / "x.parquet", Options(), Budget())
    split_of = {}
    for item in read_items(tmp_path / "x.parquet", plan, Budget(), seed, dict(DEFAULT_SHARES)):
        assert isinstance(item, ReferenceImage)
        assert split_of.setdefault(item.patient_id, item.split) == item.split
    more = [*patients, "p99", "p98"]
    pq.write_table(pa.table({"patient_id": more, "age_years": list(range(len(more)))}), tmp_path / "x.parquet")
    plan = plan_reference(tmp_path / "x.parquet", Options(), Budget())
    for item in read_items(tmp_path / "x.parquet", plan, Budget(), seed, dict(DEFAULT_SHARES)):
        assert split_of.setdefault(item.patient_id, item.split) == item.split


def test_bids_arrives_in_the_catalog_with_visits_types_and_geometry(tmp_path):
    _, result = run_import(write_bids(tmp_path / "bids"), tmp_path / "home")
    assert (result.state.images, result.state.patients) == (5, 3)
    with open_catalog(tmp_path / "home") as c:
        reference = c.reference("real")
        records = reference.records().to_pylist()
        assert [(r["patient_id"], r["visit"], r["age"]) for r in records] == [
            ("sub-01", 0, 41), ("sub-01", 1, 41), ("sub-02", 0, None), ("sub-02", 1, None), ("sub-03", 0, None)
        ]  # fmt: skip
        assert {a.name: a.unit for a in reference.schema}["age"] == "years"
        assert {a.name: a.description for a in reference.schema}["age"] == "Age at scan."
        image = next(reference.images())
        np.testing.assert_array_equal(image.pixels, make_pixels(3, (4, 5, 6)))
        assert image.row["spacing_mm"] == [1.0, 2.0, 3.0]
        assert len(image.row["affine"]) == 16


def test_medmnist_splits_are_kept(tmp_path):
    arrays = {
        "train_images": make_pixels(1, (40, 8, 8)), "train_labels": np.zeros((40, 1), np.uint8),
        "val_images": make_pixels(2, (60, 8, 8)), "val_labels": np.ones((60, 1), np.uint8),
    }  # fmt: skip
    _, result = run_import(write_npz(tmp_path / "x.npz", arrays), tmp_path / "home")
    assert result.state.splits["train"] == 40
    assert result.state.splits["validation"] >= 8
    assert result.state.splits["holdout"] >= 25
    with open_catalog(tmp_path / "home") as c:
        names = {i.row["name"][:3]: i.row["split"] for i in c.reference("real").images("train")}
        assert names == {"tra": "train"}
        assert c.sql("SELECT patients_known FROM reference_sets").scalar() is False
