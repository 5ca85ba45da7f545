import hashlib
import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as PilImage

from catalog.codec import DTYPES, decode_array, encode_array, hash_array
from catalog.preview import draw_preview
from synth.errors import CatalogError

SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=7)


@given(st.sampled_from(DTYPES).flatmap(lambda name: hnp.arrays(np.dtype(name), SHAPES)), st.booleans(), st.booleans())
def test_any_array_comes_back_bit_for_bit(array, fortran, big_endian):
    given_array = np.asfortranarray(array) if fortran else array
    if big_endian:
        given_array = given_array.astype(given_array.dtype.newbyteorder(">"))
    back = decode_array(encode_array(given_array), array.dtype.name, array.shape)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()
    assert hash_array(given_array) == hash_array(array)


def test_the_hash_is_that_of_the_raw_little_endian_bytes():
    pixels = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    assert hash_array(pixels) == hashlib.sha256(pixels.astype("<u2").tobytes("C")).hexdigest()


def test_shuffling_makes_smooth_images_smaller():
    x = np.linspace(0, 3, 40)
    noise = np.random.Generator(np.random.Philox(3)).normal(0, 30, (40, 40, 40))
    smooth = (10000 + 3000 * np.sin(x)[:, None, None] * np.cos(x)[None, :, None] + noise).astype(np.uint16)
    plain = pa.Codec("zstd", compression_level=1).compress(smooth.tobytes(), asbytes=True)
    assert len(encode_array(smooth)) < 0.95 * len(plain)


def test_types_we_do_not_store_are_named():
    with pytest.raises(CatalogError, match=r"float64 cannot be stored; use one of uint8"):
        encode_array(np.zeros(3))


def test_bytes_that_cannot_be_the_array_are_refused():
    data = encode_array(np.zeros((2, 2), np.uint16))
    for dtype, shape in (("uint16", (2, 3)), ("object", (2, 2))):
        with pytest.raises((ValueError, OSError)):
            decode_array(data, dtype, shape)


def test_preview_shows_three_slices_upright_and_says_synthetic():
    pixels = np.zeros((20, 40, 30), np.uint16)
    pixels[:, :, 15:] = 60000  # the upper half is bright
    png = PilImage.open(io.BytesIO(draw_preview("x-0", pixels, (1.0, 1.0, 1.0))))
    assert png.text["Synthetic Data"] == "YES"
    assert png.text["image_id"] == "x-0"
    widths = [round(80 * a) for a in (20 / 40, 20 / 30, 40 / 30)]
    assert png.size == (sum(widths), 80)
    grey = np.asarray(png)
    coronal = grey[:, widths[0] : widths[0] + widths[1]]
    assert coronal[:35].min() > 200
    assert coronal[45:].max() == 0


def test_lesions_stand_out_of_tissue_in_a_preview():
    pixels = np.zeros((40, 40, 40), np.uint16)
    pixels[8:32, 8:32, 8:32] = 1000
    pixels[18:22, 18:22, 18:22] = 1300
    shown = np.asarray(PilImage.open(io.BytesIO(draw_preview("x-0", pixels, (1.0, 1.0, 1.0)))))
    assert shown[0, 0] == 0
    assert 180 < np.median(shown[shown > 100]) < 220
    assert shown.max() > 235


def test_preview_of_flat_and_of_2d_images():
    assert PilImage.open(io.BytesIO(draw_preview("x", np.zeros((4, 4, 4), np.uint16), (1.0, 1.0, 1.0)))).size == (
        240,
        80,
    )
    assert PilImage.open(io.BytesIO(draw_preview("x", np.ones((10, 20), np.uint16), (1.0, 1.0)))).size == (160, 80)
    with pytest.raises(CatalogError, match="2 or 3 axes"):
        draw_preview("x", np.zeros(4, np.uint16), (1.0,))
