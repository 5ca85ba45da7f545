"""The scorecard of images: both sides read, judged, gated, written as a document, and stored.

``judge_images`` is all of it but storing; what stores and logs takes its Verdict. Evaluating again is always allowed:
equal findings have one id and are stored once.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from catalog import (
    Catalog,
    Reference,
    ReleaseRow,
    ScorecardRow,
    commit_cohort_scorecard,
    commit_scorecard,
    open_catalog,
)
from catalog.cohort_tables import PIXELS
from catalog.home import explain_refusals
from catalog.rows import ATTRIBUTE_SCHEMA
from catalog.shards import column_names
from flows.cohort_source import CohortSource
from flows.evaluation_attributes import share_attributes
from flows.evaluation_request import EvaluationRequest
from flows.evaluation_sides import list_attributes, open_work_folder, read_reference_form, read_sides
from flows.evaluation_sources import FileSource, SplitSource, open_reference, open_source
from flows.settings import Settings
from flows.source_images import Source
from synth.evaluation.document.write import dump_json, write_document
from synth.evaluation.images.features.base import Tell
from synth.evaluation.images.measured import score_measured
from synth.evaluation.images.report import ImageReport
from synth.evaluation.images.scorecard import check_settings, evaluate_images
from synth.evaluation.metric import Score
from synth.evaluation.policy import apply_policy
from synth.nouns import GateResult
from synth.numerics import numeric_profile

DIGITS = 10  # of the hash in a scorecard's id
LONGEST_SLUG = 100
DOCUMENT = "scorecard"  # the folder of the document, below the scorecard's own
_MEASURED = """
    SELECT m.name, i.subject_id, m."within" FROM measurements AS m JOIN images AS i ON i.image_id = m.image_id
    WHERE m.cohort_id = $1 AND i.kind = $2
    AND i.image_id NOT IN (SELECT image_id FROM image_pairs WHERE cohort_id = $1) ORDER BY m.name, m.image_id
"""


@dataclass(frozen=True)
class Verdict:
    """What was found and what the policy says of it. ``files`` are the parts of the document."""

    row: ScorecardRow
    report: ImageReport
    decides: bool
    folder: Path
    files: tuple[Path, ...]
    records: Any = field(repr=False)  # of the images that were judged, an Arrow table
    reference_id: str = ""

    @property
    def index(self) -> Path:
        """The page to open in a browser."""
        return self.folder / "index.html"


def check_request(request: EvaluationRequest) -> None:
    """Raise PermanentError for families, features or options that do not exist."""
    check_settings(request.settings)


def describe_evaluation(catalog: Catalog, request: EvaluationRequest) -> dict[str, Any]:
    """Return what would be judged and how, as plain JSON values; nothing is computed or written."""
    check_request(request)
    source, reference = open_sides(catalog, request)
    shared = share_attributes(source.schema, list_attributes(reference, source.kind), request.options.attributes)
    counts = {split: len(reference.image_ids(split)) for split in ("train", "validation", "holdout")}
    form = read_reference_form(catalog, reference)
    return {
        **request.describe(),
        "images_name": source.name,
        "images": source.count,
        "images_sha256": source.sha256,
        "cohort_id": source.cohort_id if isinstance(source, CohortSource) else None,
        "reference_id": reference.reference_id,
        "reference_fingerprint": reference.fingerprint,
        "reference_images": counts,
        "reference_form": {"axes": form.axes, "shape": list(form.shape), "dtype": form.dtype},
        "attributes": [a.name for a in shared.images],
        "policy": request.policy.name,
        "policy_hash": request.policy.content_hash,
        "gates": [gate.name for gate in request.policy.gate],
        "decides": isinstance(source, CohortSource) and request.is_whole,
        "notes": [*source.notes, *shared.notes],
    }


def open_sides(catalog: Catalog, request: EvaluationRequest) -> tuple[Source, Reference]:
    """Return the images and the reference of a request, neither of them read yet."""
    reference = open_reference(catalog, request.reference)
    return open_source(catalog, request.images, request.choice, request.options, request.budget), reference


def judge_images(settings: Settings, request: EvaluationRequest, tell: Tell) -> Verdict:
    """Return the verdict about the images of a request, with its document written; nothing is stored.

    Raises what reading, judging and writing raise: PermanentError for what cannot be compared, StorageError.
    """
    check_request(request)
    with open_catalog(settings.home) as catalog, open_work_folder(settings.home) as folder:
        source, reference = open_sides(catalog, request)
        sides = read_sides(catalog, source, reference, request.choice, folder, tell, request.options.attributes)
        chosen = replace(request.settings, folder=settings.encoder_folder)
        measured = _read_measured(catalog, source)
        with use_threads(settings.workers):
            report = evaluate_images(sides.images, sides.real, chosen, tell, measured)
        report = replace(report, notes=(*sides.notes, *report.notes))
        gates = apply_policy(request.policy, report)
        row = _make_row(settings, request, source, reference, report, gates)
        document = settings.home.root / row.document
        about = _describe(catalog, request, source, reference)
        with explain_refusals(document):
            files = write_document(document, report, gates, sides.images, sides.real, about)
            _copy_document(files, request.output)
        decides = row.cohort_id is not None and request.is_whole
        return Verdict(
            row, report, decides, document, tuple(files), sides.images.records, reference.reference_id
        )  # fmt: skip


def store_verdict(settings: Settings, verdict: Verdict) -> ReleaseRow | None:
    """Store a verdict in the catalog; of a cohort also the decision that follows from it, which is returned."""
    if verdict.decides:
        return commit_cohort_scorecard(settings.home, verdict.row)
    commit_scorecard(settings.home, replace(verdict.row, cohort_id=None))
    return None


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Let torch and numpy use ``count`` threads while the block runs; commands otherwise keep to one a worker."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)


def make_plain(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``document`` as plain JSON values; numbers that are not finite become None."""
    return cast(dict[str, Any], json.loads(dump_json(document)))


