"""Small made-up sources of every kind."""

import io
import json
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from synth.nouns import RefusedItem
from synth.references import ADAPTERS, plan_reference
from synth.references.items import BegunItem, FoundItem
from synth.references.plan import Budget, Options


def make_pixels(key, shape=(6, 5), dtype=np.uint8):
    generator = np.random.Generator(np.random.Philox(key=key))
    return generator.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def encode(pixels, kind="PNG"):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def read_source(path, budget=None, first=0, **options):
    """Return (plan, found items, refused items) of a source; every item appears once and in order."""
    budget = budget or Budget()
    plan = plan_reference(Path(path), Options(**options), budget)
    steps = list(ADAPTERS[plan.adapter].read(Path(path), plan, budget, first))
    found = [s for s in steps if isinstance(s, FoundItem)]
    refused = [s for s in steps if isinstance(s, RefusedItem)]
    places = [s.item for s in found] + [i for s in refused for i in range(s.item, s.item + s.items)]
    assert sorted(places) == list(range(first, plan.items))
    begun = [s.item for s in steps if isinstance(s, BegunItem)]
    assert begun == sorted(begun)
    return plan, found, refused


def write_parquet(path, rows=9, group=4, **columns):
    table = {
        "image_id": [f"im{i}" for i in range(rows)],
        "patient_id": pa.array([i // 2 for i in range(rows)], pa.int32()),
        "follow_up": pa.array([i % 2 for i in range(rows)], pa.int16()),
        "age_years": [None if i == 3 else 40 + i for i in range(rows)],
        "weight_kg": [60.5 + i for i in range(rows)],
        "sex": ["FM"[i % 2] for i in range(rows)],
        "findings": [["b", "a"] if i % 2 else [] for i in range(rows)],
        "png": [encode(make_pixels(i)) for i in range(rows)],
        **columns,
    }
    pq.write_table(pa.table(table), path, row_group_size=group)
    return path


def write_npz(path, arrays, compress=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compress) as archive:
        for name, array in arrays.items():
            data = array
            if not isinstance(array, bytes):
                out = io.BytesIO()
                np.lib.format.write_array(out, array)
                data = out.getvalue()
            archive.writestr(f"{name}.npy", data)
    return path


def write_nifti(path, pixels=None, affine=None, **header):
    pixels = make_pixels(3, (4, 5, 6)) if pixels is None else pixels
    image = nibabel.Nifti1Image(pixels, np.diag([1.0, 2.0, 3.0, 1.0]) if affine is None else affine)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def write_bids(folder):
    for person in ("01", "02"):
        for session in ("a", "b"):
            write_nifti(folder / f"sub-{person}/ses-{session}/anat/sub-{person}_ses-{session}_T1w.nii.gz")
    write_nifti(folder / "sub-03/anat/sub-03_FLAIR.nii.gz")
    write_nifti(folder / "derivatives/x/sub-01_T1w.nii.gz")
    write_nifti(folder / "sub-03/anat/sub-03_mask.nii.gz")
    (folder / "participants.tsv").write_text(
        "participant_id\tage\tsex\tgroup\nsub-01\t41\tF\tn/a\nsub-02\tn/a\tM\tms\nsub-09\t33\tF\tms\n"
    )
    (folder / "participants.json").write_text(json.dumps({"age": {"Units": "years", "Description": "Age at scan."}}))
    return folder
