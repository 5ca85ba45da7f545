"""The files of label maps that a recipe names: found, and named by the SHA-256 of their bytes. Nothing is decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from synth.errors import SpecError
from synth.pins import Pin, read_pin

SUFFIXES = (".nii", ".nii.gz")
MOST_FILES = 2000


def refuse_map(name: str, why: str) -> SpecError:
    """Return the error that a label map called ``name`` cannot be used."""
    return SpecError(f"imaging.anatomy.labels: '{name}': {why}.")


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes; raises SpecError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SpecError(
            f"imaging.anatomy.labels: '{path.name}' cannot be read: {error.strerror}. Give NIfTI files "
            f"({', '.join(SUFFIXES)}) or a folder of them, named from the folder of the recipe."
        ) from error


def list_label_maps(folder: Path, asked: Sequence[str]) -> list[Path]:
    """Return the files that ``asked`` names, from ``folder``: files, or folders of which every NIfTI file counts.

    Raises SpecError if one is not there, is no NIfTI file, or a folder has none.
    """
    found: list[Path] = []
    for name in asked:
        path = folder / name
        if path.is_dir():
            own = sorted(p for p in path.iterdir() if p.name.endswith(SUFFIXES) and not p.name.startswith("."))
            if not own:
                raise refuse_map(name, f"this folder has no NIfTI file ({', '.join(SUFFIXES)})")
            found += own
        elif not path.is_file():
            raise refuse_map(name, "there is no such file or folder; names are read from the folder of the recipe")
        elif not path.name.endswith(SUFFIXES):
            raise refuse_map(name, f"label maps are NIfTI files ({', '.join(SUFFIXES)}); convert it first")
        else:
            found.append(path)
    return found


def pin_label_maps(folder: Path, asked: Sequence[str]) -> tuple[str, ...]:
    """Return the pins of the files that ``asked`` names from ``folder`` (see list_label_maps), sorted by their hash.

    So neither names nor order decide whose anatomy a subject gets; equal files count once. Pins stay as they are.
    """
    pins = [pin for name in asked if (pin := read_pin(name)) is not None]
    paths = list_label_maps(folder, [name for name in asked if read_pin(name) is None])
    if len(pins) + len(paths) > MOST_FILES:
        raise SpecError(f"imaging.anatomy.labels: {len(pins) + len(paths)} files; {MOST_FILES} are allowed.")
    pins += [Pin(str(path.resolve()), hash_file(path)) for path in paths]
    return tuple(str(pin) for pin in sorted({pin.sha256: pin for pin in pins}.values(), key=lambda pin: pin.sha256))
