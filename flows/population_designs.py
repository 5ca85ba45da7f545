"""Study designs from the command line to the pure functions: twins, matched controls, trial arms, sites."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from flows.population_tables import explain_options
from flows.populations import make_plan, mark_sample, write_tables
from synth.errors import PopulationError
from synth.population.chain import ChainModel
from synth.population.conditions import parse_conditions, parse_cuts, parse_target
from synth.population.designs import (
    Site,
    assign_arms,
    draw_controls,
    draw_sites,
    draw_twins,
    plan_controls,
    plan_sites,
)
from synth.population.sampler import BATCH, stream_in_order
from synth.population.sampling import draw_slice, plan_sample

SITE_KEYS = ("name", "share", "where", "targets")


def write_twins(
    model: ChainModel,
    asked: Mapping[str, Any],
    change: Sequence[str],
    keep: Sequence[str] | None,
    out: Mapping[str, Any],
) -> dict[str, Any]:
    """Write subjects and their twins; a ``twin`` column tells them apart. Return what was written."""
    plan, _ = make_plan(model, asked["subjects"], asked["seed"], asked["where"], asked["targets"])
    with explain_options():
        made = [condition for text in change for condition in parse_conditions(text, model.schema)]

        def make(start: int, stop: int) -> pa.Table:
            pair = draw_twins(plan, start, stop, made, keep)
            names = ("original", "twin")
            return pa.concat_tables(
                [_add_text(table, "twin", name) for table, name in zip(pair, names, strict=True)],
                promote_options="none",
            )

        return _write(model, make, asked, {"change": list(change), "keep": keep}, out)


def write_controls(
    model: ChainModel, asked: Mapping[str, Any], control: Sequence[str], match: str, ratio: int, out: Mapping[str, Any]
) -> dict[str, Any]:
    """Write cases and their controls; ``role`` tells them apart, ``case_index`` says whose control somebody is."""
    cases, _ = make_plan(model, asked["subjects"], asked["seed"], asked["where"], asked["targets"])
    with explain_options():
        wanted = [condition for text in control for condition in parse_conditions(text, model.schema)]
        plan = plan_controls(cases, wanted, match, ratio)

        def make(start: int, stop: int) -> pa.Table:
            mine = draw_slice(cases, start, stop)
            mine = mine.append_column("case_index", mine["subject_index"])
            others = draw_controls(plan, start, stop)
            return pa.concat_tables([_add_text(mine, "role", "case"), _add_text(others, "role", "control")])

        return _write(model, make, asked, {"control": list(control), "match": match, "ratio": ratio}, out)


def write_trial(
    model: ChainModel, asked: Mapping[str, Any], arms: Sequence[str], strata: str | None, out: Mapping[str, Any]
) -> dict[str, Any]:
    """Write subjects with the ``arm`` to which they are randomised, within ``strata``."""
    ratios = _parse_arms(arms)
    with explain_options():
        cuts = parse_cuts(strata, model.schema) if strata else ()
        where = [condition for text in asked["where"] for condition in parse_conditions(text, model.schema)]
        targets = [parse_target(text, model.schema) for text in asked["targets"]]
        plan = plan_sample(model, asked["subjects"], asked["seed"], where, targets, cuts)
        assign_arms(plan, ratios, 0, 0)  # refuses what cannot be randomised before a file is begun

        def make(start: int, stop: int) -> pa.Table:
            table = draw_slice(plan, start, stop)
            arm = assign_arms(plan, ratios, start, stop)
            return table.append_column("arm", arm.take(pa.array(table["subject_index"].to_numpy() - start)))

        return _write(model, make, asked, {"arms": ratios, "strata": strata}, out)


def write_sites(model: ChainModel, asked: Mapping[str, Any], file: Path, out: Mapping[str, Any]) -> dict[str, Any]:
    """Write the subjects of several sites, each with its own mix, as the TOML ``file`` says; ``site`` names them."""
    with explain_options():
        sites = load_sites(file, model)
        plan = plan_sites(model, asked["subjects"], asked["seed"], sites)
        return _write(model, lambda start, stop: draw_sites(plan, start, stop), asked, {"sites": str(file)}, out)


def load_sites(file: Path, model: ChainModel) -> list[Site]:
    """Return the sites of a TOML file: ``[[site]]`` with name, share, where (list) and targets (list)."""
    try:
        read = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PopulationError(f"the sites in '{file}' cannot be read: {error}.") from error
    tables = read.get("site")
    if not isinstance(tables, list) or set(read) != {"site"}:
        raise PopulationError(f"'{file}' must hold one [[site]] for each site, and nothing else.")
    return [_read_site(file, table, model) for table in tables]


def _read_site(file: Path, table: Mapping[str, Any], model: ChainModel) -> Site:
    unknown = set(table) - set(SITE_KEYS)
    name, share = table.get("name"), table.get("share")
    if unknown or not isinstance(name, str) or not isinstance(share, int | float):
        raise PopulationError(
            f"'{file}': a [[site]] has the keys {', '.join(SITE_KEYS)}; name (text) and share (number) are needed"
            f"{f', {sorted(unknown)[0]!r} is not known' if unknown else ''}."
        )
    where = tuple(c for text in table.get("where", ()) for c in parse_conditions(str(text), model.schema))
    targets = tuple(parse_target(str(text), model.schema) for text in table.get("targets", ()))
    return Site(name, float(share), where, targets)


def _parse_arms(arms: Sequence[str]) -> dict[str, int]:
    ratios: dict[str, int] = {}
    for text in arms:
        name, _, ratio = text.partition("=")
        if not name or not (ratio or "1").isdigit() or name in ratios:
            raise PopulationError(f"--arm '{text}' cannot be read: write NAME or NAME=RATIO, each name once: drug=2.")
        ratios[name] = int(ratio or "1")
    return ratios


def _add_text(table: pa.Table, name: str, value: str) -> pa.Table:
    words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(table.num_rows, np.int8)), pa.array([value], pa.string()))
    return table.append_column(name, words)


def _write(
    model: ChainModel, make: Any, asked: Mapping[str, Any], design: Mapping[str, Any], out: Mapping[str, Any]
) -> Any:
    """Write ``make(start, stop)`` for all subjects into ``out["file"]``; return the document of the command."""
    counts: Counter[str] = Counter()
    subjects = int(asked["subjects"])

    def tables() -> Iterator[Any]:
        starts = range(0, subjects, BATCH)
        for start, table in zip(starts, stream_in_order(make, 0, subjects), strict=True):
            for column in ("twin", "role", "arm", "site"):
                if column in table.column_names:
                    first = table.filter(pa.array(table["visit"].to_numpy() == 0))
                    counts.update(f"{column}={value}" for value in first[column].to_pylist())
            yield table, min(BATCH, subjects - start)

    marks = mark_sample(model, {**asked, **design})
    file, progress = out["file"], out["progress"]
    rows, seconds = write_tables(tables(), file, marks, subjects, out["overwrite"], progress)
    return {"file": str(file), "rows": rows, "seconds": round(seconds, 2), **dict(design), "counts": dict(counts)}
