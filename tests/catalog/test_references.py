"""References: registered once and whole, marked real, split by patient, typed, and never in a released view."""

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog import (
    ReferenceRow,
    commit_reference,
    commit_report,
    ensure_catalog,
    find_reference,
    find_reference_shards,
    open_catalog,
    resolve_home,
    state_terms,
    verify_all,
    write_reference_shard,
)
from catalog import reference_shards as module
from catalog.migrations import MIGRATIONS, Migration
from catalog.tables import TABLES
from catalog.views import RELEASED
from synth.errors import CatalogError, DamagedShardError
from synth.nouns import Attribute, ReferenceImage, RefusedItem
from synth.population.records import prepare_records

ROOT = Path(__file__).parents[2]
ID = "real-0123456789"
ATTRIBUTES = (
    Attribute("age_years", "integer", "years"),
    Attribute("weight_kg", "continuous", "kg", "Weight."),
    Attribute("sex", "categorical"),
    Attribute("findings", "set"),
)
KINDS = {attribute.name: attribute for attribute in ATTRIBUTES}
REFERENCE_TABLES = [table.name for table in TABLES if table.name.startswith("reference_")]
SPLITS = ("train", "validation", "holdout")


def make_items(count=12, with_pixels=True, splits=None):
    """Item 5 is refused; patients have two records each, the later one first."""
    for item in range(count):
        if item == 5:
            yield RefusedItem(5, "broken", "it is no image")
            continue
        patient = item // 2
        generator = np.random.Generator(np.random.Philox(key=item))
        yield ReferenceImage(
            item, f"image {item}", f"patient {patient}", (splits or SPLITS[patient % 3]),
            {
                "age_years": None if item == 3 else 40 + item,
                "weight_kg": 60.5 + item if item % 3 else None,
                "sex": "FM"[patient % 2],
                "findings": ("b", "a") if item % 2 else (),
            },
            order=float(-item),
            pixels=generator.integers(0, 256, (4, 5 + item % 2), dtype=np.uint8) if with_pixels else None,
            axes="yx",
        )  # fmt: skip


def make_row(**changes):
    row = ReferenceRow(
        ID, "real", "test", "data.parquet", "s" * 64, "r" * 64, {"seed": 0}, ATTRIBUTES, 12, True, True, ("A note.",)
    )
    return dataclasses.replace(row, **changes)


def write_all(home, items=None, reference_id=ID):
    items = iter(items or make_items())
    shards = []
    while not shards or shards[-1].next_item < 12:
        shards.append(write_reference_shard(home, reference_id, shards[-1].next_item if shards else 0, KINDS, items))
    return shards


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(module, "SHARD_ITEMS", 5)
    monkeypatch.setattr(module, "ROW_GROUP_IMAGES", 2)


@pytest.fixture
def registered(home, small_shards):
    commit_reference(home, make_row(), write_all(home))
    return home


def count_rows(home):
    with open_catalog(home) as c:
        return {name: c.sql(f"SELECT count(*) FROM {name}").scalar() for name in REFERENCE_TABLES}


FULL = {
    "reference_sets": 1, "reference_terms": 1, "reference_columns": 4, "reference_images": 11,
    "reference_attributes": 39, "reference_refusals": 1, "reference_shards": 3, "reference_pixels": 11,
}  # fmt: skip
NOTHING = dict.fromkeys(FULL, 0)


def test_a_reference_is_registered_once_with_everything(registered):
    assert count_rows(registered) == FULL
    state = find_reference(registered, "real")
    assert (state.images, state.patients, state.splits) == (11, 6, {"train": 4, "validation": 4, "holdout": 3})
    assert state.refused == (RefusedItem(5, "broken", "it is no image"),)
    again = commit_reference(registered, make_row(), list(find_reference_shards(registered, ID).values()))
    assert again == state
    assert count_rows(registered) == FULL
    assert verify_all(registered).shards == 3
    assert not verify_all(registered).damaged


def test_attributes_keep_their_types_and_missing_values(registered):
    with open_catalog(registered) as c:
        reference = c.reference("real")
        records = reference.records()
        assert reference.schema == ATTRIBUTES
        assert [(f.name, f.type) for f in records.schema] == [
            ("image_id", pa.string()), ("name", pa.string()), ("patient_id", pa.string()), ("visit", pa.int32()),
            ("visit_order", pa.float64()), ("split", pa.string()), ("age_years", pa.int64()),
            ("weight_kg", pa.float64()), ("sex", pa.string()), ("findings", pa.list_(pa.string())),
        ]  # fmt: skip
        for item in make_items():
            if isinstance(item, ReferenceImage):
                row = next(r for r in records.to_pylist() if r["name"] == item.name)
                wanted = {**item.attributes, "findings": sorted(item.attributes["findings"])}
                assert {name: row[name] for name in KINDS} == wanted
                assert (row["patient_id"], row["split"], row["visit_order"]) == (
                    item.patient_id,
                    item.split,
                    item.order,
                )
        first = [row for row in records.to_pylist() if row["patient_id"] == "patient 0"]
        assert [(row["visit"], row["name"]) for row in first] == [(0, "image 1"), (1, "image 0")]
        held = reference.records("holdout").column("split").to_pylist()
        assert set(held) == {"holdout"}
        columns = {c["name"]: c for c in reference.columns}
        assert (columns["age_years"]["low"], columns["age_years"]["high"], columns["age_years"]["missing"]) == (
            40,
            51,
            1,
        )
        assert columns["findings"]["labels"] == ["a", "b"]
        assert columns["sex"]["labels"] == ["F", "M"]
        wide = c.sql("SELECT attributes FROM reference_records WHERE name = 'image 1'").scalar()
        assert dict(wide) == {"age_years": "41", "weight_kg": "61.5", "sex": "F", "findings": "a|b"}


