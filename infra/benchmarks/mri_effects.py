"""Draw one brain with each effect of the scanner, and with all of them, at 1 mm.

    python infra/benchmarks/mri_effects.py docs/images/mri-effects.png

Columns: no effect, each effect at its usual strength (but blurring, which needs an echo train), SENSE, all together.
Rows: T1w and diffusion, axial and sagittal.
Prints the processor seconds of each image. The scanner is at 3 tesla.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from synth.engines import find_engine
from synth.nouns import Image
from synth.physics.effects import EFFECTS
from synth.population import find_population
from synth.spec import parse_spec

CONTRASTS = ["T1w", "DWI-b1000"]
STRENGTH = {"gibbs": "share = 0.5", "undersampling": "acceleration = 3", "slices": "thickness_mm = 5"}
CASES = {
    "none": "",
    **{name: f"{name} = {{ {STRENGTH.get(name, '')} }}" for name in EFFECTS if name != "blurring"},
    "SENSE, R = 4": "coils = {}\nundersampling = { acceleration = 4, sense = 1 }",
    "all": "\n".join(f"{name} = {{}}" for name in EFFECTS),
}


def render_case(lines: str, resolution_mm: float) -> tuple[list[Image], float]:
    """Return the images of one person with the effects in ``lines``, and the processor seconds they took."""
    spec = parse_spec(
        'name = "sheet"\nsubjects = 1\nseed = 4\n[population]\nwhere = { field_strength_t = [3.0], '
        f'diagnosis = ["multiple-sclerosis"] }}\n[imaging]\ncontrasts = {CONTRASTS}\nresolution_mm = {resolution_mm}\n'
        f"snr = [40.0, 40.0]\n[imaging.effects]\n{lines}\n"
    )
    engine = find_engine("mri")
    engine.check(spec)
    subject = find_population(spec.population.source).draw_subjects(spec, "sheet", 0, 1)[0]
    scans = engine.draw_scans(spec, subject)
    start = time.process_time()
    return engine.render(scans), time.process_time() - start


def show_image(axes: list[plt.Axes], image: Image, title: str) -> None:
    """Show an axial slice through the ventricles and a sagittal one."""
    pixels = image.pixels
    top = float(np.percentile(pixels[pixels > 0], 99.7))
    assert image.spacing_mm is not None
    x, y, z = image.spacing_mm
    axial, sagittal = pixels[:, :, round(pixels.shape[2] * 0.5)].T, pixels[pixels.shape[0] // 2 + 4].T
    axes[0].imshow(axial, origin="lower", cmap="gray", vmin=0, vmax=top, aspect=y / x)
    axes[0].set_title(title, color="white", fontsize=9, loc="left")
    axes[1].imshow(sagittal, origin="lower", cmap="gray", vmin=0, vmax=top, aspect=z / y)


def main() -> None:
    """Draw the sheet and print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--resolution", type=float, default=1.0)
    arguments = parser.parse_args()
    figure, axes = plt.subplots(4, len(CASES), figsize=(2.1 * len(CASES), 9.2), facecolor="black")
    render_case("", arguments.resolution)
    for column, (name, lines) in enumerate(CASES.items()):
        images, seconds = render_case(lines, arguments.resolution)
        print(f"{name:16s} {seconds / len(images):6.2f} s an image")
        for number, image in enumerate(images):
            show_image(list(axes[2 * number : 2 * number + 2, column]), image, f"{name}, {image.scan.kind}")
    for axis in axes.ravel():
        axis.axis("off")
    figure.tight_layout(pad=0.2)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.output, dpi=50, facecolor="black", metadata={"Description": "synthetic images"})


if __name__ == "__main__":
    main()
