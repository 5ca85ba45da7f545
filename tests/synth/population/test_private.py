"""The private family: the budget is kept, one patient moves the counts no further than claimed, and secrets stay in."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from synth.errors import PopulationError
from synth.population.chain import ChainModel
from synth.population.families import FAMILIES, fit_model
from synth.population.model_files import load_model, save_model
from synth.population.private import SHARES, PrivateFamily, _Measurement
from synth.population.private_counts import (
    Table,
    bound_change,
    choose_rows,
    count_tables,
    find_epsilon,
    find_rho,
    release_tables,
)
from synth.population.private_domain import PublicDomain, encode_public
from synth.population.private_estimates import split_tree
from synth.population.records import Records, prepare_records
from synth.population.sampler import draw_codes, sample_records
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


# ------------------------------------------------------------------------------------------------------ sensitivity

ROW = st.tuples(
    st.integers(-5, 120),
    st.sampled_from(["F", "M", "?"]),
    st.sampled_from([*SITES, "east", None]),
    st.sampled_from([None, -1.0, 0.0, 3.3, 10.0, 99.0]),
    st.lists(st.sampled_from([*LABELS, "mumps"]), max_size=3, unique=True),
)
PATIENTS = st.lists(st.lists(ROW, min_size=1, max_size=9), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(PATIENTS, st.integers(0, 7), st.integers(1, 4))
def test_a_patient_changes_the_counts_by_no_more_than_the_bound(
    patients: list[list[Row]], who: int, most_rows: int
) -> None:
    """Whoever goes, with all rows, undeclared values included, and wherever in the table."""
    who %= len(patients)
    with_all = encode_public(make_records(patients), DOMAIN, most_rows)
    without = encode_public(make_records(patients[:who] + patients[who + 1 :]), DOMAIN, most_rows)
    measured = _Measurement(DOMAIN, with_all, 1.0, most_rows)
    names = measured.names
    measured.parents = {name: names[place - 1] if place else None for place, name in enumerate(names)}
    for tables, part, rows in (
        (measured._pair_tables(), "first", 1),
        (measured._tree_tables(), "first", 1),
        (measured._step_tables(), "later", most_rows),
    ):
        change = count_tables(getattr(with_all, part), tables) - count_tables(getattr(without, part), tables)
        assert (change >= 0).all()
        assert np.sqrt((change.astype(float) ** 2).sum()) <= bound_change(tables, rows) + 1e-9


def test_the_bound_is_reached_by_a_patient_whose_visits_are_alike() -> None:
    rows: list[Row] = [(50, "F", "north", 1.0, [])] * 6
    codes = encode_public(make_records([rows]), DOMAIN, 4)
    tables = _Measurement(DOMAIN, codes, 1.0, 4)
    tables.parents = dict.fromkeys(tables.names)
    counts = count_tables(codes.later, tables._step_tables())
    assert np.sqrt((counts**2).sum()) == pytest.approx(bound_change(tables._step_tables(), 4))


@given(st.integers(1, 300), st.integers(1, 20))
def test_rows_are_chosen_by_their_place_alone_and_evenly(total: int, most: int) -> None:
    chosen = choose_rows(np.arange(total), np.full(total, total), most)
    assert chosen.sum() == min(total, most)
    gaps = np.diff(np.flatnonzero(chosen))
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


# ----------------------------------------------------------------------------------------------------------- domain


def test_without_a_declared_domain_every_column_is_named(patients: list[list[Row]]) -> None:
    with pytest.raises(PopulationError) as caught:
        fit_model(make_records(patients[:50]), FAMILIES["private"])
    assert all(f"'{name}' needs" in str(caught.value) for name in SCHEMA.names)


def _change(which: str, **values: object) -> PublicDomain:
    columns = tuple(replace(c, **values) if c.name == which else c for c in SCHEMA.columns)  # type: ignore[arg-type]
    return replace(DOMAIN, schema=replace(SCHEMA, columns=columns))


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        (_change("age", low=None), "column 'age' needs its bounds"),
        (_change("dose", high=0.0), "column 'dose' needs its bounds"),
        (_change("dose", high=math.inf), "column 'dose' needs its bounds"),
        (_change("site", categories=()), "column 'site' needs its categories"),
        (_change("signs", categories=()), "column 'signs' needs its labels"),
        (_change("sex", name="gender"), "'sex' of the records is not declared; declared column 'gender'"),
        (_change("age", missing=True), "steps: 'age' must be a number that is never missing"),
        (replace(DOMAIN, steps={"agee": 1.0}), "steps: 'agee' is not a declared column"),
        (replace(DOMAIN, steps={"age": 0.0}), "steps: 'age' grows by 0"),
        (replace(DOMAIN, most_visits=0), "most_visits is 0"),
        (_change("age", kind="categorical", categories=("1", "2")), "steps: 'age' must be a number"),
        (_change("site", kind="set"), "declared a set, but holds string"),
    ],
)
def test_a_domain_that_does_not_fit_is_refused(patients: list[list[Row]], domain: PublicDomain, message: str) -> None:
    with pytest.raises(PopulationError, match=message):
        fit_model(make_records(patients[:50]), PrivateFamily(domain))


def test_nothing_of_the_schema_that_was_learned_reaches_the_model(patients: list[list[Row]]) -> None:
    learned = Schema(tuple(replace(c, low=None, high=None, categories=("secret",)) for c in SCHEMA.columns), False)
    model = fit_model(make_records(patients[:60], learned), PrivateFamily(DOMAIN))
    assert "secret" not in json.dumps([model.schema.to_json(), model.about])
    assert model.schema == SCHEMA
    assert not {"rows", "patients"} & set(model.about)


def test_undeclared_values_become_missing_or_the_nearest_bound_and_their_rows_go_if_nothing_may_be_missing() -> None:
    rows: list[Row] = [(50, "X", "north", 1.0, []), (-3, "F", "east", 99.0, ["mumps", "rash"])]
    codes = encode_public(make_records([rows, [(120, "M", None, None, [])]]), DOMAIN, 3)
    assert codes.first["age"].tolist() == [0, 19]
    assert codes.first["sex"].tolist() == [0, 1]
    assert codes.first["site"].tolist() == [3, 3]
    assert codes.first["dose"].tolist() == [19, 20]
    assert codes.first["signs:rash"].tolist() == [1, 0]
    assert codes.first["visits"].tolist() == [0, 0]
    assert len(codes.later["age"]) == 0


def test_a_domain_survives_json() -> None:
    assert PublicDomain.from_json(json.loads(json.dumps(DOMAIN.to_json()))) == DOMAIN


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


# ---------------------------------------------------------------------------------------------------------- secrets

SECRET: Row = (99, "M", "west", 9.97, ["cough", "rash"])


def _shows_the_secret(model: ChainModel, records: Records) -> bool:
    """Return whether the one man of 95 or more with that site, dose and signs comes out too often."""
    made = sample_records(model, 20_000, 11).to_pandas()
    made = made[made.visit == 0]
    hit = (made.age >= 95) & (made.sex == "M") & (made.site == "west") & (made.dose > 9.5)
    hit &= made.signs.map(set).map(lambda signs: signs == {"cough", "rash"})
    return bool(hit.mean() > 0.3 / records.patients)


def _copy_records(records: Records) -> ChainModel:
    """Return a model that leaks on purpose: each attribute is looked up from the patient that was drawn first."""
    first = records.table.filter(pa.compute.equal(records.table["visit"], 0))
    count = min(len(first), 250)
    kept = first.slice(len(first) - count)  # 250 codes are enough to leak
    who = Column("who", "categorical", tuple(str(number) for number in range(count)))
    schema = Schema((who, *SCHEMA.columns[:4], SCHEMA.columns[4]))
    single = replace(DOMAIN, schema=schema, steps={})
    table = kept.add_column(2, "who", pa.array(list(who.categories)))
    codes = encode_public(Records(table, schema), single, 1)
    base = fit_model(
        Records(table, schema), PrivateFamily(replace(single, schema=replace(schema, repeated=False)), 1.0)
    )
    nodes, trees = [], []
    for node in base.layout.nodes:
        own = node.name == "who"
        eye = np.eye(codes.sizes[node.name])[codes.first[node.name]]
        slot = base.layout.slot("who")
        nodes.append(replace(node, features=() if own else (slot,)))
        trees.append(split_tree((), (), np.full((1, count), 1 / count)) if own else split_tree((slot,), (count,), eye))
    order = sorted(range(len(nodes)), key=lambda place: nodes[place].name != "who")
    layout = replace(base.layout, nodes=tuple(nodes[place] for place in order))
    return replace(base, layout=layout, trees=tuple(trees[place] for place in order))


def test_a_planted_patient_stays_in_the_private_model_and_leaves_a_leaky_one(patients: list[list[Row]]) -> None:
    common = [rows for rows in patients if rows[0][0] < 95][:249]
    records = make_records([*common, [SECRET]])
    assert _shows_the_secret(_copy_records(records), records)
    assert not _shows_the_secret(fit_model(records, PrivateFamily(DOMAIN)), records)


def _audit(measure: Callable[[bool], float], trials: int, threshold: float, delta: float) -> float:
    """Return a lower bound of epsilon, 99.9 % certain: how well ``measure`` tells the patient's presence."""
    seen = sum(measure(True) > threshold for _ in range(trials))
    false = sum(measure(False) > threshold for _ in range(trials))
    low = beta.ppf(0.0005, seen, trials - seen + 1) if seen else 0.0
    high = beta.ppf(0.9995, false + 1, trials - false) if false < trials else 1.0
    return math.log(max(low - delta, 1e-300) / high)


