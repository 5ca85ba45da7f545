"""Draw rendered subjects beside the ICBM template, and beside a real image if one is given.

    python infra/benchmarks/mri_contact_sheet.py docs/images/mri-beside-template.png
    python infra/benchmarks/mri_contact_sheet.py sheet.png --real T1w=head_t1.nii.gz --real FLAIR=flair.nii.gz

Rows: the template's T1 map, then a healthy young adult, a healthy old one, one with multiple sclerosis, one with
Alzheimer's disease, each at 1 mm. Columns: T1w, T2w, FLAIR and the labels (lesions in red), axial and sagittal.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
from matplotlib.colors import ListedColormap
from nibabel.processing import resample_to_output
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL.PngImagePlugin import PngInfo

from synth.engines import find_engine
from synth.nouns import Image, Subject
from synth.population import find_population
from synth.spec import parse_spec

CONTRASTS = ("T1w", "T2w", "FLAIR")
COLOURS = ListedColormap(["black", "#3465a4", "#888a85", "#eeeeec", "#729fcf", "#ef2929"])
WANTED = {
    "young, none": 'where = { age_years = [22, 26], diagnosis = ["none"] }',
    "old, none": 'where = { age_years = [78, 82], diagnosis = ["none"] }',
    "multiple sclerosis": 'where = { age_years = [35, 50], diagnosis = ["multiple-sclerosis"] }',
    "Alzheimer's disease": 'where = { age_years = [70, 80], diagnosis = ["alzheimer-disease"] }',
}


def render_subject(where: str, seed: int) -> tuple[Subject, list[Image]]:
    """Draw and render one subject of a population restricted by ``where``."""
    spec = parse_spec(
        f'name = "sheet"\nsubjects = 1\nseed = {seed}\n[population]\n{where}\n'
        f"[imaging]\ncontrasts = {list(CONTRASTS)}\nresolution_mm = 1.0\nsnr = [25.0, 45.0]\n"
    )
    subject = find_population(spec.population.source).draw_subjects(spec, "sheet", 0, 1)[0]
    engine = find_engine(spec.imaging.engine)
    return subject, engine.render(engine.draw_scans(spec, subject))


def cut_views(volume: NDArray[np.generic], height: int | None) -> list[NDArray[np.generic]]:
    """Return an axial slice, through the ventricles or at ``height``, and a sagittal one beside the fissure."""
    x, _, z = volume.shape
    return [volume[:, :, height or round(z * 0.55)].T, volume[x // 2 + 11].T]


def find_height(lesion: NDArray[np.uint8]) -> int | None:
    """Return the axial slice with most of the lesions, if there are any."""
    counts = (lesion > 0).sum(axis=(0, 1))
    return int(counts.argmax()) if counts.any() else None


def load_template_volume() -> NDArray[np.generic]:
    """Return the ICBM T1 map that nilearn carries."""
    package = importlib.util.find_spec("nilearn")
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent / "datasets" / "data"
    return np.asarray(nib.load(folder / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz").dataobj)


def load_real_volume(path: Path) -> NDArray[np.generic]:
    """Return a NIfTI volume in RAS+ order at 1 mm."""
    return np.asarray(resample_to_output(nib.load(path), 1.0, order=1).dataobj)


def main() -> None:
    """Draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--real", action="append", default=[], metavar="CONTRAST=FILE")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    real = dict(item.split("=", 1) for item in arguments.real)
    figure, axes = plt.subplots(len(WANTED) + 1, 8, figsize=(19, 13.5), facecolor="black")
    top: dict[str, NDArray[np.generic]] = {"T1w": load_template_volume()}
    titles = {"T1w": "ICBM 2009a template"}
    for kind, path in real.items():
        column = "T2w" if kind in top else kind  # the template keeps its place; a real T1w goes beside it
        top[column], titles[column] = load_real_volume(Path(path)), f"real {kind}"
    for column, kind in enumerate(CONTRASTS):
        if kind in top:
            show_pair(axes[0], 2 * column, top[kind], titles[kind])
    for row, (name, where) in enumerate(WANTED.items(), start=1):
        subject, images = render_subject(where, arguments.seed + row)
        height = find_height(images[0].masks["lesion"])
        for column, image in enumerate(images):
            title = f"{image.scan.kind}, {subject.field_strength_t:g} T"
            who = f"{name}, {subject.age_years:.0f} y {subject.sex}"
            show_pair(axes[row], 2 * column, image.pixels, f"{who}: {title}", height=height)
        labels = np.where(images[0].masks["lesion"] > 0, 5, images[0].masks["tissue"])
        show_pair(axes[row], 6, labels, "labels, lesions red", COLOURS, height)
    for axis in axes.ravel():
        axis.axis("off")
    figure.tight_layout(pad=0.3)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.output, dpi=45, facecolor="black")
    marks = PngInfo()
    marks.add_text("Description", "synthetic images")
    Picture.open(arguments.output).convert("RGB").save(arguments.output, optimize=True, pnginfo=marks)


def show_pair(
    axes: NDArray[np.object_],
    first: int,
    volume: NDArray[np.generic],
    title: str,
    colours: ListedColormap | None = None,
    height: int | None = None,
) -> None:
    """Show the two views of a volume in neighbouring panels."""
    top = 5 if colours is not None else float(np.percentile(volume[volume > 0], 99.7))
    for offset, view in enumerate(cut_views(volume, height)):
        axes[first + offset].imshow(view, origin="lower", cmap=colours or "gray", vmin=0, vmax=top)
    axes[first].set_title(title, color="white", fontsize=9, loc="left")


if __name__ == "__main__":
    main()
