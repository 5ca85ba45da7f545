"""The part of a recipe that says whose anatomy is rendered."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from synth.errors import SpecError
from synth.physics.label_tables import TABLES, find_table
from synth.pins import drop_name
from synth.recipe_part import RecipePart

_OF_LABELS = ("labels", "table", "volumes", "deformation")


class AnatomySpec(RecipePart):
    """Whose anatomy is rendered: people sampled from the template, or label maps."""

    kind: Literal["brain", "head"] = Field(
        "brain", description="brain: what lies within the skull; head: with skull, scalp, face and neck"
    )
    source: Literal["template", "labels"] = Field(
        "template", description="template: people are sampled from the ICBM maps; labels: from the label maps below"
    )
    labels: tuple[str, ...] = Field(
        (), description="NIfTI label maps, files or folders of them, named from the folder of the recipe"
    )
    table: str | dict[str, tuple[int, ...]] | None = Field(
        None, description=f"what their numbers are: {', '.join(TABLES)}, or tissue = [numbers]"
    )
    volumes: Literal["labels", "population"] = Field(
        "labels", description="whose volumes images have: those of the map, or those that the population draws"
    )
    deformation: float = Field(
        1.0, ge=0, le=1, description="of label maps: how much of a drawn person's deformation is added; 0: none"
    )

    @field_validator("labels", mode="before")
    @classmethod
    def _take_one(cls, labels: Any) -> Any:
        return (labels,) if isinstance(labels, str) else labels

    @model_validator(mode="after")
    def _check_source(self) -> AnatomySpec:
        if self.source == "template":
            given = [name for name in _OF_LABELS if getattr(self, name) != type(self).model_fields[name].default]
            if given:
                raise ValueError(f"'{given[0]}' belongs to label maps; set source = \"labels\" or leave it out")
            return self
        if not self.labels:
            raise ValueError("source = \"labels\" needs 'labels': NIfTI files, or a folder of them")
        if self.table is None:
            raise ValueError(f"source = \"labels\" needs 'table': {', '.join(TABLES)}, or tissue = [numbers]")
        try:
            find_table(self.table)
        except SpecError as error:
            raise ValueError(str(error).removeprefix("imaging.anatomy.")) from error
        return self

    def dump_content(self) -> dict[str, Any]:
        """Return what of it decides images, as JSON values: of label maps their hashes, whatever they are called."""
        return {**self.model_dump(mode="json"), "labels": sorted(drop_name(label) for label in self.labels)}
