"""Mixes of requests that training images lack, the real images that show the same, and pictures of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from flows.train_pictures import Group, draw_groups
from synth.evaluation.images.layout import Floats32
from synth.evaluation.images.sets import ImageSet
from synth.learned.conditions import Condition, list_rows
from synth.learned.generator import Generator
from synth.nouns import AttributeValue
from synth.seeds import stream

SHOWN, SIDE, LINE, GAP = 8, 128, 18, 4  # images of a group; pixels


@dataclass(frozen=True)
class Asked:
    """A wish about one attribute: a value, or a range of numbers, in a share of the images."""

    attribute: str
    value: str
    share: float

    @property
    def limits(self) -> tuple[float, float]:
        """The ends of a range."""
        low, _, high = self.value.partition("-")
        return float(low), float(high or low)


def parse_wish(text: str) -> Asked:
    """Return the wish that ``sex=F:0.8`` states."""
    attribute, _, rest = text.partition("=")
    value, _, share = rest.partition(":")
    return Asked(attribute, value, float(share or 1))


def ask_mix(model: Generator, wishes: Sequence[Asked], count: int, seed: int) -> list[dict[str, AttributeValue]]:
    """Return requests for the mix; exactly the share of them has the value, the rest another one."""
    rng = stream(seed, -1, -1, "benchmark/mix")
    known = {condition.attribute.name: condition for condition in model.description.code.conditions}
    rows: list[dict[str, AttributeValue]] = [{} for _ in range(count)]
    for wish in wishes:
        condition = known[wish.attribute]
        inside = rng.permutation(count) < round(wish.share * count)
        for row, met in zip(rows, inside, strict=True):
            row[wish.attribute] = _draw_value(condition, wish, bool(met), rng)
    return rows


def _draw_value(condition: Condition, wish: Asked, met: bool, rng: np.random.Generator) -> AttributeValue:
    if condition.numeric:
        low, high = wish.limits if met else (condition.low, wish.limits[0])
        return float(round(rng.uniform(max(low, condition.low), min(high, condition.high))))
    others = [value for value in condition.values if value != wish.value]
    if condition.attribute.kind == "set":
        return (wish.value,) if met else ()
    return wish.value if met else str(rng.choice(others))


def ask_labels(
    model: Generator, train: ImageSet, attribute: str, count: int, seed: int
) -> list[dict[str, AttributeValue]]:
    """Return requests for each label of a set alone, and for none, equally often."""
    condition = next(c for c in model.description.code.conditions if c.attribute.name == attribute)
    wanted: list[tuple[str, ...]] = [(), *((value,) for value in condition.values)]
    rows = list_rows(train, model.description.code)
    order = stream(seed, -1, -1, "benchmark/labels").integers(len(rows), size=count)
    return [{**rows[place], attribute: wanted[number % len(wanted)]} for number, place in enumerate(order)]


def meet_all(images: ImageSet, wishes: Sequence[Asked]) -> NDArray[np.bool_]:
    """Return which real images meet every wish."""
    met = np.ones(len(images), bool)
    for wish in wishes:
        met &= np.array([_meets(wish, value) for value in images.values(wish.attribute)], bool)
    return met


def _meets(wish: Asked, value: AttributeValue) -> bool:
    if value is None:
        return False
    if isinstance(value, int | float):
        return wish.limits[0] <= value <= wish.limits[1]
    if isinstance(value, list | tuple):
        return wish.value in value if wish.value else not value
    return value == wish.value


@dataclass(frozen=True)
class Shown:
    """Images of a cohort that are shown together: their places, and the wishes that real images beside them meet."""

    caption: str
    places: Sequence[int]
    wishes: Sequence[Asked]
    unless: Sequence[Asked] = ()  # real images do not meet all of these


def group_mix(rows: Sequence[dict[str, AttributeValue]], wishes: Sequence[Asked]) -> list[Shown]:
    """Return the images that were asked to meet all wishes, and the others."""
    met = np.array([all(_meets(wish, row[wish.attribute]) for wish in wishes) for row in rows])
    text = ", ".join(f"{wish.attribute} {wish.value}" for wish in wishes)
    always = [wish for wish in wishes if wish.share == 1]
    others = Shown("the others", np.flatnonzero(~met).tolist(), always, wishes)
    groups = [Shown(text, np.flatnonzero(met).tolist(), wishes), others]
    return [group for group in groups if group.places]


def group_labels(rows: Sequence[dict[str, AttributeValue]], attribute: str) -> list[Shown]:
    """Return the images of each label."""
    labels = ["".join(row[attribute] or ()) for row in rows]  # type: ignore[arg-type]
    return [
        Shown(
            f"{attribute}: {label or 'none'}",
            [place for place, other in enumerate(labels) if other == label],
            (Asked(attribute, label, 1.0),),
        )
        for label in sorted(set(labels))
    ]


def draw_beside_real(groups: Sequence[Shown], images: Floats32, real: ImageSet, path: Path, seed: int) -> None:
    """Write a row of real images that show the same above one of drawn ones, for each group."""
    order = stream(seed, -1, -1, "benchmark/alike").permutation(len(real))
    above = []
    for group in groups:
        met = meet_all(real, group.wishes)
        if group.unless:
            met &= ~meet_all(real, group.unless)
        above.append(real.images(order[met[order]][:SHOWN]))
    shown = [Group(group.caption, np.asarray(group.places)) for group in groups]
    draw_groups(shown, above, [images[list(group.places)[:SHOWN]] for group in groups], path)


def draw_alone(groups: Sequence[Shown], images: Floats32, path: Path) -> None:
    """Write a row of drawn images for each group."""
    height = LINE + SIDE + GAP
    sheet = Image.new("L", (SHOWN * (SIDE + GAP), len(groups) * height), 0)
    draw = ImageDraw.Draw(sheet)
    for number, group in enumerate(groups):
        draw.text((2, number * height + 1), f"asked for: {group.caption}", fill=255, font_size=12)
        for column, place in enumerate(list(group.places)[:SHOWN]):
            picture = Image.fromarray((255 * np.clip(images[place], 0, 1)).astype(np.uint8))
            where = column * (SIDE + GAP), number * height + LINE
            sheet.paste(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR), where)
    sheet.save(path)
