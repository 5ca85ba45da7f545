"""The metadata is Croissant 1.1 with RAI 1.0: the library that the format comes with accepts and reads it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import mlcroissant
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synth.evaluation.document.about import Column
from synth.evaluation.document.croissant import CONFORMS_TO, check_croissant, describe_type, make_croissant
from synth.evaluation.document.write import dump_json

COMPLETE = {
    "licence": "https://creativecommons.org/licenses/by/4.0/", "creator": "The makers", "publisher": "The publishers",
    "citation": "Makers, 2026", "url": "https://example.org/data", "version": "1.0.0", "published_at": "2026-03-02",
    "created_at": "2026-03-01", "annotation": "Attributes were drawn before the pixels.",
    "social_impact": "Fewer real images need to be shared.", "maintenance": "Versions are never changed.",
    "derived_from": ["https://example.org/reference", "chest sample"],
}  # fmt: skip


def write_shards(folder: Path, count: int) -> dict[str, object]:
    """Write small Parquet files and return the facts that describe them."""
    (folder / "shards").mkdir()
    files = []
    for index in range(count):
        table = pa.table({
            "image_id": [f"i{index}-{row}" for row in range(3)],
            "age_years": pa.array([30, 40, None], pa.int16()),
            "dose": pa.array([0.5, 1.5, 2.5], pa.float32()),
            "findings": [["Edema"], [], ["Mass", "Nodule"]],
        })  # fmt: skip
        path = folder / "shards" / f"{index}.parquet"
        pq.write_table(table, path)
        content = path.read_bytes()
        files.append(
            {"name": f"shards/{path.name}", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        )
    columns = [
        {"name": field.name, "type": str(field.type), "description": f"The {field.name} of a subject.", "unit": unit}
        for field, unit in zip(table.schema, ("", "years", "mGy", ""), strict=True)
    ]
    return {"files": files, "columns": columns}


def test_complete_metadata_has_no_problem(pictures, tmp_path: Path) -> None:
    facts = write_shards(tmp_path, 2)
    document = make_croissant(pictures.change(about=COMPLETE | facts).facts(public=True))
    assert check_croissant(document) == []
    assert tuple(document["conformsTo"]) == CONFORMS_TO
    found = mlcroissant.Dataset(jsonld=json.loads(dump_json(document))).metadata
    assert found.ctx.is_v1_1()
    assert found.name == "drawn chests"
    assert found.data_use_cases == ["Teaching", "Benchmarks of classifiers"]
    assert any("No lateral views" in text for text in found.data_limitations)
    assert any("altered copies" in text for text in found.personal_sensitive_information)
    assert any("Gap of recall" in text for text in found.data_biases)
    assert found.data_collection.startswith("No person was imaged")
    assert found.data_release_maintenance_plan == "Versions are never changed."
    assert {file.sha256 for file in found.file_objects} == {file["sha256"] for file in facts["files"]}


@pytest.mark.parametrize("count", [1, 2])
def test_records_are_read_through_the_metadata(pictures, tmp_path: Path, count: int) -> None:
    made = pictures.change(about=COMPLETE | write_shards(tmp_path, count))
    path = tmp_path / "croissant.json"
    path.write_text(dump_json(make_croissant(made.facts(public=True))), encoding="utf-8")
    rows = list(mlcroissant.Dataset(jsonld=path).records("images"))
    assert len(rows) == 3 * count
    assert {row["images/image_id"] for row in rows} == {
        f"i{i}-{row}".encode() for i in range(count) for row in range(3)
    }
    assert rows[0]["images/dose"] == pytest.approx(0.5)
    assert list(rows[2]["images/findings"]) == [b"Mass", b"Nodule"]


def test_missing_facts_are_warnings_not_inventions(pictures) -> None:
    made = pictures.change()
    made.about.clear()
    document = make_croissant(made.facts(public=True))
    problems = check_croissant(document)
    assert not [problem for problem in problems if problem.severity == "error"]
    wanted = {"license", "url", "creator", "datePublished", "distribution"}
    assert wanted <= {problem.text.split("'")[1] for problem in problems if "requires" in problem.text}
    assert not wanted & set(document)
    assert "prov:wasDerivedFrom" not in document


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"conformsTo": "http://mlcommons.org/croissant/9.9"}, "conformsTo"),
        ({"@type": "sc:Recipe"}, "Dataset"),
        ({"distribution": [{"@type": "cr:FileObject", "@id": "a", "name": "a"}]}, "mandatory"),
    ],
)
def test_broken_metadata_is_an_error(pictures, broken: dict, said: str) -> None:
    document = make_croissant(pictures.change(about=COMPLETE).facts(public=True)) | broken
    errors = [problem.text for problem in check_croissant(document) if problem.severity == "error"]
    assert any(said in text for text in errors), errors


def test_field_without_a_file_is_an_error(pictures, tmp_path: Path) -> None:
    document = make_croissant(pictures.change(about=COMPLETE | write_shards(tmp_path, 1)).facts(public=True))
    document["recordSet"][0]["field"][0]["source"]["fileObject"]["@id"] = "elsewhere"
    assert any(problem.severity == "error" for problem in check_croissant(document))


def test_metadata_names_no_real_image_or_patient(pictures) -> None:
    text = dump_json(make_croissant(pictures.change(about=COMPLETE).facts(public=True)))
    assert "real-train" not in text
    assert "patient-of" not in text


def test_hostile_names_stay_names(pictures, tmp_path: Path) -> None:
    facts = write_shards(tmp_path, 1)
    facts["columns"].append({"name": "a b/<c>\"'%{}", "type": "string"})
    made = pictures.change(about=COMPLETE | facts | {"title": "</script> \ud800 \u202e x", "creator": "<b>"})
    document = make_croissant(made.facts(public=True))
    assert not [problem for problem in check_croissant(document) if problem.severity == "error"]
    assert document["recordSet"][0]["field"][-1]["source"]["extract"]["column"] == "a b/<c>\"'%{}"


@pytest.mark.parametrize(
    ("arrow", "kind", "repeated"),
    [
        (pa.string(), "sc:Text", False), (pa.large_string(), "sc:Text", False), (pa.int16(), "cr:Int16", False),
        (pa.uint8(), "cr:UInt8", False), (pa.float32(), "cr:Float32", False), (pa.float64(), "cr:Float64", False),
        (pa.bool_(), "sc:Boolean", False), (pa.date32(), "sc:Date", False), (pa.timestamp("us"), "sc:DateTime", False),
        (pa.list_(pa.string()), "sc:Text", True), (pa.list_(pa.float32(), 16), "cr:Float32", True),
        (pa.large_list(pa.int64()), "cr:Int64", True), (pa.dictionary(pa.int32(), pa.string()), "sc:Text", False),
        (pa.binary(), "sc:Text", False), (pa.decimal128(9, 2), "sc:Float", False),
    ],
    ids=str,
)  # fmt: skip
def test_arrow_types_have_a_croissant_type(arrow: pa.DataType, kind: str, repeated: bool) -> None:
    assert describe_type(Column(name="x", type=str(arrow))) == (kind, repeated)


def test_pictures_in_a_column_are_images() -> None:
    assert describe_type(Column(name="png", type="binary", media_type="image/png")) == ("sc:ImageObject", False)
