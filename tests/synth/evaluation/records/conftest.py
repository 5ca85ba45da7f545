"""Made-up record tables with known dependences, and the real ones where they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synth.evaluation.records.tables import label_lists
from synth.population.schema import Column, Schema
from synth.seeds import stream

LABELS = ("Edema", "Mass", "Nodule")
SCHEMA = Schema(
    (
        Column("age_years", "integer", low=0, high=100),
        Column("sex", "categorical", ("F", "M"), static=True),
        Column("view", "categorical", ("AP", "LL", "PA")),
        Column("findings", "set", LABELS),
    ),
    repeated=True,
)
REAL = Path(__file__).resolve().parents[5] / "shared" / "data" / "nih_cxr14_metadata.parquet"


def make_table(patients: int, seed: int) -> pa.Table:
    """Labels depend on age, view and each other, and stay on the next visit with a chance of 0.7."""
    rng = stream(seed, -1, -1, "test/records")
    visits = rng.geometric(0.5, patients).clip(1, 12)
    patient = np.repeat(np.arange(patients), visits)
    visit = np.arange(len(patient)) - np.repeat(np.cumsum(visits) - visits, visits)
    age = np.repeat(rng.integers(20, 90, patients), visits) + visit
    view = np.where(rng.random(len(patient)) < 0.2 + 0.6 * (visit > 0), 0, rng.integers(1, 3, len(patient)))
    bits = rng.random((len(patient), 3)) < np.column_stack([age / 150, 0.1 + 0.3 * (view == 0), np.full(len(age), 0.2)])
    bits[:, 2] |= bits[:, 1] & (rng.random(len(patient)) < 0.6)
    for row in np.flatnonzero(visit > 0):
        bits[row] |= bits[row - 1] & (rng.random(3) < 0.7)
    return pa.table(
        {
            "patient": pa.array(patient, pa.int64()),
            "visit": pa.array(visit, pa.int32()),
            "age_years": pa.array(age, pa.int64()),
            "sex": pa.array(np.array(["F", "M"])[np.repeat(rng.integers(0, 2, patients), visits)]),
            "view": pa.array(np.array(["AP", "LL", "PA"])[view]),
            "findings": label_lists(bits, LABELS),
        }
    )


@pytest.fixture(scope="session")
def table() -> Callable[[int, int], pa.Table]:
    return make_table


@pytest.fixture(scope="session")
def schema() -> Schema:
    return SCHEMA


@pytest.fixture(scope="session")
def real_records() -> tuple[pa.Table, pa.Table, Schema]:
    """Return the ChestX-ray14 records of 80 % and of 20 % of the patients, and their schema."""
    if not REAL.exists():
        pytest.skip(f"the real records are not there: {REAL.name} in ../shared/data")
    found = pq.read_table(REAL)
    labels = tuple(sorted({label for labels in found["findings"].to_pylist() for label in labels}))
    columns = (
        Column("age_years", "integer"),
        Column("sex", "categorical", ("F", "M"), static=True),
        Column("view", "categorical", ("AP", "PA")),
        Column("findings", "set", labels),
    )
    _, patient = np.unique(found["patient_id"].to_numpy(), return_inverse=True)
    records = pa.table(
        {"patient": pa.array(patient, pa.int64()), "visit": found["follow_up"].cast(pa.int32())}
        | {column.name: found[column.name] for column in columns}
    )
    held = stream(0, -1, -1, "test/split").permutation(patient.max() + 1) < (patient.max() + 1) // 5
    mask = held[patient]
    return records.filter(pa.array(~mask)), records.filter(pa.array(mask)), Schema(columns, repeated=True)
