"""Tabular attacks: what the attributes that come with synthetic images give away, whatever the pixels do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from synth.evaluation.images.privacy.attack_scores import rate_interval
from synth.evaluation.images.sets import ImageSet
from synth.evaluation.metric import Score
from synth.evaluation.ranks import Interval
from synth.evaluation.records.privacy import ATTACKED_PATIENTS, FALSE_POSITIVES, attack_membership, compare_matches
from synth.evaluation.records.tables import RecordArrays, read_records
from synth.nouns import Attribute
from synth.population.schema import PATIENT, VISIT, Column, Schema

FEATURES = "records"
ATTACKS = ("distance", "density", "sequence")
MATCHES = ("row_exact", "row_near", "patient_near", "sequence_exact")
LEAST_PATIENTS = 20  # of the holdout: half are attacked, half are the attacker's reference
NAMES = (
    *(f"membership_{attack}_auc" for attack in ATTACKS),
    *(f"membership_{attack}_tpr_{rate}" for attack in ATTACKS for rate in FALSE_POSITIVES),
    *(f"{match}_{end}" for match in MATCHES for end in ("train", "holdout", "gap")),
)


def attack_records(synthetic: ImageSet, train: ImageSet, unseen: ImageSet, seed: int = 0) -> list[Score]:
    """Return the privacy scores of records (see synth.evaluation.records.privacy) of the attributes of images.

    A patient's images in their order are the visits. Attributes count that all three sets have; ``unseen`` are
    patients that were not trained on. Not measurable without attributes or with fewer than 20 patients on a side.
    """
    shared = [a for a in train.schema if all(a.name in side.records.column_names for side in (synthetic, unseen))]
    sides = synthetic, train, unseen
    patients = [len(np.unique(side.patient)) for side in sides]
    reason = ""
    if not shared:
        reason = "the synthetic images state no attribute of the reference"
    elif min(patients) < LEAST_PATIENTS:
        reason = (
            f"there are {patients[0]} synthetic, {patients[1]} training and {patients[2]} unseen patients; "
            f"{LEAST_PATIENTS} of each are needed"
        )
    if reason:
        return [Score.missing(name, reason, features=FEATURES) for name in NAMES]
    schema = describe_schema(sides, shared)
    found, real, held = (read_records(list_records(side, schema), schema) for side in sides)
    return _score(found, real, held, len(synthetic), seed)


def describe_schema(sides: Sequence[ImageSet], attributes: Sequence[Attribute]) -> Schema:
    """Return the schema of the attributes, with the categories and labels that occur on any side."""
    columns = []
    for attribute in attributes:
        seen: set[str] = set()
        if attribute.kind in ("categorical", "set"):
            for value in (value for side in sides for value in side.values(attribute.name) if value is not None):
                seen.update([value] if isinstance(value, str) else [str(label) for label in value])  # type: ignore[union-attr]
        columns.append(Column(attribute.name, attribute.kind, tuple(sorted(seen)), missing=True))
    return Schema(tuple(columns), repeated=any(len(np.unique(side.patient)) < len(side) for side in sides))


def list_records(images: ImageSet, schema: Schema) -> pa.Table:
    """Return the attributes of images as a record table: a patient's images in their order are visits."""
    visits: dict[int, int] = defaultdict(int)
    numbers = []
    for patient in images.patient.tolist():
        numbers.append(visits[patient])
        visits[patient] += 1
    table = images.records.select(list(schema.names))
    table = table.append_column(PATIENT, pa.array(images.patient, pa.int64()))
    return table.append_column(VISIT, pa.array(numbers, pa.int32()))


def _score(found: RecordArrays, real: RecordArrays, held: RecordArrays, images: int, seed: int) -> list[Score]:
    values, areas = attack_membership(found, real, held, seed)
    matches, gaps = compare_matches(found, real, held, seed)
    others = min(held.patients // 2, ATTACKED_PATIENTS)
    members = min(real.patients, others)
    scores = []
    for name in NAMES:
        detail: dict[str, Any] = {}
        if name in areas:
            interval, detail = areas[name], {"members": members, "non_members": others}
        elif name in gaps:
            interval = gaps[name]
        elif name in values:
            rate = FALSE_POSITIVES[name.rpartition("_")[2]]
            interval, detail = rate_interval(values[name], members, others, rate)
        else:
            interval = Interval(matches[name], float("nan"), float("nan"))  # the gap has the interval
        scores.append(
            Score.of(name, interval, features=FEATURES, images=images, control=detail.get("by_chance"), detail=detail)
        )
    return scores
