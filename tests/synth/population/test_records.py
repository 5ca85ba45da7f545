"""Real tables become record tables: kinds are recognised, dirt is cleaned by declared rules and counted."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pytest

from synth.errors import PopulationError
from synth.population.cleaning import Rule
from synth.population.records import prepare_records
from tests.synth.population.people import LABELS, make_people, read_people

ROWS = 60


def table(**columns) -> pa.Table:
    return pa.table({"age_years": [20 + n % 50 for n in range(ROWS)], **columns})


def changes(records, column: str) -> dict[str, int]:
    return {c.what: c.rows for c in records.cleaning if c.column == column}


def test_kinds_bounds_and_repeats_are_recognised():
    schema = read_people().schema
    kinds = {c.name: (c.kind, c.static, c.missing) for c in schema.columns}
    assert kinds == {
        "age_years": ("integer", False, False),
        "sex": ("categorical", True, False),
        "weight_kg": ("continuous", True, True),
        "view": ("categorical", False, False),
        "findings": ("set", False, False),
    }
    assert schema.repeated
    assert schema.column("findings").categories == tuple(sorted(LABELS))
    assert schema.column("age_years").low >= 18


def test_rows_of_a_patient_are_together_and_in_order():
    shuffled = make_people()
    order = np.random.Generator(np.random.Philox(3)).permutation(shuffled.num_rows)
    first, second = read_people().table, prepare_records(shuffled.take(order), "who", "number").table
    assert first.column_names == ["patient", "visit", "age_years", "sex", "weight_kg", "view", "findings"]
    people, visit = second["patient"].to_numpy(), second["visit"].to_numpy()
    starts = np.flatnonzero(np.r_[True, np.diff(people) != 0])
    assert len(starts) == people.max() + 1
    assert (visit[starts] == 0).all()
    assert (np.diff(visit)[np.diff(people) == 0] == 1).all()
    assert sorted(first["age_years"].to_pylist()) == sorted(second["age_years"].to_pylist())


def test_an_order_that_is_more_than_a_count_is_learned_too():
    days = pa.array([37 * n % 900 for n in range(ROWS)])
    made = prepare_records(
        table(who=[f"p{n // 2}" for n in range(ROWS)] * 1, day=days, x=list("ab") * 30), "who", "day"
    )
    assert "day" in made.schema.names


def test_rules_clean_and_count():
    dirty = table(sex=["f", " M", "female", "", "M", "F"] * 10, weight_kg=["70", "n/a", "81.5", "64", "700", "60"] * 10)
    rules = {
        "sex": Rule(spellings={"f": "F", "female": "F"}),
        "weight_kg": Rule(kind="continuous", low=30, high=250),
        "age_years": Rule(high=60, outside="drop"),
    }
    made = prepare_records(dirty, rules=rules)
    assert made.schema.column("sex").categories == ("F", "M")
    assert changes(made, "sex") == {
        "blanks around it removed": 10, "spelling changed": 20, "empty text taken as missing": 10
    }  # fmt: skip
    assert changes(made, "weight_kg") == {
        "not a number: taken as missing": 10,
        "outside 30 to 250: taken as missing": 10,
    }
    dropped = changes(made, "age_years")["outside any to 60: row dropped"]
    assert made.table.num_rows == ROWS - dropped == made.patients
    assert made.rows_in == ROWS
    assert made.schema.column("weight_kg").high == 81.5


def test_text_is_split_into_sets_where_a_rule_says_so():
    made = prepare_records(table(found=["a|b", "", "b | b", None, "c", "a"] * 10), rules={"found": Rule(kind="set")})
    assert made.schema.column("found").categories == ("a", "b", "c")
    assert made.table["found"].to_pylist()[:4] == [["a", "b"], [], ["b"], None]
    assert made.schema.column("found").missing


def test_missing_values_stay_missing():
    made = prepare_records(table(x=[1.5, None, float("nan")] * 20))
    assert made.table["x"].null_count == 40
    assert made.schema.column("x").missing


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([None] * ROWS, "'x' is missing in every row"),
        (["a"] * ROWS, "'x' is 'a' in every row.*ignore 'x'"),
        ([7] * ROWS, "'x' is '7' in every row"),
        ([f"1999-01-{1 + n % 28:02d}" for n in range(ROWS)], "'x' holds dates as text"),
        ([f"{1 + n % 28}.1.1999" for n in range(ROWS)], "'x' holds dates as text"),
        ([datetime.date(1999, 1, 1 + n % 28) for n in range(ROWS)], "'x' holds dates; turn them"),
        ([str(n) for n in range(ROWS)], "numbers as text.*rules.x.kind"),
        ([[] for _ in range(ROWS)], "only empty sets"),
        ([{"a": 1}] * ROWS, "cannot be learned; ignore 'x'"),
        ([float("inf")] * ROWS, "no value within"),
    ],
)
def test_columns_without_use_are_refused_with_the_remedy(column, message):
    with pytest.raises(PopulationError, match=message):
        prepare_records(table(x=pa.array(column)))


def test_very_many_categories_are_refused():
    many = pa.table({"x": [f"word {n}" for n in range(100_000)]})
    with pytest.raises(PopulationError, match=r"'x' has 100000 different values, more than 200..*ignore 'x'"):
        prepare_records(many)


@pytest.mark.parametrize("rows", [0, 1])
def test_tables_of_no_or_one_row_are_refused(rows):
    with pytest.raises(PopulationError, match=f"{rows} rows"):
        prepare_records(table(x=list("ab") * 30).slice(0, rows))


def test_too_few_patients_are_refused():
    with pytest.raises(PopulationError, match="60 usable rows of 6 patients; at least 30"):
        prepare_records(table(who=[n % 6 for n in range(ROWS)], x=list("ab") * 30), "who")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patient": "patient_di"}, "no column 'patient_di'.*Did you mean 'patient_id'"),
        ({"ignore": ["nothing"]}, "ignore: the table has no column 'nothing'"),
        ({"order": "age_years"}, "name the patient's column too"),
        ({"patient": "patient_id", "order": "visit"}, "'visit' has a name that drawn tables need"),
        ({"rules": {"x": Rule(kind="colour")}}, "rules.x.kind: 'colour' is not known"),
        ({"rules": {"x": Rule(outside="guess")}}, "rules.x.outside"),
    ],
)
def test_options_that_do_not_fit_the_table_are_refused(options, message):
    made = table(patient_id=list(range(ROWS)), x=list("ab") * 30, visit=[6 * n % 77 for n in range(ROWS)])
    with pytest.raises(PopulationError, match=message):
        prepare_records(made, **options)


def test_an_order_that_is_ignored_is_not_learned():
    made = prepare_records(
        table(who=[n // 2 for n in range(ROWS)], day=[n * n for n in range(ROWS)]), "who", "day", ignore=["day"]
    )
    assert made.schema.names == ("age_years",)


def test_names_of_images_are_no_numbers():
    with pytest.raises(PopulationError, match="different values"):
        prepare_records(pa.table({"x": [f"{n:08d}_000" for n in range(300)]}))
