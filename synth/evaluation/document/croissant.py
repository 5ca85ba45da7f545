"""Metadata of the data in Croissant 1.1 with the RAI 1.0 vocabulary, and the check that it is so.

Sources: Croissant Format Specification 1.1 (http://mlcommons.org/croissant/1.1) and Croissant RAI Specification 1.0
(http://mlcommons.org/croissant/RAI/1.0), MLCommons.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import quote

import mlcroissant  # type: ignore[import-untyped]

from synth.evaluation.document.about import Column
from synth.evaluation.document.card import list_limits, say_method, say_privacy, say_subgroups
from synth.evaluation.document.facts import Facts, describe_population, judge
from synth.evaluation.document.markup import clean_text

CONFORMS_TO = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")
PARQUET = "application/x-parquet"
RECORDS = "images"
# The context of the specification's appendix, with the https of the library that checks it, and PROV for provenance.
CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "prov": "http://www.w3.org/ns/prov#",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
} | {
    word: f"cr:{word}"
    for word in (
        "annotation", "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "excludes", "extract",
        "field", "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath",
        "key", "md5", "parentField", "path", "readLines", "recordSet", "references", "regex", "repeated", "replace",
        "samplingRate", "sdVersion", "separator", "source", "subField", "transform", "unArchive", "value",
    )
}  # fmt: skip
# What the specification requires of a dataset, beyond what the library checks.
REQUIRED = ("name", "description", "license", "url", "creator", "datePublished", "distribution")
_TYPES = (
    (r"u?int(8|16|32|64)", "cr:{}Int{}"), (r"float|float32", "cr:Float32"), (r"double|float64", "cr:Float64"),
    (r"halffloat|float16", "cr:Float16"), (r"decimal.*", "sc:Float"), (r"bool", "sc:Boolean"), (r"date.*", "sc:Date"),
    (r"timestamp.*", "sc:DateTime"), (r"time.*", "sc:Time"),
)  # fmt: skip
_LIST = re.compile(r"(?:large_|fixed_size_)?list(?:_view)?<[^:]*:\s*(.*?)(?: not null)?>(?:\[\d+\])?")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with metadata: an error breaks the format, a warning names something that should be there."""

    severity: Literal["error", "warning"]
    text: str


def make_croissant(facts: Facts) -> dict[str, Any]:
    """Return the metadata as JSON-LD, from facts alone; what was not given is left out."""
    about = facts.about
    document: dict[str, Any] = {
        "@context": dict(CONTEXT),
        "@type": "sc:Dataset",
        "name": facts.title,
        "description": _describe(facts),
        "conformsTo": list(CONFORMS_TO),
        "license": about.licence,
        "creator": _name_organisation(about.creator),
        "publisher": _name_organisation(about.publisher),
        "citeAs": about.citation,
        "url": about.url,
        "version": about.version,
        "dateCreated": about.created_at,
        "datePublished": about.published_at,
        "keywords": [word for word in ("synthetic data" if about.synthetic else "", "medical imaging",
                                       about.modality) if word],
        "prov:wasDerivedFrom": [{"@id": _make_address(name)} for name in about.derived_from],
        "prov:wasGeneratedBy": {"@type": "prov:Activity", "prov:label": say_method(facts)},
        **_describe_responsibly(facts),
        "distribution": _list_distribution(facts),
        "recordSet": _list_records(facts),
    }  # fmt: skip
    return {key: _clean(value) for key, value in document.items() if value}


