"""``cohortium import``: the real command on small and real sources, its limits, and what a kill leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog import find_reference_shards, open_catalog, resolve_home, verify_all
from flows import import_feed
from flows.import_feed import Parser, read_items, read_plan
from flows.imports import ImportRequest, import_source, plan_import
from synth.errors import CatalogError
from synth.nouns import ReferenceImage, RefusedItem
from synth.references import plan_reference
from synth.references.plan import Budget, Options, ReferenceError
from synth.references.splits import DEFAULT_SHARES
from tests.synth.references.sources import encode, make_pixels, write_bids, write_npz, write_parquet

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
UNKNOWN = "warning: the licence is unknown"


def quiet(total, done, unit):
    class Bar:
        def __enter__(self):
            return lambda amount: None

        def __exit__(self, *_):
            return None

    return Bar()


def run_import(path, home, name="real", **changes):
    planned = plan_import(ImportRequest(Path(path), name, **changes))
    return planned, import_source(resolve_home(home), planned, quiet)


def count_everything(home):
    with open_catalog(home) as c:
        names = {t["table_name"] for t in c.tables() if t["table_name"].startswith("reference_")}
        return {name: c.sql(f"SELECT count(*) FROM {name}").scalar() for name in names}


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


# ------------------------------------------------------------------------------------------------- limits and deaths


def test_a_source_whose_items_are_all_bad_is_an_error_and_leaves_no_trace(tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(b"no picture")
    with pytest.raises(ReferenceError, match=r"every one of the 3 items .* was refused \(0.png: it is no PNG"):
        run_import(tmp_path / "pictures", tmp_path / "home")
    assert set(count_everything(tmp_path / "home").values()) == {0}


def test_a_file_that_takes_too_long_or_too_much_memory_is_refused_and_the_rest_is_read(tmp_path, monkeypatch):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.png").write_bytes(encode(make_pixels(number)))
    child = tmp_path / "tricks" / "sitecustomize.py"
    child.parent.mkdir()
    child.write_text(
        "import sys, os, time\n"
        "def trick():\n"
        "    import synth.references.files as files\n"
        "    decode = files.decode_picture\n"
        "    def wrong(data, budget):\n"
        f"        place = [open({str(folder)!r} + f'/{{n}}.png', 'rb').read() for n in range(5)].index(data)\n"
        "        if place == 1: time.sleep(1000)\n"
        "        if place == 2: os.kill(os.getpid(), 11)\n"
        "        if place == 3: bytearray(1 << 40)\n"
        "        return decode(data, budget)\n"
        "    files.decode_picture = wrong\n"
        "if any('import_child' in a for a in sys.orig_argv): trick()\n"
    )
    monkeypatch.syspath_prepend(str(child.parent))
    budget = Budget(seconds_per_item=2)
    plan = read_plan(folder, Options(), budget)
    items = list(read_items(folder, plan, budget, 0, dict(DEFAULT_SHARES)))
    assert [item.name for item in items] == [f"{n}.png" for n in range(5)]
    reasons = {item.name: item.reason for item in items if isinstance(item, RefusedItem)}
    assert set(reasons) == {"1.png", "2.png", "3.png"}
    assert "time is over" in reasons["1.png"]
    assert "ended the parser (signal 11)" in reasons["2.png"]
    assert "more memory than allowed" in reasons["3.png"]


def test_the_parser_cannot_write_files_and_sees_no_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "canary")
    trick = tmp_path / "sitecustomize.py"
    trick.write_text(
        "import os, sys\n"
        "if any('import_child' in a for a in sys.orig_argv):\n"
        "    import synth.references as references\n"
        "    from synth.references.plan import ReferenceError\n"
        "    def plan(path, options, budget):\n"
        "        try:\n"
        f"            with open({str(tmp_path / 'written')!r}, 'wb') as f: f.write(b'x' * 10)\n"
        "            said = 'written'\n"
        "        except OSError as error:\n"
        "            said = 'refused'\n"
        "        raise ReferenceError(said + ' ' + ' '.join(sorted(os.environ)))\n"
        "    references.plan_reference = plan\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ReferenceError) as caught:
        read_plan(tmp_path, Options(), Budget())
    said = str(caught.value)
    assert said.startswith("refused")
    assert "SECRET_TOKEN" not in said
    assert not (tmp_path / "written").exists() or (tmp_path / "written").stat().st_size == 0


def test_a_parser_that_sends_nonsense_or_dies_at_once_is_an_error(tmp_path, monkeypatch):
    path = write_parquet(tmp_path / "x.parquet")
    plan = read_plan(path, Options(), Budget())
    with pytest.raises(ReferenceError, match=r"ended the parser|more memory"):
        read_plan(path, Options(), Budget(memory_bytes=1 << 20))
    with pytest.raises(ReferenceError, match="from item 1 on"):
        list(read_items(path, plan, Budget(memory_bytes=1 << 20), 0, dict(DEFAULT_SHARES)))
    wrong = [
        ({"kind": "rows", "rows": [{"item": 0, "name": "a"}]}, b""),
        ({"kind": "rows", "rows": [{"item": 7, "name": "b", "pixels": {}}]}, b""),
        ({"kind": "rows", "rows": [{"item": 2, "name": "c", "pixels": {
            "dtype": "uint8", "shape": [9, 9], "axes": "yx"}}]}, b"short"),
        ({"kind": "refused", "name": "d", "reason": "x", "items": 10**9}, b""),
        ({"kind": "surprise"}, b""),
    ]  # fmt: skip
    monkeypatch.setattr(Parser, "frames", lambda self: iter(wrong))
    monkeypatch.setattr(import_feed, "_explain_death", lambda parser: "ended")
    parser = read_items(path, plan, Budget(), 0, dict(DEFAULT_SHARES))
    found = [next(parser) for _ in range(4)]
    assert [item.item for item in found] == [0, 1, 2, 3]
    assert all(isinstance(item, RefusedItem) and item.items == 1 for item in found)


def test_the_time_for_the_whole_source_is_limited(tmp_path):
    path = write_parquet(tmp_path / "x.parquet")
    plan = read_plan(path, Options(), Budget())
    with pytest.raises(ReferenceError, match=r"time for the whole source is over .* the same command continues"):
        list(read_items(path, plan, Budget(seconds=0.001), 0, dict(DEFAULT_SHARES)))


# ------------------------------------------------------------------------------------------ kill, go on, come again


@pytest.fixture
def many(tmp_path):
    """300 pictures, of which an import writes a shard every 20."""
    rows = 300
    return write_parquet(tmp_path / "many.parquet", rows=rows, group=50)


SLOW = """
import sys
from pathlib import Path
import catalog.reference_shards as shards
shards.SHARD_ITEMS = 20
from flows.imports import ImportRequest, import_source, plan_import
from catalog import resolve_home
from tests.flows.test_import import quiet
planned = plan_import(ImportRequest(Path(sys.argv[1]), "real"))
import_source(resolve_home(sys.argv[2]), planned, quiet)
"""


def test_an_import_killed_in_the_middle_leaves_nothing_registered_and_goes_on(many, tmp_path, monkeypatch):
    monkeypatch.setattr("catalog.reference_shards.SHARD_ITEMS", 20)
    home = resolve_home(tmp_path / "home")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(many), str(home.root)], env=environment, cwd=ROOT)
    pattern = "data/main/reference_pixels/*/*.parquet"
    deadline = time.monotonic() + 120
    while len(list(home.root.glob(pattern))) < 4 and time.monotonic() < deadline:
        time.sleep(0.002)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    finished = len(list(home.root.glob(pattern)))
    assert 4 <= finished < 15
    assert set(count_everything(home).values()) == {0}
    _, result = run_import(many, home.root)
    assert (result.state.images, result.shards_reused + result.shards_written) == (300, 15)
    assert result.shards_reused >= 4
    assert not list(home.root.glob("data/main/reference_pixels/*/.*.tmp"))
    _, whole = run_import(many, tmp_path / "other")
    assert whole.state.fingerprint == result.state.fingerprint
    assert not verify_all(home).damaged


def test_coming_again_changes_nothing_and_restores_damaged_shards(many, tmp_path, monkeypatch):
    monkeypatch.setattr("catalog.reference_shards.SHARD_ITEMS", 100)
    home = resolve_home(tmp_path / "home")
    planned, first = run_import(many, home.root)
    before = count_everything(home)
    _, again = run_import(many, home.root)
    assert (again.unchanged, again.shards_written, again.shards_reused) == (True, 0, 3)
    assert again.state == first.state
    shards = find_reference_shards(home, planned.reference_id)
    (home.root / shards[100].path).unlink()
    (home.root / shards[200].path).write_bytes(b"damaged")
    assert len(verify_all(home).damaged) == 2
    _, repaired = run_import(many, home.root)
    assert (repaired.unchanged, repaired.shards_written) == (True, 2)
    assert not verify_all(home).damaged
    assert count_everything(home) == before
    pq.write_table(pq.read_table(many).slice(0, 200), many)
    with pytest.raises(CatalogError, match="the name 'real' belongs to"):
        run_import(many, home.root)
    _, second = run_import(many, home.root, name="second")
    assert second.state.images == 200


def test_the_same_patients_have_the_same_split_in_every_reference(tmp_path):
    run_import(write_parquet(tmp_path / "a.parquet", rows=30), tmp_path / "home", name="a")
    table = pq.read_table(tmp_path / "a.parquet").drop_columns(["png"])
    pq.write_table(table.slice(4), tmp_path / "b.parquet")
    run_import(tmp_path / "b.parquet", tmp_path / "home", name="b")
    with open_catalog(tmp_path / "home") as c:
        a, b = ({r["patient_id"]: r["split"] for r in c.reference(n).records().to_pylist()} for n in "ab")
    assert b == {patient: split for patient, split in a.items() if patient in b}
    assert json.loads(json.dumps(b))
