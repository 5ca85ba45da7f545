"""Reports and the decisions that rest on them: which cohorts are released, refused or withdrawn."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb

from catalog.home import Home, resolve_home
from catalog.records import Decision, ReleaseRow
from catalog.rows import dump_json
from catalog.tables import REPORTS
from catalog.writer import find_snapshot, is_registered, open_writer, transaction
from synth.errors import CatalogError
from synth.nouns import Report

GATES = "gates"  # the decider when no person was involved
_LATEST = """
    SELECT release_id, cohort_id, report_id, decision, reasons, decided_by, release_number, spec_hash
    FROM releases WHERE cohort_id = ? ORDER BY release_number DESC LIMIT 1
"""


def commit_report(home: Home | Path | str | None, report: Report, decided_by: str = GATES) -> ReleaseRow:
    """Store a report and the decision that follows from it, in one transaction; return the cohort's latest decision.

    Nothing changes if the latest decision rests on the same report, or is a withdrawal by a person, which gates never
    undo. Raises CatalogError if the cohort is not registered.
    """
    home = resolve_home(home)
    report_id = make_report_id(report)
    with open_writer(home) as connection:
        _require_cohort(connection, report.cohort_id)
        latest = _read_latest(connection, report.cohort_id)
        withdrawn = latest is not None and latest["decision"] == "withdrawn" and decided_by == GATES
        if latest is None or (latest["report_id"] != report_id and not withdrawn):
            decision: Decision = "released" if report.passed else "refused"
            release_id = _next_release_id(report.cohort_id, latest)
            with transaction(home, connection, f"{report.cohort_id} {decision}", {"release_id": release_id}):
                _insert_report(connection, report_id, report)
                values = [report.spec_hash, report_id, decision, list(report.reasons), decided_by]
                _insert_release(connection, report.cohort_id, latest, values)
        return _latest_release(connection, report.cohort_id)


def withdraw_cohort(home: Home | Path | str | None, cohort_id: str, reason: str, decided_by: str) -> ReleaseRow:
    """Take a cohort back from readers; return the decision. Nothing changes if it is withdrawn already.

    Raises CatalogError if the cohort is unknown or was never decided about.
    """
    home = resolve_home(home)
    with open_writer(home) as connection:
        _require_cohort(connection, cohort_id)
        latest = _read_latest(connection, cohort_id)
        if latest is None:
            raise CatalogError(f"cohort '{cohort_id}' was never released, so it cannot be withdrawn.")
        if latest["decision"] != "withdrawn":
            release_id = _next_release_id(cohort_id, latest)
            with transaction(home, connection, f"{cohort_id} withdrawn", {"release_id": release_id}):
                values = [latest["spec_hash"], latest["report_id"], "withdrawn", [reason], decided_by]
                _insert_release(connection, cohort_id, latest, values)
        return _latest_release(connection, cohort_id)


def make_report_id(report: Report) -> str:
    """Return the id of a report: cohort id and ten digits of a hash of recipe, scores and gates."""
    gates = [{key: _finite(value) for key, value in asdict(gate).items()} for gate in report.gates]
    content = json.dumps([report.spec_hash, _dump_scores(report), gates], sort_keys=True)
    return f"{report.cohort_id}-{hashlib.sha256(content.encode()).hexdigest()[:10]}"


def _finite(value: Any) -> Any:
    """Return ``value`` as JSON can hold it: NaN and infinities as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _dump_scores(report: Report) -> str:
    return dump_json({name: float(value) if math.isfinite(value) else None for name, value in report.scores.items()})


def _require_cohort(connection: duckdb.DuckDBPyConnection, cohort_id: str) -> None:
    if not is_registered(connection, cohort_id):
        raise CatalogError(f"there is no cohort '{cohort_id}' in the catalog; register its shards first.")


def _read_latest(connection: duckdb.DuckDBPyConnection, cohort_id: str) -> dict[str, Any] | None:
    rows: list[dict[str, Any]] = connection.execute(_LATEST, [cohort_id]).to_arrow_table().to_pylist()
    return rows[0] if rows else None


def _latest_release(connection: duckdb.DuckDBPyConnection, cohort_id: str) -> ReleaseRow:
    row = _read_latest(connection, cohort_id)
    if row is None:
        raise CatalogError(f"cohort '{cohort_id}' was never decided about.")
    snapshot_id = find_snapshot(connection, {"release_id": row["release_id"]})
    names = ("release_id", "cohort_id", "report_id", "decision", "decided_by")
    return ReleaseRow(**{name: row[name] for name in names}, reasons=tuple(row["reasons"]), snapshot_id=snapshot_id)


def _next_release_id(cohort_id: str, latest: dict[str, Any] | None) -> str:
    return f"{cohort_id}-r{(latest['release_number'] if latest else 0) + 1:04d}"


def _insert_report(connection: duckdb.DuckDBPyConnection, report_id: str, report: Report) -> None:
    if connection.execute("SELECT 1 FROM reports WHERE report_id = ?", [report_id]).fetchall():
        return  # an earlier recipe's report decides again
    gates_type = next(column.type for column in REPORTS.columns if column.name == "gates")
    gates = [asdict(gate) for gate in report.gates]
    connection.execute(
        f"INSERT INTO reports VALUES (?, ?, ?, ?, CAST(? AS {gates_type}), ?, now())",
        [report_id, report.cohort_id, report.spec_hash, _dump_scores(report), gates, report.passed],
    )


def _insert_release(
    connection: duckdb.DuckDBPyConnection, cohort_id: str, latest: dict[str, Any] | None, values: list[Any]
) -> None:
    """Append a decision; ``values`` are spec_hash, report_id, decision, reasons and decided_by."""
    number = (latest["release_number"] if latest else 0) + 1
    connection.execute(
        "INSERT INTO releases VALUES (?, ?, ?, ?, ?, ?, CAST(? AS VARCHAR[]), ?, now())",
        [_next_release_id(cohort_id, latest), cohort_id, number, *values],
    )
