"""The pictures of the page: nearest training images, most and least typical images, and a random sheet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from synth.evaluation.document.facts import Facts
from synth.evaluation.document.markup import Child, Markup, clean_text, join, tag
from synth.evaluation.document.pictures import encode_picture, make_sheet, show_difference, show_slices, shrink
from synth.evaluation.document.words import format_count, format_value, shorten
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.report import Pair
from synth.evaluation.images.sets import ImageSet
from synth.seeds import COHORT_LEVEL, stream

MOST_PAIRS = 12  # of copies, and of other closest pairs
MOST_TYPICAL = 8
SHEET = {2: (24, 6), 3: (6, 1)}  # pictures and columns of a sheet, of pictures and of volumes
PLANES = (
    "Volumes by their axial, coronal and sagittal middle slices; the patient's right, or the front, is on the left."
)


def show_pairs(facts: Facts) -> Markup:
    """Return each image beside the training image it is most like, and their difference. Never public."""
    if facts.public:
        return Markup("")
    copies = list(facts.report.copies)[:MOST_PAIRS]
    known = {(pair.image_id, pair.reference_image_id) for pair in facts.report.copies}
    others = [pair for pair in facts.report.closest if (pair.image_id, pair.reference_image_id) not in known]
    others = others[:MOST_PAIRS]
    if not copies and not others:
        return tag("p", "No training image was searched for.", class_="quiet")
    finder = _Finder(facts)
    figures = [_show_pair(finder, pair, True) for pair in copies]
    figures += [_show_pair(finder, pair, False) for pair in others]
    total = len(facts.report.copies)
    text = f"{format_count(total, 'image is a copy', 'images are copies')} by the calibrated threshold."
    if total > len(copies):
        text += f" {len(copies)} are shown; report.json lists all."
    text += " The score is 1 for an exact copy. Differences are shown three times as strong; black is equal."
    if len(facts.images.shape) == 3:
        text += f" {PLANES}"
    return join([tag("p", text), tag("div", *figures, class_="pairs")])


def show_typical(facts: Facts) -> Markup:
    """Return the most and the least typical images."""
    return join([
        _show_row(facts, "Most typical", facts.report.best),
        _show_row(facts, "Least typical", facts.report.worst),
    ])  # fmt: skip


def show_sheet(facts: Facts) -> Markup:
    """Return a random sheet of the images, beside one of real images that the generator never saw unless public."""
    pictures, columns = SHEET[len(facts.images.shape)]
    allowed = np.array(sorted(facts.may_show), int)
    if not len(allowed):
        return _say_hidden(facts)
    chosen = _draw_some(facts, allowed, pictures, "document/sheet")
    parts = [_make_sheet_figure(facts.images, chosen, columns, f"{facts.kind} images", f"Random {facts.kind} images")]
    other, split = _choose_real(facts)
    if not facts.public and len(other):
        places = _draw_some(facts, np.arange(len(other)), pictures, "document/real-sheet")
        parts.append(_make_sheet_figure(other, places, columns, "real images", f"Random real images ({split})", True))
    return tag("div", *parts, class_="charts")


class _Finder:
    """Finds pictures by id, on both sides."""

    def __init__(self, facts: Facts) -> None:
        self.images, self.kind = facts.images, facts.kind
        self.places = _index(facts.images)
        splits = (facts.real.train, facts.real.validation, facts.real.holdout)
        self.real = {name: (part, place) for part in reversed(splits) for name, place in _index(part).items()}

    def find(self, pair: Pair) -> tuple[Floats32 | None, Floats32 | None]:
        """Return the judged image and the real one, None where the id is not there."""
        mine, theirs = self.places.get(pair.image_id), self.real.get(pair.reference_image_id)
        return (
            None if mine is None else shrink(self.images.images([mine])[0]),
            None if theirs is None else shrink(theirs[0].images([theirs[1]])[0]),
        )


def _index(images: ImageSet) -> dict[str, int]:
    return {name: place for place, name in enumerate(images.image_ids)}


def _show_pair(finder: _Finder, pair: Pair, copy: bool) -> Markup:
    image, reference = finder.find(pair)
    name, other = (clean_text(text) for text in (pair.image_id, pair.reference_image_id))
    parts = [
        _show_picture(image, f"{finder.kind} image {name}", finder.kind),
        _show_picture(reference, f"Real training image {other}", "real, training", "real"),
    ]
    if image is not None and reference is not None and image.shape == reference.shape:
        difference, mirrored = show_difference(image, reference)
        label = "difference, mirrored" if mirrored else "difference"
        parts.append(_show_picture(difference, f"Difference of {name} and {other}", label))
    verdict = tag("b", "✕ copy" if copy else "not a copy", class_="bad" if copy else "good")
    caption = tag("figcaption", verdict, f" · score {format_value(pair.score)} · ",
                  tag("small", shorten(name, 60), " ↔ ", shorten(other, 60), ", patient ",
                      shorten(clean_text(pair.reference_patient_id), 40)))  # fmt: skip
    volume = image is not None and image.ndim == 3
    return tag("figure", tag("div", *parts, class_="volumes" if volume else "triple"), caption,
               class_="pair copy" if copy else "pair")  # fmt: skip


def _show_picture(image: Floats32 | None, alt: str, label: str, kind: str = "") -> Markup:
    if image is None:
        inner: Child = tag("span", "picture not available", class_="absent")
    else:
        inner = _make_img(show_slices(image), alt)
    return tag("div", inner, tag("span", label, class_=f"label {kind}".strip()), class_="picture")


def _make_img(picture: Floats32, alt: str) -> Markup:
    return tag("img", src=encode_picture(picture), alt=alt, width=picture.shape[1], height=picture.shape[0],
               class_="small" if max(picture.shape) < 64 else None)  # fmt: skip


def _show_row(facts: Facts, title: str, ids: Iterable[str]) -> Markup:
    places = _index(facts.images)
    allowed = facts.may_show
    wanted = [name for name in ids if places.get(name) in allowed][:MOST_TYPICAL]
    if not wanted:
        return Markup("")
    figures = [
        tag("figure", _make_img(show_slices(shrink(facts.images.images([places[name]])[0])), f"{title}: {name}"),
            tag("figcaption", shorten(clean_text(name), 40)))
        for name in wanted
    ]  # fmt: skip
    return join([tag("h3", title), tag("div", *figures, class_="row" if len(facts.images.shape) == 2 else "row wide")])


def _make_sheet_figure(
    images: ImageSet, places: Sequence[int], columns: int, what: str, title: str, real: bool = False
) -> Markup:
    sheet = make_sheet([shrink(image) for image in images.images(list(places))], columns)
    note = f" {PLANES}" if len(images.shape) == 3 else ""
    alt = f"Sheet of {len(places)} random {what}."
    mark = tag("span", "real", class_="label real") if real else None
    return tag("figure", _make_img(sheet, alt), tag("figcaption", mark, f" {title}.{note}"))


def _choose_real(facts: Facts) -> tuple[ImageSet, str]:
    holdout = facts.real.holdout
    return (holdout, "holdout") if len(holdout) else (facts.real.train, "training")


def _draw_some(facts: Facts, places: Sequence[int] | np.ndarray, count: int, stage: str) -> list[int]:
    order = stream(facts.report.seed, COHORT_LEVEL, -1, stage).permutation(len(places))[:count]
    return sorted(int(places[index]) for index in order)


def _say_hidden(facts: Facts) -> Markup:
    if not facts.public:
        return tag("p", "There is no image to show.", class_="quiet")
    text = "No picture is shown in public: "
    text += (
        "the judged images are real."
        if not facts.about.synthetic
        else ("without a search for copies and gates that hold, nobody can say that none of them is a copy.")
    )
    return tag("p", text, class_="quiet")
