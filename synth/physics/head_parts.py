"""Where the small things of a head are, in MNI millimetres: eyes, orbits, sinuses, airways, the upper spine.

Positions are approximate, read off the brain's template: the orbits lie below the frontal lobes, the sphenoid sinus in
front of the brain stem. Kinds are numbers that the kernel of synth.physics.head knows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

AIR, EYE, LENS, ORBIT, BLOCK, STRAND, NERVE, TURBINATE = range(8)


def list_ellipsoids(scale: float, face: float) -> NDArray[np.float32]:
    """Return the ellipsoids, float32 (n, 7): kind, middle and radii in template millimetres; the first one counts.

    ``scale`` is image over template millimetres: eyes have one size in everybody, whatever the size of the brain.
    """
    eye = 12.2 / scale
    rows: list[tuple[float, ...]] = [
        (AIR, 0, 22, -40, 13, 11, 9),  # sphenoid sinus
        (AIR, 0, 48, -36, 9, 20, 10),  # ethmoid cells
        (AIR, 0, 6, -92, 10, 9, 26),  # pharynx
        (TURBINATE, 0, 52, -62, 15 * face, 30, 18),  # nasal cavity
    ]
    for side in (-1, 1):
        rows += [
            (AIR, side * 11, 76, -6, 8, 4, 9),  # frontal sinus
            (AIR, side * 29, 48, -66, 12 * face, 15, 14),  # maxillary sinus
            (AIR, side * 60, -20, -46, 11, 2.6, 2.6),  # ear canal
            (AIR, side * 50, -34, -50, 7, 9, 10),  # mastoid cells
            (LENS, side * 33.5, 64 + 0.72 * eye, -36, 4.6 / scale, 2.2 / scale, 4.6 / scale),
            (EYE, side * 33, 64, -36, eye, eye, eye),
            (ORBIT, side * 30, 52, -36, 15.5, 25, 14.5),
            (BLOCK, side * 54, 40, -50, 7, 15, 5),  # zygoma
            (BLOCK, side * 46, 4, -86, 5, 15, 26),  # ramus of the mandible
            (BLOCK, side * 19, 22, -66, 4, 9, 15),  # pterygoid
            (BLOCK, side * 20, -40, -84, 9, 12, 8),  # atlas
            (BLOCK, side * 18, 62, -86, 16, 18, 7),  # maxilla
        ]
    rows.append((BLOCK, 0, -46, -118, 26, 24, 30))  # vertebrae
    return np.asarray(rows, np.float32)


def list_capsules(scale: float) -> NDArray[np.float32]:
    """Return the rods, float32 (n, 8): kind, both ends, and radius in template millimetres."""
    rows: list[tuple[float, ...]] = [(NERVE, 0, -45.4, -70, 0, -48, -130, 5.2 / scale)]
    for side in (-1, 1):
        rows.append((NERVE, side * 32, 50, -36, side * 11, 18, -28, 2.0 / scale))
        for across, up in ((9, 0), (-9, 0), (0, 9), (0, -9)):  # rectus muscles
            rows.append(
                (STRAND, side * 33 + across, 56, -36 + up, side * 17 + across / 4, 24, -31 + up / 4, 2.0 / scale)
            )
    return np.asarray(rows, np.float32)
