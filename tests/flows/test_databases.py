"""Databases of Prefect and MLflow exist whole or not at all, whoever is killed and whoever comes at once."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from flows.databases import copy_template, create_whole


def set_up(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE steps (number INTEGER)")
        database.execute("INSERT INTO steps VALUES (1)")
    # left open and unmerged, as Prefect leaves it


def read_steps(path: Path) -> list[tuple[int]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT number FROM steps").fetchall()


def test_database_is_made_once(tmp_path):
    path, calls = tmp_path / "new" / "x.db", []
    for _ in range(2):
        create_whole(path, lambda draft: (calls.append(draft), set_up(draft)))
    assert len(calls) == 1
    assert read_steps(path) == [(1,)]
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["x.db", "x.db.lock"]


def test_set_up_that_fails_half_way_leaves_nothing_to_trip_over(tmp_path):
    path = tmp_path / "x.db"

    def fail(draft: Path) -> None:
        set_up(draft)
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(sqlite3.OperationalError, match="full"):
        create_whole(path, fail)
    assert not path.exists()
    create_whole(path, set_up)  # the same draft is not met again
    assert read_steps(path) == [(1,)]


def test_two_at_once_make_one(tmp_path):
    path, calls = tmp_path / "x.db", []

    def slowly(draft: Path) -> None:
        calls.append(draft)
        time.sleep(0.3)
        set_up(draft)

    threads = [threading.Thread(target=create_whole, args=(path, slowly)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert read_steps(path) == [(1,)]


def test_template_is_made_once_and_copied(tmp_path, monkeypatch):
    monkeypatch.setenv("COHORTIUM_CACHE", str(tmp_path / "cache"))
    calls = []
    for number in range(2):
        copy_template("kind-1", tmp_path / f"{number}.db", lambda path: (calls.append(path), set_up(path)))
        assert read_steps(tmp_path / f"{number}.db") == [(1,)]
    assert len(calls) == 1
    copy_template("kind-2", tmp_path / "2.db", lambda path: (calls.append(path), set_up(path)))
    assert len(calls) == 2


def test_without_a_writable_cache_the_database_is_made_all_the_same(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file, not a folder")
    monkeypatch.setenv("COHORTIUM_CACHE", str(tmp_path / "cache"))
    copy_template("kind-1", tmp_path / "x.db", set_up)
    assert read_steps(tmp_path / "x.db") == [(1,)]