def check_croissant(document: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with the metadata, errors first. Nothing is downloaded and no data file is opened."""
    logger = logging.getLogger("absl")  # where the library tells its warnings once more
    before, logger.disabled = logger.disabled, True
    try:
        issues = mlcroissant.Dataset(jsonld=dict(document)).metadata.ctx.issues
        found = [Problem("error", text) for text in sorted(issues.errors)]
        found += [Problem("warning", text) for text in sorted(issues.warnings)]
    except (mlcroissant.ValidationError, ValueError, TypeError, KeyError, AttributeError) as error:
        found = [Problem("error", str(error))]
    finally:
        logger.disabled = before
    for wanted in CONFORMS_TO:
        given = document.get("conformsTo") or []
        if wanted not in ([given] if isinstance(given, str) else given):
            found.insert(0, Problem("error", f"conformsTo does not name {wanted}."))
    missing = [Problem("warning", f"the specification requires '{key}', which was not given.") for key in REQUIRED
               if not document.get(key)]  # fmt: skip
    return found + missing


def describe_type(column: Column) -> tuple[str, bool]:
    """Return the Croissant type of an Arrow type, and whether the column holds lists of it."""
    kind, repeated = column.type.strip(), False
    while (match := _LIST.fullmatch(kind)) is not None:
        kind, repeated = match[1], True
    if kind.startswith("dictionary<values="):
        kind = kind.removeprefix("dictionary<values=").partition(",")[0]
    if column.media_type.startswith("image/"):
        return "sc:ImageObject", repeated
    for pattern, name in _TYPES:
        if (found := re.fullmatch(pattern, kind)) is not None:
            return name.format("U" if kind.startswith("u") else "", *found.groups()), repeated
    return "sc:Text", repeated


def _describe(facts: Facts) -> str:
    verdict = judge(facts)
    first = facts.about.description or f"{facts.kind.capitalize()} {facts.about.modality or 'medical images'}."
    return f"{first.rstrip('.')}. Scorecard: {verdict.word.lower()}. {' '.join(verdict.sentences)}"


def _describe_responsibly(facts: Facts) -> dict[str, Any]:
    about, report = facts.about, facts.report
    shares = describe_population(facts.images)
    collected = "No person was imaged for these data: they are synthetic. " if about.synthetic else ""
    source = f" ({about.reference_source})" if about.reference_source else ""
    return {
        "rai:dataCollection": f"{collected}{say_method(facts)}",
        "rai:dataCollectionType": ["Others: synthetic generation"] if about.synthetic else [],
        "rai:dataCollectionRawData": f"Judged against the reference '{report.reference_name}'{source}, which is not "
                                     "part of the data.",
        "rai:dataCollectionMissingData": [f"{len(report.unusable)} images could not be used: they hold no numbers, one "
                                          "single value, or another shape."] if report.unusable else [],
        "rai:dataAnnotationProtocol": about.annotation,
        "rai:dataUseCases": list(about.intended_use),
        "rai:dataLimitations": list_limits(facts),
        "rai:dataBiases": [*say_subgroups(facts), *(f"{s.attribute.name}: {s.text}" for s in shares)],
        "rai:personalSensitiveInformation": say_privacy(facts),
        "rai:dataSocialImpact": about.social_impact,
        "rai:dataReleaseMaintenancePlan": about.maintenance,
    }  # fmt: skip


def _list_distribution(facts: Facts) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = [
        {"@type": "cr:FileObject", "@id": _make_id(file.name), "name": PurePosixPath(file.name).name,
         "contentUrl": file.name, "encodingFormat": PARQUET, "sha256": file.sha256,
         **({"contentSize": f"{file.bytes} B"} if file.bytes else {})}
        for file in facts.about.files
    ]  # fmt: skip
    if len(files) > 1:
        patterns = sorted({str(PurePosixPath(file.name).parent / "*.parquet") for file in facts.about.files})
        files.append({"@type": "cr:FileSet", "@id": "parquet-files", "name": "parquet-files",
                      "encodingFormat": PARQUET, "includes": patterns})  # fmt: skip
    return files


def _list_records(facts: Facts) -> list[dict[str, Any]]:
    files = facts.about.files
    if not files or not facts.about.columns:
        return []
    where = (
        {"fileObject": {"@id": _make_id(files[0].name)}} if len(files) == 1 else {"fileSet": {"@id": "parquet-files"}}
    )
    fields = []
    for column in facts.about.columns:
        kind, repeated = describe_type(column)
        unit = f" Unit: {column.unit}." if column.unit else ""
        fields.append({
            "@type": "cr:Field", "@id": f"{RECORDS}/{_make_id(column.name)}", "name": column.name,
            "description": f"{column.description}{unit}".strip(), "dataType": kind,
            "source": {**where, "extract": {"column": column.name}},
            **({"isArray": True, "arrayShape": "-1"} if repeated else {}),
        })  # fmt: skip
    return [{"@type": "cr:RecordSet", "@id": RECORDS, "name": RECORDS, "field": [
        {key: value for key, value in field.items() if value} for field in fields]}]  # fmt: skip


def _name_organisation(name: str) -> dict[str, str] | None:
    return {"@type": "Organization", "name": name} if name else None


def _make_address(name: str) -> str:
    return (
        name
        if re.fullmatch(r"(https?://|urn:)[^\s\"'<>{}|\\^`]+", name)
        else f"urn:cohortium:reference:{_make_id(name)}"
    )


def _make_id(name: str) -> str:
    """Return a name as part of an IRI: whatever is reserved there becomes its hexadecimal number."""
    return quote(clean_text(name), safe="/~")


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _clean(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(part) for part in value]
    return clean_text(value) if isinstance(value, str) else value
