"""Time and memory of a whole scorecard: 10,000 images of 128 x 128 against a reference of 10,000, on two threads.

    python infra/benchmarks/scorecard_scale.py [--images 10000] [--train 6000] [--unseen 4000] [--profile FILE]

The images are made up (smooth anatomy whose shape follows sex and age, a view, a finding that can be seen, noise) and
written to disk as ``cohortium evaluate`` does. evaluate_images then runs in a process of its own, with 2 threads,
fidelity, diversity and privacy in radiomics and pixels. Printed are seconds of every part, of the clock and of the
processor, and the largest memory of that process (VmHWM, with all libraries and the pages of files that it reads). The
goal is 15 minutes and 4 GB. The first run on a machine also compiles kernels, some 20 s.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from peak_memory import read_peak_mb
from scipy import ndimage

GOAL_MINUTES, GOAL_GB = 15, 4
SIZE = 128
AT_A_TIME = 250
VALIDATION = 0.375  # of the unseen patients
SEVERAL = 0.3  # of the patients have two images


def draw_block(numbers: np.ndarray, patients: np.ndarray, seed: int) -> tuple[np.ndarray, list[dict]]:
    """Return (n, 128, 128) uint8 pictures and their attributes; images of one patient share their anatomy."""
    from synth.seeds import stream

    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE - 0.5
    coarse, fine, rows = [], [], []
    shape = np.empty((len(numbers), 4))
    for place, (number, patient) in enumerate(zip(numbers, patients, strict=True)):
        person = stream(seed, int(patient), -1, "benchmark/person")
        own = stream(seed, int(patient), int(number), "benchmark/image")
        woman, age = person.random() < 0.5, float(person.uniform(20, 90))
        view, ill = own.random() < 0.4, own.random() < 0.3
        shape[place] = *(0.3, 0.13 if woman else 0.17) * np.exp(0.1 * person.standard_normal(2)), view, ill
        coarse.append(person.standard_normal((8, 8)))
        fine.append(0.4 * person.standard_normal((32, 32)) + 0.1 * own.standard_normal((32, 32)))
        rows.append({"sex": "FM"[not woman], "view": ["AP", "PA"][view], "age_years": age,
                     "findings": ["mass"] if ill else []})  # fmt: skip
    pixels = 0.05 * sum(
        ndimage.zoom(np.stack(part), (1, SIZE // size, SIZE // size), order=1)
        for part, size in ((coarse, 8), (fine, 32))
    )
    for side in (-1, 1):
        away = (y / shape[:, 0, None, None]) ** 2 + ((x - 0.2 * side) / shape[:, 1, None, None]) ** 2
        pixels -= 0.4 * np.exp(-(away**2))
    ages = np.array([row["age_years"] for row in rows])
    pixels += 0.7 + 0.003 * (ages[:, None, None] - 55) * (y > 0.3)
    pixels += 0.2 * shape[:, 2, None, None] * np.exp(-((x / 0.08) ** 2)) * (y < 0)
    pixels += 0.4 * shape[:, 3, None, None] * np.exp(-((y - 0.1) ** 2 + (x - 0.2) ** 2) / 0.005)
    noise = stream(seed, int(numbers[0]), -1, "benchmark/noise").standard_normal(pixels.shape, np.float32)
    return np.round(255 * np.clip(pixels + 0.02 * noise, 0, 1)).astype(np.uint8), rows


def write_images(folder: Path, name: str, count: int, seed: int):
    """Return a set of ``count`` made-up images on disk."""
    from synth.evaluation.images.layout import Form, Layout
    from synth.evaluation.images.sets import ImageWriter
    from synth.nouns import Attribute

    schema = (Attribute("sex", "categorical"), Attribute("view", "categorical"),
              Attribute("age_years", "continuous", "years"), Attribute("findings", "set"))  # fmt: skip
    patients = np.arange(count) - np.arange(count) % round(2 / SEVERAL) // (round(2 / SEVERAL) - 1)
    with ImageWriter(folder / name, name, Layout((SIZE, SIZE), "absolute"), schema) as writer:
        for start in range(0, count, AT_A_TIME):
            numbers = np.arange(start, min(start + AT_A_TIME, count))
            pixels, rows = draw_block(numbers, patients[numbers], seed)
            for number, picture, row in zip(numbers, pixels, rows, strict=True):
                own = f"{name}-p{patients[number]}"
                writer.add(f"{name}-{number}", own, row, picture, Form("yx", picture.shape, "uint8"))
        return writer.finish()


def run_child(counts: list[int], families: list[str], features: list[str], profile: str) -> None:
    """Judge made-up images and print times, memory and some scores as JSON."""
    from synth.evaluation.images.layout import Layout
    from synth.evaluation.images.scorecard import ScorecardSettings, evaluate_images
    from synth.evaluation.images.sets import RealImages

    images, train, unseen = counts
    validation = round(unseen * VALIDATION)
    with tempfile.TemporaryDirectory() as name:
        started = time.perf_counter()
        sizes = {"images": images, "train": train, "validation": validation, "holdout": unseen - validation}
        sets = [write_images(Path(name), side, size, seed) for seed, (side, size) in enumerate(sizes.items(), 1)]
        real = RealImages("made-up", "0" * 64, *sets[1:], Layout((SIZE, SIZE), "absolute"))
        drawn, before = time.perf_counter() - started, read_peak_mb() / 1024
        settings = ScorecardSettings(features=tuple(features), families=tuple(families), utility="off")
        clock, processor = time.perf_counter(), time.process_time()
        with cProfile.Profile() if profile else tempfile.TemporaryFile() as profiler:
            report = evaluate_images(sets[0], real, settings)
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
        if profile:
            profiler.dump_stats(profile)
    print(json.dumps({
        "drawn": drawn, "before": before, "peak": read_peak_mb() / 1024, "seconds": clock, "processor": processor,
        "parts": dict(report.seconds), "valid": report.controls_valid,
        "controls": [f"{'ok ' if one.behaves else 'BAD'} {one.name}: {one.reason}" for one in report.controls],
        "scores": sum(score.value is not None for score in report.scores),
        "missing": sorted({f"{score.name}: {score.reason}" for score in report.scores if score.value is None}),
    }))  # fmt: skip


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--train", type=int, default=6_000)
    parser.add_argument("--unseen", type=int, default=4_000, help="validation and holdout together")
    parser.add_argument("--families", default="fidelity,diversity,privacy")
    parser.add_argument("--features", default="radiomics,pixels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--profile", default="", help="write cProfile statistics to this file (slower)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    counts = [arguments.images, arguments.train, arguments.unseen]
    if arguments.child:
        run_child(counts, arguments.families.split(","), arguments.features.split(","), arguments.profile)
        return
    threads = {f"{name}_NUM_THREADS": str(arguments.threads) for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
    load = os.getloadavg()[0]
    done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--child"], capture_output=True, text=True,
                          env={**os.environ, **threads}, check=False)  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr[-4000:])
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{counts[0]} images against {counts[1]} training and {counts[2]} unseen ones of {SIZE} x {SIZE}, "
          f"{arguments.threads} threads, load {load:.1f} before and {os.getloadavg()[0]:.1f} after")  # fmt: skip
    for part, seconds in found["parts"].items():
        print(f"  {part:22s} {seconds:8.1f} s")
    print(f"  all                    {found['seconds']:8.1f} s, {found['processor']:.1f} s of processor "
          f"(goal {60 * GOAL_MINUTES} s); drawing took {found['drawn']:.1f} s")  # fmt: skip
    print(f"  memory                 {found['peak']:8.2f} GB, {found['before']:.2f} before (goal {GOAL_GB} GB)")
    print(f"  {found['scores']} scores measured; controls {'valid' if found['valid'] else 'NOT valid'}")
    for line in (*found["controls"], *found["missing"]):
        print(f"    {line[:200]}")


if __name__ == "__main__":
    main()
