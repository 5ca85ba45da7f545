"""Families of population models: one registry, one representation (a chain), so that all are drawn the same way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from synth.errors import PopulationError, suggest_nearest
from synth.population.chain import ChainModel
from synth.population.encoding import Codes
from synth.population.fitting import FitProgress, fit_chain
from synth.population.private import PrivateFamily
from synth.population.records import Records
from synth.population.trees import Tree, grow_tree, make_stump

DEFAULT_FAMILY = "trees"


class Family(Protocol):
    """A way to learn a chain from records."""

    @property
    def description(self) -> str:
        """What it learns, in one line."""

    def fit_steps(self, records: Records) -> Iterator[FitProgress | ChainModel]:
        """Yield progress records, and the model at last."""


class TreeFamily:
    """The default: every code depends on whatever before it is worth its parameters."""

    description = "conditional trees in a chain: keeps dependence between attributes and between visits"

    def fit_steps(self, records: Records) -> Iterator[FitProgress | ChainModel]:
        """Yield progress records, and the model at last."""
        return fit_chain(records, "trees", grow_tree)


class IndependentFamily:
    """The baseline that anything must beat: each attribute on its own."""

    description = "independent marginals: every attribute on its own, the baseline that anything must beat"

    def fit_steps(self, records: Records) -> Iterator[FitProgress | ChainModel]:
        """Yield progress records, and the model at last."""
        return fit_chain(records, "independent", _grow_stump)


def _grow_stump(
    features: Codes,
    slots: NDArray[np.int16],
    ordered: NDArray[np.bool_],
    target: Codes,
    size: int,
    target_ordered: bool,
) -> Tree:
    return make_stump(np.bincount(target, minlength=size).astype(np.float64))


FAMILIES: dict[str, Family] = {
    "trees": TreeFamily(),
    "independent": IndependentFamily(),
    "private": PrivateFamily(),  # refuses until a domain is declared: PrivateFamily(PublicDomain(...), epsilon)
}


def find_family(name: str) -> Family:
    """Return the family called ``name``; raises PopulationError with the nearest known name."""
    if name not in FAMILIES:
        hint = suggest_nearest(name, FAMILIES)
        raise PopulationError(f"family '{name}' is not known.{hint} Known: {', '.join(FAMILIES)}.")
    return FAMILIES[name]


def fit_model(records: Records, family: Family) -> ChainModel:
    """Return the model that ``family`` learns from ``records``."""
    for step in family.fit_steps(records):
        if isinstance(step, ChainModel):
            return step
    raise PopulationError("the family gave no model")
