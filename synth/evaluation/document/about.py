"""What only the caller knows of the images and of the run: facts that documents may state, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from synth.errors import PermanentError, suggest_nearest


class DocumentError(PermanentError):
    """A document cannot be written from what was given."""


class DataFile(BaseModel):
    """One Parquet file of the data that the metadata describes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="path relative to the folder of the document", min_length=1)
    sha256: str = Field(description="SHA-256 of its bytes, in hexadecimal", pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(0, description="its size", ge=0)


class Column(BaseModel):
    """One column of the Parquet files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="its name", min_length=1)
    type: str = Field(description="its Arrow type, as str(field.type) gives it, e.g. 'list<element: string>'")
    description: str = Field("", description="what it holds, in a sentence")
    unit: str = Field("", description="unit of a number")
    media_type: str = Field("", description="of binary columns, e.g. 'image/png'")


class About(BaseModel):
    """Facts for the documents. All are optional: what is not given is left out or said to be not stated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = Field("", description="what the images are called on top; else the name in the report")
    synthetic: bool = Field(True, description="false if the judged images are real: then no picture of them is public")
    description: str = Field("", description="what the images are, in a sentence or two")
    modality: str = Field("", description="e.g. 'chest radiographs' or 'T1-weighted brain MRI'")
    method: str = Field("", description="how the images were made: engine or model, version, training")
    derived_from: tuple[str, ...] = Field((), description="names or URLs of the real data a model was trained on")
    population: str = Field("", description="whom the subjects stand for")
    intended_use: tuple[str, ...] = Field((), description="what the images are meant for")
    limits: tuple[str, ...] = Field((), description="what they are not fit for, known defects")
    annotation: str = Field("", description="where labels and masks come from")
    social_impact: str = Field("", description="whom the images may serve or harm")
    maintenance: str = Field("", description="who keeps them, until when, how they are withdrawn")
    licence: str = Field("", description="licence of the images, best as the URL of a known one")
    creator: str = Field("", description="who made them")
    publisher: str = Field("", description="who publishes them")
    contact: str = Field("", description="how to reach someone")
    citation: str = Field("", description="how to cite them")
    url: str = Field("", description="where they are published")
    version: str = Field("", description="version of the data, MAJOR.MINOR.PATCH")
    created_at: str = Field("", description="ISO date on which the images were made")
    published_at: str = Field("", description="ISO date of publication")
    reference_source: str = Field("", description="where the reference's images come from")
    reference_licence: str = Field("", description="licence of the reference")
    evaluated_at: str = Field("", description="ISO time of the evaluation")
    decided_by: str = Field("", description="who or what applied the gates")
    command: str = Field("", description="command line that repeats the evaluation")
    software: dict[str, str] = Field({}, description="versions and numeric profile")
    policy_name: str = Field("", description="name of the policy whose gates were applied")
    policy_hash: str = Field("", description="its content hash")
    gate_metrics: dict[str, str] = Field({}, description="metric that each gate looks at")
    files: tuple[DataFile, ...] = Field((), description="Parquet files of the data")
    columns: tuple[Column, ...] = Field((), description="columns of those files")
    extra: dict[str, Any] = Field({}, description="anything else, for report.json alone")


def read_about(about: Mapping[str, Any]) -> About:
    """Return the facts, checked; raises DocumentError naming each wrong key with the nearest known one."""
    try:
        return About.model_validate(dict(about))
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            place = ".".join(str(part) for part in problem["loc"])
            hint = suggest_nearest(place, About.model_fields) if problem["type"] == "extra_forbidden" else ""
            text = "there is no such fact" if problem["type"] == "extra_forbidden" else problem["msg"]
            lines.append(f"  {place}: {text}.{hint}")
        known = ", ".join(About.model_fields)
        raise DocumentError("'about' cannot be used:\n" + "\n".join(lines) + f"\nKnown facts: {known}.") from error
