"""``cohortium population``: models of real tables of people, and synthetic people from them."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.settings import load_settings
from flows.terminal import Home, Json, print_json, print_table, say, show_progress

app = typer.Typer(
    name="population",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="""Populations from real tables: fit a model, draw any number of synthetic people from it, check it.

    First steps:

      cohortium population fit chest.parquet --out models/chest --ignore image_id

      cohortium population sample models/chest -n 1000000 --seed 1 --out people.parquet

      cohortium population check models/chest other-patients.parquet

    docs/populations.md explains how the models work and what they do and do not protect.""",
)

Table = Annotated[
    str,
    typer.Argument(
        metavar="TABLE", help="A .parquet or .csv file, or reference:NAME[/SPLIT]; with --sql, a query instead."
    ),
]
Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Folder of a model, or models:/NAME@ALIAS or models:/NAME/VERSION.")
]
Sql = Annotated[bool, typer.Option("--sql", help="TABLE is one SELECT over the catalog.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same people.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Print what would be done; write nothing.")]


@app.callback()
def end_on_signals() -> None:
    """Let Ctrl-C and a polite kill end a command in order, so that no half-written file stays."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


@app.command()
def fit(
    table: Table,
    out: Annotated[Path | None, typer.Option(help="Folder to save the model in. Required, but for --dry-run.")] = None,
    family: Annotated[str, typer.Option(help="How it learns; 'cohortium describe' lists them.")] = "trees",
    patient: Annotated[str | None, typer.Option(help="Column that names the patient of each row.")] = None,
    order: Annotated[str | None, typer.Option(help="Column that sorts the visits of a patient.")] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="Column to leave out; give it as often as needed.")] = None,
    rules: Annotated[Path | None, typer.Option(help="TOML file that says how columns are cleaned.")] = None,
    sql: Sql = False,
    epsilon: Annotated[float | None, typer.Option(help="Privacy budget of --family private.")] = None,
    delta: Annotated[float | None, typer.Option(help="Its failure probability (--family private).")] = None,
    most_rows: Annotated[
        int | None, typer.Option(help="Later visits of a patient that count (--family private).")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name in MLflow: population-NAME (default: that of --out).")] = None,
    register: Annotated[bool, typer.Option(help="Register the model in MLflow with the alias 'candidate'.")] = True,
    force: Force = False,
    home: Home = None,
    as_json: Json = False,
    dry_run: Dry = False,
) -> None:
    """Learn the joint distribution of a table of people, their visits included, and save it as a model.

    Kinds of columns are recognised, what cannot be learned is refused with the remedy, and nothing is cleaned that
    RULES do not declare. --dry-run shows all of that and fits nothing:

      cohortium population fit chest.csv --ignore image_id --rules chest.toml --dry-run

      cohortium population fit "SELECT * EXCLUDE (subject_id) FROM released_subjects" --sql --out models/released

    RULES, one table a column (all keys are optional):

      [age_years]
      kind = "integer"       # or categorical, continuous, set
      low = 0
      high = 110
      outside = "missing"    # or "drop" the row
      [sex.spellings]
      male = "M"             # as found = as meant; "" makes it missing
      [findings]
      kind = "set"
      separator = "|"
    """
    populations, families = _load("flows.populations"), {"epsilon": epsilon, "delta": delta, "most_rows": most_rows}
    _check_family(family)
    if out is None and not dry_run:
        raise typer.BadParameter("where is the model to be saved?", param_hint="--out")
    prepared = populations.prepare_table(
        table, say, sql=sql, home=home, patient=patient, order=order, ignore=ignore or (), rules=rules
    )
    chosen = populations.choose_family(family, prepared, families)
    document = _describe_fit(populations, prepared, family)
    if dry_run or out is None:
        _print_fit(document, as_json)
        return
    fitted = populations.fit_table(prepared, chosen, out, force, show_progress)
    document |= {"model": str(out), "fingerprint": fitted.fingerprint, "seconds": round(fitted.seconds, 2)}
    document |= {"nodes": len(fitted.model.trees), "about": fitted.model.about}
    if register:
        document["registered"] = _register(fitted, out, name or out.resolve().name, home)
    _print_fit(document, as_json)


