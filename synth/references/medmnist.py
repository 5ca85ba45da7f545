"""MedMNIST: one .npz with ``train_images``, ``train_labels``, ``val_...`` and ``test_...``; nothing is unpickled."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from synth.references.items import BegunItem, FoundItem, Step
from synth.references.limits import check_size
from synth.references.plan import (
    BadItemError,
    Budget,
    Options,
    PlannedAttribute,
    ReferenceError,
    ReferencePlan,
    show_size,
)

PARTS = ("train", "val", "test")
EXPECTED = "train_images and train_labels, and the same with val and test"
BATCH = 256
_HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_KINDS = ("uint8", "uint16", "int16", "float32")
_LABELS = {  # where the meaning of a class is known from the name of the file
    "pneumoniamnist": ("normal", "pneumonia"),
    "breastmnist": ("malignant", "normal or benign"),
    "chestmnist": ("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia",
                   "pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia"),
}  # fmt: skip
_FAILURES = (zipfile.BadZipFile, OSError, EOFError, zlib.error, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True, slots=True)
class _Member:
    """One array of the archive as its header declares it."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class MedMnist:
    """One .npz file in the layout of MedMNIST."""

    name = "medmnist"
    description = "One .npz in the layout of MedMNIST: images and labels, with the splits it comes with."

    def detect(self, path: Path, budget: Budget) -> str | None:
        """Return why ``path`` is a source of this kind, or None."""
        return "the file is an .npz archive" if path.is_file() and path.suffix == ".npz" else None

    def describe(self, path: Path, options: Options, budget: Budget) -> ReferencePlan:
        """Return how the archive will be read; every array's header is checked first."""
        members = _read_members(path, budget)
        parts = _find_parts(path, members)
        if options.patient or options.image:
            raise ReferenceError(f"'{path.name}' has no columns, so --patient and --image have no meaning for it.")
        attribute = _plan_label(path, members, parts)
        attributes = (attribute,) if options.attributes is None or "label" in options.attributes else ()
        if options.attributes and set(options.attributes) - {"label"}:
            raise ReferenceError(f"--attributes: '{path.name}' has only the attribute 'label'.")
        counts = {part: members[f"{part}_images"].shape[0] for part in parts}
        notes = ["patients are unknown: each image counts as a patient of its own"]
        given = dict(zip(("train", "validation", "holdout"), (counts.get(p, 0) for p in PARTS), strict=True))
        if "test" not in counts:
            given = {"train": counts["train"], "validation or holdout": counts.get("val", 0)}
            notes.append("the split train is kept as given, val becomes validation and holdout by a hash of its names")
        else:
            notes.append("the splits are kept as given: val is validation, test is holdout")
        return ReferencePlan(
            adapter=self.name, reason="the file is an .npz archive", items=sum(counts.values()), has_pixels=True,
            files=(path.name,), given_splits=given, attributes=attributes, notes=tuple(notes),
        )  # fmt: skip

    def read(self, path: Path, plan: ReferencePlan, budget: Budget, first: int = 0) -> Iterator[Step]:
        """Yield the images of all parts in order, unpacking a few at a time."""
        members = _read_members(path, budget)
        parts = _find_parts(path, members)
        start = 0
        for part in parts:
            count = members[f"{part}_images"].shape[0]
            if start + count > first:
                given = {"train": "train", "val": "validation or holdout" if "test" not in parts else "validation",
                         "test": "holdout"}[part]  # fmt: skip
                yield from _read_part(path, members, part, given, plan, budget, start, first)
            start += count


