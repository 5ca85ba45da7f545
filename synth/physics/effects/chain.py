"""The chain of effects: drawn for a scan, then applied to its noise-free image in the order of EFFECTS.

object -> fields -> slices -> each coil and pose -> k-space, noise -> lines -> image -> combined magnitude
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from synth.physics.effects import EFFECTS
from synth.physics.effects.base import Encoding, KSpace, Values, Volume
from synth.physics.effects.coils import Unfolding, make_sensitivities
from synth.physics.effects.distortion import bandwidth_hz, field_hz, shift_voxels
from synth.physics.effects.lines import skip_lines
from synth.physics.effects.motion import Period, acquire_moving, list_poses, move_volume, shift_phases
from synth.physics.effects.slices import average_slices, plan_slices
from synth.physics.sequences.base import Wanted
from synth.seeds import stream, stream_from_key

ALWAYS = 1.0
LEFT_OUT = "undersampling"  # the last of the effects on lines


@dataclass(frozen=True, slots=True)
class Scene:
    """What effects need to know of a scan besides its image: geometry, series, field, cavities, noise.

    With ``noise_in_k`` noise enters k-space even where nothing acts on it, so that images with and without effects on
    lines have the same noise.
    """

    affine: NDArray[np.float64]
    series: str
    field_strength_t: float
    cavities_mm: list[tuple[NDArray[Any], float]]
    sigma: float
    noise_key: int
    noise_in_k: bool = False


def draw_effects(
    wanted: Mapping[str, Wanted], seed: int, subject_index: int, visit: int, series: str, field_strength_t: float
) -> dict[str, dict[str, Any]]:
    """Draw the effects of a scan: those that strike it (``probability``), with every parameter, in order."""
    drawn = {}
    for name, effect in EFFECTS.items():
        if name not in wanted:
            continue
        stage = f"mri/effects/{name}" + ("" if effect.shared else f"/{series}")
        generator = stream(seed, subject_index, visit, stage)
        strikes = generator.random() < _pick(wanted[name].get("probability", ALWAYS), generator.random())
        values: dict[str, Any] = {}
        for key, parameter in effect.parameters.items():
            usual = parameter.usual_range(field_strength_t)
            assert usual is not None  # effects derive lists only
            asked = wanted[name].get(key, usual)
            low, high = asked if isinstance(asked, tuple) else (asked, asked)
            place = generator.random()
            whole = min(math.floor(low + (high + 1 - low) * place), high)
            values[key] = float(whole if parameter.whole else low + (high - low) * place)
        if strikes:
            drawn[name] = effect.derive(values, generator)
    return drawn


def _pick(asked: float | tuple[float, float], place: float) -> float:
    low, high = asked if isinstance(asked, tuple) else (asked, asked)
    return low + (high - low) * place


def find_spoilt(effects: Mapping[str, Values]) -> frozenset[str]:
    """Return the measurements that no longer say what was asked for under ``effects``."""
    return frozenset().union(*(EFFECTS[name].spoils for name in effects))


def choose_encoding(effects: Mapping[str, Values]) -> Encoding:
    """Return how a scan is encoded: three axes with lines along y, or two in the plane of its slices."""
    if "slices" not in effects:
        return Encoding()
    across = int(effects["slices"]["axis"])
    return Encoding(tuple(axis for axis in range(3) if axis != across), 2 if across == 1 else 1)


def list_positions(shape: Sequence[int], affine: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return the coordinates in millimetres along each axis of a volume whose affine is diagonal."""
    return [affine[axis, 3] + affine[axis, axis] * np.arange(count) for axis, count in enumerate(shape)]


def apply_effects(clean: Volume, effects: Mapping[str, Values], scene: Scene) -> Volume:
    """Return the magnitude of the noise-free ``clean``, with noise and all of ``effects`` but the transmit field."""
    encoding = choose_encoding(effects)
    clean, spacing_mm, positions = _prepare(clean, effects, scene, encoding)
    moved = _move(clean, effects, spacing_mm, encoding)
    still = not scene.noise_in_k and len(moved) == 1 and not any(EFFECTS[name].kspace for name in effects)
    combining = Combining(clean.shape, effects, encoding)
    generator = stream_from_key(scene.noise_key)
    for sensitivity in _list_coils(effects, positions):
        if still:  # noise is added to the image: the orthonormal FFT would leave it as it is
            seen = clean if sensitivity is None else clean * sensitivity
            combining.add(sensitivity, _add_noise(np.asarray(seen, np.complex64), scene.sigma, generator))
        else:
            k = [_sample(moved, sensitivity, effects, scene.sigma, encoding, generator)]
            combining.add(sensitivity, _transform_back(k.pop(), effects, encoding, overwrite=True))
    return combining.solve()


def sample_coils(clean: Volume, effects: Mapping[str, Values], scene: Scene) -> Iterator[tuple[KSpace | None, KSpace]]:
    """Yield the sensitivity (None: one coil that sees all alike) and k-space of each coil, before lines are left out.

    K-space is that of apply_effects, bit for bit, except where nothing acts on it and noise is added to the image.
    """
    encoding = choose_encoding(effects)
    clean, spacing_mm, positions = _prepare(clean, effects, scene, encoding)
    moved = _move(clean, effects, spacing_mm, encoding)
    generator = stream_from_key(scene.noise_key)
    for sensitivity in _list_coils(effects, positions):
        yield sensitivity, _sample(moved, sensitivity, effects, scene.sigma, encoding, generator)


