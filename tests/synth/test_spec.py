"""Recipes: what is refused and in which words, and round trips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from synth.errors import SpecError
from synth.plan import plan_cohort
from synth.recipe_part import MAX_NAME
from synth.spec import MAX_SUBJECTS, CohortSpec, load_spec, parse_spec

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "flows" / "specs").glob("*.toml"))
RECIPES = [path for path in SHIPPED if load_spec(path).imaging.model is None]  # others: tests/flows/test_learned_cohort


def refusal(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "recipe 'x.toml'")
    return str(caught.value)


def with_line(line: str) -> str:
    return f'name = "a"\nsubjects = 1\n{line}\n'


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("subject = 3", "subject: unknown key. Did you mean 'subjects'?"),
        ('[imaging]\ncontrast = ["T1w"]', "imaging.contrast: unknown key. Did you mean 'contrasts'?"),
        (
            "[imaging.visits]\nintervall_years = 3",
            "imaging.visits.intervall_years: unknown key. Did you mean 'interval_years'?",
        ),
        (
            "[imaging.visits]\nzzz = 3",
            "imaging.visits.zzz: unknown key. Known keys here: count, interval_years, share.",
        ),
        ("[population.where]\nage = [20, 30]", "population.where.age: unknown key. Did you mean 'age_years'?"),
        ("[gates]\nadherance_min = 0.9", "gates.adherance_min: unknown key. Did you mean 'adherence_min'?"),
        (
            '[schedule]\ncron = "0 3 * * 1"\ntime_zone = "UTC"',
            "schedule.time_zone: unknown key. Did you mean 'timezone'?",
        ),
        (
            "[[population.prevalence]]\ndiagnosis = 'x'\nshar = 0.1",
            "population.prevalence.0.shar: unknown key. Did you mean 'share'?",
        ),
        (
            "[[population.prevalence]]\nwhere = {age = [1, 2]}",
            "population.prevalence.0.where.age: unknown key. Did you mean 'age_years'?",
        ),
        ("[populatoin]", "populatoin: unknown key. Did you mean 'population'?"),
    ],
)
def test_unknown_keys_get_the_nearest_known_one(line: str, words: str) -> None:
    assert words in refusal(with_line(line))


@pytest.mark.parametrize(
    "name", ["../x", "", "a/b", "a" * (MAX_NAME + 1), "Demo", "a b", "-a", "é", "a.b", "..", "a\\u0000", "$HOME", "²"]
)
def test_names_that_are_no_file_names_are_refused(name: str) -> None:
    text = refusal(f'name = "{name}"\nsubjects = 1')
    assert "name" in text
    assert "40 characters" in text


@pytest.mark.parametrize("name", ["a", "a" * MAX_NAME, "ms-rare", "2026", "x-"])
def test_plain_names_are_taken(name: str) -> None:
    assert parse_spec(f'name = "{name}"\nsubjects = 1').name == name


@pytest.mark.parametrize(
    ("given_value", "bound"),
    [
        ("0", "greater than or equal to 1"),
        ("-1", "greater than or equal to 1"),
        ("10_000_000", f"less than or equal to {MAX_SUBJECTS}"),
    ],
)
def test_impossible_numbers_of_subjects_are_refused_with_the_range(given_value: str, bound: str) -> None:
    text = refusal(f'name = "a"\nsubjects = {given_value}')
    assert "subjects:" in text
    assert bound in text
    assert f"given: {int(given_value)}" in text


@pytest.mark.parametrize("value", ["true", '"12"', "1.5", "1.0", "[1]", "nan", "2026-01-01"])
def test_subjects_must_be_a_whole_number(value: str) -> None:
    assert "subjects:" in refusal(f'name = "a"\nsubjects = {value}')


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[population.targets]\nsex = {F = 0.7, M = 0.5}", "targets.sex sum to 1.2; shares must sum to 1 at most"),
        ("[population.targets]\ndiagnosis = {none = 1.5}", "less than or equal to 1 (given: 1.5)"),
        ("[population.targets]\nsex = {F = nan}", "finite number"),
        ("[population.targets]\nage_years = {young = 0.5}", "'young' must be written 'youngest-oldest' in years"),
        ("[population.targets]\nage_years = {'40-20' = 0.5}", "age band '40-20' must be written"),
        (
            "[population.targets]\nage_years = {'20-40' = 0.5, '30-50' = 0.1}",
            "the bands '20-40' and '30-50' overlap; let them only touch",
        ),
        ("[population.targets]\nage_years = {'20-40' = 0.5, '40-60' = 0.6}", "targets.age_years sum to 1.1"),
        ("[population]\nprevalence = [{diagnosis = 'x', share = 2}]", "less than or equal to 1 (given: 2)"),
        ("[population]\nprevalence = [{diagnosis = 'x'}]", "population.prevalence.0.share: required, but not given."),
        (
            "[population]\nprevalence = [{diagnosis = 'x', share = 0.1, where = {age_years = [3, 2]}}]",
            "youngest < oldest, got [3.0, 2.0]",
        ),
        ("[population]" + "\n[[population.prevalence]]\ndiagnosis = 'x'\nshare = 0.1" * 2, "'x' is given 2 times"),
        ("[population.where]\nage_years = [60, 20]", "youngest < oldest, got [60.0, 20.0]"),
        ("[population.where]\nage_years = [60]", "population.where.age_years"),
        ("[imaging]\nsnr = [60, 20]", "lowest <= highest <= 1000, got [60.0, 20.0]"),
        ("[imaging]\nsnr = [0, 20]", "2 <= lowest"),
        ("[imaging]\ncontrasts = []", "imaging.contrasts"),
        ('[imaging]\ncontrasts = ["T1w", "T1w"]', "each value may be listed once, got ['T1w', 'T1w']"),
        ("[imaging.visits]\ncount = 0", "imaging.visits.count: Input should be greater than or equal to 1 (given: 0)"),
        ("[imaging.visits]\ninterval_years = 0", "imaging.visits.interval_years: Input should be greater than 0"),
        ("[gates]\nimages_complete = false", "gates.images_complete: Input should be True"),
        ("[gates.adherence]\nsnr = 1.2", "gates.adherence.snr"),
        ("imaging = 3", "imaging:"),
        ("seed = -1", "seed: Input should be greater than or equal to 0 (given: -1)"),
        ("seed = 9223372036854775808", "seed: Input should be less than 9223372036854775808"),
        ("[schedule]\ntimezone = 'UTC'", "schedule.cron: required, but not given."),
    ],
)
def test_impossible_values_are_refused_naming_field_value_and_rule(line: str, words: str) -> None:
    text = refusal(with_line(line))
    assert text.startswith("recipe 'x.toml' cannot be used:\n")
    assert words in text


def test_every_problem_is_named_at_once() -> None:
    text = refusal('subjects = "many"\nseeed = 3\n[imaging]\nsnr = [1, 2]')
    for words in ("name: required", "subjects:", "seeed: unknown key. Did you mean 'seed'?", "imaging: snr"):
        assert words in text


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('name = "a"\nsubjects =\n', "line 2"),
        ('name = "a"\n\n[imaging\n', "line 3"),
        ('name = "a"\nname = "b"\n', "line 2"),
    ],
)
def test_malformed_toml_names_the_line(text: str, place: str) -> None:
    words = refusal(text)
    assert words.startswith("recipe 'x.toml' is not valid TOML:")
    assert place in words


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "image.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing.toml", tmp_path, binary):
        with pytest.raises(SpecError, match=r"recipe '.*' cannot be read: .*Give the path of a TOML file"):
            load_spec(path)


def test_specs_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load_spec(RECIPES[0]).imaging.resolution_mm = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[evaluation]\nkind = 'T1w'", "evaluation.reference: required, but not given."),
        ("[evaluation]\nreferense = 'x'", "evaluation.referense: unknown key. Did you mean 'reference'?"),
        ("[evaluation]\nreference = 'x'\nfeatures = ['pixel']", "Input should be 'encoder', 'radiomics' or 'pixels'"),
        ("[evaluation]\nreference = 'x'\nfeatures = ['pixels', 'pixels']", "each value may be listed once"),
        ("[evaluation]\nreference = 'x'\nutility = 'slow'", "Input should be 'off', 'quick' or 'full'"),
        ("[evaluation]\nreference = 'x'\nkind = 'T2w'", "evaluation.kind: 'T2w' is not among the contrasts T1w."),
        (
            "[imaging]\ncontrasts = ['T1w', 'FLAIR']\n[evaluation]\nreference = 'x'",
            "evaluation.kind: required where there are several contrasts; one of T1w, FLAIR",
        ),
    ],
)
def test_impossible_evaluations_are_refused(line: str, words: str) -> None:
    assert words in refusal(with_line(line))


# --------------------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_load_and_plan(path: Path) -> None:
    spec = load_spec(path)
    assert spec.name == path.stem
    assert spec.description
    plan = plan_cohort(spec)
    assert plan.images >= spec.subjects
    assert sum(shard.subjects for shard in plan.shards) == spec.subjects


def test_the_three_recipes_are_shipped() -> None:
    assert {path.stem for path in RECIPES} >= {"demo", "ageing", "ms-rare"}


shares = st.floats(0, 0.5)
words = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=12)
word_lists = st.lists(words, min_size=1, max_size=3).map(tuple) | st.none()
ranges = st.tuples(st.floats(2, 1000), st.floats(2, 1000)).map(lambda pair: (min(pair), max(pair)))
ages = st.tuples(st.floats(0, 60), st.floats(61, 120))
specs = st.builds(
    dict,
    name=words,
    description=st.text(max_size=30),
    subjects=st.integers(1, MAX_SUBJECTS),
    seed=st.integers(0, 2**63 - 1),
    population=st.fixed_dictionaries(
        {
            "where": st.fixed_dictionaries(
                {"age_years": ages | st.none(), "sex": word_lists, "manufacturer": word_lists}
            ),
            "targets": st.fixed_dictionaries(
                {
                    "sex": st.dictionaries(words, shares, max_size=2) | st.none(),
                    "age_years": st.fixed_dictionaries({"20-40": shares}) | st.none(),
                }
            ),
            "prevalence": st.lists(
                st.fixed_dictionaries(
                    {
                        "diagnosis": words,
                        "share": shares,
                        "where": st.fixed_dictionaries({"sex": word_lists, "age_years": ages | st.none()}),
                    }
                ),
                max_size=1,
            ),
        }
    ),
    imaging=st.fixed_dictionaries(
        {
            "contrasts": st.lists(words, min_size=1, max_size=4, unique=True).map(tuple),
            "resolution_mm": st.floats(0.1, 10),
            "snr": ranges,
            "visits": st.fixed_dictionaries(
                {"count": st.integers(1, 20), "interval_years": st.floats(0.01, 30), "share": st.floats(0, 1)}
            ),
        }
    ),
    gates=st.fixed_dictionaries({"adherence": st.dictionaries(words, shares, max_size=3)}),
    schedule=st.none() | st.fixed_dictionaries({"cron": words}),
)


@settings(max_examples=80, deadline=None)
@given(specs)
def test_a_spec_survives_json(data: dict[str, Any]) -> None:
    spec = CohortSpec.model_validate(data)
    again = CohortSpec.model_validate_json(spec.model_dump_json())
    assert again == spec
    assert again.content_hash == spec.content_hash


LEARNED = """
name = "chest"
subjects = 3
population.source = "chest-radiographs"
population.where = { view = ["PA"], age_years = [20, 60], findings = { all = ["Mass"] } }
population.targets = { findings = { Effusion = 0.5 }, sex = { F = 0.5 } }
imaging = { engine = "flow", model = "radiographs-64" }
evaluation = { reference = "chest", kind = "chest radiograph" }
"""


def test_attributes_that_only_a_learned_population_knows_are_gathered() -> None:
    spec = parse_spec(LEARNED)
    where, targets = spec.population.where, spec.population.targets
    assert (where.age_years, targets.sex) == ((20.0, 60.0), {"F": 0.5})
    assert where.attributes["view"] == ("PA",)
    assert where.attributes["findings"].all == ("Mass",)  # type: ignore[union-attr]
    assert targets.attributes == {"findings": {"Effusion": 0.5}}
    assert CohortSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(SpecError, match=r"population.where.view: unknown key"):
        parse_spec(LEARNED.replace("chest-radiographs", "adult-brain"))


def test_of_a_pinned_model_only_the_hash_counts() -> None:
    spec = parse_spec(LEARNED)

    def pinned(name: str, digit: str) -> str:
        imaging = spec.imaging.model_copy(update={"model": f"{name}@sha256:{digit * 64}"})
        return spec.model_copy(update={"imaging": imaging}).content_hash

    assert pinned("radiographs-64", "a") == pinned("models:/cxr/3", "a") != pinned("models:/cxr/3", "b")
