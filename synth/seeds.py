"""Counter-based randomness: every stream is named, none depends on order, batch or worker.

A stream is a Philox generator whose 128-bit key is the BLAKE2b hash of (spec seed, subject index, visit, stage).
Two stages never share a stream (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
"""

from __future__ import annotations

import hashlib

import numpy as np

COHORT_LEVEL = -1  # the "subject" of draws that belong to the whole cohort


def stream_key(seed: int, subject_index: int, visit: int, stage: str) -> int:
    """Return the 128-bit Philox key of one stream.

    ``visit`` is the visit number, or -1 for draws shared by all visits of a subject (its anatomy, its scanner).
    """
    name = f"{seed}/{subject_index}/{visit}/{stage}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=16).digest(), "little")


def key_words(key: int) -> tuple[int, int]:
    """Return the low and high 32-bit words that the per-voxel Philox4x32 noise generator takes as its key."""
    return key & 0xFFFFFFFF, (key >> 32) & 0xFFFFFFFF


def stream_from_key(key: int) -> np.random.Generator:
    """Return a fresh generator at the start of the stream ``key``."""
    return np.random.Generator(np.random.Philox(key=key))


def stream(seed: int, subject_index: int, visit: int, stage: str) -> np.random.Generator:
    """Return the generator of one named stream, at its start."""
    return stream_from_key(stream_key(seed, subject_index, visit, stage))