def _load(name: str) -> Any:
    return importlib.import_module(name)


def _check_family(name: str) -> None:
    _load("synth.population.families").find_family(name)


def _describe_fit(populations: Any, prepared: Any, family: str) -> dict[str, Any]:
    records = prepared.records
    return {
        "family": family,
        "source": prepared.source.name,
        "patient": prepared.roles.patient,
        "order": prepared.roles.order,
        "rows_in": records.rows_in,
        "rows": records.table.num_rows,
        "patients": records.patients,
        "attributes": populations.describe_attributes(prepared),
        "cleaning": [asdict(change) for change in records.cleaning],
    }


def _print_fit(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    rows = [
        (
            a["name"],
            a["kind"],
            _show_values(a["kind"], a["values"]),
            f"{a['missing']:.2%}",
            "yes" if a["static"] else "",
        )
        for a in document["attributes"]
    ]
    print_table(("attribute", "kind", "values", "missing", "same on all visits"), rows)
    if document["cleaning"]:
        print_table(("cleaned column", "what", "rows"), [tuple(change.values()) for change in document["cleaning"]])
    typer.echo(f"{document['rows']:,} of {document['rows_in']:,} rows are used, of {document['patients']:,} patients")
    if "model" in document:
        typer.echo(
            f"{document['model']}: {document['nodes']} trees fitted in {document['seconds']:.1f} s, fingerprint "
            f"{document['fingerprint'][:16]}"
        )
    if "registered" in document:
        typer.echo(f"registered as {document['registered']['uri']} (version {document['registered']['version']})")


def _show_values(kind: str, values: Sequence[Any]) -> str:
    if kind in ("integer", "continuous"):
        return f"{values[0]:g} to {values[1]:g}"
    shown = ", ".join(values[:8])
    return f"{len(values)}: {shown}{', ...' if len(values) > 8 else ''}"


def _register(fitted: Any, folder: Path, name: str, home: Path | None) -> dict[str, Any]:
    """Register a fitted model and return where. Of a private one, only what its own description says is logged."""
    registry, model = _load("flows.model_registry"), fitted.model
    private = model.family == _load("flows.populations").PRIVATE
    records = fitted.prepared.records
    metrics = {"fit_seconds": fitted.seconds, "nodes": float(len(model.trees))}
    if not private:
        metrics |= {"rows": float(records.table.num_rows), "patients": float(records.patients)}
        metrics |= {"rows_cleaned": float(sum(change.rows for change in records.cleaning))}
    how = model.about["read"]
    params = {"family": model.family, "fingerprint": fitted.fingerprint, "attributes": len(model.schema.columns)}
    params |= {key: how[key] for key in ("patient", "order", "ignore")}
    documents = {"schema": model.schema.to_json(), "about": model.about}
    made = registry.register_model(load_settings(home), folder, registry.name_model(name), params, metrics, documents)
    return {**asdict(made), "uri": made.uri}


@app.command()
def sample(
    model: Model,
    out: Annotated[
        Path | None, typer.Option(help="File to write: .parquet or .csv. Required, but for --dry-run.")
    ] = None,
    subjects: Annotated[int, typer.Option("-n", "--subjects", min=1, help="How many people to draw.")] = 1000,
    seed: Seed = 0,
    where: Annotated[
        list[str] | None, typer.Option(help="Condition that all must meet, e.g. sex=F or age_years=40:65.")
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="Share that is to meet a condition: COND@SHARE or COND@SHARE|STRATUM.")
    ] = None,
    visits: Annotated[str, typer.Option(help="all, or first: one row for each person.")] = "all",
    force: Force = False,
    home: Home = None,
    as_json: Json = False,
    dry_run: Dry = False,
) -> None:
    """Draw synthetic people from a model, under conditions and with wanted shares, into one file.

    Memory does not grow with their number, and the same command gives the same file. --where and --target may be given
    several times; all of them hold together, and shares come out to within a subject or two. design_weight leads back
    to the population that --where leaves: weighted shares are the natural ones.

      cohortium population sample models/chest -n 10000000 --seed 7 --where "age_years=20:90" --target "sex=F@0.5"
      --target "findings=Hernia@0.12|sex=F;age_years=20:40" --out people.parquet

    Conditions: sex=F,M  age_years=40:65 (both included)  age_years=80:  findings=Hernia  findings!=Hernia
    findings=none  visits=3:  x=missing; several joined by ';' all hold.
    """
    if visits not in ("all", "first"):
        raise typer.BadParameter(f"'{visits}' is not known; choose all or first.", param_hint="--visits")
    if out is None and not dry_run:
        raise typer.BadParameter("which file is to be written?", param_hint="--out")
    populations = _load("flows.populations")
    if out is not None:
        populations.check_out(out, force)
    plan, counter = populations.make_plan(open_named_model(model, home), subjects, seed, where or (), target or ())
    document: dict[str, Any] = {}
    if out is not None and not dry_run:
        rows, seconds = populations.write_sample(plan, counter, out, visits == "first", force, show_progress)
        document = {"file": str(out), "rows": rows, "seconds": round(seconds, 2), "not_meeting_where": counter.astray}
    document = {**document, **populations.summarise(plan, counter.report(plan))}
    if as_json:
        print_json(document)
    else:
        _print_sample(document)


