"""What a cohort of brain MRI costs: contrasts, memory, voxels, workers, bytes, and from these a million subjects.

    python infra/benchmarks/mri_scaling.py docs/images/mri-scaling.png

Times are of the processor, so that other work on the machine disturbs them least; the shortest of several people
counts.
Workers are processes that each make the same people: images a second say what the machine has left for them, processor
seconds an image whether they are in each other's way.
Bytes are those of shards: pixels and masks as the catalog encodes them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from peak_memory import read_peak_mb

from catalog.codec import encode_array
from synth.engines.mri import MriEngine
from synth.nouns import Image
from synth.physics.grid import Grid
from synth.population import find_population
from synth.spec import CohortSpec, parse_spec

CONTRASTS = ("T1w", "T2w", "FLAIR", "PDw", "T2starw")
RESOLUTIONS_MM = (4.0, 3.0, 2.0, 1.0)
EFFECTS = "effects.motion = {}\neffects.ghosts = {}\neffects.spikes = {}\n"
RECIPE = (
    'name = "scaling"\nsubjects = 1000\nseed = 12\n[imaging]\ncontrasts = {contrasts}\nresolution_mm = {mm}\n{more}'
)
MILLION = 1_000_000


def make_spec(contrasts: Sequence[str], resolution_mm: float, more: str = "") -> CohortSpec:
    """Return a recipe."""
    return parse_spec(RECIPE.format(contrasts=json.dumps(list(contrasts)), mm=resolution_mm, more=more))


def render_person(spec: CohortSpec, number: int) -> tuple[list[Image], float]:
    """Return the images of person ``number``, drawn and rendered, and the processor seconds that they took."""
    [subject] = find_population(spec.population.source).draw_subjects(spec, "scaling", number, number + 1)
    engine, start = MriEngine(), time.process_time()
    images = engine.render(engine.draw_scans(spec, subject))
    return images, time.process_time() - start


def time_people(spec: CohortSpec, people: int) -> float:
    """Return the shortest processor seconds of a person."""
    render_person(spec, 999)
    return min(render_person(spec, number)[1] for number in range(people))


def average_people(spec: CohortSpec, people: int) -> float:
    """Return the mean processor seconds of a person of the population: lesions that are solved take their time."""
    return float(np.mean([render_person(spec, number)[1] for number in range(people)]))


@dataclass(frozen=True)
class Work:
    """What a worker says of itself: peak memory in MB, and seconds a person on the clock and of the processor."""

    peak_mb: float
    clock: float
    processor: float


def work(arguments: Sequence[str]) -> None:
    """Be one worker: render a person that does not count, then ``count`` more, and print what it took."""
    spec = make_spec(json.loads(arguments[0]), float(arguments[1]), EFFECTS if arguments[3] == "effects" else "")
    render_person(spec, 0)
    count, clock, processor = int(arguments[2]), time.perf_counter(), time.process_time()
    for number in range(count):
        render_person(spec, 1 + number)
    print((time.perf_counter() - clock) / count, (time.process_time() - processor) / count, read_peak_mb())


def run_workers(count: int, contrasts: Sequence[str], resolution_mm: float, people: int, more: str) -> list[Work]:
    """Run ``count`` workers at once, ``people`` each."""
    command = [sys.executable, __file__, "--worker", json.dumps(list(contrasts)), str(resolution_mm), str(people), more]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    said = [[float(word) for word in one.communicate()[0].split()] for one in running]
    return [Work(peak_mb, clock, processor) for clock, processor, peak_mb in said]


def measure_workers(most: int, people: int) -> dict[int, tuple[float, float]]:
    """Return images a second on the clock, and processor seconds an image, by number of workers (2 mm)."""
    found = {}
    for count in range(1, most + 1):
        said = run_workers(count, CONTRASTS[:3], 2.0, people, "")
        found[count] = (sum(3 / one.clock for one in said), float(np.mean([one.processor for one in said])) / 3)
    return found


def measure_bytes(spec: CohortSpec) -> tuple[float, float]:
    """Return the stored bytes of an image with its masks, and the processor seconds of encoding them."""
    images, _ = render_person(spec, 0)
    start = time.process_time()
    masks = sum(len(encode_array(mask)) for mask in images[0].masks.values())  # a visit's contrasts share them
    sizes = [len(encode_array(image.pixels)) + masks for image in images]
    return float(np.mean(sizes)), (time.process_time() - start) / len(images)


def print_plan(seconds: float, size: float, price: float, cores: int) -> None:
    """Print what a million subjects of three contrasts take."""
    hours = seconds * MILLION / 3600
    print(f"\na million subjects, 3 contrasts at 1 mm ({seconds:.2f} processor seconds and {size / 1e6:.1f} MB each):")
    print(f"  {hours:,.0f} core-hours, {hours / cores:,.0f} hours ({hours / cores / 24:.1f} days) on {cores} cores")
    print(f"  {size * MILLION / 1e12:.1f} TB in shards")
    print(f"  {hours * price:,.0f} money for computing at {price:g} a core-hour")


def draw_plot(voxels: dict[float, float], workers: dict[int, tuple[float, float]], path: Path) -> None:
    """Draw cost against voxels and against workers."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
    counts = np.array([np.prod(Grid(mm).shape) for mm in voxels]) / 1e6
    left.loglog(counts, list(voxels.values()), "o-", color="#3465a4")
    for count, (mm, seconds) in zip(counts, voxels.items(), strict=True):
        left.annotate(f"{mm:g} mm", (count, seconds), textcoords="offset points", xytext=(6, 5), fontsize=8)
    left.margins(0.15, 0.15)
    left.set(xlabel="million voxels", ylabel="processor seconds of a T1w volume")
    costs = [processor for _, processor in workers.values()]
    right.plot(list(workers), costs, "o-", color="#3465a4")
    right.set(
        xlabel="workers at once (2 cores, shared)",
        ylabel="processor seconds of a 2 mm image",
        ylim=(0, 1.15 * max(costs)),
    )
    right.set_xticks(list(workers))
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def main() -> None:
    """Measure, print and draw."""
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--people", type=int, default=3, help="of whom the quickest counts")
    parser.add_argument("--workers", type=int, default=3, help="most workers")
    parser.add_argument("--core-hour", type=float, default=0.04, help="price of a core-hour (an assumption)")
    parser.add_argument("--cores", type=int, default=64)
    arguments = parser.parse_args()
    by_count = {count: time_people(make_spec(CONTRASTS[:count], 1.0), arguments.people) for count in (1, 2, 3, 5)}
    first = by_count[1]
    for count, seconds in by_count.items():
        more = (
            f", each further one {100 * (seconds - first) / (count - 1) / first:.0f} % of the first"
            if count > 1
            else ""
        )
        print(f"{count} contrasts at 1 mm: {seconds:.2f} processor seconds a person{more}", flush=True)
    with_effects = time_people(make_spec(CONTRASTS[:1], 1.0, EFFECTS), arguments.people)
    print(f"T1w with motion, ghosts and spikes: {with_effects:.2f} processor seconds a person", flush=True)
    for name, contrasts in (("T1w", CONTRASTS[:1]), ("3 contrasts", CONTRASTS[:3])):
        for more in ("", "effects"):
            [one] = run_workers(1, contrasts, 1.0, 1, more)
            print(
                f"peak memory of a worker, {name} at 1 mm {more and 'with effects'}: {one.peak_mb:.0f} MB", flush=True
            )
    voxels = {mm: time_people(make_spec(CONTRASTS[:1], mm), arguments.people) for mm in RESOLUTIONS_MM}
    for mm, seconds in voxels.items():
        print(f"T1w at {mm:g} mm: {seconds:.3f} processor seconds, {np.prod(Grid(mm).shape) / 1e6:.2f} million voxels")
    workers = measure_workers(arguments.workers, 6)
    for count, (rate, processor) in workers.items():
        print(f"{count} workers: {rate:.1f} images a second, {processor:.2f} processor seconds an image, 2 mm")
    size, encoding = measure_bytes(make_spec(CONTRASTS[:3], 1.0))
    print(
        f"an image of 1 mm with its masks: {size / 1e6:.2f} MB in a shard, encoded in {encoding:.2f} processor seconds"
    )
    average = average_people(make_spec(CONTRASTS[:3], 1.0), 4 * arguments.people)
    print_plan(average + 3 * encoding, 3 * size, arguments.core_hour, arguments.cores)
    draw_plot(voxels, workers, arguments.output)


if __name__ == "__main__":
    main()
