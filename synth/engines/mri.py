"""The physics-informed brain MRI engine: ICBM anatomy, closed-form signals, receive bias, Rician noise.

Everything is drawn in ``draw_scans`` and stored in the scan's parameters; ``render`` applies it and draws nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from synth.engines.mri_labels import (
    check_anatomy,
    choose_map,
    draw_surroundings,
    find_body,
    fit_shape,
    follow_labels,
    measure_own,
)
from synth.engines.mri_render import render_visit
from synth.errors import SpecError
from synth.nouns import Image, Scan, Subject, Visit
from synth.physics import anatomy
from synth.physics.acquisition import draw_acquisition
from synth.physics.effects.checking import check_effects, thin_most
from synth.physics.grid import Grid
from synth.physics.head_tissues import draw_head_tissues
from synth.physics.illness import draw_diseases, draw_tissues, follow_diseases, solve_illness
from synth.physics.pairs import check_pairs, draw_partners, list_pair_fields, shares_noise
from synth.physics.relaxation import RELAXATION, Tissue, draw_relaxation
from synth.physics.sequences.checking import check_contrasts, check_field_strength, check_protocols
from synth.physics.template import TEMPLATE_VERSION
from synth.seeds import stream, stream_key
from synth.shelf import Shelf
from synth.spec import CohortSpec

RESOLUTIONS_MM = (1.0, 2.0)
_USUAL_FIELDS_T = (1.5, 3.0)  # of populations, unless a recipe says otherwise


class MriEngine:
    """Brain MRI from real anatomy. Images are uint16 magnitude volumes with a tissue map and a lesion mask.

    ``threads`` is how many threads one volume may use: 1 in workers, which are many; more for a single volume. Label
    maps that a recipe renders from are on the shelf ``models``.
    """

    name = "mri"
    version = f"4+{TEMPLATE_VERSION}"
    description = (
        "physics-informed brain MRI (T1, T2, PD, T2*, FLAIR, gadolinium, diffusion) from the ICBM 2009a anatomy"
    )

    def __init__(self, threads: int = 1, models: Shelf | None = None) -> None:
        self.threads = threads
        self.models = models

    def check(self, spec: CohortSpec) -> None:
        """Raise SpecError if a contrast or the resolution of ``spec`` is not one that this engine makes."""
        if spec.imaging.redraws is not None:
            raise SpecError("imaging.redraws: engine 'mri' has none, as it makes what is asked for; leave it out.")
        if spec.imaging.model is not None:
            raise SpecError(
                f"imaging.model: engine 'mri' computes its images and takes no model ('{spec.imaging.model}'). Leave "
                "it out, or set imaging.engine = 'flow'."
            )
        check_contrasts(spec.imaging.contrasts)
        check_field_strength(spec.imaging.field_strength_t)
        check_effects(spec.imaging.effects)
        check_pairs(spec.imaging)
        fields = _list_fields(spec) + list_pair_fields(spec.imaging)
        check_protocols(spec.imaging.contrasts, spec.imaging.protocol, fields)
        check_anatomy(spec.imaging.anatomy, self.models)
        if spec.imaging.resolution_mm not in RESOLUTIONS_MM:
            raise SpecError(
                f"imaging.resolution_mm: {spec.imaging.resolution_mm:g} is not available in engine 'mri'; "
                f"choose one of {[f'{r:g}' for r in RESOLUTIONS_MM]}"
            )

    def check_subject(self, subject: Subject) -> None:
        """Raise SpecError if the volumes of the brain or the scanner of ``subject`` are not known."""
        _read_subject(subject)
        for visit in subject.visits:
            _read_visit(subject, visit)

    def batch(self, spec: CohortSpec) -> int:
        """Return 1: the contrasts of one visit share a pass, visits share nothing."""
        return 1

    def image_bytes(self, spec: CohortSpec) -> int:
        """Return the uncompressed bytes of one volume (uint16)."""
        return 2 * math.prod(Grid(spec.imaging.resolution_mm).shape) // thin_most(spec.imaging)

    def network_precision(self, spec: CohortSpec) -> None:
        """No network draws."""

    def warm_up(self, spec: CohortSpec) -> None:
        """Load the anatomy and compile the kernels on a tiny grid."""
        small = {"resolution_mm": 16.0, "effects": {}, "pairs": {}}
        tiny = spec.model_copy(update={"imaging": spec.imaging.model_copy(update=small)})
        visit = Visit(0, 0.0, 50.0, 1100.0, 25.0, 20.0)
        subject = Subject("warm-up", "warm-up", 0, 50.0, "F", "", 1450.0, "", "", 1.5, 1.0, (visit,))
        self.render(self.draw_scans(tiny, subject))

    def draw_scans(self, spec: CohortSpec, subject: Subject) -> tuple[Scan, ...]:
        """Draw the scans of ``subject``: one per visit and contrast, then its partners (see Engine.draw_scans)."""
        seed, index = spec.seed, subject.subject_index
        intracranial_ml, field_strength_t = _read_subject(subject)
        field_strength_t = spec.imaging.field_strength_t or field_strength_t
        shape = anatomy.draw_shape(
            stream(seed, index, -1, "mri/shape"),
            stream_key(seed, index, -1, "mri/velocity"),
            stream_key(seed, index, -1, "mri/tissue"),
        )
        own = choose_map(spec, index, self.models)
        shape = fit_shape(shape, own, spec.imaging.anatomy.deformation)
        whom = {"shape": anatomy.shape_to_json(shape), **own}
        if around := draw_surroundings(spec, subject):
            whom["anatomy"] = {**own.get("anatomy", {}), **around}
        body = find_body(whom, self.models)
        diseases = draw_diseases(seed, subject)

        def tissues_at(tesla: float) -> dict[str, Tissue]:
            """Return the tissues of the subject in another field: the streams are the same, so is the person."""
            tissues = draw_relaxation(stream(seed, index, -1, "mri/relaxation"), tesla)
            if around:
                tissues |= draw_head_tissues(stream(seed, index, -1, "mri/relaxation/head"), tesla, tissues)
            return tissues | draw_tissues(seed, index, diseases, tissues)

        tissues = tissues_at(field_strength_t)
        grid = Grid(spec.imaging.resolution_mm)
        scans = []
        for visit in subject.visits:
            pose = anatomy.draw_pose(stream(seed, index, visit.visit, "mri/pose"))
            volumes, lesion_ml = _read_visit(subject, visit)
            if own and spec.imaging.anatomy.volumes == "labels":
                measured = measure_own(own, self.models)
                intracranial_ml = measured["intracranial_ml"]
                volumes = follow_labels(measured, _read_visit(subject, subject.visits[0])[0], volumes)
            ailments = follow_diseases(diseases, subject, visit)
            for one in ailments:
                volumes = one.disease.aim(one.state, volumes)
            solution, ailments = solve_illness(grid, shape, pose, intracranial_ml, volumes, ailments, body)
            asked = {"intracranial_ml": intracranial_ml, **_list_known(volumes), "lesion_ml": lesion_ml}
            head = {
                "resolution_mm": grid.resolution_mm,
                **whom,
                "pose": asdict(pose),
                "solution": asdict(solution),
                "relaxation": {name: tissue.to_json() for name, tissue in tissues.items()},
                "requested": asked,
            } | ({"diseases": [one.to_json() for one in ailments]} if ailments else {})
            if shares_noise(spec.imaging.pairs):
                head["noise_in"] = "k-space"
            for kind in spec.imaging.contrasts:
                scan = self._draw_scan(spec, subject, visit, kind, head, tissues, field_strength_t)
                scans += [scan, *draw_partners(spec, index, scan, head, tissues_at)]
        return tuple(scans)

    def _draw_scan(
        self,
        spec: CohortSpec,
        subject: Subject,
        visit: Visit,
        kind: str,
        head: dict[str, Any],
        tissues: dict[str, Tissue],
        field_strength_t: float,
    ) -> Scan:
        number, own = visit.visit, field_strength_t == subject.field_strength_t  # or a scanner that nobody named
        acquisition = draw_acquisition(spec, subject.subject_index, number, kind, tissues, field_strength_t)
        return Scan(
            scan_id=f"{subject.subject_id}-v{number}-{kind.lower()}",
            cohort_id=subject.cohort_id,
            subject_id=subject.subject_id,
            visit=number,
            kind=kind,
            engine=self.name,
            engine_version=self.version,
            manufacturer=subject.manufacturer if own else None,
            manufacturer_model=subject.manufacturer_model if own else None,
            field_strength_t=field_strength_t,
            parameters=head | acquisition,
        )

    def render(self, scans: Sequence[Scan]) -> list[Image]:
        """Render ``scans``; those of one subject and visit share one pass over the anatomy."""
        images: list[Image] = []
        for _, group in itertools.groupby(scans, key=lambda scan: (scan.subject_id, scan.visit)):
            images += render_visit(list(group), self.threads, self.models)
        return images


def _read_subject(subject: Subject) -> tuple[float, float]:
    """Return intracranial volume and field strength; raises SpecError if the population does not know them."""
    if subject.intracranial_ml is None or subject.field_strength_t is None:
        raise _refuse(subject)
    return subject.intracranial_ml, subject.field_strength_t


def _read_visit(subject: Subject, visit: Visit) -> tuple[anatomy.Volumes, float]:
    """Return the volumes of the tissues and that of lesions, in mL."""
    if visit.brain_ml is None or visit.ventricle_ml is None or visit.lesion_ml is None:
        raise _refuse(subject)
    grey_ml = visit.attributes.get("grey_matter_ml")
    known = float(grey_ml) if isinstance(grey_ml, int | float) else None
    return anatomy.Volumes(visit.brain_ml, visit.ventricle_ml, known), visit.lesion_ml


def _list_known(volumes: anatomy.Volumes) -> dict[str, float]:
    """Return the volumes that a visit asks for, by name; white matter follows from brain and grey matter."""
    known = {name: value for name, value in asdict(volumes).items() if value is not None}
    return known | ({"white_ml": volumes.brain_ml - volumes.grey_ml} if volumes.grey_ml is not None else {})


def _refuse(subject: Subject) -> SpecError:
    known = ", ".join(sorted(subject.describe_visit(subject.visits[0])))
    return SpecError(
        f"engine 'mri' draws heads, so the population must give the volumes of brain, ventricles and lesions and a "
        f"scanner; this one gives {known or 'nothing'}. Use population.source = 'adult-brain', or engine 'flow'."
    )


def _list_fields(spec: CohortSpec) -> tuple[float, ...]:
    """Return the field strengths that subjects of ``spec`` may be scanned at."""
    if spec.imaging.field_strength_t is not None:
        return (spec.imaging.field_strength_t,)
    asked = spec.population.where.field_strength_t or _USUAL_FIELDS_T
    return tuple(field for field in asked if field in RELAXATION)
