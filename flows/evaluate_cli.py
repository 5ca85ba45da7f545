"""``cohortium evaluate``: the scorecard of any images against a reference."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.settings import load_settings
from flows.terminal import Home, Json, print_json, print_table, say, show_steps

FAILED = 1
SHOWN = 10  # notes of one kind that are listed
FAMILIES = ("fidelity", "diversity", "adherence", "utility", "privacy", "fairness")
GOALS = {"lower": "low", "higher": "high", "zero": "0", "control": "as control"}


def evaluate(
    images: Annotated[
        str,
        typer.Argument(
            metavar="IMAGES", help="File or folder made by any tool, a cohort (id or name), or reference:NAME/SPLIT."
        ),
    ],
    reference: Annotated[str, typer.Option(metavar="REF", help="Reference to compare with; see 'cohortium import'.")],
    features: Annotated[
        str, typer.Option(help="Features to compare in, separated by commas: encoder, radiomics, pixels.")
    ] = "encoder,radiomics,pixels",
    encoder: Annotated[
        list[Path] | None,
        typer.Option(help="Further encoder: a TorchScript, ONNX or safetensors file; give it as often as needed."),
    ] = None,
    families: Annotated[
        str, typer.Option(help="Families of scores: fidelity, diversity, adherence, utility, privacy, fairness.")
    ] = ",".join(FAMILIES),
    policy: Annotated[
        Path | None, typer.Option(help="TOML file of gates, or the name of a shipped policy (default: default).")
    ] = None,
    utility: Annotated[str, typer.Option(help="Networks trained on the images: off, quick or full.")] = "quick",
    kind: Annotated[
        str | None, typer.Option(help="Contrast to judge, e.g. T1w, where a cohort or a folder has several.")
    ] = None,
    patient: Annotated[str | None, typer.Option(help="Column that names the subject (default: detected).")] = None,
    image: Annotated[
        str | None, typer.Option(help="Column with the pictures, or with their file names (default: detected).")
    ] = None,
    attributes: Annotated[
        str | None, typer.Option(help="Attributes to compare, separated by commas (default: all that both sides have).")
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="parquet, medmnist, table, nifti or folder (default: detected).")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Judge that many images only, drawn by --seed: a look, no decision.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random draw.")] = 0,
    output: Annotated[Path | None, typer.Option(help="Folder that gets a copy of the document.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 if a gate or a control does not hold.")] = False,
    max_pixels: Annotated[int, typer.Option(min=1, help="Largest number of pixels or voxels of an image.")] = 1 << 27,
    memory_gb: Annotated[float, typer.Option(min=0.5, help="Memory of the process that parses the files.")] = 3.0,
    seconds_per_file: Annotated[float, typer.Option(min=0.1, help="Longest time for one image.")] = 60.0,
    seconds: Annotated[float, typer.Option(min=1, help="Longest time for parsing everything.")] = 6 * 3600.0,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads (default: one a core).")] = None,
    home: Home = None,
    as_json: Json = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be judged, and against what; compute nothing.")
    ] = False,
) -> None:
    """Judge images against real ones: fidelity, diversity, adherence, utility, privacy, fairness, four controls, gates.

    Images of any tool are read as 'cohortium import' reads real ones, in a limited process, and are not registered:

      cohortium evaluate generated/ --reference chest

      cohortium evaluate generated.parquet --reference chest --attributes sex,view --json

    A cohort is judged with what was measured while it was made; its gates and those of the policy then decide
    together whether it is released. With --limit, or some of the families only, nothing is decided:

      cohortium evaluate my-cohort --kind T1w --reference brains

    Real images against other real images show what the scores can tell apart:

      cohortium evaluate reference:chest/validation --reference chest

    Exit code 0 also if gates fail: that is a result. docs/evaluation/ explains every score.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    settings = load_settings(home, workers)
    requests, plans = _load("flows.evaluation_request"), _load("synth.references.plan")
    request = requests.EvaluationRequest(
        images=images,
        reference=reference,
        policy=_load("synth.evaluation.policy").load_policy(policy),
        settings=requests.ScorecardSettings(
            features=(*_split(features), *(f"file:{path}" for path in encoder or ())),
            families=_split(families),
            utility=utility,
            seed=seed,
        ),
        choice=requests.Choice(kind, limit, seed),
        options=plans.Options(
            patient=patient,
            image=image,
            attributes=_split(attributes) if attributes is not None else None,
            adapter=adapter,
        ),
        budget=plans.Budget(
            pixels=max_pixels, memory_bytes=int(memory_gb * 2**30), seconds_per_item=seconds_per_file, seconds=seconds
        ),
        output=output,
    )
    if dry_run:
        with _load("catalog").open_catalog(settings.home) as catalog:
            show_plan(_load("flows.scorecards").describe_evaluation(catalog, request), as_json)
        return
    with show_steps() as tell:
        result = _load("flows.evaluations").run_evaluation(settings, request, tell)
    document = result.to_json()
    if as_json:
        print_json(document)
    else:
        show_result(document)
    if strict and not document["passed"]:
        raise typer.Exit(FAILED)


