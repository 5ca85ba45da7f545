"""Judge rendered brains beside one real T1-weighted head: spectrum, sharpness of the cortex, volumes, and by eye.

    python infra/benchmarks/mri_realism.py --real real_t1_head.nii.gz

draws docs/images/mri-individuals.png (rendered people), docs/images/mri-spectrum.png and, where --beside says (a real
image is not to be published), the real head above the same people on the same slices and grey window; it prints

- the radial power spectrum of the brain, rendered over real, by band of spatial frequency;
- the sharpness of the border of cortex and white matter: the slope of the image across it, over the contrast;
- how far the volumes of delivered labels are from what their subjects drew, over a mixed population;
- seconds of one core for a volume, and the peak memory of a process that makes them.

Both sides go through the same functions: a brain mask from the pixels alone, levels from the histogram, a window that
fades in 2 to 10 mm below the brain's hull. Frequencies are physical, so the real image (0.88 mm) is not resampled. What
is judged is anatomy, so contrast is made equal: the rendered MPRAGE has the noise of the real image, and T1 of grey
matter in its row is set until grey over white matter is that of the real image.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from peak_memory import read_peak_mb
from scipy import ndimage, optimize

from synth.engines.mri import MriEngine
from synth.engines.mri_render import tissue_signals
from synth.nouns import Scan, Subject
from synth.physics.anatomy import CENTRE_MM
from synth.physics.individual import sample_person
from synth.population import find_population
from synth.spec import CohortSpec, parse_spec

BANDS = np.arange(0.05, 0.3501, 0.025)  # cycles per mm
SMOOTH_MM = 0.7  # of the Gaussian whose derivative measures slopes
VOLUMES = ("intracranial_volume", "brain_volume", "grey_matter_volume", "white_matter_volume", "ventricle_volume")
CUTS = ((2, 45.0), (2, 5.0), (1, -12.0), (0, -30.0), (0, 5.0))  # axis and MNI mm
BOX_MM = ((-76, 76), (-112, 78), (-62, 86))  # what is shown
# Of the real brain's hull 14.5 % are darker than midway between fluid and grey matter, 1 mm of fluid lies around it.
FILLED = (0.75, 0.80)
HEALTHY = 'where = { age_years = [20, 45], diagnosis = ["none"] }'
RECIPE = """name = "realism"
subjects = {subjects}
seed = {seed}
[population]
{who}
[imaging]
contrasts = ["{kind}"]
resolution_mm = 1.0
{more}
"""


@dataclass(frozen=True)
class Head:
    """One volume: values over the white-matter level, affine to millimetres, brain mask and levels of GM and CSF."""

    values: NDArray[np.float32]
    affine: NDArray[np.float64]
    brain: NDArray[np.bool_]
    grey: float
    fluid: float
    noise: float

    @property
    def spacing_mm(self) -> float:
        """Edge of a voxel."""
        return float(np.linalg.norm(self.affine[:3, 0]))


def read_head(values: NDArray[np.float32], affine: NDArray[np.float64]) -> Head:
    """Return a volume scaled to its white matter, with what the figures need."""
    spacing = float(np.linalg.norm(affine[:3, 0]))
    brain = find_brain(values, spacing)
    white, grey, fluid = find_levels(values[brain])
    scaled = (values / np.float32(white)).astype(np.float32)
    core = ndimage.binary_erosion((np.abs(scaled - 1) < 0.12) & brain, iterations=2)
    rough = scaled - (np.roll(scaled, 1, 0) + np.roll(scaled, -1, 0)) / 2
    noise = float(np.median(np.abs(rough[core])) / 0.6745 / np.sqrt(1.5))
    return Head(scaled, affine, brain, grey / white, fluid / white, noise)


def find_brain(values: NDArray[np.float32], spacing_mm: float) -> NDArray[np.bool_]:
    """Return the hull of the brain: what is left of bright tissue when thin bridges are cut, grown back and closed."""
    bright = values > 0.45 * np.percentile(values[values > np.percentile(values, 60)], 80)
    core = _erode(bright, 4.0, spacing_mm)
    labels, _ = ndimage.label(core)
    core = labels == np.bincount(labels[labels > 0]).argmax()
    grown = bright & ~_erode(~core, 5.5, spacing_mm)
    return np.asarray(ndimage.binary_fill_holes(_erode(~_erode(~grown, 8.0, spacing_mm), 8.0, spacing_mm)))


def _erode(mask: NDArray[np.bool_], radius_mm: float, spacing_mm: float) -> NDArray[np.bool_]:
    return np.asarray(ndimage.distance_transform_edt(np.pad(mask, 1), spacing_mm)[1:-1, 1:-1, 1:-1] > radius_mm)


def find_levels(inside: NDArray[np.float32]) -> tuple[float, float, float]:
    """Return the levels of white matter, grey matter and fluid: the peaks of the histogram, and its dark end."""
    top = float(np.percentile(inside, 99.5))
    counts, edges = np.histogram(inside, bins=256, range=(0, top))
    smooth = ndimage.gaussian_filter1d(counts.astype(float), 3)
    middle = (edges[:-1] + edges[1:]) / 2
    peaks = [n for n in range(1, 255) if smooth[n] >= smooth[n - 1] and smooth[n] > smooth[n + 1]]
    peaks = sorted(peaks, key=lambda n: -smooth[n])
    white = max(n for n in peaks[:3] if middle[n] > 0.6 * top)
    grey = next(n for n in peaks if 0.4 * middle[white] < middle[n] < 0.88 * middle[white])
    return float(middle[white]), float(middle[grey]), float(np.percentile(inside, 2))


def power_spectrum(head: Head) -> NDArray[np.float64]:
    """Return the mean power of each band, in mm^3 for white matter at 1."""
    depth = ndimage.distance_transform_edt(head.brain, head.spacing_mm)
    window = np.clip((depth - 2) / 8, 0, 1)
    window = window**2 * (3 - 2 * window)
    mean = float((head.values * window).sum() / window.sum())
    power = np.abs(np.fft.rfftn((head.values - mean) * window)) ** 2
    power *= head.spacing_mm**3 / (window**2).sum()
    shape = head.values.shape
    waves = [np.fft.fftfreq(n, head.spacing_mm) for n in shape[:2]] + [np.fft.rfftfreq(shape[2], head.spacing_mm)]
    radius = np.sqrt(sum(w**2 for w in np.meshgrid(*waves, indexing="ij")))
    band = np.digitize(radius.ravel(), BANDS)
    sums = np.bincount(band, power.ravel(), len(BANDS) + 1)
    return np.asarray((sums / np.bincount(band, minlength=len(BANDS) + 1))[1:-1])


def edge_sharpness(head: Head) -> float:
    """Return the median slope, per mm, of the image across the border of cortex and white matter, over the contrast."""
    sigma = SMOOTH_MM / head.spacing_mm
    smooth = ndimage.gaussian_filter(head.values, sigma)
    slope = ndimage.gaussian_gradient_magnitude(head.values, sigma) / head.spacing_mm
    depth = ndimage.distance_transform_edt(head.brain, head.spacing_mm)
    middle, contrast = (1 + head.grey) / 2, 1 - head.grey
    border = (np.abs(smooth - middle) < 0.1 * contrast) & (depth > 3) & (depth < 15)
    return float(np.median(slope[border]) / contrast)


def draw_people(subjects: int, seed: int, who: str, kind: str, more: str = "") -> tuple[CohortSpec, list[Subject]]:
    """Return a recipe of 1 mm volumes and its subjects."""
    spec = parse_spec(RECIPE.format(subjects=subjects, seed=seed, who=who, kind=kind, more=more))
    return spec, find_population(spec.population.source).draw_subjects(spec, "realism", 0, subjects)


def match_contrast(scan: Scan, ratio: float) -> Scan:
    """Return the scan with the T1 of grey matter at which its signal is ``ratio`` of that of white matter."""

    def change(t1_ms: float) -> Scan:
        tissues = {name: dict(tissue) for name, tissue in scan.parameters["relaxation"].items()}
        tissues["gm"]["t1_ms"] = t1_ms
        return replace(scan, parameters={**scan.parameters, "relaxation": tissues})

    def error(t1_ms: float) -> float:
        signals = tissue_signals(change(t1_ms))
        return signals["gm"] / signals["wm"] - ratio

    return change(float(optimize.brentq(error, 700, 2500)))


def fill_skull(subject: Subject) -> float:
    """Return brain over intracranial volume."""
    return float(subject.visits[0].brain_ml or 0) / float(subject.intracranial_ml or 1)


def render_people(count: int, seed: int, real: Head) -> list[Head]:
    """Return ``count`` healthy young people with the contrast and noise of ``real``, and about its share of fluid."""
    snr = 1 / real.noise
    more = f"field_strength_t = 3.0\nsnr = [{snr:.1f}, {snr:.1f}]\nprotocol = {{ MPRAGE = {{ ti_ms = 960.0 }} }}"
    spec, subjects = draw_people(12 * count, seed, HEALTHY, "MPRAGE", more)
    engine, heads = MriEngine(), []
    alike = [s for s in subjects if FILLED[0] <= fill_skull(s) <= FILLED[1]]
    for subject in alike[:count]:
        [scan] = engine.draw_scans(spec, subject)
        [image] = engine.render([match_contrast(scan, real.grey)])
        assert image.affine is not None
        heads.append(read_head(image.pixels.astype(np.float32), image.affine))
    return heads


def print_volumes(count: int, seed: int) -> None:
    """Print how far delivered labels are from what ``count`` subjects of all ages and diagnoses drew."""
    spec, subjects = draw_people(count, seed, "", "T1w")
    engine, errors = MriEngine(), []
    for subject in subjects:
        [image] = engine.render(engine.draw_scans(spec, subject))
        found = {one.name: one for one in image.measurements}
        errors.append([100 * (found[name].measured / found[name].requested - 1) for name in VOLUMES])
    print(f"\nvolumes of the labels over what was drawn, {count} subjects: mean and largest error")
    for name, column in zip(VOLUMES, np.abs(errors).T, strict=True):
        print(f"  {name:22s} {column.mean():6.2f} % {column.max():6.2f} %")


def print_cost(subjects: int = 5) -> None:
    """Print the seconds of one core of each step and the peak memory of this process; to be run in one of its own."""
    spec, people = draw_people(subjects, 3, "", "T1w")
    engine = MriEngine()
    engine.warm_up(spec)
    rows = []
    for subject in people:
        start = time.process_time()
        scans = engine.draw_scans(spec, subject)  # samples the person and solves the volumes
        drawn = time.process_time()
        engine.render(scans)
        rendered = time.process_time()
        sample_person.__wrapped__(subject.subject_index + 10**6)
        rows.append((time.process_time() - rendered, drawn - start, rendered - drawn))
    sampling, drawing, rendering = np.median(rows, axis=0)
    print(f"\none T1w volume at 1 mm, seconds of one core: {drawing + rendering:.2f}")
    print(f"  a person's tissue {sampling:.2f}, volumes solved {drawing - sampling:.2f}, image {rendering:.2f}")
    print(f"  peak memory of the process {read_peak_mb():.0f} MB")


def print_figures(real: Head, people: Sequence[Head]) -> None:
    """Print spectrum and sharpness of every person over those of the real head."""
    spectrum, sharpness = power_spectrum(real), edge_sharpness(real)
    print(f"real head: grey/white {real.grey:.2f}, fluid/white {real.fluid:.2f}, noise {real.noise:.4f}")
    print(f"           slope of the cortex' inner border {sharpness:.3f} of the contrast per mm")
    print("\nrendered over real\ncycles/mm  " + " ".join(f"{low:5.3f}" for low in BANDS[:-1]) + "  sharpness")
    rows = []
    for number, head in enumerate(people):
        rows.append([*power_spectrum(head) / spectrum, edge_sharpness(head) / sharpness])
        print(f"person {number:2d}  " + " ".join(f"{value:5.2f}" for value in rows[-1][:-1]) + f"  {rows[-1][-1]:5.2f}")
    mean = np.mean(rows, axis=0)
    print("mean       " + " ".join(f"{value:5.2f}" for value in mean[:-1]) + f"  {mean[-1]:5.2f}")


def draw_spectrum(real: Head, people: Sequence[Head], path: Path) -> None:
    """Draw the radial power spectra, with the band of 25 % about the real one."""
    middle, spectrum = (BANDS[:-1] + BANDS[1:]) / 2, power_spectrum(real)
    figure, axis = plt.subplots(figsize=(7, 4.2))
    axis.fill_between(middle, 0.75 * spectrum, 1.25 * spectrum, color="#d3d7cf", label="real, give or take 25 %")
    axis.plot(middle, spectrum, color="black", label="real head")
    for number, head in enumerate(people):
        axis.plot(middle, power_spectrum(head), color="#3465a4", lw=0.8, label=None if number else "rendered people")
    axis.set(yscale="log", xlabel="cycles per mm", ylabel="power, mm$^3$ (white matter = 1)", xlim=(0.05, 0.35))
    axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=90, metadata={"Description": "power spectra of synthetic and real images"})


def cut_slice(head: Head, axis: int, place_mm: float, centre_mm: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return one slice of a head over BOX_MM, right side up; ``centre_mm`` is the MNI place of its origin."""
    inverse = np.linalg.inv(head.affine)
    low, high = (np.array([edge[n] for edge in BOX_MM]) - centre_mm for n in (0, 1))
    first, last = (np.rint(inverse[:3, :3] @ corner + inverse[:3, 3]).astype(int) for corner in (low, high))
    place = low.copy()
    place[axis] = place_mm - centre_mm[axis]
    number = round(float((inverse[:3, :3] @ place + inverse[:3, 3])[axis]))
    margin = 40  # the box may reach beyond the volume
    padded = np.pad(head.values.take(number, axis), margin)
    others = [a for a in range(3) if a != axis]
    cut = tuple(slice(first[a] + margin, last[a] + margin) for a in others)
    return np.asarray(padded[cut].T)