def name_scorecard(name: str, content: Mapping[str, Any]) -> str:
    """Return the id of a scorecard: the images' name as far as it is safe, and ten digits of a hash of ``content``.

    Numbers count to six digits: the last bits depend on the number of threads.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:LONGEST_SLUG].strip("-") or "images"
    text = json.dumps(_round_numbers(content), sort_keys=True, allow_nan=False)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{slug}-{digest[:DIGITS]}"


def _round_numbers(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return {key: _round_numbers(part) for key, part in value.items()}
    return [_round_numbers(part) for part in value] if isinstance(value, list | tuple) else value


def _read_measured(catalog: Catalog, source: Source) -> list[Score]:
    """Return what was measured while the images of a cohort were made."""
    if not isinstance(source, CohortSource):
        return []
    rows: dict[str, list[tuple[str, bool]]] = {}
    for name, subject, within in catalog.sql(_MEASURED, [source.cohort_id, source.kind]).rows():
        rows.setdefault(name, []).append((subject, within))
    found = []
    for name, pairs in rows.items():
        subjects = np.unique([subject for subject, _ in pairs], return_inverse=True)[1]
        found.append(score_measured(name, subjects, np.array([within for _, within in pairs], bool)))
    return found


def _make_row(
    settings: Settings, request: EvaluationRequest, source: Source, reference: Reference, report: ImageReport,
    gates: tuple[GateResult, ...],
) -> ScorecardRow:  # fmt: skip
    plain, asked = make_plain(report.to_json()), {**request.describe(), "images": source.name}
    found = {key: value for key, value in plain.items() if key not in ("seconds", "features")}
    judged = [[gate.gate, gate.passed] for gate in gates]
    about = [source.sha256, reference.fingerprint, request.policy.content_hash, asked]
    scorecard_id = name_scorecard(source.name, {"report": found, "gates": judged, "about": about})
    document = settings.report_folder / scorecard_id / DOCUMENT
    return ScorecardRow(
        scorecard_id=scorecard_id,
        cohort_id=source.cohort_id if isinstance(source, CohortSource) else None,
        images_name=source.name,
        images_sha256=source.sha256,
        images=report.counts["images"],
        reference_id=reference.reference_id,
        reference_fingerprint=reference.fingerprint,
        policy=request.policy.name,
        policy_hash=request.policy.content_hash,
        gates=gates,
        controls_valid=report.controls_valid,
        seed=report.seed,
        request=asked,
        document=settings.home.relative(document),
        report=plain,
    )


def _describe(catalog: Catalog, request: EvaluationRequest, source: Source, reference: Reference) -> dict[str, Any]:
    """Return the facts for the document that only the platform knows."""
    facts: dict[str, Any] = {
        "synthetic": not isinstance(source, SplitSource),
        "reference_source": _stated(reference.row["source"]),
        "reference_licence": _stated(reference.row["licence"]),
        "evaluated_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "decided_by": "gates of the policy",
        "command": request.command,
        "software": {name: str(value) for name, value in numeric_profile().items()},
        "policy_name": request.policy.name,
        "policy_hash": request.policy.content_hash,
        "gate_metrics": {gate.name: gate.metric for gate in request.policy.gate},
        "extra": {
            "request": request.describe(),
            "images_sha256": source.sha256,
            "catalog_snapshot": catalog.snapshot_id,
        },
    }
    if isinstance(source, FileSource):
        facts["method"] = "made by another tool; read from " + source.plan.adapter + " files"
    if isinstance(source, CohortSource):
        facts |= _describe_cohort(catalog, source)
    return facts


def _describe_cohort(catalog: Catalog, source: CohortSource) -> dict[str, Any]:
    row = catalog.sql("SELECT * FROM cohorts WHERE cohort_id = ?", [source.cohort_id]).dicts()[0]
    means = {column.name: column.description for column in PIXELS.columns}
    shards = catalog.shards(source.cohort_id)
    present = column_names(catalog.home, shards[0])
    return {
        "title": f"{source.cohort_id} ({source.kind})",
        "description": json.loads(row["spec_json"]).get("description", ""),
        "modality": f"{source.kind} images",
        "method": f"engine {row['engine']} {row['engine_version']} of Cohortium",
        "population": f"{row['population']} {row['population_version']}",
        "created_at": row["created_at"].date().isoformat(),
        "files": [
            {"name": Path(shard.path).name, "sha256": shard.sha256, "bytes": shard.bytes}
            for shard in shards
        ],
        "columns": [
            {"name": part.name, "type": str(part.type), "description": means[part.name],
             "media_type": "image/png" if part.name == "preview" else ""}
            for part in ATTRIBUTE_SCHEMA
            if part.name in present and "struct" not in str(part.type)  # Croissant cannot say what those hold
        ],
    }  # fmt: skip


def _stated(text: str | None) -> str:
    return "" if text in (None, "unknown") else str(text)


def _copy_document(files: list[Path], output: Path | None) -> None:
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copyfile(file, output / file.name)
