"""Label maps that recipes name: checked, and kept below the home by their hash before anything is planned."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from catalog.home import explain_refusals, make_folder, sync_file, sync_folder
from flows.settings import Settings
from flows.shelf import FolderShelf
from synth.errors import SpecError
from synth.physics.label_files import hash_file, pin_label_maps, refuse_map
from synth.physics.label_tables import find_table
from synth.pins import Pin, read_pin
from synth.spec import CohortSpec

_PACKED = b"\x1f\x8b"


def keep_label_maps(spec: CohortSpec, settings: Settings, kept: Path) -> tuple[str, ...]:
    """Return the pins of the label maps that ``spec`` names, without their folders; the files are kept in ``kept``.

    Raises SpecError for a file that is gone, was changed since it was named, or is no label map by the recipe's table;
    StorageError if the disk refuses.
    """
    asked = spec.imaging.anatomy
    pins = [pin for label in pin_label_maps(Path(), asked.labels) if (pin := read_pin(label)) is not None]
    reader: Any = importlib.import_module("synth.physics.label_maps")  # loads SciPy
    for pin in pins:
        path = FolderShelf(kept).find_label_map(pin.sha256) or _find_file(pin, settings)
        if asked.table is not None:  # another recipe may have kept the file with another table
            reader.read_label_map(path, find_table(asked.table), Path(pin.name).name)
        _keep_file(path, kept, pin.sha256)
    return tuple(str(Pin(Path(pin.name).name, pin.sha256)) for pin in pins)


def _find_file(pin: Pin, settings: Settings) -> Path:
    """Return a file with the bytes that were pinned: the one that was named, or one that the real home keeps."""
    path = FolderShelf(settings.home.models).find_label_map(pin.sha256) or Path(pin.name)
    name = Path(pin.name).name
    if not path.is_file():
        raise refuse_map(name, f"it is gone, and '{settings.home.models}' does not keep it either; name its file again")
    found = hash_file(path)
    if found != pin.sha256:
        raise SpecError(
            f"imaging.anatomy.labels: '{name}' has the SHA-256 {found[:12]}, not {pin.sha256[:12]}; it was changed or "
            "replaced. Restore it, or name it without @sha256."
        )
    return path


def _keep_file(path: Path, kept: Path, sha256: str) -> None:
    """Copy a label map to the folder of its hash, whole or not at all, unless it is there."""
    if FolderShelf(kept).find_label_map(sha256) is not None:
        return
    make_folder(kept)
    with explain_refusals(kept / sha256):
        draft = Path(tempfile.mkdtemp(prefix=".keeping-", dir=kept))
        try:
            with path.open("rb") as file:
                name = "labels.nii.gz" if file.read(2) == _PACKED else "labels.nii"
            shutil.copyfile(path, draft / name)
            sync_file(draft / name)
            draft.chmod(0o755)
            os.replace(draft, kept / sha256)
            sync_folder(kept)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
