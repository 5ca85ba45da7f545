"""Both sides of an evaluation, streamed into files of one form; memory stays at one image, files vanish afterwards."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from filelock import FileLock, Timeout

from catalog import Catalog, Home, Reference
from catalog.home import explain_refusals, make_folder
from flows.evaluation_attributes import Shared, share_attributes
from flows.evaluation_sources import SplitSource
from flows.source_images import CONTRASTS, Choice, Source, SourceImage, peek, read_affine, read_form
from synth.errors import StorageError
from synth.evaluation.images.features.base import Tell
from synth.evaluation.images.layout import Form, Layout, NotComparableError, choose_layout
from synth.evaluation.images.sets import ImageSet, ImageWriter, RealImages, Unusable
from synth.nouns import Attribute, RefusedItem, Split
from synth.seeds import COHORT_LEVEL, stream

SHOWN = 3  # reasons that an error lists
ALIVE = ".lock"
_FORMS = """
    SELECT axes, dtype, shape, spacing_mm, count(*) AS images, min(item) AS first FROM reference_images
    WHERE reference_id = ? AND pixels_sha256 IS NOT NULL GROUP BY ALL ORDER BY images DESC, first
"""


@dataclass(frozen=True)
class Sides:
    """The images and the reference in one form, and what a user should know about how they were brought there."""

    images: ImageSet
    real: RealImages
    notes: tuple[str, ...]


@contextmanager
def open_work_folder(home: Home) -> Iterator[Path]:
    """Yield a folder for files that vanish with the block; those of processes that were killed are removed too."""
    place = home.root / "work"
    make_folder(place)
    with explain_refusals(place), FileLock(place / ALIVE):  # so that nobody takes a new folder for an abandoned one
        _remove_abandoned(place)
        folder = Path(tempfile.mkdtemp(prefix="evaluate-", dir=place))
        lock = FileLock(folder / ALIVE)
        lock.acquire(timeout=0)
    try:
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(place: Path) -> None:
    for folder in place.glob("evaluate-*"):
        try:
            with FileLock(folder / ALIVE).acquire(timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
        except Timeout:
            continue


def read_sides(
    catalog: Catalog, source: Source, reference: Reference, choice: Choice, folder: Path, tell: Tell,
    wanted: tuple[str, ...] | None = None,
) -> Sides:  # fmt: skip
    """Return both sides in the layout of the coarser one, streamed into files below ``folder``.

    Raises NotComparableError if one side has volumes and the other pictures, or no image of a side can be used;
    StorageError if the disk refuses.
    """
    shared = share_attributes(source.schema, list_attributes(reference, source.kind), wanted)
    form, items = peek(source.read())
    own, notes = read_reference_form(catalog, reference), list(shared.notes)
    layout = choose_layout(own, form) if form is not None else choose_layout(own, own)
    _check_space(folder, layout, source.count + int(reference.row["images"]))
    with explain_refusals(folder):
        images = _write_images(source, items, shared, layout, folder, tell)
        if not len(images):
            raise NotComparableError(f"no image of '{source.name}' can be used: {_list_reasons(images.unusable)}")
        sets = _write_reference(reference, source, choice, shared, layout, folder, tell, notes)
    real = RealImages(reference.name, reference.fingerprint, *sets, layout)
    if not any(len(side) for side in sets):
        unusable = [item for side in sets for item in side.unusable]
        raise NotComparableError(
            f"no image of reference '{reference.name}' can be used: {_list_reasons(unusable)}"
            if unusable
            else f"reference '{reference.name}' has no image of {source.kind}"
        )
    return Sides(images, real, (*source.notes, *notes))


def list_attributes(reference: Reference, kind: str | None) -> tuple[Attribute, ...]:
    """Return the attributes of a reference; not the contrast, where images of one contrast are judged."""
    return tuple(a for a in reference.schema if kind is None or a.name not in CONTRASTS)


def read_reference_form(catalog: Catalog, reference: Reference) -> Form:
    """Return the most frequent form of a reference's images; 8-bit only if all of them are."""
    rows = catalog.sql(_FORMS, [reference.reference_id]).dicts()
    form = read_form(rows[0])
    deeper = [row["dtype"] for row in rows if row["dtype"] != "uint8"]
    return replace(form, dtype=deeper[0]) if deeper else form


def _check_space(folder: Path, layout: Layout, images: int) -> None:
    needed = images * 2 * math.prod(layout.shape)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(
            f"judging {images} images needs about {needed / 1e9:.1f} GB for a while, but only {free / 1e9:.1f} GB are "
            f"free at '{folder.parent}'. Free some space, or judge fewer with --limit."
        )


def _list_reasons(unusable: Iterable[Unusable]) -> str:
    found = list(unusable)
    text = "; ".join(f"{item.name}: {item.reason.rstrip('.')}" for item in found[:SHOWN])
    return f"{text}; and {len(found) - SHOWN} more" if len(found) > SHOWN else text or "there is none"


