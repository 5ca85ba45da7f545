"""Small made-up patients: discs whose size tells the sex and whose place is their own, in 2D and 3D."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.synth.references.sources import encode, write_nifti

SIZE = 32


def draw_disc(key, sex, size=SIZE):
    """Return an 8-bit picture of one visit of one person."""
    g = np.random.Generator(np.random.Philox(key=key))
    y, x = np.mgrid[:size, :size]
    row, column = g.uniform(10, 22, 2)
    width = 4 + 4 * (sex == "M") + 0.5 * g.normal()
    values = 200 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * width**2)) + 20 + g.normal(0, 8, (size, size))
    return np.clip(values, 0, 255).astype(np.uint8)


def sex_of(person):
    return "FM"[person % 2]


def write_real(path, patients=60, visits=2):
    """Write a Parquet table of real patients."""
    rows = [(person, visit) for person in range(patients) for visit in range(visits)]
    table = {
        "image_id": [f"im{person}-{visit}" for person, visit in rows],
        "patient_id": [f"p{person}" for person, _ in rows],
        "follow_up": [visit for _, visit in rows],
        "sex": [sex_of(person) for person, _ in rows],
        "age_years": [20 + person for person, _ in rows],
        "findings": [["round"] if person % 3 else [] for person, _ in rows],
        "png": [encode(draw_disc(2 * person + visit, sex_of(person))) for person, visit in rows],
    }
    pq.write_table(pa.table(table), path)
    return path


def write_made(folder, count=40, copies=(), bad=("bad.png",)):
    """Write a folder of synthetic pictures with a table; ``copies`` are (person, visit) whose picture is taken over."""
    folder.mkdir(parents=True)
    lines = ["file,sex,age_years,weight_kg"]
    pictures = [(draw_disc(10_000 + place, sex_of(place)), sex_of(place)) for place in range(count - len(copies))]
    pictures += [(draw_disc(2 * person + visit, sex_of(person)), sex_of(person)) for person, visit in copies]
    for place, (pixels, sex) in enumerate(pictures):
        (folder / f"made{place}.png").write_bytes(encode(pixels))
        lines.append(f"made{place}.png,{sex},{30 + place}.5,{60 + place}")
    for name in bad:
        (folder / name).write_bytes(b"no picture")
        lines.append(f"{name},F,50.5,70")
    (folder / "about.csv").write_text("\n".join(lines) + "\n")
    return folder


def write_heads(folder, people=64, contrasts=("T1w",)):
    """Write a BIDS folder of coarse volumes."""
    lines = ["participant_id\tage_years\tsex"]
    for person in range(people):
        name = f"sub-{person:03d}"
        for contrast in contrasts:
            g = np.random.Generator(np.random.Philox(key=person + 1000 * len(contrast)))
            place = np.stack(np.mgrid[:12, :14, :12], -1) - 6.0
            radius = np.linalg.norm(place / g.uniform(0.9, 1.1, 3), axis=-1)
            shape = np.where(radius < 5, 900 + 100 * np.sin(radius * g.uniform(1, 2)), 20.0)
            pixels = np.clip(shape + g.normal(0, 20, radius.shape), 0, 2000).astype(np.int16)
            write_nifti(folder / f"{name}/anat/{name}_{contrast}.nii.gz", pixels, np.diag([15.0, 15.0, 15.0, 1.0]))
        lines.append(f"{name}\t{20 + person}\t{sex_of(person)}")
    (folder / "participants.tsv").write_text("\n".join(lines) + "\n")
    return folder
