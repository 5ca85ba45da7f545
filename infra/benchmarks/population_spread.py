"""How far scores of the default family vary by split of the patients and by draw: one draw of 22,000 is noisy.

    python infra/benchmarks/population_spread.py [--splits 3] [--draws 4]

A few patients have over a hundred images, so that both the floor and a draw depend on who falls where. Prints each
score of every draw over the floor of its split (the AUC as it is), then means.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from population_tables import read_real, split_patients

from synth.evaluation.records.fidelity import classifier_two_sample_auc, correlation_error, set_variation
from synth.evaluation.records.tables import Bands, RecordArrays, fit_bands, read_records
from synth.population.families import FAMILIES, fit_model
from synth.population.sampler import sample_records


def score(held: RecordArrays, found: RecordArrays, bands: Bands, seed: int) -> np.ndarray:
    """Return AUC, variation of finding sets, and largest correlation error against the holdout."""
    auc = classifier_two_sample_auc(held, found, bands, seed).value
    return np.array([auc, set_variation(held, found, "findings"), correlation_error(held, found, bands).worst])


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/nih_cxr14_metadata.parquet"))
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--draws", type=int, default=4)
    arguments = parser.parse_args()
    records = read_real(arguments.data)
    rows = []
    print("split draw   AUC (floor)      finding sets   largest correlation error   (last two: times the floor)")
    for split in range(arguments.splits):
        train, holdout = split_patients(records, split)
        real, held = read_records(train.table, train.schema), read_records(holdout.table, train.schema)
        bands = fit_bands(real)
        floor = score(held, real, bands, split)
        model = fit_model(train, FAMILIES["trees"])
        for draw in range(arguments.draws):
            found = score(held, read_records(sample_records(model, real.patients, draw), train.schema), bands, split)
            rows.append((found[0], floor[0], *(found[1:] / floor[1:])))
            print(
                f"{split:5d} {draw:4d}   {found[0]:.3f} ({floor[0]:.3f}) {rows[-1][2]:12.2f} {rows[-1][3]:20.2f}",
                flush=True,
            )
    mean, worst = np.mean(rows, axis=0), np.max(rows, axis=0)
    print(f"mean         {mean[0]:.3f} ({mean[1]:.3f}) {mean[2]:12.2f} {mean[3]:20.2f}")
    print(f"worst        {worst[0]:.3f} ({worst[1]:.3f}) {worst[2]:12.2f} {worst[3]:20.2f}")


if __name__ == "__main__":
    main()
