import dataclasses
import fcntl
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import catalog.shards as shards_module
from catalog import damaged_shards, find_finished_shards, remove_abandoned, write_shard
from catalog.proved_files import hash_file
from synth.errors import CatalogError, PermanentError, StorageError

ROOT = Path(__file__).parents[2]


def test_equal_content_gives_equal_bytes_and_name(home, maker, tmp_path):
    first = maker().write(home, maker().plans()[0])
    again = maker().write(home, maker().plans()[0])
    elsewhere = maker().write(shards_module.resolve_home(tmp_path / "other"), maker().plans()[0])
    assert first == again == elsewhere
    assert first.sha256 == hash_file(home.root / first.path)
    assert first.bytes == (home.root / first.path).stat().st_size
    assert (tmp_path / "other" / first.path).read_bytes() == (home.root / first.path).read_bytes()


def test_the_file_is_self_contained_and_marked_synthetic(home, maker):
    m = maker()
    plan = m.plans()[0]
    record = m.write(home, plan)
    file = pq.ParquetFile(home.root / record.path)
    assert file.metadata.metadata[b"cohortium.synthetic"] == b"YES"
    rows = file.read().to_pylist()
    order = [(row["subject_index"], row["visit"], row["kind"]) for row in rows]
    assert order == sorted(order)
    assert record.images == len(rows) == 6
    row = rows[0]
    subject = m.subject(0)
    assert (row["sex"], row["age_first_visit_years"], row["intracranial_ml"]) == ("F", 41.3, subject.intracranial_ml)
    assert json.loads(row["parameters_json"])["te_ms"] == 0.1 + 0.2
    assert row["affine"] == np.diag([1.5, 2.0, 2.5, 1.0]).ravel().tolist()
    assert [mask["name"] for mask in row["masks"]] == row["mask_names"] == ["lesion", "tissue"]
    assert row["measurements"][0] == {
        "name": "snr", "unit": "1", "requested": 30.0, "measured": 30.0, "tolerance": 2.0, "within": True,
    }  # fmt: skip


def test_blobs_are_stored_plain_without_statistics_and_pages_have_checksums(home, maker):
    record = maker().write(home, maker().plans()[0])
    group = pq.ParquetFile(home.root / record.path).metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    for blob in ("pixels", "preview", "masks.list.element.data"):
        assert columns[blob].compression == "UNCOMPRESSED"
    for name in ("pixels", "preview", "masks.list.element.data", "parameters_json", "masks.list.element.sha256"):
        assert columns[name].statistics is None
    assert columns["parameters_json"].compression == "ZSTD"
    assert columns["image_id"].statistics.has_min_max
    position = (home.root / record.path).read_bytes().index(pq.read_table(home.root / record.path)["pixels"][0].as_py())
    flip_byte(home.root / record.path, position + 3)
    with pytest.raises(OSError, match="could not verify page integrity"):
        pq.ParquetFile(home.root / record.path, page_checksum_verification=True).read(columns=["pixels"])


def test_images_are_streamed_one_row_group_at_a_time(home, maker, monkeypatch):
    monkeypatch.setattr(shards_module, "ROW_GROUP_IMAGES", 3)
    m = maker(subjects=12, shard_size=12)
    plan = m.plans()[0]
    made, written = [], []
    original = shards_module.pq.ParquetWriter.write_table
    monkeypatch.setattr(
        shards_module.pq.ParquetWriter,
        "write_table",
        lambda self, table, **k: (written.append((table.num_rows, len(made))), original(self, table, **k))[1],
    )
    images = (made.append(image.image_id) or image for image in m.images(plan))
    record = write_shard(home, plan, m.subjects_of(plan), images)
    written = [item for item in written if item[0]]
    assert [rows for rows, _ in written] == [3] * 12
    assert all(sofar - 3 * (i + 1) <= len(m.subject(1).visits) for i, (_, sofar) in enumerate(written))
    rows = pq.read_table(home.root / record.path, columns=["row_group", "row_in_group"]).to_pylist()
    assert [(row["row_group"], row["row_in_group"]) for row in rows] == [(i // 3, i % 3) for i in range(36)]


def test_a_row_group_ends_at_its_byte_budget(home, maker, monkeypatch):
    monkeypatch.setattr(shards_module, "ROW_GROUP_BYTES", 1)
    record = maker().write(home, maker().plans()[0])
    assert pq.ParquetFile(home.root / record.path).metadata.num_row_groups == record.images


def test_images_that_do_not_match_the_plan_are_refused_and_leave_nothing(home, maker):
    m = maker()
    plan, other = m.plans()
    images, subjects = list(m.images(plan)), m.subjects_of(plan)
    first = images[0]
    wrong_visit = dataclasses.replace(first, scan=dataclasses.replace(first.scan, visit=7))
    not_json = dataclasses.replace(first, scan=dataclasses.replace(first.scan, parameters={"te": float("nan")}))
    bad_mask = dataclasses.replace(first, masks={"m": np.zeros((2, 2, 2), np.uint8)})
    cases = [
        (images[::-1], subjects, "ordered by subject and visit"),
        ([first, *images], subjects, "given twice"),
        (images[:2], subjects, "no image of subject"),
        (list(m.images(other)), subjects, "is not in shard"),
        (images, m.subjects_of(other), "is planned for subjects 0 to 1"),
        ([wrong_visit], subjects, "never had"),
        ([not_json], subjects, "plain JSON"),
        ([bad_mask], subjects, "has shape"),
    ]
    for wrong, people, words in cases:
        with pytest.raises(CatalogError, match=words):
            write_shard(home, plan, people, wrong)
    assert list(home.cohort_folder(m.cohort_id).iterdir()) == []


def test_an_engine_that_fails_midway_leaves_nothing_and_keeps_its_error(home, maker):
    m = maker()
    plan = m.plans()[0]

    def failing():
        yield from list(m.images(plan))[:4]
        raise FileNotFoundError("tissue map")

    with pytest.raises(FileNotFoundError, match="tissue map"):
        write_shard(home, plan, m.subjects_of(plan), failing())
    assert list(home.cohort_folder(m.cohort_id).iterdir()) == []


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "-a", "A", "a.b", "a\n", "a" * 64, "ä"])
def test_names_with_tricks_are_refused(home, maker, name):
    with pytest.raises(CatalogError, match="is not allowed"):
        maker(cohort_id=name).write(home, maker(cohort_id=name).plans()[0])
    with pytest.raises(CatalogError):
        home.resolve_below("../outside")


