"""No patient crosses splits, whatever the data, the seed and the order."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from synth.references.splits import DEFAULT_SHARES, assign_given, assign_split

SEEDS = st.integers(0, 2**63)
PATIENTS = st.text(min_size=1, max_size=40)
KNOWN = ["train", "holdout", "train"]


@given(seed=SEEDS, patient=PATIENTS, others=st.lists(PATIENTS))
def test_a_patient_has_one_split_whoever_else_is_there(seed, patient, others):
    split = assign_split(seed, patient)
    assert split in DEFAULT_SHARES
    assert [assign_split(seed, p) for p in (*others, patient)][-1] == split


@settings(max_examples=30)
@given(seed=SEEDS)
def test_shares_are_kept(seed):
    found = Counter(assign_split(seed, f"patient {number}") for number in range(4000))
    for split, share in DEFAULT_SHARES.items():
        assert abs(found[split] / 4000 - share) < 6 * (share * (1 - share) / 4000) ** 0.5


@given(patient=PATIENTS, shares=st.tuples(*[st.floats(0.01, 1.0)] * 3))
def test_any_shares_give_a_split(patient, shares):
    assert assign_split(0, patient, dict(zip(DEFAULT_SHARES, shares, strict=True))) in DEFAULT_SHARES


def test_seeds_differ_and_known_values_stay():
    patients = [f"p{number}" for number in range(200)]
    assert [assign_split(0, p) for p in patients] != [assign_split(1, p) for p in patients]
    assert [assign_split(0, p) for p in ("61", "165", "12229")] == KNOWN


@given(seed=SEEDS, patient=PATIENTS)
def test_given_splits_are_kept(seed, patient):
    for split in DEFAULT_SHARES:
        assert assign_given(seed, patient, split) == split
    assert assign_given(seed, patient, "validation or holdout") in ("validation", "holdout")
    assert assign_given(seed, patient, None) == assign_split(seed, patient)


def test_what_is_given_as_validation_or_holdout_is_divided_one_to_two():
    found = Counter(assign_given(0, f"val-{number:06d}", "validation or holdout") for number in range(3000))
    assert abs(found["validation"] / 3000 - 1 / 3) < 0.05
