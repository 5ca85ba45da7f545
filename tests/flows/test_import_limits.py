"""Imports of hostile, slow and huge sources, and imports that are killed and come again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from catalog import find_reference_shards, open_catalog, resolve_home, verify_all
from flows import import_feed
from flows.import_feed import Parser, read_items, read_plan
from synth.errors import CatalogError
from synth.nouns import RefusedItem
from synth.references.plan import Budget, Options, ReferenceError
from synth.references.splits import DEFAULT_SHARES
from tests.flows.importing import count_everything, run_import
from tests.synth.references.sources import encode, make_pixels, write_parquet

ROOT = Path(__file__).resolve().parents[2]

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
from tests.flows.importing import quiet
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
