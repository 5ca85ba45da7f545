import dataclasses
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from catalog import commit_cohort, commit_report, open_catalog, resolve_home, verify_all, verify_shards, write_shard
from catalog.codec import encode_array
from catalog.tables import TABLES
from catalog.views import VIEWS
from synth.errors import CatalogError, DamagedShardError, ReadOnlyError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def built(built_home):
    with open_catalog(built_home) as c:
        yield c


@pytest.fixture(scope="module")
def shared(template, tmp_path_factory):
    """One open catalog for all tests that must not be able to change it."""
    with open_catalog(shutil.copytree(template.root, tmp_path_factory.mktemp("shared") / "home")) as c:
        yield c


def test_images_come_back_bit_for_bit(built, maker):
    m = maker()
    for plan in m.plans():
        for image in m.images(plan):
            stored = built.image(image.image_id)
            assert stored.pixels.dtype == np.uint16
            assert np.array_equal(stored.pixels, image.pixels)
            assert list(stored.masks) == ["lesion", "tissue"]
            assert all(np.array_equal(stored.masks[name], image.masks[name]) for name in image.masks)
            assert np.array_equal(stored.affine, image.affine)
            assert stored.spacing_mm == image.spacing_mm
            assert (stored.intensity_scale, stored.intensity_unit) == (0.125, "signal")
            assert stored.scan == image.scan == built.scan(image.image_id)
            assert stored.measurements == image.measurements
            subject = m.subject(stored.row["subject_index"])
            assert (stored.row["sex"], stored.row["diagnosis"]) == (subject.sex, subject.diagnosis)
            assert stored.row["age_years"] == subject.visits[image.scan.visit].age_years


def test_subjects_come_back_whole(built, maker):
    for index in range(4):
        assert built.subject(maker().subject(index).subject_id) == maker().subject(index)
    with pytest.raises(CatalogError, match="there is no subject 'x'"):
        built.subject("x")


def test_many_images_come_in_the_order_asked_for(built):
    ids = [row[0] for row in built.sql("SELECT image_id FROM images ORDER BY md5(image_id)").rows()]
    assert [image.image_id for image in built.images(iter(ids))] == ids
    previews = built.previews(ids)
    assert set(previews) == set(ids)
    assert previews[ids[0]] == built.preview(ids[0])
    assert all(png.startswith(b"\x89PNG") for png in previews.values())


def test_an_unknown_image_gets_the_nearest_known_one(built, maker):
    known = f"{maker().cohort_id}-s0000001-v1-t1w-0"
    with pytest.raises(CatalogError, match=f"Did you mean '{known}'"):
        built.image(known.replace("t1w", "t1v"))
    with pytest.raises(CatalogError, match="no such cohort"):
        built.image("nonsense")
    for ask in (built.preview, built.scan):
        with pytest.raises(CatalogError, match="there is no image"):
            ask("nonsense")


def test_results_as_arrow_pandas_and_rows(built):
    result = built.sql("SELECT sum(subjects) AS n, 'a' AS t FROM cohorts WHERE images > ?", [3])
    assert isinstance(result.arrow(), pa.Table)
    assert isinstance(result.df(), pd.DataFrame)
    assert (result.rows(), result.columns, len(result), result.scalar()) == ([(4, "a")], ["n", "t"], 1, 4)
    assert type(result.scalar()) is int
    assert built.sql("SELECT $x + 1", {"x": 2}).scalar() == 3
    assert built.sql("SELECT 2::HUGEINT ** 100 > 1, 170141183460469231731687303715884105727::HUGEINT").rows()[0][0]
    with pytest.raises(CatalogError, match="no row"):
        built.sql("SELECT 1 WHERE false").scalar()


def test_the_question_of_the_issue_can_be_asked(built, maker):
    commit_report(built.home, maker().report())
    rows = built.sql("""
        SELECT s.diagnosis, s.sex, s.age_decade, sum(s.design_weight) AS weighted_images, count(*) AS images
        FROM released_images AS i JOIN released_subjects AS s USING (subject_id) GROUP BY ALL ORDER BY ALL
    """).rows()
    expected = [
        ("healthy", "F", 40, 1.5, 2),
        ("healthy", "F", 50, 5.5, 2),
        ("ms", "M", 50, 7.0, 4),
        ("ms", "M", 60, 15.0, 4),
    ]
    assert rows == expected


