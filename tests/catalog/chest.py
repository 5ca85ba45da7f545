"""A tiny cohort of pictures whose subjects have attributes of their own and no brain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from catalog import Home, commit_cohort, write_shard
from synth.nouns import Image, Scan, ShardPlan, Subject, Visit

COHORT = "chest-0123456789"
PEOPLE = (
    {"sex": "F", "ages": (61.0, 63.0), "findings": (("Effusion", "Mass"), ())},
    {"sex": "M", "ages": (40.0,), "findings": ((),)},
)


def person(index: int) -> Subject:
    who = PEOPLE[index]
    visits = tuple(
        Visit(v, age - who["ages"][0], age, attributes={"age_years": int(age), "view": "PA", "findings": found})
        for v, (age, found) in enumerate(zip(who["ages"], who["findings"], strict=True))
    )
    return Subject(
        f"{COHORT}-s{index:07d}", COHORT, index, who["ages"][0], who["sex"], None, None, None, None, None, 1.0, visits,
        {"sex": who["sex"]},
    )  # fmt: skip


def pictures(subjects: list[Subject]) -> Iterator[Image]:
    for subject in subjects:
        for visit in subject.visits:
            name = f"{subject.subject_id}-v{visit.visit}-radiograph"
            scan = Scan(
                name, COHORT, subject.subject_id, visit.visit, "radiograph", "flow", "1", None, None, None, {"key": "0"}
            )
            pixels = np.arange(20 * 16, dtype=np.uint16).reshape(20, 16) * (1 + subject.subject_index)
            yield Image(f"{name}-0", scan, pixels, None, None, 1 / 65535, "fraction of white", {})


def build_chest(home: Home, maker: Callable) -> None:
    subjects = [person(0), person(1)]
    record = write_shard(home, ShardPlan(f"{COHORT}-p0", COHORT, 0, 2), subjects, pictures(subjects))
    row = maker(COHORT).row([record])
    commit_cohort(home, replace(row, subjects=2, engine="flow"), [record])
