"""How the rows of one visit become images: one pass of the kernel for contrasts without effects, one for each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from synth.engines.mri_labels import Whom, find_whom
from synth.measure import measure_image
from synth.nouns import Image, Scan
from synth.physics import anatomy, render
from synth.physics.acquisition import (
    Channel,
    Stored,
    line_weights,
    list_channels,
    reconstruct,
    request_signals,
    signals_at_level,
)
from synth.physics.bias import bias_at_nodes
from synth.physics.effects.base import Volume
from synth.physics.effects.blurring import blur_tissue
from synth.physics.effects.chain import Scene, apply_effects, choose_encoding, find_spoilt
from synth.physics.effects.distortion import place_cavities
from synth.physics.effects.slices import plan_slices, slice_affine, vote_slices
from synth.physics.effects.transmit import choose_levels, transmit_field, weigh_levels
from synth.physics.grid import Grid, node_positions_mm
from synth.physics.look import Look
from synth.physics.template import load_template
from synth.shelf import Shelf

_CLEAN_MAXIMUM = 20000.0  # stored value of the brightest tissue before effects; receive bias is cut at 3


@dataclass(frozen=True, slots=True)
class Layer:
    """One volume of the kernel: the signal of each tissue, the field that multiplies it, noise and stored unit.

    ``tissue`` names the one that it is the signal of, if it is of one alone.
    """

    signals: Mapping[str, float]
    field: NDArray[np.float64]
    sigma: float
    scale: float
    noise_words: tuple[int, int]
    tissue: str = ""


def tissue_signals(scan: Scan) -> dict[str, float]:
    """Return the noise-free signal of each tissue in ``scan``, relative to fully relaxed water, or a map's value."""
    return request_signals(scan.kind, scan.parameters)


def render_visit(scans: list[Scan], threads: int, models: Shelf | None = None) -> list[Image]:
    """Render the scans of one subject and visit, in order; label maps are on the shelf ``models``."""
    plain = [scan for scan in scans if not scan.parameters.keys() & {"effects", "noise_in"}]
    whom = find_whom(scans[0].parameters, models)
    made = {id(scan): image for scan, image in zip(plain, _render_plain(plain, whom, threads), strict=True)}
    return [made[id(scan)] if id(scan) in made else _render_with_effects(scan, whom, threads) for scan in scans]


def _render_plain(scans: list[Scan], whom: Whom, threads: int) -> list[Image]:
    if not scans:
        return []
    grid = Grid(scans[0].parameters["resolution_mm"])
    nodes = _anatomy_nodes(grid, scans[0].parameters, whom.look)
    channels = [list_channels(scan.kind, scan.parameters) for scan in scans]
    layers = [
        Layer(one.signals, _bias(grid, nodes, one), one.sigma, one.scale, one.noise_words)
        for group in channels
        for one in group
    ]
    seen = _render_layers(grid, nodes, whom, scans[0].parameters, layers, threads)
    images, first = [], 0
    for scan, group in zip(scans, channels, strict=True):
        volumes = seen.images[first : first + len(group)]
        stored = reconstruct(scan.kind, scan.parameters, volumes, group)
        images.append(_make_image(scan, stored, grid, {"tissue": seen.tissue, "lesion": seen.lesion}))
        first += len(group)
    return images


def _render_with_effects(scan: Scan, whom: Whom, threads: int) -> Image:
    """Send each channel of a scan, rendered without noise, through the chain of effects."""
    grid, effects = Grid(scan.parameters["resolution_mm"]), scan.parameters.get("effects", {})
    volumes, channels, labels = [], [], dict[str, NDArray[np.uint8]]()
    for channel, scene, seen, clean in render_clean(scan, whom, threads):
        volumes.append(store_magnitude(apply_effects(clean, effects, scene), channel))
        channels.append(channel)
        labels = {"tissue": seen.tissue, "lesion": seen.lesion}
    stored = reconstruct(scan.kind, scan.parameters, np.stack(volumes), channels)
    return _make_image(scan, stored, grid, labels)


def render_clean(scan: Scan, whom: Whom, threads: int) -> Iterator[tuple[Channel, Scene, render.Rendering, Volume]]:
    """Yield each channel of ``scan`` with its scene, its labels and its image before effects and without noise."""
    row = scan.parameters
    grid, effects = Grid(row["resolution_mm"]), row.get("effects", {})
    nodes = _anatomy_nodes(grid, row, whom.look)
    for channel in list_channels(scan.kind, row):
        layers = _list_layers(grid, channel, _bias(grid, nodes, channel), effects)
        if "blurring" in effects:
            layers = [part for layer in layers for part in _split_tissues(layer)]
        seen = _render_layers(grid, nodes, whom, row, layers, threads)
        clean = _sum_layers(seen.images, layers, channel, choose_encoding(effects).lines)
        seen = replace(seen, images=seen.images[:0].copy())  # they are no longer needed, and large
        yield channel, _set_scene(scan, grid, channel), seen, clean


def store_magnitude(magnitude: Volume, channel: Channel) -> NDArray[np.uint16]:
    """Return a magnitude image as it is stored."""
    return np.asarray(np.clip(np.rint(magnitude * np.float32(channel.scale)), 0, 65535), np.uint16)


