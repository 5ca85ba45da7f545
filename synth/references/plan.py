"""What reading a source is given and what it answers: options, budget, plan. All of it is plain JSON.

Parsing runs in a process of its own, so that everything here crosses a pipe and is checked again on the other side.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from synth.errors import PermanentError
from synth.nouns import Attribute, AttributeKind

RESERVED = ("image_id", "name", "patient_id", "visit", "visit_order", "split")  # columns that every reference has
MAX_TEXT = 500  # characters of a name or of a categorical value


class ReferenceError(PermanentError):
    """A source cannot be read as a reference; the message names the file, the reason and the next step."""


class BadItemError(ReferenceError):
    """One item cannot be used; it is named and left out, and the others are read."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Budget(_Frozen):
    """What reading may cost. Every limit is checked before memory is taken; the process itself is limited as well."""

    pixels: int = Field(1 << 27, ge=1, description="Pixels or voxels of one image.")
    image_bytes: int = Field(1 << 29, ge=1, description="Bytes of one decoded image.")
    file_bytes: int = Field(1 << 28, ge=1, description="Bytes of one encoded image.")
    table_bytes: int = Field(1 << 29, ge=1, description="Bytes of a table without its images, unpacked.")
    rows: int = Field(5_000_000, ge=1, description="Rows of a table, or images.")
    columns: int = Field(2_000, ge=1, description="Columns of a table.")
    files: int = Field(500_000, ge=1, description="Files of a folder.")
    ratio: int = Field(1_100, ge=1, description="Unpacked over packed size; deflate cannot exceed 1,032.")
    memory_bytes: int = Field(3 << 30, ge=1, description="Address space of the parsing process.")
    seconds_per_item: float = Field(60.0, gt=0, description="Seconds for one image or file.")
    seconds: float = Field(6 * 3600.0, gt=0, description="Seconds for the whole source.")


class Options(_Frozen):
    """What the user said about a source; everything else is detected."""

    patient: str | None = None
    image: str | None = None
    attributes: tuple[str, ...] | None = None
    adapter: str | None = None


class PlannedAttribute(_Frozen):
    """One attribute and where it comes from."""

    name: str = Field(max_length=MAX_TEXT)
    kind: AttributeKind
    unit: str = Field("", max_length=MAX_TEXT)
    description: str = Field("", max_length=2_000)
    column: str = Field("", max_length=MAX_TEXT, description="Name of the column in the source.")
    separator: str = Field("", max_length=4, description="What separates the labels of a set in text.")

    def to_attribute(self) -> Attribute:
        """Return the noun."""
        return Attribute(self.name, self.kind, self.unit, self.description)


class ReferencePlan(_Frozen):
    """How a source will be read: adapter, columns, attributes, how many items, and what a user should know."""

    adapter: str
    reason: str = Field(description="Why this adapter was chosen.")
    items: int = Field(ge=0, description="Images or records in the source, before any is refused.")
    has_pixels: bool
    files: tuple[str, ...] = Field(description="Files that will be read, relative to the source's folder.")
    image_column: str | None = None
    name_column: str | None = None
    patient_column: str | None = None
    order_column: str | None = None
    patients: int | None = Field(None, description="Number of patients, or null where they are unknown.")
    given_splits: dict[str, int] = Field(
        default_factory=dict, description="Images of each split the source comes with."
    )
    attributes: tuple[PlannedAttribute, ...] = ()
    notes: tuple[str, ...] = ()


class PixelsRow(_Frozen):
    """The geometry of an image whose pixels follow as raw bytes: little-endian, C order."""

    dtype: Literal["uint8", "uint16", "int16", "float32"]
    shape: tuple[int, ...] = Field(min_length=2, max_length=4)
    axes: Literal["yx", "yxc", "xyz", "xyzc"]
    spacing_mm: tuple[float, ...] | None = None
    affine: tuple[float, ...] | None = Field(None, min_length=16, max_length=16)
    intensity_scale: float = 1.0


class ItemRow(_Frozen):
    """One item that was read. ``patient`` is None where it is unknown, ``given_split`` unless the source has splits."""

    item: int = Field(ge=0)
    name: str = Field(min_length=1, max_length=MAX_TEXT)
    patient: str | None = Field(None, min_length=1, max_length=MAX_TEXT)
    order: float | None = None
    given_split: Literal["train", "validation", "holdout", "validation or holdout"] | None = None
    attributes: dict[str, str | int | float | list[str] | None] = Field(default_factory=dict)
    pixels: PixelsRow | None = None


def show_size(count: float) -> str:
    """Return a number of bytes in words."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return ""
