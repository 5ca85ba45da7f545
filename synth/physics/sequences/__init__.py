"""The registry of pulse sequences: what a recipe may list as contrasts. A new one is a file and a line here."""

from __future__ import annotations

from synth.physics.sequences.base import Sequence
from synth.physics.sequences.diffusion import ADC, DWI
from synth.physics.sequences.fast_spin_echo import PDW, T2W_FSE
from synth.physics.sequences.gadolinium import T1W_GD
from synth.physics.sequences.inversion import FLAIR
from synth.physics.sequences.mprage import MPRAGE
from synth.physics.sequences.spin_echo import T2W
from synth.physics.sequences.spoiled import T1W, T2STARW

SEQUENCES: dict[str, Sequence] = {
    "T1w": T1W,
    "T2w": T2W,
    "FLAIR": FLAIR,
    "MPRAGE": MPRAGE,
    "T1w-Gd": T1W_GD,
    "T2w-FSE": T2W_FSE,
    "PDw": PDW,
    "T2starw": T2STARW,
    **DWI,
    "ADC": ADC,
}
