"""Documents appear all together or not at all; the report for machines is strict JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from synth.errors import PermanentError
from synth.evaluation.document.about import About, read_about
from synth.evaluation.document.write import INTERNAL_FILES, PUBLIC_FILES, dump_json, write_document

ROOT = Path(__file__).resolve().parents[4]


def write_into(folder: Path, made) -> list[Path]:
    return write_document(folder, made.report, made.gates, made.images, made.real, made.about)


@pytest.mark.parametrize("side", ["pictures", "volumes"])
def test_all_files_are_written_and_nothing_else(side: str, request, tmp_path: Path) -> None:
    paths = write_into(tmp_path / "a" / "b", request.getfixturevalue(side))
    assert {path.name for path in paths} == {*INTERNAL_FILES, *PUBLIC_FILES}
    assert sorted((tmp_path / "a" / "b").iterdir()) == sorted(paths)


def test_report_is_strict_json(pictures, write: Callable) -> None:
    found = json.loads(write(pictures)["report.json"], parse_constant=lambda name: pytest.fail(name))
    assert found["controls_valid"] is True
    assert found["verdict"] == {
        "state": "refused",
        "reasons": ["Gate recall: recall (encoder) is 0.4 (0.31 to 0.5); at least 0.53 is required."],
    }
    gates = {gate["gate"]: gate for gate in found["gates"]}
    assert gates["utility"]["value"] is None
    assert gates["utility"]["threshold"] is None
    assert gates["recall"] == {
        "gate": "recall", "value": 0.4, "threshold": 0.53, "passed": False,
        "reason": "recall: recall (encoder) is 0.4 (0.31 to 0.5); at least 0.53 is required",
    }  # fmt: skip
    assert len(found["metrics"]) == len(pictures.report.scores)
    assert {"family", "name", "features", "subgroup", "value", "low", "high", "control", "goal"} <= set(
        found["metrics"][0]
    )
    assert found["copies"][0]["reference_image_id"] == "real-train-0"
    assert found["about"]["method"] == pictures.about["method"]


def test_numbers_that_are_none_become_null() -> None:
    text = dump_json({"a": [math.nan, math.inf, 1.5], "b": (True, None, 3), "c": Path("x"), "d": "\ud800"})
    assert json.loads(text) == {"a": [None, None, 1.5], "b": [True, None, 3], "c": "x", "d": "?"}


def test_an_error_leaves_what_was_there(pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "doc"
    write_into(folder, pictures)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    synced = []

    def fail_late(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 4:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail_late)
    with pytest.raises(OSError, match="No space left"):
        write_into(folder, pictures.passed())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_new_document_replaces_the_old_one(pictures, write: Callable) -> None:
    write(pictures)
    assert json.loads(write(pictures.passed())["report.json"])["verdict"]["state"] == "passed"


def test_wrong_facts_are_named_with_the_nearest(pictures, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"license: there is no such fact\. Did you mean 'licence'\?"):
        write_into(tmp_path / "doc", pictures.change(about={"license": "x"}))
    with pytest.raises(PermanentError, match=r"files\.0\.sha256"):
        read_about({"files": [{"name": "a.parquet", "sha256": "xyz"}]})
    assert not (tmp_path / "doc").exists()


def test_every_fact_is_documented() -> None:
    page = (ROOT / "docs" / "evaluation" / "document.md").read_text(encoding="utf-8")
    assert not [name for name in About.model_fields if f"`{name}`" not in page]
    assert not [name for name in (*INTERNAL_FILES, *PUBLIC_FILES) if f"`{name}`" not in page]
