"""What the benchmarks of learned models rest on: ratios to the floor, MONAI's sampler, planted repeats, mixes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synth.evaluation.images.sides import Side
from synth.learned.generator import Generator
from synth.learned.model_files import load_model
from synth.seeds import stream
from tests.learned_models import make_tiny_model
from tests.synth.learned.faces import draw_faces

BENCHMARKS = Path(__file__).parents[1] / "infra" / "benchmarks"
SCRIPTS = ("adherence", "learned_models", "learning_curve", "memorisation", "train_on_synthetic")
Load = Callable[[str], Any]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_tiny_model(folder)
    return load_model(folder)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_say_what_they_do(name: str, load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        load(name).main(["--help"])
    assert end.value.code == 0
    assert f"{name}.py RECIPE.toml" in capsys.readouterr().out


@pytest.mark.parametrize(("shift", "floor"), [(0.0, True), (1.0, False)])
def test_ratio_is_1_for_what_real_images_are_and_more_for_others(shift: float, floor: bool, load: Load) -> None:
    rng = stream(0, -1, -1, "test/ratio")
    draw = [Side(rng.normal(size=(150, 6)).astype(np.float32), np.arange(150)) for _ in range(3)]
    images = Side(draw[0].features + np.float32(shift), draw[0].patient)
    for name, (value, low, high) in load("learned_floor").measure_ratios(images, *draw[1:], seed=0).items():
        assert low < value < high, name
        assert (low <= 1 <= high) == floor, name


def test_ddim_of_monai_is_that_of_the_family(tiny: Generator, load: Load) -> None:
    """MONAI's loop and guidance on our network draw the same images as ours: no other noise levels, no other codes."""
    described = tiny.description
    architecture = described.architecture.model_copy(update={"name": "ddpm"})
    ddpm = Generator(replace(described, architecture=architecture), tiny.network)
    rows, keys = [{"sex": "F", "age_years": 40}, {"findings": ("Mass",)}], [1, 2]
    theirs = load("learned_speed").make_ddim(ddpm)(rows, keys)
    assert theirs.std() > 0.05
    assert np.allclose(theirs, ddpm.with_sampler(steps=50, precision="float32").sample(rows, keys), atol=1e-3)


def test_repeats_keep_their_patients_unless_they_are_strangers(load: Load) -> None:
    train = draw_faces(30)
    repeat = load("memorisation").repeat_images
    (same, chosen), (others, _) = (repeat(train, 4, 5, 0, strangers) for strangers in (False, True))
    assert len(same) == len(set(same.image_ids)) == 30 + 4 * 4
    assert len(np.unique(same.patient)) == 30
    assert len(np.unique(others.patient)) == 46
    first = same.image_ids.index(chosen[0])
    assert sum(np.array_equal(pixels, same.stored[first]) for pixels in same.stored) == 5


def test_copies_of_training_images_are_nearer_to_training(load: Load) -> None:
    nearness = load("memorisation").measure_nearness
    train, unseen, fresh = draw_faces(60), draw_faces(60, seed=1), draw_faces(60, seed=2)
    assert nearness(train, train, unseen, 0).share.low > 0.5
    low, high = nearness(fresh, train, unseen, 0).share[1:]
    assert low < 0.5 < high


def test_a_mix_is_asked_for_in_exactly_its_shares(tiny: Generator, load: Load) -> None:
    mixes = load("adherence_mixes")
    wishes = [mixes.parse_wish(text) for text in ("sex=F:0.8", "age_years=60-85", "findings=Mass:0.5")]
    rows = mixes.ask_mix(tiny, wishes, 40, seed=0)
    assert sum(row["sex"] == "F" for row in rows) == 32
    assert sum(row["findings"] == ("Mass",) for row in rows) == 20
    assert all(60 <= row["age_years"] <= 85 for row in rows)


def test_tasks_keep_only_the_labels_that_are_asked_about(load: Load) -> None:
    script = load("train_on_synthetic")
    kept = script.keep_tasks(draw_faces(20), script.read_tasks(["sex", "findings=star"]))
    assert [attribute.name for attribute in kept.schema] == ["sex", "findings"]
    assert not any(kept.values("findings"))
    assert set(kept.values("sex")) == {"F", "M"}
