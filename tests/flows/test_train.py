"""From a Reference to a registered model and back: the real command, another process, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from catalog import open_catalog, resolve_home
from flows.models import pin_models
from flows.settings import load_settings
from flows.training_data import read_training_data
from synth.errors import CatalogError, ModelError
from synth.evaluation.images.features.base import tell_nobody
from synth.learned.model_files import load_model
from synth.learned.recipe import parse_train_spec
from synth.spec import parse_spec
from tests.conftest import ROOT, run_cohortium
from tests.flows.made_images import write_real

RECIPE = """
name = "discs"
reference = "discs"
kind = "disc"
shape = [16, 16]
attributes = ["sex", "age_years", "findings"]
architecture = { channels = [16, 32], attention = 0 }
training = { steps = 20, batch = 16, checkpoint_minutes = 1e-6 }
sampler = { steps = 2 }
"""
PREDICT = """
import json, mlflow, numpy, pandas
model = mlflow.pyfunc.load_model("models:/discs@candidate")
two = model.predict(pandas.DataFrame({"sex": ["F", "M"], "age_years": [30, None], "seed": [1, 2]}))
one = model.predict(pandas.DataFrame({"sex": ["M"], "seed": [2]}))
print(json.dumps([two.shape, bool(numpy.array_equal(two[1], one[0])), float(two.min()), float(two.max())]))
"""


KILL = """
import os, sys
from flows import cli
replace = os.replace
def kill_or_replace(source, target):
    if str(target).endswith("step-00000007.safetensors"):
        os.kill(os.getpid(), 9)  # written, but not there yet
    replace(source, target)
os.replace = kill_or_replace
cli.main()
"""
TWO_CORES = {"COHORTIUM_WORKERS": "2"}


@dataclass(frozen=True)
class Trained:
    home: Path
    recipe: Path
    result: dict[str, Any]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    place = tmp_path_factory.mktemp("train")
    home, recipe = place / "home", place / "discs.toml"
    recipe.write_text(RECIPE)
    done = run_cohortium("import", write_real(place / "real.parquet"), "--name", "discs", "--home", home)
    assert done.code == 0, done.err
    done = run_cohortium("train", recipe, "--home", home, "--json", env=TWO_CORES)
    assert done.code == 0, done.err
    return Trained(home, recipe, done.json())


def test_a_trained_model_is_kept_and_says_what_it_learned_from(trained: Trained) -> None:
    result = trained.result
    assert (result["steps"], result["finished"], result["address"]) == (20, True, "models:/discs@candidate")
    model = load_model(Path(result["folder"]), result["model"])
    about = model.description.about
    assert (about["reference"], model.description.pixels) == ("discs", "uint8")
    assert about["train_images"] == result["train_images"] > 50
    with open_catalog(trained.home) as catalog:
        assert about["reference_fingerprint"] == catalog.reference("discs").fingerprint
    assert Path(result["pairs"]).is_file()
    assert "discs" in (Path(result["folder"]) / "README.md").read_text()
    assert not list((trained.home / "work").glob("evaluate-*"))


def test_a_training_killed_in_the_middle_goes_on_and_ends_with_the_same_model(
    trained: Trained, prefect: dict[str, str]
) -> None:
    checkpoints = next((trained.home / "training").glob("discs-*"))
    shutil.rmtree(checkpoints)
    command = [sys.executable, "-c", KILL, "train", str(trained.recipe), "--home", str(trained.home), "--no-register"]
    environment = {**os.environ, **prefect, **TWO_CORES}
    killed = subprocess.run(command, capture_output=True, cwd=ROOT, env=environment, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    names = sorted(path.name for path in checkpoints.glob("step-*"))
    assert names == ["step-00000005.safetensors", "step-00000006.safetensors", "step-00000007.partial"]
    done = run_cohortium(
        "train", trained.recipe, "--home", trained.home, "--json", "--no-register", env=prefect | TWO_CORES
    )
    assert done.code == 0, done.err
    assert done.json()["model"] == trained.result["model"]  # of its weights and all that is said of them
    assert done.json()["address"] is None


def test_another_process_draws_with_the_registered_model(trained: Trained) -> None:
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{trained.home / 'mlflow.db'}"}
    environment |= {"PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(
        [sys.executable, "-c", PREDICT], capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    shape, same, low, high = json.loads(done.stdout.splitlines()[-1])
    assert (shape, same) == ([2, 16, 16], True)
    assert 0 <= low < high <= 1


def test_a_training_uses_the_cores_that_it_is_given(trained: Trained) -> None:
    client = MlflowClient(load_settings(trained.home).tracking_uri)
    run = client.get_run(client.get_model_version_by_alias("discs", "candidate").run_id)
    assert run.data.params["threads"] == TWO_CORES["COHORTIUM_WORKERS"]


def test_a_recipe_is_pinned_to_the_registered_version(trained: Trained) -> None:
    settings = load_settings(trained.home)
    recipe = 'name = "c"\nsubjects = 2\nimaging = { engine = "flow", model = "models:/discs@candidate" }'
    imaging = pin_models(parse_spec(recipe), settings).imaging
    assert (imaging.model, imaging.contrasts) == (f"models:/discs/1@sha256:{trained.result['model']}", ("disc",))
    with pytest.raises(ModelError, match=r"no registered model of images.*Registered: discs"):
        pin_models(parse_spec(recipe.replace("discs@", "disks@")), settings)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (('"findings"]', '"weight"]'), ModelError, "has no 'weight'.* It has: sex, age_years, findings"),
        (("[16, 16]", "[16, 16, 16]"), ModelError, "has 3 axes, but the images of 'discs' are 32 x 32; give 2"),
        (("[16, 16]", "[16, 32]"), ModelError, "train images cannot be used .*aspect"),
        (('reference = "discs"', 'reference = "disks"'), CatalogError, "no reference 'disks'"),
    ],
)
def test_what_cannot_be_learned_from_is_explained(
    trained: Trained, tmp_path: Path, change: tuple[str, str], error: type[Exception], words: str
) -> None:
    spec = parse_train_spec(RECIPE.replace(*change))
    with open_catalog(resolve_home(trained.home)) as catalog, pytest.raises(error, match=words):
        read_training_data(catalog, spec, tmp_path, tell_nobody)
