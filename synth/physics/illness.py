"""The diseases of one subject: drawn once, followed over visits, solved for their volumes, kept in the scan's row.

A row's ``diseases`` is a list of {name, drawn, state, size_ml}; from it alone the look of a visit comes back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from synth.nouns import Subject, Visit
from synth.physics import anatomy
from synth.physics.diseases import DISEASES
from synth.physics.diseases.base import Disease, Values
from synth.physics.grid import Grid
from synth.physics.look import Look, combine_looks
from synth.physics.relaxation import Tissue, draw_kind
from synth.seeds import stream, stream_key

_CLOSE = 0.02  # of the wanted volume of a mask
_TURNS = 8
_LARGEST_STEP = 4.0  # factor by which a size changes in one turn


@dataclass(frozen=True, slots=True)
class Ailment:
    """A disease of one subject: what was drawn of it, its state on a visit, and its solved size."""

    disease: Disease
    drawn: Values
    state: Values
    size_ml: float = 0.0

    @property
    def look(self) -> Look:
        """What it looks like; nothing where it asks for a mask of no volume."""
        if "volume_ml" in self.state and self.size_ml <= 0:
            return Look()
        return self.disease.lay(self.drawn, self.state, self.size_ml)

    def to_json(self) -> Values:
        """Return it as a row stores it."""
        return {"name": self.disease.name, "drawn": self.drawn, "state": self.state, "size_ml": self.size_ml}


def draw_diseases(seed: int, subject: Subject) -> list[tuple[Disease, Values]]:
    """Draw the diseases that ``subject`` has, each from a stream of its own."""
    found = []
    for name, disease in DISEASES.items():
        if disease.affects(subject):
            generator = stream(seed, subject.subject_index, -1, f"mri/disease/{name}")
            key = stream_key(seed, subject.subject_index, -1, f"mri/disease/{name}/fields")
            found.append((disease, disease.draw(generator, key, subject)))
    return found


def draw_tissues(
    seed: int, subject_index: int, diseases: Sequence[tuple[Disease, Values]], tissues: Mapping[str, Tissue]
) -> dict[str, Tissue]:
    """Draw the tissues that diseases bring, given the person's own ``tissues``."""
    return {
        name: draw_kind(stream(seed, subject_index, -1, f"mri/relaxation/{name}"), kind, tissues)
        for disease, _ in diseases
        for name, kind in disease.tissues.items()
    }


def follow_diseases(diseases: Sequence[tuple[Disease, Values]], subject: Subject, visit: Visit) -> list[Ailment]:
    """Return the state of each disease on ``visit``."""
    return [Ailment(disease, drawn, disease.state(drawn, subject, visit)) for disease, drawn in diseases]


def solve_illness(
    grid: Grid,
    shape: anatomy.Shape,
    pose: anatomy.Pose,
    intracranial_ml: float,
    volumes: anatomy.Volumes,
    ailments: Sequence[Ailment],
    body: anatomy.Body | None = None,
) -> tuple[anatomy.Solution, list[Ailment]]:
    """Solve a visit's unknowns and the size of each disease, so that labels and masks have the drawn volumes."""
    body = body or anatomy.sample_body(shape)
    nominal = anatomy.guess_scale(intracranial_ml, body) ** 3
    sized = [replace(one, size_ml=one.state.get("volume_ml", 0.0) / nominal) for one in ailments]
    look = combine_looks(one.look for one in sized)
    heavy = look.weighs
    for turn in range(2 if heavy else 1):
        look = combine_looks(one.look for one in sized) if turn else look if heavy else Look()
        solution = anatomy.solve_visit(grid, shape, pose, intracranial_ml, volumes, look, body)
        turns = 3 if heavy and not turn else _TURNS
        sized = [_solve_size(grid, shape, pose, solution, one, look, turns, body) for one in sized]
    return solution, sized


def _solve_size(
    grid: Grid,
    shape: anatomy.Shape,
    pose: anatomy.Pose,
    solution: anatomy.Solution,
    one: Ailment,
    head: Look,
    turns: int,
    body: anatomy.Body,
) -> Ailment:
    """Return ``one`` with the size at which its mask has the wanted volume; tissue lies where ``head`` has moved it."""
    wanted = one.state.get("volume_ml", 0.0)
    if wanted <= 0:
        return one
    last: tuple[float, float] | None = None
    slope = 1.0  # of the logarithm of the mask's volume on that of the size
    best, least = one, math.inf
    for _ in range(turns):
        look = replace(one.look, fields=head.fields)
        seen = anatomy.render_labels(grid, shape, pose, solution, look, body=body, only_parts=True)
        found = max(float((seen.lesion > 0).sum()) * grid.resolution_mm**3 / 1000, 1e-3)
        missing = math.log(wanted / found)
        if abs(missing) < least:
            best, least = one, abs(missing)
        if abs(missing) < _CLOSE:
            break
        here = math.log(one.size_ml)
        if last is not None and abs(here - last[0]) > 1e-6:
            slope = min(max((last[1] - missing) / (here - last[0]), 0.3), 3.0)
        last = (here, missing)
        factor = min(max(math.exp(missing / slope), 1 / _LARGEST_STEP), _LARGEST_STEP)
        one = replace(one, size_ml=one.size_ml * factor)
    return best


def look_from_row(row: Mapping[str, Any]) -> Look:
    """Return what the diseases in a scan's row look like."""
    return combine_looks(
        Ailment(DISEASES[one["name"]], one["drawn"], one["state"], one["size_ml"]).look
        for one in row.get("diseases", ())
    )