def _list_layers(grid: Grid, channel: Channel, bias: NDArray[np.float64], effects: Mapping[str, Any]) -> list[Layer]:
    """Return the noise-free layers of a channel: one, or one for each level of the transmit field."""
    scale = _CLEAN_MAXIMUM / max(channel.signals.values())
    if "transmit" not in effects:
        return [Layer(channel.signals, bias, 0.0, scale, channel.noise_words)]
    field = transmit_field(node_positions_mm(grid), effects["transmit"])
    levels = choose_levels(field)
    weights = weigh_levels(field, levels)
    layers = []
    for number, level in enumerate(levels.tolist()):
        signals = signals_at_level(channel.kind, channel.row, level)
        own = _CLEAN_MAXIMUM / max(signals.values())
        layers.append(Layer(signals, bias * weights[..., number], 0.0, own, channel.noise_words))
    return layers


def _split_tissues(layer: Layer) -> list[Layer]:
    """Return a layer for each tissue."""
    return [
        replace(layer, tissue=name, signals={other: value * (other == name) for other, value in layer.signals.items()})
        for name in layer.signals
    ]


def _sum_layers(images: NDArray[np.uint16], layers: Sequence[Layer], channel: Channel, lines: int) -> Volume:
    """Return the noise-free image: the sum of its layers, those of a tissue blurred by the echo train first."""
    clean: Volume = np.zeros(images.shape[1:], np.float32)
    for name in sorted({layer.tissue for layer in layers}):
        own = np.zeros_like(clean)
        for volume, layer in zip(images, layers, strict=True):
            if layer.tissue == name:
                own += volume * np.float32(1 / layer.scale)
        if name:
            own = blur_tissue(own, line_weights(channel.kind, channel.row, name, own.shape[lines]), lines)
        clean += own
    return clean


def _set_scene(scan: Scan, grid: Grid, channel: Channel) -> Scene:
    row = scan.parameters
    turn = Rotation.from_euler("xyz", row["pose"]["rotation_deg"], degrees=True).as_matrix()
    size = row["solution"]["scale"] * np.asarray(row["shape"]["stretch"])
    radius_mm = row.get("effects", {}).get("distortion", {}).get("radius_mm", 0.0)
    cavities = place_cavities(radius_mm, size, turn, np.asarray(row["pose"]["shift_mm"]), anatomy.CENTRE_MM)
    field_strength_t = float(scan.field_strength_t or 0.0)
    in_k = "noise_in" in row
    return Scene(grid.affine, channel.series, field_strength_t, cavities, channel.sigma, channel.noise_key, in_k)


def _bias(grid: Grid, nodes: NDArray[np.float64], channel: Channel) -> NDArray[np.float64]:
    return bias_at_nodes(grid, channel.bias_key, channel.bias_range, nodes[..., :3], load_template())


def _anatomy_nodes(grid: Grid, head: Mapping[str, Any], look: Look) -> NDArray[np.float64]:
    solution = head["solution"]
    return anatomy.template_coordinates(
        grid,
        anatomy.shape_from_json(head["shape"]),
        anatomy.Pose(tuple(head["pose"]["rotation_deg"]), tuple(head["pose"]["shift_mm"])),
        solution["scale"],
        solution["ventricle_added_ml"],
        look,
    )


def _render_layers(
    grid: Grid,
    nodes: NDArray[np.float64],
    whom: Whom,
    head: Mapping[str, Any],
    layers: Sequence[Layer],
    threads: int,
) -> render.Rendering:
    """Render ``layers`` and the labels in one pass of the fused kernel."""
    solution, look = head["solution"], whom.look
    names = render.list_tissues(look.lesions, look.overlays)
    fields = np.stack([layer.field for layer in layers], axis=-1)
    return render.render_volumes(
        grid,
        whom.person,
        np.concatenate([nodes[..., :3], fields, nodes[..., 3:]], axis=-1).astype(np.float32),
        (solution["log_white_gain"], solution["log_fluid_gain"]),
        look.lesions,
        look.overlays,
        moved=look.fields is not None,
        signals=np.asarray([[layer.signals[name] for name in names] for layer in layers], np.float32),
        sigma=np.asarray([layer.sigma for layer in layers]).astype(np.float32),
        scale=np.asarray([layer.scale for layer in layers]).astype(np.float32),
        keys=np.asarray([layer.noise_words for layer in layers], np.uint32),
        threads=threads,
    )


def _make_image(scan: Scan, stored: Stored, grid: Grid, masks: dict[str, NDArray[np.uint8]]) -> Image:
    """Return the image with its measurements; volumes are measured on the labels before they were cut into slices."""
    effects = scan.parameters.get("effects", {})
    affine, spacing_mm, own, whole = grid.affine, (grid.resolution_mm,) * 3, masks, None
    if "slices" in effects:
        slices = plan_slices(grid.shape, grid.resolution_mm, effects["slices"])
        own, pure = vote_slices(masks, slices)
        affine, whole = slice_affine(affine, slices), (masks, (grid.resolution_mm,) * 3, pure)
        x, y, z = (slices.spacing_mm if axis == slices.axis else grid.resolution_mm for axis in range(3))
        spacing_mm = (x, y, z)
    image = Image(
        image_id=f"{scan.scan_id}-0",
        scan=scan,
        pixels=stored.pixels,
        affine=affine,
        spacing_mm=spacing_mm,
        intensity_scale=stored.scale,
        intensity_unit=stored.unit,
        masks=own,
    )
    return measure_image(image, tissue_signals(scan), find_spoilt(effects), whole)
