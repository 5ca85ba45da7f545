"""The code of registered population models ("models from code"): MLflow runs this file, and what it loads is data.

model = mlflow.pyfunc.load_model("models:/population-chest@candidate")
subjects = model.predict({"n": 1000, "seed": 7, "where": ["sex=F"], "targets": ["findings=Hernia@0.5"]})
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow.models
import mlflow.pyfunc
import pandas as pd

from synth.errors import PopulationError, suggest_nearest
from synth.population.conditions import parse_conditions, parse_target
from synth.population.model_files import load_model
from synth.population.sampling import plan_sample, stream_sample

POPULATION = "population"  # the artifact: see flows.model_registry
KNOWN = ("n", "seed", "where", "targets", "visits")


class RegisteredPopulation(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Draws subjects from the model in the artifact folder."""

    def load_context(self, context: Any) -> None:
        """Load the model, checked as any file from elsewhere."""
        self.model = load_model(Path(context.artifacts[POPULATION]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return one row a visit. Input: n, seed (0), where, targets (lists of text), visits ("all" or "first").

        A data frame of one row, or a mapping: MLflow would turn other type hints into checks of its own.
        Raises PopulationError if nobody can meet what is asked.
        """
        asked = _read_request(model_input)
        schema = self.model.schema
        plan = plan_sample(
            self.model,
            int(asked.get("n", 1)),
            int(asked.get("seed", 0)),
            [condition for text in _texts(asked.get("where")) for condition in parse_conditions(text, schema)],
            [parse_target(text, schema) for text in _texts(asked.get("targets"))],
        )
        tables = stream_sample(plan, later=asked.get("visits", "all") != "first")
        return pd.concat([table.to_pandas() for table in tables], ignore_index=True)


def _read_request(given: Any) -> dict[str, Any]:
    if isinstance(given, pd.DataFrame):
        if len(given) != 1:
            raise PopulationError(f"the request has {len(given)} rows; give one with columns of {', '.join(KNOWN)}.")
        given = given.iloc[0].to_dict()
    if not isinstance(given, dict):
        raise PopulationError(f"the request is {type(given).__name__}; give a mapping with {', '.join(KNOWN)}.")
    for name in given:
        if name not in KNOWN:
            raise PopulationError(
                f"'{name}' is not known.{suggest_nearest(str(name), KNOWN)} Known: {', '.join(KNOWN)}."
            )
    return given


def _texts(given: Any) -> Sequence[str]:
    if given is None or (isinstance(given, float) and pd.isna(given)):
        return ()
    return (given,) if isinstance(given, str) else tuple(given)


mlflow.models.set_model(RegisteredPopulation())
