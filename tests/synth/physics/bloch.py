"""A Bloch simulation that shares nothing with the closed forms but their assumptions.

Every step is an affine map of the magnetisation (x, y, z), equilibrium 1; a cycle is played until nothing changes.
Ensembles hold one magnetisation for each dephasing that a crusher gives, and are summed at the end.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Affine = tuple[NDArray[np.float64], NDArray[np.float64]]  # M -> A M + b
SPOIL: Affine = (np.diag([0.0, 0.0, 1.0]), np.zeros(3))


def rotate(axis: str, degrees: float) -> Affine:
    angle = math.radians(degrees)
    c, s = math.cos(angle), math.sin(angle)
    turn = {
        "x": [[1, 0, 0], [0, c, -s], [0, s, c]],
        "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    }
    return np.array(turn[axis], float), np.zeros(3)


def wait(ms: float, t1_ms: float, t2_ms: float, hz: float = 0.0) -> Affine:
    e1, e2, turn = math.exp(-ms / t1_ms), math.exp(-ms / t2_ms), 2 * math.pi * hz * ms / 1000
    c, s = e2 * math.cos(turn), e2 * math.sin(turn)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, e1]]), np.array([0, 0, 1 - e1])


def chain(*steps: Affine) -> Affine:
    matrix, vector = np.eye(3), np.zeros(3)
    for a, b in steps:
        matrix, vector = a @ matrix, a @ vector + b
    return matrix, vector


def steady_state(cycle: Affine) -> NDArray[np.float64]:
    """Play the cycle until nothing changes."""
    state = np.array([0.0, 0.0, 1.0])
    for _ in range(200_000):
        after = cycle[0] @ state + cycle[1]
        if np.abs(after - state).max() < 1e-15:
            return after
        state = after
    raise AssertionError("no steady state")


def echo(before: list[Affine], after: list[Affine]) -> float:
    """Return the transverse magnetisation at the end of ``before``, in the steady state of before + after."""
    state = steady_state(chain(*before, *after))
    matrix, vector = chain(*before)
    seen = matrix @ state + vector
    return float(math.hypot(seen[0], seen[1]))


def echo_train(
    t1_ms: float, t2_ms: float, tr_ms: float, spacing_ms: float, echoes: int, refocus_deg: float
) -> NDArray[np.float64]:
    """Return the echoes of a CPMG train in its steady state, from isochromats turned by crushers.

    As many isochromats as there are dephasing orders and more: their sum is then exact.
    """
    count = 4 * echoes + 8
    crush = np.stack([rotate("z", 360 * n / count)[0] for n in range(count)])
    half, pulse = wait(spacing_ms / 2, t1_ms, t2_ms), rotate("x", refocus_deg)[0]
    excite = rotate("y", 90)[0]
    rest = wait(tr_ms - echoes * spacing_ms, t1_ms, t2_ms)
    mz, seen = 1.0, np.zeros(echoes)
    for _ in range(200):
        state = np.tile(excite @ np.array([0.0, 0.0, mz]), (count, 1))
        for number in range(echoes):
            for turn in (pulse, None):
                state = state @ half[0].T + half[1]
                state = np.einsum("nij,nj->ni", crush, state)
                state = state if turn is None else state @ turn.T
            mean = state.mean(axis=0)
            seen[number] = math.hypot(mean[0], mean[1])
        after = rest[0][2, 2] * state[:, 2].mean() + rest[1][2]  # nothing transverse is left at the next pulse
        if abs(after - mz) < 1e-12:
            return seen
        mz = float(after)
    raise AssertionError("no steady state")


def diffuse(winding: float, delta_ms: float, separation_ms: float, diffusivity_um2_ms: float) -> tuple[float, float]:
    """Return (b in s/mm2, attenuation) of a pulsed-gradient spin echo, by stepping the Bloch-Torrey equation.

    A periodic line on which a gradient pulse of ``delta_ms`` winds ``winding`` radians per um, one turn of the whole
    line each step; the second pulse starts ``separation_ms`` after the first, behind the refocusing pulse. Diffusion is
    stepped by its own propagator, winding by phases; b is only noted.
    """
    dt, points = 0.05, 2048
    steps, start = round(delta_ms / dt), round(separation_ms / dt)
    length = 2 * np.pi * steps / winding
    waves = 2 * np.pi * np.fft.fftfreq(points, length / points)
    spread = np.exp(-diffusivity_um2_ms * waves**2 * dt)
    turn = np.exp(2j * np.pi * np.arange(points) / points)
    field, b, k = np.ones(points, complex), 0.0, 0.0
    for step in range(start + steps):
        if step == start:
            field, k = np.conj(field), -k
        if step < steps or step >= start:
            field, k = field * turn, k + winding / steps
        b += k**2 * dt
        field = np.fft.ifft(np.fft.fft(field) * spread)
    return b * 1000, float(abs(field.mean()))
