import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import duckdb
import pytest

from catalog import (
    VerifyResult,
    commit_cohort,
    commit_report,
    ensure_catalog,
    open_catalog,
    record_event,
    release_cohort,
    resolve_home,
    verify_all,
    withdraw_cohort,
)
from catalog.lake import lock_writer, open_read_write
from catalog.migrations import LATEST
from catalog.writer import open_writer
from synth.errors import BusyError, CatalogError, DamagedShardError, RetryableError, StorageError

ROOT = Path(__file__).parents[2]
TABLES = ("cohorts", "subjects", "scans", "images", "measurements", "shards", "pixels")


def count_rows(home, cohort_id):
    counts = ", ".join(f"(SELECT count(*) FROM {table} WHERE cohort_id = $1)" for table in TABLES)
    with open_catalog(home) as c:
        return dict(zip(TABLES, c.sql(f"SELECT {counts}", [cohort_id]).rows()[0], strict=True))


FULL = {"cohorts": 1, "subjects": 4, "scans": 12, "images": 12, "measurements": 24, "shards": 2, "pixels": 12}
NOTHING = dict.fromkeys(TABLES, 0)


def test_a_cohort_is_registered_once_with_all_its_rows(home, maker):
    m = maker()
    records = m.build(home)
    assert count_rows(home, m.cohort_id) == FULL
    with open_catalog(home) as c:
        before = c.snapshot_id
    assert commit_cohort(home, m.row(records), records) == before
    record_event(home, "test", "moves the latest snapshot on")
    assert commit_cohort(home, m.row(records), records) == before
    assert count_rows(home, m.cohort_id) == FULL
    with open_catalog(home) as c:
        assert c.snapshot_id == before + 1
        assert c.sql("SELECT count(*) FROM subjects WHERE age_decade != 10 * floor(age_years / 10)").scalar() == 0
        assert c.sql("SELECT DISTINCT status FROM images WHERE subject_id LIKE '%3'").rows() == [("missed",)]


def test_a_second_cohort_stands_beside_the_first(home, maker):
    maker().build(home)
    maker(cohort_id="other-0123456789").build(home)
    assert count_rows(home, maker().cohort_id) == count_rows(home, "other-0123456789") == FULL


def test_a_cohort_that_is_not_complete_is_refused_and_nothing_registered(home, maker):
    m = maker()
    records = [m.write(home, plan) for plan in m.plans()]
    row = m.row(records)
    short = dataclasses.replace(records[0], bytes=records[0].bytes + 1)
    liar = [dataclasses.replace(records[0], images=5), dataclasses.replace(records[1], images=7)]
    more = dataclasses.replace(records[0], images=records[0].images + 1)
    cases = [
        (row, records[:1], CatalogError, "needs 4 subjects; its shards hold 2"),
        (dataclasses.replace(row, images=13), records, CatalogError, "needs 13 images; its shards hold 12"),
        (dataclasses.replace(row, images=13), [more, records[1]], CatalogError, "must have 13 images, but .* hold 12"),
        (row, [records[0], records[0]], CatalogError, "each once"),
        (row, [short, records[1]], DamagedShardError, "missing or torn"),
        (dataclasses.replace(row, cohort_id="other-1"), records, CatalogError, "does not belong to cohort"),
        (dataclasses.replace(row, cohort_id="../x"), records, CatalogError, "is not allowed"),
    ]
    for cohort, shards, kind, words in cases:
        with pytest.raises(kind, match=words):
            commit_cohort(home, cohort, shards)
    assert count_rows(home, m.cohort_id) == NOTHING
    assert sum(record.images for record in liar) == row.images
    commit_cohort(home, row, records)
    assert count_rows(home, m.cohort_id) == FULL


def test_two_commits_of_one_cohort_at_once_register_it_once(home, maker):
    m = maker()
    records = [m.write(home, plan) for plan in m.plans()]
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(commit_cohort(home, m.row(records), records))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1
    assert count_rows(home, m.cohort_id) == FULL


def test_a_held_lock_is_a_retryable_error_that_says_so(home, maker):
    m = maker()
    records = [m.write(home, plan) for plan in m.plans()]
    with lock_writer(home), pytest.raises(BusyError, match=r"another process has been writing .* Wait for it"):
        commit_cohort(home, m.row(records), records, lock_timeout_s=0.2)
    assert issubclass(BusyError, RetryableError)
    commit_cohort(home, m.row(records), records)


def test_unwritable_places_are_named(home, tmp_path):
    home.root.parent.mkdir(exist_ok=True)
    home.root.write_text("a file")
    with pytest.raises(StorageError, match="a file stands where a folder is needed"):
        ensure_catalog(home)


def test_a_catalog_that_is_no_catalog_is_an_error_not_a_traceback(home):
    home.root.mkdir()
    home.metadata.write_bytes(b"this is not a database, and it is longer than one hundred bytes " * 20)
    for opened in (lambda: open_catalog(home), lambda: ensure_catalog(home)):
        with pytest.raises(CatalogError, match="refused"):
            opened()


