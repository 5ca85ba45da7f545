"""The code of registered models of images ("models from code"): MLflow runs this file, and what it loads is data.

model = mlflow.pyfunc.load_model("models:/radiographs-64@candidate")
images = model.predict(pandas.DataFrame({"sex": ["F", "M"], "view": ["PA", "AP"], "seed": [1, 2]}))  # (2, 64, 64), 0..1
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow.models
import mlflow.pyfunc
import numpy as np
import pandas as pd
import torch

from synth.errors import ModelError
from synth.learned.model_files import load_model
from synth.nouns import AttributeValue
from synth.seeds import stream_key

IMAGES = "images"  # the artifact: see flows.model_registry
SEED = "seed"  # the column that is no attribute


class RegisteredImages(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Draws images with the model in the artifact folder."""

    def load_context(self, context: Any) -> None:
        """Load the model, checked as any file from elsewhere."""
        torch.set_num_threads(1)  # as in workers, so that the same row and seed give the same image
        self.generator = load_model(Path(context.artifacts[IMAGES]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> np.ndarray:
        """Return one image a subject, (n, *shape) float32 from 0 to 1.

        Input: a data frame (MLflow would turn other type hints into checks of its own) or a list of mappings, with any
        of the model's attributes (missing: not asked for) and perhaps ``seed``, a whole number (default: the number of
        the row). An image depends on its own row alone. Raises ModelError for what the model was not taught.
        """
        rows = _read_rows(model_input)
        seeds = [_read_seed(row.pop(SEED, place)) for place, row in enumerate(rows)]
        return self.generator.sample(rows, [stream_key(seed, 0, 0, "images/predict") for seed in seeds])


def _read_rows(given: Any) -> list[dict[str, Any]]:
    if isinstance(given, pd.DataFrame):
        given = given.to_dict("records")
    if isinstance(given, Mapping):
        given = [given]
    if not isinstance(given, list) or not all(isinstance(row, Mapping) for row in given):
        raise ModelError(f"subjects are {type(given).__name__}; give a data frame or a list of mappings.")
    return [{str(name): _plain(value) for name, value in row.items()} for row in given]


def _plain(value: Any) -> AttributeValue:
    """Return a value as Python's own: NumPy's numbers and lists as they come in data frames, NaN as missing."""
    if isinstance(value, np.ndarray | list | tuple):
        return tuple(str(one) for one in value)
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else value


def _read_seed(value: Any) -> int:
    if not isinstance(value, int | float) or value != int(value):
        raise ModelError(f"{SEED}: {value!r} is no whole number.")
    return int(value)


mlflow.models.set_model(RegisteredImages())
