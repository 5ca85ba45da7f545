"""Tables from the numbers of a label map to the tissues that a head is rendered from.

FreeSurfer's numbers are those of FreeSurferColorLUT.txt (Fischl et al., Neuron 2002;33:341), which SynthSeg uses, too
(Billot et al., Medical Image Analysis 2023;86:102789). BrainWeb's are those of its discrete model (Collins et al.,
IEEE TMI 1998;17:463).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from synth.errors import SpecError, suggest_nearest

TISSUES = ("background", "csf", "grey_matter", "white_matter", "ventricles")  # by their label in the tissue map
LARGEST = 65535
Table = Mapping[str, Sequence[int]]

_FREESURFER: dict[str, tuple[int, ...]] = {
    # the outside of the brain, the optic nerves' surroundings, soft tissue and bone around it
    "background": (0, 1, 6, 40, 45, 165, 258, 259),
    "csf": (15, 24, 30, 62, 122, 257),  # also the fourth ventricle, and enlarged spaces around vessels
    "grey_matter": (
        3, 8, 9, 10, 11, 12, 13, 17, 18, 19, 20, 26, 27, 29, 42, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 58, 59, 61, 80,
        81, 82, 96, 97, 136, 137, *range(1000, 1036), *range(2000, 2036), *range(11100, 11176), *range(12100, 12176),
    ),
    "white_matter": (
        2, 7, 16, 25, 28, 41, 46, 57, 60, 77, 78, 79, 85, 86, 170, 171, 172, 173, 174, 175, 192, *range(250, 256),
        *range(3000, 3036), *range(4000, 4036), 5001, 5002,
    ),
    "ventricles": (4, 5, 14, 31, 43, 44, 63, 72, 213, 221),  # lateral and third, with their plexus
}  # fmt: skip
_BRAINWEB: dict[str, tuple[int, ...]] = {
    "background": (0, 4, 5, 6, 7, 9),  # fat, muscle, skin, skull, connective tissue
    "csf": (1,),
    "grey_matter": (2, 8),  # with glial matter, which has grey matter's signal
    "white_matter": (3, 10),  # with multiple-sclerosis lesions
    "ventricles": (),
}
TABLES: dict[str, Table] = {
    "freesurfer": _FREESURFER,
    "synthseg": _FREESURFER,
    "brainweb": _BRAINWEB,
    "cohortium": {name: (value,) for value, name in enumerate(TISSUES)},  # the tissue map of the MRI engine
}


def find_table(asked: str | Table) -> Table:
    """Return the table of a shipped name, or ``asked`` itself; raises SpecError if it is none.

    Without ``background`` only 0 is background.
    """
    if isinstance(asked, str):
        if asked not in TABLES:
            raise SpecError(
                f"imaging.anatomy.table: '{asked}' is unknown; choose from {', '.join(TABLES)}, or write your own: "
                f"tissue = [numbers], with the tissues {', '.join(TISSUES)}.{suggest_nearest(asked, TABLES)}"
            )
        return TABLES[asked]
    for name in asked:
        if name not in TISSUES:
            raise SpecError(
                f"imaging.anatomy.table: tissue '{name}' is unknown; choose from {', '.join(TISSUES)}."
                f"{suggest_nearest(name, TISSUES)}"
            )
    for needed in ("grey_matter", "white_matter"):
        if not asked.get(needed):
            raise SpecError(f"imaging.anatomy.table: '{needed}' has no number; list at least one.")
    table = {"background": (0,), **asked}
    numbers = [number for found in table.values() for number in found]
    wrong = [number for number in numbers if not 0 <= number <= LARGEST]
    if wrong:
        raise SpecError(f"imaging.anatomy.table: {wrong[0]} is no label; use whole numbers from 0 to {LARGEST}.")
    twice = sorted({number for number in numbers if numbers.count(number) > 1})
    if twice:
        raise SpecError(f"imaging.anatomy.table: label {twice[0]} is listed more than once; give it one tissue.")
    return table
