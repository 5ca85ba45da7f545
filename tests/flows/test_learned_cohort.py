"""A cohort drawn by a model for a learned population: its model is pinned, kept, used by workers and by replay."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pyarrow as pa
import pytest
import torch
from mlflow.tracking import MlflowClient

from catalog import CohortRow, commit_cohort, ensure_catalog, open_catalog
from flows.deployments import SHIPPED_SPECS
from flows.evaluate import evaluate_build
from flows.models import pin_models, plan_without_trace
from flows.replay import replay_images
from flows.run import plan_build
from flows.settings import Settings, load_settings
from flows.shards import render_images, render_shard
from flows.tracking import finish_run, profile_build, start_run
from synth.errors import ModelError, PopulationError, SpecError
from synth.nouns import Report
from synth.numerics import numeric_profile
from synth.plan import CohortPlan, plan_cohort
from synth.population import SHIPPED, find_population
from synth.spec import load_spec, parse_spec
from tests.learned_models import KIND, make_tiny_model

RECIPE = """
name = "chest"
subjects = 70
seed = 5
population.source = "chest-radiographs"
population.where = { view = ["PA"] }
population.targets = { findings = { Effusion = 0.5, Mass = 0.1 }, sex = { F = 0.8 } }
imaging = { engine = "flow", model = "MODEL", visits = { count = 2 } }
"""


@dataclass(frozen=True)
class Built:
    settings: Settings
    plan: CohortPlan
    model: Path
    sha256: str


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    place = tmp_path_factory.mktemp("learned")
    sha256 = make_tiny_model(place / "tiny")
    settings = load_settings(place / "home", workers=1)
    ensure_catalog(settings.home)
    spec = pin_models(parse_spec(RECIPE.replace("MODEL", str(place / "tiny"))), settings)
    plan = plan_cohort(spec, models=settings.shelf)
    records = [render_shard(settings.home, spec.model_dump_json(), shard) for shard in plan.shards]
    row = CohortRow(
        plan.cohort_id, spec.name, spec.content_hash, spec.images_hash, spec.model_dump_json(), "flow",
        plan.engine_version, spec.population.source, plan.population_version, spec.subjects, plan.images,
    )  # fmt: skip
    commit_cohort(settings.home, row, records)
    return Built(settings, plan, place / "tiny", sha256)


def test_the_recipe_is_pinned_and_its_model_kept(built: Built) -> None:
    imaging = built.plan.spec.imaging
    assert (imaging.model, imaging.contrasts) == (f"tiny@sha256:{built.sha256}", (KIND,))
    assert sorted(path.name for path in (built.settings.home.models / built.sha256).iterdir()) == [
        "model.json", "weights.safetensors",
    ]  # fmt: skip
    assert pin_models(built.plan.spec, built.settings) == built.plan.spec
    assert plan_without_trace(built.plan.spec, built.settings).cohort_id == built.plan.cohort_id


def test_images_are_replayed_by_the_kept_model(built: Built) -> None:
    with open_catalog(built.settings.home) as catalog:
        ids = [row[0] for row in catalog.sql("SELECT image_id FROM images ORDER BY image_id").rows()]
        image = catalog.image(ids[0])
        assert len(ids) == built.plan.images > 70
        subject = catalog.subject(image.scan.subject_id)
    parameters = image.scan.parameters
    assert parameters["model"] == built.sha256
    assert parameters["row"] | parameters["not_shown"] == {
        "sex": subject.sex,
        "view": "PA",
        "age_years": subject.visits[0].attributes["age_years"],
        "findings": parameters["row"]["findings"],
        **parameters["not_shown"],
    }
    assert set(parameters["not_shown"].get("findings", ())) <= set(subject.visits[0].attributes["findings"])
    assert all(found.identical for found in replay_images(built.settings, [ids[0], ids[40], ids[-1]]))


def test_the_numeric_profile_says_what_the_network_computes_with(built: Built) -> None:
    client = MlflowClient(built.settings.tracking_uri)
    run = start_run(built.settings, built.plan)
    logged = mlflow.artifacts.load_dict(f"{client.get_run(run).info.artifact_uri}/environment.json")
    assert logged == profile_build(built.settings, built.plan)
    assert logged["torch"] == torch.__version__
    assert (logged["precision"], logged["torch_threads"]) == ("bfloat16", "1")
    assert numeric_profile().items() - logged.items() == {("precision", "float32")}
    assert "torch" not in numeric_profile()


def test_scores_of_labels_that_were_read_from_images_are_logged(built: Built) -> None:
    run = start_run(built.settings, built.plan)
    report = Report(built.plan.cohort_id, "", {"adherence.shown findings=Mass": 0.5})
    finish_run(built.settings, run, built.plan, report, "released", 1, pa.table({"n": [1]}), [], {})
    logged = MlflowClient(built.settings.tracking_uri).get_run(run)
    assert logged.data.metrics == {"adherence.shown findings-Mass": 0.5}  # MLflow takes no "="
    assert logged.data.tags["status"] == "released"


def test_a_changed_kept_model_ends_a_build_before_anything_is_registered(built: Built, tmp_path: Path) -> None:
    settings = load_settings(tmp_path / "home")
    pinned = pin_models(parse_spec(RECIPE.replace("MODEL", str(built.model))), settings)
    weights = settings.home.models / built.sha256 / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(ModelError, match=r"damaged or was changed: its SHA-256 is not the registered one.*Restore"):
        plan_build(pinned, settings)
    weights.write_bytes(pickle.dumps({"weights": 1}))
    with pytest.raises(ModelError, match="damaged or was changed"):
        plan_build(pinned, settings)
    assert not settings.home.metadata.exists()


def test_images_do_not_depend_on_what_is_drawn_with_them(built: Built) -> None:
    spec, shelf = built.plan.spec, built.settings.shelf
    people = find_population(spec.population.source, shelf).draw_subjects(spec, built.plan.cohort_id, 3, 5)
    alone = [next(render_images(spec, [one], built.settings.home)) for one in people]
    with open_catalog(built.settings.home) as catalog:
        for image in alone:
            np.testing.assert_array_equal(image.pixels, catalog.image(image.image_id).pixels)


def test_gates_count_the_populations_own_attributes(built: Built) -> None:
    with open_catalog(built.settings.home) as catalog:
        report = evaluate_build(catalog, built.plan)
    assert report.passed
    assert {gate.gate for gate in report.gates} == {"images_complete", "population.findings", "population.sex"}


def test_addresses_that_name_nothing_are_explained(built: Built, tmp_path: Path) -> None:
    def pin(model: str, source: str = "chest-radiographs") -> None:
        pin_models(parse_spec(RECIPE.replace("MODEL", model).replace("chest-radiographs", source)), built.settings)

    with pytest.raises(ModelError, match=r"no model of images.*Give the name of a shipped one, the folder"):
        pin("nothing")
    with pytest.raises(ModelError, match="is not in"):
        pin(f"tiny@sha256:{'0' * 64}")
    damaged = Path(shutil.copytree(built.model, tmp_path / "damaged"))
    weights = bytearray((damaged / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (damaged / "weights.safetensors").write_bytes(weights)
    with pytest.raises(ModelError, match="damaged or was changed"):
        pin(str(damaged))
    (damaged / "weights.safetensors").write_bytes(b"\x80\x04K\x01.")  # a pickle
    with pytest.raises(ModelError, match="damaged or was changed"):
        pin(str(damaged))
    with pytest.raises(PopulationError, match="no population model"):
        pin(str(built.model), str(tmp_path / "nobody"))
    assert not [path for path in built.settings.home.models.iterdir() if path.name != built.sha256]


@pytest.mark.parametrize(("name", "share"), [("radiographs", 0.48), ("demo-radiographs", 0.5), ("women-over-60", 0.8)])
def test_shipped_recipes_plan_the_people_that_they_ask_for(built: Built, name: str, share: float) -> None:
    spec = load_spec(SHIPPED_SPECS / f"{name}.toml")
    assert (spec.name, spec.imaging.model) == (name, "radiographs-64")
    assert spec.description
    plan = plan_without_trace(spec, built.settings)
    assert plan.images == spec.subjects
    people = find_population(spec.population.source).draw_subjects(plan.spec, plan.cohort_id, 0, spec.subjects)
    women = sum(one.sex == "F" for one in people) / spec.subjects
    assert women == pytest.approx(share, abs=0.01)
    low, high = spec.population.where.age_years or (0, 0)
    assert all(low <= one.age_years <= high for one in people)


def test_a_damaged_kept_model_is_refused_and_restored_from_its_address(built: Built, tmp_path: Path) -> None:
    settings = load_settings(tmp_path / "home")
    spec = parse_spec(RECIPE.replace("MODEL", str(built.model)))
    pin_models(spec, settings)
    kept = settings.home.models / built.sha256 / "model.json"
    kept.write_text(json.dumps({"format": "other"}))
    pin_models(spec, settings)
    assert kept.read_bytes() == (built.model / "model.json").read_bytes()


def test_a_local_population_is_pinned_too(built: Built, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SHIPPED / "chest-radiographs", tmp_path / "mine"))
    spec = parse_spec(RECIPE.replace("MODEL", str(built.model)).replace("chest-radiographs", str(folder)))
    pinned = pin_models(spec, built.settings)
    assert pinned.population.source.startswith("mine@sha256:")
    plan = plan_cohort(pinned, models=built.settings.shelf)
    assert plan.images == built.plan.images
    shutil.rmtree(built.settings.home.models / pinned.population.source.partition(":")[2])


def test_what_an_engine_and_its_subjects_do_not_share_is_refused(built: Built) -> None:
    chest = RECIPE.partition("imaging")[0]
    with pytest.raises(
        SpecError, match=r"draws heads, so the population must give.*this one gives age_years, findings"
    ):
        plan_without_trace(parse_spec(chest), built.settings)
    with pytest.raises(SpecError, match="takes no model"):
        plan_without_trace(parse_spec('name = "x"\nsubjects = 1\nimaging.model = "tiny"'), built.settings)
    with pytest.raises(SpecError, match=r"imaging.model: engine 'flow' needs one"):
        plan_without_trace(parse_spec('name = "x"\nsubjects = 1\nimaging.engine = "flow"'), built.settings)
    unheard = RECIPE.replace("MODEL", str(built.model)).replace("Mass = 0.1", "Hernia = 0.1")
    with pytest.raises(SpecError, match="findings 'Hernia' is asked for, but model 'tiny' was taught Effusion, Mass"):
        plan_without_trace(parse_spec(unheard), built.settings)
    unknown = RECIPE.replace("MODEL", str(built.model)).replace('["PA"]', '["PA"], sex = ["F"]')
    with pytest.raises(SpecError, match=r"imaging.snr: engine 'flow' takes none"):
        plan_without_trace(parse_spec(unknown.replace("visits =", "snr = [5, 6], visits =")), built.settings)
