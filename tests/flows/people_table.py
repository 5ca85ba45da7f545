"""A small table of people, as ``cohortium population fit`` reads them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from synth.seeds import stream

PATIENTS = 400


def make_table(patients: int = PATIENTS, seed: int = 5) -> pa.Table:
    """Return records of people of up to four visits: sex and age matter for the findings, some spacings are missing."""
    rng = stream(seed, 0, 0, "test/records")
    visits = rng.integers(1, 5, patients)
    who = np.repeat(np.arange(patients), visits)
    place = np.arange(len(who)) - np.repeat(np.cumsum(visits) - visits, visits)
    age = rng.integers(20, 80, patients)[who] + place
    woman = (rng.random(patients) < 0.6)[who]
    hernia, mass = rng.random(len(who)) < np.where(woman, 0.3, 0.1), rng.random(len(who)) < 0.15
    spacing = np.round(rng.normal(0.15, 0.02, len(who)), 4)
    return pa.table(
        {
            "image_id": [f"i{number:06d}" for number in range(len(who))],
            "patient_id": who,
            "follow_up": place,
            "age_years": age,
            "sex": np.where(woman, "F", "M"),
            "findings": ["|".join(["Hernia"] * int(h) + ["Mass"] * int(m)) for h, m in zip(hernia, mass, strict=True)],
            "spacing_mm": pa.array(spacing, mask=rng.random(len(who)) < 0.1),
        }
    )  # fmt: skip


RULES = '[findings]\nkind = "set"\nseparator = "|"\n'
