"""Kill -9 a build at many moments, run it again each time, and compare the end with an uninterrupted build.

    python infra/benchmarks/kill_test.py --kills 20 [--seed 1]

Only the leader (the flow's process) is killed; its workers and its server must notice and end by themselves. The
moments are: at once, inside the commit, and the rest spread at random over the duration of an uninterrupted build.
Kills follow one another in one home, each continuing what the last one left, until the cohort is registered (or a
build ends before its kill); then the build is let to its end, everything is compared, and the next kill begins in a
fresh home. Exit code 1 if anything is lost, doubled or left over.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from catalog import open_catalog, verify_all
from synth.errors import CatalogError

COMMIT = -1.0  # in place of a delay: as soon as the transaction that registers the cohort has written a file
MARK = "COHORTIUM_KILL_TEST_MARK"
GRACE_S = 8.0
RECIPE = """
name = "kill-test"
subjects = 8
seed = 7
[population]
where = { age_years = [20, 80], diagnosis = ["none", "multiple-sclerosis"] }
[imaging]
contrasts = ["T1w", "FLAIR"]
visits = { count = 2, interval_years = 2.0, share = 0.5 }
"""
_CONTENT = {
    "cohorts": "SELECT cohort_id, spec_hash, subjects, images, shards FROM cohorts",
    "shards": "SELECT shard_id, sha256, bytes FROM shards",
    "subjects": "SELECT * FROM subjects",
    "scans": "SELECT * FROM scans",
    "images": "SELECT image_id, scan_id, shard_id, pixels_sha256, status FROM images",
    "masks": "SELECT image_id, list_transform(masks, lambda m: [m.name, m.sha256]) AS masks FROM pixels",
    "measurements": "SELECT * FROM measurements",
    "decisions": "SELECT cohort_id, release_number, decision, spec_hash FROM releases",
    "reports": "SELECT report_id, passed FROM reports",
}


def read_content(home: Path) -> dict[str, tuple[int, str]]:
    """Return table -> (rows, SHA-256 of its sorted rows) for all that two builds of a recipe must agree on."""
    with open_catalog(home) as catalog:
        rows = {name: sorted(map(repr, catalog.sql(query).rows())) for name, query in _CONTENT.items()}
    return {name: (len(found), hashlib.sha256("\n".join(found).encode()).hexdigest()) for name, found in rows.items()}


def heed_ctrl_c() -> None:
    """Undo what a shell does to commands in the background: they inherit that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Build:
    """One ``cohortium build`` in a process of its own, whose descendants can be found after its death."""

    def __init__(self, recipe: Path, home: Path, *options: str) -> None:
        self.mark = uuid.uuid4().hex
        self.home = home
        command = [sys.executable, "-m", "flows", "build", str(recipe), "--home", str(home), "--json", *options]
        self.output = tempfile.TemporaryFile("w+")  # noqa: SIM115  lives as long as the build
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stdout=self.output,
            stderr=self.errors,
            env={**os.environ, MARK: self.mark},
            start_new_session=True,
            preexec_fn=heed_ctrl_c,
        )

    @property
    def seconds(self) -> float:
        """How long ago the build was started."""
        return time.monotonic() - self.started

    def descendants(self) -> list[psutil.Process]:
        """Return the processes of this build that run now, itself not included."""
        return [process for process in find_marked(self.mark) if process.pid != self.process.pid]

    def workers(self) -> list[psutil.Process]:
        """Return the workers that run now."""
        return [process for process in self.descendants() if is_worker(process)]

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = 120.0) -> bool:
        """Wait for ``condition``; returns False if the build ended first, or the time is up."""
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None and time.monotonic() < deadline:
            if condition():
                return True
            time.sleep(0.005)
        return False

    def kill_after(self, delay_s: float) -> bool:
        """Kill -9 the leader after ``delay_s`` seconds (or in the commit); returns whether it was still running."""
        if delay_s == COMMIT:
            before = registered_files(self.home)
            self.wait_until(lambda: bool(registered_files(self.home) - before))
        else:
            self.wait_until(lambda: self.seconds >= delay_s)
        if self.process.poll() is not None:
            return False
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        return True

    def finish(self, timeout_s: float = 300.0) -> dict[str, object]:
        """Wait for the end and return the JSON document; raises RuntimeError with stderr if it failed."""
        self.process.wait(timeout_s)
        if self.process.returncode:
            raise RuntimeError(f"exit code {self.process.returncode}: {self.stderr()}")
        self.output.seek(0)
        document: dict[str, object] = json.load(self.output)
        return document

    def stderr(self) -> str:
        """Return what was printed on stderr so far."""
        self.errors.seek(0)
        return self.errors.read()

    def wait_for_orphans(self, grace_s: float = GRACE_S) -> list[str]:
        """Return the command lines of descendants that are still there after ``grace_s`` seconds."""
        deadline = time.monotonic() + grace_s
        while (left := self.descendants()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return [describe_process(process) for process in left]


def find_marked(mark: str) -> list[psutil.Process]:
    """Return the living processes that inherited ``mark`` in their environment."""
    return [process for process in psutil.process_iter() if _inherited(process, mark)]


def _inherited(process: psutil.Process, mark: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark
    except psutil.Error:
        return False


def is_worker(process: psutil.Process) -> bool:
    """Return whether this is a spawned worker (and not multiprocessing's resource tracker, nor the server)."""
    return "spawn_main" in describe_process(process)


def describe_process(process: psutil.Process) -> str:
    """Return the command line of a process, empty if it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def registered_files(home: Path) -> set[Path]:
    """Return the files of table rows that a commit writes before it is complete."""
    return set((home / "data" / "main").glob("cohorts/*.parquet"))


def finished_files(home: Path) -> set[Path]:
    """Return the finished shards."""
    return set((home / "data" / "main" / "pixels").glob("*/*.parquet"))


def temporary_files(home: Path) -> list[Path]:
    """Return what an interrupted write left behind."""
    return [path for path in home.rglob("*.tmp") if path.is_file()] + list(home.glob("spill/*"))


def choose_delays(kills: int, duration_s: float, seed: int) -> list[float]:
    """Return ``kills`` moments in random order: at once, in the commit, and one in each slice of the duration."""
    generator = random.Random(seed)
    slices = max(0, kills - 2)
    delays = [0.0, COMMIT] + [duration_s * (n + generator.random()) / slices for n in range(slices)]
    generator.shuffle(delays)
    return delays[:kills]


@dataclass(frozen=True, slots=True)
class Kill:
    """What one kill met, and what it left running."""

    delay_s: float
    home: str
    state: str
    orphans: tuple[str, ...]


def run_kills(recipe: Path, folder: Path, delays: Sequence[float], *options: str) -> Iterator[Kill | Path]:
    """Kill builds after each of ``delays``; yield every Kill, and every home whose build was let to its end."""
    number, home, used = 0, folder / "killed-0", False
    for delay in delays:
        build = Build(recipe, home, *options)
        while not build.kill_after(delay):  # so little was left to do that it ended before its time
            build.finish()
            yield home
            delay = min(delay, 0.9 * build.seconds)  # or a machine that became faster would never be in time
            number += 1
            home = folder / f"killed-{number}"
            build = Build(recipe, home, *options)
        orphans = tuple(build.wait_for_orphans())
        state, used = describe_state(home), True
        yield Kill(delay, home.name, state, orphans)
        if "registered" in state:
            Build(recipe, home, *options).finish()
            yield home
            number, used = number + 1, False
            home = folder / f"killed-{number}"
    if used:
        Build(recipe, home, *options).finish()
        yield home


def describe_state(home: Path) -> str:
    """Return how far a killed build had come, in a word or two."""
    shards = f"{len(finished_files(home))} shards finished"
    try:
        with open_catalog(home) as catalog:
            registered = catalog.sql("SELECT count(*) FROM cohorts").scalar()
            decided = catalog.sql("SELECT count(*) FROM releases").scalar()
    except CatalogError:
        return "no catalog yet"
    torn = " and a commit torn" if registered_files(home) and not registered else ""
    return "registered and decided" if decided else "registered" if registered else shards + torn


def find_faults(home: Path, expected: dict[str, tuple[int, str]]) -> list[str]:
    """Return in which ways the end of a killed home differs from ``expected``; none is the right answer."""
    content = read_content(home)
    faults = [
        f"{name}: {content[name]} instead of {expected[name]}" for name in expected if content[name] != expected[name]
    ]
    damaged = verify_all(home).damaged
    if damaged:
        faults.append(f"damaged shards: {damaged}")
    if temporary_files(home):
        faults.append(f"temporary files: {temporary_files(home)}")
    registered = content["shards"][0]
    if len(finished_files(home)) != registered:
        faults.append(f"{len(finished_files(home))} shard files, {registered} registered")
    return faults


def main() -> int:
    """Run the kills, print the outcome of each, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep the homes in this folder")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="kill-test-"))
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE)
    reference = Build(recipe, folder / "uninterrupted", "--shard-size", "1")
    reference.finish()
    duration, expected = reference.seconds, read_content(folder / "uninterrupted")
    print(f"uninterrupted: {duration:.1f} s, { ({name: rows for name, (rows, _) in expected.items()}) }", flush=True)
    bad = 0
    for outcome in run_kills(
        recipe, folder, choose_delays(arguments.kills, duration, arguments.seed), "--shard-size", "1"
    ):
        if isinstance(outcome, Path):
            faults = find_faults(outcome, expected)
            bad += bool(faults)
            print(f"  {outcome.name} at its end: {'; '.join(faults) or 'equal to the uninterrupted build'}", flush=True)
            continue
        bad += bool(outcome.orphans)
        when = "in the commit" if outcome.delay_s == COMMIT else f"after {outcome.delay_s:5.1f} s"
        orphans = f"{len(outcome.orphans)} orphans {' | '.join(outcome.orphans)}"
        print(f"{outcome.home}: kill {when}: {outcome.state}; {orphans}", flush=True)
    print(f"{arguments.kills} kills, {bad} faults; homes in {folder}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
