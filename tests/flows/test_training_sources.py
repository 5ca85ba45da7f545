"""A cohort as what a model learns from: its images and masks on the recipe's grid, dealt out by subject."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from catalog import open_catalog
from catalog.home import resolve_home
from flows.training_data import TrainingData, read_training_data
from synth.errors import CatalogError, ModelError
from synth.evaluation.images.features.base import tell_nobody
from synth.evaluation.images.sets import join_sets
from synth.learned.model_files import load_model, save_model
from synth.learned.recipe import TrainSpec, parse_train_spec
from synth.learned.training import train_model

RECIPE = """
name = "heads"
reference = "cohort:small"
kind = "T1w"
shape = [16, 16, 16]
attributes = ["sex", "age_years"]
labels = { mask = "tissue", names = ["fluid", "grey", "white", "lesion"] }
training = { steps = 2, batch = 4, checkpoint_minutes = 9, autoencoder = { steps = 2 } }
sampler = { steps = 1 }
[architecture]
name = "latent-flow"
channels = [16]
attention = 0
patch = 1
autoencoder = { channels = [16, 16] }
"""


def read(home: Path, folder: Path, spec: TrainSpec) -> TrainingData:
    with open_catalog(resolve_home(home)) as catalog:
        return read_training_data(catalog, spec, folder, tell_nobody)


@pytest.fixture(scope="module")
def data(small_home: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    return read(small_home, tmp_path_factory.mktemp("data"), parse_train_spec(RECIPE))


def test_a_cohort_is_dealt_out_by_subject(data: TrainingData) -> None:
    sets = (data.train, data.validation, data.holdout)
    people = [set(part.records.column("patient_id").to_pylist()) for part in sets]
    assert [len(part) for part in people] == [4, 1, 1]
    assert len(set().union(*people)) == 6
    assert sum(map(len, sets)) == 9
    assert data.reference.startswith("cohort:small-")
    assert "engine mri" in data.source
    assert {value for part in sets for value in part.values("sex")} == {"F", "M"}


def test_masks_lie_where_the_tissue_is(data: TrainingData) -> None:
    maps, images = data.train.maps, data.train.images(slice(None))
    assert maps is not None
    assert maps.shape == images.shape
    assert set(np.unique(maps)) <= {0, 1, 2, 3, 4}
    fluid, grey, white = (images[maps == label].mean() for label in (1, 2, 3))
    assert fluid < grey < white  # in T1w
    assert images[maps == 0].mean() < fluid + 0.1


def test_a_model_learns_from_a_cohort_and_follows_its_labels(data: TrainingData, tmp_path: Path) -> None:
    images = join_sets("all", [data.train, data.validation, data.holdout])
    trained = train_model(parse_train_spec(RECIPE), images, tmp_path / "checkpoints")
    save_model(tmp_path / "model", trained.generator.description, trained.generator.network.state_dict())
    model = load_model(tmp_path / "model")
    assert data.holdout.maps is not None
    drawn = model.sample([{"sex": "F"}], [1], data.holdout.maps[:1])
    assert drawn.shape == (1, 16, 16, 16)
    assert not np.array_equal(drawn, model.sample([{"sex": "F"}], [1]))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (('"tissue"', '"tisue"'), ModelError, "has no mask 'tisue'; it has lesion, tissue.*Did you mean 'tissue'"),
        (('"T1w"', '"T1"'), ModelError, "has images of FLAIR, T1w, not of 'T1'"),
        (("cohort:small", "cohort:smal"), CatalogError, "no file, folder or cohort 'smal'.*small"),
        (("[16, 16, 16]", "[16, 16]"), ModelError, "has 2 axes, but the images of 'cohort:small-"),
        (('"age_years"', '"weight"'), ModelError, "has no 'weight'"),
    ],
)
def test_what_a_cohort_does_not_have_is_refused(
    small_home: Path, tmp_path: Path, change: tuple[str, str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        read(small_home, tmp_path, parse_train_spec(RECIPE.replace(*change)))
