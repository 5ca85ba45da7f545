"""Reports and the decisions that rest on them: which cohorts are released, refused or withdrawn.

A report holds the gates of the recipe and, once its images were judged against a reference, those of a policy. Each
part is kept while the other is renewed, so that building again never forgets what a scorecard has found.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

from catalog.cohort_tables import REPORTS
from catalog.home import Home, resolve_home
from catalog.records import Decision, ReleaseRow, ScorecardRow
from catalog.rows import dump_json, gate_from_row
from catalog.scorecards import PREFIX, insert_scorecard, list_gates
from catalog.writer import find_snapshot, is_registered, open_writer, transaction
from synth.errors import CatalogError
from synth.nouns import GateResult, Report

GATES = "gates"  # the decider when no person was involved
_LATEST = """
    SELECT release_id, cohort_id, report_id, decision, reasons, decided_by, release_number, spec_hash, policy_hash
    FROM releases WHERE cohort_id = ? ORDER BY release_number DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class _Judged:
    """A report as it is stored: with its id, the scorecard that it contains, and the policy of that."""

    report_id: str
    report: Report
    scorecard_id: str | None = None
    policy_hash: str | None = None


def commit_report(home: Home | Path | str | None, report: Report, scorecard: ScorecardRow | None = None) -> ReleaseRow:
    """Store a report and the decision that follows from its gates, in one transaction; return the latest decision.

    ``scorecard`` adds the gates of its policy; without it, those of the latest report are kept. Nothing changes if
    the latest decision rests on the same report. A withdrawal stays one, whatever the gates say. Raises CatalogError
    if the cohort is not registered, or the scorecard is not its own.
    """
    home = resolve_home(home)
    with open_writer(home) as connection:
        _require_cohort(connection, report.cohort_id)
        latest = _read_latest(connection, report.cohort_id)
        judged = _add_scorecard(report, scorecard) if scorecard else _keep_scorecard(connection, report, latest)
        _decide(home, connection, judged, latest, scorecard)
        return _latest_release(connection, report.cohort_id)


def commit_cohort_scorecard(home: Home | Path | str | None, scorecard: ScorecardRow) -> ReleaseRow:
    """Store the scorecard of a registered cohort and decide anew, as commit_report does with the recipe's own gates.

    Raises CatalogError if the cohort is unknown or its build has not come to a decision yet.
    """
    home = resolve_home(home)
    cohort_id = scorecard.cohort_id or ""
    with open_writer(home) as connection:
        _require_cohort(connection, cohort_id)
        latest = _read_latest(connection, cohort_id)
        if latest is None:
            raise CatalogError(f"cohort '{cohort_id}' is not finished; build its recipe again, then evaluate it.")
        own = _read_judged(connection, latest).report
        own = replace(own, gates=tuple(gate for gate in own.gates if not gate.gate.startswith(PREFIX)))
        _decide(home, connection, _add_scorecard(own, scorecard), latest, scorecard)
        return _latest_release(connection, cohort_id)


def release_cohort(home: Home | Path | str | None, cohort_id: str, reason: str, decided_by: str) -> ReleaseRow:
    """Release a cohort in a person's name, a withdrawn one too; return the decision.

    Nothing changes if the same person has released it for the same reason. Raises CatalogError, with the reasons, if
    its latest report does not pass: nobody can release such a cohort.
    """
    home = resolve_home(home)
    check_person(decided_by, reason)
    with open_writer(home) as connection:
        latest = _require_latest(connection, cohort_id, "released")
        judged = _read_judged(connection, latest)
        check_release(cohort_id, judged.report.gates)
        if (latest["decision"], latest["reasons"], latest["decided_by"]) != ("released", [reason], decided_by):
            _append(home, connection, judged, latest, "released", [reason], decided_by)
        return _latest_release(connection, cohort_id)


def withdraw_cohort(home: Home | Path | str | None, cohort_id: str, reason: str, decided_by: str) -> ReleaseRow:
    """Take a cohort back from readers; return the decision. Nothing changes if it is withdrawn already.

    Only release_cohort undoes it. Raises CatalogError if the cohort is unknown or was never decided about.
    """
    home = resolve_home(home)
    check_person(decided_by, reason)
    with open_writer(home) as connection:
        latest = _require_latest(connection, cohort_id, "withdrawn")
        if latest["decision"] != "withdrawn":
            _append(home, connection, _read_judged(connection, latest), latest, "withdrawn", [reason], decided_by)
        return _latest_release(connection, cohort_id)


