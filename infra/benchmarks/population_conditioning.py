"""Speed, exactness and weights of conditioned samples from a model of real records; memory must not grow with them.

    python infra/benchmarks/population_conditioning.py [--subjects 20000000] [--out DIR]

Fits the default family to the ChestX-ray14 records, draws first visits and whole sequences under several demands, and
prints subjects per minute, peak memory, and for every target what was asked, drawn, weighted and natural. The picture
shows how design weights lead back to the population.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import matplotlib
import numpy as np
import pyarrow as pa

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from population_tables import read_real

from flows.population_counts import Counter, ShareReport
from synth.population.chain import ChainModel
from synth.population.conditions import parse_conditions, parse_target
from synth.population.families import FAMILIES, fit_model
from synth.population.sampling import SamplePlan, plan_sample, stream_sample

DEMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "no condition": ((), ()),
    "60 % women": ((), ("sex=F@0.6",)),
    "women of 40 to 65": (("age_years=40:65", "sex=F"), ()),
    "women of 40 to 65, 70 % PA": (("age_years=40:65", "sex=F"), ("view=PA@0.7",)),
    "20 % pneumonia, 60 % women": ((), ("findings=Pneumonia@0.2", "sex=F@0.6")),
    "hernia 12 % in women of 20 to 40": (
        (),
        ("findings=Hernia@0.12|sex=F;age_years=20:40", "sex=F@0.6", "view=PA@0.5"),
    ),
}


def make_plan(model: ChainModel, name: str, subjects: int) -> tuple[SamplePlan, Counter]:
    """Return the plan of one demand, and what counts its targets."""
    where, targets = DEMANDS[name]
    conditions = [condition for text in where for condition in parse_conditions(text, model.schema)]
    asked = [parse_target(text, model.schema) for text in targets]
    return plan_sample(model, subjects, 1, conditions, asked), Counter(model.schema, asked, conditions)


def time_demand(model: ChainModel, name: str, subjects: int, later: bool) -> float:
    """Return million subjects per minute, the planning included."""
    started = time.perf_counter()
    plan, _ = make_plan(model, name, subjects)
    for _ in stream_sample(plan, later):
        pass
    return subjects / (time.perf_counter() - started) * 60 / 1e6


def peak_mb() -> float:
    """Return the most memory this process ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def draw_weights(path: Path, plan: SamplePlan, tables: list[pa.Table], shares: list[ShareReport]) -> None:
    """Draw asked, drawn, weighted and natural share of each target, and the design weights of the subjects."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    series = ("requested", "drawn", "weighted", "natural")
    for place, name in enumerate(series):
        heights = [100 * getattr(share, name) for share in shares]
        left.bar(np.arange(len(shares)) + (place - 1.5) * 0.2, heights, 0.2, label=name)
    left.set_xticks(range(len(shares)), [share.target.replace("|", "\nof ") for share in shares], fontsize=8)
    left.set_ylabel("share (%)")
    left.set_yscale("symlog", linthresh=0.1)
    left.legend(ncols=2, fontsize=8, loc="center left")
    weights = np.concatenate([table["design_weight"].to_numpy() for table in tables])
    values, counts = np.unique(weights, return_counts=True)
    right.scatter(values, counts, s=25)
    right.set(xscale="log", yscale="log", xlabel="design weight", ylabel="subjects with it")
    right.set_title(f"effective sample size {plan.effective_subjects:,.0f} of {plan.subjects:,}", fontsize=10)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/nih_cxr14_metadata.parquet"))
    parser.add_argument("--subjects", type=int, default=20_000_000)
    parser.add_argument("--out", type=Path, default=Path("population-conditioning"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    records = read_real(arguments.data)
    started = time.perf_counter()
    model = fit_model(records, FAMILIES["trees"])
    print(
        f"fit: {time.perf_counter() - started:.1f} s for {records.table.num_rows:,} rows (kernels compiled or loaded)"
    )
    time_demand(model, "no condition", 100_000, True)  # kernels compiled
    before = peak_mb()
    print(f"{'demand':<36} {'first visits':>14} {'all visits':>14}   million subjects a minute")
    for name in DEMANDS:
        first = time_demand(model, name, arguments.subjects, False)
        everything = time_demand(model, name, arguments.subjects // 20, True)
        print(f"{name:<36} {first:14.1f} {everything:14.1f}")
    print(f"peak memory: {before:.0f} MB after 100,000 subjects, {peak_mb():.0f} MB after {arguments.subjects:,}")
    plan, counter = make_plan(model, "hernia 12 % in women of 20 to 40", 200_000)
    tables = list(stream_sample(plan, later=False))
    for table in tables:
        counter.add(table, True)
    shares = counter.report(plan)
    for share in shares:
        print(share)
    draw_weights(arguments.out / "weights.png", plan, tables, list(shares))


if __name__ == "__main__":
    main()
