"""Dot-and-interval charts as inline SVG: text stays text, colours are those of the page, nothing is drawn elsewhere.

Written directly and not by a plotting library: such a library keeps its settings and its font cache outside of the
call, turns letters into outlines, and its colours cannot follow the reader's light or dark page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from synth.evaluation.document.markup import Child, Markup, clean_text, join, tag
from synth.evaluation.document.words import shorten

WIDTH = 420  # units of the drawing; about a pixel on a phone
LABELS = 168  # left of the strip
STRIP = (LABELS + 10, WIDTH - 14)
LABEL_LENGTH, NOTE_LENGTH = 27, 33  # characters
ROW, OWN_ROW, TOP, FOOT = 30, 40, 6, 26
DOT, DIAMOND = 3.8, 6.2
CRAMPED = 0.05  # of the axis: a row that fills less is not readable on it


@dataclass(frozen=True, slots=True)
class Mark:
    """One row of a chart: a value with the ends of its interval, and its control."""

    label: str
    note: str
    value: float
    low: float | None = None
    high: float | None = None
    control: float | None = None
    bounds: tuple[float, float] = (-math.inf, math.inf)  # of the metric: no axis goes beyond

    @property
    def numbers(self) -> list[float]:
        """All finite numbers of the row."""
        numbers = (self.value, self.low, self.high, self.control)
        return [number for number in numbers if number is not None and math.isfinite(number)]


def choose_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return about ``count`` round numbers from ``low`` to ``high``: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * min((1, 2, 5, 10), key=lambda factor: abs(factor * power - rough))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def choose_range(marks: Sequence[Mark], also: Sequence[float] = ()) -> tuple[float, float]:
    """Return the ends of an axis that shows all numbers with some room, within the bounds of the metrics."""
    numbers = [*also, *(number for mark in marks for number in mark.numbers)]
    low, high = min(numbers), max(numbers)
    room = 0.06 * (high - low) or 0.1 * abs(high) or 0.1
    least, most = min(mark.bounds[0] for mark in marks), max(mark.bounds[1] for mark in marks)
    start, end = max(low - room, min(least, low)), min(high + room, max(most, high))
    return (start, end) if end > start else (start, start + room)


def split_cramped(marks: Sequence[Mark]) -> tuple[list[Mark], list[Mark]]:
    """Return the rows that can be read on one shared axis, and those that need one of their own."""
    if len(marks) < 2:
        return list(marks), []
    low, high = choose_range(marks)
    spans = [(max(mark.numbers) - min(mark.numbers)) / (high - low) for mark in marks]
    roomy = [mark for mark, span in zip(marks, spans, strict=True) if span == 0 or span >= CRAMPED]
    return roomy, [mark for mark in marks if mark not in roomy]


def draw_shared(marks: Sequence[Mark], title: str, line: float | None = None) -> Markup:
    """Return a chart whose rows share one axis; ``line`` is a value that a dashed line marks in all of them."""
    low, high = choose_range(marks, () if line is None else (line,))
    height = TOP + ROW * len(marks) + FOOT
    bottom = TOP + ROW * len(marks)
    parts: list[Child] = []
    for tick, name in _name_ticks(choose_ticks(low, high)):
        x = _place(tick, low, high)
        parts.append(tag("line", class_="grid", x1=x, x2=x, y1=TOP, y2=bottom))
        parts.append(tag("text", name, class_="tick", x=x, y=bottom + 14, text_anchor="middle"))
    if line is not None:
        x = _place(line, low, high)
        parts.append(tag("line", class_="whole", x1=x, x2=x, y1=TOP, y2=bottom))
    for index, mark in enumerate(marks):
        parts.append(_draw_mark(mark, TOP + ROW * index + ROW / 2, low, high))
    return _frame(parts, height, title)


def draw_apart(marks: Sequence[Mark], title: str) -> Markup:
    """Return a chart in which each row has an axis of its own, for scores on different scales."""
    parts: list[Child] = []
    for index, mark in enumerate(marks):
        top = TOP + OWN_ROW * index
        low, high = choose_range([mark])
        base = top + OWN_ROW - 14
        parts.append(tag("line", class_="axis", x1=STRIP[0], x2=STRIP[1], y1=base, y2=base))
        for tick, name in _name_ticks(choose_ticks(low, high, 3)):
            x = _place(tick, low, high)
            parts.append(tag("line", class_="axis", x1=x, x2=x, y1=base, y2=base + 3))
            parts.append(tag("text", name, class_="tick", x=x, y=base + 12, text_anchor="middle"))
        parts.append(_draw_mark(mark, top + 13, low, high))
    return _frame(parts, TOP + OWN_ROW * len(marks) + 6, title)


def _draw_mark(mark: Mark, y: float, low: float, high: float) -> Markup:
    x = _place(mark.value, low, high)
    parts: list[Child] = [
        tag("text", shorten(clean_text(mark.label), LABEL_LENGTH), class_="label", x=0, y=_round(y - 1)),
        tag("text", shorten(clean_text(mark.note), NOTE_LENGTH), class_="note", x=0, y=_round(y + 11)),
    ]
    if mark.low is not None and mark.high is not None:
        ends = [_place(end, low, high) for end in (mark.low, mark.high)]
        parts.append(tag("line", class_="interval", x1=ends[0], x2=ends[1], y1=_round(y), y2=_round(y)))
    parts.append(tag("circle", class_="value", cx=x, cy=_round(y), r=DOT))
    if mark.control is not None and math.isfinite(mark.control):
        c, d = _place(mark.control, low, high), DIAMOND
        corners = f"M{c - d:.1f} {y:.1f}L{c:.1f} {y - d:.1f}L{c + d:.1f} {y:.1f}L{c:.1f} {y + d:.1f}Z"
        parts.append(tag("path", class_="control", d=corners))
    return join(parts)


def _name_ticks(ticks: Sequence[float]) -> list[tuple[float, str]]:
    """Return the ticks with their names, all with as many decimals as the finest needs."""
    decimals = max(len(f"{tick:.6g}".partition(".")[2]) for tick in ticks)
    plain = all("e" not in f"{tick:.6g}" for tick in ticks)
    return [
        (tick, (f"{tick:.{decimals}f}" if plain else f"{tick:.3g}".replace("e-0", "e-")).replace("-", "−"))
        for tick in ticks
    ]


def _place(value: float, low: float, high: float) -> float:
    """Return where a value lies on the strip; what is outside the axis goes to its end."""
    share = (min(max(value, low), high) - low) / (high - low)
    return _round(STRIP[0] + share * (STRIP[1] - STRIP[0]))


def _round(number: float) -> float:
    return round(number, 1)


def _frame(parts: Sequence[Child], height: float, title: str) -> Markup:
    return tag(
        "svg", tag("title", title), *parts, class_="chart", role="img", viewBox=f"0 0 {WIDTH} {height:g}",
        xmlns="http://www.w3.org/2000/svg",
    )  # fmt: skip
