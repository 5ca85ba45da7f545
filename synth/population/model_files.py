"""Models on disk: a folder of ``model.json`` (what it is) and ``model.safetensors`` (its arrays). Nothing can run.

A folder comes into being whole or not at all. Loading checks the fingerprint against accidents and every bound against
malice, and gives the same samples bit for bit.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from synth.errors import PopulationError, StorageError
from synth.population.chain import VISITS, ChainModel, Codings, Layout
from synth.population.encoding import Coding
from synth.population.model_checks import check_model
from synth.population.schema import Column, Schema
from synth.population.trees import Tree

FORMAT: Literal["cohortium-population"] = "cohortium-population"
FORMAT_VERSION = 1  # raise it when an older reader would misread what is written
MODEL_FILE, ARRAYS_FILE = "model.json", "model.safetensors"
MOST_JSON_BYTES = 64 << 20
MOST_ARRAY_BYTES = 4 << 30
_WRONG_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.ENAMETOOLONG)
_TREE_TYPES: dict[str, type[np.generic]] = {
    "feature": np.int16,
    "threshold": np.uint8,
    "equal": np.bool_,
    "left": np.int32,
    "right": np.int32,
    "leaf": np.int32,
    "probability": np.float64,
}
Arrays = dict[str, NDArray[Any]]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TreeSize(_Part):
    """How much of the joined arrays a tree is."""

    nodes: int = Field(ge=1)
    leaves: int = Field(ge=1)
    codes: int = Field(ge=1)


class ModelDocument(_Part):
    """What ``model.json`` holds."""

    format: Literal["cohortium-population"]
    format_version: int
    fingerprint: str
    family: str
    schema_: Schema = Field(alias="schema")
    layout: Layout
    deltas: dict[str, Literal["integer", "continuous"]]  # increments of clocks, by attribute
    intervals: dict[str, int]  # how much of the joined borders each coding is, in order
    trees: tuple[TreeSize, ...]
    about: dict[str, Any]


def fingerprint_model(model: ChainModel) -> str:
    """Return the SHA-256 of everything that a saved model holds."""
    document, arrays = _take_apart(model)
    return _hash(document, arrays)


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
    document, arrays = _take_apart(model)
    document["fingerprint"] = _hash(document, arrays)
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
        model = _put_together(document, arrays)
        check_model(model)
        if fingerprint_model(model) != document.fingerprint:
            raise PopulationError("its contents do not have the fingerprint that it was saved with")
    except (PopulationError, OSError) as error:
        raise PopulationError(f"model '{folder}' cannot be used: {error}. Fit it again or restore a backup.") from error
    return model


# ---------------------------------------------------------------------------------------------------------- writing


def _take_apart(model: ChainModel) -> tuple[dict[str, Any], Arrays]:
    """Return a model as JSON values (without fingerprint) and arrays."""
    codings = _list_codings(model)
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "family": model.family,
        "schema": model.schema.to_json(),
        "layout": dataclasses.asdict(model.layout),
        "deltas": {name: model.codings.deltas[name].column.kind for name in model.layout.clocks},
        "intervals": {name: len(coding.low) for name, coding in codings.items()},
        "trees": [
            {"nodes": len(t.feature), "leaves": t.probability.shape[0], "codes": t.probability.shape[1]}
            for t in model.trees
        ],
        "about": model.about,
    }
    arrays: Arrays = {
        f"tree.{name}": np.concatenate([np.asarray(getattr(tree, name), dtype=kind).ravel() for tree in model.trees])
        for name, kind in _TREE_TYPES.items()
    }
    for side in ("low", "high"):
        borders = [np.asarray(getattr(coding, side), dtype=np.float64) for coding in codings.values()]
        arrays[f"coding.{side}"] = np.concatenate([np.empty(0), *borders])
    plain: dict[str, Any] = json.loads(json.dumps(document))  # tuples as lists, names as text
    return plain, arrays


def _list_codings(model: ChainModel) -> dict[str, Coding]:
    """Return all codings by a name that tells attributes, increments and visits apart, in the order of the schema."""
    codings = model.codings
    return {
        **{f"value {c.name}": codings.columns[c.name] for c in model.schema.columns if c.kind != "set"},
        **{f"since {name}": codings.deltas[name] for name in model.layout.clocks},
        **({VISITS: codings.visits} if codings.visits is not None else {}),
    }


def _hash(document: Mapping[str, Any], arrays: Arrays) -> str:
    digest = hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


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
    wanted = {f"tree.{name}": kind for name, kind in _TREE_TYPES.items()}
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


def _put_together(document: ModelDocument, arrays: Arrays) -> ChainModel:
    """Return the model of a document and its arrays, cut to the sizes that the document says."""
    codings = _cut_codings(document, arrays)
    trees = _cut_trees(document.trees, arrays)
    return ChainModel(document.family, document.schema_, document.layout, codings, trees, document.about)


def _cut_codings(document: ModelDocument, arrays: Arrays) -> Codings:
    schema = document.schema_
    columns = {c.name: c for c in schema.columns if c.kind != "set"}
    deltas = {name: Column(f"{name} since", kind) for name, kind in document.deltas.items()}
    named = {f"value {name}": column for name, column in columns.items()}
    named |= {f"since {name}": column for name, column in deltas.items()}
    named |= {VISITS: Column(VISITS, "integer")} if schema.repeated else {}
    if set(named) != set(document.intervals):
        raise PopulationError("its codings are not those of its attributes")
    sizes = list(document.intervals.values())
    low, high = _cut(arrays["coding.low"], sizes), _cut(arrays["coding.high"], sizes)
    made = {
        name: Coding(named[name], below, above)
        for name, below, above in zip(document.intervals, low, high, strict=True)
    }
    return Codings(
        {name: made[f"value {name}"] for name in columns},
        {name: made[f"since {name}"] for name in deltas},
        made.get(VISITS),
    )


def _cut_trees(sizes: tuple[TreeSize, ...], arrays: Arrays) -> tuple[Tree, ...]:
    nodes = [size.nodes for size in sizes]
    parts = {name: _cut(arrays[f"tree.{name}"], nodes) for name in _TREE_TYPES if name != "probability"}
    chances = _cut(arrays["tree.probability"], [size.leaves * size.codes for size in sizes])
    return tuple(
        Tree(**{name: cut[k] for name, cut in parts.items()}, probability=chances[k].reshape(size.leaves, size.codes))
        for k, size in enumerate(sizes)
    )


def _cut(joined: NDArray[Any], sizes: list[int]) -> list[NDArray[Any]]:
    """Return consecutive parts of these sizes; raises PopulationError unless they are all there is."""
    if any(size < 0 for size in sizes) or sum(sizes) != len(joined):
        raise PopulationError(f"{ARRAYS_FILE} holds arrays of other lengths than {MODEL_FILE} says")
    stops = np.cumsum([0, *sizes]).tolist()
    return [joined[start:stop] for start, stop in itertools.pairwise(stops)]
