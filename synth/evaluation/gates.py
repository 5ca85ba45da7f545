"""Gate v1: what must hold before a cohort is released.

It is complete, has the population that was asked for, and its images show what was drawn. Pure functions of counts;
the flow reads the counts from the catalog.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from synth.errors import SpecError, suggest_nearest
from synth.measure import MEASURES
from synth.nouns import GateResult, Report
from synth.spec import CohortSpec


@dataclass(frozen=True, slots=True)
class Adherence:
    """How well one measurement follows its request over a cohort. Errors are relative to the tolerance."""

    images: int
    within: int
    mean_error: float
    worst_error: float


@dataclass(frozen=True, slots=True)
class CohortCounts:
    """What the gates look at: images wanted and present, wanted and drawn shares by attribute, adherence by name.

    A share is of all ``subjects``, unless ``stratum_subjects`` has a number for its name.
    """

    images_planned: int
    images_present: int
    subjects: int
    wanted_shares: Mapping[str, Mapping[str, float]]
    drawn_shares: Mapping[str, Mapping[str, float]]
    adherence: Mapping[str, Adherence]
    stratum_subjects: Mapping[str, int] = field(default_factory=dict)
    effective_sample_size: float = math.nan  # of the design weights


def check_gates(spec: CohortSpec) -> None:
    """Raise SpecError if ``gates.adherence`` names a measurement that does not exist."""
    if spec.imaging.model is not None:
        return  # what can be read from its images is the model's to say
    for name in spec.gates.adherence:
        if name not in MEASURES:
            raise SpecError(
                f"gates.adherence: '{name}' is not a measurement; choose from {', '.join(MEASURES)}."
                + suggest_nearest(name, MEASURES)
            )


def evaluate_cohort(spec: CohortSpec, cohort_id: str, counts: CohortCounts) -> Report:
    """Return the Report of a cohort: its scores and what each gate of ``spec.gates`` says."""
    gates = [_gate_completeness(counts)]
    gates += [_gate_population(spec, attribute, counts) for attribute in sorted(counts.wanted_shares)]
    gates += [_gate_adherence(spec, name, found) for name, found in sorted(counts.adherence.items())]
    scores = {f"{gate.gate}": gate.value for gate in gates}
    if not math.isnan(counts.effective_sample_size):
        scores["effective_sample_size"] = counts.effective_sample_size
    for name, found in counts.adherence.items():
        scores[f"mean_error.{name}"] = found.mean_error
        scores[f"worst_error.{name}"] = found.worst_error
    return Report(cohort_id, spec.content_hash, scores, tuple(gates))


def _gate_completeness(counts: CohortCounts) -> GateResult:
    value = counts.images_present / counts.images_planned
    missing = counts.images_planned - counts.images_present
    passed = missing == 0
    text = "every planned image exists" if passed else f"{missing} of {counts.images_planned} images are missing"
    return GateResult("images_complete", value, 1.0, passed, f"images_complete: {text}")


def _gate_population(spec: CohortSpec, attribute: str, counts: CohortCounts) -> GateResult:
    """Compare wanted with drawn shares; one subject more or less is always allowed, as counts are whole numbers."""
    wanted, drawn = counts.wanted_shares[attribute], counts.drawn_shares.get(attribute, {})
    errors = {name: abs(drawn.get(name, 0.0) - wanted.get(name, 0.0)) for name in {*wanted, *drawn}}
    one = {name: 1 / max(1, counts.stratum_subjects.get(name, counts.subjects)) for name in errors}
    limits = {name: max(spec.gates.population_error_max, one[name]) for name in errors}
    worst = max(sorted(errors), key=lambda name: errors[name] / limits[name])
    limit = limits[worst]
    value, passed = errors[worst], errors[worst] <= limit + 1e-12
    reason = (
        f"population.{attribute}: share of '{worst}' is {drawn.get(worst, 0.0):.4f}, "
        f"{wanted.get(worst, 0.0):.4f} wanted; off by {value:.4f}, {limit:.4f} allowed"
    )
    return GateResult(f"population.{attribute}", value, limit, passed, reason)


def _gate_adherence(spec: CohortSpec, name: str, found: Adherence) -> GateResult:
    threshold = spec.gates.adherence.get(name, spec.gates.adherence_min)
    value = found.within / found.images if found.images else math.nan
    passed = value >= threshold
    reason = (
        f"adherence.{name}: {found.within} of {found.images} images within tolerance ({value:.4f}), "
        f"{threshold:.4f} required"
    )
    if not passed:
        reason += f"; short by {threshold - value:.4f}, worst miss {found.worst_error:.1f} times the tolerance"
    return GateResult(f"adherence.{name}", value, threshold, passed, reason)
