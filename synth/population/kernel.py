"""The kernel that draws subjects, any slice of them without the rest.

Every random word is Philox of (subject, visit, attempt, node), so a twin meets the same words as its original.

A subject that must lie in a cell (see sampler) is drawn by rejection: constrained nodes are drawn within the cell, and
the attempt is kept with the probability that they would have been, over the largest one possible. That is exact.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from synth.philox import philox_block
from synth.population.chain import MAX_CODES, SHARES

PLAIN, DELTA, LABEL, VISITS = range(4)  # ROLES of the chain
ACCEPT_BLOCK = 1 << 20  # counter of the words that decide about attempts
SCALE = 2.0**-32


@njit(inline="always")
def _find_leaf(state, root, feature, code, equal, left, right):  # type: ignore[no-untyped-def]
    """Return the leaf of a tree that a state falls into."""
    place = root
    while feature[place] >= 0:
        value = state[feature[place]]
        goes_left = value == code[place] if equal[place] else value <= code[place]
        place = left[place] if goes_left else right[place]
    return place


@njit(inline="always")
def _pick(probability, start, size, u):  # type: ignore[no-untyped-def]
    """Return the code at quantile ``u`` of the ``size`` probabilities from ``start`` on."""
    gathered = 0.0
    for code in range(size):
        gathered += probability[start + code]
        if u < gathered:
            return code
    for code in range(size - 1, -1, -1):  # u above the sum by rounding
        if probability[start + code] > 0:
            return code
    return size - 1


@njit(inline="always")
def _value_in(low, high, whole, u):  # type: ignore[no-untyped-def]
    """Return a value between ``low`` and ``high``, even; whole numbers both included."""
    if high <= low:
        return low
    if whole:
        return low + np.floor(u * (high - low + 1))
    return low + u * (high - low)


@njit(inline="always")
def _code_of(value, intervals, start, codes):  # type: ignore[no-untyped-def]
    """Return the code of the interval that ``value`` falls into."""
    low, high = 0, codes - 1
    while low < high:
        middle = (low + high + 1) >> 1
        if intervals[start + middle, 0] <= value:
            low = middle
        else:
            high = middle - 1
    return low


@njit(cache=True, nogil=True)
def draw_first(  # type: ignore[no-untyped-def]
    subjects, key0, key1, model, limits, levels, forced, attempts, most, states, values, visits
):
    """Draw the first visit of ``subjects``; return the place of the first one that cannot be drawn, or -1.

    ``limits`` = (node -> constraint or -1; constraint, level -> weight of each code; lowest and highest value; largest
    mass of any leaf). ``levels``: (subjects, constraints). ``forced``: (subjects, nodes) codes of twins, -1 for none,
    or shape (0, 0); then ``attempts`` is given, else it is filled. ``most`` attempts are made.
    Fills ``states`` (subjects, slots), ``values`` (subjects, numbers) and ``visits``.
    """
    nodes, feature, code_, equal, left, right, leaf, probability, intervals, _, _ = model
    constraint_of, weight, lowest, highest, largest = limits
    drawn = np.empty(MAX_CODES, np.float64)
    twins = forced.shape[0] > 0
    for i in range(subjects.size):
        s0, s1 = subjects[i] & 0xFFFFFFFF, (subjects[i] >> 32) & 0xFFFF
        state, number = states[i], values[i]
        attempt = attempts[i] if twins else 0
        kept = False
        while not kept and attempt < most:
            kept = True
            visits[i] = 1
            for n in range(nodes.shape[0]):
                if nodes[n, 1] == 0:
                    continue
                role, slot, size = nodes[n, 0], nodes[n, 2], nodes[n, 3]
                w0, w1, w2, w3 = philox_block(s0, s1, attempt, n >> 1, key0, key1)
                word, spare = (w0, w1) if n & 1 == 0 else (w2, w3)
                u, v = (word + 0.5) * SCALE, (spare + 0.5) * SCALE
                c = constraint_of[n]
                level = levels[i, c] if c >= 0 else 0
                lo, hi = -np.inf, np.inf
                start = leaf[_find_leaf(state, nodes[n, 4], feature, code_, equal, left, right)]
                if c < 0:
                    k = _pick(probability, start, size, u)
                else:
                    mass = 0.0
                    for code in range(size):
                        drawn[code] = probability[start + code] * weight[c, level, code]
                        mass += drawn[code]
                    a0, _, _, _ = philox_block(s0, s1, attempt, ACCEPT_BLOCK + n, key0, key1)
                    if not twins and (a0 + 0.5) * SCALE * largest[c, level] > mass:
                        kept = False
                        break
                    if mass > 0:
                        k = _pick(drawn, 0, size, u * mass)
                        lo, hi = lowest[c, level], highest[c, level]
                    else:  # a twin may leave the cell
                        k = _pick(probability, start, size, u)
                if twins and forced[i, n] >= 0:
                    k = forced[i, n]
                if role == VISITS:
                    first = nodes[n, 6]
                    span = _value_in(max(intervals[first + k, 0], lo), min(intervals[first + k, 1], hi), True, v)
                    visits[i] = np.int32(span)
                elif role == PLAIN and nodes[n, 6] >= 0 and k < nodes[n, 7]:
                    first = nodes[n, 6] + k
                    low, high = max(intervals[first, 0], lo), min(intervals[first, 1], hi)
                    number[nodes[n, 5]] = _value_in(low, high, nodes[n, 8], v)
                elif role == PLAIN and nodes[n, 5] >= 0:
                    number[nodes[n, 5]] = np.nan
                state[slot] = k
            if not kept:
                attempt += 1
        if not kept:
            return i
        attempts[i] = attempt
    return -1


@njit(cache=True, nogil=True)
def draw_later(  # type: ignore[no-untyped-def]
    subjects, key0, key1, model, clocks, place_slot, starts, states, values
):
    """Draw every later visit; ``states`` and ``values`` hold the first visit of subject ``i`` in row ``starts[i]``.

    ``clocks``: for each delta node (node, slot of the clock, first interval, codes, slot of its growth). ``starts`` has
    one entry more than there are subjects.
    """
    nodes, feature, code_, equal, left, right, leaf, probability, intervals, previous, seen = model
    for i in range(subjects.size):
        s0, s1 = subjects[i] & 0xFFFFFFFF, (subjects[i] >> 32) & 0xFFFF
        for row in range(starts[i] + 1, starts[i + 1]):
            visit = row - starts[i]
            state, number = states[row], values[row]
            state[:] = states[row - 1]
            number[:] = values[row - 1]
            for p in range(previous.shape[0]):
                state[previous[p, 1]] = states[row - 1, previous[p, 0]]
            for p in range(seen.shape[0]):
                count = min(np.int64(state[seen[p, 1]]) + states[row - 1, seen[p, 0]], 255)
                state[seen[p, 1]] = count
                state[seen[p, 2]] = 0 if count == 0 else 1 + min(count * SHARES // min(visit, 255), SHARES - 1)
            state[place_slot] = min(visit, 255)
            for clock in range(clocks.shape[0]):
                n = clocks[clock, 0]
                grown = number[nodes[n, 5]] - values[starts[i], nodes[n, 5]]
                state[clocks[clock, 4]] = _code_of(grown, intervals, nodes[n, 6], nodes[n, 7])
            clock = 0
            for n in range(nodes.shape[0]):
                if nodes[n, 1] == 1:
                    continue
                role, slot, size = nodes[n, 0], nodes[n, 2], nodes[n, 3]
                w0, w1, w2, w3 = philox_block(s0, s1 | (visit << 16), 0, n >> 1, key0, key1)
                word, spare = (w0, w1) if n & 1 == 0 else (w2, w3)
                u, v = (word + 0.5) * SCALE, (spare + 0.5) * SCALE
                start = leaf[_find_leaf(state, nodes[n, 4], feature, code_, equal, left, right)]
                k = _pick(probability, start, size, u)
                state[slot] = k
                if role == DELTA:
                    first = nodes[n, 6] + k
                    since = _value_in(intervals[first, 0], intervals[first, 1], nodes[n, 8], v)
                    begin, codes = clocks[clock, 2], clocks[clock, 3]
                    now = min(number[nodes[n, 5]] + since, intervals[begin + codes - 1, 1])
                    number[nodes[n, 5]] = now
                    state[clocks[clock, 1]] = _code_of(now, intervals, begin, codes)
                    clock += 1
                elif role == PLAIN and nodes[n, 6] >= 0 and k < nodes[n, 7]:
                    first = nodes[n, 6] + k
                    number[nodes[n, 5]] = _value_in(intervals[first, 0], intervals[first, 1], nodes[n, 8], v)
                elif role == PLAIN and nodes[n, 5] >= 0:
                    number[nodes[n, 5]] = np.nan
