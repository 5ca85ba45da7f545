"""Which split a patient belongs to: a keyed hash of the patient alone, so that new patients move nobody."""

from __future__ import annotations

import hashlib

from synth.nouns import Split

DEFAULT_SHARES: dict[Split, float] = {"train": 0.7, "validation": 0.1, "holdout": 0.2}


def assign_split(seed: int, patient: str, shares: dict[Split, float] | None = None) -> Split:
    """Return the split of ``patient``: u in [0, 1) from BLAKE2b under the key ``seed``, cut at the cumulative shares.

    The same seed and patient give the same split in every reference. ``shares`` are positive; they need not add up
    to one.
    """
    shares = shares or DEFAULT_SHARES
    digest = hashlib.blake2b(patient.encode(), digest_size=8, key=f"split {seed}".encode()).digest()
    place = int.from_bytes(digest, "little") / 2**64 * sum(shares.values())
    names = list(shares)
    for name in names[:-1]:
        if place < shares[name]:
            return name
        place -= shares[name]
    return names[-1]


def assign_given(seed: int, patient: str, given: str | None, shares: dict[Split, float] | None = None) -> Split:
    """Return the split of ``patient`` where the source comes with splits of its own; those are kept."""
    shares = shares or DEFAULT_SHARES
    named: dict[str, Split] = {name: name for name in DEFAULT_SHARES}
    if given in named:
        return named[given]
    if given is None:
        return assign_split(seed, patient, shares)
    return assign_split(seed, patient, {name: share for name, share in shares.items() if name != "train"})
