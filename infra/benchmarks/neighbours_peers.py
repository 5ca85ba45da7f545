"""Nearest neighbours, precision/recall/density/coverage, KID and Frechet distance beside peers: same features, one run.

    OMP_NUM_THREADS=2 python infra/benchmarks/neighbours_peers.py [--sizes 5000,10000,20000] [--dimensions 512,128]

For each size n (n synthetic against n real features) and each side a process of its own prints seconds of the clock and
of the processor (imports, compilation and drawing of features left out) and the peak of its memory above what it had
when the features were there. ``neighbours`` are the distances to the 5th neighbour of each real image, ``prdc`` all
four scores, ``distances`` KID and the biased Frechet distance. Results are compared; a difference stops the benchmark.

Peers: ``prdc`` (NAVER, on numpy and scikit-learn), ``torchmetrics``. They hold whole matrices of distances and are left
out above ``--peer-limit`` images. With KID and Frechet distance ours gives intervals and p-values, theirs none.
Features ``encoder`` have a spectrum that falls as that of encoders does, ``noise`` is the same in all directions: the
worst case for a search that leaves out what is far away, since there everything is equally far.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

K = 5
WARM_UP = 1200  # images: more than one block of our search, so that all of it is compiled
KINDS = ("encoder", "noise")
WORK = {"ours": ("neighbours", "prdc", "distances"), "prdc": ("neighbours", "prdc"), "torchmetrics": ("distances",)}
TOLERANCE = {"neighbours": 1e-5, "prdc": 1e-9, "distances": 1e-3}  # relative


def draw_features(kind: str, count: int, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """Return synthetic and real features; synthetic ones are moved a little and narrower."""
    rng = np.random.Generator(np.random.Philox(7))
    spread = np.ones(dimensions) if kind == "noise" else (1 + np.arange(dimensions)) ** -0.6
    centres = 2 * rng.standard_normal((8, dimensions)) * spread * (kind != "noise")
    sides = []
    for shift, width in ((0.1, 0.95), (0.0, 1.0)):
        features = np.empty((count, dimensions), np.float32)
        for start in range(0, count, 2048):
            rows = features[start : start + 2048]
            drawn = rng.standard_normal(rows.shape)
            rows[:] = (centres[rng.integers(8, size=len(rows))] + width * drawn + shift) * spread
        sides.append(features)
    return sides[0], sides[1]


def list_work(side: str) -> dict[str, Callable[[np.ndarray, np.ndarray], list[float]]]:
    """Return what a side does, by name; its modules are imported here, so that each process has only its own."""
    if side == "ours":
        from synth.evaluation.images.quality.frechet import measure_frechet
        from synth.evaluation.images.quality.kernels import measure_kernels
        from synth.evaluation.images.quality.neighbourhoods import compute_prdc
        from synth.evaluation.images.quality.neighbours import nearest_neighbours
        from synth.evaluation.images.sides import Side

        def find_radii(_: np.ndarray, real: np.ndarray) -> list[float]:
            numbers = np.arange(len(real))
            return nearest_neighbours(real, real, K, exclude_same_patient=(numbers, numbers))[1][:, -1].tolist()

        def measure(made: np.ndarray, real: np.ndarray) -> list[float]:
            sides = [Side(features, np.arange(len(features))) for features in (made, real)]
            kernel = measure_kernels(*sides, seed=0)["kernel_distance"][0].value
            return [kernel, measure_frechet(*sides, seed=0)[1]["biased"]]

        return {
            "neighbours": find_radii,
            "prdc": lambda made, real: [float(value) for value in compute_prdc(made, real, K)],
            "distances": measure,
        }
    if side == "prdc":
        from prdc.prdc import compute_nearest_neighbour_distances, compute_prdc

        def score(made: np.ndarray, real: np.ndarray) -> list[float]:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints
                found = compute_prdc(real, made, K)
            return [float(found[name]) for name in ("precision", "recall", "density", "coverage")]

        return {"neighbours": lambda _, real: compute_nearest_neighbour_distances(real, K).tolist(), "prdc": score}
    import torch
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    def compare(made: np.ndarray, real: np.ndarray) -> list[float]:
        exact = [torch.from_numpy(features).double() for features in (made, real)]
        moments = [part for side in exact for part in (side.mean(dim=0), side.T.cov())]
        return [float(poly_mmd(*exact)), float(_compute_fid(*moments))]

    return {"distances": compare}


def read_memory(field: str) -> float:
    """Return a field of /proc/self/status in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def run_child(side: str, work: str, kind: str, count: int, dimensions: int) -> None:
    """Do one piece of work and print its result, time and memory as JSON."""
    task = list_work(side)[work]
    task(*draw_features(kind, WARM_UP, dimensions))
    made, real = draw_features(kind, count, dimensions)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = read_memory("VmRSS")
    clock, processor = time.perf_counter(), time.process_time()
    found = task(made, real)
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    peak = read_memory("VmHWM") - before
    print(json.dumps({"found": found, "seconds": clock, "processor": processor, "mb": peak}))


def start_child(side: str, work: str, kind: str, count: int, dimensions: int) -> dict:
    """Return what a process of its own printed."""
    command = [sys.executable, __file__, "--child", side, work, kind, str(count), str(dimensions)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare_sides(work: str, kind: str, count: int, dimensions: int, peers: list[str]) -> None:
    """Print one line for each side, with ratios; stop if results differ."""
    ours = start_child("ours", work, kind, count, dimensions)
    title = f"{work:10s} {kind:7s} n={count:6d} d={dimensions:4d}"
    print(f"{title}  ours         {describe(ours)}", flush=True)
    for peer in peers:
        theirs = start_child(peer, work, kind, count, dimensions)
        difference = np.abs(np.subtract(ours["found"], theirs["found"])) / np.maximum(np.abs(theirs["found"]), 1e-12)
        print(
            f"{title}  {peer:12s} {describe(theirs)}   ours is {theirs['seconds'] / ours['seconds']:.1f} times as fast "
            f"({theirs['processor'] / ours['processor']:.1f} of processor), memory 1/{theirs['mb'] / ours['mb']:.0f}, "
            f"largest difference {difference.max():.1e}",
            flush=True,
        )
        if difference.max() > TOLERANCE[work]:
            sys.exit(f"results differ: {ours['found'][:4]} and {theirs['found'][:4]}")


def describe(result: dict) -> str:
    """Return time and memory as text."""
    return f"{result['seconds']:8.2f} s  {result['processor']:8.2f} s of processor  {result['mb']:7.0f} MB"


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="5000,10000,20000")
    parser.add_argument("--dimensions", default="512,128")
    parser.add_argument("--kinds", default=",".join(KINDS), help="encoder, noise")
    parser.add_argument("--work", default="neighbours,prdc,distances")
    parser.add_argument("--peer-limit", type=int, default=10_000, help="images above which peers are left out")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        side, work, kind, *numbers = arguments.child
        run_child(side, work, kind, *map(int, numbers))
        return
    print(f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '')}, load {os.getloadavg()[0]:.1f}", flush=True)
    for dimensions in map(int, arguments.dimensions.split(",")):
        for kind in arguments.kinds.split(","):
            for count in map(int, arguments.sizes.split(",")):
                for work in arguments.work.split(","):
                    peers = [side for side in ("prdc", "torchmetrics") if work in WORK[side]]
                    compare_sides(work, kind, count, dimensions, peers if count <= arguments.peer_limit else [])
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
