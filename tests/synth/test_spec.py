"""Recipes: what is refused and in which words, and a hash that changes with what was asked and with nothing else."""

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

PINNED = """
name = "pinned"
subjects = 12
seed = 3
[population]
where = {age_years = [20, 60], sex = ["F"]}
targets = {diagnosis = {multiple-sclerosis = 0.25}}
[imaging]
contrasts = ["T1w", "FLAIR"]
resolution_mm = 2.0
snr = [20, 40]
visits = {count = 2, interval_years = 1.5, share = 0.5}
[gates]
adherence_min = 0.9
adherence = {snr = 0.8}
"""
PREVALENCE = """
[[population.prevalence]]
diagnosis = "multiple-sclerosis"
share = 0.12
where = { sex = ["F"], age_years = [20, 40] }
"""
ARMS = """
[population.arms]
placebo = { share = 0.5 }
drug = { share = 0.5, new_lesions = 0.2 }
"""
LABELS = f"""
[imaging.anatomy]
source = "labels"
labels = "x@sha256:{"0" * 64}"
table = "freesurfer"
"""
EVALUATION = """
[evaluation]
reference = "brains"
kind = "T1w"
policy = "default"
"""


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
        parse_spec(PINNED).imaging.resolution_mm = 1.0  # type: ignore[misc]


# -------------------------------------------------------------------------------------------------------------- hashes


def test_the_hash_of_a_recipe_is_the_same_in_every_version() -> None:
    """If this fails, stored cohorts lose their recipe: change the hash only together with a migration."""
    spec = parse_spec(PINNED)
    assert spec.content_hash == "c46a522ff7545268f0150902ad34f8d3112a816cfef769ce8082de09c5870ab8"
    assert spec.images_hash == "c911a485aec2cf3c2d538184141e39863d99f7152b91064b1e4727b309805f5f"


def test_the_hash_ignores_order_comments_spelling_and_what_does_not_change_the_cohort() -> None:
    other = """
    # a comment
    seed = 3
    description = "other words"
    subjects = 1_2
    name = 'pinned'
    gates = {adherence = {snr = 0.80}, adherence_min = 0.9}
    schedule = {cron = "0 3 * * 1"}
    [imaging]
    visits = {share = 0.5, interval_years = 1.5, count = 2}
    snr = [20.0, 4e1]
    resolution_mm = 2
    contrasts = ["T1w", "FLAIR"]
    engine = "mri" # the default
    [population.targets.diagnosis]
    multiple-sclerosis = 0.25
    [population.where]
    sex = ["F"]
    age_years = [20.0, 60.0]
    """
    assert parse_spec(other).content_hash == parse_spec(PINNED).content_hash


CHANGES: dict[str, Any] = {
    "name": "other",
    "subjects": 13,
    "seed": 4,
    "population.source": "other",
    "population.where.age_years": (20.0, 61.0),
    "population.where.sex": ("M",),
    "population.where.diagnosis": ("none",),
    "population.where.manufacturer": ("SIEMENS",),
    "population.where.field_strength_t": (3.0,),
    "population.where.attributes": {"view": ("PA",)},
    "population.targets.attributes": {"view": {"PA": 0.5}},
    "imaging.model": "radiographs",
    "imaging.redraws": 3,
    "imaging.field_strength_t": 3.0,
    "imaging.protocol": {"T1w": {"te_ms": (4.0, 5.0)}},
    "imaging.effects": {"ghosts": {"every": 2.0}},
    "imaging.pairs": {"motion": {}},
    "population.twins.diagnosis": "none",
    "population.twins.sex": "other",
    "population.twins.manufacturer": "GE",
    "population.twins.field_strength_t": 1.5,
    "population.targets.sex": {"F": 0.5},
    "population.targets.diagnosis": {"multiple-sclerosis": 0.26},
    "population.targets.age_years": {"20-40": 0.5},
    "population.prevalence.diagnosis": "alzheimer-disease",
    "population.prevalence.share": 0.2,
    "population.prevalence.where.sex": ("M",),
    "population.prevalence.where.age_years": (20.0, 41.0),
    "population.arms.share": 0.4,
    "population.arms.new_lesions": 0.5,
    "population.arms.loss": 0.5,
    "imaging.engine": "other",
    "imaging.contrasts": ("FLAIR", "T1w"),
    "imaging.resolution_mm": 1.0,
    "imaging.snr": (20.0, 41.0),
    "imaging.anatomy.kind": "head",
    "imaging.anatomy.source": "template",
    "imaging.anatomy.labels": ("other@sha256:" + "1" * 64,),
    "imaging.anatomy.table": "brainweb",
    "imaging.anatomy.volumes": "population",
    "imaging.anatomy.deformation": 0.5,
    "imaging.visits.count": 3,
    "imaging.visits.interval_years": 1.6,
    "imaging.visits.share": 0.6,
    "gates.adherence_min": 0.91,
    "gates.adherence": {"snr": 0.81},
    "gates.population_error_max": 0.03,
    "evaluation.reference": "others",
    "evaluation.kind": "FLAIR",
    "evaluation.policy": {"name": "own", "gate": []},
    "evaluation.gates": {"copies": {"at_most": 0.001}},
    "evaluation.features": ("pixels",),
    "evaluation.utility": "off",
}
UNHASHED = {"description", "schedule.cron", "schedule.timezone", "gates.images_complete"}  # the last can only be true


