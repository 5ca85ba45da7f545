"""Subjects of any population: own attributes, no brain, pictures without a known grid; beside brain cohorts."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image as PilImage

from catalog import open_catalog, write_shard
from catalog.migrations import LATEST, MIGRATIONS
from synth.errors import CatalogError
from synth.nouns import ShardPlan
from tests.catalog.chest import COHORT, build_chest, person, pictures


def test_subjects_with_attributes_live_beside_brains_of_an_older_catalog(home, maker, monkeypatch):
    brain = maker()
    with monkeypatch.context() as patch:
        patch.setattr("catalog.migrations.MIGRATIONS", MIGRATIONS[:3])
        patch.setattr("catalog.migrations.LATEST", 3)
        patch.setattr("catalog.migrations.VIEWS", ())
        brain.build(home)
    with pytest.raises(CatalogError, match=f"has the older version 3, this is {LATEST}"):
        open_catalog(home)
    build_chest(home, maker)
    with open_catalog(home) as c:
        for index in range(2):
            assert c.subject(f"{COHORT}-s{index:07d}") == person(index)
        for index in range(brain.subjects):
            assert c.subject(f"{brain.cohort_id}-s{index:07d}") == brain.subject(index)
        query = """SELECT subject_id, visit FROM scans
                   WHERE list_contains(from_json(attributes_json -> 'findings', '["VARCHAR"]'), 'Effusion')"""
        assert list(c.sql(query).rows()) == [(f"{COHORT}-s0000000", 0)]
        assert c.sql("SELECT count(*) FROM pixels WHERE attributes_json ->> 'view' = 'PA'").scalar() == 3
        assert c.sql("SELECT count(*) FROM pixels").scalar() == 12 + 3
        assert c.sql("SELECT count(*) FROM released_subjects").scalar() == 0
        image = c.image(f"{COHORT}-s0000001-v0-radiograph-0")
        assert (image.affine, image.spacing_mm, image.scan.manufacturer) == (None, None, None)
        assert image.pixels.shape == (20, 16)
        preview = PilImage.open(io.BytesIO(c.preview(image.image_id)))
        assert preview.size == (64, 80)
        assert np.asarray(preview)[0, 0] < np.asarray(preview)[-1, -1]  # the first row is the top


def test_shards_of_brains_have_the_columns_they_always_had(home, maker):
    brain = maker()
    record = brain.write(home, brain.plans()[0])
    names = pq.read_schema(home.resolve_below(record.path)).names
    assert not [name for name in names if "attributes" in name]
    assert len(names) == 44


def test_what_is_known_of_a_visit(maker):
    subject = person(0)
    assert subject.describe_visit(subject.visits[1]) == {"sex": "F", "age_years": 63, "view": "PA", "findings": ()}
    brain = maker().subject(1)
    assert brain.describe_visit(brain.visits[0])["brain_ml"] == 1200.5


def test_attributes_that_json_cannot_hold_are_refused(home):
    subject = replace(person(1), attributes={"weight": float("nan")})
    with pytest.raises(CatalogError, match="must be text, finite numbers or tuples of text"):
        write_shard(home, ShardPlan(f"{COHORT}-p0", COHORT, 1, 1), [subject], pictures([subject]))
    assert not list(home.cohort_folder(COHORT).iterdir())