def _load(name: str) -> Any:
    return importlib.import_module(name)


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def show_plan(document: dict[str, Any], as_json: bool) -> None:
    """Print what would be judged."""
    if as_json:
        print_json(document)
        return
    notes = document.pop("notes")
    for key, value in document.items():
        if value is not None:
            typer.echo(f"{key:<21} {', '.join(map(str, value)) if isinstance(value, list) else value}")
    for note in notes:
        typer.echo(f"note: {note}")


def show_result(document: dict[str, Any]) -> None:
    """Print scores by family, then controls, gates, copies and where the document is."""
    metrics = [metric for metric in document["metrics"] if not metric["subgroup"]]
    for family in FAMILIES:
        rows = [_row(metric) for metric in metrics if metric["family"] == family and metric["value"] is not None]
        if rows:
            print_table((family, "features", "value", "95 % interval", "control", "best", "images"), rows)
    show_missing(metrics)
    grouped = len(document["metrics"]) - len(metrics)
    if grouped:
        typer.echo(f"{grouped} scores of subgroups are in the document and in --json")
    for note in document["notes"]:
        typer.echo(f"note: {note}")
    show_unusable(document["unusable"])
    for control in document["controls"]:
        typer.echo(
            f"control {control['name']}: {'behaves' if control['behaves'] else 'MISBEHAVES'}; {control['reason']}"
        )
    show_gates(document["gates"])
    typer.echo(f"{len(document['copies'])} images are copies of training images")
    for copy in document["copies"][:SHOWN]:
        typer.echo(f"  {copy['image_id']} of {copy['reference_image_id']} ({copy['score']:.3f})")
    typer.echo(f"{document['scorecard_id']}: {describe_outcome(document)}")
    typer.echo(f"  document (it shows real images): {document['document']}")


def show_gates(gates: Sequence[dict[str, Any]]) -> None:
    """Print which gates hold and which fail; those that nothing was measured for are only named."""
    unmeasured = [gate["gate"] for gate in gates if gate["passed"] and gate["value"] is None]
    for gate in gates:
        if gate["gate"] not in unmeasured:
            typer.echo(f"gate {'holds' if gate['passed'] else 'FAILS'}: {gate['reason']}")
    if unmeasured:
        typer.echo(f"gates that nothing was measured for, and that are not required: {', '.join(unmeasured)}")


def describe_outcome(document: dict[str, Any]) -> str:
    """Return the verdict and what follows from it, in a few words."""
    failed = sum(not gate["passed"] for gate in document["gates"])
    text = "every gate holds" if not failed else f"{failed} of {len(document['gates'])} gates do not hold"
    if not document["controls_valid"]:
        text = "invalid: a control misbehaves, so no score proves anything"
    decision = document["decision"]
    if decision is None:
        return text if document["cohort_id"] is None else f"{text}; a look at a part, which decides nothing"
    return f"{text}; cohort {document['cohort_id']} is {decision['decision']}"


def show_missing(metrics: Sequence[dict[str, Any]]) -> None:
    """Print which scores could not be measured, by reason."""
    reasons: dict[str, list[str]] = {}
    for metric in metrics:
        if metric["value"] is None:
            where = f" ({metric['features']})" if metric["features"] else ""
            reasons.setdefault(metric["reason"], []).append(metric["name"] + where)
    for reason, names in reasons.items():
        shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        typer.echo(f"not measurable: {shown}: {reason}")


def show_unusable(unusable: Sequence[dict[str, Any]]) -> None:
    """Print which images were left out, and why."""
    if unusable:
        say(f"{len(unusable)} images could not be used:")
        for item in unusable[:SHOWN]:
            say(f"  {item['name']}: {item['reason']}")
        if len(unusable) > SHOWN:
            say(f"  and {len(unusable) - SHOWN} more; --json lists all")


def _row(metric: dict[str, Any]) -> tuple[object, ...]:
    interval = "" if metric["low"] is None else f"{metric['low']:.4g} to {metric['high']:.4g}"
    control = "" if metric["control"] is None else f"{metric['control']:.4g}"
    best = GOALS[metric["goal"]]
    return metric["name"], metric["features"], metric["value"], interval, control, best, metric["images"]
