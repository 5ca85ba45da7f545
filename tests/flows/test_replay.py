"""Replay: every image is made again from its row alone, bit for bit; a difference is found and measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from catalog import open_catalog, resolve_home
from catalog.writer import open_writer
from flows.replay import TOLERANCE, compare_images, replay_images
from flows.settings import load_settings
from synth.engines import find_engine
from synth.errors import CatalogError


def image_ids(home) -> list[str]:
    with open_catalog(home) as catalog:
        return catalog.sql("SELECT list(image_id ORDER BY image_id DESC) FROM images").scalar()


def test_every_image_is_made_again_bit_for_bit(small_home, cohortium):
    ids = image_ids(small_home)
    outcome = cohortium("replay", *ids, "--home", small_home, "--json")
    assert outcome.code == 0, outcome.err
    assert [row["image_id"] for row in outcome.json()] == ids  # in the order given
    assert all(row["identical"] is True and row["largest_difference"] == 0 for row in outcome.json())


def test_some_or_all_images_of_a_cohort_are_chosen_by_its_id_or_name(small_home):
    ids, settings = image_ids(small_home), load_settings(small_home)
    with open_catalog(small_home) as catalog:
        [[cohort_id, name]] = catalog.sql("SELECT cohort_id, name FROM cohorts").rows()
    [drawn] = replay_images(settings, [cohort_id], sample=1)
    assert drawn.identical
    assert [one.image_id for one in replay_images(settings, [name, ids[0]])] == [*sorted(ids), ids[0]]


def test_changed_parameter_is_found_and_exit_code_is_1(small_copy, cohortium, here):
    """Changing the stored row is the only way to make a good image differ from its replay."""
    changed, same = image_ids(small_copy)[:2]
    with open_writer(resolve_home(small_copy)) as connection:
        connection.execute(
            """UPDATE scans SET parameters_json = regexp_replace(parameters_json, '"snr":\\s*[0-9.]+', '"snr": 5.0')
               WHERE scan_id = (SELECT scan_id FROM images WHERE image_id = ?)""",
            [changed],
        )
    outcome = cohortium("replay", changed, same, "--home", small_copy, "--json")
    assert outcome.code == 1
    first, second = outcome.json()
    assert (first["image_id"], first["identical"]) == (changed, False)
    assert first["largest_difference"] > TOLERANCE
    assert "numeric profile" in first["note"]
    assert (second["image_id"], second["identical"]) == (same, True)
    assert "DIFFERENT by up to" in here("replay", changed, "--home", small_copy)[1]


def test_unknown_image_is_named_with_the_nearest(small_home, cohortium):
    known = image_ids(small_home)[0]
    outcome = cohortium("replay", known.replace("t1w", "t1").replace("flair", "flare"), "--home", small_home, "--json")
    assert (outcome.code, outcome.out) == (1, "")
    assert "there is no image" in outcome.err
    assert f"Did you mean '{known}'?" in outcome.err


def test_other_engine_version_is_refused(small_home, monkeypatch):
    monkeypatch.setattr(type(find_engine("mri")), "version", "0.0", raising=False)
    with pytest.raises(CatalogError, match=r"Install the version that made it"):
        replay_images(load_settings(small_home), image_ids(small_home)[:1])


@pytest.fixture(scope="module")
def pair(small_home):
    """An image as stored, and as made again."""
    with open_catalog(small_home) as catalog:
        stored = catalog.image(image_ids(small_home)[0])
    [made] = (i for i in find_engine("mri").render([stored.scan]) if i.image_id == stored.image_id)
    return stored, made


def changed_pixel(image, by: int):
    pixels = image.pixels.copy()
    pixels.flat[pixels.size // 2] += by
    return replace(image, pixels=pixels)


def changed_mask(image):
    name = next(iter(image.masks))
    mask = image.masks[name].copy()
    mask.flat[0] ^= 1
    return replace(image, masks={**image.masks, name: mask})


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda image: image, 0),
        (lambda image: changed_pixel(image, 1), 1),
        (changed_mask, 0),
        (lambda image: replace(image, intensity_scale=image.intensity_scale * 1.0000001), 0),
        (lambda image: replace(image, affine=image.affine + np.eye(4)), -1),
        (lambda image: replace(image, pixels=image.pixels[1:]), -1),
    ],
    ids=["same", "pixel", "mask", "scale", "affine", "shape"],
)
def test_compare_images_sees_every_kind_of_difference(pair, change, difference):
    stored, made = pair
    again = change(made)
    found = compare_images(stored, again)
    assert found.identical is (again is made)
    assert found.largest_difference == difference


def test_missing_mask_is_a_difference(pair):
    stored, made = pair
    fewer = dict(list(made.masks.items())[1:])
    assert compare_images(stored, replace(made, masks=fewer)).identical is False
    assert compare_images(replace(stored, masks=dict(list(stored.masks.items())[1:])), made).identical is False
