"""The learned engine: a trained model draws the images that subjects are asked to show.

A model is named by its hash, which is part of the recipe and of every scan, so that an image is drawn again by the very
model that drew it. Whoever runs the engine brings the shelf where models are found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synth.errors import ModelError, SpecError, suggest_nearest
from synth.imaging_spec import ImagingSpec
from synth.nouns import AttributeValue, Image, Measurement, Scan, Subject, Visit
from synth.pins import read_pin
from synth.population_spec import LabelsSpec, parse_band
from synth.seeds import stream_key
from synth.shelf import Shelf
from synth.spec import CohortSpec

if TYPE_CHECKING:  # they load torch
    from synth.learned.conditions import Condition
    from synth.learned.generator import Generator, ModelDescription, Pixels
    from synth.learned.redraws import Drawn

NONE = "none"  # no label of a set
REDRAWS = 2  # times that a miss is drawn again, unless the recipe says otherwise


class LearnedEngine:
    """Images drawn by one of the ``models`` of a shelf."""

    name = "flow"
    version = "1"
    description = "images drawn by a model that was trained on real ones (imaging.model)"
    unused: ClassVar[tuple[str, ...]] = (
        "resolution_mm", "snr", "field_strength_t", "protocol", "effects", "pairs", "anatomy",
    )  # fmt: skip

    def __init__(self, models: Shelf | None = None) -> None:
        self.models = models

    def check(self, spec: CohortSpec) -> None:
        """Raise SpecError if the recipe has no model or asks for what its model cannot draw; ModelError without it."""
        generator = self._find(spec)
        kind = generator.description.kind
        for contrast in spec.imaging.contrasts:
            if contrast != kind:
                raise SpecError(
                    f"imaging.contrasts: '{contrast}' is unknown to model '{generator.description.name}'; choose from "
                    f"{[kind]}.{suggest_nearest(contrast, [kind])}"
                )
        for field in self.unused:  # the model decides them
            if getattr(spec.imaging, field) != ImagingSpec.model_fields[field].default:
                raise SpecError(
                    f"imaging.{field}: engine '{self.name}' takes none, as the model decides it; leave it out."
                )
        _check_targets(spec, generator.description)

    def check_subject(self, subject: Subject) -> None:
        """Any subject can be drawn: what the model does not know is not asked of it, and noted with the scan."""

    def image_bytes(self, spec: CohortSpec) -> int:
        """Return the uncompressed bytes of one image."""
        description = self._find(spec).description
        return np.dtype(description.pixels).itemsize * math.prod(description.shape)

    def batch(self, spec: CohortSpec) -> int:
        """Return how many scans are drawn at once."""
        return int(self._find(spec).description.batch)

    def network_precision(self, spec: CohortSpec) -> str | None:
        """Return what the model's products are rounded to in sampling."""
        return self._find(spec).description.sampler.precision

    def warm_up(self, spec: CohortSpec) -> None:
        """Load the model and draw one image."""
        self._find(spec).sample([{}], [0])

    def draw_scans(self, spec: CohortSpec, subject: Subject) -> tuple[Scan, ...]:
        """Draw the scans of ``subject``: what each is asked to show, and the key of its noise."""
        generator = self._find(spec)
        return tuple(
            self._draw_scan(spec, generator, subject, visit, kind)
            for visit in subject.visits
            for kind in spec.imaging.contrasts
        )

    def _draw_scan(self, spec: CohortSpec, generator: Generator, subject: Subject, visit: Visit, kind: str) -> Scan:
        row, unknown = split_row(generator.description.code.conditions, subject.describe_visit(visit))
        key = stream_key(spec.seed, subject.subject_index, visit.visit, f"{self.name}/noise/{kind}")
        return Scan(
            scan_id=f"{subject.subject_id}-v{visit.visit}-{kind.lower().replace(' ', '-')}",
            cohort_id=subject.cohort_id,
            subject_id=subject.subject_id,
            visit=visit.visit,
            kind=kind,
            engine=self.name,
            engine_version=self.version,
            manufacturer=subject.manufacturer,
            manufacturer_model=subject.manufacturer_model,
            field_strength_t=subject.field_strength_t,
            parameters={
                "model": generator.hash,
                "model_name": generator.description.name,
                "sampler": generator.description.sampler.model_dump(mode="json"),
                "noise_key": hex(key),
                "redraws": REDRAWS if spec.imaging.redraws is None else spec.imaging.redraws,
                "row": row,
                "not_shown": unknown,
            },
        )

    def render(self, scans: Sequence[Scan]) -> list[Image]:
        """Draw the images of ``scans``, which may be of several models."""
        images: list[Image] = []
        for (model, budget), group in groupby(scans, key=lambda scan: (_string(scan, "model"), _budget(scan))):
            images += self._render_group(model, budget, list(group))
        return images

    def _render_group(
        self, model: str, budget: int, scans: list[Scan], maps: NDArray[np.uint8] | None = None
    ) -> list[Image]:
        generator = self._load(model)
        rows = [
            {name: tuple(value) if isinstance(value, list) else value for name, value in scan.parameters["row"].items()}
            for scan in scans
        ]
        keys = [int(_string(scan, "noise_key"), 16) for scan in scans]
        assert self.models is not None  # a model was found there
        drawn = self.models.draw_images(generator, rows, keys, budget, maps)
        pixels = generator.description.pixels
        return [_make_image(scan, one, budget, pixels) for scan, one in zip(scans, drawn, strict=True)]

    def _find(self, spec: CohortSpec) -> Generator:
        if spec.imaging.model is None:
            raise SpecError(
                f"imaging.model: engine '{self.name}' needs one; give the name of a shipped model, the folder of one, "
                "or models:/NAME@ALIAS."
            )
        pin = read_pin(spec.imaging.model)
        if pin is None:
            raise SpecError(
                f"imaging.model: '{spec.imaging.model}' has no hash, so nothing says which model is meant; "
                "'cohortium build' finds it."
            )
        return self._load(pin.sha256)

    def _load(self, model_hash: str) -> Generator:
        if self.models is None:
            raise ModelError(f"model {model_hash[:12]} cannot be looked for: no models were given.")
        return self.models.open_generator(model_hash)


