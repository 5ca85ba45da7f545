"""Closed forms against a Bloch simulation that shares nothing with them but the assumptions, and against tables."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from synth.errors import PermanentError
from synth.physics.relaxation import RELAXATION, T1_SPREAD, T2_SPREAD, TISSUES, Tissue, draw_relaxation
from synth.physics.signal import (
    SEQUENCES,
    null_inversion_time_ms,
    signal_inversion_recovery,
    signal_spin_echo,
    signal_spoiled_gradient_echo,
)
from synth.seeds import stream

RELATIVE = 1e-6
OFF_RESONANCE_HZ = (-11.0, 0.0, 3.0, 8.0)  # a spin echo must refocus all of these

TISSUE_GRID = [
    Tissue(t1, t2, t2star, pd)
    for (t1, t2, t2star, pd) in [
        (350, 70, 58, 1.0),
        (500, 70, 61, 0.77),
        (833, 83, 69, 0.86),
        (1558, 99, 60, 0.9),
        (4163, 1650, 57, 1.0),
    ]
]

# --------------------------------------------------------------------------- Bloch simulation: affine maps of (x, y, z)

Affine = tuple[NDArray[np.float64], NDArray[np.float64]]  # M -> A M + b, equilibrium 1


def rotate(axis: str, degrees: float) -> Affine:
    angle = math.radians(degrees)
    c, s = math.cos(angle), math.sin(angle)
    turn = {"x": [[1, 0, 0], [0, c, -s], [0, s, c]], "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]]}[axis]
    return np.array(turn, float), np.zeros(3)


def wait(ms: float, t1_ms: float, t2_ms: float, hz: float = 0.0) -> Affine:
    e1, e2, turn = math.exp(-ms / t1_ms), math.exp(-ms / t2_ms), 2 * math.pi * hz * ms / 1000
    c, s = e2 * math.cos(turn), e2 * math.sin(turn)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, e1]]), np.array([0, 0, 1 - e1])


SPOIL: Affine = (np.diag([0.0, 0.0, 1.0]), np.zeros(3))


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


# --------------------------------------------------------------------------------------------------------- comparisons


@pytest.mark.parametrize("tissue", TISSUE_GRID)
def test_spoiled_gradient_echo_is_the_bloch_steady_state(tissue: Tissue) -> None:
    for tr, te, flip in itertools.product((8.0, 18.0, 40.0, 400.0), (2.0, 5.0), (3.0, 15.0, 30.0, 90.0, 140.0)):
        simulated = tissue.proton_density * echo(
            [SPOIL, rotate("x", flip), wait(te, tissue.t1_ms, tissue.t2star_ms)],
            [wait(tr - te, tissue.t1_ms, tissue.t2star_ms)],
        )
        assert signal_spoiled_gradient_echo(tissue, tr, te, flip) == pytest.approx(simulated, rel=RELATIVE)


@pytest.mark.parametrize("tissue", TISSUE_GRID)
def test_spin_echo_is_the_bloch_steady_state(tissue: Tissue) -> None:
    for tr, te, hz in itertools.product((500.0, 2500.0, 6000.0), (12.0, 80.0, 120.0), OFF_RESONANCE_HZ):
        half = wait(te / 2, tissue.t1_ms, tissue.t2_ms, hz)
        simulated = tissue.proton_density * echo(
            [SPOIL, rotate("x", 90), half, rotate("y", 180), half], [wait(tr - te, tissue.t1_ms, tissue.t2_ms, hz)]
        )
        assert signal_spin_echo(tissue, tr, te) == pytest.approx(simulated, rel=RELATIVE)


@pytest.mark.parametrize("tissue", TISSUE_GRID)
def test_inversion_recovery_is_the_bloch_steady_state(tissue: Tissue) -> None:
    for tr, te, ti, hz in itertools.product((4000.0, 9000.0, 11000.0), (15.0, 120.0), (150.0, 900.0, 2600.0), (0, 8)):
        half = wait(te / 2, tissue.t1_ms, tissue.t2_ms, hz)
        simulated = tissue.proton_density * echo(
            [
                SPOIL,
                rotate("x", 180),
                wait(ti, tissue.t1_ms, tissue.t2_ms, hz),
                SPOIL,
                rotate("x", 90),
                half,
                rotate("y", 180),
                half,
            ],
            [wait(tr - ti - te, tissue.t1_ms, tissue.t2_ms, hz)],
        )
        assert signal_inversion_recovery(tissue, tr, te, ti) == pytest.approx(simulated, rel=RELATIVE, abs=1e-12)


@pytest.mark.parametrize("tissue", TISSUE_GRID)
@pytest.mark.parametrize("tr_ms", [10.0, 18.0, 60.0])
def test_the_ernst_angle_gives_the_most_signal(tissue: Tissue, tr_ms: float) -> None:
    ernst = math.degrees(math.acos(math.exp(-tr_ms / tissue.t1_ms)))
    angles = np.linspace(0.5, 120, 4000)
    signals = [signal_spoiled_gradient_echo(tissue, tr_ms, 4.0, float(angle)) for angle in angles]
    assert angles[int(np.argmax(signals))] == pytest.approx(ernst, abs=0.03)
    assert signal_spoiled_gradient_echo(tissue, tr_ms, 4.0, ernst) >= max(signals)


@pytest.mark.parametrize(("t1_ms", "tr_ms", "te_ms"), [(2569, 9000, 100), (4163, 11000, 125), (300, 2000, 20)])
def test_the_null_inversion_time_gives_no_signal(t1_ms: float, tr_ms: float, te_ms: float) -> None:
    fluid = Tissue(t1_ms, 1000, 500, 1.0)
    ti_ms = null_inversion_time_ms(t1_ms, tr_ms, te_ms)
    assert 0 < ti_ms < t1_ms * math.log(2)  # repetition leaves less to recover than the ln 2 of a single shot
    assert signal_inversion_recovery(fluid, tr_ms, te_ms, ti_ms) < 1e-12
    assert signal_inversion_recovery(fluid, tr_ms, te_ms, ti_ms * 1.01) > 1e-3


# -------------------------------------------------------------------------------------------------- tables and drawing

# PHYSICS.md, "MRI relaxation": T1, T2 in ms. BrainWeb at 1.5 T also gives T2* and proton density.
BRAINWEB_1T5 = {
    "wm": (500, 70, 61, 0.77),
    "gm": (833, 83, 69, 0.86),
    "csf": (2569, 329, 58, 1.0),
    "lesion": (752, 237, 204, 0.76),
}
STANISZ_3T = {"wm": ((1084, 45), (69, 3)), "gm": ((1820, 114), (99, 7))}


def test_relaxation_at_1t5_is_brainweb() -> None:
    assert {
        name: (t.t1_ms, t.t2_ms, t.t2star_ms, t.proton_density) for name, t in RELAXATION[1.5].items()
    } == BRAINWEB_1T5


def test_relaxation_at_3t_is_stanisz_with_the_fluid_of_mrzero_and_the_lesion_ratio_of_brainweb() -> None:
    table = RELAXATION[3.0]
    for name, (t1, t2) in STANISZ_3T.items():
        assert (table[name].t1_ms, table[name].t2_ms) == (t1[0], t2[0])
    assert (table["csf"].t1_ms, table["csf"].t2_ms) == (4163, 1650)
    assert table["lesion"].t1_ms / table["wm"].t1_ms == pytest.approx(752 / 500)
    assert table["lesion"].t2_ms / table["wm"].t2_ms == pytest.approx(237 / 70)
    for name, tissue in table.items():
        assert tissue.t2star_ms < tissue.t2_ms
        assert tissue.proton_density == BRAINWEB_1T5[name][3]


def test_spread_between_people_is_that_of_stanisz() -> None:
    for name, (t1, t2) in STANISZ_3T.items():
        assert T1_SPREAD[name] == pytest.approx(t1[1] / t1[0], abs=1e-3)
        assert T2_SPREAD[name] == pytest.approx(t2[1] / t2[0], abs=1e-3)


@pytest.mark.parametrize("tesla", [1.5, 3.0])
def test_drawn_relaxation_has_the_mean_and_spread_of_its_table(tesla: float) -> None:
    drawn = [draw_relaxation(stream(1, n, -1, "test"), tesla) for n in range(3000)]
    for name in TISSUES:
        mean = RELAXATION[tesla][name]
        t1 = np.array([d[name].t1_ms for d in drawn]) / mean.t1_ms
        t2 = np.array([d[name].t2_ms for d in drawn]) / mean.t2_ms
        t2star = np.array([d[name].t2star_ms for d in drawn]) / mean.t2star_ms
        np.testing.assert_allclose([t1.mean(), t2.mean()], 1, atol=0.006)
        np.testing.assert_allclose([t1.std(), t2.std()], [T1_SPREAD[name], T2_SPREAD[name]], rtol=0.06)
        np.testing.assert_allclose(t2star, t2, rtol=1e-12)
        assert abs(t1 - 1).max() <= 2.5 * T1_SPREAD[name] + 1e-12
        assert abs(np.corrcoef(t1, t2)[0, 1]) < 0.08
    grey, white = (np.array([d[name].t2_ms for d in drawn]) for name in ("gm", "wm"))
    assert np.corrcoef(grey, white)[0, 1] == pytest.approx(0.81, abs=0.03)  # 0.9 shared, squared


def test_a_field_strength_without_values_is_refused() -> None:
    with pytest.raises(PermanentError, match=r"7\.0 T has no relaxation values; choose one of \[1\.5, 3\.0\]"):
        draw_relaxation(stream(1, 1, -1, "test"), 7.0)


@pytest.mark.parametrize("kind", sorted(SEQUENCES))
@pytest.mark.parametrize("tesla", [1.5, 3.0])
def test_every_drawn_protocol_gives_the_contrast_its_name_promises(kind: str, tesla: float) -> None:
    sequence = SEQUENCES[kind]
    for number in range(200):
        tissues = draw_relaxation(stream(2, number, -1, "tissues"), tesla)
        protocol = sequence.draw_protocol(stream(2, number, 0, kind), tissues["csf"].t1_ms, tesla)
        assert protocol["te_ms"] + protocol.get("ti_ms", 0) < protocol["tr_ms"]
        signal = {name: sequence.signal(tissue, protocol) for name, tissue in tissues.items()}
        assert all(0 <= value <= 1 for value in signal.values())
        if kind == "T1w":
            assert signal["csf"] < signal["gm"] < signal["wm"]
        elif kind == "T2w":
            assert max(signal["wm"], signal["gm"]) < signal["lesion"] < signal["csf"]
        else:
            assert signal["csf"] < 0.35 * signal["wm"]
            assert signal["lesion"] > signal["wm"]


@pytest.mark.parametrize(
    ("kind", "tesla", "least_share"),
    [("T2w", 1.5, 0.99), ("T2w", 3.0, 0.99), ("FLAIR", 3.0, 0.93), ("FLAIR", 1.5, 0.93)],
)
def test_grey_matter_is_brighter_than_white_for_most(kind: str, tesla: float, least_share: float) -> None:
    brighter = 0
    for number in range(500):
        tissues = draw_relaxation(stream(2, number, -1, "tissues"), tesla)
        protocol = SEQUENCES[kind].draw_protocol(stream(2, number, 0, kind), tissues["csf"].t1_ms, tesla)
        brighter += SEQUENCES[kind].signal(tissues["gm"], protocol) > SEQUENCES[kind].signal(tissues["wm"], protocol)
    assert brighter / 500 >= least_share