def _write_images(
    source: Source, items: Iterable[SourceImage | RefusedItem], shared: Shared, layout: Layout, folder: Path, tell: Tell
) -> ImageSet:
    what = f"reading {source.name}"
    with ImageWriter(folder / "images.u16", source.name, layout, shared.images) as writer:
        for done, item in enumerate(items, start=1):
            if isinstance(item, RefusedItem):
                for _ in range(item.items):
                    writer.refuse(item.name, item.reason)
            else:
                _add(writer, item, shared.convert(item.attributes), layout)
            tell(what, min(done, source.count), source.count)
        return writer.finish()


def _add(writer: ImageWriter, image: SourceImage, values: Mapping[str, Any], layout: Layout) -> None:
    if layout.intensity == "absolute" and image.form.dtype != "uint8":
        writer.refuse(image.image_id, f"its pixels are {image.form.dtype} where the others have 8 bits")
        return
    writer.add(image.image_id, image.patient_id, values, image.pixels, image.form, image.affine)


def _write_reference(
    reference: Reference, source: Source, choice: Choice, shared: Shared, layout: Layout, folder: Path, tell: Tell,
    notes: list[str],
) -> list[ImageSet]:  # fmt: skip
    """Return the sets of train, validation and holdout; a split that is itself judged is left out."""
    kind_of = _read_kinds(reference, source.kind, notes)
    left_out = _find_judged_split(reference, source, notes)
    total, done, sets = int(reference.row["images"]), 0, []
    what = f"reading reference {reference.name}"
    for split in get_args(Split):
        with ImageWriter(folder / f"{split}.u16", split, layout, shared.real) as writer:
            if split != left_out:
                chosen = _choose_patients(reference, split, choice)
                rows = {row["image_id"]: row for row in reference.records(split).to_pylist()}
                for image in reference.images(split):
                    row = rows[image.image_id]
                    done += 1
                    tell(what, done, total)
                    if (chosen is None or row["patient_id"] in chosen) and kind_of(row):
                        item = SourceImage(
                            image.image_id, row["patient_id"], row, image.pixels, read_form(image.row),
                            read_affine(image.row),
                        )  # fmt: skip
                        _add(writer, item, _as_numbers(row, shared), layout)
            sets.append(writer.finish())
    tell(what, total, total)
    return _divide_unseen(sets, left_out, choice.seed) if left_out else sets


def _divide_unseen(sets: list[ImageSet], left_out: str, seed: int) -> list[ImageSet]:
    """Return the sets with the patients of the only unseen split dealt out: a third validates, the rest is held out."""
    train, validation, holdout = sets
    rest = holdout if left_out == "validation" else validation
    patients = np.unique(rest.patient)
    order = stream(seed, COHORT_LEVEL, COHORT_LEVEL, "evaluate/unseen").permutation(len(patients))
    chosen = np.isin(rest.patient, patients[order[: len(patients) // 3]])
    return [train, rest.select(chosen, "validation"), replace(rest.select(~chosen, "holdout"), unusable=rest.unusable)]


def _as_numbers(row: Mapping[str, Any], shared: Shared) -> dict[str, Any]:
    """Return the attributes of a record; whole numbers that are continuous on the other side are so here too."""
    return {
        a.name: float(row[a.name]) if a.kind == "continuous" and row[a.name] is not None else row[a.name]
        for a in shared.real
    }


def _read_kinds(reference: Reference, kind: str | None, notes: list[str]) -> Callable[[Mapping[str, Any]], bool]:
    """Return whether a record is of the contrast that is judged; all are if the reference does not tell contrasts."""
    names = [a.name for a in reference.schema if a.name in CONTRASTS and a.kind == "categorical"]
    if kind is None or not names:
        return lambda row: True
    name = names[0]
    notes.append(f"of the reference, the images with {name} {kind} are compared with.")
    return lambda row: str(row[name]).lower() == kind.lower()


def _find_judged_split(reference: Reference, source: Source, notes: list[str]) -> str | None:
    if not isinstance(source, SplitSource) or source.reference.reference_id != reference.reference_id:
        return None
    if source.split in (None, "train"):
        notes.append("the images are the reference's own training images: each of them is a copy.")
        return None
    notes.append(f"the images are of the reference's own {source.split} patients, who are left out on the other side.")
    notes.append("the other unseen patients are dealt out again: a third validate, the others are held out.")
    return source.split


def _choose_patients(reference: Reference, split: str, choice: Choice) -> set[str] | None:
    """Return whole patients with about ``choice.limit`` images, or None for all."""
    counts = Counter(reference.records(split).column("patient_id").to_pylist())
    if choice.limit is None or choice.limit >= counts.total():
        return None
    names = sorted(counts)
    order = stream(choice.seed, COHORT_LEVEL, COHORT_LEVEL, f"evaluate/{split}").permutation(len(names))
    before = np.concatenate([[0], np.cumsum([counts[names[place]] for place in order])])
    return {names[place] for place, images in zip(order, before, strict=False) if images < choice.limit}
