"""The private family: a population model with differential privacy for every patient, all rows of a patient together.

Three rounds are measured with discrete Gaussian noise, and nothing else sees the records: (1) all single columns and
pairs of the first visits, number of visits included, which give the tree of dependence; (2) the first visits again,
only along that tree; (3) later visits: each attribute with its own value at the visit before. A first visit is drawn
along the tree, then the number of visits, then each attribute of a later visit given its value before; what is static
is kept, and a clock grows by steps that depend on nothing.

The guarantee covers the model. It does not cover what else the person who fits it sees or writes down: how long the fit
took, error messages, counts of cleaned rows, or comparisons of the model's samples with the real records.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from synth.errors import PopulationError
from synth.population.chain import VISITS, ChainModel, Node, plan_layout
from synth.population.fitting import FitProgress
from synth.population.private_counts import (
    Counts,
    Release,
    Table,
    describe_accountant,
    find_epsilon,
    find_rho,
    release_tables,
)
from synth.population.private_domain import PublicCodes, PublicDomain, check_domain, encode_public
from synth.population.private_estimates import Estimates, condition_rows, rake, span_tree, split_tree
from synth.population.records import Records
from synth.population.trees import Tree

EPSILON = 1.0  # nobody's odds of being noticed in the records change by more than a factor e
DELTA = 1e-6  # far below one over the patients of any register this is for; must not be set from their number
MOST_ROWS = 8  # later visits counted of a patient; fewer would forget the frequent patients, more cost noise
SHARES = {"pairs": 0.35, "tree": 0.35, "steps": 0.3}  # of the budget
MAX_CELLS = 4096  # of a measured table; wider pairs are taken as independent
RANDOM_SOURCE = "operating system, through OpenDP; a fit cannot be repeated bit for bit, drawing from the model can"


@dataclass(frozen=True, slots=True)
class PrivateFamily:
    """Differential privacy of whole patients. ``domain`` must be declared; see PublicDomain."""

    domain: PublicDomain | None = None
    epsilon: float = EPSILON
    delta: float = DELTA
    most_rows: int = MOST_ROWS

    @property
    def description(self) -> str:
        """What it learns, in one line."""
        return (
            "differentially private: noisy tables along a tree of dependence; protects all rows of a patient together"
        )

    def fit_steps(self, records: Records) -> Iterator[FitProgress | ChainModel]:
        """Yield progress records, and the model at last; raises PopulationError if the domain is not declared."""
        domain = check_domain(self.domain, records)
        if self.most_rows < 1:
            raise PopulationError(f"most_rows is {self.most_rows}; give at least 1.")
        budget = find_rho(self.epsilon, self.delta)
        codes = encode_public(records, domain, self.most_rows)
        measured = _Measurement(domain, codes, budget, self.most_rows)
        for done, name in enumerate(measured.rounds()):
            yield FitProgress(done + 1, len(SHARES), name)
        yield _build_model(domain, codes, measured, self._describe(measured))

    def _describe(self, measured: _Measurement) -> dict[str, Any]:
        """Return the privacy card. Every figure is public or was made from noisy counts alone."""
        rho = sum(release.rho for release in measured.releases.values())
        patients = measured.first.total
        return {
            "patients_estimated": round(patients),
            "privacy": {
                "unit": "patient",
                "neighbours": "record tables that differ by one patient with all rows, added or removed",
                "epsilon": find_epsilon(rho, self.delta),
                "epsilon_asked": self.epsilon,
                "delta": self.delta,
                "delta_times_patients_estimated": self.delta * patients,
                "rho": rho,
                "mechanism": "discrete Gaussian noise on counts",
                "accountant": describe_accountant(),
                "random_source": RANDOM_SOURCE,
                "most_later_rows_of_a_patient": self.most_rows,
                "rounds": {
                    name: {"tables": len(release.counts), "noise": release.noise, "rho": release.rho}
                    for name, release in measured.releases.items()
                },
                "covers": "the model, not error messages, cleaning counts or comparisons with the real records",
                "domain": measured.domain.to_json(),
            },
        }


class _Measurement:
    """The only part that touches counts of records, and what it learned from their noisy versions."""

    def __init__(self, domain: PublicDomain, codes: PublicCodes, budget: float, most_rows: int) -> None:
        self.domain, self.codes, self.most_rows = domain, codes, most_rows
        shares = {name: share for name, share in SHARES.items() if name != "steps" or domain.schema.repeated}
        spend = budget * (1 - 1e-9) / sum(shares.values())  # sums of floats are rounded
        self.budget = {name: spend * share for name, share in shares.items()}
        self.releases: dict[str, Release] = {}
        self.names = [name for name in codes.first if name != VISITS]
        self.parents: dict[str, str | None] = {}

    def rounds(self) -> Iterator[str]:
        """Yield the name of each round after it was measured."""
        self.releases["pairs"] = release_tables(self.codes.first, self._pair_tables(), 1, self.budget["pairs"])
        self.first = Estimates(self.releases.values())
        self.parents = span_tree(self.names, [VISITS] * self.domain.schema.repeated, self.first)
        yield "pairs"
        self.releases["tree"] = release_tables(self.codes.first, self._tree_tables(), 1, self.budget["tree"])
        self.first = Estimates(self.releases.values())
        yield "tree"
        if self.domain.schema.repeated:
            tables = self._step_tables()
            self.releases["steps"] = release_tables(self.codes.later, tables, self.most_rows, self.budget["steps"])
        yield "steps"

    def table(self, *columns: str) -> Table:
        """Return the table over these columns; ``x before`` has the codes of ``x``."""
        return Table(columns, tuple(self.codes.sizes[name.removesuffix(" before")] for name in columns))

    def _pair_tables(self) -> list[Table]:
        names = list(self.codes.first)
        pairs = [self.table(a, b) for place, a in enumerate(names) for b in names[place + 1 :]]
        return [self.table(name) for name in names] + [table for table in pairs if table.cells <= MAX_CELLS]

    def _tree_tables(self) -> list[Table]:
        return [self.table(*([parent] if parent else []), name) for name, parent in self.parents.items()]

    def _step_tables(self) -> list[Table]:
        return [self.table(*self.step_features(name), name) for name in self.later_names()]

    def later_names(self) -> list[str]:
        """Return what is drawn at a later visit: steps of clocks, then what may change, parents first."""
        clocks = list(self.domain.steps)
        still = {column.name for column in self.domain.schema.columns if column.static}
        moving = [n for n in self.parents if n not in clocks and n not in still and n != VISITS]
        return [f"{name} since" for name in clocks] + moving

    def step_features(self, name: str) -> tuple[str, ...]:
        """Return what a draw of a later visit depends on: the value before, if there is one and the table is small."""
        before = f"{name} before"
        return (before,) if name in self.parents and self.table(before, name).cells <= MAX_CELLS else ()


def _build_model(domain: PublicDomain, codes: PublicCodes, measured: _Measurement, about: dict[str, Any]) -> ChainModel:
    labels = {c.name: list(range(len(c.categories))) for c in domain.schema.columns if c.kind == "set"}
    plan = plan_layout(domain.schema, tuple(domain.steps), labels)
    drawn = {(node.name, node.first): node for node in plan.nodes}
    nodes: list[Node] = []
    trees: list[Tree] = []

    def add(node: Node, features: tuple[str, ...], probability: Counts) -> None:
        slots = tuple(plan.slot(name) for name in features)
        sizes = [codes.sizes[name.removesuffix(" before")] for name in features]
        nodes.append(replace(node, features=slots))
        trees.append(split_tree(slots, sizes, probability))

    for name, parent in measured.parents.items():
        add(drawn[name, True], (parent,) if parent else (), _first_distribution(measured.first, name, parent))
    for name in measured.later_names() if domain.schema.repeated else []:
        add(drawn[name, False], measured.step_features(name), _later_distribution(measured, name))
    layout = replace(plan, nodes=tuple(nodes))
    return ChainModel("private", domain.schema, layout, codes.codings, tuple(trees), about)


def _first_distribution(first: Estimates, name: str, parent: str | None) -> Counts:
    """Return p(name | parent), rows the parent's codes, with both margins kept."""
    own = first.margin(name)
    if parent is None:
        alone: Counts = own[None, :] / own.sum()
        return alone
    counts, variance = first.find((parent, name))
    above = first.margin(parent)
    base = np.tile(own / own.sum(), (len(above), 1))
    table = rake(condition_rows(counts, variance, base, above) * above[:, None], above, own)
    sums = table.sum(axis=1, keepdims=True)
    return np.where(sums > 0, table / np.maximum(sums, 1e-300), base)


def _later_distribution(measured: _Measurement, name: str) -> Counts:
    """Return p(name | features) at a later visit, a row for each value before."""
    release = measured.releases["steps"]
    counts, variance = release.counts[*measured.step_features(name), name], release.noise**2
    codes = counts.shape[-1]
    rows = counts.reshape(-1, codes)
    pooled = condition_rows(rows.sum(axis=0)[None, :], variance * len(rows), np.full((1, codes), 1.0 / codes))
    return pooled if counts.ndim == 1 else condition_rows(rows, variance, np.repeat(pooled, len(rows), axis=0))
