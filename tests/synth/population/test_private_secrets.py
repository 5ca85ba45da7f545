"""Planted patients, and audits: a private model gives away no more than it claims."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import beta

from synth.population.chain import ChainModel
from synth.population.families import fit_model
from synth.population.private import PrivateFamily
from synth.population.private_counts import (
    Table,
    find_rho,
    release_tables,
)
from synth.population.private_domain import PublicDomain, encode_public
from synth.population.private_estimates import split_tree
from synth.population.records import Records
from synth.population.sampler import sample_records
from synth.population.schema import Column, Schema
from tests.synth.population.private_people import DOMAIN, SCHEMA, Row, draw_patients, make_records


@pytest.fixture(scope="module")
def patients() -> list[list[Row]]:
    return draw_patients(3000)


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
