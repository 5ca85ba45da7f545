"""Draw every contrast of one brain at several field strengths, beside a real image if one is given.

    python infra/benchmarks/mri_contrasts.py docs/images/mri-contrasts.png
    python infra/benchmarks/mri_contrasts.py sheet.png --real MPRAGE=head_t1.nii.gz --real FLAIR=flair.nii.gz

Rows: 3, 1.5 and 0.064 tesla (and others by --fields), the same person with multiple sclerosis at 1 mm, without further
effects. Columns: the contrasts. Each panel is an axial slice through the ventricles, from 0 to its 99.7th percentile.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
from nibabel.processing import resample_to_output
from numpy.typing import NDArray

from synth.engines import find_engine
from synth.nouns import Image
from synth.physics.sequences import SEQUENCES
from synth.population import find_population
from synth.spec import parse_spec

SNR = {0.064: "[10.0, 12.0]", 1.5: "[25.0, 30.0]", 3.0: "[40.0, 45.0]", 7.0: "[40.0, 45.0]"}


def render_person(tesla: float, contrasts: list[str], seed: int) -> dict[str, Image]:
    """Return the images of one person at ``tesla``, by contrast."""
    spec = parse_spec(
        f'name = "sheet"\nsubjects = 1\nseed = {seed}\n[population]\nwhere = {{ age_years = [38, 50], '
        f'diagnosis = ["multiple-sclerosis"] }}\n[imaging]\ncontrasts = {contrasts}\nresolution_mm = 1.0\n'
        f"field_strength_t = {tesla}\nsnr = {SNR.get(tesla, '[30.0, 40.0]')}\n"
    )
    subject = find_population(spec.population.source).draw_subjects(spec, "sheet", 0, 1)[0]
    engine = find_engine("mri")
    return {image.scan.kind: image for image in engine.render(engine.draw_scans(spec, subject))}


def show_slice(axis: plt.Axes, volume: NDArray[np.generic], title: str) -> None:
    """Show an axial slice through the ventricles."""
    top = float(np.percentile(volume[volume > 0], 99.7))
    axis.imshow(volume[:, :, round(volume.shape[2] * 0.55)].T, origin="lower", cmap="gray", vmin=0, vmax=top)
    axis.set_title(title, color="white", fontsize=10, loc="left")


def load_real_volume(path: Path) -> NDArray[np.generic]:
    """Return a NIfTI volume in RAS+ order at 1 mm."""
    return np.asarray(resample_to_output(nib.load(path), 1.0, order=1).dataobj)


def main() -> None:
    """Draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--fields", type=float, nargs="+", default=[3.0, 1.5, 0.064])
    parser.add_argument("--contrasts", nargs="+", default=list(SEQUENCES))
    parser.add_argument("--real", action="append", default=[], metavar="CONTRAST=FILE")
    parser.add_argument("--seed", type=int, default=11)
    arguments = parser.parse_args()
    real = dict(item.split("=", 1) for item in arguments.real)
    rows, columns = len(arguments.fields) + bool(real), len(arguments.contrasts)
    figure, axes = plt.subplots(rows, columns, figsize=(2.3 * columns, 2.9 * rows), facecolor="black", squeeze=False)
    for row, tesla in enumerate(arguments.fields):
        images = render_person(tesla, arguments.contrasts, arguments.seed)
        for column, kind in enumerate(arguments.contrasts):
            show_slice(axes[row, column], images[kind].pixels, f"{kind}, {tesla:g} T")
    for kind, path in real.items():
        show_slice(axes[-1, arguments.contrasts.index(kind)], load_real_volume(Path(path)), f"real {kind}")
    for axis in axes.ravel():
        axis.axis("off")
    figure.tight_layout(pad=0.3)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.output, dpi=50, facecolor="black", metadata={"Description": "synthetic images"})


if __name__ == "__main__":
    main()
