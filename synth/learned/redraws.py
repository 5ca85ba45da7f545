"""Images that show what was asked for: a miss is drawn again with other noise, a few times at most, and counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from synth.evaluation.images.layout import Floats32
from synth.learned.generator import Generator
from synth.learned.maps import Labels
from synth.nouns import AttributeValue, Measurement
from synth.seeds import stream_key


@dataclass(frozen=True)
class Drawn:
    """One image from 0 to 1, what was read from it, and how often it was drawn again."""

    image: Floats32
    measurements: tuple[Measurement, ...]
    redraws: int


def draw_until_met(
    generator: Generator,
    rows: Sequence[Mapping[str, AttributeValue]],
    keys: Sequence[int],
    budget: int,
    maps: Labels | None = None,
) -> list[Drawn]:
    """Return an image for each row: the first that meets all requests, or the nearest to them of budget + 1.

    Nothing is read, nor drawn again, if the model has no measurer. An image depends on its own row, key and
    label map (of ``maps``, see Generator.sample) alone.
    """
    best: list[Drawn | None] = [None] * len(rows)
    waiting = list(range(len(rows)))
    for attempt in range(budget + 1):
        asked, noise = [rows[i] for i in waiting], [key_attempt(keys[i], attempt) for i in waiting]
        images = generator.sample(asked, noise, None if maps is None else maps[waiting])
        if generator.measurer is None:
            return [Drawn(image, (), 0) for image in images]
        read = generator.measurer.read(images)
        missed = []
        for place, number in enumerate(waiting):
            found = Drawn(images[place], generator.measurer.measure(rows[number], read[place]), attempt)
            before = best[number]
            if before is None or measure_distance(found) < measure_distance(before):
                best[number] = found
            if measure_distance(found) > 0:
                missed.append(number)
        waiting = missed
        if not waiting:
            break
    return [found for found in best if found is not None]


def measure_distance(drawn: Drawn) -> float:
    """Return how far an image is beyond its tolerances, summed in units of them; 0 if it meets all."""
    beyond = [abs(m.measured - m.requested) / max(m.tolerance, 1e-9) - 1 for m in drawn.measurements]
    return float(np.maximum(beyond, 0).sum()) if beyond else 0.0


def key_attempt(key: int, attempt: int) -> int:
    """Return the key of the noise of an attempt; that of the first is ``key``."""
    return key if attempt == 0 else stream_key(key, -1, -1, f"learned/redraw/{attempt}")
