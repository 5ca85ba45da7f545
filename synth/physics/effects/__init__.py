"""The registry of effects: what a recipe may list under ``[imaging.effects]``. A new one is a file and a line here.

They act in this order, whatever the order of the recipe: fields, slices, coils and motion, then lines of k-space.
"""

from __future__ import annotations

from synth.physics.effects.base import Effect
from synth.physics.effects.blurring import BLURRING
from synth.physics.effects.coils import COILS
from synth.physics.effects.distortion import DISTORTION
from synth.physics.effects.lines import GHOSTS, GIBBS, PARTIAL_FOURIER, SPIKES, UNDERSAMPLING
from synth.physics.effects.motion import MOTION
from synth.physics.effects.slices import SLICES
from synth.physics.effects.transmit import TRANSMIT

EFFECTS: dict[str, Effect] = {
    "transmit": TRANSMIT,
    "blurring": BLURRING,
    "distortion": DISTORTION,
    "slices": SLICES,
    "coils": COILS,
    "motion": MOTION,
    "ghosts": GHOSTS,
    "spikes": SPIKES,
    "gibbs": GIBBS,
    "partial_fourier": PARTIAL_FOURIER,
    "undersampling": UNDERSAMPLING,
}
