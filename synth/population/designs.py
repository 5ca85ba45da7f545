"""Study designs: counterfactual twins, matched controls, randomised arms, sites.

Each is a pure function of plan, seed and subject index, so that any slice can be drawn without the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from synth.errors import PopulationError
from synth.philox import philox_block
from synth.population.chain import ChainModel
from synth.population.conditions import Condition, TargetShare, parse_cuts
from synth.population.frame import Frame, build_frame, find_coding, make_limits
from synth.population.rounding import round_shares
from synth.population.sampler import Drawn, draw_codes
from synth.population.sampling import SamplePlan, draw_planned, draw_slice, plan_sample, tabulate
from synth.seeds import COHORT_LEVEL, key_words, stream_key

Indices = NDArray[np.int64]


def draw_twins(
    plan: SamplePlan, start: int, stop: int, change: Sequence[Condition], keep: Sequence[str] | None = None
) -> tuple[pa.Table, pa.Table]:
    """Return (subjects ``start`` to ``stop - 1``, their twins): the same people, ``change`` made on the first visit.

    The counterfactual of the chain (Pearl 2009, Causality, section 7.1): ``change`` is set, ``keep`` (by default all
    other numbers and all that is the same on every visit: who the person is) stays, and everything drawn later is
    drawn anew with the same random words, so it differs only as far as the change makes it.
    """
    original = draw_planned(plan, start, stop)
    forced = _force(plan.model, original, change, keep)
    levels = plan.frame.levels[plan.find_cells(original.subjects)] if plan.frame.axes else None
    twins = draw_codes(
        plan.model,
        plan.seed,
        original.subjects,
        plan.limits if plan.frame.axes else None,
        levels,
        twins=(forced, original.attempts),
    )
    return tabulate(plan, original), tabulate(plan, twins)


def _force(
    model: ChainModel, original: Drawn, change: Sequence[Condition], keep: Sequence[str] | None
) -> NDArray[np.int64]:
    """Return the codes that twins are made to have, by subject and node; -1 where they are drawn."""
    changed = {condition.node: _single_code(model, condition) for condition in change}
    who = {c.name for c in model.schema.columns if c.kind != "set" and (c.static or c.is_number)}
    kept = (who if keep is None else {model.schema.column(name).name for name in keep}) - set(changed)
    forced = np.full((len(original.subjects), len(model.layout.nodes)), -1, dtype=np.int64)
    first = original.states[original.starts[:-1]]
    for place, node in enumerate(model.layout.nodes):
        if not node.first:
            continue
        if node.name in changed:
            forced[:, place] = changed[node.name]
        elif node.name in kept or (node.attribute in kept and node.role == "label"):
            forced[:, place] = first[:, node.slot]
    return forced


def _single_code(model: ChainModel, condition: Condition) -> int:
    """Return the one code that a condition leaves; raises PopulationError if it leaves several."""
    node = next(n for n in model.layout.nodes if n.first and n.name == condition.node)
    coding = find_coding(model, node)
    if node.role == "label" and condition.values is not None and len(condition.values) == 1:
        return int(next(iter(condition.values)))
    if coding is not None and coding.column.is_number:
        if condition.low == condition.high:
            return int(coding.encode_numbers(np.array([condition.low]))[0])
    elif coding is not None and condition.values is not None and len(condition.values) == 1 and not condition.missing:
        return coding.column.categories.index(next(iter(condition.values)))
    raise PopulationError(
        f"a twin differs by one value, but the change of '{condition.node}' leaves several; write for example sex=F, "
        "age_years=60 or findings!=Mass."
    )


@dataclass(frozen=True, slots=True)
class ControlPlan:
    """Controls of the cases of a plan, ``ratio`` for each: of the same cell of ``match``, and meeting ``control``."""

    cases: SamplePlan
    ratio: int
    frame: Frame
    limits: Any
    free: tuple[int, ...]  # axes of the frame on which a control need not be like its case


def plan_controls(cases: SamplePlan, control: Sequence[Condition], match: str, ratio: int = 1) -> ControlPlan:
    """Return how controls are drawn for the cases of a plan; ``match`` as in parse_cuts: ``sex,age_years/5``.

    Raises PopulationError if an attribute is both matched and part of ``control``, or ``ratio`` is below 1.
    """
    if ratio < 1:
        raise PopulationError(f"{ratio} controls for each case are asked for; give 1 or more.")
    cuts = parse_cuts(match, cases.model.schema)
    both = {c.node for c in control} & {c.node for c in cuts}
    if both:
        raise PopulationError(f"'{', '.join(sorted(both))}' cannot be matched and asked of controls; drop one.")
    frame = build_frame(cases.model, control, (), cuts)
    matched = {c.node for c in cuts}
    free = tuple(k for k, axis in enumerate(frame.axes) if axis.node.name not in matched)
    return ControlPlan(cases, ratio, frame, make_limits(cases.model, frame), free)


def draw_controls(plan: ControlPlan, start: int, stop: int) -> pa.Table:
    """Return the controls of the cases ``start`` to ``stop - 1``, with ``case_index`` beside ``subject_index``.

    Controls are numbered ``case_index * ratio`` onwards. Raises PopulationError if a case has no match.
    """
    cases, model = plan.cases, plan.cases.model
    drawn = draw_planned(cases, start, stop, later=False)
    levels = np.stack([axis.classify(model, drawn) for axis in plan.frame.axes], axis=1)
    for k in plan.free:
        levels[:, k] = len(plan.frame.axes[k].levels) - 1
    subjects = (drawn.subjects[:, None] * plan.ratio + np.arange(plan.ratio)).ravel()
    controls = draw_codes(
        model, cases.seed, subjects, plan.limits, np.repeat(levels, plan.ratio, axis=0), stage="population/controls"
    )
    free = replace(cases, frame=Frame((), np.empty((1, 0), dtype=np.int64)))  # controls have no design weight
    table = tabulate(free, controls)
    return table.append_column("case_index", pa.array(table["subject_index"].to_numpy() // plan.ratio))


def assign_arms(plan: SamplePlan, arms: Mapping[str, int], start: int, stop: int) -> Any:
    """Return the trial arm of the subjects ``start`` to ``stop - 1`` as an Arrow array; ``arms`` gives their ratio.

    Stratified permuted blocks (Zelen 1974, J Chronic Dis 27:365): within each cell of the plan, every block of as many
    subjects as the ratios sum to holds each arm exactly as often as its ratio says. Plan the strata as ``cuts``.
    """
    if len(arms) < 2 or any(ratio < 1 for ratio in arms.values()) or sum(arms.values()) > 64:
        raise PopulationError(
            f"arms {dict(arms)} cannot be randomised: give two or more, each with a ratio of 1 or more, 64 in all."
        )
    block = np.repeat(np.arange(len(arms)), list(arms.values()))
    cells, places = plan.find_places(np.arange(start, stop))
    key0, key1 = key_words(stream_key(plan.seed, COHORT_LEVEL, COHORT_LEVEL, "population/arms"))
    chosen = _shuffle_blocks(cells, places, block, key0, key1)
    return pa.DictionaryArray.from_arrays(pa.array(chosen, pa.int8()), pa.array(list(arms), pa.string()))


@njit(cache=True, nogil=True)
def _shuffle_blocks(cells, places, block, key0, key1):  # type: ignore[no-untyped-def]
    """Return the arm at each place: its block is shuffled (Fisher-Yates) by the words of (cell, block)."""
    size = block.size
    chosen = np.empty(cells.size, np.int8)
    order = np.empty(size, np.int64)
    for i in range(cells.size):
        number = places[i] // size
        for k in range(size):
            order[k] = block[k]
        for k in range(size - 1, 0, -1):
            word, _, _, _ = philox_block(number & 0xFFFFFFFF, number >> 32, cells[i], k, key0, key1)
            other = (word * (k + 1)) >> 32
            order[k], order[other] = order[other], order[k]
        chosen[i] = order[places[i] % size]
    return chosen


@dataclass(frozen=True, slots=True)
class Site:
    """One centre of a study: its share of the subjects, and who comes there."""

    name: str
    share: float
    where: tuple[Condition, ...] = ()
    targets: tuple[TargetShare, ...] = ()


@dataclass(frozen=True, slots=True)
class SitePlan:
    """Sites one after the other: site ``k`` has the subject indices ``starts[k]`` to ``starts[k + 1] - 1``."""

    sites: tuple[Site, ...]
    plans: tuple[SamplePlan, ...]
    starts: Indices


def plan_sites(model: ChainModel, subjects: int, seed: int, sites: Sequence[Site]) -> SitePlan:
    """Return the plan of a multicentre sample: shares of the sites are met by whole subjects, each has its own mix.

    Raises PopulationError if names repeat, shares do not sum to 1, or a site would have no subject.
    """
    if len({site.name for site in sites}) != len(sites) or not sites:
        raise PopulationError(f"sites need different names, got {[site.name for site in sites]}.")
    total = sum(site.share for site in sites)
    if abs(total - 1.0) > 1e-9 or any(site.share <= 0 for site in sites):
        raise PopulationError(f"the shares of the sites must be above 0 and sum to 1, they sum to {total:g}.")
    counts = round_shares(np.array([site.share for site in sites]), subjects)
    for site, count in zip(sites, counts.tolist(), strict=True):
        if count == 0:
            raise PopulationError(f"site '{site.name}' would have none of {subjects} subjects; ask for more of either.")
    plans = tuple(
        plan_sample(model, count, _site_seed(seed, site.name), site.where, site.targets)
        for site, count in zip(sites, counts.tolist(), strict=True)
    )
    return SitePlan(tuple(sites), plans, np.concatenate([[0], np.cumsum(counts)]))


def _site_seed(seed: int, name: str) -> int:
    return stream_key(seed, COHORT_LEVEL, COHORT_LEVEL, f"population/site/{name}") >> 65  # 63 bits


def draw_sites(plan: SitePlan, start: int, stop: int) -> pa.Table:
    """Return the subjects ``start`` to ``stop - 1`` of all sites, with their ``site``."""
    parts = []
    for k, site in enumerate(plan.sites):
        first, after = int(plan.starts[k]), int(plan.starts[k + 1])
        low, high = max(start, first), min(stop, after)
        if low < high:
            table = draw_slice(plan.plans[k], low - first, high - first)
            place = table.schema.get_field_index("subject_index")
            table = table.set_column(place, "subject_index", pa.array(table["subject_index"].to_numpy() + first))
            parts.append(table.append_column("site", pa.array([site.name] * table.num_rows, pa.string())))
    if not parts:
        raise PopulationError(f"subjects {start} to {stop} are asked of {plan.starts[-1]}; stay within them.")
    return pa.concat_tables(parts)
