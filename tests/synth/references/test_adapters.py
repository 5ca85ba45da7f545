"""Every adapter on small made-up sources and on the real ones: what is detected, and what comes out."""

import shutil
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synth.references import ADAPTERS, choose_adapter, plan_reference
from synth.references.columns import guess_unit
from synth.references.plan import Budget, Options, ReferenceError
from tests.synth.references.sources import (
    encode,
    make_pixels,
    read_source,
    write_bids,
    write_nifti,
    write_npz,
    write_parquet,
)


def kinds(plan):
    return {a.name: (a.kind, a.unit) for a in plan.attributes}


def test_parquet_with_pictures(tmp_path):
    path = write_parquet(tmp_path / "x.parquet")
    plan, found, refused = read_source(path)
    assert (plan.adapter, plan.items, plan.patients, plan.image_column) == ("parquet", 9, 5, "png")
    assert (plan.name_column, plan.patient_column, plan.order_column) == ("image_id", "patient_id", "follow_up")
    assert kinds(plan) == {
        "age_years": ("integer", "years"), "weight_kg": ("continuous", "kg"), "sex": ("categorical", ""),
        "findings": ("set", ""),
    }  # fmt: skip
    assert not refused
    for i, item in enumerate(found):
        np.testing.assert_array_equal(item.pixels, make_pixels(i))
        assert (item.name, item.patient, item.order, item.axes) == (f"im{i}", str(i // 2), i % 2, "yx")
    assert found[3].attributes == {"age_years": None, "weight_kg": 63.5, "sex": "M", "findings": ["a", "b"]}
    assert found[4].attributes["findings"] == []
    _, tail, _ = read_source(path, first=6)
    assert [item.name for item in tail] == ["im6", "im7", "im8"]


def test_options_choose_columns_and_wrong_ones_are_named(tmp_path):
    path = write_parquet(tmp_path / "x.parquet", person=[f"p{i % 3}" for i in range(9)])
    plan, found, _ = read_source(path, patient="person", attributes=("sex", "patient_id"))
    assert plan.patients == 3
    assert found[4].patient == "p1"
    assert {a.column for a in plan.attributes} == {"sex", "patient_id"}
    assert {a.name for a in plan.attributes} == {"sex", "patient_id_in_source"}
    for options, words in (
        ({"patient": "persn"}, "no column 'persn'. Did you mean 'person'"),
        ({"attributes": ("sax",)}, "no column 'sax'. Did you mean 'sex'"),
        ({"image": "sex"}, "no column 'sex' of bytes"),
        ({"adapter": "parkett"}, "Did you mean 'parquet'"),
    ):
        with pytest.raises(ReferenceError, match=words):
            plan_reference(path, Options(**options), Budget())


def test_parquet_as_hugging_face_writes_it(tmp_path):
    pictures = [{"bytes": encode(make_pixels(i)), "path": f"{i}.png"} for i in range(4)]
    pq.write_table(pa.table({"image": pictures, "label": [0, 1, 0, 1]}), tmp_path / "x.parquet")
    plan, found, _ = read_source(tmp_path / "x.parquet")
    assert plan.patients is None
    assert "patients are unknown" in " ".join(plan.notes)
    assert [item.name for item in found] == ["row 1", "row 2", "row 3", "row 4"]
    np.testing.assert_array_equal(found[2].pixels, make_pixels(2))


def test_bad_rows_are_named_and_the_rest_is_offered(tmp_path):
    good = [encode(make_pixels(i)) for i in range(9)]
    pictures = [None, b"no picture", good[2][:60], *good[3:]]
    path = write_parquet(tmp_path / "x.parquet", png=pictures, image_id=["a", "b", "c", "d", "e", "e", None, "h", "i"])
    with_png_first = pq.read_table(path).take([3, 0, 1, 2, 4, 5, 6, 7, 8])
    pq.write_table(with_png_first, path, row_group_size=4)
    _, found, refused = read_source(path)
    assert [item.name for item in found] == ["d", "h", "i"]
    reasons = {item.name: item.reason for item in refused if item.name != "e"}
    assert reasons["a"] == "it has no picture"
    assert "no PNG" in reasons["b"]
    assert "cannot be decoded" in reasons["c"] or "no PNG" in reasons["c"]
    assert reasons["row 7"] == "it has no name"
    assert [item.reason for item in refused if item.name == "e"] == ["several rows have its name"] * 2


@pytest.mark.parametrize(
    ("array", "kind", "wanted", "axes"),
    [
        (make_pixels(1), "PNG", None, "yx"),
        (make_pixels(1, dtype=np.uint16), "PNG", None, "yx"),
        (make_pixels(1, (4, 5, 3)), "PNG", None, "yxc"),
        (np.repeat(make_pixels(1)[..., None], 3, 2), "PNG", make_pixels(1), "yx"),
        (make_pixels(1, (4, 5, 3)), "BMP", None, "yxc"),
        (make_pixels(1, dtype=np.uint16), "TIFF", None, "yx"),
        (np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), "TIFF", None, "yx"),
        (np.full((8, 8), 77, np.uint8), "JPEG", None, "yx"),
    ],
)
def test_pictures_keep_their_values(tmp_path, array, kind, wanted, axes):
    (tmp_path / f"a.{kind.lower()}").write_bytes(encode(array, kind))
    _, found, _ = read_source(tmp_path)
    np.testing.assert_array_equal(found[0].pixels, array if wanted is None else wanted)
    assert found[0].axes == axes
    assert found[0].pixels.dtype == array.dtype


def test_medmnist_keeps_train_and_names_classes(tmp_path):
    arrays = {
        "train_images": make_pixels(1, (5, 8, 8)), "train_labels": np.array([[0], [1], [1], [0], [1]], np.uint8),
        "val_images": make_pixels(2, (3, 8, 8)), "val_labels": np.zeros((3, 1), np.uint8),
    }  # fmt: skip
    plan, found, _ = read_source(write_npz(tmp_path / "pneumoniamnist_8.npz", arrays))
    assert (plan.adapter, plan.items, plan.patients) == ("medmnist", 8, None)
    assert plan.given_splits == {"train": 5, "validation or holdout": 3}
    assert [item.attributes["label"] for item in found[:3]] == ["normal", "pneumonia", "pneumonia"]
    assert [item.given_split for item in found] == ["train"] * 5 + ["validation or holdout"] * 3
    np.testing.assert_array_equal(found[6].pixels, arrays["val_images"][1])
    several = {
        "train_images": make_pixels(1, (2, 4, 4, 3)), "train_labels": np.array([[0, 1, 1], [0, 0, 0]]),
        "val_images": make_pixels(1, (1, 4, 4, 3)), "val_labels": np.array([[1, 0, 0]]),
        "test_images": make_pixels(1, (1, 4, 4, 3)), "test_labels": np.array([[0, 0, 1]]),
    }  # fmt: skip
    plan, found, _ = read_source(write_npz(tmp_path / "other.npz", several))
    assert kinds(plan) == {"label": ("set", "")}
    assert [item.attributes["label"] for item in found] == [["1", "2"], [], ["0"], ["2"]]
    assert [item.given_split for item in found] == ["train", "train", "validation", "holdout"]
    assert found[0].axes == "yxc"


def test_a_folder_of_pictures_with_a_table(tmp_path):
    folder = tmp_path / "skin"
    (folder / "deep").mkdir(parents=True)
    for number in range(4):
        (folder / "deep" / f"im{number}.png").write_bytes(encode(make_pixels(number)))
    (folder / "unnamed.png").write_bytes(encode(make_pixels(9)))
    (folder / "labels.csv").write_text(
        "Image Index,Patient ID,Follow-up #,Finding Labels,height (cm),code,note\n"
        "im0.png,007,0,a|b,170.5,01,x\nim1,007,1,b,,02,y\ndeep/im2.png,8,0,No Finding,180,01,\n"
        "im3.png,,0,a,160,01,\nim7.png,9,0,a,160,01,\n../secret.png,9,1,a,160,01,\n/etc/x.png,9,2,a,160,01,\n"
    )
    plan, found, refused = read_source(folder)
    assert (plan.adapter, plan.patient_column, plan.order_column) == ("folder", "Patient ID", "Follow-up #")
    assert kinds(plan) == {
        "Finding Labels": ("set", ""), "height (cm)": ("continuous", "cm"), "code": ("categorical", ""),
        "note": ("categorical", ""),
    }  # fmt: skip
    assert [(i.name, i.patient) for i in found] == [("im0.png", "007"), ("im1", "007"), ("deep/im2.png", "8")]
    assert found[0].attributes["Finding Labels"] == ["a", "b"]
    assert found[1].attributes["height (cm)"] is None
    assert {item.name: item.reason for item in refused} == {
        "im3.png": "its patient is missing",
        "im7.png": "there is no such file in the folder",
        "../secret.png": "its name has '..'; names must stay within the folder",
        "/etc/x.png": "its name is absolute; names must be relative to the folder",
    }
    assert any("1 pictures are left out" in note or "2 pictures" in note for note in plan.notes)


def test_a_folder_without_a_table_and_one_with_two(tmp_path):
    for name in ("cats/a.png", "dogs/a.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(encode(make_pixels(1)))
    _plan, found, _ = read_source(tmp_path)
    assert [(i.name, i.attributes["folder"], i.patient) for i in found] == [
        ("cats/a.png", "cats", None), ("dogs/a.png", "dogs", None)
    ]  # fmt: skip
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("x\n1\n")
    with pytest.raises(ReferenceError, match=r"2 tables \(a.csv, b.csv\)"):
        plan_reference(tmp_path, Options(), Budget())


def test_tables_of_records_alone(tmp_path):
    (tmp_path / "r.tsv").write_text("subject\tvisit\tage_years\tname\n" + "\n".join(
        f"s{i // 2}\t{i % 2}\t{'n/a' if i == 5 else i}\tJane Doe {i}" for i in range(60)))  # fmt: skip
    plan, found, _ = read_source(tmp_path / "r.tsv")
    assert (plan.adapter, plan.has_pixels, plan.patients, plan.order_column) == ("table", False, 30, "visit")
    assert kinds(plan) == {"age_years": ("integer", "years")}
    assert "names, dates or free text" in " ".join(plan.notes)
    assert found[5].attributes == {"age_years": None}
    assert found[0].pixels is None
    write_parquet(tmp_path / "r.parquet")
    pq.write_table(pq.read_table(tmp_path / "r.parquet").drop_columns(["png"]), tmp_path / "r.parquet")
    plan, found, _ = read_source(tmp_path / "r.parquet")
    assert (plan.adapter, plan.has_pixels, len(found)) == ("table", False, 9)


def test_rows_of_another_length_are_named_and_left_out(tmp_path):
    (tmp_path / "r.csv").write_text('patient,age,note\na,1,"two\nlines"\nb,2\nc,3,x\nd,4,x,5\n')
    plan, found, _ = read_source(tmp_path / "r.csv")
    assert [item.attributes["age"] for item in found] == [1, 3]
    assert "2 rows do not have as many cells as the header" in plan.notes[0]
    assert found[0].attributes["note"] == "two\nlines"


def test_bids(tmp_path):
    plan, found, refused = read_source(write_bids(tmp_path))
    assert (plan.adapter, plan.items, plan.patients) == ("nifti", 5, 3)
    assert kinds(plan) == {
        "contrast": ("categorical", ""), "age": ("integer", "years"), "sex": ("categorical", ""),
        "group": ("categorical", ""),
    }  # fmt: skip
    assert [(i.patient, i.order) for i in found] == [
        ("sub-01", 0), ("sub-01", 1), ("sub-02", 0), ("sub-02", 1), ("sub-03", None)
    ]  # fmt: skip
    assert found[0].attributes == {"contrast": "T1w", "age": 41, "sex": "F", "group": None}
    assert found[4].attributes == {"contrast": "FLAIR", "age": None, "sex": None, "group": None}
    np.testing.assert_array_equal(found[0].pixels, make_pixels(3, (4, 5, 6)))
    assert (found[0].axes, found[0].spacing_mm) == ("xyz", (1.0, 2.0, 3.0))
    assert not refused
    notes = " ".join(plan.notes)
    assert "2 label maps" in notes
    assert "1 participants have volumes and are not in" in notes
    assert "1 participants are only in" in notes


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [("uint8", "uint8"), ("int16", "int16"), ("int32", "uint8"), ("float64", "float32"), ("float32", "float32")],
)
def test_nifti_types(tmp_path, dtype, kept):
    pixels = make_pixels(1, (3, 4, 5)).astype(dtype)
    write_nifti(tmp_path / "a.nii", pixels)
    _, found, _ = read_source(tmp_path / "a.nii")
    assert found[0].pixels.dtype == kept
    np.testing.assert_array_equal(found[0].pixels, pixels)


def test_the_first_adapter_that_recognises_a_source_reads_it(tmp_path):
    with pytest.raises(ReferenceError, match="no file or folder"):
        choose_adapter(tmp_path / "absent", Options(), Budget())
    with pytest.raises(ReferenceError, match="is empty"):
        choose_adapter(tmp_path, Options(), Budget())
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ReferenceError, match=r"is not understood\. Understood are: One \.npz"):
        choose_adapter(tmp_path / "a.txt", Options(), Budget())
    for adapter in ADAPTERS.values():
        assert len(adapter.description.split()) > 5
        assert adapter.detect(tmp_path / "a.txt", Budget()) is None


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("age_years", "years"),
        ("height (cm)", "cm"),
        ("SUV [g/ml]", "g/ml"),
        ("dose_mGy", "mGy"),
        ("s", ""),
        ("sex", ""),
    ],
)
def test_units_come_from_names(name, unit):
    assert guess_unit(name) == unit


