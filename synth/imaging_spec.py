"""The part of a recipe that says which images are made of each subject."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from synth.anatomy_spec import AnatomySpec
from synth.recipe_part import Probability, RecipePart, Unique, refuse_repeats


def _read_pairs(given: Any) -> Any:
    """Return pairs that are listed by name as a table of them."""
    if isinstance(given, list | tuple) and all(isinstance(name, str) for name in given):
        return {name: {} for name in refuse_repeats(tuple(given))}
    return given


class VisitsSpec(RecipePart):
    """Follow-up: ``share`` of the subjects come back ``count - 1`` times, about ``interval_years`` apart."""

    count: int = Field(
        1, strict=True, ge=1, le=20, description="visits of a subject with follow-up, the first included"
    )
    interval_years: float = Field(1.0, gt=0, le=30, description="mean time between visits")
    share: Probability = Field(1.0, description="share of the subjects that have follow-up visits")


class ImagingSpec(RecipePart):
    """Which images are made of each subject, and by which engine."""

    engine: str = Field("mri", description="name of the engine")
    model: str | None = Field(
        None,
        min_length=1,
        description="of learned engines: the model that draws, a shipped one's name, a folder, or models:/NAME@ALIAS",
    )
    contrasts: Annotated[tuple[str, ...], Unique] = Field(
        ("T1w",), min_length=1, description="contrasts or views; a model draws its own kind"
    )
    redraws: int | None = Field(
        None,
        strict=True,
        ge=0,
        le=20,
        description="of learned engines: how often an image that misses what was asked for is drawn again (default 2)",
    )
    resolution_mm: float = Field(2.0, description="isotropic voxel size in millimetres")
    snr: tuple[float, float] = Field((20.0, 60.0), description="range of the drawn white-matter signal-to-noise ratio")
    field_strength_t: float | None = Field(
        None,
        gt=0,
        le=7,
        description="of engine mri: the field in tesla that everybody is scanned at; default: their own",
    )
    protocol: dict[str, dict[str, float | tuple[float, float]]] = Field(
        {},
        description="of engine mri: parameters of a contrast, a value or [lowest, highest], e.g. {T1w = {te_ms = 3}}",
    )
    effects: dict[str, dict[str, float | tuple[float, float]]] = Field(
        {},
        description="of engine mri: what the scanner adds, e.g. {motion = {probability = 0.2}, slices = {}}",
    )
    anatomy: AnatomySpec = Field(AnatomySpec(), description="of engine mri: whose anatomy is rendered")
    pairs: Annotated[dict[str, dict[str, float | tuple[float, float]]], BeforeValidator(_read_pairs)] = Field(
        {},
        description="of engine mri: what each contrast is paired with, e.g. ['motion'] or {low-field = {snr = 8}}",
    )
    visits: VisitsSpec = Field(default_factory=VisitsSpec, description="follow-up")

    @model_validator(mode="after")
    def _check_snr(self) -> ImagingSpec:
        if not 2.0 <= self.snr[0] <= self.snr[1] <= 1000.0:
            raise ValueError(f"snr must be [lowest, highest] with 2 <= lowest <= highest <= 1000, got {list(self.snr)}")
        return self