READS = [
    "SELECT 1", "WITH a AS (SELECT 1) FROM a", "FROM images", "VALUES (1)", "SHOW TABLES", "DESCRIBE images",
    "SUMMARIZE cohorts", "SELECT 1;", "FROM lake.snapshots()", "SELECT * FROM range(3)", "FROM duckdb_columns()",
    "PIVOT subjects ON sex IN ('F', 'M') USING count(*)", "-- a remark\nSELECT 1",
    "SELECT unnest(reasons) FROM cohort_status",
]  # fmt: skip


@pytest.mark.parametrize("query", READS)
def test_reading_is_allowed(shared, query):
    assert shared.sql(query).columns


CHANGES = [
    "INSERT INTO events VALUES ('a', NULL, 'k', 'm', now(), '{}')", "DELETE FROM images", "UPDATE images SET visit = 9",
    "CREATE TABLE x (a INT)", "CREATE TEMP TABLE x AS SELECT 1", "CREATE VIEW v AS SELECT 1", "DROP TABLE images",
    "ALTER TABLE images ADD COLUMN x INT", "COPY (SELECT 1) TO 'out.csv'", "COPY images TO 'out.parquet'",
    "EXPORT DATABASE 'out'", "ATTACH 'other.db'", "DETACH lake", "SET threads = 1", "RESET threads", "PRAGMA version",
    "PRAGMA enable_profiling", "CALL ducklake_snapshots('lake')", "CALL enable_logging()", "INSTALL httpfs",
    "LOAD httpfs", "USE memory", "BEGIN", "CHECKPOINT", "VACUUM", "EXPLAIN ANALYZE DELETE FROM images", "EXECUTE x",
    "PREPARE x AS DELETE FROM images", "SELECT 1; DELETE FROM images", "SELECT 1; SELECT 2", "", "-- nothing",
    "FROM enable_logging(storage = 'file', storage_path = 'log')", "FROM read_csv('/etc/passwd')",
    "SELECT (SELECT max(message) FROM query('SELECT 1'))", "WITH a AS (FROM read_text('/etc/passwd')) FROM a",
    "DESCRIBE SELECT * FROM glob('*')", "FROM ducklake_add_data_files('lake', 'pixels', 'x')",
    "FROM sqlite_query('__ducklake_metadata_lake', 'DELETE FROM ducklake_snapshot RETURNING 1')",
    "FROM ducklake_expire_snapshots('lake', older_than => now())", "FROM ducklake_cleanup_old_files('lake')",
    "FROM sqlite_scan('x', 'y')", "FROM duckdb_secrets()",
    "MERGE INTO images USING images AS o ON false WHEN MATCHED THEN DELETE",
    "COMMENT ON TABLE images IS 'x'", "TRUNCATE images",
]  # fmt: skip


