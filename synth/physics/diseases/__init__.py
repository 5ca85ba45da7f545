"""The registry of diseases. A new one is a file and a line here (docs/mri-diseases.md)."""

from __future__ import annotations

from synth.physics.diseases.alzheimer import AlzheimerDisease
from synth.physics.diseases.base import Disease
from synth.physics.diseases.glioma import Glioma
from synth.physics.diseases.meningioma import Meningioma
from synth.physics.diseases.multiple_sclerosis import MultipleSclerosis
from synth.physics.diseases.stroke import IschaemicStroke
from synth.physics.diseases.white_matter import WhiteMatterHyperintensities

_ALL: tuple[Disease, ...] = (
    MultipleSclerosis(),
    WhiteMatterHyperintensities(),
    AlzheimerDisease(),
    Glioma(),
    Meningioma(),
    IschaemicStroke(),
)
DISEASES: dict[str, Disease] = {disease.name: disease for disease in _ALL}