def test_records_feed_the_population_models(home):
    items = []
    for item in range(90):
        patient = item // 2
        values = {"age_years": 30 + patient, "weight_kg": 50.5 + item, "sex": "FM"[patient % 2], "findings": ("a",)}
        items.append(ReferenceImage(item, str(item), f"p{patient}", "train", values, order=item))
    shard = write_reference_shard(home, ID, 0, KINDS, iter(items))
    commit_reference(home, make_row(items=90, has_pixels=False), [shard])
    with open_catalog(home) as c:
        table = c.reference("real").records()
        records = prepare_records(
            table, patient="patient_id", order="visit", ignore=["image_id", "name", "visit_order", "split"]
        )
        assert not list(c.reference("real").images())
    assert records.patients == 45
    assert {column.name: column.kind for column in records.schema.columns} == {a.name: a.kind for a in ATTRIBUTES}


def test_images_come_back_bit_for_bit_by_split(registered):
    wanted = {item.name: item for item in make_items() if isinstance(item, ReferenceImage)}
    with open_catalog(registered) as c:
        reference = c.reference(ID)
        found = list(reference.images())
        assert [image.row["name"] for image in found] == list(wanted)
        for image in found:
            np.testing.assert_array_equal(image.pixels, wanted[image.row["name"]].pixels)
            assert image.pixels.dtype == np.uint8
        for split in SPLITS:
            assert {image.row["split"] for image in reference.images(split)} == {split}
        with pytest.raises(CatalogError, match="Did you mean 'holdout'"):
            list(reference.images("holdoud"))
        with pytest.raises(CatalogError, match="Did you mean 'real'"):
            c.reference("reel")


def test_a_reference_is_marked_real_and_never_released(registered, maker):
    m = maker()
    m.build(registered)
    commit_report(registered, m.report())
    with pytest.raises(CatalogError, match="register its shards first"):
        commit_report(registered, m.report(cohort_id=ID))
    assert not [view.name for view in RELEASED if "reference" in view.query]
    with open_catalog(registered) as c:
        for view in RELEASED:
            rows = c.sql(f"SELECT * FROM {view.name}").dicts()
            assert rows
            assert {row["cohort_id"] for row in rows} == {m.cohort_id}
        assert c.sql("SELECT DISTINCT real FROM reference_sets").rows() == [(True,)]
        assert c.sql("SELECT count(*) FROM cohort_status").scalar() == 1
        for shard in c.reference_shards():
            metadata = pq.read_metadata(registered.root / shard.path).metadata
            assert metadata[b"cohortium.synthetic"] == b"NO"
            assert b"never to be released" in metadata[b"cohortium.notice"]


def test_a_patient_in_two_splits_undoes_everything(home):
    items = [dataclasses.replace(i, split="holdout") if i.item == 1 else i for i in make_items()]
    shards = write_all(home, items)
    with pytest.raises(CatalogError, match=r"patient 'patient 0' .* in one split"):
        commit_reference(home, make_row(), shards)
    assert count_rows(home) == NOTHING


def test_what_is_not_whole_is_refused(home, small_shards):
    shards = write_all(home)
    torn = dataclasses.replace(shards[0], bytes=1)
    for wrong, row, kind, words in (
        (shards[:2], make_row(), CatalogError, "end at item 10 of 12"),
        (shards[1:], make_row(), CatalogError, "no shard holds item 0"),
        ([torn, *shards[1:]], make_row(), DamagedShardError, "missing or torn"),
        (shards, make_row(reference_id="other-1"), CatalogError, "does not belong to"),
        (shards, make_row(reference_id="../x"), CatalogError, "is not allowed"),
    ):
        with pytest.raises(kind, match=words):
            commit_reference(home, row, wrong)
    assert count_rows(home) == NOTHING
    only_bad = iter([RefusedItem(0, "all", "all are bad", 12)])
    empty = write_reference_shard(home, "bad-1", 0, KINDS, only_bad)
    with pytest.raises(CatalogError, match="nothing to register"):
        commit_reference(home, make_row(reference_id="bad-1", name="bad"), [empty])
    for value in (1.5, "text", True, float("nan")):
        bad = ReferenceImage(0, "x", "p", "train", {"age_years": value})
        with pytest.raises(CatalogError, match="declared as integer"):
            write_reference_shard(home, ID, 0, KINDS, iter([bad]))
    with pytest.raises(CatalogError, match=r"item 0 .* must come next, got 1"):
        write_reference_shard(home, ID, 0, KINDS, iter([ReferenceImage(1, "x", "p", "train", {})]))
    assert not list(home.reference_folder(ID).glob(".*.tmp"))


