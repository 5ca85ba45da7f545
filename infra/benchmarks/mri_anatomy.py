"""Heads and label maps of the MRI engine: pictures, figures, and what they cost.

    python infra/benchmarks/mri_anatomy.py

draws docs/images/mri-heads.png (heads in three planes and three contrasts) and docs/images/mri-labels.png (a label map
of 1 mm, 2 mm and 1 x 1 x 4 mm, and what is rendered from each), and prints

- how far volumes of rendered labels are from those of the map, and the slope where cortex meets white matter, over that
  of a person sampled from the template;
- seconds of one core and peak memory for a brain and for a head, at 1 mm.

The label maps are the engine's own labels of a sampled person, so nobody's anatomy is needed. --real HEAD.nii.gz with
--beside FILE.png draws a real T1-weighted head above the rendered ones (the real image is not to be published).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from flows.models import pin_models
from flows.settings import load_settings
from synth.engines import find_engine
from synth.engines.mri import MriEngine
from synth.nouns import Image, Subject
from synth.population import find_population
from synth.spec import CohortSpec, parse_spec

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
FACTORS = ((1, 1, 1), (2, 2, 2), (1, 1, 4))
RECIPE = """name = "anatomy"
subjects = {subjects}
seed = 4
[population]
where = {{ age_years = [25, 70], diagnosis = ["none"] }}
[imaging]
contrasts = {contrasts}
resolution_mm = 1.0
field_strength_t = 3.0
snr = [40, 40]
{anatomy}
"""


def ask(
    anatomy: str, contrasts: tuple[str, ...] = ("MPRAGE",), subjects: int = 3, folder: Path | None = None
) -> CohortSpec:
    """Return a recipe."""
    return parse_spec(RECIPE.format(anatomy=anatomy, contrasts=json.dumps(contrasts), subjects=subjects), folder=folder)


def people(spec: CohortSpec) -> list[Subject]:
    """Return the first visits of the subjects."""
    drawn = find_population("adult-brain").draw_subjects(spec, "anatomy-0", 0, spec.subjects)
    return [replace(subject, visits=subject.visits[:1]) for subject in drawn]


def cut(volume: NDArray[np.generic], places: tuple[int, int, int]) -> list[NDArray[np.generic]]:
    """Return an axial, a coronal and a sagittal slice, ready for imshow."""
    x, y, z = places
    return [volume[:, :, z].T, volume[:, y].T, volume[x].T]


def draw_rows(rows: list[list[NDArray[np.generic]]], titles: list[str], file: Path) -> None:
    """Draw rows of slices, 1 is white, with a title above each column."""
    size = (1.6 * len(titles), 1.75 * len(rows) + 0.25)
    figure, axes = plt.subplots(len(rows), len(titles), figsize=size, facecolor="black")
    for line, slices in zip(np.atleast_2d(axes), rows, strict=True):
        for axis, piece in zip(line, slices, strict=True):
            axis.imshow(piece, origin="lower", cmap="gray", vmin=0, vmax=1)
            axis.axis("off")
    for axis, title in zip(np.atleast_2d(axes)[0], titles, strict=True):
        axis.set_title(title, color="white", fontsize=7)
    figure.subplots_adjust(0, 0, 1, 1 - 0.25 / size[1], 0.02, 0.02)
    figure.canvas.draw()
    grey = np.asarray(figure.canvas.buffer_rgba())[..., 0]  # type: ignore[attr-defined]
    PIL.Image.fromarray(grey & 0xFC).save(file, optimize=True)  # 64 levels keep the file small
    plt.close(figure)


def white_of(image: Image) -> float:
    """Return a grey window's upper end: a little above white matter in T1, fluid in T2."""
    kind = "ventricles" if image.scan.kind.startswith("T2") else "white_matter"
    value = {"ventricles": 4, "white_matter": 3}[kind]
    return float(np.median(image.pixels[image.masks["tissue"] == value]) * (0.9 if kind == "ventricles" else 1.35))


def draw_heads() -> None:
    """Draw three people and three contrasts."""
    rows = []
    spec = ask('anatomy = { kind = "head" }', ("MPRAGE", "T2w", "FLAIR"))
    engine = MriEngine()
    for subject in people(spec):
        made = engine.render(engine.draw_scans(spec, subject))
        slices = cut(made[0].pixels, (84, 104, 100)) + cut(made[0].pixels, (52, 176, 52))
        contrasts = [image.pixels[:, :, 100].T / white_of(image) for image in made[1:]]
        rows.append([piece / white_of(made[0]) for piece in slices] + contrasts)
    draw_rows(rows, ["MPRAGE"] * 6 + ["T2w", "FLAIR"], IMAGES / "mri-heads.png")


