"""Made-up patients with visits, for tests of private population models."""

from __future__ import annotations

import pyarrow as pa

from synth.population.private_domain import PublicDomain
from synth.population.records import Records
from synth.population.schema import Column, Schema
from synth.seeds import stream

SITES = ("north", "south", "west")
LABELS = ("cough", "fever", "rash")
SCHEMA = Schema(
    (
        Column("age", "integer", low=0, high=99),
        Column("sex", "categorical", ("F", "M"), static=True),
        Column("site", "categorical", SITES, missing=True),
        Column("dose", "continuous", low=0.0, high=10.0, missing=True),
        Column("signs", "set", LABELS),
    ),
    repeated=True,
)
DOMAIN = PublicDomain(SCHEMA, {"age": 20.0}, most_visits=12)
Row = tuple[int, str, str | None, float | None, list[str]]


def make_records(patients: list[list[Row]], schema: Schema = SCHEMA) -> Records:
    people = [number for number, rows in enumerate(patients) for _ in rows]
    visits = [place for rows in patients for place in range(len(rows))]
    columns = list(zip(*[row for rows in patients for row in rows], strict=True)) or [[]] * 5
    kinds = (pa.int64(), pa.string(), pa.string(), pa.float64(), pa.list_(pa.string()))
    arrays = {name: pa.array(c, kind) for name, c, kind in zip(SCHEMA.names, columns, kinds, strict=True)}
    return Records(
        pa.table({"patient": pa.array(people, pa.int64()), "visit": pa.array(visits, pa.int32()), **arrays}), schema
    )


def draw_patients(count: int, seed: int = 5) -> list[list[Row]]:
    """Women are older, the south gives higher doses, fever comes with cough, and signs stay."""
    rng = stream(seed, 0, 0, "test/private")
    patients = []
    for _ in range(count):
        sex = "FM"[int(rng.random() < 0.4)]
        age = int(rng.integers(40, 90) if sex == "F" else rng.integers(10, 60))
        site = SITES[int(rng.choice(3, p=[0.6, 0.3, 0.1]))]
        signs = [label for label, p in zip(LABELS, (0.3, 0.0, 0.1), strict=True) if rng.random() < p]
        signs += ["fever"] if rng.random() < (0.8 if "cough" in signs else 0.1) else []
        rows: list[Row] = []
        for visit in range(int(rng.choice([1, 2, 5], p=[0.6, 0.3, 0.1]))):
            dose = None if rng.random() < 0.1 else float(rng.uniform(5, 10) if site == "south" else rng.uniform(0, 5))
            rows.append((age + visit, sex, site, dose, signs))
        patients.append(rows)
    return patients
