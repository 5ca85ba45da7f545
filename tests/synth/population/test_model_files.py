"""Saved models: exact round trips, whole or nothing, and no file, damaged or hostile, that the kernel chokes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synth.errors import PopulationError
from synth.population import model_files
from synth.population.chain import ChainModel
from synth.population.families import FAMILIES, fit_model
from synth.population.model_files import fingerprint_model, load_model, save_model
from synth.population.model_parts import ARRAYS_FILE, FORMAT_VERSION, MODEL_FILE
from synth.population.records import prepare_records
from synth.population.sampler import sample_records
from synth.seeds import stream


def make_table(patients: int = 400, repeated: bool = True) -> pa.Table:
    """Return records with every kind of attribute, some missing, and up to four visits."""
    rng = stream(5, 0, 0, "test/records")
    visits = rng.integers(1, 5, patients) if repeated else np.ones(patients, dtype=np.int64)
    who = np.repeat(np.arange(patients), visits)
    place = np.arange(len(who)) - np.repeat(np.cumsum(visits) - visits, visits)
    age = rng.integers(20, 80, patients)[who] + place
    sex = np.array(["F", "M"])[rng.integers(0, 2, patients)][who]
    findings = [[name for name, p in (("Hernia", 0.2), ("Mass", 0.1)) if rng.random() < p] for _ in who]
    spacing = np.where(rng.random(len(who)) < 0.1, np.nan, np.round(rng.normal(0.15, 0.02, len(who)), 4))
    return pa.table(
        {
            "patient_id": who,
            "follow_up": place,
            "age_years": age,
            "sex": sex,
            "findings": pa.array(findings, pa.list_(pa.string())),
            "spacing_mm": pa.array(spacing, mask=np.isnan(spacing)),
        }
    )


def fit(family: str = "trees", repeated: bool = True) -> ChainModel:
    records = prepare_records(make_table(repeated=repeated), "patient_id", "follow_up")
    return fit_model(records, FAMILIES[family])


@pytest.fixture(scope="module")
def model() -> ChainModel:
    return fit()


@pytest.fixture
def saved(model: ChainModel, tmp_path: Path) -> Path:
    save_model(model, tmp_path / "m")
    return tmp_path / "m"


@pytest.mark.parametrize("family", ["trees", "independent"])
@pytest.mark.parametrize("repeated", [True, False])
def test_round_trip_is_exact(family: str, repeated: bool, tmp_path: Path) -> None:
    model = fit(family, repeated)
    fingerprint = save_model(model, tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert fingerprint == fingerprint_model(model) == fingerprint_model(again)
    assert (again.family, again.schema, again.layout, again.about) == (
        model.family, model.schema, model.layout, model.about,
    )  # fmt: skip
    for old, new in zip(model.packed, again.packed, strict=True):
        assert (old.dtype, old.tobytes()) == (new.dtype, new.tobytes())
    assert sample_records(again, 3000, 9).equals(sample_records(model, 3000, 9))


def test_the_same_records_give_the_same_fingerprint(model: ChainModel) -> None:
    assert fingerprint_model(fit()) == fingerprint_model(model)
    assert fingerprint_model(replace(model, about={"rows": 1})) != fingerprint_model(model)


def test_only_a_model_is_overwritten_and_only_if_asked(model: ChainModel, saved: Path, tmp_path: Path) -> None:
    before = (saved / ARRAYS_FILE).read_bytes()
    with pytest.raises(PopulationError, match="--force"):
        save_model(model, saved)
    other = replace(model, about={"other": True})
    assert save_model(other, saved, overwrite=True) == load_model_fingerprint(saved)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(PopulationError, match="is no model"):
        save_model(model, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "mine"]
    assert (saved / ARRAYS_FILE).read_bytes() == before


def load_model_fingerprint(folder: Path) -> str:
    return fingerprint_model(load_model(folder))


def test_a_place_that_cannot_be_written_is_named_and_left_alone(model: ChainModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PopulationError, match=r"file/m' cannot be written .*choose another place"):
        save_model(model, tmp_path / "file" / "m")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_leaves_the_old_model(model: ChainModel, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_files, "_write", fail)
    with pytest.raises(Exception, match="No space left"):
        save_model(replace(model, about={}), saved, overwrite=True)
    assert load_model_fingerprint(saved) == fingerprint_model(model)
    assert [p.name for p in saved.parent.iterdir()] == ["m"]


# ---------------------------------------------------------------------------------------------------------- damage


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from([MODEL_FILE, ARRAYS_FILE]), where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(name: str, where: float, bit: int, saved: Path) -> None:
    path = saved / name
    whole = path.read_bytes()
    place = int(where * len(whole))
    path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :])
    try:
        load_model(saved)
    except PopulationError:
        return
    else:
        assert name == MODEL_FILE  # a blank between values says nothing
        assert json.loads(path.read_bytes()) == json.loads(whole)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("name", [MODEL_FILE, ARRAYS_FILE])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_a_torn_file_is_noticed(name: str, kept: float, saved: Path) -> None:
    whole = (saved / name).read_bytes()
    (saved / name).write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(PopulationError, match="cannot be used"):
        load_model(saved)


def test_a_newer_format_asks_for_an_upgrade(saved: Path) -> None:
    document = json.loads((saved / MODEL_FILE).read_text())
    document |= {"format_version": FORMAT_VERSION + 1, "more": "than we know"}
    (saved / MODEL_FILE).write_text(json.dumps(document))
    with pytest.raises(PopulationError, match="newer version of Cohortium"):
        load_model(saved)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "other"}', "[" * 100_000])
def test_other_files_are_no_models(content: str, saved: Path) -> None:
    (saved / MODEL_FILE).write_text(content)
    with pytest.raises(PopulationError, match="cannot be used"):
        load_model(saved)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(PopulationError, match=r"is no model: there is no model\.json"):
        load_model(tmp_path / "none")


# ---------------------------------------------------------------------------------------------------------- malice


def change_tree(place: int, **changes: Callable[[Any], Any]) -> Callable[[ChainModel], ChainModel]:
    """Return what changes arrays of one tree (negative: from the end)."""

    def change(model: ChainModel) -> ChainModel:
        trees = list(model.trees)
        tree = trees[place]
        trees[place] = replace(tree, **{name: make(getattr(tree, name).copy()) for name, make in changes.items()})
        return replace(model, trees=tuple(trees))

    return change


def fill(value: float) -> Callable[[Any], Any]:
    return lambda array: np.full_like(array, value)


def change_layout(**changes: Callable[[Any], Any]) -> Callable[[ChainModel], ChainModel]:
    return lambda model: replace(
        model,
        layout=replace(model.layout, **{name: make(getattr(model.layout, name)) for name, make in changes.items()}),
    )


def change_node(place: int, **values: Any) -> Callable[[ChainModel], ChainModel]:
    return change_layout(nodes=lambda nodes: (*nodes[:place], replace(nodes[place], **values), *nodes[place + 1 :]))


def change_borders(make: Callable[[Any], Any]) -> Callable[[ChainModel], ChainModel]:
    def change(model: ChainModel) -> ChainModel:
        columns = dict(model.codings.columns)
        columns["age_years"] = replace(columns["age_years"], low=make(columns["age_years"].low.copy()))
        return replace(model, codings=replace(model.codings, columns=columns))

    return change


def many_visits(model: ChainModel) -> ChainModel:
    assert model.codings.visits is not None
    huge = replace(model.codings.visits, high=model.codings.visits.high * 1e6)
    return replace(model, codings=replace(model.codings, visits=huge))


HOSTILE: dict[str, Callable[[ChainModel], ChainModel]] = {
    "feature beyond the state": change_tree(-1, feature=fill(9999)),
    "feature that is not drawn yet": change_tree(0, feature=fill(3)),
    "negative feature": change_tree(-1, feature=fill(-2)),
    "child beyond the tree": change_tree(-1, feature=fill(0), left=fill(1 << 20)),
    "child before its parent": change_tree(-1, feature=fill(0), left=fill(0), right=fill(0)),
    "negative child": change_tree(-1, feature=fill(0), left=fill(-5)),
    "leaf without probabilities": change_tree(-1, leaf=fill(1 << 20)),
    "negative leaf": change_tree(-1, leaf=fill(-1)),
    "negative probability": change_tree(0, probability=lambda p: p * np.array([-1.0] + [1.0] * (p.shape[1] - 1))),
    "probability that is no number": change_tree(0, probability=fill(np.nan)),
    "infinite probability": change_tree(0, probability=fill(np.inf)),
    "probabilities that sum to 2": change_tree(0, probability=lambda p: p * 2),
    "more codes than known": change_tree(0, probability=lambda p: np.hstack([p, np.zeros((len(p), 200))])),
    "fewer trees than nodes": lambda model: replace(model, trees=model.trees[:-1]),
    "slot beyond the state": change_node(0, slot=10_000),
    "negative slot": change_node(0, slot=-1),
    "slot of another node": change_node(0, slot=1),
    "unknown attribute": change_node(0, attribute="nobody"),
    "role of another node": change_node(0, role="delta"),
    "feature list beyond the state": change_node(3, features=(10_000,)),
    "memory beyond the state": change_layout(previous=lambda pairs: ((0, 10_000), *pairs[1:])),
    "memory over what is drawn": change_layout(previous=lambda pairs: ((pairs[0][0], 0), *pairs[1:])),
    "count beyond the state": change_layout(seen=lambda rows: ((0, -1, 10_000), *rows[1:])),
    "no place of the visit": change_layout(slots=lambda slots: tuple(s.replace("place", "plaice") for s in slots)),
    "no growth of a clock": change_layout(slots=lambda slots: tuple(s.replace("grown", "gone") for s in slots)),
    "two slots of one name": change_layout(slots=lambda slots: (slots[1], *slots[1:])),
    "clock that is no number": change_layout(clocks=lambda _: ("sex",)),
    "no first visit": change_layout(nodes=lambda nodes: tuple(replace(n, first=False) for n in nodes)),
    "borders out of order": change_borders(lambda low: low[::-1]),
    "borders that are no numbers": change_borders(fill(np.nan)),
    "fewer borders": change_borders(lambda low: low[:-1]),
    "millions of visits": many_visits,
    "set drawn as one": lambda model: replace(
        model, schema=replace(model.schema, columns=tuple(replace(c, kind="set") for c in model.schema.columns))
    ),
    "one visit only": lambda model: replace(model, schema=replace(model.schema, repeated=False)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_model_is_refused(
    name: str, model: ChainModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = HOSTILE[name](model)
    with pytest.raises(PopulationError, match="cannot be saved"):
        save_model(hostile, tmp_path / "m")
    with monkeypatch.context() as patch:
        patch.setattr(model_files, "check_model", lambda _: None)
        try:
            save_model(hostile, tmp_path / "m")  # with a fingerprint that fits
        except (ValueError, KeyError):
            return  # it cannot even be written
    with pytest.raises(PopulationError, match="cannot be used"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["trees"][0].update(nodes=10**9),
        lambda d: d["trees"][0].update(leaves=-3),
        lambda d: d["trees"][0].update(codes=1 << 62),
        lambda d: d["intervals"].update({"value age_years": -1}),
        lambda d: d["intervals"].update({"value nobody": 1}),
        lambda d: d.update(surprise=1),
        lambda d: d.pop("layout"),
        lambda d: d.update(about=None),
        lambda d: d["schema"]["columns"][0].update(low="nan"),
        lambda d: d["layout"].update(slots=["a"] * 40_000, ordered=[True] * 40_000),
    ],
)
def test_a_document_that_lies_about_its_arrays_is_refused(change: Callable[[Any], Any], saved: Path) -> None:
    document = json.loads((saved / MODEL_FILE).read_text())
    change(document)
    (saved / MODEL_FILE).write_text(json.dumps(document))
    with pytest.raises(PopulationError, match="cannot be used"):
        load_model(saved)
