"""Closed forms against a Bloch simulation that shares nothing with them but the assumptions, and against tables."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from synth.errors import PermanentError
from synth.physics.relaxation import CUT, PRIORS, RELAXATION, TISSUES, Tissue, draw_relaxation
from synth.physics.sequences import SEQUENCES
from synth.physics.sequences.base import Draw
from synth.physics.sequences.inversion import null_inversion_time_ms, signal_inversion_recovery
from synth.physics.sequences.spin_echo import signal_spin_echo
from synth.physics.sequences.spoiled import signal_spoiled_gradient_echo
from synth.seeds import stream
from tests.synth.physics.bloch import SPOIL, echo, rotate, wait

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
# Abstracts of Wright 2008 (T1, MPRAGE) and Cox 2010 (T2, frontal cortex and white matter); O'Reilly 2022 for T1.
WRIGHT_7T = {"wm": ((1126, 97), 47), "gm": ((1939, 149), 47)}
OREILLY_LOW = {"wm": 275, "gm": 327}
SPREAD = {(p.field_strength_t, p.tissue, p.quantity): p.spread for p in PRIORS}


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
        assert SPREAD[3.0, name, "t1_ms"] == pytest.approx(t1[1] / t1[0], abs=1e-3)
        assert SPREAD[3.0, name, "t2_ms"] == pytest.approx(t2[1] / t2[0], abs=1e-3)


def test_relaxation_at_7t_and_0064t_is_that_of_its_sources() -> None:
    for name, ((t1, deviation), t2) in WRIGHT_7T.items():
        assert (RELAXATION[7.0][name].t1_ms, RELAXATION[7.0][name].t2_ms) == (t1, t2)
        assert SPREAD[7.0, name, "t1_ms"] == pytest.approx(deviation / t1, abs=1e-3)
    assert {name: RELAXATION[0.064][name].t1_ms for name in OREILLY_LOW} == OREILLY_LOW


def test_t2star_follows_from_a_field_in_proportion() -> None:
    """R2' = 1/T2* - 1/T2 is proportional to the field; at 7 T cortex is then near Cohen-Adad's 32.2 ms."""
    for name in ("gm", "wm", "csf"):
        rate = {
            tesla: 1 / RELAXATION[tesla][name].t2star_ms - 1 / RELAXATION[tesla][name].t2_ms for tesla in RELAXATION
        }
        assert rate[7.0] / rate[3.0] == pytest.approx(7 / 3)
        assert rate[0.064] / rate[1.5] == pytest.approx(0.064 / 1.5)
    assert RELAXATION[7.0]["gm"].t2star_ms == pytest.approx(32.2, rel=0.1)


def test_every_prior_has_a_source_and_an_interval_around_it() -> None:
    assert (
        len(PRIORS)
        == len(RELAXATION) * len(TISSUES) * 4
        == len({(p.field_strength_t, p.tissue, p.quantity) for p in PRIORS})
    )
    for prior in PRIORS:
        low, high = prior.interval
        assert 0 < low <= prior.mean <= high
        assert (low < high) == (prior.quantity != "proton_density")
        assert len(prior.source) > 10
        assert prior.mean == getattr(RELAXATION[prior.field_strength_t][prior.tissue], prior.quantity)


def test_t1_grows_with_the_field_in_tissue() -> None:
    """From 0.064 T through BrainWeb and Stanisz; Wright's T1 at 7 T are MPRAGE's, close to Stanisz's at 3 T."""
    for name in ("gm", "wm", "lesion"):
        values = [RELAXATION[tesla][name].t1_ms for tesla in sorted(RELAXATION)]
        assert values == sorted(values)


@pytest.mark.parametrize("tesla", sorted(RELAXATION))
def test_drawn_relaxation_has_the_mean_and_spread_of_its_table(tesla: float) -> None:
    drawn = [draw_relaxation(stream(1, n, -1, "test"), tesla) for n in range(1500)]
    for name in TISSUES:
        mean = RELAXATION[tesla][name]
        t1 = np.array([d[name].t1_ms for d in drawn]) / mean.t1_ms
        t2 = np.array([d[name].t2_ms for d in drawn]) / mean.t2_ms
        t2star = np.array([d[name].t2star_ms for d in drawn]) / mean.t2star_ms
        spread = SPREAD[tesla, name, "t1_ms"], SPREAD[tesla, name, "t2_ms"]
        np.testing.assert_allclose([t1.mean(), t2.mean()], 1, atol=0.009)
        np.testing.assert_allclose([t1.std(), t2.std()], spread, rtol=0.08)
        np.testing.assert_allclose(t2star, t2, rtol=1e-12)
        assert abs(t1 - 1).max() <= CUT * spread[0] + 1e-12
        assert abs(np.corrcoef(t1, t2)[0, 1]) < 0.1
    grey, white = (np.array([d[name].t2_ms for d in drawn]) for name in ("gm", "wm"))
    assert np.corrcoef(grey, white)[0, 1] == pytest.approx(0.81, abs=0.04)  # 0.9 shared, squared


