"""Models on disk: the same images after loading, and nothing foreign, damaged or changed is read."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from synth.errors import ModelError, StorageError
from synth.learned.generator import Generator
from synth.learned.model_files import MODEL_FILE, WEIGHTS_FILE, load_model, read_description, save_model
from synth.learned.training import train_model
from tests.synth.learned.faces import draw_faces
from tests.synth.learned.test_training import make_spec

ROWS = [{"sex": "F", "age_years": 40}, {"findings": ("dot",)}, {}]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return train_model(make_spec(steps=3), draw_faces(24), tmp_path_factory.mktemp("checkpoints")).generator


@pytest.fixture
def saved(trained: Generator, tmp_path: Path) -> Path:
    save_model(tmp_path / "model", trained.description, trained.network.state_dict(), card="# Faces")
    return tmp_path / "model"


def test_a_loaded_model_draws_the_same_images(trained: Generator, saved: Path) -> None:
    loaded = load_model(saved)
    assert loaded.description == trained.description
    assert np.array_equal(loaded.sample(ROWS, [1, 2, 3]), trained.sample(ROWS, [1, 2, 3]))
    assert (saved / "README.md").read_text() == "# Faces"
    assert read_description(saved) == trained.description


def test_an_image_depends_on_its_own_row_and_key_alone(trained: Generator) -> None:
    together = trained.sample(ROWS, [1, 2, 3])
    for number, row in enumerate(ROWS):
        assert np.array_equal(trained.sample([row], [number + 1])[0], together[number])
    assert not np.array_equal(trained.sample([ROWS[0]], [9])[0], together[0])


def test_half_precision_is_half_as_large_and_nearly_the_same(trained: Generator, saved: Path) -> None:
    half = saved.with_name("half")
    save_model(half, trained.description, trained.network.state_dict(), half=True)
    sizes = [(folder / WEIGHTS_FILE).stat().st_size for folder in (half, saved)]
    assert sizes[0] < 0.6 * sizes[1]
    assert np.abs(load_model(half).sample(ROWS, [1, 2, 3]) - trained.sample(ROWS, [1, 2, 3])).mean() < 0.02


def test_changed_or_replaced_files_are_noticed(saved: Path, tmp_path: Path) -> None:
    known = load_model(saved).hash
    assert load_model(saved, known).hash == known
    with pytest.raises(ModelError, match="changed or replaced"):
        load_model(saved, "0" * 64)
    changed = shutil.copytree(saved, tmp_path / "changed")
    document = json.loads((changed / MODEL_FILE).read_text())
    document["sampler"]["guidance"] = 3.0
    (changed / MODEL_FILE).write_text(json.dumps(document))
    with pytest.raises(ModelError, match="changed or replaced"):
        load_model(changed, known)
    weights = bytearray((saved / WEIGHTS_FILE).read_bytes())
    weights[-1] ^= 1
    (saved / WEIGHTS_FILE).write_bytes(bytes(weights))
    with pytest.raises(ModelError, match="damaged or was changed"):
        load_model(saved)


class Trap:
    """What would run if a pickle were opened."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('a pickle was opened')",))


@pytest.mark.parametrize("name", [MODEL_FILE, WEIGHTS_FILE])
def test_a_foreign_pickle_is_refused_unopened(saved: Path, name: str) -> None:
    (saved / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelError, match=r"is no model of Cohortium|damaged or was changed"):
        load_model(saved)


def test_missing_files_newer_formats_and_unknown_keys_are_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'model.json' cannot be read.*`cohortium train` writes"):
        load_model(tmp_path / "nowhere")
    text = (saved / MODEL_FILE).read_text()
    for key, value, message in (("format_version", 99, "newer than 1"), ("extra", 1, "is no model of Cohortium")):
        (saved / MODEL_FILE).write_text(json.dumps(json.loads(text) | {key: value}))
        with pytest.raises(ModelError, match=message):
            load_model(saved)


def test_a_disk_that_refuses_leaves_nothing(
    trained: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("synth.learned.model_files.os.fsync", refuse)
    with pytest.raises(StorageError, match="No space left"):
        save_model(tmp_path / "model", trained.description, trained.network.state_dict())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"age": 3}, "was not taught 'age'.*Did you mean 'age_years'"),
        ({"age_years": 200}, "was taught 2. to 7. years, not 200"),
        ({"age_years": "old"}, "'old' is no number"),
        ({"sex": "X"}, "was not taught 'X'; it knows F, M"),
        ({"findings": ("dots",)}, "Did you mean 'dot'"),
        ({"findings": 3}, "is no text and no list"),
    ],
)
def test_what_the_model_was_not_taught_is_refused(trained: Generator, row: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        trained.sample([row], [1])  # type: ignore[list-item]