def check_release(cohort_id: str, gates: Sequence[GateResult]) -> None:
    """Raise CatalogError with the reasons if a cohort with these gates cannot be released by anybody."""
    reasons = [gate.reason for gate in gates if not gate.passed]
    if reasons:
        raise CatalogError(
            f"cohort '{cohort_id}' cannot be released: {len(reasons)} of {len(gates)} gates of its latest report do "
            "not hold, and nobody can override them.\n  " + "\n  ".join(reasons)
        )


def check_person(decided_by: str, reason: str) -> None:
    """Raise CatalogError unless a decision has a person's name and a reason."""
    if not decided_by.strip() or decided_by.strip().lower() == GATES or not reason.strip():
        raise CatalogError(
            f"a person's name and a reason are needed, got {decided_by!r} and {reason!r}; '{GATES}' is no person."
        )


def check_decided(cohort_id: str, decision: str | None, wanted: str) -> None:
    """Raise CatalogError if there is no earlier decision about a cohort that is to be released or withdrawn."""
    if decision is None:
        raise CatalogError(
            f"cohort '{cohort_id}' was never decided about, so it cannot be {wanted}; build its recipe to the end."
        )


def make_report_id(report: Report, scorecard_id: str | None = None) -> str:
    """Return the id of a report: cohort id and ten digits of a hash of recipe, scores, gates and scorecard."""
    gates = [{key: _finite(value) for key, value in asdict(gate).items()} for gate in report.gates]
    parts = [report.spec_hash, _dump_scores(report), gates, *([scorecard_id] if scorecard_id else [])]
    content = json.dumps(parts, sort_keys=True)
    return f"{report.cohort_id}-{hashlib.sha256(content.encode()).hexdigest()[:10]}"


def _finite(value: Any) -> Any:
    """Return ``value`` as JSON can hold it: NaN and infinities as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _dump_scores(report: Report) -> str:
    return dump_json({name: float(value) if math.isfinite(value) else None for name, value in report.scores.items()})


def _require_cohort(connection: duckdb.DuckDBPyConnection, cohort_id: str) -> None:
    if not is_registered(connection, cohort_id):
        raise CatalogError(f"there is no cohort '{cohort_id}' in the catalog; register its shards first.")


def _require_latest(connection: duckdb.DuckDBPyConnection, cohort_id: str, wanted: str) -> dict[str, Any]:
    _require_cohort(connection, cohort_id)
    latest = _read_latest(connection, cohort_id)
    check_decided(cohort_id, None if latest is None else latest["decision"], wanted)
    return latest or {}


def _read_latest(connection: duckdb.DuckDBPyConnection, cohort_id: str) -> dict[str, Any] | None:
    rows: list[dict[str, Any]] = connection.execute(_LATEST, [cohort_id]).to_arrow_table().to_pylist()
    return rows[0] if rows else None


def _read_judged(connection: duckdb.DuckDBPyConnection, latest: dict[str, Any]) -> _Judged:
    """Return the report that a decision rests on."""
    query = "SELECT scores_json, gates, scorecard_id, spec_hash FROM reports WHERE report_id = ?"
    row = connection.execute(query, [latest["report_id"]]).to_arrow_table().to_pylist()[0]
    scores = {name: math.nan if value is None else value for name, value in json.loads(row["scores_json"]).items()}
    report = Report(latest["cohort_id"], row["spec_hash"], scores, tuple(map(gate_from_row, row["gates"])))
    return _Judged(latest["report_id"], report, row["scorecard_id"], latest["policy_hash"])


def _add_scorecard(report: Report, scorecard: ScorecardRow) -> _Judged:
    if scorecard.cohort_id != report.cohort_id:
        raise CatalogError(f"scorecard '{scorecard.scorecard_id}' is not of cohort '{report.cohort_id}'.")
    joined = replace(report, gates=(*report.gates, *list_gates(scorecard)))
    return _Judged(
        make_report_id(joined, scorecard.scorecard_id), joined, scorecard.scorecard_id, scorecard.policy_hash
    )


def _keep_scorecard(connection: duckdb.DuckDBPyConnection, report: Report, latest: dict[str, Any] | None) -> _Judged:
    """Return ``report`` with the scorecard's gates that the latest one has."""
    before = _read_judged(connection, latest) if latest else None
    if before is None or before.scorecard_id is None:
        return _Judged(make_report_id(report), report)
    kept = (gate for gate in before.report.gates if gate.gate.startswith(PREFIX))
    joined = replace(report, gates=(*report.gates, *kept))
    return replace(before, report_id=make_report_id(joined, before.scorecard_id), report=joined)


