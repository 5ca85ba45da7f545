"""Closed forms of sequences against Bloch simulations, and what recipes may ask of protocols."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synth.engines.mri import MriEngine
from synth.errors import PopulationError, SpecError
from synth.physics.relaxation import PRIORS, RELAXATION, TISSUES, Tissue, draw_relaxation
from synth.physics.sequences import SEQUENCES
from synth.physics.sequences.base import Draw
from synth.physics.sequences.diffusion import compute_adc, expect_adc, signal_diffusion
from synth.physics.sequences.fast_spin_echo import signal_fast_spin_echo
from synth.physics.sequences.gadolinium import shorten_relaxation, signal_post_contrast
from synth.physics.sequences.mprage import signal_mprage
from synth.physics.sequences.spin_echo import signal_spin_echo
from synth.physics.sequences.spoiled import signal_spoiled_gradient_echo
from synth.plan import plan_cohort
from synth.seeds import stream
from synth.spec import parse_spec
from tests.synth.physics.bloch import SPOIL, Affine, chain, diffuse, echo, echo_train, rotate, steady_state, wait

RELATIVE = 1e-6
TISSUE_GRID = [
    Tissue(275, 102, 101, 0.77),
    Tissue(833, 83, 69, 0.86),
    Tissue(1084, 69, 50, 0.77),
    Tissue(1939, 47, 35, 0.86),
    Tissue(4163, 1650, 57, 1.0),
]


# --------------------------------------------------------------------------------------------------- Bloch simulations


@pytest.mark.parametrize("tissue", TISSUE_GRID)
def test_mprage_is_the_bloch_steady_state(tissue: Tissue) -> None:
    for tr, (ti, echoes), flip, spacing in itertools.product(
        (1500.0, 2300.0, 3000.0), ((350.0, 48), (700.0, 101), (900.0, 160)), (4.0, 9.0, 15.0), (5.0, 7.1)
    ):
        te, before = 3.0, echoes // 2
        pulse = [SPOIL, rotate("x", flip), wait(te, tissue.t1_ms, tissue.t2star_ms)]
        rest = wait(spacing - te, tissue.t1_ms, tissue.t2star_ms)
        one: list[Affine] = [*pulse, rest]
        start = [SPOIL, rotate("x", 180), wait(ti - before * spacing, tissue.t1_ms, tissue.t2_ms)]
        end = wait(tr - ti - (echoes - before) * spacing, tissue.t1_ms, tissue.t2_ms)
        simulated = echo([*start, *one * before, *pulse], [rest, *one * (echoes - before - 1), end])
        signal = signal_mprage(tissue, tr, te, ti, flip, spacing, echoes)
        assert signal == pytest.approx(tissue.proton_density * simulated, rel=RELATIVE, abs=1e-12)


@pytest.mark.parametrize("tissue", TISSUE_GRID)
def test_fast_spin_echo_is_the_sum_of_isochromats(tissue: Tissue) -> None:
    for tr, spacing, (echoes, number), refocus in itertools.product(
        (2500.0, 6000.0), (8.0, 12.0), ((6, 1), (16, 9)), (60.0, 120.0, 150.0, 180.0)
    ):
        seen = echo_train(tissue.t1_ms, tissue.t2_ms, tr, spacing, echoes, refocus)
        signal = signal_fast_spin_echo(tissue, tr, number * spacing, spacing, echoes, refocus)
        assert signal == pytest.approx(tissue.proton_density * seen[number - 1], rel=RELATIVE)


@pytest.mark.parametrize("tissue", TISSUE_GRID)
def test_perfect_refocusing_leaves_pure_t2_decay_and_less_than_180_brings_t1_in(tissue: Tissue) -> None:
    echoes = [signal_fast_spin_echo(tissue, 6000, 10 * n, 10, 16, 180) for n in range(1, 17)]
    np.testing.assert_allclose(np.diff(np.log(echoes)), -10 / tissue.t2_ms, rtol=1e-9)
    single = signal_fast_spin_echo(tissue, 6000, 80, 80, 1, 180)
    assert single == pytest.approx(signal_spin_echo(tissue, 6000, 80), rel=1e-9)
    # stimulated echoes relax with T1 while they are stored, so late echoes of a 120 degree train lose less
    partial = [signal_fast_spin_echo(tissue, 6000, 10 * n, 10, 16, 120) for n in (4, 16)]
    assert partial[1] / partial[0] > echoes[15] / echoes[3]


@pytest.mark.parametrize("tissue", TISSUE_GRID)
def test_post_contrast_is_the_bloch_steady_state_of_shortened_relaxation(tissue: Tissue) -> None:
    for concentration, r1, tr, flip in itertools.product((0.0, 0.03, 0.5), (3.8, 5.0), (17.0, 25.0), (15.0, 28.0)):
        rate1 = 1 / tissue.t1_ms + r1 * concentration / 1000
        rate2 = 1 / tissue.t2star_ms + 1.4 * r1 * concentration / 1000
        simulated = tissue.proton_density * echo(
            [SPOIL, rotate("x", flip), wait(4.0, 1 / rate1, 1 / rate2)], [wait(tr - 4.0, 1 / rate1, 1 / rate2)]
        )
        protocol = {"tr_ms": tr, "te_ms": 4.0, "flip_angle_deg": flip, "r1_l_mmol_s": r1, "r2_l_mmol_s": 1.4 * r1}
        signal = signal_post_contrast("gm", tissue, {**protocol, "uptake_gm_mmol_l": concentration})
        assert signal == pytest.approx(simulated, rel=RELATIVE)
        if concentration == 0:
            assert signal == pytest.approx(signal_spoiled_gradient_echo(tissue, tr, 4.0, flip))
            assert shorten_relaxation(tissue, 0.0, r1, r1).t2_ms == pytest.approx(tissue.t2_ms)


@pytest.mark.parametrize("diffusivity", [0.7, 0.89, 1.1, 3.0])
def test_diffusion_weighting_is_the_bloch_torrey_attenuation(diffusivity: float) -> None:
    tissue = TISSUE_GRID[2]
    for winding, delta, separation in ((0.13, 20.0, 35.0), (0.19, 20.0, 35.0), (0.15, 10.0, 40.0)):
        b, attenuation = diffuse(winding, delta, separation, diffusivity)
        assert b == pytest.approx(1000 * winding**2 * (separation - delta / 3), rel=0.01)  # Stejskal and Tanner
        ratio = signal_diffusion(tissue, 6000, 80, b, diffusivity) / signal_spin_echo(tissue, 6000, 80)
        assert ratio == pytest.approx(attenuation, rel=0.01)


def test_steady_states_are_steady() -> None:
    cycle = chain(SPOIL, rotate("x", 30), wait(20, 900, 80))
    state = steady_state(cycle)
    np.testing.assert_allclose(cycle[0] @ state + cycle[1], state, atol=1e-14)


# ------------------------------------------------------------------------------------------------------------- the map


def test_the_map_gives_back_the_diffusivity_it_was_made_with() -> None:
    for low, high in ((0.0, 1000.0), (500.0, 1500.0)):
        values = np.array([0.3, 0.7, 0.89, 3.0], np.float32)
        images = np.stack([0.3 * np.exp(-b * values / 1000) for b in (low, high)]).astype(np.float32)[..., None, None]
        found = compute_adc(images, np.array([0.001, 0.001]), low, high)
        np.testing.assert_allclose(found.ravel(), values, rtol=1e-4)


@pytest.mark.parametrize("snr", [0.3, 1.0, 2.5, 30.0])
def test_the_mean_of_the_map_is_that_of_rician_images(snr: float) -> None:
    noise = stream(4, 0, 0, f"rician {snr}").standard_normal((2, 2, 200_000))
    signals = (3 * snr, snr)
    images = [np.hypot(signal + pair[0], pair[1]) for signal, pair in zip(signals, noise, strict=True)]
    mean = np.log(images[0] / images[1]).mean()
    assert expect_adc(signals, (1.0, 1.0), 0.0, 1000.0) == pytest.approx(mean, abs=0.01)
    assert expect_adc(signals, (1e-3, 1e-3), 0.0, 1000.0) == pytest.approx(math.log(3))


def test_the_map_is_empty_where_there_is_only_noise() -> None:
    images = np.array([[[[0.02, 0.29]]], [[[0.05, 0.3]]]], np.float32)
    found = compute_adc(images, np.array([0.01, 0.01]), 0.0, 1000.0).ravel()
    assert found.tolist() == [0.0, 0.0]  # below four deviations; more signal with weighting than without


# ------------------------------------------------------------------------------------------- drawing and what is asked


def draw(kind: str, wanted: dict[str, Any] | None = None, tesla: float = 3.0, number: int = 0) -> dict[str, float]:
    tissues = draw_relaxation(stream(3, number, -1, "tissues"), tesla)
    streams = stream(3, number, 0, kind), stream(3, number, -1, kind)
    return SEQUENCES[kind].draw_protocol(Draw(*streams, tissues, tesla, wanted or {}))


@pytest.mark.parametrize("kind", SEQUENCES)
def test_parameters_are_described_and_usual_ranges_lie_within_what_may_be_asked(kind: str) -> None:
    for name, parameter in SEQUENCES[kind].parameters.items():
        assert len(parameter.description.split()) >= 2
        assert parameter.lowest < parameter.highest
        for tesla in RELAXATION:
            usual = parameter.usual_range(tesla)
            assert usual is None or parameter.lowest <= usual[0] < usual[1] <= parameter.highest
            wanted = SEQUENCES[kind].ranges(tesla, {name: 5.0})
            assert wanted[name] == (5.0, 5.0)


@pytest.mark.parametrize("kind", SEQUENCES)
@pytest.mark.parametrize("tesla", sorted(RELAXATION))
def test_drawn_parameters_are_complete_finite_and_within_their_ranges(kind: str, tesla: float) -> None:
    sequence = SEQUENCES[kind]
    for number in range(10):
        protocol = draw(kind, None, tesla, number)
        assert set(protocol) == set(sequence.parameters) | set(sequence.fixed)
        assert all(type(value) is float and math.isfinite(value) for value in protocol.values())
        for name, parameter in sequence.parameters.items():
            usual = parameter.usual_range(tesla)
            snapped = name == "te_ms" and "refocus_deg" in protocol
            slack = protocol["echo_spacing_ms"] if snapped else 0
            assert usual is None or usual[0] - slack <= protocol[name] <= usual[1] + slack
            assert not parameter.whole or protocol[name] == int(protocol[name])


def test_asking_for_one_parameter_leaves_the_others() -> None:
    for kind, name, value in (("T1w", "te_ms", 7.0), ("FLAIR", "ti_ms", 2000.0), ("MPRAGE", "echoes", 150)):
        before, after = draw(kind), draw(kind, {name: value})
        assert after == {**before, name: value}
    ranged = [draw("FLAIR", {"ti_ms": (1900.0, 2100.0)}, 3.0, number)["ti_ms"] for number in range(30)]
    assert min(ranged) < 1960
    assert max(ranged) > 2040
    assert all(1900 <= value <= 2100 for value in ranged)


def test_echo_time_of_a_train_is_one_of_its_echoes() -> None:
    for number in range(20):
        for kind in ("T2w-FSE", "PDw"):
            protocol = draw(kind, None, 1.5, number)
            place = protocol["te_ms"] / protocol["echo_spacing_ms"]
            assert place == pytest.approx(round(place))
            assert 1 <= round(place) <= protocol["echoes"]


def test_a_series_shares_protocol_and_the_map_is_made_of_its_images() -> None:
    for kind in ("DWI-b0", "DWI-b1000"):
        assert SEQUENCES[kind].series == SEQUENCES["ADC"].series == "DWI"
        assert SEQUENCES[kind].parameters == SEQUENCES["ADC"].parameters
    found = SEQUENCES["ADC"].map
    assert found is not None
    parts = found.split(draw("ADC"))
    assert set(parts) == {"DWI-b0", "DWI-b1000"}
    for kind, protocol in parts.items():
        for name in TISSUES:
            tissue = RELAXATION[3.0][name]
            assert SEQUENCES[kind].signal(name, tissue, protocol) > 0


# ------------------------------------------------------------------------------------------------------------ refusals


def refuse(imaging: str, population: str = "") -> str:
    with pytest.raises((SpecError, PopulationError)) as caught:
        plan_cohort(parse_spec(f'name = "t"\nsubjects = 2\n{population}\n[imaging]\n{imaging}\n'))
    return str(caught.value)


SHORT = "at 1.5 T with te_ms 100 to 125, tr_ms 4000, it must be below 3875 ms."
LATE = "at 1.5 T with echoes 160 to 176, echo_spacing_ms 7 to 8, it must be above 704 ms."
REFUSED = [
    ("T1w", "protocol.T1w.te_ms = -3", ".T1w.te_ms: -3 is impossible for the echo time; allowed is 0.5 to 30 ms."),
    ("T1w", "protocol.T1w.flip_angle_deg = 180", ".flip_angle_deg: 180 is impossible for the flip angle; allowed is 1"),
    ("T1w", "protocol.T1w.te_ms = [9, 4]", ".te_ms: [9, 4] must be [lowest, highest], within 0.5 to 30 ms."),
    ("T1w", "protocol.T1w.te_ms = 25", "TE must be shorter than TR; at 1.5 T with tr_ms 17 to 21, it must be below 17"),
    ("T1w", 'protocol.T1w.te_ms = "short"', "imaging.protocol.T1w.te_ms"),
    ("FLAIR", "protocol.FLAIR = { tr_ms = 4000, ti_ms = 5000 }", ".ti_ms: 5000 ms is impossible: TI + TE must be"),
    ("FLAIR", "protocol.FLAIR = { tr_ms = 4000, ti_ms = 5000 }", SHORT),
    ("FLAIR", "protocol.FLAIR.tii_ms = 5000", ".FLAIR.tii_ms: unknown parameter. Did you mean 'ti_ms'? Known: tr_ms,"),
    ("FLAIR", "protocol.T1w.te_ms = 4", "imaging.protocol.T1w: the recipe has no such contrast; it has FLAIR."),
    ("MPRAGE", "protocol.MPRAGE.echoes = 160.5", "echoes: 160.5 must be a whole number, 8 to 400."),
    ("MPRAGE", "protocol.MPRAGE.ti_ms = 3000", ".MPRAGE.ti_ms: 3000 ms is impossible: TI and half of the train must"),
    ("MPRAGE", "protocol.MPRAGE.ti_ms = 300", f"half of the train must fit before TI; {LATE}"),
    ("T2w-FSE", "protocol.T2w-FSE.te_ms = 300", "TE must lie within the echo train (echoes x echo spacing)"),
    ("T2w", "field_strength_t = 12", "field_strength_t: Input should be less than or equal to 7 (given: 12)"),
    (
        "T2w",
        "field_strength_t = 5.0",
        "field_strength_t: 5 T has no relaxation values in engine 'mri'; choose from 0.064",
    ),
    ("T2w", "field_strength_t = -1.5", "imaging.field_strength_t: Input should be greater than 0 (given: -1.5)"),
    ("T2v", "", "imaging.contrasts: 'T2v' is unknown to engine 'mri'; choose from ['T1w', 'T2w', 'FLAIR', 'MPRAGE'"),
    ("DWI-b1000", "protocol.DWI.b_s_mm2 = 3", "imaging.protocol.DWI.b_s_mm2: unknown parameter."),
    ("DWI-b1000", "protocol.DWI.adc_gm_um2_ms = nan", "imaging.protocol.DWI.adc_gm_um2_ms"),
]


@pytest.mark.parametrize(("contrast", "line", "words"), REFUSED)
def test_impossible_protocols_are_refused_naming_field_value_and_range(contrast: str, line: str, words: str) -> None:
    assert words in refuse(f"contrasts = ['{contrast}']\n{line}")


def test_12_tesla_is_refused_of_a_population_too() -> None:
    words = refuse("contrasts = ['T1w']", "[population.where]\nfield_strength_t = [12.0]")
    assert "population.where.field_strength_t: no scanner of the population has 12 T. Known: 1.5, 3 T." in words
    assert "set imaging.field_strength_t (engine 'mri')" in words


def test_possible_protocols_pass_and_a_series_is_set_by_its_name() -> None:
    recipe = (
        'name = "t"\nsubjects = 2\n[imaging]\ncontrasts = ["FLAIR", "DWI-b0", "ADC"]\nfield_strength_t = 7\n'
        "[imaging.protocol]\nFLAIR = { ti_ms = [2400, 2600], tr_ms = 8000 }\nDWI = { te_ms = 60 }\n"
    )
    spec = parse_spec(recipe)
    assert plan_cohort(spec).images == 6
    assert spec.imaging.protocol["FLAIR"] == {"ti_ms": (2400.0, 2600.0), "tr_ms": 8000.0}
    assert MriEngine().check(spec) is None


# ------------------------------------------------------------------------------------------------------ developer page

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "mri-sequences.md").read_text(encoding="utf-8")


def test_the_page_lists_every_prior_and_every_contrast() -> None:
    for prior in PRIORS:
        low, high = prior.interval
        name, source = f"{prior.tissue} | {prior.quantity}", prior.source
        row = f"| {prior.field_strength_t:g} | {name} | {prior.mean:.3g} | {low:.3g} to {high:.3g} | {source} |"
        if prior.quantity == "proton_density":
            row = f"| any | {name} | {prior.mean:g} | fixed | {source} |"
        assert row in PAGE
    assert [kind for kind in SEQUENCES if f"`{kind}`" not in PAGE] == []


def test_the_page_s_new_sequence_is_one_file_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    [kind, name] = re.findall(r"`\"(\S+)\": (\w+),`", PAGE)[0]
    module: dict[str, Any] = {}
    exec(compile(code, "t1w_spin_echo.py", "exec"), module)
    monkeypatch.setitem(SEQUENCES, kind, module[name])
    spec = parse_spec(f'name = "t"\nsubjects = 1\n[imaging]\ncontrasts = ["{kind}"]\nprotocol.{kind}.te_ms = 12\n')
    assert plan_cohort(spec).images == 1
    assert "te_ms: 70 is impossible" in refuse(f"contrasts = ['{kind}']\nprotocol.{kind}.te_ms = 70")
    protocol = draw(kind, {"te_ms": 12.0})
    tissue = RELAXATION[3.0]["wm"]
    assert SEQUENCES[kind].signal("wm", tissue, protocol) == signal_spin_echo(tissue, protocol["tr_ms"], 12.0)