def test_real_chest_radiographs(shared):
    plan, found, refused = read_source(shared / "nih_cxr_sample.parquet")
    assert (plan.adapter, plan.patients, len(found), refused) == ("parquet", 542, 786, [])
    assert kinds(plan) == {
        "age_years": ("integer", "years"), "sex": ("categorical", ""), "view": ("categorical", ""),
        "findings": ("set", ""),
    }  # fmt: skip
    assert {(item.pixels.shape, item.pixels.dtype.name) for item in found} == {((256, 256), "uint8")}


def test_real_records_without_images(shared):
    plan, found, _ = read_source(shared / "nih_cxr14_metadata.parquet")
    assert (plan.adapter, plan.patients, len(found), plan.has_pixels) == ("table", 27600, 98979, False)


def test_real_medmnist(shared):
    plan, found, _ = read_source(shared / "pneumoniamnist_28.npz")
    assert (plan.adapter, len(found)) == ("medmnist", 2698)
    arrays = np.load(shared / "pneumoniamnist_28.npz", allow_pickle=False)
    np.testing.assert_array_equal(np.stack([i.pixels for i in found[:2428]]), arrays["train_images"])
    np.testing.assert_array_equal(np.stack([i.pixels for i in found[2428:]]), arrays["val_images"])
    assert Counter(i.attributes["label"] for i in found)["pneumonia"] == int(
        arrays["train_labels"].sum() + arrays["val_labels"].sum()
    )


def test_real_nifti(shared, tmp_path):
    import nibabel

    for name in ("real_t1_head.nii.gz", "real_flair_lesion.nii.gz"):
        shutil.copy(shared / name, tmp_path)
    plan, found, _ = read_source(tmp_path)
    assert (plan.adapter, len(found), plan.patients) == ("nifti", 2, None)
    for item in found:
        image = nibabel.load(tmp_path / item.name)
        np.testing.assert_array_equal(item.pixels * item.intensity_scale, image.get_fdata())
        np.testing.assert_allclose(np.reshape(item.affine, (4, 4)), image.affine, atol=1e-6)
