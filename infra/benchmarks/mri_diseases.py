"""Draw one person with each disease, two visits, the contrasts that show it, and the outline of its mask.

    python infra/benchmarks/mri_diseases.py docs/images/mri-diseases.png

Rows: diseases, with two visits side by side. People come from the population, at 3 T and 1 mm; the slice is the axial
one that cuts most of the mask of the second visit. Each panel runs from 0 to its 99.5th percentile inside the skull. It
prints what was asked of each mask and what it has, and the CPU seconds of a visit.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image as Picture

from synth.engines import find_engine
from synth.nouns import Image, Visit
from synth.physics.grid import LESIONS
from synth.population import find_population
from synth.spec import parse_spec

COLOURS = {"lesion": "#ff4040", "oedema": "#ffd24a", "enhancing": "#40c8ff", "core": "#b070ff"}
SHEET = {  # diagnosis: its title, subject, years between visits, contrasts, loads in mL (None: as drawn)
    "multiple-sclerosis": ("multiple sclerosis", 0, 0.5, ("T1w", "T1w-Gd", "T2w-FSE", "FLAIR"), (14.0, 16.0)),
    "none": ("hyperintensities of age", 1, 4.0, ("T1w", "T2w-FSE", "FLAIR", "ADC"), (9.0, 26.0)),
    "alzheimer-disease": ("Alzheimer's disease", 2, 5.0, ("T1w", "T2w-FSE", "FLAIR", "PDw"), None),
    "glioma": ("glioma", 3, 0.2, ("T1w", "T1w-Gd", "T2w-FSE", "FLAIR"), (35.0, 75.0)),
    "meningioma": ("meningioma", 4, 4.0, ("T1w", "T1w-Gd", "T2w-FSE", "FLAIR"), (10.0, 22.0)),
    "ischaemic-stroke": ("ischaemic stroke", 5, 1.0, ("T1w", "FLAIR", "DWI-b1000", "ADC"), (55.0, 37.0)),
}


def render_disease(diagnosis: str, seed: int) -> list[Image]:
    """Return the images of one person with ``diagnosis`` at two visits."""
    _, number, years, contrasts, loads = SHEET[diagnosis]
    spec = parse_spec(
        f'name = "sheet"\nsubjects = 12\nseed = {seed}\n[population]\nwhere = {{ age_years = [45, 75], '
        f'diagnosis = ["{diagnosis}"] }}\n[imaging]\ncontrasts = {list(contrasts)}\nresolution_mm = 1.0\n'
        f"field_strength_t = 3.0\nsnr = [40, 45]\nvisits = {{ count = 2, interval_years = {years} }}\n"
    )
    subject = find_population("adult-brain").draw_subjects(spec, "sheet", number, number + 1)[0]
    if loads is not None:
        visits = tuple(_load(visit, ml, diagnosis) for visit, ml in zip(subject.visits, loads, strict=True))
        subject = replace(subject, visits=visits)
    engine, start = find_engine("mri"), time.process_time()
    images = engine.render(engine.draw_scans(spec, subject))
    print(f"{diagnosis}: {(time.process_time() - start) / 2:.1f} s of CPU a visit, {len(contrasts)} contrasts")
    for image in images:
        if image.scan.kind == contrasts[0]:
            [found] = [m for m in image.measurements if m.name == "lesion_volume"]
            print(f"  visit {image.scan.visit}: {found.requested:.1f} mL asked, {found.measured:.1f} mL in the mask")
    return images


def _load(visit: Visit, ml: float, diagnosis: str) -> Visit:
    spots = {"hyperintensity_ml": ml if diagnosis == "none" else 0.0} if diagnosis != "multiple-sclerosis" else {}
    return replace(visit, lesion_ml=ml, attributes={**visit.attributes, **spots})


def show_visit(axes: list[plt.Axes], images: list[Image], height: int) -> None:
    """Show one visit: its contrasts, then the last but one with the outline of each label."""
    mask = images[0].masks["lesion"][:, :, height]
    for axis, image in zip(axes, [*images, images[-2]], strict=True):
        inside = image.masks["tissue"][:, :, height] > 0
        plane = image.pixels[:, :, height]
        axis.imshow(plane.T, origin="lower", cmap="gray", vmin=0, vmax=np.percentile(plane[inside], 99.5))
        axis.set_title(image.scan.kind, color="white", fontsize=7, pad=2)
        axis.set_xlim(8, 160)
        axis.axis("off")
    for name, value in LESIONS.items():
        if (mask == value).any():
            axes[-1].contour((mask == value).T.astype(float), [0.5], colors=COLOURS[name], linewidths=0.7)


def shrink_picture(path: str) -> None:
    """Save the picture with a palette: greys, and each colour of an outline from dark to full."""
    shades = [(level,) * 3 for level in np.linspace(0, 255, 44).astype(int).tolist()]
    for colour in COLOURS.values():
        full = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
        shades += [tuple((share * full).astype(int).tolist()) for share in (0.4, 0.6, 0.8, 1.0)]
    palette = Picture.new("P", (1, 1))
    palette.putpalette([value for shade in shades for value in shade])
    picture = Picture.open(path).convert("RGB").quantize(palette=palette, dither=Picture.Dither.NONE)
    picture.save(path, optimize=True)


def main() -> None:
    """Draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="PNG to write")
    parser.add_argument("--seed", type=int, default=12)
    arguments = parser.parse_args()
    figure, axes = plt.subplots(6, 10, figsize=(15, 10.6), facecolor="black")
    for row, diagnosis in enumerate(SHEET):
        images = render_disease(diagnosis, arguments.seed)
        lesion = images[-1].masks["lesion"] > 0
        height = int(lesion.sum(axis=(0, 1)).argmax()) if lesion.any() else 66
        for visit in range(2):
            own = [image for image in images if image.scan.visit == visit]
            show_visit(list(axes[row, 5 * visit : 5 * visit + 5]), own, height)
        axes[row, 0].set_title(f"{SHEET[diagnosis][0]}: {images[0].scan.kind}", color="white", fontsize=7, pad=2)
    figure.subplots_adjust(0, 0, 1, 0.985, 0.01, 0.09)
    figure.savefig(arguments.out, dpi=78, facecolor="black")
    shrink_picture(arguments.out)


if __name__ == "__main__":
    main()