def draw_beside(real: Path, file: Path) -> None:
    """Draw a real head above rendered ones."""
    loaded = nib.load(real)
    volume = np.asarray(nib.as_closest_canonical(loaded).dataobj).astype(float)
    share = [0.5, 0.5, 0.52], [0.33, 0.8, 0.24]
    places = [tuple(int(n * s) for n, s in zip(volume.shape, one, strict=True)) for one in share]
    rows = [[piece / np.percentile(volume, 99.3) for place in places for piece in cut(volume, place)]]
    spec = ask('anatomy = { kind = "head" }')
    for subject in people(spec):
        [image] = MriEngine().render(MriEngine().draw_scans(spec, subject))
        slices = cut(image.pixels, (84, 104, 100)) + cut(image.pixels, (52, 176, 52))
        rows.append([piece / white_of(image) for piece in slices])
    draw_rows(rows, ["real, then rendered"] + [""] * 5, file)


def find_slope(image: Image) -> float:
    """Return the median slope across the border of white and grey matter, over the contrast of the two."""
    tissue = image.masks["tissue"]
    near = np.ones(tissue.shape, bool)
    grey = np.zeros(tissue.shape, bool)
    for axis in range(3):
        for step in (-1, 1):
            other = np.roll(tissue, step, axis)
            near &= (other == 2) | (other == 3)
            grey |= other == 2
    slope = np.sqrt(sum(g**2 for g in np.gradient(image.pixels.astype(np.float32))))
    levels = [np.median(image.pixels[tissue == value]) for value in (2, 3)]
    return float(np.median(slope[near & grey & (tissue == 3)]) / (levels[1] - levels[0]))


def block(labels: NDArray[np.uint8], factors: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return larger voxels, each with the label that most of it has."""
    shape = [n // f for n, f in zip(labels.shape, factors, strict=True)]
    own = labels[tuple(slice(0, n * f) for n, f in zip(shape, factors, strict=True))]
    parts = own.reshape([value for pair in zip(shape, factors, strict=True) for value in pair])
    return np.stack([(parts == value).mean(axis=(1, 3, 5)) for value in range(5)]).argmax(axis=0).astype(np.uint8)


def draw_labels(folder: Path) -> None:
    """Render people from label maps of several voxel sizes; print volumes and slopes, draw maps above images."""
    engine, spec = MriEngine(), ask("")
    source = engine.render(engine.draw_scans(spec, people(spec)[0]))[0]
    assert source.affine is not None
    settings = load_settings(folder / "home", workers=1)
    columns, reference = [cut(source.pixels / white_of(source), (84, 104, 96))], find_slope(source)
    names = ["from the template"]
    for factors in FACTORS:
        affine = source.affine.copy()
        affine[:3, :3] *= factors
        affine[:3, 3] += (np.asarray(factors) - 1) / 2
        own = block(source.masks["tissue"], factors)
        nib.save(nib.Nifti1Image(own.astype(np.int16), affine), folder / "map.nii.gz")
        anatomy = 'anatomy = { source = "labels", labels = "map.nii.gz", table = "cohortium", deformation = 0 }'
        asked = pin_models(ask(anatomy, folder=folder), settings)
        reader = find_engine("mri", settings.shelf)
        image = reader.render(reader.draw_scans(asked, people(asked)[0]))[0]
        errors = [abs(m.measured / m.requested - 1) for m in image.measurements if m.unit == "mL" and m.requested > 0]
        print(
            f"map {factors} mm: largest error of a volume {max(errors):.2%}, slope {find_slope(image) / reference:.2f}"
        )
        large = own.repeat(factors[0], 0).repeat(factors[1], 1).repeat(factors[2], 2)
        columns += [cut(large / 4, (84, 104, 96)), cut(image.pixels / white_of(image), (84, 104, 96))]
        size = " x ".join(map(str, factors))
        names += [f"map, {size} mm", "rendered"]
    draw_rows([[column[n] for column in columns] for n in range(3)], names, IMAGES / "mri-labels.png")


def measure_cost(kind: str) -> None:
    """Print the cost of T1w volumes; runs in a process of its own, for the peak of its memory."""
    spec, engine = ask(f'anatomy = {{ kind = "{kind}" }}', ("T1w",), 6), MriEngine()
    engine.warm_up(spec)
    seconds = []
    for subject in people(spec):
        start = time.process_time()
        engine.render(engine.draw_scans(spec, subject))
        seconds.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(f"{kind}: {np.median(seconds):.2f} s of one core for a T1w volume of 1 mm, peak {peak:.0f} MB")


def main() -> None:
    """Draw and print everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, help="a real T1-weighted head, for --beside")
    parser.add_argument("--beside", type=Path, help="PNG of the real head above rendered ones")
    parser.add_argument("--cost", choices=("brain", "head"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cost:
        measure_cost(options.cost)
        return
    for kind in ("brain", "head"):
        subprocess.run([sys.executable, __file__, "--cost", kind], check=True)
    with tempfile.TemporaryDirectory() as place:
        draw_labels(Path(place))
    draw_heads()
    if options.real and options.beside:
        draw_beside(options.real, options.beside)


if __name__ == "__main__":
    main()
