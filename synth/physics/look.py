"""What a disease does to a head at one visit, ready for rendering."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from synth.physics import deformation
from synth.physics.lesions import Lesions, no_lesions
from synth.physics.overlay import Overlay

Fields = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Look:
    """Lesions and overlays in template voxels, and fields on the nodes of synth.physics.deformation.

    ``fields`` is (x, y, z, 4), or None for a disease that moves nothing: from where a point lies to where its tissue is
    taken from, in millimetres, and log-odds of fluid that are added there. Lesions and overlays stay where they are.
    """

    lesions: Lesions = field(default_factory=no_lesions)
    overlays: tuple[Overlay, ...] = ()
    fields: Fields | None = None

    @property
    def weighs(self) -> bool:
        """Whether it changes the volumes of tissues, which must then be solved with it."""
        parts = [part for overlay in self.overlays for part in overlay.parts]
        return self.fields is not None or any(part.occupies for part in parts)


def combine_looks(looks: Iterable[Look]) -> Look:
    """Return several looks as one: displacements follow each other, log-odds add up.

    Of ellipsoidal lesions only one set can be looked up, so only one of ``looks`` may have them.
    """
    lesions, fields = no_lesions(), None
    overlays: list[Overlay] = []
    for look in looks:
        lesions = look.lesions if len(look.lesions.table) else lesions
        overlays += look.overlays
        if fields is None or look.fields is None:
            fields = look.fields if fields is None else fields
        else:
            moved = deformation.compose_fields(look.fields[..., :3], fields[..., :3])
            fields = np.concatenate([moved, fields[..., 3:] + look.fields[..., 3:]], axis=-1)
    return Look(lesions, tuple(overlays), fields)


def fields_at(fields: Fields, position_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``fields`` at MNI positions (..., 3), trilinear, shape (..., 4)."""
    moved = deformation.interpolate_field(np.ascontiguousarray(fields[..., :3]), position_mm)
    gain = deformation.interpolate_field(np.repeat(fields[..., 3:], 3, axis=-1), position_mm)
    return np.concatenate([moved, gain[..., :1]], axis=-1)