def open_named_model(model: str, home: Path | None) -> Any:
    """Return the model that a folder or a models:/ address names."""

    def fetch(uri: str) -> Path:
        folder: Path = _load("flows.model_registry").fetch_model(load_settings(home), uri)
        return folder

    return _load("flows.populations").open_model(model, fetch)


def _print_sample(document: dict[str, Any]) -> None:
    if document["targets"]:
        print_table(
            ("target", "requested", "drawn", "weighted", "natural", "subjects in stratum"),
            [tuple(target.values()) for target in document["targets"]],
        )
    typer.echo(f"population that --where leaves: {document['admitted_share_of_population']:.4%} of the whole")
    typer.echo(f"effective sample size: {document['effective_sample_size']:,.0f} of {document['subjects']:,} subjects")
    if "file" in document:
        rate = document["subjects"] / max(document["seconds"], 1e-9)
        typer.echo(
            f"{document['file']}: {document['rows']:,} rows in {document['seconds']:.1f} s ({rate:,.0f} subjects/s)"
        )


@app.command()
def check(
    model: Model,
    table: Table,
    train: Annotated[
        str | None, typer.Option(help="The table that the model was fitted on; needed to judge privacy.")
    ] = None,
    sql: Sql = False,
    seed: Seed = 0,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Judge a model against real people whom it never saw: fidelity, prevalences, sequences, privacy.

    Every score stands beside what real people score in the same run (real), and what a table scores whose columns were
    shuffled (shuffled). Without --train, half of the patients of TABLE stand for those who were fitted; privacy
    cannot be judged then.

      cohortium population check models/chest holdout.parquet --train chest.parquet

      cohortium population check models/chest holdout.parquet --json
    """
    say("drawing and comparing; this takes a minute or so for 100,000 rows")
    report = _load("flows.population_check").check_table(
        open_named_model(model, home), table, train, say, sql=sql, home=home, seed=seed
    )
    document = {"model": model, "table": table, "train": train or "half of TABLE", **report.to_json()}
    if as_json:
        print_json(document)
        return
    _print_report(document, privacy=train is not None)


def _print_report(document: dict[str, Any], privacy: bool) -> None:
    find_metric, rows = _load("synth.evaluation.metrics").find_metric, []
    for score, value in document["synthetic"]["values"].items():
        metric = find_metric(score)
        if "." in score or (metric.family == "privacy" and not privacy):
            continue
        floor, shuffled = (document[arm]["values"].get(score) for arm in ("floor", "shuffled"))
        rows.append(
            (
                score,
                value,
                floor,
                shuffled,
                {"lower": "lower", "higher": "higher"}.get(metric.goal, "0"),
                metric.description,
            )
        )
    print_table(("score", "synthetic", "real", "shuffled", "best", "what it is"), rows)
    patients = document["patients"]
    typer.echo(
        f"against {patients['holdout']:,} patients whom the model never saw; {patients['train']:,} stand for the fitted"
    )
    if not privacy:
        typer.echo("privacy is not judged: give the table that was fitted with --train")
