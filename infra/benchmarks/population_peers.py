"""Synthetic records of Cohortium's families beside other generators: same real patients, same scores, one run.

    python infra/benchmarks/population_peers.py --out population-peers

reads the ChestX-ray14 records (default ../shared/data/nih_cxr14_metadata.parquet), splits them by patient 80/20, lets
each generator learn the 80 % and make as many patients, and judges all of them against the 20 % with
synth.evaluation.records. It prints a table, and writes results.json, marginals.png and pairs.png.

Peers are used if they are installed (they are not dependencies; a virtual environment of their own is best):

    pip install copulas ctgan mostlyai-engine

copulas and ctgan (DataCebo) are under the Business Source License 1.1, mostlyai-engine under Apache 2.0.
What each peer is given: see its function. copulas' default marginals are kernel densities, with which 1,000 rows took
50 s on one core after learning from only 5,000, so it gets normal marginals whose samples are mapped to the real
quantiles. CTGAN and mostlyai-engine are stopped after ``--minutes``; longer training may serve them better.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from population_plots import draw_marginals, draw_pairs
from population_tables import (
    match_quantiles,
    read_real,
    rows_to_table,
    sequences_to_table,
    split_patients,
    table_to_frame,
)

from synth.evaluation.records.report import RecordReport, evaluate_several
from synth.evaluation.records.tables import shuffle_columns
from synth.population.families import find_family, fit_model
from synth.population.records import Records
from synth.population.sampler import sample_records
from synth.population.schema import PATIENT, VISIT
from synth.seeds import stream

WARM_UP = 200  # patients
ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "nih_cxr14_metadata.parquet"
SHOWN = (
    ("classifier_auc", 0.56, False),
    ("classifier_auc_by_patient", None, False),
    ("set_variation.findings", 1.2, True),
    ("correlation_error", 1.5, True),
    ("pairwise_variation", None, True),
    ("association_error", None, True),
    ("marginal_variation_mean", None, True),
    ("prevalence_coverage", None, False),
    ("prevalence_coverage_train", None, False),
    ("prevalence_z_train", None, False),
    ("visits_ks", None, True),
    ("span_ks.age_years", None, True),
    ("transition_error.view", None, True),
    ("persistence_error_mean.findings", None, True),
    ("row_exact_gap", None, False),
    ("sequence_exact_gap", None, False),
    ("membership_distance_auc", None, False),
    ("membership_density_auc", None, False),
    ("membership_sequence_auc", None, False),
    ("membership_sequence_tpr_1pct", None, False),
)  # score, acceptance limit, whether the limit and what is shown beside it are multiples of the floor

Sampler = Callable[[int, int], pa.Table]  # patients wanted, seed


@dataclass(frozen=True)
class Timing:
    """Seconds to learn, and to sample once warm (table of records included), and how fast that is."""

    fit_seconds: float
    sample_seconds: float
    rows: int
    patients: int

    @property
    def rows_per_minute(self) -> float:
        """Synthetic rows in a minute of sampling."""
        return 60 * self.rows / max(self.sample_seconds, 1e-9)


def fit_ours(family: str) -> Callable[[Records, int, float], Sampler]:
    """Return the generator of one of our families."""

    def fit(train: Records, seed: int, minutes: float) -> Sampler:
        model = fit_model(train, find_family(family))
        return lambda count, draw: sample_records(model, count, draw)

    return fit


def fit_shuffled(train: Records, seed: int, minutes: float) -> Sampler:
    """Each column of the training records on its own: marginals without dependence."""
    return lambda count, draw: shuffle_columns(train.table, train.schema, stream(draw, -1, -1, "peers/shuffle"))


def fit_copulas(train: Records, seed: int, minutes: float) -> Sampler:
    """Gaussian copula of rows, each label a 0/1 column; normal marginals, samples mapped to the real quantiles."""
    from copulas.multivariate import GaussianMultivariate

    real = table_to_frame(train.table, train.schema)
    model = GaussianMultivariate(distribution="copulas.univariate.GaussianUnivariate", random_state=seed)
    model.fit(real)

    def sample(count: int, draw: int) -> pa.Table:
        model.set_random_state(draw)
        rows = model.sample(round(count * len(real) / train.patients))
        return rows_to_table(match_quantiles(rows, real, draw), train.schema, draw)

    return sample


def fit_ctgan(train: Records, seed: int, minutes: float) -> Sampler:
    """CTGAN of rows with its defaults but as many epochs as fit into ``minutes`` (the first one is timed)."""
    from ctgan import CTGAN

    real = table_to_frame(train.table, train.schema)
    discrete = [name for name in real.columns if name not in (VISIT, "age_years")]
    start = time.perf_counter()
    CTGAN(epochs=1, enable_gpu=False).fit(real, discrete)
    epochs = max(int(60 * minutes / (time.perf_counter() - start)) - 1, 1)
    model = CTGAN(epochs=epochs, enable_gpu=False)
    model.set_random_state(seed)
    model.fit(real, discrete)

    def sample(count: int, draw: int) -> pa.Table:
        model.set_random_state(draw)
        rows = model.sample(round(count * len(real) / train.patients))
        for name in (VISIT, "age_years"):
            rows[name] = rows[name].round().clip(real[name].min(), real[name].max())
        return rows_to_table(rows, train.schema, draw)

    return sample


def fit_mostlyai(train: Records, seed: int, minutes: float) -> Sampler:
    """mostlyai-engine: patients with their static attributes as context, visits as sequences, ``minutes`` at most."""
    from mostlyai import engine

    schema = train.schema
    rows = table_to_frame(train.table, schema).drop(columns=VISIT).astype(int)
    rows[PATIENT] = train.table[PATIENT].to_numpy()
    sets = [name for name in rows.columns if ":" in name]
    rows[sets] = rows[sets].astype(str)
    for column in schema.columns:
        if column.kind == "categorical":
            rows[column.name] = rows[column.name].astype(str)
    static = [column.name for column in schema.columns if column.static]
    people = rows.groupby(PATIENT, as_index=False)[static].first()
    folder = Path(tempfile.mkdtemp(prefix="mostlyai-"))
    engine.set_random_state(seed)
    target = rows.drop(columns=static)
    engine.split(
        workspace_dir=folder, tgt_data=target, tgt_context_key=PATIENT, ctx_data=people, ctx_primary_key=PATIENT
    )
    engine.analyze(workspace_dir=folder)
    engine.encode(workspace_dir=folder)
    engine.train(workspace_dir=folder, max_training_time=minutes, device="cpu")

    def sample(count: int, draw: int) -> pa.Table:
        engine.set_random_state(draw)
        seeds = people.iloc[stream(draw, -1, -1, "peers/context").integers(len(people), size=count)].copy()
        seeds[PATIENT] = range(count)
        engine.generate(workspace_dir=folder, ctx_data=seeds, device="cpu")
        found = pd.read_parquet(folder / "SyntheticData")
        found[PATIENT] = found[PATIENT].astype(int)
        seeds[PATIENT] = seeds[PATIENT].astype(int)
        merged = found.merge(seeds, on=PATIENT, how="left")
        return sequences_to_table(merged.astype(float).dropna(), schema)

    return sample


Fit = Callable[[Records, int, float], Sampler]
GENERATORS: dict[str, tuple[str | None, Fit]] = {  # name: (module that must be there, how it learns)
    "trees": (None, fit_ours("trees")),
    "independent": (None, fit_ours("independent")),
    "shuffled": (None, fit_shuffled),
    "copulas": ("copulas", fit_copulas),
    "ctgan": ("ctgan", fit_ctgan),
    "mostlyai": ("mostlyai", fit_mostlyai),
}


def run_generator(fit: Fit, train: Records, seed: int, minutes: float) -> tuple[pa.Table, Timing]:
    """Return the records that one generator makes, as many patients as it learned from, and its timing."""
    start = time.perf_counter()
    sample = fit(train, seed, minutes)
    fitted = time.perf_counter()
    sample(WARM_UP, seed + 1)  # compiles what is compiled on first use
    warm = time.perf_counter()
    table = sample(train.patients, seed)
    timing = Timing(fitted - start, time.perf_counter() - warm, table.num_rows, len(table[PATIENT].unique()))
    return table, timing


def print_results(reports: dict[str, RecordReport], timings: dict[str, Timing]) -> None:
    """Print scores by generator; where a score grows with the floor, as a multiple of it."""
    names = list(reports)
    floor = next(iter(reports.values())).floor.values
    print(f"{'score':34s}{'floor':>9s}{'limit':>8s}" + "".join(f"{name:>20s}" for name in names))
    for score, limit, relative in SHOWN:
        if score not in floor:
            continue
        cells = [_cell(report, score, relative) for report in reports.values()]
        text = "" if limit is None else f"{limit:g}x" if relative else f"{limit:g}"
        print(f"{score:34s}{floor[score]:9.4f}{text:>8s}" + "".join(f"{cell:>20s}" for cell in cells))
    for label, value in (("fit seconds", "fit_seconds"), ("rows per minute", "rows_per_minute")):
        cells = [f"{getattr(timings[name], value):,.1f}" for name in names]
        print(f"{label:51s}" + "".join(f"{cell:>20s}" for cell in cells))


def _cell(report: RecordReport, score: str, relative: bool) -> str:
    value = report.synthetic.values.get(score, float("nan"))
    return f"{value:.4f} ({report.ratio(score):.1f}x)" if relative else f"{value:.4f}"


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA, help="the ChestX-ray14 records (Parquet)")
    parser.add_argument("--out", type=Path, default=Path("population-peers"), help="folder of the results")
    parser.add_argument("--only", default=",".join(GENERATORS), help="generators, separated by commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=5.0, help="training time of each peer that trains by epochs")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    train, holdout = split_patients(read_real(args.data), args.seed)
    tables: dict[str, pa.Table] = {}
    timings: dict[str, Timing] = {}
    for name in args.only.split(","):
        module, fit = GENERATORS[name]
        if module and not importlib.util.find_spec(module):
            print(f"{name}: '{module}' is not installed; left out. Install it to compare.")
            continue
        tables[name], timings[name] = run_generator(fit, train, args.seed, args.minutes)
        print(f"{name}: {timings[name]}, {timings[name].rows_per_minute:,.0f} rows a minute", flush=True)
    start = time.perf_counter()
    reports = evaluate_several(tables, train.table, holdout.table, train.schema, args.seed)
    print(f"evaluated {len(reports)} tables in {time.perf_counter() - start:.0f} s\n")
    print_results(reports, timings)
    results: dict[str, Any] = {
        name: {"minutes": args.minutes, "timing": asdict(timings[name]), "report": report.to_json()}
        for name, report in reports.items()
    }
    (args.out / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    draw_marginals(args.out / "marginals.png", {"real": holdout.table, **tables}, train)
    draw_pairs(args.out / "pairs.png", reports)
    print(f"\nwritten: {', '.join(sorted(str(path) for path in args.out.iterdir()))}")


if __name__ == "__main__":
    main()
