"""What we assume of DuckLake; if an upgrade changes one of these, the design of catalog/ must be looked at again."""

import shutil

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog import ensure_catalog
from catalog.home import make_folder
from catalog.lake import EXTENSIONS, find_extension, open_read_only, open_read_write
from synth.errors import CatalogError


@pytest.fixture
def lake(home):
    with open_read_write(home) as connection:
        connection.execute("CREATE TABLE t (x BIGINT)")
        yield connection


@pytest.fixture
def file(home):
    make_folder(home.data / "main" / "t" / "deep")
    path = home.data / "main" / "t" / "deep" / "file.parquet"
    pq.write_table(pa.table({"x": [1, 2]}), path)
    return path


def add(lake, path):
    lake.execute(f"CALL ducklake_add_data_files('lake', 't', '{path}')")


def count(lake):
    return lake.execute("SELECT count(*) FROM t").fetchone()[0]


def test_the_same_file_may_be_added_twice_so_we_must_guard(lake, file):
    add(lake, file)
    add(lake, file)
    assert count(lake) == 4


def test_a_rollback_removes_added_files_and_inserts_but_keeps_the_file(lake, file):
    lake.execute("BEGIN")
    lake.execute("INSERT INTO t VALUES (9)")
    add(lake, file)
    assert count(lake) == 3
    lake.execute("ROLLBACK")
    assert count(lake) == 0
    assert file.exists()


def test_only_files_in_the_folder_of_their_table_are_stored_with_relative_paths(lake, file, home):
    outside = home.data / "outside.parquet"
    pq.write_table(pa.table({"x": [3]}), outside)
    add(lake, file)
    add(lake, outside)
    query = (
        "SELECT path, CAST(path_is_relative AS BOOLEAN) FROM __ducklake_metadata_lake.ducklake_data_file ORDER BY path"
    )
    assert lake.execute(query).fetchall() == [(str(outside), False), ("deep/file.parquet", True)]


def test_a_snapshot_carries_our_key_and_counts_up_by_one(lake):
    before = lake.execute("FROM lake.current_snapshot()").fetchone()[0]
    lake.execute("BEGIN")
    lake.execute("INSERT INTO t VALUES (1)")
    lake.execute("CALL lake.set_commit_message('me', 'words', extra_info => '{\"k\":\"v\"}')")
    lake.execute("COMMIT")
    query = "SELECT snapshot_id, commit_message FROM lake.snapshots() WHERE commit_extra_info = ?"
    assert lake.execute(query, ['{"k":"v"}']).fetchall() == [(before + 1, "words")]


def test_comments_are_kept_on_tables_columns_and_views_but_not_on_columns_of_views(lake):
    lake.execute("CREATE VIEW v AS SELECT x FROM t")
    for target in ("TABLE t", "COLUMN t.x", "VIEW v"):
        lake.execute(f"COMMENT ON {target} IS 'words'")
    assert lake.execute("SELECT comment FROM duckdb_tables()").fetchall() == [("words",)]
    with pytest.raises(Exception, match="Cannot comment on columns"):
        lake.execute("COMMENT ON COLUMN v.x IS 'words'")


def test_rows_are_files_not_inlined(lake, home):
    lake.execute("INSERT INTO t VALUES (1)")
    assert len(list((home.data / "main" / "t").glob("*.parquet"))) == 1


def test_the_extensions_come_from_their_wheels():
    for name in ("ducklake", "sqlite_scanner"):
        assert f"duckdb_extension_{name}" in str(find_extension(name))
    with pytest.raises(CatalogError, match="pip install duckdb-extension-nothing=="):
        find_extension("nothing")


def test_every_process_checks_the_signatures_of_the_extensions(home, tmp_path, monkeypatch):
    for name in EXTENSIONS:
        with open(shutil.copy(find_extension(name), tmp_path / f"{name}.duckdb_extension"), "r+b") as file:
            file.seek(-9, 2)  # within the signature, which stands last
            file.write(b"forged!")
    monkeypatch.setattr("catalog.lake.find_extension", lambda name: tmp_path / f"{name}.duckdb_extension")
    for _ in range(2):
        with pytest.raises(CatalogError, match="signature is either missing or invalid"), open_read_write(home):
            pass


def test_readers_load_nothing_else_though_signatures_are_checked_only_once(home, tmp_path):
    other = shutil.copy(find_extension("ducklake"), tmp_path / "other.duckdb_extension")
    ensure_catalog(home)
    with open_read_only(home) as reader, pytest.raises(duckdb.PermissionException, match="extensions is disabled"):
        reader.execute(f"LOAD '{other}'")


def test_metadata_is_in_wal_mode(lake, home):
    lake.execute("INSERT INTO t VALUES (1)")
    with home.metadata.open("rb") as file:
        assert file.read(20)[18:] == bytes([2, 2])  # file format versions of the SQLite header: 2 is WAL
