"""Folders of NIfTI volumes, in the layout of BIDS with ``participants.tsv`` or without, and single NIfTI files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from synth.nouns import RefusedItem
from synth.references.columns import TableHints, find_columns
from synth.references.items import BegunItem, FoundItem, Step, source_folder
from synth.references.limits import list_files, read_bytes, resolve_inside
from synth.references.plan import BadItemError, Budget, Options, PlannedAttribute, ReferenceError, ReferencePlan
from synth.references.tables import read_names, read_text_table, read_values
from synth.references.volumes import SUFFIXES, read_volume

PARTICIPANTS = "participants.tsv"
SKIPPED_FOLDERS = ("derivatives", "sourcedata", "code", "stimuli")
LABEL_MAPS = ("mask", "dseg", "probseg")
_ENTITY = re.compile(r"(sub|ses)-([A-Za-z0-9]+)")
_SIDECAR_BYTES = 4 << 20


class NiftiFolder:
    """NIfTI files; ``sub-`` in their names is the patient, ``ses-`` the visit, the end of the name the contrast."""

    name = "nifti"
    description = (
        "A folder of NIfTI volumes in the layout of BIDS, with participants.tsv or without, or one NIfTI file."
    )

    def detect(self, path: Path, budget: Budget) -> str | None:
        """Return why ``path`` is a source of this kind, or None."""
        if path.is_file():
            return "the file is a NIfTI volume" if path.name.endswith(SUFFIXES) else None
        count = sum(name.endswith(SUFFIXES) for name in list_files(path, budget)) if path.is_dir() else 0
        return f"the folder holds {count} NIfTI volumes" if count else None

    def describe(self, path: Path, options: Options, budget: Budget) -> ReferencePlan:
        """Return how the volumes will be read."""
        folder = source_folder(path)
        files = list_files(folder, budget) if path.is_dir() else [path.name]
        volumes = [name for name in files if name.endswith(SUFFIXES)]
        kept = [name for name in volumes if _suffix(name) not in LABEL_MAPS and not _is_derived(name)]
        if not kept:
            raise ReferenceError(f"'{path.name}' holds no NIfTI volume that is an image.")
        if options.patient or options.image:
            raise ReferenceError("NIfTI volumes have no columns: 'sub-' in their names is the patient.")
        notes = (
            [f"{len(volumes) - len(kept)} label maps and derivatives are left out"] if len(kept) < len(volumes) else []
        )
        patients = {name: _patient(name) for name in kept}
        if not all(patients.values()):
            unnamed = sum(patient is None for patient in patients.values())
            if unnamed < len(kept):
                notes.append(f"{unnamed} volumes have no 'sub-' in their names; each counts as a patient of its own")
            else:
                notes.append("patients are unknown: each volume counts as a patient of its own")
        tables = [PARTICIPANTS] if PARTICIPANTS in files else []
        known = len({p for p in patients.values() if p}) + sum(p is None for p in patients.values())
        return ReferencePlan(
            adapter=self.name,
            reason=f"{len(volumes)} NIfTI volumes, {'with' if tables else 'without'} {PARTICIPANTS}",
            items=len(kept),
            has_pixels=True,
            files=(*tables, *kept),
            patient_column="sub-" if any(patients.values()) else None,
            order_column="ses-" if any(_entity(name, "ses") for name in kept) else None,
            patients=known if any(patients.values()) else None,
            attributes=_plan_attributes(folder, kept, tables, options, budget, notes),
            notes=tuple(notes),
        )

    def read(self, path: Path, plan: ReferencePlan, budget: Budget, first: int = 0) -> Iterator[Step]:
        """Yield the volumes from ``first`` on, in the order of their names."""
        folder = source_folder(path)
        volumes = [name for name in plan.files if name != PARTICIPANTS]
        people = _read_participants(folder, plan, budget)
        visits = _number_sessions(volumes)
        for item in range(first, len(volumes)):
            name = volumes[item]
            yield BegunItem(item, name)
            try:
                volume = read_volume(resolve_inside(folder, name), budget)
            except BadItemError as error:
                yield RefusedItem(item, name, str(error))
                continue
            except MemoryError:
                yield RefusedItem(item, name, "it needs more memory than allowed (--memory-gb)")
                continue
            patient = _patient(name)
            values = {a.name: people.get(patient or "", {}).get(a.name) for a in plan.attributes if a.column}
            own = {a.name: _suffix(name) for a in plan.attributes if not a.column}
            yield FoundItem(
                item, name, patient, visits.get(name), None, {**own, **values}, volume.pixels, volume.axes,
                volume.spacing_mm, volume.affine, volume.intensity_scale,
            )  # fmt: skip


def _entity(name: str, key: str) -> str | None:
    """Return the last value of an entity of BIDS in a name or its folders, as in sub-01/ses-2/sub-01_ses-2_T1w."""
    return next((value for found, value in reversed(_ENTITY.findall(name)) if found == key), None)


def _patient(name: str) -> str | None:
    label = _entity(name, "sub")
    return f"sub-{label}" if label else None


def _suffix(name: str) -> str:
    stem = PurePosixPath(name).name.removesuffix(".gz").removesuffix(".nii")
    return stem.rpartition("_")[2][:50]


def _is_derived(name: str) -> bool:
    return PurePosixPath(name).parts[0] in SKIPPED_FOLDERS


def _number_sessions(volumes: list[str]) -> dict[str, float]:
    """Return the place of each volume's session among all sessions of its patient, in the order of their names."""
    sessions: dict[str, set[str]] = {}
    for name in volumes:
        if session := _entity(name, "ses"):
            sessions.setdefault(_patient(name) or "", set()).add(session)
    ranks = {patient: {s: float(n) for n, s in enumerate(sorted(found))} for patient, found in sessions.items()}
    return {name: ranks[_patient(name) or ""][s] for name in volumes if (s := _entity(name, "ses"))}


