"""``cohortium release`` and ``cohortium withdraw``: decisions that people sign."""

from __future__ import annotations

import importlib
from dataclasses import asdict
from typing import Annotated, Any

import typer

from flows.settings import Settings, load_settings
from flows.terminal import Home, Json, print_json

DONE = {"release": "released", "withdraw": "withdrawn"}
Cohort = Annotated[str, typer.Argument(metavar="COHORT", help="Id or name of the cohort.")]
By = Annotated[str, typer.Option(help="Who decides: the name of a person.")]
Reason = Annotated[str, typer.Option(help="Why, in a sentence; it is kept with the decision.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Say whether it would be done; change nothing.")]


def release(
    cohort: Cohort, by: By, reason: Reason, home: Home = None, as_json: Json = False, dry_run: Dry = False
) -> None:
    """Sign the release of a cohort, or undo its withdrawal. Readers see it at once.

    Only a cohort whose latest report passes can be released: every gate holds and every control behaves. Nobody can
    override them; other limits belong into a recipe or a policy, which are recorded.

      cohortium release my-cohort --by "A. Steward" --reason "reviewed with the radiologists"
    """
    decide("release", load_settings(home), cohort, (by, reason), as_json, dry_run)


def withdraw(
    cohort: Cohort, by: By, reason: Reason, home: Home = None, as_json: Json = False, dry_run: Dry = False
) -> None:
    """Take a cohort back: readers no longer see it from this moment on.

    No build and no evaluation undoes that. Only 'cohortium release', with a name and a reason, does.

      cohortium withdraw my-cohort --by "A. Steward" --reason "lesions look wrong at 1.5 T"
    """
    decide("withdraw", load_settings(home), cohort, (by, reason), as_json, dry_run)


def decide(what: str, settings: Settings, cohort: str, signed: tuple[str, str], as_json: bool, dry_run: bool) -> None:
    """Release or withdraw a cohort in a person's name, or say what that would do."""
    catalog, cohorts = importlib.import_module("catalog"), importlib.import_module("flows.cohort_source")
    if not dry_run and settings.home.metadata.is_file():
        catalog.ensure_catalog(settings.home)
    with catalog.open_catalog(settings.home) as opened:
        cohort_id = cohorts.find_cohort(opened, cohort)
        document = preview(opened, what, cohort_id, *signed) if dry_run else {}
    if not dry_run:
        by, reason = signed
        change = catalog.release_cohort if what == "release" else catalog.withdraw_cohort
        document = asdict(change(settings.home, cohort_id, reason, by))
    if as_json:
        print_json(document)
    elif dry_run:
        typer.echo(f"{cohort_id} is {document['decision']} by {document['decided_by']}; it would be {DONE[what]}")
    else:
        reasons = "; ".join(document["reasons"])
        typer.echo(f"{cohort_id} is {document['decision']} by {document['decided_by']}: {reasons}")


def preview(opened: Any, what: str, cohort_id: str, by: str, reason: str) -> dict[str, Any]:
    """Return what a decision would do; raises CatalogError if it is not allowed."""
    decisions = importlib.import_module("catalog.decisions")
    decisions.check_person(by, reason)
    query = "SELECT decision, decided_by, report_id FROM cohort_status WHERE cohort_id = ?"
    before = opened.sql(query, [cohort_id]).dicts()[0]
    decisions.check_decided(cohort_id, before["decision"], DONE[what])
    if what == "release":
        gates = importlib.import_module("flows.evaluate").read_gates(opened, before["report_id"])
        decisions.check_release(cohort_id, gates)
    return {"cohort_id": cohort_id, **before, "would_be": DONE[what], "by": by, "reason": reason}
