"""What a worker does: the same bytes wherever, whenever and in whatever shard it is done; killed half-way, nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from catalog import Home, ShardRecord, find_finished_shards, resolve_home
from flows.pool import SupervisedPool
from flows.shards import parse_spec_json, render_images, render_shard, warm_up
from synth.engines import find_engine
from synth.errors import PopulationError
from synth.nouns import ShardPlan
from synth.plan import count_images, plan_cohort
from synth.population import find_population
from synth.spec import CohortSpec

SPEC = CohortSpec.model_validate(
    {
        "name": "shards",
        "subjects": 4,
        "seed": 9,
        "imaging": {"contrasts": ["T1w", "FLAIR"], "visits": {"count": 2, "share": 0.5}},
    }
)
SPEC_JSON = SPEC.model_dump_json()
WHO_AND_WHAT = ["image_id", "subject_id", "pixels_sha256", "mask_sha256", "parameters_json", "measurements", "pixels"]


def render_all(root: Path, shard_subjects: int) -> tuple[Home, list[ShardRecord]]:
    home = resolve_home(root)
    return home, [render_shard(home, SPEC_JSON, plan) for plan in plan_cohort(SPEC, shard_subjects).shards]


def read_rows(home: Home, records: list[ShardRecord]) -> list[dict[str, object]]:
    return [
        row
        for record in records
        for row in pq.read_table(home.resolve_below(record.path), columns=WHO_AND_WHAT).to_pylist()
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, list[ShardRecord]]:
    return render_all(tmp_path_factory.mktemp("whole"), 4)


def test_a_shard_holds_every_image_of_its_subjects(whole: tuple[Home, list[ShardRecord]]) -> None:
    home, (record,) = whole
    assert (record.subjects, record.images) == (4, count_images(SPEC))
    rows = read_rows(*whole)
    assert len({row["image_id"] for row in rows}) == record.images
    assert len({row["pixels_sha256"] for row in rows}) == record.images
    path = home.resolve_below(record.path)
    assert path.stat().st_size == record.bytes
    assert record.sha256[:16] in path.name
    assert find_finished_shards(home, plan_cohort(SPEC, 4).shards) == {record.shard_id: record}


def test_images_do_not_depend_on_the_shard_they_are_in(whole: tuple[Home, list[ShardRecord]], tmp_path: Path) -> None:
    one_each = read_rows(*render_all(tmp_path, 1))
    assert one_each == read_rows(*whole)


def test_a_worker_killed_half_way_leaves_no_shard_and_the_next_try_makes_the_same(
    whole: tuple[Home, list[ShardRecord]], tmp_path: Path
) -> None:
    """The same to the byte as what this process made."""
    home = resolve_home(tmp_path)
    (plan,) = plan_cohort(SPEC, 4).shards
    folder = home.cohort_folder(plan.cohort_id)
    with SupervisedPool(1, warm_up, (SPEC_JSON,)) as pool, ThreadPoolExecutor(1) as threads:
        with pool.slot() as slot:
            slot.run(os.getpid, label="up")
            future = threads.submit(slot.run, render_shard, home, SPEC_JSON, plan, label=plan.shard_id)
            end = time.monotonic() + 20
            while not (folder.exists() and any(folder.iterdir())):
                assert time.monotonic() < end
                time.sleep(0.002)
            assert not list(folder.glob("*.parquet")), "finished before it could be killed"
            for pid in pool.worker_pids():
                os.kill(pid, signal.SIGKILL)
            record = future.result(60)
        assert pool.deaths == 1
    assert record == whole[1][0]
    assert list(find_finished_shards(home, [plan]).values()) == [record]
    assert len(list(folder.glob("*.parquet"))) == 1


def test_images_come_one_subject_at_a_time() -> None:
    """Memory must not grow with the shard: nothing is rendered before it is asked for."""
    engine = find_engine("mri")
    subjects = find_population("adult-brain").draw_subjects(SPEC, "t-0", 0, 4)
    images = render_images(SPEC, subjects)
    assert isinstance(images, Iterator)
    seen = [next(images)]
    assert seen[0].scan.subject_id == subjects[0].subject_id
    seen += list(images)
    order = [image.scan.subject_id for image in seen]
    assert sum(a != b for a, b in pairwise(order)) == len(subjects) - 1
    again = engine.render([seen[-1].scan])[0]
    np.testing.assert_array_equal(again.pixels, seen[-1].pixels)


def test_a_spec_is_parsed_once_per_process() -> None:
    assert parse_spec_json(SPEC_JSON) is parse_spec_json(SPEC_JSON)
    assert parse_spec_json(SPEC_JSON) == SPEC


def test_subjects_beyond_the_cohort_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PopulationError, match="stay within it"):
        render_shard(resolve_home(tmp_path), SPEC_JSON, ShardPlan("t-0-0000003-2", "t-0", 3, 2))
    assert not list(tmp_path.rglob("*.parquet"))
