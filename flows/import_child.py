"""The process that parses foreign files: limited memory and processor time, no file can be written, messages only.

Started by flows.import_feed as ``python -m flows.import_child``. It reads one request from stdin, answers on stdout,
and ends when stdin closes: then its parent has died.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import threading
from pathlib import Path
from typing import IO, Any

import numpy as np

from synth.nouns import RefusedItem
from synth.references import ADAPTERS, plan_reference
from synth.references.frames import write_frame
from synth.references.items import BegunItem, FoundItem, Step
from synth.references.plan import MAX_TEXT, Budget, Options, ReferenceError, ReferencePlan

BATCH_RECORDS = 2_000  # records without pixels in one message


def main() -> None:
    """Answer one request: describe a source, or read it from an item on."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints goes to stderr
    request = json.loads(sys.stdin.buffer.readline())
    budget = Budget.model_validate(request["budget"])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    limit_process(budget)
    try:
        _answer(request, budget, answers)
    except ReferenceError as error:
        write_frame(answers, {"kind": "error", "message": str(error)})
    except MemoryError:
        write_frame(answers, {"kind": "memory"})
    write_frame(answers, {"kind": "end"})


def limit_process(budget: Budget) -> None:
    """Limit what this process may use; it can write to its pipes, but not to any file."""
    seconds = math.ceil(budget.seconds)
    for what, most in (
        (resource.RLIMIT_AS, budget.memory_bytes),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        _, hard = resource.getrlimit(what)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _answer(request: dict[str, Any], budget: Budget, answers: IO[bytes]) -> None:
    path = Path(request["path"])
    if request["plan"] is None:
        plan = plan_reference(path, Options.model_validate(request["options"]), budget)
        write_frame(answers, {"kind": "plan", "plan": plan.model_dump(mode="json")})
        return
    plan = ReferencePlan.model_validate(request["plan"])
    batch: list[dict[str, Any]] = []
    for step in ADAPTERS[plan.adapter].read(path, plan, budget, request["first"]):
        if isinstance(step, FoundItem) and step.pixels is None:
            batch.append(make_row(step))
            if len(batch) == BATCH_RECORDS:
                _send_records(answers, batch)
        else:
            _send_records(answers, batch)
            _send(answers, step)
    _send_records(answers, batch)


def _send_records(answers: IO[bytes], batch: list[dict[str, Any]]) -> None:
    if batch:
        write_frame(answers, {"kind": "rows", "rows": batch})
        batch.clear()


def _send(answers: IO[bytes], step: Step) -> None:
    if isinstance(step, BegunItem):
        write_frame(answers, {"kind": "begun", "item": step.item, "name": step.name[:MAX_TEXT]})
    elif isinstance(step, RefusedItem):
        row = {"item": step.item, "name": step.name[:MAX_TEXT], "reason": step.reason[:MAX_TEXT], "items": step.items}
        write_frame(answers, {"kind": "refused", **row})
    else:
        pixels = step.pixels
        assert pixels is not None
        little = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<"))
        write_frame(answers, {"kind": "rows", "rows": [make_row(step)]}, little.reshape(-1).view(np.uint8).data)


def make_row(found: FoundItem) -> dict[str, Any]:
    """Return an item as the JSON that ItemRow describes."""
    row: dict[str, Any] = {
        "item": found.item,
        "name": found.name,
        "patient": found.patient,
        "order": found.order,
        "given_split": found.given_split,
        "attributes": found.attributes,
    }
    if found.pixels is not None:
        row["pixels"] = {
            "dtype": found.pixels.dtype.name,
            "shape": found.pixels.shape,
            "axes": found.axes,
            "spacing_mm": found.spacing_mm,
            "affine": found.affine,
            "intensity_scale": found.intensity_scale,
        }
    return row


if __name__ == "__main__":
    main()