def test_a_field_strength_without_values_is_refused() -> None:
    with pytest.raises(
        PermanentError, match=r"12\.0 T has no relaxation values; choose one of \[0\.064, 1\.5, 3\.0, 7\.0"
    ):
        draw_relaxation(stream(1, 1, -1, "test"), 12.0)


def drawn_signals(kind: str, tesla: float, count: int) -> Iterator[tuple[dict[str, float], dict[str, float]]]:
    sequence = SEQUENCES[kind]
    for number in range(count):
        tissues = draw_relaxation(stream(2, number, -1, "tissues"), tesla)
        draw = Draw(stream(2, number, 0, kind), stream(2, number, -1, kind), tissues, tesla)
        protocol = sequence.draw_protocol(draw)
        yield protocol, {name: sequence.signal(name, tissue, protocol) for name, tissue in tissues.items()}


PROMISES: dict[str, Callable[[dict[str, float]], bool]] = {
    "T1w": lambda s: s["csf"] < s["gm"] < s["wm"],
    "MPRAGE": lambda s: s["csf"] < s["gm"] < s["wm"] and s["lesion"] < s["wm"],
    "T1w-Gd": lambda s: s["csf"] < min(s["gm"], s["wm"], s["lesion"]),
    "T2w": lambda s: max(s["wm"], s["gm"]) < min(s["lesion"], s["csf"]),
    "T2w-FSE": lambda s: max(s["wm"], s["gm"]) < min(s["lesion"], s["csf"]),
    "PDw": lambda s: s["wm"] < s["gm"] and max(s.values()) < 2.2 * min(s.values()),
    "FLAIR": lambda s: s["csf"] < 0.35 * s["wm"] and s["lesion"] > s["wm"],
    "T2starw": lambda s: s["wm"] < min(s["gm"], s["lesion"]),
    "DWI-b0": lambda s: max(s["wm"], s["gm"]) < min(s["lesion"], s["csf"]),
    "DWI-b500": lambda s: max(s["wm"], s["gm"]) < s["lesion"],
    "DWI-b1000": lambda s: s["csf"] < min(s["wm"], s["gm"]) < s["lesion"],
    "DWI-b1500": lambda s: s["csf"] < min(s["wm"], s["gm"]),
}
# Grey and white matter have nearly one T1 at 0.064 T: a spoiled gradient echo tells them apart in most people only.
LEAST_SHARE = {("T1w", 0.064): 0.8}


@pytest.mark.parametrize("kind", [kind for kind in SEQUENCES if SEQUENCES[kind].map is None])
@pytest.mark.parametrize("tesla", sorted(RELAXATION))
def test_drawn_protocols_give_the_contrast_their_name_promises(kind: str, tesla: float) -> None:
    kept = []
    for protocol, signal in drawn_signals(kind, tesla, 60):
        assert protocol["te_ms"] + protocol.get("ti_ms", 0) < protocol["tr_ms"]
        assert all(0 <= value <= 1 for value in signal.values())
        kept.append(PROMISES[kind](signal))
    assert np.mean(kept) >= LEAST_SHARE.get((kind, tesla), 1.0)


@pytest.mark.parametrize("tesla", [1.5, 3.0])
def test_fluid_is_brightest_in_t2w(tesla: float) -> None:
    assert all(signal["lesion"] < signal["csf"] for _, signal in drawn_signals("T2w", tesla, 200))


@pytest.mark.parametrize(
    ("kind", "tesla", "least_share"),
    [("T2w", 1.5, 0.99), ("T2w", 3.0, 0.99), ("FLAIR", 3.0, 0.93), ("FLAIR", 1.5, 0.93)],
)
def test_grey_matter_is_brighter_than_white_for_most(kind: str, tesla: float, least_share: float) -> None:
    brighter = [signal["gm"] > signal["wm"] for _, signal in drawn_signals(kind, tesla, 500)]
    assert np.mean(brighter) >= least_share
