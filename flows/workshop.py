"""The workshop of one build: its plan, its workers, and the shards that are rendered before Prefect is even up.

Prefect and MLflow take seconds to load and start. The workers do not wait for them: the first tasks of the flow find
their shards already under way.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from filelock import FileLock, Timeout

from catalog.home import make_folder
from catalog.records import ShardRecord
from flows.pool import SupervisedPool
from flows.settings import Settings
from flows.shards import render_shard, warm_up
from flows.survey import Survey
from synth.nouns import ShardPlan
from synth.plan import CohortPlan

CHUNK_IMAGES = 200  # of 2 mm contrasts: 10 to 60 seconds of one worker's time
CHUNKS_AHEAD = 2  # for each worker, begun before Prefect is up
Chunk = tuple[ShardPlan, ...]
Advance = Callable[[int], None]
Tell = Callable[[str, int, int], None]  # what is being done, steps done, steps in all


@dataclass(slots=True)
class Workshop:
    """What the tasks of one build share: the plan, the workers, and whom to tell about progress."""

    settings: Settings
    plan: CohortPlan
    survey: Survey
    pool: SupervisedPool
    advance: Advance = field(default=lambda images: None)
    tell: Tell = field(default=lambda what, done, total: None)  # of the scorecard's steps
    spec_json: str = field(init=False)
    chunks: list[Chunk] = field(init=False)  # one task each
    _ahead: dict[int, Future[list[ShardRecord]]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.spec_json = self.plan.spec.model_dump_json()
        workers = max(1, min(self.settings.workers, len(self.survey.missing)))
        self.chunks = cut_chunks(self.survey.missing, self.plan.images, self.plan.spec.subjects, workers)

    def start_ahead(self, threads: ThreadPoolExecutor, chunks: int) -> None:
        """Begin the first ``chunks`` chunks in ``threads``."""
        for number in range(min(chunks, len(self.chunks))):
            self._ahead[number] = threads.submit(self._render_chunk, number)

    def render_chunk(self, number: int) -> list[ShardRecord]:
        """Return the records of a chunk's shards, rendered on one worker; those begun ahead are waited for.

        Raises what the worker raises, WorkerError if it keeps dying, InterruptedBuildError if the build is stopped.
        """
        begun = self._ahead.get(number)
        return begun.result() if begun else self._render_chunk(number)

    def _render_chunk(self, number: int) -> list[ShardRecord]:
        records = []
        with self.pool.slot() as slot:
            for shard in self.chunks[number]:
                label = f"shard '{shard.shard_id}'"
                record = slot.run(render_shard, self.settings.home, self.spec_json, shard, label=label)
                self.advance(record.images)
                records.append(record)
        return records


def cut_chunks(missing: Sequence[ShardPlan], images: int, subjects: int, workers: int) -> list[Chunk]:
    """Cut the missing shards into tasks of about CHUNK_IMAGES images, smaller towards the end.

    A chunk is never more than a worker's half of what is left, so that all workers end at about the same time.
    """
    if not missing:
        return []
    per_shard = max(1.0, images / subjects * missing[0].subjects)
    size = max(1, round(CHUNK_IMAGES / per_shard))
    chunks, first = [], 0
    while first < len(missing):
        count = max(1, min(size, (len(missing) - first) // (2 * workers)))
        chunks.append(tuple(missing[first : first + count]))
        first += count
    return chunks


@contextmanager
def open_workshop(settings: Settings, plan: CohortPlan, survey: Survey, advance: Advance) -> Iterator[Workshop]:
    """Start the workers (none if nothing is missing), let them begin, and make Ctrl-C and SIGTERM stop them at once."""
    workers = min(settings.workers, len(survey.missing))
    with (
        ThreadPoolExecutor(max(1, workers), "ahead") as threads,  # left last: the pool's end ends its jobs
        SupervisedPool(workers, warm_up, (plan.spec.model_dump_json(), settings.home)) as pool,
        stop_on_signals(pool),
    ):
        shop = Workshop(settings, plan, survey, pool, advance)
        shop.start_ahead(threads, CHUNKS_AHEAD * workers)
        yield shop


@contextmanager
def stop_on_signals(pool: SupervisedPool) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into a stopped pool and a KeyboardInterrupt, while the block runs in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        pool.stop.set()
        earlier = before[number]
        if callable(earlier):
            earlier(number, frame)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def lock_cohort(settings: Settings, cohort_id: str, say: Callable[[str], None]) -> Iterator[None]:
    """Let one process at a time build a cohort; a second one waits and then finds everything done."""
    make_folder(settings.lock_folder)
    lock = FileLock(settings.lock_folder / f"{cohort_id}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"another process is building '{cohort_id}'; waiting for it to finish")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
