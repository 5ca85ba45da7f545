"""The parent of the parsing process: starts it, checks every message, ends it in time, and goes on after a death.

A file that takes too long, or kills the parser, is refused by name; a fresh parser goes on with the next one.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from synth.nouns import AttributeValue, ReferenceImage, RefusedItem, Split
from synth.references.frames import read_frame
from synth.references.plan import Budget, ItemRow, Options, PixelsRow, ReferenceError, ReferencePlan
from synth.references.splits import assign_given

PLAN_SECONDS = 600.0
_POLL_S = 0.1
_ROWS = TypeAdapter(list[ItemRow])


class Parser:
    """One parsing process. Use as a context manager; iterate ``frames``."""

    def __init__(self, request: dict[str, Any], budget: Budget, deadline: float) -> None:
        # The environment holds nothing but what Python needs: a parser has no use for the user's secrets.
        environment = {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "ARROW_DEFAULT_MEMORY_POOL": "system",
            "MALLOC_ARENA_MAX": "2",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flows.import_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
        self.budget = budget
        self.late = False
        self.seen = 0  # messages
        self._last = deadline
        self._deadline = deadline
        self._done = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({**request, "budget": budget.model_dump()}).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it died while starting; reading says so

    def _watch(self) -> None:
        """End the process when its time is over; only the time in which it is waited for counts."""
        while not self._done.wait(_POLL_S):
            if time.monotonic() > self._deadline:
                self.late = True
                self.process.kill()
                return

    def frames(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Yield messages until the process ends; a message that is cut off ends it too."""
        assert self.process.stdout is not None
        seconds = PLAN_SECONDS
        while True:
            self._deadline = min(self._last, time.monotonic() + seconds)
            try:
                frame = read_frame(self.process.stdout, self.budget.image_bytes)
            except ReferenceError:
                frame = None
            self._deadline = math.inf
            if frame is None:
                return
            self.seen += 1
            yield frame
            seconds = self.budget.seconds_per_item

    def close(self) -> None:
        """End the process if it still runs."""
        self._done.set()
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
        self.process.wait()

    def __enter__(self) -> Parser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_plan(path: Path, options: Options, budget: Budget) -> ReferencePlan:
    """Return how a source would be read; raises ReferenceError if it cannot be, or the budget does not suffice."""
    request = {"path": str(path), "options": options.model_dump(), "plan": None, "first": 0}
    with Parser(request, budget, time.monotonic() + min(PLAN_SECONDS, budget.seconds)) as parser:
        for header, _ in parser.frames():
            if header.get("kind") == "error":
                raise ReferenceError(str(header.get("message")))
            if header.get("kind") == "plan":
                try:
                    return ReferencePlan.model_validate(header["plan"])
                except ValidationError as error:
                    raise ReferenceError(f"'{path.name}' cannot be planned: {error.errors()[0]['msg']}.") from error
        raise ReferenceError(f"'{path.name}' cannot be read: {_explain_death(parser)}.")


def _explain_death(parser: Parser) -> str:
    parser.process.wait()
    if parser.late:
        return "its time is over (--seconds-per-file); the parser was stopped"
    code = parser.process.returncode
    if code == 0:
        return "it needs more memory than allowed (--memory-gb)"
    return f"it ended the parser (signal {-code})" if code < 0 else "it ended the parser (out of memory?)"


def read_items(
    path: Path, plan: ReferencePlan, budget: Budget, seed: int, shares: dict[Split, float], first: int = 0
) -> Iterator[ReferenceImage | RefusedItem]:
    """Yield every item of a source from ``first`` on, in order and none left out; parsers that die are replaced.

    Raises ReferenceError if the source as a whole cannot be read on, or the time for all of it is over.
    """
    deadline = time.monotonic() + budget.seconds
    cursor = first
    while cursor < plan.items:
        begun: tuple[int, str] | None = None
        request = {"path": str(path), "plan": plan.model_dump(mode="json"), "first": cursor}
        with Parser(request, budget, deadline) as parser:
            for header, blob in parser.frames():
                kind = header.get("kind")
                if kind == "error":
                    raise ReferenceError(str(header.get("message")))
                if kind == "begun":
                    begun = (cursor, str(header.get("name"))[:500])
                    continue
                for item in _read_message(header, blob, plan, cursor, seed, shares):
                    yield item
                    cursor = item.item + (item.items if isinstance(item, RefusedItem) else 1)
            if cursor >= plan.items:
                return
            reason = _explain_death(parser)
            seen = parser.seen
        if time.monotonic() > deadline:
            raise ReferenceError(
                f"the time for the whole source is over at item {cursor} of {plan.items} (--seconds). Finished shards "
                "are kept; the same command continues."
            )
        if begun is not None and begun[0] == cursor:
            yield RefusedItem(cursor, begun[1], reason)
            cursor += 1
        elif not seen:
            raise ReferenceError(f"'{path.name}' cannot be read from item {cursor + 1} on: {reason}.")


def _read_message(
    header: dict[str, Any], blob: bytes, plan: ReferencePlan, cursor: int, seed: int, shares: dict[Split, float]
) -> Iterator[ReferenceImage | RefusedItem]:
    """Yield the items of one message; anything that is not as it must be is refused by its place in the source."""
    kind = header.get("kind")
    if kind == "refused":
        count = header.get("items", 1)
        count = count if isinstance(count, int) and 1 <= count <= plan.items - cursor else 1
        yield RefusedItem(cursor, str(header.get("name"))[:500], str(header.get("reason"))[:500], count)
    elif kind == "rows":
        try:
            rows = _ROWS.validate_python(header.get("rows"))
        except ValidationError as error:
            for row in header.get("rows") or [{}]:
                yield RefusedItem(cursor, str(row.get("name") if isinstance(row, dict) else cursor)[:500],
                                  f"it is not as planned: {error.errors()[0]['msg']}"[:500])  # fmt: skip
                cursor += 1
            return
        for row in rows:
            yield _make_image(row, blob, plan, cursor, seed, shares)
            cursor += 1


def _make_image(
    row: ItemRow, blob: bytes, plan: ReferencePlan, cursor: int, seed: int, shares: dict[Split, float]
) -> ReferenceImage | RefusedItem:
    if row.item != cursor:
        return RefusedItem(cursor, row.name, f"the parser sent item {row.item} instead")
    if (row.pixels is not None) != plan.has_pixels:
        return RefusedItem(cursor, row.name, "it has no pixels" if plan.has_pixels else "it has pixels")
    patient = row.patient or row.name
    split = assign_given(seed, patient, row.given_split, shares)
    values = {name: _to_value(value) for name, value in row.attributes.items()}
    if row.pixels is None:
        return ReferenceImage(cursor, row.name, patient, split, values, row.order)
    pixels = _read_pixels(row.pixels, blob)
    if pixels is None:
        return RefusedItem(cursor, row.name, "its pixels do not have the size of their shape")
    return ReferenceImage(
        cursor, row.name, patient, split, values, row.order, pixels, row.pixels.axes, row.pixels.spacing_mm,
        row.pixels.affine, row.pixels.intensity_scale,
    )  # fmt: skip


def _read_pixels(about: PixelsRow, blob: bytes) -> Any:
    kind = np.dtype(about.dtype).newbyteorder("<")
    if min(about.shape) < 1 or math.prod(about.shape) * kind.itemsize != len(blob):
        return None
    return np.frombuffer(blob, kind).reshape(about.shape).astype(kind.newbyteorder("="), copy=False)


def _to_value(value: str | int | float | list[str] | None) -> AttributeValue:
    return tuple(value) if isinstance(value, list) else value
