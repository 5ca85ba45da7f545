"""The physics-informed brain MRI engine: ICBM anatomy, closed-form signals, receive bias, Rician noise.

Everything is drawn in ``draw_scans`` and stored in the scan's parameters; ``render`` applies it and draws nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.errors import SpecError, suggest_nearest
from synth.measure import measure_image
from synth.nouns import Image, Scan, Subject, Visit
from synth.physics import anatomy, render
from synth.physics.bias import bias_at_nodes
from synth.physics.grid import Grid
from synth.physics.relaxation import TISSUES, Tissue, draw_relaxation
from synth.physics.signal import SEQUENCES
from synth.physics.template import TEMPLATE_VERSION
from synth.seeds import key_words, stream, stream_key
from synth.spec import CohortSpec

RESOLUTIONS_MM = (1.0, 2.0)
_STORED_MAXIMUM = 3000.0  # stored value of the brightest tissue before bias and noise


class MriEngine:
    """Brain MRI from real anatomy. Images are uint16 magnitude volumes with a tissue map and a lesion mask.

    ``threads`` is how many threads one volume may use: 1 in workers, which are many; more for a single volume.
    """

    name = "mri"
    version = f"1+{TEMPLATE_VERSION}"
    description = "physics-informed brain MRI (T1w, T2w, FLAIR) from the ICBM 2009a anatomy"

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads

    def check(self, spec: CohortSpec) -> None:
        """Raise SpecError if a contrast or the resolution of ``spec`` is not one that this engine makes."""
        if spec.imaging.redraws is not None:
            raise SpecError("imaging.redraws: engine 'mri' has none, as it makes what is asked for; leave it out.")
        if spec.imaging.model is not None:
            raise SpecError(
                f"imaging.model: engine 'mri' computes its images and takes no model ('{spec.imaging.model}'). Leave "
                "it out, or set imaging.engine = 'flow'."
            )
        for contrast in spec.imaging.contrasts:
            if contrast not in SEQUENCES:
                raise SpecError(
                    f"imaging.contrasts: '{contrast}' is unknown to engine 'mri'; choose from {list(SEQUENCES)}."
                    + suggest_nearest(contrast, SEQUENCES)
                )
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
        return 2 * math.prod(Grid(spec.imaging.resolution_mm).shape)

    def network_precision(self, spec: CohortSpec) -> None:
        """No network draws."""

    def warm_up(self, spec: CohortSpec) -> None:
        """Load the anatomy at the recipe's resolution and compile the kernels on a tiny grid."""
        anatomy.template_for(Grid(spec.imaging.resolution_mm))
        tiny = spec.model_copy(update={"imaging": spec.imaging.model_copy(update={"resolution_mm": 16.0})})
        visit = Visit(0, 0.0, 50.0, 1100.0, 25.0, 20.0)
        subject = Subject("warm-up", "warm-up", 0, 50.0, "F", "", 1450.0, "", "", 1.5, 1.0, (visit,))
        self.render(self.draw_scans(tiny, subject))

    def draw_scans(self, spec: CohortSpec, subject: Subject) -> tuple[Scan, ...]:
        """Draw the scans of ``subject``: one per visit and contrast (see Engine.draw_scans)."""
        seed, index = spec.seed, subject.subject_index
        intracranial_ml, field_strength_t = _read_subject(subject)
        shape = anatomy.draw_shape(
            stream(seed, index, -1, "mri/shape"),
            stream_key(seed, index, -1, "mri/velocity"),
            stream_key(seed, index, -1, "mri/lesions"),
        )
        tissues = draw_relaxation(stream(seed, index, -1, "mri/relaxation"), field_strength_t)
        grid = Grid(spec.imaging.resolution_mm)
        scans = []
        for visit in subject.visits:
            pose = anatomy.draw_pose(stream(seed, index, visit.visit, "mri/pose"))
            volumes = _read_visit(subject, visit)
            solution = anatomy.solve_visit(grid, shape, pose, intracranial_ml, volumes)
            head = {
                "resolution_mm": grid.resolution_mm,
                "shape": asdict(shape) | {"velocity_key": hex(shape.velocity_key), "lesion_key": hex(shape.lesion_key)},
                "pose": asdict(pose),
                "solution": asdict(solution),
                "relaxation": {name: asdict(tissue) for name, tissue in tissues.items()},
                "requested": {"intracranial_ml": intracranial_ml, **asdict(volumes)},
            }
            scans += [self._draw_scan(spec, subject, visit, kind, head, tissues) for kind in spec.imaging.contrasts]
        return tuple(scans)

    def _draw_scan(
        self,
        spec: CohortSpec,
        subject: Subject,
        visit: Visit,
        kind: str,
        head: dict[str, Any],
        tissues: dict[str, Tissue],
    ) -> Scan:
        index, number = subject.subject_index, visit.visit
        generator = stream(spec.seed, index, number, f"mri/acquisition/{kind}")
        field_strength_t = _read_subject(subject)[1]
        protocol = SEQUENCES[kind].draw_protocol(generator, tissues["csf"].t1_ms, field_strength_t)
        acquisition = {
            "protocol": protocol,
            "snr": float(generator.uniform(*spec.imaging.snr)),
            "bias_range": float(generator.uniform(0.1, 0.4)),
            "bias_key": hex(stream_key(spec.seed, index, number, f"mri/bias/{kind}")),
            "noise_key": hex(stream_key(spec.seed, index, number, f"mri/noise/{kind}")),
        }
        return Scan(
            scan_id=f"{subject.subject_id}-v{number}-{kind.lower()}",
            cohort_id=subject.cohort_id,
            subject_id=subject.subject_id,
            visit=number,
            kind=kind,
            engine=self.name,
            engine_version=self.version,
            manufacturer=subject.manufacturer,
            manufacturer_model=subject.manufacturer_model,
            field_strength_t=subject.field_strength_t,
            parameters=head | acquisition,
        )

    def render(self, scans: Sequence[Scan]) -> list[Image]:
        """Render ``scans``; those of one subject and visit share one pass over the anatomy."""
        images: list[Image] = []
        for _, group in itertools.groupby(scans, key=lambda scan: (scan.subject_id, scan.visit)):
            images += _render_visit(list(group), self.threads)
        return images


