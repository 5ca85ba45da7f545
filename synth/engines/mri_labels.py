"""Whose anatomy a scan has: a person sampled from the template, or one of the recipe's label maps; brain or head.

A label map is laid over the template once (label_person), so that a visit's unknowns, lesions and everything else that
knows the template work on it as on a sampled person. Which map a subject has, and how it lies, is in the scan's row.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from synth.anatomy_spec import AnatomySpec
from synth.errors import SpecError
from synth.nouns import Subject
from synth.physics import anatomy, head
from synth.physics.illness import look_from_row
from synth.physics.individual import Person
from synth.physics.label_files import pin_label_maps
from synth.physics.label_maps import open_label_map
from synth.physics.label_person import Alignment, align_map, alignment_from_json, make_person, measure_map
from synth.physics.label_tables import find_table
from synth.physics.look import Look
from synth.physics.overlay import Overlay
from synth.pins import Pin, read_pin
from synth.seeds import stream, stream_key
from synth.shelf import Shelf
from synth.spec import CohortSpec

_Table = tuple[tuple[str, tuple[int, ...]], ...]


def check_anatomy(asked: AnatomySpec, models: Shelf | None) -> None:
    """Raise SpecError if a label map of the recipe is not on the shelf."""
    for pin in _list_pins(asked):
        _find_path(pin.sha256, models)


def choose_map(spec: CohortSpec, subject_index: int, models: Shelf | None) -> dict[str, Any]:
    """Return what a scan's row says of a subject's anatomy: nothing, or which label map it is and how it lies."""
    pins = _list_pins(spec.imaging.anatomy)
    if not pins:
        return {}
    drawn = int(stream(spec.seed, subject_index, -1, "mri/label-map").integers(len(pins)))
    pin, table = pins[drawn], spec.imaging.anatomy.table
    assert table is not None  # as checked
    alignment = _align(_find_path(pin.sha256, models), pin.sha256, _freeze(table))
    known = table if isinstance(table, str) else {name: list(numbers) for name, numbers in table.items()}
    return {
        "anatomy": {
            "source": "labels",
            "name": Path(pin.name).name,
            "sha256": pin.sha256,
            "table": known,
            "alignment": {name: list(values) for name, values in asdict(alignment).items()},
        }
    }


def fit_shape(shape: anatomy.Shape, row: Mapping[str, Any], deformation: float) -> anatomy.Shape:
    """Return the drawn shape for a label map: ``deformation`` times as strong, with the map's own proportions.

    The map has a torque of its own, so none is added.
    """
    if "sha256" not in row.get("anatomy", {}):
        return shape
    size = np.asarray(row["anatomy"]["alignment"]["size"])
    x, y, z = (float(s) for s in np.asarray(shape.stretch) ** deformation * size / np.cbrt(size.prod()))
    broad_mm, fine_mm = deformation * shape.broad_mm, deformation * shape.fine_mm
    return replace(shape, broad_mm=broad_mm, fine_mm=fine_mm, torque_mm=0.0, stretch=(x, y, z))


def find_body(row: Mapping[str, Any], models: Shelf | None) -> anatomy.Body:
    """Return whom the head of a scan's row is rendered from; raises SpecError if its label map is gone or another."""
    chosen = row.get("anatomy", {})
    if "sha256" not in chosen:
        return anatomy.sample_body(anatomy.shape_from_json(row["shape"]))
    alignment, sha256, table = alignment_from_json(chosen["alignment"]), chosen["sha256"], _freeze(chosen["table"])
    own, size = measure_own(row, models), float(np.prod(alignment.size))
    person = _make_person(_find_path(sha256, models), sha256, table, alignment)
    return anatomy.Body(person, own["intracranial_ml"] / size, own["ventricle_ml"] / size)


def measure_own(row: Mapping[str, Any], models: Shelf | None) -> dict[str, float]:
    """Return the volumes of the label map of a scan's row in millilitres (see measure_map)."""
    chosen = row["anatomy"]
    path, table = _find_path(chosen["sha256"], models), _freeze(chosen["table"])
    return _measure(path, chosen["sha256"], table, alignment_from_json(chosen["alignment"]))


