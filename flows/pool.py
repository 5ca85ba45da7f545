"""A supervised pool of spawned workers, one process to a slot, so that a dead worker is known by its shard.

A worker that dies (kill -9, out of memory, a crash in native code) is replaced and its shard tried again, up to
ATTEMPTS times; the other slots do not notice. Workers end with their parent, even if that is killed.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from synth.errors import RetryableError, WorkerError

ATTEMPTS = 3
_POLL_S = 0.2
STOPPED = "the build was stopped; finished shards are kept, and the same command continues"


class InterruptedBuildError(RetryableError):
    """The build was asked to stop; what was finished is kept."""


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()


def _exit_with_parent(parent: Any) -> None:
    parent.join()
    os._exit(1)


class SupervisedPool:
    """``workers`` spawned processes, each running one job at a time. Use as a context manager."""

    def __init__(self, workers: int, initializer: Callable[..., None], arguments: tuple[Any, ...] = ()) -> None:
        self.stop = threading.Event()
        self.deaths = 0
        self._start = (initializer, arguments)
        self._slots: queue.SimpleQueue[ProcessPoolExecutor] = queue.SimpleQueue()
        self._all: dict[ProcessPoolExecutor, Future[None]] = {}
        for _ in range(workers):
            self._slots.put(self._open_slot())

    def _open_slot(self) -> ProcessPoolExecutor:
        """Start a worker and its first job, the initializer; an error of that is raised by the first ``Slot.run``."""
        spawn = multiprocessing.get_context("spawn")
        slot = ProcessPoolExecutor(1, mp_context=spawn, initializer=_start_worker)
        initializer, arguments = self._start
        self._all[slot] = slot.submit(initializer, *arguments)
        return slot

    def started(self, slot: ProcessPoolExecutor) -> Future[None]:
        """Return the outcome of the initializer in one worker."""
        return self._all[slot]

    def worker_pids(self) -> list[int]:
        """Return the process ids of the workers that run now."""
        return [pid for slot in list(self._all) for pid in list(getattr(slot, "_processes", None) or {})]

    @contextmanager
    def slot(self) -> Iterator[Slot]:
        """Take one worker for a series of jobs; waits until one is free."""
        executor = self._take_slot()
        slot = Slot(self, executor)
        try:
            yield slot
        finally:
            self._slots.put(slot.executor)

    def _take_slot(self) -> ProcessPoolExecutor:
        while not self.stop.is_set():
            try:
                return self._slots.get(timeout=_POLL_S)
            except queue.Empty:
                continue
        raise InterruptedBuildError(STOPPED)

    def replace_slot(self, broken: ProcessPoolExecutor) -> ProcessPoolExecutor:
        """Close a slot whose worker died and return a fresh one."""
        self.deaths += 1
        self._all.pop(broken, None)
        broken.shutdown(wait=False, cancel_futures=True)
        return self._open_slot()

    def __enter__(self) -> SupervisedPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers, which gives their memory back; no job can be run afterwards."""
        self.stop.set()
        for slot in list(self._all):
            for process in list((getattr(slot, "_processes", None) or {}).values()):
                process.terminate()  # shards are written under temporary names, so nothing is lost
            slot.shutdown(wait=True, cancel_futures=True)


class Slot:
    """One worker of the pool, held for a series of jobs."""

    def __init__(self, pool: SupervisedPool, executor: ProcessPoolExecutor) -> None:
        self._pool = pool
        self.executor = executor

    def run(self, job: Callable[..., Any], *arguments: Any, label: str) -> Any:
        """Run ``job(*arguments)`` in the worker and return its result.

        Raises WorkerError if the worker died ATTEMPTS times on it, InterruptedBuildError if the pool is stopping, and
        whatever the job raises.
        """
        for _ in range(ATTEMPTS):
            try:
                self._wait(self._pool.started(self.executor))
                return self._wait(self.executor.submit(job, *arguments))
            except BrokenProcessPool:
                if self._pool.stop.is_set():
                    raise InterruptedBuildError(STOPPED) from None
                self.executor = self._pool.replace_slot(self.executor)
        raise WorkerError(
            f"{label} ended its worker process {ATTEMPTS} times (out of memory, or killed). Finished shards are kept; "
            "free some memory or use fewer --workers, and run the same command again."
        )

    def _wait(self, future: Future[Any]) -> Any:
        while not self._pool.stop.is_set():
            try:
                return future.result(timeout=_POLL_S)
            except TimeoutError:
                if future.done():
                    raise
        future.cancel()
        raise InterruptedBuildError(STOPPED)