def field_names(model: Any, prefix: str = "") -> set[str]:
    names = set()
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner = next((kind for kind in kinds if hasattr(kind, "model_fields")), None)
        names |= field_names(inner, f"{prefix}{name}.") if inner else {prefix + name}
    return names


def test_the_list_of_changes_covers_every_field() -> None:
    assert set(CHANGES) | UNHASHED == field_names(CohortSpec)


@pytest.mark.parametrize("field", sorted(CHANGES))
def test_the_hash_changes_with_every_field(field: str) -> None:
    added = {"prevalence": PREVALENCE, "evaluation": EVALUATION, "arms": ARMS}
    more = next((text for name, text in added.items() if name in field), "")
    more += '[population.twins]\nsex = "F"\n' if "twins" in field else ""
    spec = parse_spec(PINNED.replace("[gates]", LABELS + "[gates]" if "anatomy" in field else "[gates]") + more)
    data = spec.model_dump()
    *parents, last = field.split(".")
    place = data
    for parent in parents:
        place = place[parent][0] if parent == "prevalence" else place[parent]
        place = place["drug"] if parent == "arms" else place
    assert place[last] != CHANGES[field]
    place[last] = CHANGES[field]
    if field == "population.arms.share":
        data["population"]["arms"]["placebo"]["share"] = 0.6
    if field == "imaging.anatomy.source":  # the template takes no label maps
        data["imaging"]["anatomy"] = {"source": "template"}
    changed = CohortSpec.model_validate(data)
    assert changed.content_hash != spec.content_hash
    assert (changed.images_hash == spec.images_hash) == field.startswith(("gates.", "evaluation."))


def test_an_evaluation_is_part_of_the_hash_only_where_it_is_asked_for() -> None:
    asked = parse_spec(PINNED + EVALUATION)
    assert asked.content_hash != parse_spec(PINNED).content_hash
    assert asked.images_hash == parse_spec(PINNED).images_hash


def test_the_file_of_a_policy_is_read_beside_the_recipe_and_its_content_counts(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(PINNED + EVALUATION.replace('"default"', '"own.toml"'))
    hashes = []
    for limit in (0.1, 0.2, 0.1):
        (tmp_path / "own.toml").write_text(f'name = "own"\n[[gate]]\nname = "a"\nat_most = {limit}\n')
        spec = load_spec(recipe)
        assert spec.evaluation is not None
        assert spec.evaluation.policy == {"name": "own", "gate": [{"name": "a", "at_most": limit}]}
        assert CohortSpec.model_validate_json(spec.model_dump_json()) == spec
        hashes.append(spec.content_hash)
    assert hashes[0] == hashes[2] != hashes[1]
    (tmp_path / "own.toml").write_text("gate = [")
    with pytest.raises(SpecError, match=r"evaluation.policy: 'own.toml' cannot be read: .*Give a TOML file"):
        load_spec(recipe)
    (tmp_path / "own.toml").unlink()
    with pytest.raises(SpecError, match=r"evaluation.policy: 'own.toml' cannot be read: .*Give a TOML file of gates"):
        load_spec(recipe)


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