def combine_coils(coils: Iterable[tuple[KSpace | None, KSpace]], effects: Mapping[str, Values]) -> Volume:
    """Return the magnitude image of the k-space of each coil (see sample_coils), of which lines may be left out."""
    encoding, combining = choose_encoding(effects), None
    for sensitivity, k in coils:
        combining = combining or Combining(k.shape, effects, encoding)
        combining.add(sensitivity, _transform_back(k, effects, encoding))
    assert combining is not None  # there is always a coil
    return combining.solve()


def _prepare(
    clean: Volume, effects: Mapping[str, Values], scene: Scene, encoding: Encoding
) -> tuple[Volume, list[float], list[NDArray[np.float64]]]:
    """Return the volume that is encoded, distorted and cut into slices, its spacing and positions along the axes."""
    if "distortion" in effects:
        clean = _distort(clean, effects["distortion"], scene, encoding)
    spacing_mm = [float(scene.affine[axis, axis]) for axis in range(3)]
    positions = list_positions(clean.shape, scene.affine)
    if "slices" in effects:
        slices = plan_slices(clean.shape, spacing_mm[0], effects["slices"])
        positions[slices.axis] = np.interp(slices.centres, np.arange(clean.shape[slices.axis]), positions[slices.axis])
        clean = average_slices(clean, slices)
        spacing_mm[slices.axis] = slices.spacing_mm
    return clean, spacing_mm, positions


def _distort(clean: Volume, values: Values, scene: Scene, encoding: Encoding) -> Volume:
    """Shift voxels along the lines of echo-planar readouts, along the readout of others."""
    readout = next(axis for axis in encoding.axes if axis != encoding.lines)
    axis = encoding.lines if scene.series == "DWI" else readout
    grid = np.stack(np.meshgrid(*list_positions(clean.shape, scene.affine), indexing="ij"), axis=-1)
    hz = field_hz(grid, scene.cavities_mm, scene.field_strength_t)
    return shift_voxels(clean, hz / bandwidth_hz(values, scene.series), axis)


def _move(
    clean: Volume, effects: Mapping[str, Values], spacing_mm: Sequence[float], encoding: Encoding
) -> list[Period]:
    """Return the poses of the scan; without several coils, each turned volume is made when its lines are acquired."""
    if "motion" not in effects:
        return [Period(0.0, lambda: clean, {})]
    periods = []
    for time, pose in list_poses(effects["motion"]):
        turn: Callable[[], Volume] = functools.partial(move_volume, clean, spacing_mm, pose)
        turned = functools.cache(turn) if "coils" in effects else turn
        periods.append(Period(time, turned, shift_phases(clean.shape, spacing_mm, pose, encoding.axes)))
    return periods


class Combining:
    """Images of coils become one magnitude: the root of the sum of squares, or SENSE."""

    def __init__(self, shape: tuple[int, ...], effects: Mapping[str, Values], encoding: Encoding) -> None:
        undersampling = effects.get("undersampling")
        self._power: Volume = np.zeros(shape, np.float32)
        self._unfolding: Unfolding | None = None
        if undersampling is not None and undersampling["sense"]:
            self._unfolding = Unfolding(shape, int(undersampling["acceleration"]), encoding.lines)

    def add(self, sensitivity: KSpace | None, image: KSpace) -> None:
        """Add the complex image of one coil."""
        if self._unfolding is not None and sensitivity is not None:
            self._unfolding.add(sensitivity, image)
        else:
            self._power += image.real**2  # one after the other: each is as large as the volume
            self._power += image.imag**2

    def solve(self) -> Volume:
        """Return the magnitude image."""
        found = np.sqrt(self._power) if self._unfolding is None else np.abs(self._unfolding.solve())
        return np.asarray(found, np.float32)


def _list_coils(effects: Mapping[str, Values], positions: list[NDArray[np.float64]]) -> Iterable[KSpace | None]:
    coils = effects.get("coils")
    return [None] if coils is None else make_sensitivities(positions, int(coils["count"]), coils["turn"])


def _add_noise(k: KSpace, sigma: float, generator: np.random.Generator) -> KSpace:
    for part in (k.real, k.imag):
        for plane in part:  # as one draw of all of them, which would be as large as the image
            plane += np.float32(sigma) * generator.standard_normal(plane.shape, np.float32)
    return k


def _sample(
    moved: list[Period],
    sensitivity: KSpace | None,
    effects: Mapping[str, Values],
    sigma: float,
    encoding: Encoding,
    generator: np.random.Generator,
) -> KSpace:
    """Return the k-space of one coil: its lines in their poses, complex Gaussian noise, then what acts on lines."""
    k = _add_noise(acquire_moving(moved, sensitivity, encoding), sigma, generator)
    for name, effect in EFFECTS.items():  # in this order: rows do not keep that of their keys
        if name in effects and effect.kspace is not None and name != LEFT_OUT:
            k = np.asarray(effect.kspace(k, effects[name], encoding), np.complex64)
    return k


def _transform_back(k: KSpace, effects: Mapping[str, Values], encoding: Encoding, overwrite: bool = False) -> KSpace:
    """Return the complex image of k-space, lines left out where the scan is undersampled; ``k`` may be overwritten."""
    if LEFT_OUT in effects:
        k = skip_lines(k, effects[LEFT_OUT], encoding)
    return np.asarray(fft.ifftn(k, axes=encoding.axes, norm="ortho", overwrite_x=overwrite), np.complex64)