@pytest.mark.parametrize("query", CHANGES)
def test_anything_else_is_refused_in_clear_words(shared, query, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = shared.home.metadata.read_bytes(), sorted(shared.home.data.rglob("*")), shared.snapshot_id
    with pytest.raises(ReadOnlyError, match=r"Only one SELECT statement|Allowed are:"):
        shared.sql(query)
    assert (shared.home.metadata.read_bytes(), sorted(shared.home.data.rglob("*")), shared.snapshot_id) == before
    assert list(tmp_path.iterdir()) == []


def test_files_and_python_variables_are_out_of_reach(built, tmp_path):
    (tmp_path / "secret.csv").write_text("a\n1\n")
    secret = pd.DataFrame({"a": [1]})
    with pytest.raises(ReadOnlyError, match="only the catalog's own tables"):
        built.sql(f"FROM '{tmp_path}/secret.csv'")
    for query in ("FROM secret", f"FROM '{built.home.metadata}'"):
        with pytest.raises(CatalogError, match="does not exist"):
            built.sql(query)
    assert len(secret) == 1


def test_mistakes_are_explained(built):
    with pytest.raises(CatalogError, match="cannot be read as SQL"):
        built.sql("SELEC 1")
    with pytest.raises(CatalogError, match=r"the query failed: .*imagez"):
        built.sql("FROM imagez")
    with pytest.raises(CatalogError, match="the query failed"):
        built.sql("SELECT CAST('x' AS INT)")
    with pytest.raises(CatalogError, match="the query failed"):
        built.sql("SELECT ?")


def test_the_connection_itself_is_read_only(built):
    cursor = built._cursor()
    for query in ("INSERT INTO events VALUES ('a', NULL, 'k', 'm', now(), '{}')", "CREATE TABLE lake.x (a INT)",
                  "SET enable_external_access = true", "ATTACH '/tmp/x.db'"):  # fmt: skip
        with pytest.raises(Exception, match=r"read-only|configuration|disabled"):
            cursor.execute(query)


def test_a_missing_catalog_says_what_to_do(home, monkeypatch, tmp_path):
    with pytest.raises(CatalogError, match="Run 'cohortium build SPEC' first"):
        open_catalog(home)
    assert not home.root.exists()
    monkeypatch.setenv("COHORTIUM_HOME", str(tmp_path / "from-env"))
    with pytest.raises(CatalogError, match="from-env"):
        open_catalog()
    monkeypatch.delenv("COHORTIUM_HOME")
    monkeypatch.chdir(tmp_path)
    assert resolve_home().root == tmp_path / "cohortium-data"


def test_every_table_view_and_column_is_described_in_the_catalog(built):
    stored = {(row["table_name"], row["column_name"]): row["description"] for row in built.tables()}
    columns = "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE database_name = 'lake'"
    views = {view.name for view in VIEWS}
    tables = {table.name for table in TABLES}
    found = built.sql(columns).rows()
    assert {name for name, _, _ in found} == tables | views
    for table, column, comment in found:
        assert stored[table, column].endswith("."), (table, column)
        if table in tables:
            assert comment == stored[table, column]
    commented = "SELECT table_name, comment FROM duckdb_tables() WHERE database_name = 'lake'"
    commented += " UNION ALL SELECT view_name, comment FROM duckdb_views() WHERE database_name = 'lake'"
    assert dict(built.sql(commented).rows()) == {name: stored[name, None] for name in tables | views}
    assert len(stored) == len(found) + len(tables | views)


def test_damage_is_caught_when_an_image_is_read(built, maker):
    record = built.shards()[0]
    path = built.home.root / record.path
    original = path.read_bytes()
    ids = [row[0] for row in built.sql("SELECT image_id FROM images WHERE shard_id = ?", [record.shard_id]).rows()]
    wanted = {image_id: built.image(image_id) for image_id in ids}
    generator = np.random.Generator(np.random.Philox(11))
    encoded = encode_array(wanted[ids[0]].pixels)
    start = original.index(encoded)
    inside = start + generator.integers(0, len(encoded), 20)  # every flip of these must be caught
    messages = []
    for position in [*inside, *generator.integers(0, len(original), 60)]:
        path.write_bytes(original[:position] + bytes([original[position] ^ 1]) + original[position + 1 :])
        try:
            read = list(built.images(ids))
        except DamagedShardError as error:
            messages.append(str(error))
            continue
        assert not start <= position < start + len(encoded)
        for image in read:  # the flip hit a part that pixels and masks do not depend on
            assert np.array_equal(image.pixels, wanted[image.image_id].pixels)
            assert np.array_equal(image.masks["tissue"], wanted[image.image_id].masks["tissue"])
    assert len(messages) >= len(inside)
    assert all(record.shard_id in message and str(path) in message for message in messages)
    path.write_bytes(maker(subjects=2).cohort_id.encode())
    with pytest.raises(DamagedShardError, match="cohortium verify"):
        built.preview(ids[0])
    path.unlink()
    with pytest.raises(DamagedShardError, match="cohortium verify"):
        built.image(ids[0])


@pytest.mark.parametrize("part", ["pixels", "masks"])
def test_a_sound_file_with_other_content_is_caught_by_its_hashes(built, maker, tmp_path, part):
    m = maker()
    plan, record = m.plans()[0], built.shards()[0]
    other = {"pixels": lambda i: i.pixels + np.uint16(1), "masks": lambda i: {n: a + 1 for n, a in i.masks.items()}}
    images = (dataclasses.replace(image, **{part: other[part](image)}) for image in m.images(plan))
    swapped = write_shard(tmp_path / "other", plan, m.subjects_of(plan), images)
    shutil.copy(tmp_path / "other" / swapped.path, built.home.root / record.path)
    with pytest.raises(DamagedShardError, match="have SHA-256"):
        built.image(f"{m.cohort_id}-s0000000-v0-t1w-0")


def test_verify_names_any_flipped_byte_and_missing_files(built):
    assert verify_all(built.home).damaged == ()
    record, other = built.shards()
    path = built.home.root / record.path
    original = path.read_bytes()
    generator = np.random.Generator(np.random.Philox(12))
    for position in [0, len(original) - 1, *map(int, generator.integers(0, len(original), 4))]:
        path.write_bytes(original[:position] + bytes([original[position] ^ 128]) + original[position + 1 :])
        result = verify_all(built.home)
        assert result.shards == 2
        assert [(d.shard_id, d.path) for d in result.damaged] == [(record.shard_id, record.path)]
    path.unlink()
    progress = list(verify_shards(built.home))
    assert [(p.checked, p.shards, p.damaged and p.damaged.reason) for p in progress] == [
        (1, 2, "the file is missing"),
        (2, 2, None),
    ]
    assert other.path != record.path
    with pytest.raises(CatalogError, match="there is no cohort 'tiny'"):
        verify_all(built.home, "tiny")


def test_rendering_a_damaged_shard_again_restores_it(built, maker):
    record = built.shards()[0]
    (built.home.root / record.path).write_bytes(b"torn")
    assert maker().write(built.home, maker().plans()[0]) == record
    assert verify_all(built.home).damaged == ()


def test_a_moved_home_keeps_working_for_reading_and_writing(built_home, maker, tmp_path):
    home = built_home
    moved = resolve_home(tmp_path / "it's elsewhere")
    home.root.rename(moved.root)
    maker(cohort_id="later-0123456789").build(moved)
    assert not home.root.exists()
    with open_catalog(moved) as c:
        assert c.sql("SELECT count(*), sum(octet_length(pixels)) > 0 FROM pixels").rows() == [(24, True)]
        assert c.image(c.sql("SELECT min(image_id) FROM images").scalar()).pixels.shape == (6, 5, 4)
    assert verify_all(moved).shards == 4
    moved.root.rename(home.root)
    with open_catalog(home) as c:
        assert c.sql("SELECT count(*) FROM pixels").scalar() == 24


def test_threads_share_one_catalog(built):
    ids = [row[0] for row in built.sql("SELECT image_id FROM images").rows()]
    problems = []

    def read():
        try:
            assert [image.image_id for image in built.images(ids)] == ids
            assert built.sql("SELECT count(*) FROM images").scalar() == 12
        except BaseException as error:
            problems.append(error)
            raise

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


READER = """
    import sys, time
    sys.path[:0] = ['{root}']
    from catalog import open_catalog
    seen = set()
    with open_catalog('{home}') as c:
        print('open', flush=True)
        while True:
            row = c.sql('''SELECT (SELECT count(*) FROM cohorts), (SELECT count(*) FROM images),
                                  (SELECT count(*) FROM pixels), (SELECT count(*) FROM subjects)''').rows()[0]
            assert row == (row[0], 12 * row[0], 12 * row[0], 4 * row[0]), row
            seen.add(row[0])
            if row[0] == 5:
                break
            time.sleep(0.01)
    print(len(seen), flush=True)
"""


def test_many_readers_beside_one_writer_see_whole_cohorts_only(built_home, maker):
    home = built_home
    script = textwrap.dedent(READER.format(root=ROOT, home=home.root))
    command = [sys.executable, "-c", script]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        for reader in readers:
            assert reader.stdout.readline() == "open\n", reader.communicate(timeout=60)
        for number in range(4):
            m = maker(cohort_id=f"next-{number:010d}")
            records = [m.write(home, plan) for plan in m.plans()]
            commit_cohort(home, m.row(records), records)
        for reader in readers:
            out, problems = reader.communicate(timeout=300)
            assert (reader.returncode, problems) == (0, "")
            assert int(out) >= 1
    finally:
        for reader in readers:  # they would look for the fifth cohort for ever
            reader.kill()