def test_a_name_belongs_to_one_content(registered):
    write_all(registered, make_items(splits="train"), "real-9876543210")
    shards = list(find_reference_shards(registered, "real-9876543210").values())
    with pytest.raises(CatalogError, match="the name 'real' belongs to reference 'real-0123456789'"):
        commit_reference(registered, make_row(reference_id="real-9876543210"), shards)
    commit_reference(registered, make_row(reference_id="real-9876543210", name="second"), shards)
    assert find_reference(registered, "second").fingerprint != find_reference(registered, "real").fingerprint


def test_the_fingerprint_is_of_the_content_and_not_of_shards_and_names(home, monkeypatch):
    commit_reference(home, make_row(), write_all(home))
    monkeypatch.setattr(module, "SHARD_ITEMS", 3)
    commit_reference(home, make_row(reference_id="b-1", name="b"), write_all(home, reference_id="b-1"))
    assert find_reference(home, "b").fingerprint == find_reference(home, "real").fingerprint


def test_terms_can_be_stated_later_and_the_latest_counts(registered):
    assert find_reference(registered, "real").licence == "unknown"
    assert state_terms(registered, "real", "CC BY 4.0", "unknown").licence == "CC BY 4.0"
    state = state_terms(registered, "real", "unknown", "NIH")
    assert (state.licence, state.source) == ("CC BY 4.0", "NIH")
    assert state_terms(registered, "real", "CC BY 4.0", "NIH") == state
    assert count_rows(registered)["reference_terms"] == 3


def test_damage_is_found_on_verify_and_on_reading(registered):
    with open_catalog(registered) as c:
        record = c.reference_shards()[0]
        path = registered.root / record.path
        data = bytearray(path.read_bytes())
        place = data.index(b"image 0")
        data[place] ^= 1
        path.write_bytes(data)
        assert [d.shard_id for d in verify_all(registered).damaged] == [record.shard_id]
        start = next(iter(find_reference_shards(registered, ID)))
        assert start == 5  # the damaged first shard is not taken for finished
        pixels = pq.ParquetFile(path).metadata.row_group(0)
        column = next(i for i in range(pixels.num_columns) if pixels.column(i).path_in_schema == "pixels")
        data[pixels.column(column).data_page_offset + 60] ^= 1
        path.write_bytes(data)
        with pytest.raises(DamagedShardError, match="import the same source again"):
            list(c.reference("real").images())


COMMITTER = """
    import os, sys
    sys.path[:0] = ['{root}', '{root}/tests/catalog']
    import test_references as t
    from catalog import commit_reference, find_reference_shards, resolve_home
    home = resolve_home(sys.argv[1])
    shards = list(find_reference_shards(home, t.ID).values())
    os.write(1, b'ready\\n')
    commit_reference(home, t.make_row(), shards)
    os.write(1, b'done\\n')
"""


def test_a_commit_killed_at_any_moment_is_whole_or_nothing(tmp_path, small_shards):
    script = textwrap.dedent(COMMITTER.format(root=ROOT))
    counts = []
    for number in range(4):
        home = resolve_home(tmp_path / str(number))
        shards = write_all(home)
        ensure_catalog(home)
        process = subprocess.Popen([sys.executable, "-c", script, str(home.root)], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.12 * number)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        counts.append(count_rows(home))
        assert counts[-1] in (NOTHING, FULL)
        commit_reference(home, make_row(), shards)
        assert count_rows(home) == FULL
    assert counts[0] == NOTHING


def test_an_older_catalog_is_brought_up_to_date_with_its_cohorts(home, maker, monkeypatch):
    old = (Migration(1, "first tables"),)
    with monkeypatch.context() as patch:
        patch.setattr("catalog.migrations.MIGRATIONS", old)
        patch.setattr("catalog.migrations.LATEST", 1)
        patch.setattr("catalog.migrations.VIEWS", RELEASED[:0])
        maker().build(home)
    with pytest.raises(CatalogError, match="has the older version 1"):
        open_catalog(home)
    commit_reference(home, make_row(), write_all(home))
    with open_catalog(home) as c:
        assert c.sql("SELECT count(*) FROM images").scalar() == 12
        assert c.sql("SELECT count(*) FROM migrations").scalar() == len(MIGRATIONS)
        assert c.reference("real").records().num_rows == 11
