"""Writes the documents of a report: two pages, a card, metadata, and the report itself for machines."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from synth.evaluation.document.about import read_about
from synth.evaluation.document.card import write_card
from synth.evaluation.document.croissant import make_croissant
from synth.evaluation.document.facts import Facts, judge
from synth.evaluation.document.page import write_page
from synth.evaluation.images.report import ImageReport
from synth.evaluation.images.sets import ImageSet, RealImages
from synth.nouns import GateResult

INTERNAL_FILES = ("index.html", "report.json")  # hold real images or name real patients
PUBLIC_FILES = ("release.html", "card.md", "croissant.json")


def write_document(
    folder: Path,
    report: ImageReport,
    gates: Sequence[GateResult],
    images: ImageSet,
    real: RealImages,
    about: Mapping[str, Any],
) -> list[Path]:
    """Write the documents of a report into ``folder`` and return their paths; INTERNAL_FILES are not for release.

    ``images`` and ``real`` are the two sides that were judged; ``about`` has facts that only the caller knows (see
    About). Everything is made before anything is written, and files appear under their names only when all of them are
    on disk. Raises DocumentError for wrong facts, OSError if the disk refuses.
    """
    facts = Facts(report, tuple(gates), images, real, read_about(about))
    public = dataclasses.replace(facts, public=True)
    texts = {
        "index.html": write_page(facts),
        "release.html": write_page(public),
        "card.md": write_card(public),
        "croissant.json": dump_json(make_croissant(public)),
        "report.json": dump_json(make_report(facts)),
    }
    return _write_together(folder, texts)


def make_report(facts: Facts) -> dict[str, Any]:
    """Return the report for machines: ``ImageReport.to_json`` with the verdict, the gates and the stated facts."""
    verdict = judge(facts)
    return {
        **facts.report.to_json(),
        "verdict": {"state": verdict.state, "reasons": list(verdict.sentences)},
        "gates": [dataclasses.asdict(gate) for gate in facts.gates],
        "about": facts.about.model_dump(mode="json", exclude_defaults=True),
    }


def dump_json(document: Any) -> str:
    """Return strict JSON: numbers that are not finite become null."""
    return json.dumps(_make_plain(document), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _make_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _make_plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_make_plain(part) for part in value]
    if isinstance(value, np.ndarray | np.generic):
        return _make_plain(value.tolist())
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int) else str(value)


def _write_together(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write files beside their places, sync them, and rename them all; an error before that leaves nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".document-", dir=folder) as drafts:
        for name, text in texts.items():
            with (Path(drafts) / name).open("w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        for name in texts:
            os.replace(Path(drafts) / name, folder / name)
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return [folder / name for name in texts]