def _check_targets(spec: CohortSpec, description: ModelDescription) -> None:
    """Raise SpecError if something is asked for by name that the model was not taught."""
    where, targets = spec.population.where, spec.population.targets
    chosen = {"sex": where.sex, "diagnosis": where.diagnosis, "age_years": where.age_years, **where.attributes}
    shares = {
        "sex": targets.sex, "diagnosis": targets.diagnosis, "age_years": targets.age_years, **targets.attributes
    }  # fmt: skip
    taught = {condition.attribute.name: condition for condition in description.code.conditions}
    for name, values in [*chosen.items(), *shares.items()]:
        if not values or set(values) == {NONE}:  # a LabelsSpec holds fields, so it is never that
            continue
        if name not in taught:
            raise SpecError(
                f"population: {name} is asked for, but model '{description.name}' was taught "
                f"{', '.join(taught) or 'no attributes'}, so its images cannot show it.{suggest_nearest(name, taught)}"
            )
        _check_values(taught[name], values, description.name)


def _check_values(condition: Condition, values: Any, model: str) -> None:
    """Raise SpecError for a label that the model was not taught, or numbers that are all beyond those it was."""
    name = condition.attribute.name
    if condition.numeric:
        bands = [parse_band(one) for one in values] if isinstance(values, dict) else [values]
        for low, high in bands:
            if high < condition.low or low > condition.high:
                raise SpecError(
                    f"population: {name} from {low:g} to {high:g} is asked for, but model '{model}' was taught "
                    f"{condition.low:g} to {condition.high:g}."
                )
        return
    for value in sorted(set(values.all if isinstance(values, LabelsSpec) else values) - {NONE}):
        if value not in condition.values:
            raise SpecError(
                f"population: {name} '{value}' is asked for, but model '{model}' was taught "
                f"{', '.join(condition.values)}.{suggest_nearest(value, condition.values)}"
            )


def split_row(
    conditions: Sequence[Condition], known: Mapping[str, AttributeValue]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the model is asked to show of a visit, and what it was not taught, both as JSON values."""
    taught = {condition.attribute.name: condition for condition in conditions}
    row: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for name, value in known.items():
        condition = taught.get(name)
        if value is None:
            continue
        if condition is None:
            unknown[name] = list(value) if isinstance(value, tuple) else value
        elif isinstance(value, tuple):
            row[name] = [label for label in value if label in condition.values]
            if rest := [label for label in value if label not in condition.values]:
                unknown[name] = rest
        elif _is_taught(condition, value):
            row[name] = value
        else:
            unknown[name] = value
    return row, unknown


def _is_taught(condition: Condition, value: str | int | float) -> bool:
    if isinstance(value, str):
        return value in condition.values
    return condition.attribute.kind in ("integer", "continuous") and condition.low <= value <= condition.high


def _string(scan: Scan, name: str) -> str:
    return str(scan.parameters[name])


def _budget(scan: Scan) -> int:
    return int(scan.parameters["redraws"])


def _make_image(scan: Scan, drawn: Drawn, budget: int, pixels: Pixels) -> Image:
    """Return a drawn image as it is stored, with what was read from it and how often it was drawn again."""
    white = np.iinfo(pixels).max
    counted = (Measurement("redraws", "1", 0.0, float(drawn.redraws), float(budget)),) if drawn.measurements else ()
    return Image(
        image_id=f"{scan.scan_id}-0",
        scan=scan,
        pixels=np.ascontiguousarray(np.round(np.clip(drawn.image, 0.0, 1.0) * white).astype(pixels)),
        affine=None,
        spacing_mm=None,
        intensity_scale=1.0 / white,
        intensity_unit="of the training images' white",
        masks={},
        measurements=(*drawn.measurements, *counted),
    )
