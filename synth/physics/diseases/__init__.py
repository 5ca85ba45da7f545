"""The registry of diseases. A new one is a file and a line here (docs/mri-diseases.md)."""

from __future__ import annotations

from synth.physics.diseases.base import Disease
from synth.physics.diseases.multiple_sclerosis import MultipleSclerosis

DISEASES: dict[str, Disease] = {disease.name: disease for disease in (MultipleSclerosis(),)}