def draw_surroundings(spec: CohortSpec, subject: Subject) -> dict[str, Any]:
    """Return what a scan's row says of what lies around the brain: nothing, or what is drawn of the head."""
    if spec.imaging.anatomy.kind == "brain":
        return {}
    seed, index = spec.seed, subject.subject_index
    drawn = head.draw_head(
        stream(seed, index, -1, "mri/head"), stream_key(seed, index, -1, "mri/head/fields"), subject.sex
    )
    return {"kind": "head", "head": head.head_to_json(drawn)}


@dataclass(frozen=True, slots=True)
class Whom:
    """What the scans of one visit are rendered from: tissue, and what diseases and a head add to it."""

    person: Person
    look: Look


def find_whom(row: Mapping[str, Any], models: Shelf | None) -> Whom:
    """Return what a scan's row is rendered from; raises SpecError if its label map is gone or another."""
    return Whom(find_body(row, models).person, _lay_surroundings(row, look_from_row(row), models))


def _lay_surroundings(row: Mapping[str, Any], look: Look, models: Shelf | None) -> Look:
    """Return ``look`` with the head of a scan's row around the brain, if it has one."""
    chosen = row.get("anatomy", {})
    if chosen.get("kind") != "head":
        return look
    vault = None
    if "sha256" in chosen:
        sha256, table = chosen["sha256"], _freeze(chosen["table"])
        vault = _find_vault(_find_path(sha256, models), sha256, table, alignment_from_json(chosen["alignment"]))
    size = row["solution"]["scale"] * float(np.cbrt(np.prod(row["shape"]["stretch"])))
    around = _lay_head(vault, head.head_from_json(chosen["head"]), size)
    return replace(look, overlays=(*look.overlays, around))


def follow_labels(own: Mapping[str, float], first: anatomy.Volumes, now: anatomy.Volumes) -> anatomy.Volumes:
    """Return the volumes of a visit whose subject is somebody's label map: the map's on the first visit.

    Later they change as the population says that the subject's do.
    """
    brain = own["brain_ml"] * now.brain_ml / first.brain_ml
    ventricle = own["ventricle_ml"] * now.ventricle_ml / first.ventricle_ml
    change = now.brain_ml / first.brain_ml
    if now.grey_ml is not None and first.grey_ml is not None:
        change = now.grey_ml / first.grey_ml
    return anatomy.Volumes(brain, ventricle, own["grey_ml"] * change)


def _list_pins(asked: AnatomySpec) -> list[Pin]:
    return [pin for label in pin_label_maps(Path(), asked.labels) if (pin := read_pin(label)) is not None]


def _find_path(sha256: str, models: Shelf | None) -> Path:
    path = models.find_label_map(sha256) if models is not None else None
    if path is None:
        raise SpecError(
            f"imaging.anatomy.labels: label map {sha256[:12]} is not among what the home keeps. Restore it there, or "
            "build again from a recipe that names its file."
        )
    return path


def _freeze(table: str | Mapping[str, Any]) -> _Table:
    return tuple(sorted((name, tuple(numbers)) for name, numbers in find_table(table).items()))


@functools.lru_cache(maxsize=4096)
def _align(path: Path, sha256: str, table: _Table) -> Alignment:
    return align_map(open_label_map(path, sha256, table))


@functools.lru_cache(maxsize=4096)
def _measure(path: Path, sha256: str, table: _Table, alignment: Alignment) -> dict[str, float]:
    return measure_map(open_label_map(path, sha256, table), alignment)


@functools.lru_cache(maxsize=1)
def _make_person(path: Path, sha256: str, table: _Table, alignment: Alignment) -> Person:
    return make_person(open_label_map(path, sha256, table), alignment)


@functools.lru_cache(maxsize=1)
def _find_vault(path: Path, sha256: str, table: _Table, alignment: Alignment) -> head.Vault:
    return head.find_vault(_make_person(path, sha256, table, alignment).odds[..., 3])


_LAID: dict[tuple[head.Vault | None, head.HeadShape, float], Overlay] = {}  # the last head, which has 100 MB


def _lay_head(vault: head.Vault | None, drawn: head.HeadShape, scale: float) -> Overlay:
    key = (vault, drawn, scale)
    if key not in _LAID:
        _LAID.clear()  # before the next one takes its memory
        _LAID[key] = head.lay_head(vault or head.find_template_vault(), drawn, scale)
    return _LAID[key]
