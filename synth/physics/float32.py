"""Exponential, logarithm and cosine in float32 that compilers put into vectors: polynomials, no calls, no branches.

The range is reduced by the bits of the number (Muller, Elementary Functions, 3rd ed. 2016, chapter 11); coefficients
are least-squares fits, weighted until the largest error is least. Errors are below 3e-7, relative for the logarithm,
absolute for the cosine; the relative one of the exponential is below 3e-7 + 1e-7 |x|.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import float32, int32, njit
from numba.core import types
from numba.extending import intrinsic

_MOST = 87.0  # e to more would overflow
_ROUNDER = 12582912.0  # 1.5 * 2**23: added and taken off again, it rounds to the nearest integer


def _take_bits(typing: Any, bits: Any) -> Any:
    """Return the float32 that has these bits (int32)."""
    return types.float32(types.int32), lambda _, builder, __, given: builder.bitcast(given[0], ir.FloatType())


def _give_bits(typing: Any, value: Any) -> Any:
    """Return the bits of a float32, as int32."""
    return types.int32(types.float32), lambda _, builder, __, given: builder.bitcast(given[0], ir.IntType(32))


_float_of: Any = intrinsic(_take_bits)
_bits_of: Any = intrinsic(_give_bits)


@njit(inline="always")
def exponential(x):  # type: ignore[no-untyped-def]
    """Return e to the power ``x``, which is cut at 87 from zero."""
    turns = min(max(x, float32(-_MOST)), float32(_MOST)) * float32(1.4426950408889634)
    whole = (turns + float32(_ROUNDER)) - float32(_ROUNDER)
    f = turns - whole
    power = float32(1.3276460597947404e-3)
    power = power * f + float32(9.675541243487296e-3)
    power = power * f + float32(5.550713308745376e-2)
    power = power * f + float32(2.4022119726104701e-1)
    power = power * f + float32(6.931469670431811e-1)
    power = power * f + float32(1.000000071653986)
    return power * _float_of(int32((int32(whole) + int32(127)) << int32(23)))


@njit(inline="always")
def logarithm(x):  # type: ignore[no-untyped-def]
    """Return the natural logarithm of ``x``, which is positive and not denormal."""
    bits = int32(_bits_of(x) - int32(0x3F3504F3))  # of the root of a half: the rest lies around 1
    exponent = int32(bits >> int32(23))
    s = _float_of(int32(int32(bits & int32(0x7FFFFF)) + int32(0x3F3504F3))) - float32(1.0)
    tail = float32(8.734637957891374e-2)
    tail = tail * s + float32(-1.4307435745344219e-1)
    tail = tail * s + float32(1.491800721082407e-1)
    tail = tail * s + float32(-1.6570521293984458e-1)
    tail = tail * s + float32(1.9962070255689435e-1)
    tail = tail * s + float32(-2.5001754719201075e-1)
    tail = tail * s + float32(3.3333950259390593e-1)
    tail = tail * s + float32(-4.9999991610285055e-1)
    return float32(exponent) * float32(0.6931471805599453) + (s + s * s * tail)


@njit(inline="always")
def cosine_of_word(word):  # type: ignore[no-untyped-def]
    """Return the cosine of the angle ``word`` (uint32) / 2**32 turns."""
    turns = abs(float32(int32(word)) * float32(2**-32))  # half a turn at most: cosines are even
    s = float32(0.25) - turns
    z = s * s
    sine = float32(39.536704995818916)
    sine = sine * z + float32(-76.54978214321876)
    sine = sine * z + float32(81.60100406621778)
    sine = sine * z + float32(-41.34165503129412)
    sine = sine * z + float32(6.283185160088905)
    return s * sine
