"""Made-up patients with known dependence, for tests of population models."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from synth.population.families import FAMILIES, fit_model
from synth.population.records import Records, prepare_records

LABELS = ("oedema", "effusion", "hernia")


def make_people(patients: int = 600, seed: int = 1) -> pa.Table:
    """Return rows of patients: age grows, women are older, effusion comes with oedema and stays, hernia is rare."""
    rng = np.random.Generator(np.random.Philox(seed))
    rows = []
    for patient in range(patients):
        sex = "F" if rng.random() < 0.4 else "M"
        age = int(np.clip(rng.normal(60 if sex == "F" else 45, 12), 18, 90))
        weight = float(np.round(rng.lognormal(4.2, 0.25), 3)) if rng.random() < 0.9 else None
        effusion = False
        for visit in range(1 + rng.poisson(0.8)):
            age += int(rng.random() < 0.3) if visit else 0
            oedema = rng.random() < (0.6 if age > 60 else 0.15)
            effusion = rng.random() < (0.85 if effusion else 0.5 if oedema else 0.05)
            found = [oedema, effusion, rng.random() < 0.02]
            labels = [label for label, is_there in zip(LABELS, found, strict=True) if is_there]
            rows.append((f"p{patient:05d}", visit, age, sex, weight, "PA" if age < 70 else "AP", labels))
    names = ("who", "number", "age_years", "sex", "weight_kg", "view", "findings")
    return pa.table({name: [row[place] for row in rows] for place, name in enumerate(names)})


def read_people(patients: int = 600, seed: int = 1) -> Records:
    """Return them as records."""
    return prepare_records(make_people(patients, seed), "who", "number")


def fit_people(family: str = "trees", patients: int = 600):
    """Return a model of them."""
    return fit_model(read_people(patients), FAMILIES[family])