COMMITTER = """
    import os, sys
    sys.path[:0] = ['{root}', '{root}/tests/catalog']
    from conftest import Maker
    from catalog import commit_cohort, find_finished_shards, resolve_home
    child = None
    for line in sys.stdin:  # one forked process a commit, so that imports are paid once
        if child:
            os.waitpid(child, 0)  # only now, so that until then the pid cannot be anybody else's
        child = os.fork()
        if child == 0:
            cohort, home = line.strip().split(maxsplit=1)
            home, m = resolve_home(home), Maker(cohort)
            records = list(find_finished_shards(home, m.plans()).values())
            os.write(1, b'%d\\n' % os.getpid())
            commit_cohort(home, m.row(records), records)
            os.write(1, b'done\\n')
            os._exit(0)
"""


class Committer:
    """A process that forks one child a commit, to be killed."""

    def __init__(self):
        script = textwrap.dedent(COMMITTER.format(root=ROOT))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-c", script], **pipes)

    def start(self, home, cohort_id):
        self.process.stdin.write(f"{cohort_id} {home.root}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        return int(line if line != "done\n" else self.process.stdout.readline())

    def measure(self, home, cohort_id):
        self.start(home, cohort_id)
        started = time.monotonic()
        assert self.process.stdout.readline() == "done\n"
        return time.monotonic() - started

    def kill(self, home, cohort_id, delay):
        child = self.start(home, cohort_id)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        ensure_catalog(home)  # waits for the lock, so the process is gone


@pytest.fixture
def committer():
    committer = Committer()
    yield committer
    committer.process.stdin.close()
    committer.process.wait(timeout=60)
    committer.process.stdout.close()


def test_a_commit_killed_at_any_moment_is_whole_or_nothing(home, maker, committer):
    makers = [maker(f"killed-{number:010d}") for number in range(9)]
    records = {m.cohort_id: [m.write(home, plan) for plan in m.plans()] for m in makers}
    ensure_catalog(home)
    seconds = committer.measure(home, makers[-1].cohort_id)
    outcomes = []
    for number, m in enumerate(makers[:-1]):
        committer.kill(home, m.cohort_id, 0.18 * number * seconds)  # up to 1.26 times a whole commit
        counts = count_rows(home, m.cohort_id)
        assert counts in (NOTHING, FULL)
        outcomes.append(counts == FULL)
    assert outcomes[0] is False
    for m in makers:
        commit_cohort(home, m.row(records[m.cohort_id]), records[m.cohort_id], lock_timeout_s=5)
    assert [count_rows(home, m.cohort_id) for m in makers] == [FULL] * len(makers)
    assert verify_all(home) == VerifyResult(2 * len(makers), ())


def test_the_creation_of_a_catalog_may_be_killed_at_any_moment(tmp_path, maker, committer):
    m = maker()
    homes = [resolve_home(tmp_path / str(number)) for number in range(4)]
    records = [m.write(home, plan) for home in homes for plan in m.plans()][: len(m.plans())]
    for number, home in enumerate(homes):
        committer.kill(home, m.cohort_id, 0.08 * number)
        assert count_rows(home, m.cohort_id) in (NOTHING, FULL)
        commit_cohort(home, m.row(records), records, lock_timeout_s=5)
        assert count_rows(home, m.cohort_id) == FULL


def test_released_views_follow_the_latest_decision(built_home, maker):
    home, m = built_home, maker()

    def look():
        with open_catalog(home) as c:
            status, reasons = c.sql("SELECT status, reasons FROM cohort_status").rows()[0]
            names = ("cohorts", "subjects", "scans", "images", "measurements")
            visible = {c.sql(f"SELECT count(*) FROM released_{name}").scalar() for name in names}
            return status, reasons, visible

    assert look() == ("built", [], {0})
    refused = commit_report(home, m.report(passed=False))
    assert (refused.decision, refused.release_id) == ("refused", f"{m.cohort_id}-r0001")
    assert look() == ("refused", ["snr holds in 0.5 of the images, 0.95 are needed"], {0})
    released = commit_report(home, m.report(spec_hash="c" * 64))
    assert released.decision == "released"
    assert look() == ("released", [], {1, 4, 12, 24})
    assert commit_report(home, m.report(spec_hash="c" * 64)) == released
    withdrawn = withdraw_cohort(home, m.cohort_id, "a mistake was found", "Ada")
    assert look() == ("refused", ["a mistake was found"], {0})
    assert commit_report(home, m.report(spec_hash="c" * 64)) == withdrawn
    assert withdraw_cohort(home, m.cohort_id, "again", "Bob") == withdrawn


def test_only_a_person_undoes_a_withdrawal_and_nobody_overrides_a_gate(built_home, maker):
    home, m = built_home, maker()
    commit_report(home, m.report())
    withdraw_cohort(home, m.cohort_id, "a mistake was found", "Ada")
    for passed, spec in ((True, "d"), (False, "e")):  # later builds are noted, and change nothing
        still = commit_report(home, m.report(passed=passed, spec_hash=spec * 64))
        assert (still.decision, still.decided_by) == ("withdrawn", "gates")
        assert still.reasons == ("withdrawn by Ada: a mistake was found",)
    with pytest.raises(CatalogError, match=r"cannot be released: 1 of 1 gates .*\n  snr holds in 0.5 of the images"):
        release_cohort(home, m.cohort_id, "I like it", "Ada")
    commit_report(home, m.report(spec_hash="d" * 64))
    for who, why in (("", "x"), ("gates", "x"), ("Ada", " ")):
        with pytest.raises(CatalogError, match="a person's name and a reason are needed"):
            release_cohort(home, m.cohort_id, why, who)
    released = release_cohort(home, m.cohort_id, "the mistake was none", "Ada")
    assert (released.decision, released.decided_by) == ("released", "Ada")
    assert released.reasons == ("the mistake was none",)
    assert release_cohort(home, m.cohort_id, "the mistake was none", "Ada") == released
    assert commit_report(home, m.report(spec_hash="d" * 64)) == released
    with open_catalog(home) as c:
        assert c.sql("SELECT status, reasons, decided_by FROM cohort_status").rows() == [("released", [], "Ada")]
        kinds = c.sql("SELECT decision FROM releases ORDER BY release_number").rows()
        assert [kind for (kind,) in kinds] == ["released", *["withdrawn"] * 4, "released"]
    assert commit_report(home, m.report(passed=False)).decision == "refused"


def test_a_cohort_without_a_decision_can_neither_be_released_nor_withdrawn(built_home, maker):
    for change in (release_cohort, withdraw_cohort):
        with pytest.raises(CatalogError, match="never decided about"):
            change(built_home, maker().cohort_id, "x", "Ada")
        with pytest.raises(CatalogError, match="there is no cohort"):
            change(built_home, "unknown-1", "x", "Ada")


def test_reports_are_stored_once_with_gates_and_unusual_numbers(built_home, maker):
    home, m = built_home, maker()
    empty = dataclasses.replace(m.report(), gates=())
    for report in (m.report(), m.report(), empty):
        commit_report(home, report)
    with open_catalog(home) as c:
        rows = c.sql("SELECT scores_json, gates, passed FROM reports ORDER BY len(gates)").rows()
        assert [len(gates) for _, gates, _ in rows] == [0, 1]
        assert rows[1][0] == '{"odd":null,"snr":0.5}'
        assert rows[1][1][0]["gate"] == "adherence.snr"
        assert c.sql("SELECT count(*) FROM releases").scalar() == 2
    with pytest.raises(CatalogError, match="register its shards first"):
        commit_report(home, m.report(cohort_id="unknown-1"))
    with pytest.raises(CatalogError, match="there is no cohort"):
        withdraw_cohort(home, "unknown-1", "x", "y")


def test_events_are_appended(home):
    record_event(home, "build-started", "tiny 'quoted'", "tiny-1", {"seconds": 1.5})
    with open_catalog(home) as c:
        row = c.sql("SELECT kind, message, cohort_id, detail_json FROM events").rows()
    assert row == [("build-started", "tiny 'quoted'", "tiny-1", '{"seconds":1.5}')]


def test_migrations_are_recorded_and_a_newer_catalog_is_refused(home):
    ensure_catalog(home)
    ensure_catalog(home)
    with open_catalog(home) as c:
        rows = c.sql("SELECT number, name, len(sql_sha256), applied_at IS NOT NULL FROM migrations").rows()
    assert rows == [
        (1, "first tables", 64, True),
        (2, "references", 64, True),
        (3, "scorecards", 64, True),
        (4, "attributes of subjects", 64, True),
        (5, "pairs of images", 64, True),
    ]
    with open_writer(home) as connection:
        connection.execute("INSERT INTO migrations VALUES (?, 'from the future', 'x', now())", [LATEST + 1])
    words = f"made by a newer version of Cohortium: catalog {LATEST + 1}, this is {LATEST}; upgrade"
    for opened in (lambda: open_catalog(home), lambda: ensure_catalog(home)):
        with pytest.raises(CatalogError, match=words):
            opened()


def test_a_catalog_whose_first_migration_never_ended_is_not_finished(home):
    with open_read_write(home):
        pass
    with pytest.raises(CatalogError, match=r"is not finished. Run 'cohortium build SPEC'"):
        open_catalog(home)
    ensure_catalog(home)
    with open_catalog(home) as c:
        assert c.sql("SELECT count(*) FROM cohort_status").scalar() == 0


def test_an_error_inside_a_transaction_undoes_it(home, maker, monkeypatch):
    m = maker()
    records = [m.write(home, plan) for plan in m.plans()]
    monkeypatch.setattr(
        "catalog.writer._check_counts", lambda *_: (_ for _ in ()).throw(duckdb.IOException("disk is full"))
    )
    with pytest.raises(StorageError, match="the disk is full"):
        commit_cohort(home, m.row(records), records)
    monkeypatch.undo()
    assert count_rows(home, m.cohort_id) == NOTHING
    commit_cohort(home, m.row(records), records)
    assert count_rows(home, m.cohort_id) == FULL
