"""What stops a training: MLflow that is not there or breaks off, patients that nobody knows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from catalog import open_catalog, resolve_home
from flows import model_registry
from flows.model_registry import CANDIDATE, check_registry, register_model
from flows.settings import Settings, load_settings
from flows.train_facts import describe_patients, write_card
from flows.training_data import read_training_data
from flows.trainings import run_training
from synth.errors import ModelError, StorageError
from synth.evaluation.images.features.base import tell_nobody
from synth.learned.recipe import parse_train_spec
from tests.flows.conftest import Run
from tests.flows.made_images import write_real
from tests.flows.test_train import RECIPE
from tests.learned_models import make_tiny_model

NOWHERE = "http://127.0.0.1:9"  # the port of discard: nobody listens


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return replace(load_settings(tmp_path / "home"), tracking_uri=NOWHERE)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    make_tiny_model(tmp_path / "tiny")
    return tmp_path / "tiny"


def register(settings: Settings, model: Path) -> Any:
    return register_model(settings, model, "tiny", {}, {}, {}, model_registry.IMAGES)


def test_an_mlflow_that_is_not_there_is_named_before_and_after_the_work(nowhere: Settings, model: Path) -> None:
    with pytest.raises(StorageError, match=r"nothing was done yet: MLflow's store 'http://127.0.0.1:9' refused"):
        check_registry(nowhere)
    with pytest.raises(StorageError, match=r"is saved in '.*tiny', but not registered.*Run the same command again"):
        register(nowhere, model)
    assert (model / "weights.safetensors").is_file()


@pytest.mark.parametrize("known", [False, True])
def test_a_registry_that_breaks_off_keeps_nothing_half_registered(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    settings = load_settings(tmp_path / "home")
    if known:
        register(settings, model)

    def refuse(*_: Any) -> None:
        raise MlflowException("the connection was lost")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", refuse)
        with pytest.raises(StorageError, match=r"not registered: .*the connection was lost"):
            register(settings, model)
    client = MlflowClient(settings.tracking_uri)
    names = [each.name for each in client.search_registered_models()]
    assert names == (["tiny"] if known else [])
    if known:
        assert [str(version.version) for version in client.search_model_versions("name='tiny'")] == ["1"]
        assert str(client.get_model_version_by_alias("tiny", CANDIDATE).version) == "1"


def test_patients_who_are_not_known_and_mlflow_are_asked_for_first(
    nowhere: Settings, here: Run, tmp_path: Path
) -> None:
    table = pq.read_table(write_real(tmp_path / "real.parquet", 20, 1)).drop_columns(["patient_id", "follow_up"])
    pq.write_table(table, tmp_path / "nobody.parquet")
    code, _, err = here("import", "nobody.parquet", "--name", "discs")
    assert code == 0, err
    (tmp_path / "read").mkdir()
    spec = parse_train_spec(RECIPE)
    with open_catalog(resolve_home(tmp_path / "home")) as catalog:
        with pytest.raises(ModelError, match=r"does not say whose its images are.*patients = 'images'"):
            read_training_data(catalog, spec, tmp_path / "read", tell_nobody)
        spec = spec.model_copy(update={"patients": "images"})
        data = read_training_data(catalog, spec, tmp_path / "read", tell_nobody)
    about = {"patients": "images", "train_images": len(data.train), "train_patients": 14, "code": "", "steps": 1}
    card = write_card(spec, data, {**about, "privacy": None})
    assert "of patients who are not known (each image counts as a patient" in card
    assert describe_patients({**about, "patients": "known"}) == "14 patients"
    with pytest.raises(StorageError, match=r"nothing was done yet.*or leave it out with --no-register"):
        run_training(nowhere, spec, None, True, tell_nobody)
    assert not (tmp_path / "home" / "training").exists()
