"""Images per second through ``cohortium build`` against the same engine in a bare loop, and peak memory of a worker.

    python infra/benchmarks/orchestration.py --subjects 1000 --workers 2 [--spec flows/specs/demo.toml]

The bare loop is what one would write without Cohortium: N processes, each over its share of the subjects, drawing,
rendering and measuring, with no storage, no catalog, no orchestration. It is shown a second time with the shards
written. The build is timed as the whole command, from starting Python to the printed result, in a fresh home.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from catalog import ensure_catalog, resolve_home
from flows.shards import parse_spec_json, render_images, render_shard, warm_up
from synth.plan import plan_cohort
from synth.population import find_population
from synth.spec import CohortSpec, load_spec


def bare_loop(spec_json: str, first: int, stop: int) -> int:
    """Draw, render and measure the subjects ``first`` to ``stop``; return the number of images."""
    spec = parse_spec_json(spec_json)
    subjects = find_population(spec.population.source).draw_subjects(spec, "bare-loop", first, stop)
    return sum(1 for _ in render_images(spec, subjects))


def writing_loop(spec_json: str, home: str, worker: int, workers: int) -> int:
    """Render and write every ``workers``-th shard; return the number of images."""
    spec = parse_spec_json(spec_json)
    shards = plan_cohort(spec).shards[worker::workers]
    return sum(render_shard(resolve_home(home), spec_json, shard).images for shard in shards)


def time_bare(spec: CohortSpec, workers: int) -> float:
    """Return images per second of the bare loop, including the start of its processes."""
    spec_json = spec.model_dump_json()
    edges = [spec.subjects * n // workers for n in range(workers + 1)]
    started = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(workers, initializer=warm_up, initargs=(spec_json,)) as pool:
        images = sum(pool.starmap(bare_loop, [(spec_json, edges[n], edges[n + 1]) for n in range(workers)]))
    return images / (time.perf_counter() - started)


def time_writing(spec: CohortSpec, workers: int) -> float:
    """Return images per second of the loop that also writes shards."""
    spec_json = spec.model_dump_json()
    with tempfile.TemporaryDirectory() as home:
        ensure_catalog(home)
        started = time.perf_counter()
        with multiprocessing.get_context("spawn").Pool(workers, initializer=warm_up, initargs=(spec_json,)) as pool:
            images = sum(pool.starmap(writing_loop, [(spec_json, home, n, workers) for n in range(workers)]))
        return images / (time.perf_counter() - started)


def time_build(spec_path: Path, workers: int) -> tuple[float, dict[str, float]]:
    """Return images per second of the whole command, and the peak memory (MB) of its processes by role."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "flows", "build", str(spec_path), "--json", "--home", home]
        started = time.perf_counter()
        process = subprocess.Popen([*command, "--workers", str(workers)], stdout=subprocess.PIPE, text=True)
        peaks: dict[str, float] = {}
        watcher = threading.Thread(target=_watch_memory, args=(process.pid, peaks))
        watcher.start()
        output, _ = process.communicate()
        seconds = time.perf_counter() - started
        watcher.join()
    if process.returncode:
        raise SystemExit(f"the build failed with exit code {process.returncode}")
    result = json.loads(output)
    return result["images"] / seconds, peaks


def _watch_memory(pid: int, peaks: dict[str, float]) -> None:
    """Sample resident memory five times a second; the largest of each role goes into ``peaks``."""
    while psutil.pid_exists(pid):
        try:
            parent = psutil.Process(pid)
            if parent.status() == psutil.STATUS_ZOMBIE:
                return
            _note(peaks, "parent", parent)
            for child in parent.children(recursive=True):
                command = " ".join(child.cmdline())
                role = "worker" if "spawn_main" in command else "server" if "flows.server" in command else "other"
                _note(peaks, role, child)
        except psutil.Error:
            pass
        time.sleep(0.2)


def _note(peaks: dict[str, float], role: str, process: psutil.Process) -> None:
    peaks[role] = max(peaks.get(role, 0.0), process.memory_info().rss / 1e6)


def main() -> None:
    """Run the comparison and print rates, ratios and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--spec", type=Path, default=Path("flows/specs/demo.toml"))
    parser.add_argument("--build-only", action="store_true", help="only time the build, for its memory")
    arguments = parser.parse_args()
    text = arguments.spec.read_text().replace(
        f"subjects = {load_spec(arguments.spec).subjects}", f"subjects = {arguments.subjects}"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.toml"
        path.write_text(text)
        spec = load_spec(path)
        print(f"{spec.subjects} subjects, {plan_cohort(spec).images} images, {arguments.workers} workers")
        rates: dict[str, float] = {}
        if not arguments.build_only:
            rates["bare loop"] = time_bare(spec, arguments.workers)
            rates["loop with writing"] = time_writing(spec, arguments.workers)
        rates["cohortium build"], peaks = time_build(path, arguments.workers)
    for name, rate in rates.items():
        print(f"{name:<18} {rate:7.2f} images/s   build / this = {rates['cohortium build'] / rate:.3f}")
    print("peak memory, MB:", ", ".join(f"{role} {megabytes:.0f}" for role, megabytes in sorted(peaks.items())))


if __name__ == "__main__":
    main()
