"""The supervised pool with real processes: kills, retries, stops, and a parent that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from flows.pool import ATTEMPTS, InterruptedBuildError, SupervisedPool
from synth.errors import SpecError, WorkerError

# Jobs live in a module of their own, which spawned workers can import.
JOBS = """
import os, signal, time
from pathlib import Path
from synth.errors import SpecError

READY = None

def get_ready(word):
    global READY
    READY = word

def say():
    return READY, os.getpid()

def wait_for(started, go):
    Path(started).write_text(str(os.getpid()))
    while not Path(go).exists():
        time.sleep(0.02)
    return os.getpid()

def die_first(marker):
    with open(marker, "a") as file:
        file.write("x")
    if len(Path(marker).read_text()) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"

def die(marker):
    with open(marker, "a") as file:
        file.write("x")
    os.kill(os.getpid(), signal.SIGKILL)

def refuse():
    raise SpecError("no such thing")

def time_out():
    raise TimeoutError("from the job")

def sleep(seconds):
    time.sleep(seconds)
"""


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "pool_jobs.py").write_text(JOBS)
    sys.path.insert(0, str(folder))  # multiprocessing hands sys.path to spawned workers
    yield __import__("pool_jobs")
    sys.path.remove(str(folder))
    del sys.modules["pool_jobs"]


@pytest.fixture
def pool(jobs: object) -> Iterator[SupervisedPool]:
    with SupervisedPool(2, jobs.get_ready, ("ready",)) as two:  # type: ignore[attr-defined]
        yield two


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_workers_are_processes_of_their_own_and_initialised_once(pool: SupervisedPool, jobs) -> None:  # type: ignore[no-untyped-def]
    with pool.slot() as one, pool.slot() as two:
        answers = [slot.run(jobs.say, label="say") for slot in (one, two, one, two)]
    assert {word for word, _ in answers} == {"ready"}
    pids = [pid for _, pid in answers]
    assert pids[:2] == pids[2:]
    assert len({*pids, os.getpid()}) == 3
    assert set(pool.worker_pids()) == set(pids)
    assert pool.deaths == 0


def test_a_killed_worker_is_replaced_and_the_others_do_not_notice(pool: SupervisedPool, jobs, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    def work(name: str) -> int:
        with pool.slot() as slot:
            return int(slot.run(jobs.wait_for, tmp_path / name, tmp_path / "go", label=name))

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.submit(work, "a"), threads.submit(work, "b")
        try:
            wait_until(lambda: all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in "ab"))
            victim, bystander = (int((tmp_path / name).read_text()) for name in "ab")
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: (tmp_path / "a").read_text() not in ("", str(victim)))  # it runs again, elsewhere
            assert not second.done()
        finally:
            (tmp_path / "go").touch()
        assert first.result(20) not in (victim, bystander)
        assert second.result(20) == bystander
    assert pool.deaths == 1
    assert victim not in pool.worker_pids()
    assert len(pool.worker_pids()) == 2


def test_a_job_that_kills_its_worker_once_is_done_on_the_second_try(pool: SupervisedPool, jobs, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pool.slot() as slot:
        assert slot.run(jobs.die_first, tmp_path / "tries", label="shard 'x'") == "survived"
        assert slot.run(jobs.say, label="say")[0] == "ready"
    assert (tmp_path / "tries").read_text() == "xx"
    assert pool.deaths == 1


def test_a_job_that_always_kills_its_worker_is_given_up_by_name(pool: SupervisedPool, jobs, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pool.slot() as slot:
        with pytest.raises(WorkerError, match=rf"^shard 'x-7' ended its worker process {ATTEMPTS} times .*--workers"):
            slot.run(jobs.die, tmp_path / "tries", label="shard 'x-7'")
        assert slot.run(jobs.say, label="say")[0] == "ready"  # the slot itself goes on
    assert (tmp_path / "tries").read_text() == "x" * ATTEMPTS
    assert pool.deaths == ATTEMPTS


def test_what_a_job_raises_comes_through(pool: SupervisedPool, jobs) -> None:  # type: ignore[no-untyped-def]
    with pool.slot() as slot:
        with pytest.raises(SpecError, match="no such thing"):
            slot.run(jobs.refuse, label="refuse")
        watchdog = threading.Timer(10, pool.stop.set)  # the pool polls with timeouts of its own: not to be mixed up
        watchdog.start()
        with pytest.raises(TimeoutError, match="from the job"):
            slot.run(jobs.time_out, label="time out")
        watchdog.cancel()
        assert slot.run(jobs.say, label="say")[0] == "ready"
    assert pool.deaths == 0


def test_stopping_interrupts_running_and_waiting_jobs_at_once(pool: SupervisedPool, jobs) -> None:  # type: ignore[no-untyped-def]
    def work() -> None:
        with pool.slot() as slot:
            slot.run(jobs.sleep, 60, label="sleep")

    with pool.slot() as slot:  # both workers are up
        slot.run(jobs.say, label="say")
    with ThreadPoolExecutor(3) as threads:
        running = [threads.submit(work) for _ in range(3)]  # the third waits for a slot
        time.sleep(0.5)
        started = time.monotonic()
        pool.stop.set()
        for future in running:
            with pytest.raises(InterruptedBuildError, match="finished shards are kept"):
                future.result(5)
    assert time.monotonic() - started < 2


def test_leaving_the_pool_ends_its_workers_even_in_the_middle_of_a_job(jobs) -> None:  # type: ignore[no-untyped-def]
    with SupervisedPool(2, jobs.get_ready, ("ready",)) as pool:
        with pool.slot() as one, pool.slot() as two:
            for slot in (one, two):
                slot.run(jobs.say, label="say")
        pids = pool.worker_pids()
        threading.Thread(target=_ignore_interruption, args=(pool, jobs), daemon=True).start()
        time.sleep(0.3)
        started = time.monotonic()
    assert len(pids) == 2
    wait_until(lambda: not any(is_running(pid) for pid in pids), 5)
    assert time.monotonic() - started < 5


def _ignore_interruption(pool: SupervisedPool, jobs) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InterruptedBuildError), pool.slot() as slot:
        slot.run(jobs.sleep, 60, label="sleep")


def test_an_initialiser_that_dies_is_given_up(jobs, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with (
        SupervisedPool(1, jobs.die, (tmp_path / "starts",)) as pool,
        pool.slot() as slot,
        pytest.raises(WorkerError, match=r"^x "),
    ):
        slot.run(jobs.say, label="x")


PARENT = """
import sys, threading
sys.path.insert(0, sys.argv[1])
import pool_jobs
from flows.pool import SupervisedPool

if __name__ == "__main__":
    with SupervisedPool(2, pool_jobs.get_ready, ("ready",)) as pool:
        def work():
            with pool.slot() as slot:
                slot.run(pool_jobs.say, label="say")
                print(slot.run(pool_jobs.say, label="say")[1], flush=True)
                slot.run(pool_jobs.sleep, 120, label="sleep")
        threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(how: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "pool_jobs.py").write_text(JOBS)
    (tmp_path / "parent.py").write_text(textwrap.dedent(PARENT))
    root = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py"), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    try:
        assert parent.stdout is not None
        pids = [int(parent.stdout.readline()) for _ in range(2)]
        assert len(set(pids)) == 2
        assert all(is_running(pid) for pid in pids)
        parent.send_signal(how)
        parent.wait(10)
        wait_until(lambda: not any(is_running(pid) for pid in pids), 5)
    finally:
        parent.kill()
        parent.wait()
