"""Real data in: plan -> hash the source -> parse within limits -> shards -> one transaction. See docs/references.md."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catalog import (
    Home,
    ReferenceRow,
    ReferenceShard,
    ReferenceState,
    commit_reference,
    find_reference,
    find_reference_shards,
    open_catalog,
    state_terms,
    write_reference_shard,
)
from catalog.home import check_name
from catalog.proved_files import hash_file, remove_abandoned_in
from catalog.references import UNKNOWN, describe_conflict
from catalog.rows import dump_json
from flows.import_feed import read_items, read_plan
from synth.errors import CatalogError
from synth.nouns import Attribute, ReferenceImage, RefusedItem, Split
from synth.references.items import source_folder
from synth.references.limits import resolve_inside
from synth.references.plan import BadItemError, Budget, Options, ReferenceError, ReferencePlan
from synth.references.splits import DEFAULT_SHARES

DIGITS = 10  # of the request's hash in a reference's id
LONGEST_NAME = 63 - 1 - DIGITS
SHOW_EVERY_S = 0.2  # drawing a bar costs more than reading a record
Progress = Callable[[int, int, str], AbstractContextManager[Callable[[int], None]]]
_SETTLED = ("pixels", "image_bytes", "file_bytes", "table_bytes", "memory_bytes", "seconds_per_item")


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What is imported and how."""

    path: Path
    name: str
    options: Options = field(default_factory=Options)
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    licence: str = UNKNOWN
    source: str = UNKNOWN


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """The plan of a source, and the id that its content and the options give it."""

    request: ImportRequest
    plan: ReferencePlan
    reference_id: str
    source_sha256: str
    request_hash: str
    request_json: dict[str, Any]

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """The attributes as nouns."""
        return tuple(attribute.to_attribute() for attribute in self.plan.attributes)


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import did. ``unchanged``: the reference was registered already."""

    state: ReferenceState
    plan: ReferencePlan
    unchanged: bool
    shards_written: int
    shards_reused: int


def plan_import(request: ImportRequest) -> ImportPlan:
    """Return how a source would be imported; nothing is written. Raises ReferenceError or CatalogError."""
    check_name(request.name, "--name", LONGEST_NAME)
    path = request.path.expanduser()
    if not path.exists():
        raise ReferenceError(f"there is no file or folder '{request.path}'.")
    path = path.resolve()
    plan = read_plan(path, request.options, request.budget)
    source = hash_source(path, plan)
    asked = {
        "adapter": plan.adapter,
        "columns": [plan.image_column, plan.name_column, plan.patient_column, plan.order_column],
        "attributes": [attribute.model_dump() for attribute in plan.attributes],
        "seed": request.seed,
        "shares": dict(DEFAULT_SHARES),
        "budget": {name: getattr(request.budget, name) for name in _SETTLED},
    }
    digest = hashlib.sha256(dump_json({"source": source, **asked}).encode()).hexdigest()
    return ImportPlan(request, plan, f"{request.name}-{digest[:DIGITS]}", source, digest, asked)


def hash_source(path: Path, plan: ReferencePlan) -> str:
    """Return the SHA-256 of the names and hashes of all files that a plan reads, refused ones included."""
    folder = source_folder(path)
    digest = hashlib.sha256()
    for name in plan.files:
        try:
            content = hash_file(resolve_inside(folder, name))
        except (BadItemError, OSError):
            content = "refused"
        digest.update(f"{len(name)} {name} {content}\n".encode())
    return digest.hexdigest()


def import_source(home: Home, planned: ImportPlan, progress: Progress) -> ImportResult:
    """Import a source as planned: write what is missing of its shards, and register it in one transaction.

    A reference that is registered stays as it is, but for licence, source and damaged shards. Raises CatalogError if
    the name belongs to another one.
    """
    request = planned.request
    known = find_reference(home, request.name)
    if known is not None and known.reference_id != planned.reference_id:
        raise CatalogError(describe_conflict(known, request.name))
    if known is not None:
        state = state_terms(home, request.name, request.licence, request.source)
        repaired = _repair(home, planned, progress)
        return ImportResult(state, planned.plan, True, repaired, len(_registered(home, planned)) - repaired)
    shards, written = write_shards(home, planned, progress)
    state = commit_reference(home, _make_row(planned, shards), shards)
    return ImportResult(state, planned.plan, False, written, len(shards) - written)


def write_shards(home: Home, planned: ImportPlan, progress: Progress) -> tuple[list[ReferenceShard], int]:
    """Return all shards of a reference and how many were written now; finished ones are kept."""
    folder = home.reference_folder(planned.reference_id)
    remove_abandoned_in(folder)
    finished = find_reference_shards(home, planned.reference_id)
    kinds = {attribute.name: attribute for attribute in planned.attributes}
    shards: list[ReferenceShard] = []
    items: Iterator[ReferenceImage | RefusedItem] | None = None
    cursor = written = 0
    unit = "images" if planned.plan.has_pixels else "records"
    with progress(planned.plan.items, 0, unit) as advance:
        while cursor < planned.plan.items:
            shard = finished.get(cursor)
            if shard is not None:
                items = None
                advance(shard.next_item - cursor)
            else:
                items = items or _feed(planned, cursor, advance)
                shard = write_reference_shard(home, planned.reference_id, cursor, kinds, items)
                written += 1
            shards.append(shard)
            cursor = shard.next_item
    return shards, written


def _feed(planned: ImportPlan, first: int, advance: Callable[[int], None]) -> Iterator[ReferenceImage | RefusedItem]:
    request = planned.request
    path = request.path.expanduser().resolve()
    shares: dict[Split, float] = dict(DEFAULT_SHARES)
    passed, shown_at = 0, time.monotonic()
    for item in read_items(path, planned.plan, request.budget, request.seed, shares, first):
        passed += item.items if isinstance(item, RefusedItem) else 1
        if time.monotonic() - shown_at > SHOW_EVERY_S:
            advance(passed)
            passed, shown_at = 0, time.monotonic()
        yield item
    advance(passed)


def _make_row(planned: ImportPlan, shards: list[ReferenceShard]) -> ReferenceRow:
    request, plan = planned.request, planned.plan
    refused = [item for shard in shards for item in shard.refused]
    if sum(item.items for item in refused) == plan.items:
        reasons = "; ".join(f"{item.name}: {item.reason}" for item in refused[:3])
        raise ReferenceError(f"every one of the {plan.items} items of '{request.path.name}' was refused ({reasons}).")
    return ReferenceRow(
        planned.reference_id, request.name, plan.adapter, request.path.expanduser().resolve().name,
        planned.source_sha256, planned.request_hash, planned.request_json, planned.attributes, plan.items,
        plan.patients is not None, plan.has_pixels, plan.notes, request.licence, request.source,
    )  # fmt: skip


def _registered(home: Home, planned: ImportPlan) -> dict[str, str]:
    with open_catalog(home) as catalog:
        return {shard.path: shard.sha256 for shard in catalog.reference_shards()
                if shard.cohort_id == planned.reference_id}  # fmt: skip


def _repair(home: Home, planned: ImportPlan, progress: Progress) -> int:
    """Write missing and damaged shards of a registered reference again; return how many.

    Raises ReferenceError if they come out differently, as they may with another version of a library.
    """
    wanted = _registered(home, planned)
    sound = {shard.path for shard in find_reference_shards(home, planned.reference_id).values()}
    if set(wanted) <= sound:
        return 0
    shards, written = write_shards(home, planned, progress)
    if {shard.path: shard.sha256 for shard in shards} != wanted:
        raise ReferenceError(
            f"the damaged shards of '{planned.reference_id}' came out differently, so a library has changed. Restore "
            "them from a copy."
        )
    return written