def _read_members(path: Path, budget: Budget) -> dict[str, _Member]:
    """Return the arrays that the archive declares; raises ReferenceError if one of them is not what it should be."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            if len(infos) > 64:
                raise ReferenceError(f"'{path.name}' has {len(infos)} members; an archive of MedMNIST has six at most.")
            return {member.name: member for info in infos if (member := _read_member(archive, info, budget))}
    except BadItemError as error:
        raise ReferenceError(f"'{path.name}': {error}.") from error
    except _FAILURES as error:
        raise ReferenceError(f"'{path.name}' cannot be read as an .npz archive: {str(error)[:200]}.") from error


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget) -> _Member | None:
    name = info.filename.removesuffix(".npy")
    if name not in {f"{part}_{what}" for part in PARTS for what in ("images", "labels")}:
        return None
    if info.flag_bits & 1:
        raise BadItemError(f"member '{name}' is encrypted")
    if info.file_size > 4096 and info.file_size > max(info.compress_size, 1) * budget.ratio:
        raise BadItemError(
            f"member '{name}' declares {show_size(info.file_size)} packed into {show_size(info.compress_size)}"
        )
    with archive.open(info) as stream:
        member, offset = _read_header(stream, name)
    rows = member.shape[0]
    if rows > budget.rows or rows < 1:
        raise BadItemError(f"member '{name}' declares {rows} rows; 1 to {budget.rows} are allowed")
    each = check_size(member.shape[1:] or (1,), member.dtype.itemsize, budget)
    if offset + rows * each != info.file_size:
        raise BadItemError(
            f"member '{name}' declares {show_size(rows * each)} of data, but has {show_size(info.file_size - offset)}"
        )
    return member


def _read_header(stream: IO[bytes], name: str) -> tuple[_Member, int]:
    """Return what a .npy header declares and where the data begin; objects, which would be pickled, are refused."""
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise BadItemError(f"member '{name}' has version {version} of the .npy format, which is not supported")
    shape, fortran, dtype = _HEADERS[version](stream, max_header_size=4096)
    if dtype.hasobject:
        raise BadItemError(f"member '{name}' holds Python objects (a pickle), which are never read")
    if fortran and len(shape) > 1:
        raise BadItemError(f"member '{name}' is stored in Fortran order, which is not supported")
    if dtype.kind not in "iufb" or not shape:
        raise BadItemError(f"member '{name}' holds {dtype} of shape {shape}; arrays of numbers are expected")
    return _Member(name, tuple(int(n) for n in shape), dtype), stream.tell()


def _find_parts(path: Path, members: dict[str, _Member]) -> list[str]:
    parts = [part for part in PARTS if f"{part}_images" in members]
    if "train" not in parts:
        raise ReferenceError(f"'{path.name}' is not laid out like MedMNIST; it should hold {EXPECTED}.")
    for part in parts:
        images, labels = members[f"{part}_images"], members.get(f"{part}_labels")
        if (
            labels is None
            or labels.shape[0] != images.shape[0]
            or len(labels.shape) > 2
            or labels.dtype.kind not in "iu"
        ):
            raise ReferenceError(f"'{path.name}' has no whole-number {part}_labels for each of the {part}_images.")
        if len(images.shape) not in (3, 4) or images.dtype.name not in _KINDS:
            raise ReferenceError(
                f"'{path.name}': {part}_images hold {images.dtype} of shape {images.shape}; expected are "
                f"(images, rows, columns) or (images, rows, columns, 3) of {', '.join(_KINDS)}."
            )
    return parts


def _plan_label(path: Path, members: dict[str, _Member], parts: list[str]) -> PlannedAttribute:
    several = any(len(s := members[f"{part}_labels"].shape) == 2 and s[1] > 1 for part in parts)
    known = _label_names(path)
    meaning = f"classes of {path.stem}" + ("" if known else ", as numbered by the file")
    return PlannedAttribute(name="label", kind="set" if several else "categorical", description=meaning)


def _label_names(path: Path) -> tuple[str, ...]:
    return _LABELS.get(path.stem.lower().split("_")[0], ())


def _read_part(
    path: Path, members: dict[str, _Member], part: str, given: str, plan: ReferencePlan, budget: Budget, start: int,
    first: int,
) -> Iterator[Step]:  # fmt: skip
    known = _label_names(path)
    labels = members[f"{part}_labels"]
    images = members[f"{part}_images"]
    axes = {2: "yx", 3: "yxc" if images.shape[-1] == 3 else "xyz"}[len(images.shape) - 1]
    rows = zip(_stream(path, images, budget), _stream(path, labels, budget), strict=True)
    for place, (pixels, label) in enumerate(rows):
        item = start + place
        if item >= first:
            name = f"{part}-{place:06d}"
            yield BegunItem(item, name)
            attributes = {"label": _name_label(label, plan, known)} if plan.attributes else {}
            yield FoundItem(item, name, None, None, given, attributes, pixels, axes)


def _name_label(label: NDArray[Any], plan: ReferencePlan, known: tuple[str, ...]) -> str | list[str]:
    def call(number: int) -> str:
        return known[number] if 0 <= number < len(known) else str(number)

    if plan.attributes[0].kind == "set":
        return sorted(call(int(number)) for number in np.flatnonzero(np.ravel(label)))
    return call(int(np.ravel(label)[0]))


def _stream(path: Path, member: _Member, budget: Budget) -> Iterator[NDArray[Any]]:
    """Yield the rows of an array, BATCH of them in memory; raises ReferenceError if the archive ends early."""
    each = int(np.prod(member.shape[1:], dtype=np.int64)) * member.dtype.itemsize
    batch = max(1, min(BATCH, (8 << 20) // max(each, 1)))
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{member.name}.npy") as stream:
            _read_header(stream, member.name)
            for start in range(0, member.shape[0], batch):
                count = min(batch, member.shape[0] - start)
                data = stream.read(count * each)
                if len(data) < count * each:
                    raise ReferenceError(f"'{path.name}': member '{member.name}' ends early. Copy the file again.")
                rows = np.frombuffer(data, member.dtype).reshape(count, *member.shape[1:])
                yield from rows.astype(member.dtype.newbyteorder("="), copy=False)
    except BadItemError as error:
        raise ReferenceError(f"'{path.name}': {error}.") from error
    except _FAILURES as error:
        raise ReferenceError(f"'{path.name}': member '{member.name}' cannot be read: {str(error)[:200]}.") from error
