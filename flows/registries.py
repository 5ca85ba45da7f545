"""What recipes can ask for, read from the registries themselves."""

from __future__ import annotations

import json
from pathlib import Path

from catalog.tables import TABLES
from synth import learned
from synth.engines import ENGINES
from synth.evaluation.metrics import METRICS
from synth.evaluation.policy import list_policies, load_policy
from synth.measure import MEASURES
from synth.physics.effects import EFFECTS
from synth.physics.pairs import PAIRS
from synth.physics.sequences import SEQUENCES
from synth.population import POPULATIONS
from synth.population.families import FAMILIES
from synth.population.learned import LearnedPopulation
from synth.population.scanners import CleaningReport
from synth.population.schema import Column
from synth.references import ADAPTERS

_MODELS = Path(str(learned.__file__)).with_name("models")


def describe_registries() -> dict[str, dict[str, str]]:
    """Return family -> name -> one-line description."""
    return {
        "engines": {name: engine.description for name, engine in ENGINES.items()},
        "contrasts of engine mri": {name: sequence.description for name, sequence in SEQUENCES.items()},
        "effects of engine mri": {name: effect.description for name, effect in EFFECTS.items()},
        "pairs of engine mri": {name: pair.description for name, pair in PAIRS.items()},
        "populations": {name: "; ".join(p.describe_sources()[:1]) for name, p in POPULATIONS.items()},
        **{
            f"cleaning of population {name}": _describe_cleaning(report)
            for name, p in POPULATIONS.items()
            if (report := p.cleaning_report()) is not None
        },
        **{
            f"attributes of population {name}": {one.name: _describe_column(one) for one in p.model.schema.columns}
            for name, p in POPULATIONS.items()
            if isinstance(p, LearnedPopulation)
        },
        "models of engine flow": {
            path.parent.name: _describe_model(path) for path in sorted(_MODELS.glob("*/model.json"))
        },
        "families of population models": {name: family.description for name, family in FAMILIES.items()},
        "measurements": {name: f"[{m.unit}] {m.description}" for name, m in MEASURES.items()},
        "adapters of real data": {name: adapter.description for name, adapter in ADAPTERS.items()},
        "scores": {name: f"[{m.family}] {m.description}" for name, m in METRICS.items()},
        "policies": {name: load_policy(name).description for name in list_policies()},
        "tables": {table.name: table.description for table in TABLES},
    }


def _describe_column(column: Column) -> str:
    values = ", ".join(column.categories) or f"{column.low:g} to {column.high:g}"
    return f"[{column.kind}] {values}"


def _describe_model(path: Path) -> str:
    described = json.loads(path.read_text(encoding="utf-8"))
    return str(described["about"].get("description") or described["kind"])


def _describe_cleaning(report: CleaningReport) -> dict[str, str]:
    """Return what was dropped and merged when the population's real table was read."""
    kept = f"{report.series_kept} of {report.series_in} series ({report.patients_kept} patients) of {report.source}"
    dropped = {f"dropped: {reason}": f"{count} series" for reason, count in report.dropped.items()}
    merged = {f"spellings of {maker}": ", ".join(found) for maker, found in report.maker_spellings.items()}
    return {"kept": kept, **dropped, **merged}
