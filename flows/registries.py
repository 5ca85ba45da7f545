"""What recipes can ask for, read from the registries themselves."""

from __future__ import annotations

from catalog.tables import TABLES
from synth.engines import ENGINES
from synth.measure import MEASURES
from synth.physics.signal import SEQUENCES
from synth.population import POPULATIONS


def describe_registries() -> dict[str, dict[str, str]]:
    """Return family -> name -> one-line description."""
    return {
        "engines": {name: engine.description for name, engine in ENGINES.items()},
        "contrasts of engine mri": {name: sequence.description for name, sequence in SEQUENCES.items()},
        "populations": {name: "; ".join(p.describe_sources()[:1]) for name, p in POPULATIONS.items()},
        "measurements": {name: f"[{m.unit}] {m.description}" for name, m in MEASURES.items()},
        "tables": {table.name: table.description for table in TABLES},
    }
