"""Each effect of the scanner against the law it must obey, and what recipes may ask of effects."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import fft

from synth.errors import SpecError
from synth.physics.effects import EFFECTS
from synth.physics.effects.base import Encoding, along, line_numbers
from synth.physics.effects.blurring import blur_tissue, fill_lines
from synth.physics.effects.chain import Scene, apply_effects, draw_effects, find_spoilt
from synth.physics.effects.coils import Unfolding, make_sensitivities
from synth.physics.effects.distortion import field_hz, field_of_sphere, shift_voxels
from synth.physics.effects.lines import add_spikes, cut_lines, modulate_lines, skip_lines, truncate
from synth.physics.effects.motion import list_poses, move_volume
from synth.physics.effects.slices import average_slices, plan_slices, slice_affine, slice_profile, vote_slices
from synth.physics.effects.transmit import choose_levels, scale_protocol, transmit_field, weigh_levels
from synth.physics.relaxation import RELAXATION
from synth.physics.sequences import SEQUENCES
from synth.physics.sequences.fast_spin_echo import weigh_echoes
from synth.plan import plan_cohort
from synth.seeds import stream
from synth.spec import parse_spec

SHAPE = (24, 32, 20)
THREE = Encoding()
STILL = (0.0, 0.0, 0.0)


def phantom() -> NDArray[np.float32]:
    """An ellipsoid with two inclusions, and air around it."""
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    radius = np.sqrt(sum((axis / r) ** 2 for axis, r in zip(grid, (0.7, 0.8, 0.75), strict=True)))
    inside = (radius < 1).astype(np.float32)
    inside[8:12, 12:18, 8:12] = 0.4
    inside[15:18, 14:20, 6:9] = 1.6
    return inside


def transform(volume: NDArray[Any]) -> NDArray[np.complex64]:
    return np.asarray(fft.fftn(volume, norm="ortho"), np.complex64)


def image(k: NDArray[Any]) -> NDArray[np.complex64]:
    return np.asarray(fft.ifftn(k, norm="ortho"), np.complex64)


def scene(sigma: float = 0.0, series: str = "T1w") -> Scene:
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    affine[:3, 3] = -(np.asarray(SHAPE) - 1) * 4.0
    return Scene(affine, series, 3.0, [], sigma, 77)


# ----------------------------------------------------------------------------------------------------- lines of k-space


def test_truncation_rings_by_the_constant_of_wilbraham_and_gibbs() -> None:
    step = np.zeros((4096, 1, 1), np.float32)
    step[1024:3072] = 1.0
    seen = image(truncate(transform(step), {"share": 0.05}, Encoding((0,), 0))).real.ravel()
    overshoot = float(np.max(seen)) - 1
    assert overshoot == pytest.approx(0.08949, abs=0.003)  # Si(pi)/pi - 1/2
    assert -float(np.min(seen)) == pytest.approx(0.08949, abs=0.003)
    np.testing.assert_allclose(seen.sum(), step.sum(), rtol=1e-5)


def test_truncation_to_all_of_k_space_changes_nothing_and_twice_is_once() -> None:
    k = transform(phantom())
    np.testing.assert_array_equal(truncate(k, {"share": 1.0}, THREE), k)
    once = truncate(k, {"share": 0.6}, THREE)
    np.testing.assert_array_equal(truncate(once, {"share": 0.6}, THREE), once)


@pytest.mark.parametrize("share", [0.55, 0.7, 0.9])
def test_partial_fourier_of_a_real_image_filters_it_by_the_even_part_of_its_window(share: float) -> None:
    """The real part of a zero-filled image is the image filtered by (w(k) + w(-k)) / 2."""
    object_ = phantom()
    k = transform(object_)
    cut = cut_lines(k, {"share": share}, THREE)
    numbers = line_numbers(SHAPE[1])
    kept = np.abs(cut).sum(axis=(0, 2)) > 0
    assert kept.sum() == pytest.approx(share * SHAPE[1], abs=1)
    assert kept[numbers >= 0].all()
    even = (kept.astype(float) + kept[-np.arange(SHAPE[1])]) / 2
    even[numbers == -SHAPE[1] // 2] = kept[numbers == -SHAPE[1] // 2]
    wanted = image(k * along(even, 1)).real
    np.testing.assert_allclose(image(cut).real, wanted, atol=2e-6)


@pytest.mark.parametrize("acceleration", [2, 4])
def test_undersampling_without_a_centre_folds_the_image(acceleration: int) -> None:
    values = {"acceleration": acceleration, "centre_share": 0.0, "sense": 0.0}
    seen = image(skip_lines(transform(phantom()), values, THREE))
    period = SHAPE[1] // acceleration
    folded = sum(np.roll(phantom(), n * period, axis=1) for n in range(acceleration))
    np.testing.assert_allclose(seen.real, folded, atol=1e-5)
    np.testing.assert_allclose(seen.imag, 0, atol=1e-5)


def test_a_full_centre_weakens_folding_and_all_of_it_is_the_image() -> None:
    errors = []
    for centre in (0.0, 0.2, 1.1):
        values = {"acceleration": 2, "centre_share": centre, "sense": 0.0}
        errors.append(float(np.abs(image(skip_lines(transform(phantom()), values, THREE)) - phantom()).mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-6


@pytest.mark.parametrize("every", [2, 4])
def test_ghosts_are_shifted_copies_of_amplitude_over_n(every: int) -> None:
    seen = image(modulate_lines(transform(phantom()), {"every": every, "amplitude": 0.3}, THREE))
    wanted = (1 - 0.3 / every) * phantom().astype(complex)
    for number in range(1, every):
        turn = np.exp(2j * np.pi * number * (every // 2) / every)
        wanted -= 0.3 / every * turn * np.roll(phantom(), number * SHAPE[1] // every, axis=1)
    np.testing.assert_allclose(np.abs(seen), np.abs(wanted), atol=1e-5)


def test_a_spike_is_a_plane_wave_of_constant_size() -> None:
    k = transform(phantom())
    values = {"amplitude": 0.4, "count": 1, "places": [[0.25, -0.125, 0.1, 0.3]]}
    wave = image(add_spikes(k, values, THREE)) - image(k)
    np.testing.assert_allclose(np.abs(wave), 0.4 * phantom().mean(), rtol=1e-4)
    step = wave[1:, 0, 0] / wave[:-1, 0, 0]
    np.testing.assert_allclose(step, np.exp(2j * np.pi * 0.25), rtol=1e-3)


# ---------------------------------------------------------------------------------------------------------------- coils


def positions(shape: tuple[int, ...] = SHAPE) -> list[NDArray[np.float64]]:
    return [(np.arange(n) - (n - 1) / 2) * 8.0 for n in shape]


def test_sensitivities_are_normalised_and_each_coil_sees_its_side() -> None:
    coils = list(make_sensitivities(positions(), 8, 0.1))
    np.testing.assert_allclose(sum(np.abs(coil) ** 2 for coil in coils), 1, atol=1e-5)
    assert len(coils) == 8
    place = np.unravel_index(np.abs(coils[0]).argmax(), SHAPE)
    angle = math.atan2(positions()[1][place[1]], positions()[0][place[0]])
    assert angle == pytest.approx(2 * math.pi * 0.1, abs=0.4)


@pytest.mark.parametrize("acceleration", [2, 4])
def test_sense_gives_the_image_back_without_noise_and_g_times_root_r_of_it_with(acceleration: int) -> None:
    shape = (6, 16, 4)
    coils = list(make_sensitivities(positions(shape), 8, 0.05))
    object_ = np.linspace(0.5, 1.5, 6 * 16 * 4).reshape(shape).astype(np.float32)
    values = {"acceleration": acceleration, "centre_share": 0.1, "sense": 1.0}

    def unfold(sigma: float, number: int) -> tuple[NDArray[np.complex64], Unfolding]:
        generator = stream(5, number, 0, "sense")
        unfolding = Unfolding(shape, acceleration, 1)
        for coil in coils:
            noise = generator.standard_normal((2, *shape)) * sigma
            k = transform(object_ * coil) + noise[0] + 1j * noise[1]
            unfolding.add(coil, image(skip_lines(np.asarray(k, np.complex64), values, THREE)))
        return unfolding.solve(), unfolding

    exact, unfolding = unfold(0.0, 0)
    np.testing.assert_allclose(exact, object_, atol=2e-4)
    g = unfolding.g_factor()
    assert g.min() > 0.999
    deviations = np.stack([unfold(0.01, number)[0] - object_ for number in range(200)])
    seen = np.sqrt((np.abs(deviations) ** 2).mean(axis=0) / 2) / 0.01
    np.testing.assert_allclose(np.median(seen / (g * math.sqrt(acceleration))), 1, atol=0.03)
    np.testing.assert_allclose(seen, g * math.sqrt(acceleration), rtol=0.3)


@pytest.mark.parametrize("count", [1, 4, 12])
def test_noise_of_combined_coils_is_non_central_chi(count: int) -> None:
    """Second moment S^2 + 2 n sigma^2; the mean in air is sigma sqrt(pi/2) (2n - 1)!! / (2^(n-1) (n - 1)!)."""
    effects = {"coils": {"count": count, "turn": 0.2}}
    signal = np.full(SHAPE, 0.5, np.float32)
    seen = apply_effects(signal, effects, scene(0.1))
    assert (seen.astype(float) ** 2).mean() == pytest.approx(0.25 + 2 * count * 0.01, rel=0.02)
    air = apply_effects(np.zeros(SHAPE, np.float32), effects, scene(0.1))
    mean = math.sqrt(math.pi / 2) * math.prod(range(1, 2 * count, 2)) / (2 ** (count - 1) * math.factorial(count - 1))
    assert air.mean() == pytest.approx(0.1 * mean, rel=0.01)


def test_noise_in_k_space_is_the_same_noise_in_the_image() -> None:
    """An operator that does nothing makes the chain take the way through k-space: moments stay."""
    nothing = {"gibbs": {"share": 1.0}}
    air = [apply_effects(np.zeros(SHAPE, np.float32), effects, scene(0.1)) for effects in ({}, nothing)]
    assert air[0].std() == pytest.approx(air[1].std(), rel=0.02)
    assert air[0].mean() == pytest.approx(0.1 * math.sqrt(math.pi / 2), rel=0.01)
    np.testing.assert_allclose(apply_effects(phantom(), nothing, scene()), phantom(), atol=1e-5)


# --------------------------------------------------------------------------------------------------------------- motion


def move(poses: list[list[float]]) -> NDArray[np.float32]:
    return apply_effects(phantom(), {"motion": {"poses": poses}}, scene())


def test_no_movement_changes_nothing_and_the_centre_of_k_space_stays() -> None:
    np.testing.assert_allclose(move([[0.3, *STILL, *STILL], [0.8, *STILL, *STILL]]), phantom(), atol=1e-5)
    poses = list_poses({"poses": [[0.2, 1, 2, 3, 4, 5, 6], [0.4, 2, 2, 2, 2, 2, 2], [0.7, 0, 0, 0, 1, 0, 0]]})
    assert [time for time, _ in poses] == [0.0, 0.2, 0.4, 0.7]
    assert poses[2][1] == (0.0,) * 6
    assert poses[1][1] == (-1, 0, 1, 2, 3, 4)


def test_a_movement_before_the_first_line_moves_nothing_and_a_late_one_little() -> None:
    """Movements are relative to the centre of k-space: only lines on the other side of the event see another pose."""
    far = [0.0, 0.0, 0.0, 16.0, 8.0, 0.0]
    errors = [float(np.abs(move([[time, *far]]) - phantom()).mean()) for time in (0.0, 0.05, 0.45, 0.55, 0.98)]
    assert errors[0] < 1e-5
    assert errors[1] < errors[2]
    assert errors[4] < errors[3]


def test_shifts_keep_the_energy_and_follow_the_shift_theorem() -> None:
    moved = move([[0.55, *STILL, 16.0, 0.0, 0.0]])
    assert (moved.astype(float) ** 2).sum() == pytest.approx((phantom().astype(float) ** 2).sum(), rel=1e-4)
    late = line_numbers(SHAPE[1]) >= math.ceil(0.55 * SHAPE[1]) - SHAPE[1] // 2
    parts = [transform(np.roll(phantom(), shift, axis=0)) * along(lines, 1) for shift, lines in ((0, ~late), (2, late))]
    np.testing.assert_allclose(moved, np.abs(image(parts[0] + parts[1])), atol=1e-5)


def test_turning_by_a_right_angle_is_a_rotation_of_the_array() -> None:
    cube = np.zeros((9, 9, 9), np.float32)
    cube[6, 4, 4] = 1.0
    turned = move_volume(cube, (2.0, 2.0, 2.0), (0.0, 0.0, 90.0, 0, 0, 0))
    assert np.unravel_index(turned.argmax(), cube.shape) == (4, 6, 4)
    assert turned.sum() == pytest.approx(1.0, abs=1e-5)


# --------------------------------------------------------------------------------------------------------------- fields


def test_the_field_of_a_sphere_is_a_dipole_that_averages_to_nothing_and_obeys_laplace() -> None:
    pole, equator = (field_of_sphere(np.array(at), 10.0, 9.4) for at in ([0.0, 0.0, 20.0], [20.0, 0.0, 0.0]))
    assert pole == pytest.approx(9.4 / 3 * 0.125 * 2)
    assert equator == pytest.approx(-pole / 2)
    step = 0.05
    around = np.array([[18.0, 7.0, 11.0]] * 7)
    around[1:] += step * np.concatenate([np.eye(3), -np.eye(3)])
    values = field_of_sphere(around, 10.0, 9.4)
    assert abs(values[1:].sum() - 6 * values[0]) / step**2 < 1e-4 * abs(values[0])
    at = np.array([[0.0, 0.0, 20.0]])
    cavity = [(np.zeros(3), 10.0)]
    assert field_hz(at, cavity, 7.0) / field_hz(at, cavity, 3.0) == pytest.approx(7 / 3)


def test_voxels_shift_by_field_over_bandwidth_and_keep_their_signal() -> None:
    volume = phantom()
    np.testing.assert_array_equal(shift_voxels(volume, np.zeros(SHAPE), 1), volume)
    np.testing.assert_allclose(shift_voxels(volume, np.full(SHAPE, 3.0), 1), np.roll(volume, 3, axis=1), atol=1e-6)
    half = shift_voxels(volume, np.full(SHAPE, 0.5), 0)
    np.testing.assert_allclose(half[1:], (volume[1:] + volume[:-1]) / 2, atol=1e-6)
    wild = 3.0 * np.sin(np.arange(SHAPE[1]) / 3.0)[None, :, None]  # folds
    assert shift_voxels(volume, wild, 1).sum() == pytest.approx(volume.sum(), rel=1e-5)
    stretch = 0.25 * (np.arange(SHAPE[1]) - 16)[None, :, None]
    flat = shift_voxels(np.ones(SHAPE, np.float32), stretch, 1)[:, 8:24]
    np.testing.assert_allclose(flat, 1 / 1.25, rtol=1e-5)  # the Jacobian


def test_levels_of_the_transmit_field_mix_to_the_curve_of_the_signal() -> None:
    values = {"level": 1.0, "spread": 0.5, "tilt_x": 0.1, "tilt_y": 0.0, "tilt_z": -0.1}
    place = np.stack(np.meshgrid(*(np.linspace(-80, 80, 9),) * 3, indexing="ij"), axis=-1)
    field = transmit_field(place, values)
    assert field[4, 4, 4] == pytest.approx(1.25)
    assert transmit_field(np.array([75.0, 0.0, 0.0]), {**values, "tilt_x": 0.0}) == pytest.approx(0.75)
    np.testing.assert_allclose(transmit_field(place, {**values, "spread": 0.0}), 1.0)
    levels = choose_levels(field)
    weights = weigh_levels(field, levels)
    np.testing.assert_allclose(weights.sum(axis=-1), 1)
    np.testing.assert_allclose(weights @ levels, field)
    assert (weights > 1e-9).sum(axis=-1).max() <= 2
    tissue = RELAXATION[3.0]["wm"]
    protocol = {"tr_ms": 19.0, "te_ms": 4.0, "flip_angle_deg": 27.0}

    def signal(level: float) -> float:
        return SEQUENCES["T1w"].signal("wm", tissue, scale_protocol(protocol, level)[0])

    mixed = weights @ [signal(level) for level in levels]
    exact = [signal(level) for level in field.ravel()]
    np.testing.assert_allclose(mixed.ravel(), exact, rtol=0.01)


def test_flip_angles_scale_as_each_sequence_uses_them() -> None:
    assert scale_protocol({"flip_angle_deg": 20.0}, 1.2) == ({"flip_angle_deg": 24.0}, 1.0)
    assert scale_protocol({"te_ms": 90.0}, 1.0) == ({"te_ms": 90.0}, 1.0)
    assert scale_protocol({"te_ms": 90.0}, 0.5)[1] == pytest.approx(math.sin(math.pi / 4) ** 3)
    protocol, factor = scale_protocol({"refocus_deg": 180.0}, 0.8)
    assert protocol["refocus_deg"] == pytest.approx(144.0)
    assert factor == pytest.approx(math.sin(math.pi / 2 * 0.8))


def test_an_echo_train_blurs_what_decays_and_keeps_its_sum() -> None:
    point = np.zeros((1, 128, 1), np.float32)
    point[0, 64, 0] = 1.0
    peaks = []
    for t2_ms in (1e9, 300.0, 60.0):
        echoes = np.exp(-10.0 * (np.arange(16) - 4) / t2_ms)
        weights = fill_lines(128, echoes, 4)
        assert weights[0] == pytest.approx(1.0)
        assert set(np.round(weights, 5)) == set(np.round(echoes.astype(np.float32), 5))
        seen = blur_tissue(point, weights, 1)
        assert seen.sum() == pytest.approx(1.0, abs=1e-5)
        peaks.append(float(seen[0, 64, 0]))
    assert peaks[0] == pytest.approx(1.0, abs=1e-5)
    assert peaks == sorted(peaks, reverse=True)
    tissue = RELAXATION[3.0]["wm"]
    protocol = {"tr_ms": 5000.0, "te_ms": 90.0, "echo_spacing_ms": 10.0, "echoes": 12.0, "refocus_deg": 180.0}
    np.testing.assert_allclose(weigh_echoes(tissue, protocol), np.exp(-10.0 * (np.arange(12) - 8) / tissue.t2_ms))


# --------------------------------------------------------------------------------------------------------------- slices

THICK = {"thickness_mm": 5.0, "gap_mm": 1.0, "axis": 2.0, "edge": 0.1}


def test_the_slice_profile_has_its_thickness_at_half_height_and_in_its_integral() -> None:
    z = np.linspace(-10, 10, 4001)
    profile = slice_profile(z, 5.0, 0.1)
    assert profile.sum() * (z[1] - z[0]) == pytest.approx(5.0, rel=1e-3)
    assert np.ptp(z[profile >= 0.5 * profile.max()]) == pytest.approx(5.0, abs=0.02)
    np.testing.assert_allclose(profile, profile[::-1], atol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_average_and_lie_where_their_affine_says(axis: int) -> None:
    slices = plan_slices((48, 60, 44), 1.0, {**THICK, "axis": axis})
    np.testing.assert_allclose(average_slices(np.ones((48, 60, 44), np.float32), slices), 1, rtol=1e-5)
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = (-20.0, -30.0, -10.0)
    ramp = np.broadcast_to(along(affine[axis, 3] + np.arange((48, 60, 44)[axis]), axis), (48, 60, 44))
    seen = average_slices(ramp.astype(np.float32), slices)
    changed = slice_affine(affine, slices)
    wanted = changed[axis, 3] + changed[axis, axis] * np.arange(seen.shape[axis])
    np.testing.assert_allclose(
        np.moveaxis(seen, axis, -1), np.broadcast_to(wanted, np.moveaxis(seen, axis, -1).shape), atol=0.04
    )
    assert changed[axis, axis] == pytest.approx(6.0)
    assert seen.shape[axis] == (48, 60, 44)[axis] // 6


def test_thick_voxels_carry_the_label_that_fills_them() -> None:
    tissue = np.zeros((2, 2, 12), np.uint8)
    tissue[:, :, :7], tissue[:, :, 7:] = 2, 3
    lesion = np.zeros((2, 2, 12), np.uint8)
    lesion[0, 0, 6:] = lesion[0, 1, 2] = 1
    voted, pure = vote_slices({"tissue": tissue, "lesion": lesion}, plan_slices((2, 2, 12), 1.0, THICK))
    assert voted["tissue"][0, 0].tolist() == [2, 3]
    assert voted["lesion"][0, 0].tolist() == [0, 1]
    assert not voted["lesion"][1].any()
    assert pure[1, 1].tolist() == [True, False]  # the second slice has a voxel of the other tissue
    assert pure[0, 1].tolist() == [False, False]  # and here the first has a lesion


# -------------------------------------------------------------------------------------------------- drawing and recipes

ALL: dict[str, dict[str, float | tuple[float, float]]] = {name: {} for name in EFFECTS}


def test_everything_that_is_drawn_is_in_the_row_and_the_row_alone_gives_the_image() -> None:
    drawn = draw_effects(ALL, 1, 2, 0, "T1w", 3.0)
    assert list(drawn) == list(EFFECTS)
    for name, values in drawn.items():
        assert set(values) >= set(EFFECTS[name].parameters)
    row = json.loads(json.dumps(drawn, sort_keys=True, allow_nan=False))
    np.testing.assert_array_equal(
        apply_effects(phantom(), row, scene(0.02)), apply_effects(phantom(), drawn, scene(0.02))
    )
    assert draw_effects(ALL, 1, 2, 0, "T1w", 3.0) == drawn


def test_an_effect_does_not_change_the_draws_of_another_and_shared_ones_are_the_visit_s() -> None:
    drawn = draw_effects(ALL, 1, 2, 0, "T1w", 3.0)
    for name in EFFECTS:
        assert draw_effects({name: {}}, 1, 2, 0, "T1w", 3.0) == {name: drawn[name]}
        again = draw_effects({name: {}}, 1, 2, 0, "FLAIR", 3.0)[name] == drawn[name]
        assert again == EFFECTS[name].shared
    asked = draw_effects({"ghosts": {"every": 3.0}}, 1, 2, 0, "T1w", 3.0)["ghosts"]
    assert asked == {**drawn["ghosts"], "every": 3.0}


def test_probability_is_the_share_of_scans() -> None:
    struck = [bool(draw_effects({"spikes": {"probability": 0.3}}, 1, n, 0, "T1w", 3.0)) for n in range(400)]
    assert np.mean(struck) == pytest.approx(0.3, abs=0.06)
    assert draw_effects({}, 1, 2, 0, "T1w", 3.0) == {}
    assert find_spoilt({"slices": {}, "gibbs": {}}) == {"snr"}


REFUSED = [
    ("ghost = {}", "imaging.effects: 'ghost' is unknown to engine 'mri'; choose from ['transmit',"),
    ("ghost = {}", "Did you mean 'ghosts'?"),
    ("ghosts = { ever = 2 }", "imaging.effects.ghosts.ever: unknown parameter. Did you mean 'every'? Known: every,"),
    ("ghosts = { every = 1 }", "imaging.effects.ghosts.every: 1 is impossible for the n; allowed is 2 to 12."),
    (
        "slices = { thickness_mm = -5 }",
        "slices.thickness_mm: -5 is impossible for the slice thickness; allowed is 1 to 10",
    ),
    (
        "motion = { probability = 1.5 }",
        "probability: 1.5 is impossible for the share of the scans that have it; allowed is 0",
    ),
    ("motion = { events = [4, 2] }", "imaging.effects.motion.events: [4, 2] must be [lowest, highest]"),
    ("undersampling = { sense = 1 }", "undersampling.sense: 1 needs several coils in every scan, at least 2; add"),
    ("undersampling = { sense = 1 }\ncoils = { probability = 0.5 }", "needs several coils in every scan"),
    (
        "undersampling = { sense = 1, acceleration = 4 }\ncoils = { count = 3 }",
        "at least 4; add effects.coils with count",
    ),
]


@pytest.mark.parametrize(("line", "words"), REFUSED)
def test_impossible_effects_are_refused_naming_field_value_and_range(line: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        plan_cohort(parse_spec(f'name = "t"\nsubjects = 2\n[imaging.effects]\n{line}\n'))
    assert words in str(caught.value)


@pytest.mark.parametrize("name", EFFECTS)
def test_effects_are_described_and_usual_ranges_lie_within_what_may_be_asked(name: str) -> None:
    assert len(EFFECTS[name].description.split()) >= 3
    for parameter in EFFECTS[name].parameters.values():
        for tesla in RELAXATION:
            usual = parameter.usual_range(tesla)
            assert usual is not None
            assert parameter.lowest <= usual[0] <= usual[1] <= parameter.highest


def test_the_page_lists_every_effect_and_its_parameters() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "mri-effects.md").read_text(encoding="utf-8")
    for name, effect in EFFECTS.items():
        assert f"| `{name}` | {', '.join(effect.parameters)} |" in page
