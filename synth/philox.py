"""Philox4x32-10 inside numba kernels: the counter-based generator of every stream, four 32-bit words a block.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from numba import njit, uint32, uint64


@njit(inline="always")
def philox_block(c0: int, c1: int, c2: int, c3: int, k0: int, k1: int) -> tuple[int, int, int, int]:
    """Return the four words of the counter (c0, c1, c2, c3) under the key (k0, k1), each taken modulo 2**32."""
    x0, x1, x2, x3 = uint32(c0), uint32(c1), uint32(c2), uint32(c3)
    key0, key1 = uint32(k0), uint32(k1)
    for _ in range(10):
        p0 = uint64(x0) * uint64(0xD2511F53)
        p1 = uint64(x2) * uint64(0xCD9E8D57)
        x0, x1, x2, x3 = (
            uint32(uint32(p1 >> uint64(32)) ^ x1 ^ key0),
            uint32(p1),
            uint32(uint32(p0 >> uint64(32)) ^ x3 ^ key1),
            uint32(p0),
        )
        key0 = uint32(key0 + uint32(0x9E3779B9))
        key1 = uint32(key1 + uint32(0xBB67AE85))
    return x0, x1, x2, x3  # type: ignore[return-value]  # uint32, which mypy does not take for int
