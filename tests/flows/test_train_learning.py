"""What `cohortium train` learns: in private with an audit beside every epsilon, or on several devices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows import train_learning
from flows.settings import load_settings
from flows.train_facts import describe_training, write_card
from flows.train_learning import Learned, describe_privacy, learn_model, read_secret
from flows.training_data import TrainingData
from synth.errors import ModelError, SpecError
from synth.evaluation.images.features.base import tell_nobody
from synth.evaluation.images.layout import Layout
from synth.learned import audit as audit_module
from synth.learned.audit import Audit
from synth.learned.model_files import save_model
from synth.learned.recipe import TrainSpec, parse_train_spec
from tests.synth.learned.faces import RECIPE, draw_faces

PRIVATE = """
[privacy]
epsilon = 8.0
delta = 1e-5
canaries = 24
[privacy.public]
sex = ["F", "M"]
age_years = [0, 100]
findings = ["dot"]
"""


def make_spec(steps: int = 2, more: str = PRIVATE) -> TrainSpec:
    batch = 96 if more else 16  # everybody in every step, whose accounts are quick
    return parse_train_spec(RECIPE.format(family="flow", steps=steps).replace("batch = 16", f"batch = {batch}") + more)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    train, unseen = draw_faces(90), draw_faces(12, seed=1)
    known = ("faces", "f" * 64, "CC0", "made up", (), Layout((16, 16), "absolute"))
    return TrainingData(train, unseen, unseen, *known)


def learn(home: Path, spec: TrainSpec, data: TrainingData, devices: str | None = None) -> Learned:
    (home / "training").mkdir(parents=True, exist_ok=True)
    return learn_model(load_settings(home), spec, data, home / "training", None, devices, tell_nobody)


def test_a_private_training_states_epsilon_beside_its_audit_alone(
    tmp_path: Path, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "DRAWS", 1)  # of noise: an audit as quick as it is weak
    learned = learn(tmp_path, make_spec(), data)
    found = learned.privacy
    assert found is not None
    assert 7.0 < found["epsilon"] <= 8.0
    audit = found["audit"]
    assert (audit["canaries"], audit["guesses"]) == (24, 16)
    assert 0 <= audit["epsilon_low"] < found["epsilon"]
    assert found["patients"] < 90  # half of the canaries are left out
    assert learned.model.description.code.conditions[1].high == 100.0  # nobody of the faces is so old
    about = describe_training(make_spec(), data, learned)
    assert about["privacy"] == found
    assert about["final_loss"] is None
    card = write_card(make_spec(), data, about)
    assert describe_privacy(found) in card
    assert "canaries show that it is at least" in card
    assert "no patient did" in card
    again = learn(tmp_path, make_spec(), data)  # its checkpoint is of the same canaries
    assert again.trained.steps == 2
    assert again.privacy is not None
    assert again.privacy["audit"] == audit


def test_an_audit_that_contradicts_the_accounts_ends_the_training(
    tmp_path: Path, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_learning, "audit_model", lambda *_: Audit(9.0, 16, 16, 24, 9.0))
    with pytest.raises(
        ModelError, match=r"audit contradicts the accounts.*No epsilon is stated and the model is not kept"
    ):
        learn(tmp_path, make_spec(steps=1), data)


def test_canaries_are_the_same_after_an_interruption_and_nobody_elses(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first = read_secret(tmp_path / "a")
    assert read_secret(tmp_path / "a") == first
    assert read_secret(tmp_path / "b") != first
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["canaries"]


def test_what_would_undo_the_noise_is_refused(tmp_path: Path, data: TrainingData) -> None:
    with pytest.raises(SpecError, match=r"few_steps: a student would learn what patients show without noise"):
        make_spec(more=PRIVATE + "[few_steps]\nsteps = 2\n")
    with pytest.raises(SpecError, match=r"privacy.public: required for findings: \[lowest, highest\]"):
        make_spec(more=PRIVATE.replace('findings = ["dot"]\n', ""))
    with pytest.raises(SpecError, match=r"'sexx' is not among the attributes. Did you mean 'sex'"):
        make_spec(more=PRIVATE.replace("sex =", "sexx ="))
    with pytest.raises(ModelError, match="a private training runs on one CPU"):
        learn(tmp_path, make_spec(), data, devices="2")
    known = learn(tmp_path / "open", make_spec(1, ""), data).model
    about: dict[str, Any] = {"reference_fingerprint": data.fingerprint}
    object.__setattr__(known.description, "about", about)
    save_model(tmp_path / "known", known.description, known.network.state_dict())
    with pytest.raises(ModelError, match="'faces' learned from reference 'faces' already, which no noise undoes"):
        learn(tmp_path, make_spec().model_copy(update={"start": str(tmp_path / "known")}), data)


def test_one_device_is_the_usual_training_and_a_wrong_word_is_refused(tmp_path: Path, data: TrainingData) -> None:
    spec = make_spec(1, "")
    usual, named = learn(tmp_path / "a", spec, data), learn(tmp_path / "b", spec, data, devices="cpu")
    assert named.trained.losses == usual.trained.losses
    assert usual.privacy is None
    with pytest.raises(ModelError, match="1 parts of a batch cannot be shared by 2 devices"):
        learn(tmp_path / "c", spec, data, devices="2")
    with pytest.raises(ModelError, match="--devices: 'two' is not known"):
        learn(tmp_path / "c", spec, data, devices="two")
