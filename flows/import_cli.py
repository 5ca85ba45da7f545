"""``cohortium import``: real data as a reference."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer

from catalog.home import resolve_home
from flows.terminal import Home, Json, print_json, print_table, say, show_progress

SHOWN = 10  # refused items that are listed


def import_data(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="File or folder with the real data.")],
    name: Annotated[str, typer.Option(help="Name of the reference: a-z, 0-9 and '-'.")],
    patient: Annotated[str | None, typer.Option(help="Column that names the patient (default: detected).")] = None,
    image: Annotated[
        str | None, typer.Option(help="Column with the pictures, or with their file names (default: detected).")
    ] = None,
    attributes: Annotated[
        str | None, typer.Option(help="Columns to keep, separated by commas (default: all that are no free text).")
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="parquet, medmnist, table, nifti or folder (default: detected).")
    ] = None,
    licence: Annotated[str, typer.Option(help="Licence of the data, e.g. 'CC BY 4.0'.")] = "unknown",
    source: Annotated[str, typer.Option(help="Where the data come from: a citation or an address.")] = "unknown",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split by patient.")] = 0,
    max_pixels: Annotated[int, typer.Option(min=1, help="Largest number of pixels or voxels of an image.")] = 1 << 27,
    memory_gb: Annotated[float, typer.Option(min=0.5, help="Memory of the process that parses the files.")] = 3.0,
    seconds_per_file: Annotated[float, typer.Option(min=0.1, help="Longest time for one image.")] = 60.0,
    seconds: Annotated[float, typer.Option(min=1, help="Longest time for everything.")] = 6 * 3600.0,
    home: Home = None,
    as_json: Json = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what was detected; import nothing.")] = False,
) -> None:
    """Import real images, or records alone, as a reference: to compare with and learn from, never released.

    Understood are Parquet with a column of pictures, MedMNIST .npz, a folder of pictures with a CSV, a table of records
    (CSV, TSV, Parquet), and NIfTI with participants.tsv (BIDS) or without. Columns are detected; look first:

      cohortium import chest.parquet --name chest --dry-run

      cohortium import chest.parquet --name chest --licence "CC BY 4.0" --source "Wang et al., CVPR 2017"

      cohortium import scans/ --name brains                        (a BIDS folder)

      cohortium import pictures/ --name skin --patient person --attributes age,diagnosis

    Patients, not images, are split into train (70 %), validation (10 %) and holdout (20 %): a patient is never in two.
    Files are parsed in a process of limited memory and time; bad ones are named and left out. The same command again
    changes nothing, or goes on where it was interrupted.
    """
    imports = importlib.import_module("flows.imports")
    plans = importlib.import_module("synth.references.plan")
    wanted = tuple(part.strip() for part in attributes.split(",") if part.strip()) if attributes is not None else None
    budget = plans.Budget(
        pixels=max_pixels, memory_bytes=int(memory_gb * 2**30), seconds_per_item=seconds_per_file, seconds=seconds
    )
    options = plans.Options(patient=patient, image=image, attributes=wanted, adapter=adapter)
    planned = imports.plan_import(imports.ImportRequest(path, name, options, budget, seed, licence, source))
    if dry_run:
        warn_of_licence(licence)
        show_plan(planned, as_json)
        return
    result = imports.import_source(resolve_home(home), planned, show_progress)
    warn_of_licence(result.state.licence)
    document = describe_result(planned, result)
    if as_json:
        print_json(document)
    else:
        show_result(document, result)


def warn_of_licence(licence: str) -> None:
    """Say so if nobody has stated the licence."""
    if licence == "unknown":
        say("warning: the licence is unknown; state it with --licence before others use models made from these data")


def describe_plan(planned: Any) -> dict[str, Any]:
    """Return what was detected as plain JSON values."""
    plan = planned.plan.model_dump(mode="json")
    files = plan.pop("files")
    return {"reference_id": planned.reference_id, **plan, "files": len(files), "source_sha256": planned.source_sha256}


def show_plan(planned: Any, as_json: bool) -> None:
    """Print what was detected."""
    document = describe_plan(planned)
    if as_json:
        print_json(document)
        return
    columns, notes = document.pop("attributes"), document.pop("notes")
    for key, value in document.items():
        if value is not None and value != {}:
            typer.echo(f"{key:<15} {value}")
    print_table(
        ("attribute", "kind", "unit", "column"), [(c["name"], c["kind"], c["unit"], c["column"]) for c in columns]
    )
    for note in notes:
        typer.echo(f"note: {note}")


def describe_result(planned: Any, result: Any) -> dict[str, Any]:
    """Return what an import did as plain JSON values."""
    state = result.state
    return {
        "reference_id": state.reference_id,
        "name": state.name,
        "unchanged": result.unchanged,
        "fingerprint": state.fingerprint,
        "adapter": planned.plan.adapter,
        "has_pixels": planned.plan.has_pixels,
        "images": state.images,
        "patients": state.patients,
        "patients_known": planned.plan.patients is not None,
        "splits": dict(state.splits),
        "attributes": [{"name": a.name, "kind": a.kind, "unit": a.unit} for a in planned.attributes],
        "refused": [{"item": r.item, "items": r.items, "name": r.name, "reason": r.reason} for r in state.refused],
        "licence": state.licence,
        "source": state.source,
        "notes": list(state.notes),
        "shards_written": result.shards_written,
        "shards_reused": result.shards_reused,
        "snapshot_id": state.snapshot_id,
    }


def show_result(document: dict[str, Any], result: Any) -> None:
    """Print what an import did."""
    unit = "images" if document["has_pixels"] else "records"
    done = "was imported already, nothing to do" if document["unchanged"] else "imported"
    if document["unchanged"] and document["shards_written"]:
        done = f"was imported already; {document['shards_written']} damaged shards are restored"
    typer.echo(f"{document['reference_id']}: {done}; {document['images']} {unit} of {document['patients']} patients")
    splits = ", ".join(f"{split} {count}" for split, count in document["splits"].items())
    typer.echo(f"  split by patient: {splits}")
    kinds = ", ".join(f"{a['name']} ({a['unit'] or a['kind']})" for a in document["attributes"])
    typer.echo(f"  attributes: {kinds or 'none'}")
    typer.echo(f"  licence: {document['licence']}; source: {document['source']}")
    empty = [split for split, count in document["splits"].items() if not count]
    for note in [*document["notes"], *(f"no record is in {split}; there are too few patients" for split in empty)]:
        typer.echo(f"  note: {note}")
    refused = document["refused"]
    if refused:
        typer.echo(f"  refused: {sum(item['items'] for item in refused)}")
        for item in refused[:SHOWN]:
            typer.echo(f"    {item['name']}: {item['reason']}")
        if len(refused) > SHOWN:
            typer.echo(f"    and {len(refused) - SHOWN} more; --json lists all")