def _read_subject(subject: Subject) -> tuple[float, float]:
    """Return intracranial volume and field strength; raises SpecError if the population does not know them."""
    if subject.intracranial_ml is None or subject.field_strength_t is None:
        raise _refuse(subject)
    return subject.intracranial_ml, subject.field_strength_t


def _read_visit(subject: Subject, visit: Visit) -> anatomy.Volumes:
    if visit.brain_ml is None or visit.ventricle_ml is None or visit.lesion_ml is None:
        raise _refuse(subject)
    return anatomy.Volumes(visit.brain_ml, visit.ventricle_ml, visit.lesion_ml)


def _refuse(subject: Subject) -> SpecError:
    known = ", ".join(sorted(subject.describe_visit(subject.visits[0])))
    return SpecError(
        f"engine 'mri' draws heads, so the population must give the volumes of brain, ventricles and lesions and a "
        f"scanner; this one gives {known or 'nothing'}. Use population.source = 'adult-brain', or engine 'flow'."
    )


def tissue_signals(scan: Scan) -> dict[str, float]:
    """Return the noise-free signal of each tissue in ``scan``, relative to fully relaxed water."""
    tissues = scan.parameters["relaxation"]
    sequence = SEQUENCES[scan.kind]
    return {name: sequence.signal(Tissue(**tissues[name]), scan.parameters["protocol"]) for name in TISSUES}


def _anatomy_nodes(grid: Grid, head: Mapping[str, Any]) -> NDArray[np.float64]:
    solution = head["solution"]
    return anatomy.template_coordinates(
        grid,
        anatomy.template_for(grid),
        anatomy.shape_from_json(head["shape"]),
        anatomy.Pose(tuple(head["pose"]["rotation_deg"]), tuple(head["pose"]["shift_mm"])),
        solution["scale"],
        solution["ventricle_added_ml"],
    )


def _render_visit(scans: list[Scan], threads: int) -> list[Image]:
    """Render the scans of one subject and visit in one pass of the fused kernel."""
    head = scans[0].parameters
    grid, solution = Grid(head["resolution_mm"]), head["solution"]
    template = anatomy.template_for(grid)
    nodes = _anatomy_nodes(grid, head)
    signals = [tissue_signals(scan) for scan in scans]
    scale = np.asarray([_STORED_MAXIMUM / max(s.values()) for s in signals])
    sigma = np.asarray([s["wm"] / scan.parameters["snr"] for s, scan in zip(signals, scans, strict=True)])
    bias = [
        bias_at_nodes(grid, int(scan.parameters["bias_key"], 16), scan.parameters["bias_range"], nodes, template)
        for scan in scans
    ]
    seen = render.render_volumes(
        grid,
        template,
        np.concatenate([nodes, np.stack(bias, axis=-1)], axis=-1).astype(np.float32),
        float(np.exp(solution["log_fluid_gain"])),
        anatomy.visible_lesions(
            template, anatomy.shape_from_json(head["shape"]), solution["lesion_count"], solution["lesion_radius_scale"]
        ),
        signals=np.asarray([[s[name] for name in TISSUES] for s in signals], np.float32),
        sigma=sigma.astype(np.float32),
        scale=scale.astype(np.float32),
        keys=np.asarray([key_words(int(scan.parameters["noise_key"], 16)) for scan in scans], np.uint32),
        threads=threads,
    )
    masks = {"tissue": seen.tissue, "lesion": seen.lesion}
    return [
        measure_image(
            Image(
                image_id=f"{scan.scan_id}-0",
                scan=scan,
                pixels=seen.images[number],
                affine=grid.affine,
                spacing_mm=(grid.resolution_mm,) * 3,
                intensity_scale=float(1 / scale[number]),
                intensity_unit="fraction of fully relaxed water signal",
                masks=masks,
            ),
            signals[number],
        )
        for number, scan in enumerate(scans)
    ]
