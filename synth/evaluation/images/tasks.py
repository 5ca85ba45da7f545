"""What could be read from an image: the attributes of a reference as yes-no questions and numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from synth.evaluation.images.sets import ImageSet

LEAST_PATIENTS = 10  # with and without, for a question to be asked
LEAST_DIFFERENT = 5  # values of a number


@dataclass(frozen=True, slots=True)
class Task:
    """One question: is ``attribute`` equal to ``label`` (or does the set hold it), or how large is the number.

    ``name`` is ``view=PA``, ``findings=Effusion`` or ``age_years``.
    """

    name: str
    attribute: str
    kind: Literal["binary", "number"]
    label: str = ""

    def targets(self, images: ImageSet) -> NDArray[np.float32]:
        """Return the answer for each image: 0 or 1, or the number; NaN where it is missing or not recorded at all."""
        if self.attribute not in images.records.column_names:
            return np.full(len(images), np.nan, np.float32)
        return np.array([self._answer(value) for value in images.values(self.attribute)], np.float32)

    def _answer(self, value: object) -> float:
        if value is None:
            return float("nan")
        if self.kind == "number":
            return float(value)  # type: ignore[arg-type]
        return float(self.label in value if isinstance(value, list | tuple) else value == self.label)


def find_tasks(images: ImageSet, least_patients: int = LEAST_PATIENTS) -> tuple[Task, ...]:
    """Return the tasks that enough patients of ``images`` answer differently, the most frequent label first.

    Of an attribute with two categories only the rarer one is asked for.
    """
    found: list[Task] = []
    for attribute in images.schema:
        name = attribute.name
        if attribute.kind in ("integer", "continuous"):
            task = Task(name, name, "number")
            if len(np.unique(_known(task.targets(images)))) >= LEAST_DIFFERENT:
                found.append(task)
            continue
        values = [value for value in images.values(name) if value is not None]
        counts = Counter(label for value in values for label in ([value] if isinstance(value, str) else set(value)))  # type: ignore[arg-type]
        labels = [label for label, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
        if attribute.kind == "categorical" and len(labels) == 2:
            labels = labels[1:]
        tasks = [Task(f"{name}={label}", name, "binary", label) for label in labels]
        found += [task for task in tasks if _is_asked(task, images, least_patients)]
    return tuple(found)


def count_patients(task: Task, images: ImageSet) -> tuple[int, int]:
    """Return the patients with at least one image that says no, and one that says yes."""
    answers, patient = task.targets(images), images.patient
    return len(np.unique(patient[answers == 0])), len(np.unique(patient[answers == 1]))


def _is_asked(task: Task, images: ImageSet, least_patients: int) -> bool:
    return min(count_patients(task, images)) >= least_patients


def _known(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values[~np.isnan(values)]
