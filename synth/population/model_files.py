"""Models on disk: a folder of ``model.json`` (what it is) and ``model.safetensors`` (its arrays). Nothing can run.

A folder comes into being whole or not at all. Loading checks the fingerprint against accidents and every bound against
malice, and gives the same samples bit for bit.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from pydantic import ValidationError

from synth.errors import PopulationError, StorageError
from synth.population.chain import ChainModel
from synth.population.model_checks import check_model
from synth.population.model_parts import (
    ARRAYS_FILE,
    FORMAT,
    FORMAT_VERSION,
    MODEL_FILE,
    TREE_TYPES,
    Arrays,
    ModelDocument,
    hash_parts,
    put_together,
    take_apart,
)

MOST_JSON_BYTES = 64 << 20
MOST_ARRAY_BYTES = 4 << 30
_WRONG_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.ENAMETOOLONG)


def fingerprint_model(model: ChainModel) -> str:
    """Return the SHA-256 of everything that a saved model holds."""
    document, arrays = take_apart(model)
    return hash_parts(document, arrays)


def is_model(folder: Path) -> bool:
    """Return whether a folder holds a model, damaged or not."""
    return (folder / MODEL_FILE).is_file() and (folder / ARRAYS_FILE).is_file()


def save_model(model: ChainModel, folder: Path, overwrite: bool = False) -> str:
    """Write a model to ``folder`` and return its fingerprint.

    Raises PopulationError if the model could not be loaded again, or the folder exists and is no model or is not to be
    overwritten; StorageError if the disk refuses.
    """
    try:
        check_model(model)
    except PopulationError as error:
        raise PopulationError(f"the model cannot be saved: {error}.") from error
    document, arrays = take_apart(model)
    document["fingerprint"] = hash_parts(document, arrays)
    check_target(folder, overwrite)
    with explain_write(folder):
        draft = _name_beside(folder, "draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        try:
            _write(draft / MODEL_FILE, (json.dumps(document, indent=1) + "\n").encode())
            _write(draft / ARRAYS_FILE, safetensors.numpy.save(arrays))
            _sync_folder(draft)
            _move_in_place(draft, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return str(document["fingerprint"])


def check_target(folder: Path, overwrite: bool) -> None:
    """Raise PopulationError if a model may not be written to ``folder``."""
    above = next((parent for parent in folder.absolute().parents if os.path.lexists(parent)), folder.parent)
    if not above.is_dir():
        raise PopulationError(f"'{folder}' cannot be written ('{above}' is no folder); choose another place.")
    if not os.path.lexists(folder):
        return
    if not is_model(folder):
        raise PopulationError(f"'{folder}' exists and is no model, so it is left alone; choose another folder.")
    if not overwrite:
        raise PopulationError(f"'{folder}' holds a model already; choose another folder, or overwrite it with --force.")


@contextmanager
def explain_write(target: Path) -> Iterator[None]:
    """Turn a refusal to write ``target`` into PopulationError (another place is needed) or StorageError (try again)."""
    try:
        yield
    except OSError as error:
        cause = error.strerror or str(error)
        if error.errno in _WRONG_PLACE:
            raise PopulationError(f"'{target}' cannot be written ({cause}); choose another place.") from error
        raise StorageError(f"'{target}' cannot be written ({cause}); free some space and try again.") from error


def load_model(folder: Path) -> ChainModel:
    """Return the model in ``folder``; raises PopulationError, saying what is wrong, if it is not one or is damaged."""
    if not is_model(folder):
        raise PopulationError(
            f"'{folder}' is no model: there is no {MODEL_FILE} with {ARRAYS_FILE} in it. Give the folder of a model."
        )
    try:
        document = _read_document(folder)
        arrays = _read_arrays(folder)
        model = put_together(document, arrays)
        check_model(model)
        if fingerprint_model(model) != document.fingerprint:
            raise PopulationError("its contents do not have the fingerprint that it was saved with")
    except (PopulationError, OSError) as error:
        raise PopulationError(f"model '{folder}' cannot be used: {error}. Fit it again or restore a backup.") from error
    return model


# ---------------------------------------------------------------------------------------------------------- writing


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _move_in_place(draft: Path, folder: Path) -> None:
    """Rename ``draft`` to ``folder``; a model that is there is set aside until the new one is in place."""
    if not os.path.lexists(folder):
        draft.rename(folder)
    else:
        old = _name_beside(folder, "old")
        folder.rename(old)
        try:
            draft.rename(folder)
        except OSError:
            old.rename(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    _sync_folder(folder.parent)


def _name_beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{os.getpid()}.{what}")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ---------------------------------------------------------------------------------------------------------- reading


def _read_document(folder: Path) -> ModelDocument:
    try:
        values = json.loads(_read(folder / MODEL_FILE, MOST_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise PopulationError(f"{MODEL_FILE} is not valid JSON ({error})") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise PopulationError(f"{MODEL_FILE} does not describe a population model")
    version = values.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise PopulationError(
            f"a newer version of Cohortium wrote it (format {version}, this one reads up to {FORMAT_VERSION}): upgrade"
        )
    try:
        return ModelDocument.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise PopulationError(f"{MODEL_FILE} is damaged at {place}: {first['msg']}") from error


def _read_arrays(folder: Path) -> Arrays:
    try:
        arrays: Arrays = safetensors.numpy.load(_read(folder / ARRAYS_FILE, MOST_ARRAY_BYTES))
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise PopulationError(f"{ARRAYS_FILE} is damaged ({error})") from error
    wanted = {f"tree.{name}": kind for name, kind in TREE_TYPES.items()}
    wanted |= {"coding.low": np.float64, "coding.high": np.float64}
    if {name: array.dtype for name, array in arrays.items()} != {name: np.dtype(kind) for name, kind in wanted.items()}:
        raise PopulationError(f"{ARRAYS_FILE} does not hold the arrays of a model")
    if any(array.ndim != 1 for array in arrays.values()):
        raise PopulationError(f"{ARRAYS_FILE} holds arrays of the wrong shape")
    return arrays


def _read(path: Path, most: int) -> bytes:
    if path.stat().st_size > most:
        raise PopulationError(f"{path.name} is larger than {most >> 20} MB")
    return path.read_bytes()
