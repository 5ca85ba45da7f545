"""The hash of a recipe: it changes with what was asked and with nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from synth.errors import SpecError
from synth.spec import CohortSpec, load_spec, parse_spec

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
