"""Conditioned samples: who is asked for, in which shares, and the streamed table of exactly those subjects.

The population's own share of every cell is measured on a pool of draws, shares are solved jointly, rounded to whole
subjects, and each subject index is sent to its cell by a keyed permutation. Any slice needs nothing of the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from synth.errors import PopulationError
from synth.population.chain import ChainModel
from synth.population.conditioning import Target, design_weights, effective_sample_size, solve_mix
from synth.population.conditions import Condition, TargetShare
from synth.population.frame import Frame, build_frame, make_limits
from synth.population.permutation import permute_index
from synth.population.rounding import round_counts
from synth.population.sampler import BATCH, MAX_SUBJECTS, Drawn, Limits, decode, draw_codes, stream_in_order
from synth.seeds import COHORT_LEVEL, stream_key

POOL = 1 << 18
MOST_POOL = 1 << 23
ENOUGH = 400  # members of the pool that each asked-for part should have
POOL_ATTEMPTS = 20_000
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SamplePlan:
    """A conditioned sample before it is drawn. Arrays are over cells of the frame."""

    model: ChainModel
    seed: int
    subjects: int
    frame: Frame
    limits: Limits
    admitted: float  # share of the population that ``where`` leaves
    natural: Floats  # share of each cell among those
    wanted: Floats  # the shares nearest to these that meet the targets
    counts: Counts  # whole subjects
    weights: Floats  # natural over realised shares, mean 1: weighted sums estimate the population
    targets: tuple[Target, ...]

    @property
    def effective_subjects(self) -> float:
        """Size of an unweighted sample of the same precision (Kish 1965)."""
        return effective_sample_size(self.weights, self.counts)

    def find_cells(self, subjects: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the cell of each subject index."""
        return self.find_places(subjects)[0]

    def find_places(self, subjects: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (cell, place within the cell from 0) of each subject index."""
        key = stream_key(self.seed, COHORT_LEVEL, COHORT_LEVEL, "population/order")
        places = permute_index(subjects, self.subjects, key)
        ends = np.cumsum(self.counts)
        cells: NDArray[np.int64] = np.searchsorted(ends, places, side="right").astype(np.int64)
        return cells, places - (ends - self.counts)[cells]


def plan_sample(
    model: ChainModel,
    subjects: int,
    seed: int,
    where: Sequence[Condition] = (),
    targets: Sequence[TargetShare] = (),
    cuts: Sequence[Condition] = (),
) -> SamplePlan:
    """Return the plan of a sample of ``subjects`` who meet ``where``, mixed as ``targets`` ask.

    ``cuts`` are conditions that cells should tell apart though nothing is asked of their shares (strata).
    Raises PopulationError if nobody can meet it, or the targets contradict (naming the smallest conflicting set).
    """
    if not 1 <= subjects <= MAX_SUBJECTS:
        raise PopulationError(f"{subjects} subjects are asked for; 1 to {MAX_SUBJECTS} can be drawn.")
    frame = build_frame(model, where, targets, cuts)
    limits = make_limits(model, frame)
    asked = frame.targets(targets)
    natural, admitted = _measure_cells(model, frame, limits, asked) if frame.axes else (np.ones(1), 1.0)
    wanted = solve_mix(natural, asked) if asked else natural
    counts = round_counts(wanted, subjects, asked)
    weights = design_weights(natural, counts.astype(np.float64))
    return SamplePlan(model, seed, subjects, frame, limits, admitted, natural, wanted, counts, weights, tuple(asked))


def _measure_cells(model: ChainModel, frame: Frame, limits: Limits, targets: Sequence[Target]) -> tuple[Floats, float]:
    """Return (share of each cell among those that ``where`` admits, their share of the population).

    Both from a pool of draws of a fixed seed, enlarged until every asked-for part has ENOUGH members.
    """
    hits = np.zeros(len(frame.levels), dtype=np.int64)
    drawn, tried = 0, 0
    admit_all = np.array([[len(axis.levels) - 1 for axis in frame.axes]])
    proposals = float(np.prod([limits.largest[k, len(axis.levels) - 1] for k, axis in enumerate(frame.axes)]))
    parts = [mask for t in targets for mask in (t.inside & t.stratum, t.stratum & ~t.inside) if mask.any()]
    size = POOL
    while drawn < MOST_POOL:
        for batch in _pool_batches(model, limits, admit_all, drawn, drawn + size):
            levels = np.stack([axis.classify(model, batch) for axis in frame.axes], axis=1)
            cells = frame.find_cells(levels)
            hits += np.bincount(cells[cells >= 0], minlength=len(hits))
            tried += int(batch.attempts.sum()) + len(batch.subjects)
        drawn += size
        if all(hits[part].sum() >= ENOUGH for part in parts):
            break
        size = drawn
    return hits / max(hits.sum(), 1), drawn / tried * proposals


def _pool_batches(
    model: ChainModel, limits: Limits, levels: NDArray[np.int64], start: int, stop: int
) -> Iterator[Drawn]:
    def make(first: int, after: int) -> Drawn:
        subjects = np.arange(first, after)
        return draw_codes(
            model, 0, subjects, limits, np.repeat(levels, len(subjects), axis=0), False,
            most_attempts=POOL_ATTEMPTS, stage="population/pool",
        )  # fmt: skip

    return stream_in_order(make, start, stop)


def draw_slice(plan: SamplePlan, start: int, stop: int, later: bool = True) -> pa.Table:
    """Return the subjects ``start`` to ``stop - 1`` of a plan, one row a visit (``later`` false: the first one only).

    Columns: subject_index, visit, the attributes, design_weight.
    """
    return tabulate(plan, draw_planned(plan, start, stop, later))


def draw_planned(plan: SamplePlan, start: int, stop: int, later: bool = True) -> Drawn:
    """Return the subjects ``start`` to ``stop - 1`` of a plan as codes."""
    if not 0 <= start <= stop <= plan.subjects:
        raise PopulationError(f"subjects {start} to {stop} are asked of {plan.subjects}; stay within them.")
    subjects = np.arange(start, stop)
    if not plan.frame.axes:
        return draw_codes(plan.model, plan.seed, subjects, later=later)
    levels = plan.frame.levels[plan.find_cells(subjects)]
    return draw_codes(plan.model, plan.seed, subjects, plan.limits, levels, later)


def tabulate(plan: SamplePlan, drawn: Drawn) -> pa.Table:
    """Return drawn subjects as a table, one row a visit."""
    sizes = np.diff(drawn.starts)
    places = np.arange(len(drawn.states)) - np.repeat(drawn.starts[:-1], sizes)
    weights = plan.weights[plan.find_cells(drawn.subjects)] if plan.frame.axes else np.ones(len(drawn.subjects))
    return pa.table(
        {
            "subject_index": pa.array(np.repeat(drawn.subjects, sizes)),
            "visit": pa.array(places.astype(np.int32)),
            **decode(plan.model, drawn),
            "design_weight": pa.array(np.repeat(weights, sizes)),
        }
    )


def stream_sample(
    plan: SamplePlan, later: bool = True, batch: int = BATCH, threads: int | None = None
) -> Iterator[pa.Table]:
    """Yield all subjects of a plan in order, ``batch`` subjects at a time; the same ones whatever the batch."""
    return stream_in_order(lambda start, stop: draw_slice(plan, start, stop, later), 0, plan.subjects, batch, threads)