def _count_canary(rho: float) -> Callable[[bool], float]:
    def measure(present: bool) -> float:
        codes = {"x": np.array([0] * 20 + [1] * present, dtype=np.int64)}
        return float(release_tables(codes, [Table(("x",), (2,))], 1, rho).counts[("x",)][1])

    return measure


def test_an_audit_finds_no_more_than_the_claim_and_finds_a_broken_claim() -> None:
    epsilon, delta = 1.0, 1e-4
    rho = find_rho(epsilon, delta)
    claimed = _audit(_count_canary(rho), 5000, 4.0, delta)
    assert 0 < claimed <= epsilon  # the audit sees the patient, within the claim
    broken = _audit(_count_canary(rho * 100), 1500, 0.6, delta)  # ten times less noise than claimed
    assert broken > epsilon


def test_an_audit_of_whole_models_finds_no_more_than_the_claim() -> None:
    schema = Schema((Column("sex", "categorical", ("F", "M")),))
    family = PrivateFamily(PublicDomain(schema), epsilon=1.0, delta=1e-4)

    def measure(present: bool) -> float:
        sexes = ["F"] * 30 + ["M"] * present
        numbers = np.arange(len(sexes))
        table = pa.table({"patient": numbers, "visit": np.zeros(len(sexes), np.int32), "sex": sexes})
        return float(fit_model(Records(table, schema), family).trees[0].probability[0, 1])

    assert _audit(measure, 300, 0.03, 1e-4) <= 1.0


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
