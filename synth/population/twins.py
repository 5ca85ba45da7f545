"""Counterfactual twins: the people of a recipe with one thing changed, and all that depends on it, but nothing else.

A twin has the subject index of its original, and so every stream: shape, folds, pose, protocol, bias and noise are its
original's. Without its lesions a brain keeps its volumes; of another sex, or without a disease that is atrophy alone,
volumes are drawn again from the same words of the same stream, so it is as unusual as its original.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from synth.nouns import AttributeValue, Subject, Visit
from synth.population.scanners import draw_scanner, restrict_mix
from synth.population_spec import PopulationSpec, TwinsSpec
from synth.seeds import COHORT_LEVEL, stream
from synth.spec import CohortSpec

Build = Callable[[Any, str], Subject]  # the subject with another sex and diagnosis
OTHER = {"F": "M", "M": "F"}


def make_twin(spec: CohortSpec, original: Subject, build: Build) -> Subject:
    """Return the twin that ``spec.population.twins`` asks for; ``build(sex, diagnosis)`` is the subject drawn so.

    What was changed is in its attributes, as it was: ``original_sex``, ``original_diagnosis``,
    ``original_manufacturer``, ``original_field_strength_t``. Somebody in whom there is nothing to change is their own
    twin.
    """
    asked = spec.population.twins
    assert asked is not None  # or nobody asks for twins
    sex, diagnosis = original.sex or "", original.diagnosis or ""
    wanted_sex, wanted = find_sex(asked, sex), asked.diagnosis or diagnosis
    twin = original
    if wanted_sex != sex or (wanted != diagnosis and not _has_lesions(original)):
        twin = build(wanted_sex, wanted)
    elif wanted != diagnosis:
        twin = _heal(original, build(sex, wanted))
    if asked.manufacturer is not None or asked.field_strength_t is not None:
        twin = _scan_elsewhere(spec, twin)
    changed = {name: getattr(original, name) for name in ("sex", "diagnosis", "manufacturer", "field_strength_t")}
    kept: dict[str, AttributeValue] = {
        f"original_{name}": value for name, value in changed.items() if value != getattr(twin, name)
    }
    return replace(twin, attributes={**twin.attributes, **kept})


def find_sex(asked: TwinsSpec, sex: str) -> str:
    """Return the sex of the twin of somebody of ``sex``."""
    return OTHER[sex] if asked.sex == "other" else asked.sex or sex


def change_shares(population: PopulationSpec, shares: Mapping[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return the expected shares of a cohort of twins, given those of the originals; of what is left, as it was."""
    asked, changed = population.twins, dict(shares)
    if asked is None:
        return changed
    if asked.sex is not None:
        changed["sex"] = {
            name: sum(share for other, share in shares["sex"].items() if find_sex(asked, other) == name)
            for name in shares["sex"]
        }
    if asked.diagnosis is not None:
        changed["diagnosis"] = {name: float(name == asked.diagnosis) for name in shares["diagnosis"]}
    if asked.sex is not None or asked.diagnosis is not None:
        changed.pop("prevalence", None)  # they are those of the originals
    return changed


def _has_lesions(subject: Subject) -> bool:
    return any((visit.lesion_ml or 0) > _read_spots(visit) for visit in subject.visits)


def _read_spots(visit: Visit) -> float:
    """Return the load of hyperintensities of age, which are not of the disease."""
    load = visit.attributes.get("hyperintensity_ml")
    return float(load) if isinstance(load, int | float) else 0.0


def _heal(ill: Subject, healthy: Subject) -> Subject:
    """Return ``ill`` without lesions: the volumes of its brain, and of other attributes those that the healthy have.

    Hyperintensities of age stay as many as they were.
    """

    def heal(visit: Visit, well: Visit) -> Visit:
        kept = {name: visit.attributes.get(name, value) for name, value in well.attributes.items()}
        spots = {"hyperintensity_ml": _read_spots(visit), "fazekas": visit.attributes.get("fazekas", 0)}
        return replace(visit, lesion_ml=_read_spots(visit), attributes=kept | spots)

    visits = tuple(heal(*both) for both in zip(ill.visits, healthy.visits, strict=True))
    kept = {name: ill.attributes.get(name, value) for name, value in healthy.attributes.items()}
    return replace(ill, diagnosis=healthy.diagnosis, visits=visits, attributes=kept)


def _scan_elsewhere(spec: CohortSpec, subject: Subject) -> Subject:
    """Return the subject at the scanner that is asked for: the same place in the mix of such scanners."""
    asked = spec.population.twins
    assert asked is not None  # as checked by make_twin
    makers = None if asked.manufacturer is None else (asked.manufacturer,)
    fields = None if asked.field_strength_t is None else (asked.field_strength_t,)
    words = stream(spec.seed, subject.subject_index, COHORT_LEVEL, "population/scanner")
    scanner = draw_scanner(restrict_mix(makers, fields), words)
    return replace(
        subject,
        manufacturer=scanner.manufacturer,
        manufacturer_model=scanner.model,
        field_strength_t=scanner.field_strength_t,
    )
