"""A model taken apart into JSON values and arrays, and put together again."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from synth.errors import PopulationError
from synth.population.chain import VISITS, ChainModel, Codings, Layout
from synth.population.encoding import Coding
from synth.population.schema import Column, Schema
from synth.population.trees import Tree

FORMAT: Literal["cohortium-population"] = "cohortium-population"
FORMAT_VERSION = 1  # raise it when an older reader would misread what is written
MODEL_FILE, ARRAYS_FILE = "model.json", "model.safetensors"
TREE_TYPES: dict[str, type[np.generic]] = {
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


def take_apart(model: ChainModel) -> tuple[dict[str, Any], Arrays]:
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
        for name, kind in TREE_TYPES.items()
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


def hash_parts(document: Mapping[str, Any], arrays: Arrays) -> str:
    """Return the SHA-256 of the parts of a model: names, types, shapes and values."""
    digest = hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def put_together(document: ModelDocument, arrays: Arrays) -> ChainModel:
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
    parts = {name: _cut(arrays[f"tree.{name}"], nodes) for name in TREE_TYPES if name != "probability"}
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
