"""Files that were made to do harm are refused by name before memory is taken; nothing in them is ever run."""

import gzip
import io
import os
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.nouns import RefusedItem
from synth.references import plan_reference
from synth.references.limits import resolve_inside
from synth.references.pictures import decode_picture
from synth.references.plan import BadItemError, Budget, Options, ReferenceError
from synth.references.volumes import read_volume
from tests.synth.references.sources import (
    encode,
    make_pixels,
    read_source,
    write_nifti,
    write_npz,
    write_parquet,
)

PEAK = 64 << 20


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png(width=100_000, height=100_000):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + png_chunk(b"IEND", b"")


@pytest.fixture
def frugal():
    """Fail if more than 64 MB are taken."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < PEAK


def test_a_png_that_declares_too_much(frugal):
    for width, height in ((100_000, 100_000), (2**31 - 1, 2**31 - 1), (20_000, 10_000)):
        with pytest.raises(BadItemError, match=r"pixels; 134217728 are allowed|cannot be decoded"):
            decode_picture(huge_png(width, height), Budget())
    with pytest.raises(BadItemError, match=r"5 x 6|6 x 5"):
        decode_picture(encode(make_pixels(1)), Budget(pixels=29))
    decode_picture(encode(make_pixels(1)), Budget(pixels=30))


def test_pictures_that_cannot_be_kept(tmp_path):
    with pytest.raises(BadItemError, match="partly transparent"):
        decode_picture(encode(make_pixels(1, (4, 5, 4))), Budget())
    with pytest.raises(BadItemError, match="no PNG, JPEG, TIFF or BMP"):
        decode_picture(encode(make_pixels(1), "GIF"), Budget())
    frames = io.BytesIO()
    from PIL import Image

    one = Image.fromarray(make_pixels(1))
    one.save(frames, "TIFF", save_all=True, append_images=[one])
    with pytest.raises(BadItemError, match="several frames"):
        decode_picture(frames.getvalue(), Budget())


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_damage_to_a_picture_is_an_error_of_ours(data):
    kind = data.draw(st.sampled_from(["PNG", "TIFF", "BMP", "JPEG"]))
    content = bytearray(encode(make_pixels(1), kind))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for damaged in (bytes(content), bytes(content[:cut])):
        try:
            decode_picture(damaged, Budget(pixels=10_000))
        except BadItemError:
            continue


def nifti_bytes(dims=(3, 4, 5, 6), code=2, bitpix=8, offset=352.0, payload=b"\0" * 120, magic=b"n+1\0", **fields):
    header = bytearray(348)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, *dims, *([1] * (8 - len(dims))))
    struct.pack_into("<hh", header, 70, code, bitpix)
    struct.pack_into("<8f", header, 76, 1.0, *fields.get("pixdim", (1.0,) * 7))
    struct.pack_into("<f", header, 108, offset)
    header[344:348] = magic
    return bytes(header) + b"\0" * 4 + payload


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (nifti_bytes(dims=(3, 32767, 32767, 32767)), "pixels; 134217728 are allowed"),
        (nifti_bytes(dims=(3, 500, 500, 500)), "cannot hold|but the file has"),
        (nifti_bytes(dims=(3, -4, 5, 6)), "below 1"),
        (nifti_bytes(dims=(3, 0, 5, 6)), "below 1"),
        (nifti_bytes(dims=(9, 4, 5, 6)), "dimensions; 3 are expected"),
        (nifti_bytes(dims=(4, 4, 5, 6, 3)), "one volume with 3 dimensions"),
        (nifti_bytes(dims=(2, 4, 5)), "one volume with 3 dimensions"),
        (nifti_bytes(code=9999), "type of numbers is unknown"),
        (nifti_bytes(code=128, bitpix=24), "plain numbers are expected"),
        (nifti_bytes(code=32, bitpix=64), "plain numbers are expected"),
        (nifti_bytes(offset=1e30), "voxels begin at byte"),
        (nifti_bytes(offset=float("nan")), "voxels begin at byte"),
        (nifti_bytes(offset=-5.0), "voxels begin at byte"),
        (nifti_bytes(pixdim=(float("nan"),) * 7), "affine is not finite|voxels have the size"),
        (nifti_bytes(pixdim=(0.0,) * 7), "affine is not finite|voxels have the size"),
        (nifti_bytes(magic=b"ni1\0"), "pairs of .hdr and .img"),
        (nifti_bytes(payload=b"\0" * 100), "ends early|but the file has"),
        (b"\0" * 1000, "does not begin with the header"),
        (b"", "ends early"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_nifti_headers_that_lie(tmp_path, frugal, content, words, packed):
    path = tmp_path / ("a.nii.gz" if packed else "a.nii")
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(BadItemError, match=words):
        read_volume(path, Budget())


def test_a_gzip_bomb_is_unpacked_only_as_far_as_its_header_declares(tmp_path, frugal):
    path = tmp_path / "bomb.nii.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(nifti_bytes())
        for _ in range(512):
            file.write(b"\0" * (1 << 20))
    assert read_volume(path, Budget()).pixels.shape == (4, 5, 6)
    bomb = gzip.compress(nifti_bytes(dims=(3, 512, 512, 512), payload=b""))
    path.write_bytes(bomb)
    with pytest.raises(BadItemError, match="cannot hold"):
        read_volume(path, Budget())
    path.write_bytes(gzip.compress(nifti_bytes())[:-30])
    with pytest.raises(BadItemError, match=r"cannot be read|ends early"):
        read_volume(path, Budget())


@settings(max_examples=100, deadline=None)
@given(places=st.lists(st.tuples(st.integers(0, 471), st.integers(0, 255)), min_size=1, max_size=6))
def test_any_damage_to_a_nifti_is_an_error_of_ours(tmp_path_factory, places):
    content = bytearray(nifti_bytes())
    for place, value in places:
        content[place] = value
    path = tmp_path_factory.mktemp("n") / "a.nii"
    path.write_bytes(content)
    try:
        read_volume(path, Budget(pixels=10_000))
    except BadItemError:
        return


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("pickle-was-run",)


def npy_header(text):
    body = text.encode() + b" " * (118 - len(text)) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(body)) + body


GOOD = {"train_images": make_pixels(1, (3, 4, 4)), "train_labels": np.zeros((3, 1), np.uint8)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"train_images": npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999, 28, 28)}")},
            "rows",
        ),
        (
            {"train_images": npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 99999, 99999)}")},
            "pixels",
        ),
        (
            {"train_images": npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 4, 4)}")},
            "of data, but has",
        ),
        ({"train_images": npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-3, 4, 4)}")}, "rows"),
        ({"train_images": npy_header("{'descr': '|O', 'fortran_order': False, 'shape': (3, 4, 4)}")}, "a pickle"),
        ({"train_images": npy_header("__import__('os').mkdir('header-was-run')")}, "cannot be read"),
        ({"train_images": b"no array"}, "cannot be read"),
        ({"train_labels": np.zeros((2, 1), np.uint8)}, "train_labels for each"),
        ({"train_labels": np.zeros((3, 1), np.float64)}, "whole-number"),
        ({"train_images": np.zeros((3, 4, 4), np.complex64)}, "arrays of numbers"),
        ({"train_images": np.zeros((3, 4, 4, 4, 4), np.uint8)}, "expected are"),
    ],
)
def test_npz_headers_that_lie(tmp_path, monkeypatch, frugal, change, words):
    monkeypatch.chdir(tmp_path)
    write_npz(tmp_path / "x.npz", {**GOOD, **change})
    with pytest.raises(ReferenceError, match=words):
        plan_reference(tmp_path / "x.npz", Options(), Budget())
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


def test_an_npz_with_a_pickle_is_refused_and_the_pickle_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = io.BytesIO()
    np.save(out, np.array([Bomb(), Bomb(), Bomb()], dtype=object), allow_pickle=True)
    write_npz(tmp_path / "x.npz", {**GOOD, "train_labels": out.getvalue()})
    with pytest.raises(ReferenceError, match="holds Python objects"):
        plan_reference(tmp_path / "x.npz", Options(), Budget())
    assert not (tmp_path / "pickle-was-run").exists()


def test_npz_bombs(tmp_path, frugal):
    path = write_npz(tmp_path / "x.npz", {"train_images": GOOD["train_images"]})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("train_labels.npy", "w") as file:
        file.write(npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (33554432,)}"))
        for _ in range(32):
            file.write(b"\0" * (1 << 20))
    with pytest.raises(ReferenceError, match="rows; 1 to 5000000 are allowed"):
        plan_reference(path, Options(), Budget())
    with pytest.raises(ReferenceError, match="packed into"):
        plan_reference(path, Options(), Budget(ratio=100))
    path.write_bytes(write_npz(path, GOOD).read_bytes()[:-40])
    with pytest.raises(ReferenceError, match=r"cannot be read as an \.npz"):
        plan_reference(path, Options(), Budget())
    write_npz(path, {"something": GOOD["train_images"]})
    with pytest.raises(ReferenceError, match="not laid out like MedMNIST"):
        plan_reference(path, Options(), Budget())


def test_a_truncated_parquet_is_named(tmp_path):
    path = write_parquet(tmp_path / "x.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ReferenceError, match=r"'x.parquet' cannot be read as Parquet"):
        plan_reference(path, Options(), Budget())


def test_a_broken_row_group_is_refused_and_the_others_are_offered(tmp_path):
    path = write_parquet(tmp_path / "x.parquet", png=[encode(make_pixels(i, (40, 40))) for i in range(9)])
    metadata = pq.read_metadata(path)
    place = next(i for i in range(metadata.num_columns) if metadata.row_group(1).column(i).path_in_schema == "png")
    column = metadata.row_group(1).column(place)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset : column.data_page_offset + 30] = b"\xff" * 30
    path.write_bytes(content)
    _, found, refused = read_source(path)
    assert [item.name for item in found] == ["im0", "im1", "im2", "im3", "im8"]
    assert [(item.item, item.items) for item in refused] == [(4, 4)]
    assert "rows 5 to 8 cannot be read" in refused[0].reason


def test_budgets_of_tables(tmp_path):
    path = write_parquet(tmp_path / "x.parquet")
    for budget, words in (
        (Budget(rows=8), "9 rows; 8 are allowed"),
        (Budget(columns=3), "8 columns; 3 are allowed"),
        (Budget(table_bytes=10), "Choose fewer with --attributes"),
    ):
        with pytest.raises(ReferenceError, match=words):
            plan_reference(path, Options(), budget)
    _, found, refused = read_source(path, budget=Budget(file_bytes=10))
    assert not found
    assert "are allowed" in refused[0].reason
    (tmp_path / "u.csv").write_bytes(b"a,b\n\xff\xfe,2\n")
    (tmp_path / "v.csv").write_text("a,a\n1,2\n")
    for name in ("u.csv", "v.csv"):
        with pytest.raises(ReferenceError, match=name):
            plan_reference(tmp_path / name, Options(), Budget())


def test_names_that_lead_elsewhere(tmp_path):
    (tmp_path / "secret.png").write_bytes(encode(make_pixels(1)))
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "good.png").write_bytes(encode(make_pixels(2)))
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "out").symlink_to(tmp_path, target_is_directory=True)
    (folder / "inside.png").symlink_to(folder / "good.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    for name, words in (
        ("../secret.png", r"has '\.\.'"),
        ("a/../../secret.png", r"has '\.\.'"),
        (str(tmp_path / "secret.png"), "absolute"),
        ("C:/secret.png", "absolute"),
        ("..\\secret.png", "backslash"),
        ("link.png", "leads out of the folder"),
        ("out/secret.png", "leads out of the folder"),
        ("pipe.png", "no regular file"),
        ("loop.png", "no such file"),
        ("absent.png", "no such file"),
        ("good.png\0", "zero byte"),
        ("x" * 5000, "no such file"),
    ):
        with pytest.raises(BadItemError, match=words):
            resolve_inside(folder, name)
    _, found, refused = read_source(folder)
    assert [item.name for item in found] == ["good.png", "inside.png"]
    assert [item.name for item in refused] == ["link.png", "loop.png", "pipe.png"]


def test_a_volume_that_is_a_link_out_is_refused(tmp_path):
    write_nifti(tmp_path / "secret.nii")
    folder = tmp_path / "data"
    write_nifti(folder / "sub-01_T1w.nii")
    (folder / "sub-02_T1w.nii").symlink_to(tmp_path / "secret.nii")
    _, found, refused = read_source(folder)
    assert [item.name for item in found] == ["sub-01_T1w.nii"]
    assert refused == [RefusedItem(1, "sub-02_T1w.nii", "it is a link that leads out of the folder")]


def test_a_column_of_nested_or_strange_values_is_left_out(tmp_path):
    path = write_parquet(
        tmp_path / "x.parquet",
        nested=[{"a": 1}] * 9,
        when=pa.array([0] * 9, pa.timestamp("s")),
        empty=pa.nulls(9),
        code=pa.array(["a", "b", None] * 3).dictionary_encode(),
        flag=[True, None, False] * 3,
    )
    plan, found, _ = read_source(path)
    assert len([note for note in plan.notes if "is left out" in note]) == 3
    assert found[1].attributes["flag"] is None
    assert found[0].attributes["flag"] == "true"
    assert [item.attributes["code"] for item in found[:3]] == ["a", "b", None]