def _plan_attributes(
    folder: Path, volumes: list[str], tables: list[str], options: Options, budget: Budget, notes: list[str]
) -> tuple[PlannedAttribute, ...]:
    kinds = {_suffix(name) for name in volumes}
    named = any(_patient(name) for name in volumes)
    own = PlannedAttribute(name="contrast", kind="categorical", description="Last part of the volume's file name.")
    attributes = [own] if named and len(kinds) <= 50 else []
    if tables:
        table, hints = _read_people(folder, options, budget)
        columns = find_columns(table, hints)
        attributes += [a for a in columns.attributes if a.name != own.name]
        notes += columns.notes
        people = {_normal(p) for p in read_names(table["participant_id"]) if p}
        seen = {patient for name in volumes if (patient := _patient(name))}
        for count, text in ((len(seen - people), "have volumes and are not in"), (len(people - seen), "are only in")):
            if count:
                notes.append(f"{count} participants {text} {PARTICIPANTS}")
    if options.attributes is not None:
        attributes = [a for a in attributes if a.name in options.attributes or a.column in options.attributes]
    return tuple(attributes)


def _normal(participant: str) -> str:
    return participant if participant.startswith("sub-") else f"sub-{participant}"


def _read_people(folder: Path, options: Options | None, budget: Budget) -> tuple[Any, TableHints]:
    try:
        table = read_text_table(resolve_inside(folder, PARTICIPANTS), budget)
    except BadItemError as error:
        raise ReferenceError(f"'{PARTICIPANTS}': {error}.") from error
    if "participant_id" not in table.column_names:
        raise ReferenceError(f"'{PARTICIPANTS}' has no column 'participant_id'.")
    units, descriptions = _read_sidecar(folder)
    wanted = options.attributes if options else None
    picked = tuple(name for name in wanted if name in table.column_names) if wanted is not None else None
    return table, TableHints("participant_id", None, picked, units=units, descriptions=descriptions)


def _read_sidecar(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return units and descriptions of columns from participants.json; a broken one counts as none."""
    try:
        content = json.loads(read_bytes(resolve_inside(folder, "participants.json"), _SIDECAR_BYTES))
    except (BadItemError, ValueError, RecursionError):
        return {}, {}
    columns = {k: v for k, v in content.items() if isinstance(v, dict)} if isinstance(content, dict) else {}
    units = {k: v["Units"][:50] for k, v in columns.items() if isinstance(v.get("Units"), str)}
    texts = {k: v["Description"][:1000] for k, v in columns.items() if isinstance(v.get("Description"), str)}
    return units, texts


def _read_participants(folder: Path, plan: ReferencePlan, budget: Budget) -> dict[str, dict[str, Any]]:
    if PARTICIPANTS not in plan.files:
        return {}
    table, _ = _read_people(folder, None, budget)
    names = read_names(table["participant_id"])
    columns = {a.name: read_values(table, a) for a in plan.attributes if a.column}
    return {_normal(name): {key: values[row] for key, values in columns.items()}
            for row, name in enumerate(names) if name}  # fmt: skip