def test_a_link_that_leads_out_of_the_home_is_refused(home, maker, tmp_path):
    home.pixels.mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    home.pixels.joinpath(maker().cohort_id).symlink_to(tmp_path / "outside")
    with pytest.raises(CatalogError, match="leads out of"):
        maker().write(home, maker().plans()[0])


WRITE_ONE = """
    import resource, sys
    sys.path[:0] = ['{root}', '{root}/tests/catalog']
    from conftest import Maker
    from catalog import resolve_home
    from synth.errors import StorageError
    if {limit}:
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
    home = resolve_home('{home}')
    try:
        Maker().write(home, Maker().plans()[0])
    except StorageError as error:
        print(error)
    print(list(home.cohort_folder(Maker().cohort_id).iterdir()))
"""


def write_one(home, limit):
    return textwrap.dedent(WRITE_ONE.format(root=ROOT, home=home.root, limit=limit))


def test_a_disk_that_refuses_is_named_with_a_remedy_and_nothing_stays(home):
    command = [sys.executable, "-c", write_one(home, 20_000)]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    error, left = out.stdout.splitlines()
    assert str(home.root) in error
    assert "file-size limit" in error
    assert (left, out.stderr) == ("[]", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_really_full_disk(home):
    home.root.mkdir()
    mount = f'mount -t tmpfs -o size=32k tmpfs \'{home.root}\' || exit 77; exec "$0" -c "$1"'
    command = ["unshare", "--mount", "sh", "-c", mount, sys.executable, write_one(home, 0)]  # the mount dies with it
    out = subprocess.run(command, capture_output=True, text=True)
    if out.returncode == 77 or "unshare" in out.stderr:
        pytest.skip(f"no small disk can be mounted here: {out.stderr.strip()}")
    error, left = out.stdout.splitlines()
    assert "the disk is full; free some space" in error
    assert (left, out.stderr) == ("[]", "")


def test_a_file_where_the_home_should_be(home, maker):
    home.root.write_text("not a folder")
    with pytest.raises(StorageError, match="a file stands where a folder is needed"):
        maker().write(home, maker().plans()[0])


def test_finished_shards_are_found_and_damaged_ones_are_not(home, maker):
    m = maker(subjects=6)
    plans = m.plans()
    records = [m.write(home, plan) for plan in plans[:2]]
    assert find_finished_shards(home, plans) == {record.shard_id: record for record in records}
    path = home.root / records[0].path
    original = path.read_bytes()
    generator = np.random.Generator(np.random.Philox(5))
    for position in [0, len(original) - 1, *generator.integers(0, len(original), 40)]:
        flip_byte(path, int(position))
        assert set(find_finished_shards(home, plans)) == {plans[1].shard_id}
        assert [d.shard_id for d in damaged_shards(home, records)] == [plans[0].shard_id]
        path.write_bytes(original)
    path.write_bytes(original[:-1000])
    assert set(find_finished_shards(home, plans)) == {plans[1].shard_id}
    assert "bytes instead of" in damaged_shards(home, records)[0].reason
    assert m.write(home, plans[0]) == records[0]
    assert damaged_shards(home, records) == []


def test_a_shard_of_another_plan_under_the_same_id_is_not_taken(home, maker):
    plan = maker().plans()[0]
    maker().write(home, plan)
    assert find_finished_shards(home, [dataclasses.replace(plan, subjects=3)]) == {}


def test_only_temporary_files_of_dead_writers_are_removed(home, maker):
    folder = home.cohort_folder(maker().cohort_id)
    folder.mkdir(parents=True)
    for name in (".dead.1.tmp", ".alive.2.tmp"):
        (folder / name).write_bytes(b"x")
    with (folder / ".alive.2.tmp").open("rb") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        assert remove_abandoned(home, maker().cohort_id) == 1
    assert [path.name for path in folder.iterdir()] == [".alive.2.tmp"]


def test_errors_of_shards_are_of_the_right_family():
    assert issubclass(CatalogError, PermanentError)
    assert not issubclass(StorageError, PermanentError)


def flip_byte(path: Path, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        value = file.read(1)[0]
        file.seek(position)
        file.write(bytes([value ^ 0x10]))
