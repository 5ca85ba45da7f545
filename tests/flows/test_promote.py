"""Promotion of registered models: the alias moves or stays, and MLflow says why. The command is run in test_train."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog import open_catalog
from flows import model_registry
from flows.model_registry import CANDIDATE, CHAMPION, read_aliases, register_model
from flows.promote import Job, PromotionResult, fetch_entrants, judge, read_images, record
from flows.promote_cli import show_decision
from flows.promotions import PromotionRequest, run_promotion
from flows.settings import Settings, load_settings
from flows.training_data import read_training_data
from synth.errors import ModelError, StorageError
from synth.evaluation.images.features.base import tell_nobody
from synth.learned.model_files import save_model
from synth.learned.recipe import parse_train_spec
from synth.learned.training import train_model
from tests.conftest import run_cohortium
from tests.flows.made_images import encode
from tests.synth.evaluation.images.phantoms import draw_phantoms

RECIPE = """
name = "phantoms"
reference = "phantoms"
kind = "phantom"
shape = [32, 32]
attributes = ["sex"]
architecture = { name = "gaussian", latent = 48 }
"""
ASKED = PromotionRequest("phantoms", None, "A. Steward", 120, ("pixels",), 0)


def write_phantoms(path: Path, patients: int) -> Path:
    images = draw_phantoms(patients, seed=1)
    pixels = np.round(255 * images.images(slice(None))).astype(np.uint8)
    columns = {name: images.records.column(name) for name in ("image_id", "patient_id", "sex")}
    pq.write_table(pa.table({**columns, "png": [encode(one) for one in pixels]}), path)
    return path


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with a Reference and two registered models: version 1 is made of noise, version 2 is the candidate."""
    place = tmp_path_factory.mktemp("promote")
    home = place / "home"
    done = run_cohortium("import", write_phantoms(place / "real.parquet", 260), "--name", "phantoms", "--home", home)
    assert done.code == 0, done.err
    settings = load_settings(home, workers=1)
    spec = parse_train_spec(RECIPE)
    with open_catalog(home) as catalog:
        (place / "read").mkdir()
        data = read_training_data(catalog, spec, place / "read", tell_nobody)
        model = train_model(spec, data.train, place / "training").generator
    about = {"reference": "phantoms", "reference_fingerprint": data.fingerprint}
    weights = model.network.state_dict()
    for version, factor in ((1, 3.0), (2, 1.0)):
        weights_now = {name: values * factor for name, values in weights.items()}
        folder = place / f"model-{version}"
        save_model(folder, replace(model.description, about=about), weights_now)
        register_model(settings, folder, "phantoms", {}, {}, {}, model_registry.IMAGES)
    return settings


def promote(settings: Settings, folder: Path, **changed: Any) -> Any:
    """Run the tasks of the flow, without Prefect's server."""
    job = Job(settings, replace(ASKED, **changed), tell_nobody)
    candidate, champion = fetch_entrants.fn(job)
    data = read_images.fn(job, candidate, folder)
    made = judge.fn(job, candidate, champion, data)
    return made, record.fn(job, candidate, champion, data, made)


def read_decision(settings: Settings, run: str) -> dict[str, Any]:
    with model_registry.use_store(settings):
        return dict(json.loads(mlflow.artifacts.load_text(f"runs:/{run}/promotion.json")))


def test_a_bad_champion_gives_way_to_a_better_model_and_not_back(settings: Settings, tmp_path: Path) -> None:
    assert read_aliases(settings, "phantoms") == {CANDIDATE: "2"}
    with model_registry.use_store(settings):
        mlflow.MlflowClient().set_registered_model_alias("phantoms", CHAMPION, "1")
    made, run = promote(settings, tmp_path)
    assert made.promoted, made.reasons
    assert read_aliases(settings, "phantoms") == {CANDIDATE: "2", CHAMPION: "2"}
    decision = read_decision(settings, run)
    assert (decision["candidate"], decision["champion"], decision["by"]) == ("phantoms 2", "phantoms 1", "A. Steward")
    assert decision["difference"]["high"] < 0
    assert decision["scores"]["phantoms 2"]["value"] < decision["scores"]["phantoms 1"]["value"]
    with model_registry.use_store(settings):
        tags = mlflow.MlflowClient().get_model_version("phantoms", "2").tags
    assert (tags["promotion"], tags["promotion_run"]) == ("promoted", run)
    back, run = promote(settings, tmp_path, version="1")
    assert not back.promoted
    assert read_aliases(settings, "phantoms")[CHAMPION] == "2"
    assert not read_decision(settings, run)["promoted"]


def test_what_cannot_be_judged_is_explained(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is the champion already"):
        promote(settings, tmp_path, version=read_aliases(settings, "phantoms").get(CHAMPION, "2"))
    with pytest.raises(ModelError, match=r"registered as 'phantom'\. Did you mean 'phantoms'"):
        run_promotion(settings, replace(ASKED, name="phantom"), tell_nobody)
    with pytest.raises(ModelError, match="--images: 3 decide nothing; draw 50 at least"):
        run_promotion(settings, replace(ASKED, images=3), tell_nobody)
    candidate, _ = fetch_entrants.fn(Job(settings, replace(ASKED, version="1"), tell_nobody))
    other = replace(candidate.model.description, about={"reference": "phantoms", "reference_fingerprint": "0" * 64})
    candidate.model.description = other
    with pytest.raises(ModelError, match="is not the one that phantoms 1 learned from"):
        read_images.fn(Job(settings, ASKED, tell_nobody), candidate, tmp_path)


def test_a_store_that_refuses_moves_nothing(settings: Settings, tmp_path: Path) -> None:
    lost = replace(settings, tracking_uri=f"sqlite:///{tmp_path / 'nowhere' / 'mlflow.db'}")
    (tmp_path / "nowhere").write_text("a file, no folder")
    with pytest.raises(StorageError, match="is not recorded, and the champion is as before"):
        model_registry.record_decision(lost, "phantoms", "1", True, {}, {}, {})


def test_the_decision_is_shown_with_its_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    decision = {
        "score": "kernel_distance", "features": "encoder", "promoted": False, "reasons": ["too alike"],
        "scores": {"m 2": {"value": 0.125, "low": 0.1, "high": None, "floor": 0.01}},
        "gates": [{"passed": False, "reason": "copies: many"}],
    }  # fmt: skip
    show_decision(PromotionResult("m", "2", decision, None, "abc", 3.0, ()))
    text = capsys.readouterr().out
    assert "0.125" in text
    assert "0.1 to ?" in text
    assert "gate FAILS: copies: many" in text
    assert "m version 2 is not promoted" in text
    assert "champion: none" in text
