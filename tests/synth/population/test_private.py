"""The private family: the budget is kept, one patient moves the counts no further than claimed, and secrets stay in."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from synth.errors import PopulationError
from synth.population.families import fit_model
from synth.population.model_files import load_model, save_model
from synth.population.private import SHARES, PrivateFamily
from synth.population.private_counts import (
    Table,
    find_epsilon,
    find_rho,
    release_tables,
)
from synth.population.private_domain import PublicDomain, encode_public
from synth.population.records import Records, prepare_records
from synth.population.sampler import draw_codes, sample_records
from synth.population.schema import Column, Schema
from tests.synth.population.private_people import DOMAIN, LABELS, SITES, Row, draw_patients, make_records


@pytest.fixture(scope="module")
def patients() -> list[list[Row]]:
    return draw_patients(3000)


# ------------------------------------------------------------------------------------------------------- accounting


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("delta", [1e-9, 1e-6, 1e-4])
def test_the_budget_is_met_and_nearly_used_up(epsilon: float, delta: float) -> None:
    rho = find_rho(epsilon, delta)
    assert epsilon * 0.999 < find_epsilon(rho, delta) <= epsilon
    assert find_epsilon(rho, delta) <= rho + 2 * math.sqrt(rho * math.log(1 / delta))  # Bun & Steinke 2016, the looser


@pytest.mark.parametrize("epsilon", [0.5, 4.0])
@pytest.mark.parametrize("rows", [1, 4])
def test_all_rounds_together_cost_no_more_than_asked(patients: list[list[Row]], epsilon: float, rows: int) -> None:
    model = fit_model(make_records(patients), PrivateFamily(DOMAIN, epsilon, 1e-6, rows))
    card = model.about["privacy"]
    spent = sum(part["rho"] for part in card["rounds"].values())
    for name, part in card["rounds"].items():  # rho = (L2 change / noise)^2 / 2, on our own account
        change = (rows if name == "steps" else 1) * math.sqrt(part["tables"])
        assert part["rho"] == pytest.approx(change**2 / (2 * part["noise"] ** 2), rel=1e-9)
    assert card["rho"] == spent <= find_rho(epsilon, 1e-6)
    assert epsilon * 0.999 < card["epsilon"] <= epsilon
    assert (card["unit"], card["delta"], set(card["rounds"])) == ("patient", 1e-6, set(SHARES))


def test_noise_has_the_spread_that_was_paid_for() -> None:
    release = release_tables({"x": np.zeros(10, np.int64)}, [Table(("x",), (20_000,))], 1, 0.02)
    assert release.noise == pytest.approx(5.0, rel=1e-6)
    assert release.rho <= 0.02
    noise = release.counts[("x",)][1:]
    assert noise.std() == pytest.approx(5.0, rel=0.03)
    assert (noise == np.round(noise)).all()


@pytest.mark.parametrize("bad", [{"epsilon": 0.0}, {"epsilon": -1.0}, {"delta": 0.0}, {"delta": 0.5}, {"most_rows": 0}])
def test_a_budget_without_sense_is_refused(patients: list[list[Row]], bad: dict[str, float]) -> None:
    with pytest.raises(PopulationError, match=next(iter(bad))):
        fit_model(make_records(patients[:50]), PrivateFamily(DOMAIN, **bad))  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------------- what is learned


def test_with_much_budget_the_truth_is_met(patients: list[list[Row]]) -> None:
    records = make_records(patients)
    made = sample_records(fit_model(records, PrivateFamily(DOMAIN, epsilon=100.0)), 30_000, 3)
    real, drawn = _facts(records.table), _facts(made)
    assert real.keys() == drawn.keys()
    for name, value in real.items():
        assert drawn[name] == pytest.approx(value, abs=0.02), name


def _facts(table: pa.Table) -> dict[str, float]:
    """Return shares and normalised means, of first visits and of steps to later ones."""
    everything = table.to_pandas()
    first = everything[everything.visit == 0]
    has = {label: first.signs.map(lambda signs, label=label: label in list(signs)) for label in LABELS}
    later = everything.visit.to_numpy()[1:] > 0
    sites = everything.site.fillna("none").to_numpy()
    return {
        **{f"site {site}": float((first.site == site).mean()) for site in SITES},
        **{label: float(values.mean()) for label, values in has.items()},
        "women": float((first.sex == "F").mean()),
        "age": float(first.age.mean()) / 100,
        "age of women": float(first.age[first.sex == "F"].mean()) / 100,
        "age of men": float(first.age[first.sex == "M"].mean()) / 100,
        "dose in the south": float(first.dose[first.site == "south"].mean()) / 10,
        "dose missing": float(first.dose.isna().mean()),
        "cough and fever": float((has["cough"] & has["fever"]).mean()),
        "single visits": float((everything.groupby("patient").size() == 1).mean()),
        "site stays": float((sites[1:] == sites[:-1])[later].mean()),
        "step of age": float(np.diff(everything.age.to_numpy())[later].mean()) / 20,
    }


def test_what_must_hold_for_every_subject_holds_at_any_budget(patients: list[list[Row]], tmp_path: Path) -> None:
    model = fit_model(make_records(patients), PrivateFamily(DOMAIN, epsilon=0.2))
    made = sample_records(model, 2000, 3).to_pandas()
    steps = made.visit.to_numpy()[1:] > 0
    assert made.age.between(0, 99).all()
    assert made.dose.dropna().between(0, 10).all()
    assert set(made.sex) <= {"F", "M"}
    assert (np.diff(made.age.to_numpy())[steps] >= 0).all()
    assert (made.sex.to_numpy()[1:] == made.sex.to_numpy()[:-1])[steps].all()
    sizes = made.groupby("patient").size()
    assert sizes.between(1, 12).all()
    assert (made.visit.to_numpy() == made.groupby("patient").cumcount().to_numpy()).all()
    save_model(model, tmp_path / "model")
    kept = load_model(tmp_path / "model")
    assert kept.about == model.about
    assert sample_records(kept, 300, 9).equals(sample_records(model, 300, 9))


def test_single_visits_and_a_single_column_are_enough() -> None:
    schema = Schema((Column("sex", "categorical", ("F", "M")),))
    table = make_records([[row[0]] for row in draw_patients(400)]).table.select(["patient", "visit", "sex"])
    model = fit_model(Records(table, schema), PrivateFamily(PublicDomain(schema), epsilon=5.0))
    share = np.mean([sex == "F" for sex in sample_records(model, 4000, 1)["sex"].to_pylist()])
    assert share == pytest.approx(np.mean([sex == "F" for sex in table["sex"].to_pylist()]), abs=0.08)
    assert set(model.about["privacy"]["rounds"]) == {"pairs", "tree"}


def test_the_number_of_patients_is_a_noisy_estimate(patients: list[list[Row]]) -> None:
    given = [
        fit_model(make_records(patients), PrivateFamily(DOMAIN, epsilon=1.0)).about["patients_estimated"]
        for _ in range(4)
    ]
    assert len(set(given)) > 1
    assert np.mean(given) == pytest.approx(3000, rel=0.1)


# ------------------------------------------------------------------------------------------------------- real table

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "nih_cxr14_metadata.parquet"


@pytest.mark.skipif(not REAL.exists(), reason="the NIH ChestX-ray14 metadata is not beside the checkout")
def test_first_visits_of_real_records_are_close_at_a_strict_budget() -> None:
    table = pyarrow.parquet.read_table(REAL)
    ignored = ("image_id", "width_px", "height_px", "pixel_spacing_mm")
    records = prepare_records(table, "patient_id", "follow_up", ignore=ignored)
    findings = records.schema.column("findings").categories  # published with the data set, so public
    schema = Schema(
        (
            Column("age_years", "integer", low=0, high=95),
            Column("sex", "categorical", ("F", "M"), static=True),
            Column("view", "categorical", ("AP", "PA")),
            Column("findings", "set", findings),
        ),
        repeated=True,
    )
    model = fit_model(records, PrivateFamily(PublicDomain(schema, {"age_years": 10.0}, 100)))
    made = draw_codes(model, 4, np.arange(records.patients), later=False).states
    codes = encode_public(records, PublicDomain(schema, {"age_years": 10.0}, 100), 1).first
    for name, real in codes.items():
        drawn = made[:, model.layout.slot(name)]
        size = int(max(real.max(), drawn.max())) + 1
        shares = [np.bincount(values, minlength=size) / len(values) for values in (real, drawn)]
        assert np.abs(shares[0] - shares[1]).sum() / 2 < 0.04, name
