"""What is declared of a table before a private model is fitted, and what it decides."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from synth.errors import PopulationError
from synth.population.families import FAMILIES, fit_model
from synth.population.private import PrivateFamily
from synth.population.private_domain import PublicDomain, encode_public
from synth.population.schema import Schema
from tests.synth.population.private_people import DOMAIN, SCHEMA, Row, draw_patients, make_records


@pytest.fixture(scope="module")
def patients() -> list[list[Row]]:
    return draw_patients(3000)


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