def draw_sheet(real: Head | None, people: Sequence[Head], path: Path) -> None:
    """Draw the real head, if it is given, above rendered people: the same slices, the same grey window."""
    rows = [(f"rendered person {n}", head, CENTRE_MM) for n, head in enumerate(people, start=1)]
    rows = ([("one real person", real, np.zeros(3))] if real is not None else []) + rows
    figure, axes = plt.subplots(len(rows), len(CUTS), figsize=(3.1 * len(CUTS), 3.3 * len(rows)))
    for line, (name, head, centre_mm) in zip(axes, rows, strict=True):
        for axis, (cut, place_mm) in zip(line, CUTS, strict=True):
            axis.imshow(cut_slice(head, cut, place_mm, centre_mm), origin="lower", cmap="gray", vmin=0, vmax=1.15)
            axis.axis("off")
        line[0].set_title(name, color="white", fontsize=11, loc="left", pad=2)
    figure.patch.set_facecolor("black")
    figure.tight_layout(pad=0.2)
    figure.savefig(
        path, dpi=62, facecolor="black", metadata={"Description": "heads of nobody, below one real head if any"}
    )


def main() -> None:
    """Judge, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, help="a T1-weighted head as NIfTI, roughly in MNI millimetres")
    parser.add_argument("--beside", type=Path, metavar="FILE.png", help="where the real head is drawn above them")
    parser.add_argument("--people", type=int, default=6, help="rendered beside it")
    parser.add_argument("--subjects", type=int, default=40, help="whose volumes are measured")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--images", type=Path, default=Path("docs/images"))
    parser.add_argument("--cost", action="store_true", help="measure seconds and memory only")
    arguments = parser.parse_args()
    if arguments.cost:
        print_cost()
        return
    if arguments.real is not None:
        image = nib.Nifti1Image.from_filename(arguments.real)
        real = read_head(np.asarray(image.dataobj, np.float32), np.asarray(image.affine))
        people = render_people(arguments.people, arguments.seed, real)
        print_figures(real, people)
        draw_spectrum(real, people, arguments.images / "mri-spectrum.png")
        draw_sheet(None, people[:4], arguments.images / "mri-individuals.png")
        if arguments.beside is not None:
            draw_sheet(real, people[:4], arguments.beside)
    print_volumes(arguments.subjects, arguments.seed)
    sys.stdout.flush()
    subprocess.run([sys.executable, __file__, "--cost"], check=True)


if __name__ == "__main__":
    main()
