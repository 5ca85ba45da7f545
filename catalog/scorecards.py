"""Scorecards of images in the catalog: each stored once, with all its scores and copies."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from catalog.home import LONGEST_ID, Home, check_name, resolve_home
from catalog.records import ScorecardRow
from catalog.rows import dump_json
from catalog.scorecard_tables import SCORECARD_COPIES, SCORECARD_METRICS, SCORECARDS
from catalog.writer import find_snapshot, insert_rows, open_writer, transaction
from synth.errors import CatalogError
from synth.nouns import GateResult

PREFIX = "scorecard."  # begins the names of a policy's gates in the report of a cohort


def commit_scorecard(home: Home | Path | str | None, scorecard: ScorecardRow) -> int:
    """Store a scorecard that decides nothing, once; return the snapshot that has it.

    It is of images that are no cohort's, or of a part of a cohort; catalog.decisions has those that decide. Raises
    CatalogError if its reference is not registered.
    """
    home = resolve_home(home)
    key = {"scorecard_id": scorecard.scorecard_id}
    with open_writer(home) as connection:
        if not is_stored(connection, scorecard.scorecard_id):
            with transaction(home, connection, f"scorecard {scorecard.scorecard_id}", key):
                insert_scorecard(connection, scorecard)
        return find_snapshot(connection, key)


def is_stored(connection: duckdb.DuckDBPyConnection, scorecard_id: str) -> bool:
    """Return whether the scorecard is in the catalog."""
    return bool(connection.execute("SELECT 1 FROM scorecards WHERE scorecard_id = ?", [scorecard_id]).fetchall())


def insert_scorecard(connection: duckdb.DuckDBPyConnection, scorecard: ScorecardRow) -> None:
    """Insert a scorecard with its scores and copies, within the caller's transaction; nothing if it is stored already.

    Raises CatalogError if its reference is not registered with that content.
    """
    check_name(scorecard.scorecard_id, "scorecard_id", LONGEST_ID)
    if is_stored(connection, scorecard.scorecard_id):
        return
    query = "SELECT 1 FROM reference_sets WHERE reference_id = ? AND fingerprint = ?"
    if not connection.execute(query, [scorecard.reference_id, scorecard.reference_fingerprint]).fetchall():
        raise CatalogError(
            f"reference '{scorecard.reference_id}' is not registered with that content; import it first."
        )
    insert_rows(connection, SCORECARDS, [_scorecard_columns(scorecard)])
    insert_rows(
        connection,
        SCORECARD_METRICS,
        [_metric_columns(scorecard.scorecard_id, *metric) for metric in enumerate(scorecard.report["metrics"])],
    )
    copies = [{"scorecard_id": scorecard.scorecard_id, **copy} for copy in scorecard.report["copies"]]
    insert_rows(connection, SCORECARD_COPIES, copies)


def _scorecard_columns(scorecard: ScorecardRow) -> dict[str, Any]:
    names = (
        "scorecard_id", "cohort_id", "images_name", "images_sha256", "images", "reference_id", "reference_fingerprint",
        "policy", "policy_hash", "controls_valid", "passed", "seed", "document",
    )  # fmt: skip
    return {
        **{name: getattr(scorecard, name) for name in names},
        "gates": [asdict(gate) for gate in scorecard.gates],
        "request_json": dump_json(scorecard.request),
        "report_json": dump_json(scorecard.report),
        "created_at": datetime.now(UTC),
    }


def _metric_columns(scorecard_id: str, place: int, metric: dict[str, Any]) -> dict[str, Any]:
    names = [c.name for c in SCORECARD_METRICS.columns if c.name not in ("scorecard_id", "place", "detail_json")]
    detail = json.dumps(metric["detail"], sort_keys=True, allow_nan=False)
    own = {name: metric[name] for name in names}
    return {"scorecard_id": scorecard_id, "place": place, **own, "detail_json": detail}


def list_gates(scorecard: ScorecardRow) -> tuple[GateResult, ...]:
    """Return the gates of a scorecard as a cohort's report has them; at least one fails if a control misbehaves."""
    gates = tuple(_name_gate(gate) for gate in scorecard.gates)
    if scorecard.controls_valid or not all(gate.passed for gate in gates):
        return gates
    reason = "controls: the controls do not behave, so nothing is proven"
    return (*gates, _name_gate(GateResult("controls", 0.0, 1.0, False, reason)))


def _name_gate(gate: GateResult) -> GateResult:
    reason = gate.reason if gate.reason.startswith(gate.gate) else f"{gate.gate}: {gate.reason}"
    return GateResult(PREFIX + gate.gate, float(gate.value), float(gate.threshold), gate.passed, PREFIX + reason)
