"""Both engines at once: the MRI engine's anatomy of a subject is the label map that drives what a learned model draws.

The masks of such an image are exact in that they are what the model was told; how well it followed is a question for a
segmentation (docs/evaluation/utility.md).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synth.engines.learned import LearnedEngine
from synth.engines.mri import MriEngine
from synth.errors import SpecError
from synth.nouns import Image, Scan, Subject
from synth.physics.grid import LABELS
from synth.spec import CohortSpec

if TYPE_CHECKING:  # they load torch
    from synth.learned.generator import Generator, ModelDescription

HIGHEST = {"tissue": max(LABELS.values()), "lesion": 1}  # label of each mask of the MRI engine
_HEAD = "T1w"  # a contrast of the MRI engine, of which only the masks are used


class MriFlowEngine(LearnedEngine):
    """Volumes drawn by a model that was taught to follow a mask of the MRI engine (``labels`` of its training)."""

    name = "mri-flow"
    version = f"{LearnedEngine.version}+{MriEngine.name}-{MriEngine.version}"
    description = "volumes drawn by a model that follows the tissues of the MRI engine's subjects (imaging.model)"
    unused: ClassVar[tuple[str, ...]] = tuple(
        name for name in LearnedEngine.unused if name not in ("resolution_mm", "anatomy")
    )

    @property
    def _heads(self) -> MriEngine:
        return MriEngine(models=self.models)

    def check(self, spec: CohortSpec) -> None:
        """Raise SpecError if the recipe has no model, or one that follows no mask that the MRI engine makes."""
        if spec.imaging.anatomy.kind != "brain":
            raise SpecError("imaging.anatomy.kind: 'head' is not for engine 'mri-flow'; leave it out.")
        super().check(spec)
        self._heads.check(_ask_heads(spec))
        _check_map(self._find(spec).description)

    def check_subject(self, subject: Subject) -> None:
        """Raise SpecError if the volumes of the brain of ``subject`` are not known."""
        self._heads.check_subject(subject)

    def warm_up(self, spec: CohortSpec) -> None:
        """Load the model and the anatomy, and draw one image."""
        self._heads.warm_up(_ask_heads(spec))
        super().warm_up(spec)

    def draw_scans(self, spec: CohortSpec, subject: Subject) -> tuple[Scan, ...]:
        """Draw the scans of ``subject``: what a learned scan has, and the anatomy that drives it."""
        heads = {scan.visit: dict(scan.parameters) for scan in self._heads.draw_scans(_ask_heads(spec), subject)}
        scans = super().draw_scans(spec, subject)
        return tuple(replace(scan, parameters={**scan.parameters, "anatomy": heads[scan.visit]}) for scan in scans)

    def _render_group(
        self, model: str, budget: int, scans: list[Scan], maps: NDArray[np.uint8] | None = None
    ) -> list[Image]:
        generator = self._load(model)
        heads = self._heads.render([replace(scan, kind=_HEAD, parameters=scan.parameters["anatomy"]) for scan in scans])
        maps = np.stack([_bring_map(generator, head) for head in heads])
        drawn = super()._render_group(model, budget, scans, maps)
        return [_place(*each, generator) for each in zip(drawn, heads, maps, strict=True)]


def _ask_heads(spec: CohortSpec) -> CohortSpec:
    """Return the recipe of the heads, whose images nobody sees."""
    imaging: dict[str, Any] = {
        "engine": MriEngine.name,
        "model": None,
        "redraws": None,
        "contrasts": (_HEAD,),
        "pairs": {},
    }
    return spec.model_copy(update={"imaging": spec.imaging.model_copy(update=imaging)})


def _check_map(description: ModelDescription) -> None:
    known = description.map
    masks = ", ".join(f"'{mask}' of {highest} labels" for mask, highest in HIGHEST.items())
    if known is None or len(description.shape) != 3:
        raise SpecError(
            f"imaging.model: '{description.name}' does not follow the labels of volumes. Train one with 'labels' on a "
            f"cohort of engine 'mri', which has {masks}; or set imaging.engine = 'flow'."
        )
    if len(known.names) < HIGHEST.get(known.mask, len(known.names) + 1):
        raise SpecError(
            f"imaging.model: '{description.name}' follows {len(known.names)} labels of '{known.mask}'; engine 'mri' "
            f"makes {masks}."
        )


def _bring_map(generator: Generator, head: Image) -> NDArray[np.uint8]:
    """Return the labels on the model's grid."""
    from synth.evaluation.images.layout import Form, Layout, bring_labels  # loads SciPy's filters

    known = generator.description.map
    assert known is not None  # as checked
    form = Form("xyz", head.pixels.shape, str(head.pixels.dtype), head.spacing_mm)
    layout = Layout(generator.description.shape, "absolute")
    labels = head.masks[known.mask]
    if labels.max() > len(known.names):  # a model that knows one kind of lesion
        labels = (labels > 0).astype(np.uint8)
    return bring_labels(known.mask, labels, form, head.affine, layout)


def _place(drawn: Image, head: Image, labels: NDArray[np.uint8], generator: Generator) -> Image:
    """Return the image with the labels that drove it and the place of its grid: that of the head, in other steps."""
    assert generator.description.map is not None
    assert head.affine is not None
    factor = np.asarray(head.pixels.shape) / np.asarray(labels.shape)
    steps = np.eye(4)
    steps[:3, :3] = np.diag(factor)
    steps[:3, 3] = (factor - 1) / 2  # corners of both grids coincide
    affine = head.affine @ steps
    spacing = tuple(float(step) for step in np.linalg.norm(affine[:3, :3], axis=0))
    return replace(drawn, masks={generator.description.map.mask: labels}, affine=affine, spacing_mm=spacing)