def _decide(
    home: Home,
    connection: duckdb.DuckDBPyConnection,
    judged: _Judged,
    latest: dict[str, Any] | None,
    scorecard: ScorecardRow | None,
) -> None:
    """Store the report, its scorecard and what follows from it, unless the latest decision rests on it already."""
    if latest is not None and latest["report_id"] == judged.report_id:
        return
    if latest is not None and latest["decision"] == "withdrawn":
        by_person = latest["decided_by"] != GATES
        reasons = [f"withdrawn by {latest['decided_by']}: {r}" if by_person else r for r in latest["reasons"]]
        _append(home, connection, judged, latest, "withdrawn", reasons, GATES, scorecard)
        return
    decision: Decision = "released" if judged.report.passed else "refused"
    _append(home, connection, judged, latest, decision, list(judged.report.reasons), GATES, scorecard)


def _append(
    home: Home,
    connection: duckdb.DuckDBPyConnection,
    judged: _Judged,
    latest: dict[str, Any] | None,
    decision: Decision,
    reasons: list[str],
    decided_by: str,
    scorecard: ScorecardRow | None = None,
) -> None:
    """Append a decision, with its report and scorecard where they are new, in one transaction."""
    report, number = judged.report, (latest["release_number"] if latest else 0) + 1
    release_id = f"{report.cohort_id}-r{number:04d}"
    with transaction(home, connection, f"{report.cohort_id} {decision}", {"release_id": release_id}):
        if scorecard is not None:
            insert_scorecard(connection, scorecard)
        _insert_report(connection, judged)
        connection.execute(
            """INSERT INTO releases (release_id, cohort_id, release_number, spec_hash, report_id, decision, reasons,
                                     decided_by, decided_at, policy_hash)
               VALUES (?, ?, ?, ?, ?, ?, CAST(? AS VARCHAR[]), ?, now(), ?)""",
            [release_id, report.cohort_id, number, report.spec_hash, judged.report_id, decision, reasons,
             decided_by, judged.policy_hash],
        )  # fmt: skip


def _insert_report(connection: duckdb.DuckDBPyConnection, judged: _Judged) -> None:
    if connection.execute("SELECT 1 FROM reports WHERE report_id = ?", [judged.report_id]).fetchall():
        return  # an earlier report decides again
    report = judged.report
    gates_type = next(column.type for column in REPORTS.columns if column.name == "gates")
    connection.execute(
        f"""INSERT INTO reports (report_id, cohort_id, spec_hash, scores_json, gates, passed, created_at, scorecard_id)
            VALUES (?, ?, ?, ?, CAST(? AS {gates_type}), ?, now(), ?)""",
        [judged.report_id, report.cohort_id, report.spec_hash, _dump_scores(report),
         [asdict(gate) for gate in report.gates], report.passed, judged.scorecard_id],
    )  # fmt: skip


def _latest_release(connection: duckdb.DuckDBPyConnection, cohort_id: str) -> ReleaseRow:
    row = _read_latest(connection, cohort_id)
    if row is None:
        raise CatalogError(f"cohort '{cohort_id}' was never decided about.")
    snapshot_id = find_snapshot(connection, {"release_id": row["release_id"]})
    names = ("release_id", "cohort_id", "report_id", "decision", "decided_by", "policy_hash")
    return ReleaseRow(**{name: row[name] for name in names}, reasons=tuple(row["reasons"]), snapshot_id=snapshot_id)
