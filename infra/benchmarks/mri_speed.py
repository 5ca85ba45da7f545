"""One 1 mm T1w volume from labels: Cohortium's MRI engine, TorchIO, cornucopia and two floors, in one run.

    pip install -e '.[bench]' cornucopia
    python infra/benchmarks/mri_speed.py --rounds 8 --peer-rounds 1 --threads 1

All start from the same ICBM labels (mri_vs_torchio.load_labels) and use --threads threads. Every round runs every
contender once, so what else the machine does hits all alike; the shortest of the rounds counts, in seconds on the clock
and of the processor. Ours is a new person each time: the anatomy is sampled and its volumes are solved, labels are
made and measured. TorchIO and cornucopia deform the labels that they are given, draw a mean per tissue, bias and noise.

With k-space effects ours moves the head twice, adds ghosts and a spike; TorchIO's image goes through RandomMotion (two
movements), RandomGhosting and RandomSpike (one).
"""

from __future__ import annotations

import argparse
import itertools
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import cornucopia
import numpy as np
import SimpleITK
import torch
import torchio
from mri_vs_torchio import Labels, check_volume, load_labels, make_steps, make_subject
from numpy.typing import NDArray
from scipy import ndimage

from synth.engines.mri import MriEngine
from synth.population import find_population
from synth.spec import CohortSpec, parse_spec

GOALS = {"TorchIO": 25.0, "cornucopia": 10.0, "TorchIO, k-space": 10.0}
RECIPE = """name = "speed"
subjects = 1000
seed = 8
[population]
where = { diagnosis = ["none"] }
[imaging]
contrasts = ["T1w"]
resolution_mm = 1.0
"""
EFFECTS = "effects.motion = { events = 2 }\neffects.ghosts = {}\neffects.spikes = { count = 1 }\n"
Job = Callable[[], object]


def make_ours(more: str, threads: int) -> Job:
    """Return a job that draws and renders the next person; ``more`` is added to the recipe."""
    spec: CohortSpec = parse_spec(RECIPE + more)
    engine, numbers = MriEngine(threads=threads), itertools.count()

    def render() -> object:
        number = next(numbers)
        [subject] = find_population(spec.population.source).draw_subjects(spec, "speed", number, number + 1)
        return engine.render(engine.draw_scans(spec, subject))

    return render


def make_torchio(labels: Labels, partial: bool, in_k: bool) -> Job:
    """Return a job that makes one volume by TorchIO's steps, then its effects of k-space."""
    steps = list(make_steps(partial).values())
    if in_k:
        steps += [
            torchio.RandomMotion(num_transforms=2, copy=False),
            torchio.RandomGhosting(copy=False),
            torchio.RandomSpike(num_spikes=1, copy=False),
        ]
    subjects = _copies(labels, partial)

    def make() -> object:
        subject = next(subjects)
        for step in steps:
            subject = step(subject)
        if not in_k:
            check_volume(subject["t1w"].data.numpy(), labels)
        return subject

    return make


def _copies(labels: Labels, partial: bool) -> Iterator[Any]:
    while True:
        yield make_subject(labels, partial)


def make_cornucopia(labels: Labels) -> Job:
    """Return a job of cornucopia's SynthFromLabelTransform with deformation, tissue means, bias and noise alone."""
    synth = cornucopia.SynthFromLabelTransform(
        elastic_steps=7, gmm_fwhm=False, gamma=False, motion_fwhm=False, resolution=False, snr=40, gfactor=False
    )
    tensor = torch.from_numpy(labels.discrete.astype(np.int64))

    def make() -> object:
        image, _ = synth(tensor)
        if image.shape[1:] != tensor.shape[1:] or not float(image.std()) > 0:
            raise ValueError(f"cornucopia made an image of {tuple(image.shape)}, labels have {tuple(tensor.shape)}")
        return image

    return make


def make_floors(shape: tuple[int, ...]) -> dict[str, Job]:
    """Return the floors: copying a float32 volume, and resampling it once by SciPy, trilinear, places given."""
    source, target = np.ones(shape, np.float32), np.zeros(shape, np.float32)
    places: NDArray[np.float32] = np.indices(shape, np.float32) + np.float32(0.37)
    return {
        "copy of a volume": lambda: np.copyto(target, source),
        "SciPy, one trilinear resampling": lambda: ndimage.map_coordinates(source, places, target, order=1),
    }


def run_rounds(jobs: dict[str, Job], rounds: int, peer_rounds: int) -> dict[str, tuple[float, float]]:
    """Return the shortest seconds of each job, on the clock and of the processor; ours compiles kernels before.

    Peers take part in the first ``peer_rounds`` alone: they do the same work each time, ours a new person.
    """
    found = dict.fromkeys(jobs, (np.inf, np.inf))
    for name in jobs:
        if name.startswith("Cohortium"):
            jobs[name]()
    for number, name in itertools.product(range(rounds), jobs):
        if number >= peer_rounds and not name.startswith("Cohortium"):
            continue
        clock, processor = time.perf_counter(), time.process_time()
        jobs[name]()
        spent = (time.perf_counter() - clock, time.process_time() - processor)
        found[name] = (min(found[name][0], spent[0]), min(found[name][1], spent[1]))
        print(f"round {number + 1}, {name}: {spent[0]:.2f} s, processor {spent[1]:.2f} s", flush=True)
    return found


def main() -> None:
    """Run all contenders, print seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-rounds", type=int, default=3, help="rounds that peers take part in")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)  # both peers draw from torch's global generator
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(arguments.threads)
    warnings.filterwarnings("ignore")
    labels = load_labels(None)
    jobs: dict[str, Job] = {
        "Cohortium": make_ours("", arguments.threads),
        "Cohortium, k-space": make_ours(EFFECTS, arguments.threads),
        "TorchIO": make_torchio(labels, True, False),
        "TorchIO, one label map": make_torchio(labels, False, False),
        "TorchIO, k-space": make_torchio(labels, True, True),
        "TorchIO, one label map, k-space": make_torchio(labels, False, True),
        "cornucopia": make_cornucopia(labels),
        **make_floors(labels.discrete.shape[1:]),
    }
    print(f"TorchIO {torchio.__version__}, cornucopia {cornucopia.__version__}, {arguments.threads} threads")
    found = run_rounds(jobs, arguments.rounds, arguments.peer_rounds)
    print(
        f"\n{'shortest of ' + str(arguments.rounds) + ', seconds':36s}{'clock':>9s}{'processor':>11s}{'over ours':>22s}"
    )
    for name, (clock, processor) in found.items():
        ours = found["Cohortium, k-space" if "k-space" in name else "Cohortium"]
        ratio = f"{clock / ours[0]:9.2f} clock {processor / ours[1]:8.2f}"
        goal = f"   goal {GOALS[name]:g}" if name in GOALS else ""
        print(f"{name:36s}{clock:9.3f}{processor:11.3f}  {ratio}{goal}")
    for name in make_floors((1, 1, 1)):
        print(f"ours over {name}: {found['Cohortium'][0] / found[name][0]:.1f} on the clock")


if __name__ == "__main__":
    main()
