"""Sources of images to be judged: what they are called, which attributes count, how both sides come to one form."""

import gc
import weakref

import numpy as np
import pytest
from filelock import FileLock

from catalog import open_catalog, resolve_home
from flows.evaluation_attributes import share_attributes
from flows.evaluation_sides import open_work_folder, read_sides
from flows.evaluation_sources import open_reference, open_source
from flows.source_images import Choice, SourceImage
from synth.errors import PermanentError
from synth.evaluation.images.features.base import tell_nobody
from synth.evaluation.images.layout import NotComparableError
from synth.nouns import Attribute, RefusedItem
from synth.references.plan import Options, ReferenceError
from tests.flows.importing import run_import
from tests.flows.made_images import draw_disc, sex_of, write_heads, write_made, write_real
from tests.synth.references.sources import encode, make_pixels, write_parquet


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A home with references of pictures, volumes and records, and a folder of made pictures beside it."""
    folder = tmp_path_factory.mktemp("sources")
    write_made(folder / "made")
    for name, path in (
        ("discs", write_real(folder / "real.parquet", patients=20)),
        ("heads", write_heads(folder / "heads", people=10, contrasts=("T1w", "FLAIR"))),
    ):
        run_import(path, folder / "home", name=name)
    write_real(folder / "records.parquet", patients=10)
    (folder / "people.csv").write_text("patient_id,age_years\n" + "".join(f"p{n},{n + 30}\n" for n in range(30)))
    run_import(folder / "people.csv", folder / "home", name="people")
    return folder


@pytest.fixture
def catalog(sources):
    with open_catalog(sources / "home") as opened:
        yield opened


def read(catalog, tmp_path, images, reference="discs", choice=None, wanted=None, **options):
    choice = choice or Choice()
    source = open_source(catalog, str(images), choice, Options(**options))
    return read_sides(catalog, source, open_reference(catalog, reference), choice, tmp_path, tell_nobody, wanted)


# ------------------------------------------------------------------------------------------------------------- sources


def test_foreign_pictures_are_read_with_their_attributes_and_bad_ones_named(catalog, sources):
    source = open_source(catalog, str(sources / "made"), Choice())
    items = list(source.read())
    assert (source.name, source.count, len(items)) == ("made", 41, 41)
    bad = [item for item in items if isinstance(item, RefusedItem)]
    assert [(item.name, item.reason) for item in bad] == [("bad.png", "it is no PNG, JPEG, TIFF or BMP picture")]
    first = items[0]
    assert (first.image_id, first.patient_id, first.form.axes, first.form.dtype) == ("made0.png",) * 2 + ("yx", "uint8")
    np.testing.assert_array_equal(first.pixels, draw_disc(10_000, "F"))
    assert first.attributes == {"sex": "F", "age_years": 30.5, "weight_kg": 60}


def test_a_limit_draws_the_same_images_again_and_others_by_another_seed(catalog, sources):
    def ids(text, seed):
        source = open_source(catalog, text, Choice(limit=7, seed=seed))
        found = [getattr(item, "image_id", None) or item.name for item in source.read()]
        assert len(found) == source.count == 7
        return found

    first = ids("reference:discs", 1)
    assert first == ids("reference:discs", 1)
    assert first != ids("reference:discs", 2)
    assert len(set(first)) == len(set(ids(str(sources / "made"), 1))) == 7


def test_a_split_of_a_reference_gives_its_own_patients(catalog):
    reference = catalog.reference("discs")
    patients = set()
    for split in ("train", "validation", "holdout"):
        items = list(open_source(catalog, f"reference:discs/{split}", Choice()).read())
        assert [item.image_id for item in items] == reference.image_ids(split)
        assert not patients & {item.patient_id for item in items}
        patients |= {item.patient_id for item in items}
    assert len(patients) == 20


@pytest.mark.parametrize(
    ("images", "kind", "words"),
    [
        ("absent.png", None, "there is no file, folder or cohort 'absent.png'"),
        ("reference:disks", None, "there is no reference 'disks' in the catalog. Did you mean 'discs'?"),
        ("reference:discs/tests", None, "there is no split 'tests'"),
        ("reference:people", None, "reference 'people' holds records without images"),
        ("people.csv", None, "'people.csv' holds records without pictures"),
        ("made", "T1w", "--kind T1w: 'made' does not say of which contrast its images are"),
    ],
)
def test_what_names_no_images_is_explained(catalog, sources, monkeypatch, images, kind, words):
    monkeypatch.chdir(sources)
    with pytest.raises(PermanentError, match=words):
        open_source(catalog, images, Choice(kind))


def test_options_of_the_adapters_hold_and_are_checked(catalog, sources):
    source = open_source(catalog, str(sources / "made"), Choice(), Options(attributes=("sex",)))
    assert [a.name for a in source.schema] == ["sex"]
    with pytest.raises(ReferenceError, match="no column 'person'"):
        open_source(catalog, str(sources / "made"), Choice(), Options(patient="person"))


# ---------------------------------------------------------------------------------------------------------- attributes

AGE = Attribute("age_years", "continuous", "years")


def test_kinds_are_brought_together_where_nothing_is_lost():
    own = [AGE, Attribute("label", "integer"), Attribute("findings", "categorical"), Attribute("sex", "categorical")]
    real = [Attribute("age_years", "integer", "years"), Attribute("label", "categorical"), Attribute("findings", "set"),
            Attribute("sex", "categorical"), Attribute("view", "categorical")]  # fmt: skip
    shared = share_attributes(own, real)
    assert [(a.name, a.kind) for a in shared.images] == [
        ("age_years", "continuous"), ("label", "categorical"), ("findings", "set"), ("sex", "categorical")
    ]  # fmt: skip
    assert {a.name: a.kind for a in shared.real}["age_years"] == "continuous"
    given = {"age_years": 40, "label": 1, "findings": "Edema", "sex": "F", "other": 3}
    assert shared.convert(given) == {"age_years": 40.0, "label": "1", "findings": ("Edema",), "sex": "F"}
    assert set(shared.convert({}).values()) == {None}
    assert shared.notes == ("the reference also states view, which the images do not.",)


def test_what_cannot_be_compared_is_said():
    shared = share_attributes(
        [Attribute("age_years", "integer", "months"), Attribute("sex", "set")], [AGE, Attribute("sex", "categorical")]
    )
    assert shared.images == ()
    assert (
        shared.notes[0]
        == "attribute 'age_years' is not compared: it is in months in the images and in years in the reference."
    )
    assert (
        shared.notes[1] == "attribute 'sex' is not compared: it is set in the images and categorical in the reference."
    )
    assert "share no attribute" in shared.notes[2]
    assert share_attributes([Attribute("age_years", "integer")], [AGE]).images == (AGE,)


def test_attributes_can_be_chosen_and_unknown_ones_are_refused():
    own = [AGE, Attribute("sex", "categorical")]
    assert [a.name for a in share_attributes(own, own, ("sex",)).images] == ["sex"]
    with pytest.raises(PermanentError, match=r"no attribute 'sx'\. Did you mean 'sex'\? They have: age_years, sex"):
        share_attributes(own, own, ("sx",))


# --------------------------------------------------------------------------------------------------------------- sides


def test_both_sides_come_to_one_form_with_all_that_is_known(catalog, sources, tmp_path):
    sides = read(catalog, tmp_path, sources / "made")
    assert sides.real.layout.shape == sides.images.shape == (32, 32)
    assert (len(sides.images), [item.name for item in sides.images.unusable]) == (40, ["bad.png"])
    assert [a.name for a in sides.images.schema] == ["sex", "age_years"]
    assert [a.name for a in sides.real.train.schema] == ["sex", "age_years", "findings"]
    np.testing.assert_allclose(sides.images.images(slice(0, 1))[0] * 255, draw_disc(10_000, "F"), atol=0.01)
    assert sides.images.values("age_years")[:2] == [30.5, 31.5]
    reference = catalog.reference("discs")
    for side in (sides.real.train, sides.real.validation, sides.real.holdout):
        assert side.image_ids == reference.image_ids(side.name)
        assert all(isinstance(age, float) for age in side.values("age_years"))
    assert sides.real.fingerprint == reference.fingerprint
    assert "the reference also states findings, which the images do not." in sides.notes


def test_a_split_that_is_judged_is_left_out_on_the_other_side(catalog, tmp_path):
    sides = read(catalog, tmp_path, "reference:discs/holdout")
    judged, others = set(sides.images.image_ids), [sides.real.validation, sides.real.holdout]
    assert len(judged) > 0
    assert len(sides.real.train) > 0
    assert not judged & {name for side in (sides.real.train, *others) for name in side.image_ids}
    validation = catalog.reference("discs").image_ids("validation")
    assert sorted(name for side in others for name in side.image_ids) == sorted(validation), "dealt out again"
    patients = [set(side.records.column("patient_id").to_pylist()) for side in others]
    assert not patients[0] & patients[1]
    assert len(others[1]) > 0
    assert any("own holdout patients, who are left out" in note for note in sides.notes)
    whole = read(catalog, tmp_path, "reference:discs/train")
    assert len(whole.real.train) == len(whole.images)
    assert any("each of them is a copy" in note for note in whole.notes)


def test_one_contrast_is_compared_with_the_same_contrast(catalog, sources, tmp_path):
    sides = read(catalog, tmp_path, sources / "heads", "heads", Choice("T1w"))
    assert all("T1w" in name for name in sides.images.image_ids)
    real = [len(side) for side in (sides.real.train, sides.real.validation, sides.real.holdout)]
    assert (len(sides.images), sum(real)) == (10, 10)
    assert len(sides.images.shape) == 3
    assert "contrast" not in [a.name for a in sides.real.train.schema]
    with pytest.raises(NotComparableError, match="no image of 'heads' can be used"):
        read(catalog, tmp_path, sources / "heads", "heads", Choice("T2w"))


def test_a_limit_holds_on_both_sides_and_keeps_patients_whole(catalog, sources, tmp_path):
    sides = read(catalog, tmp_path, sources / "made", choice=Choice(limit=6))
    assert len(sides.images) + len(sides.images.unusable) == 6
    train = sides.real.train
    assert 6 <= len(train) <= 7
    assert all((train.patient == patient).sum() == 2 for patient in set(train.patient))


def test_sides_that_cannot_be_compared_are_refused(catalog, sources, tmp_path):
    with pytest.raises(
        NotComparableError, match=r"the reference has volumes \(3D\) and the images are pictures \(2D\)"
    ):
        read(catalog, tmp_path, sources / "made", "heads")
    with pytest.raises(NotComparableError, match="of another aspect"):
        read(
            catalog,
            tmp_path,
            write_parquet(tmp_path / "wide.parquet", png=[encode(make_pixels(i, (20, 40))) for i in range(9)]),
        )
    with pytest.raises(PermanentError, match="no column 'sx'"):
        read(catalog, tmp_path, sources / "made", attributes=("sx",))
    with pytest.raises(NotComparableError, match="reference 'people' holds records"):
        open_reference(catalog, "people")


def test_images_that_nobody_can_use_are_an_error_with_the_reasons(catalog, tmp_path):
    black = [encode(np.zeros((32, 32), np.uint8)) for _ in range(9)]
    with pytest.raises(
        NotComparableError, match=r"no image of 'black.parquet' can be used: im0: all its pixels .* and 6 more"
    ):
        read(catalog, tmp_path, write_parquet(tmp_path / "black.parquet", png=black))
    with pytest.raises(NotComparableError, match=r"no image of 'bad' can be used: 0\.png: it is no PNG"):
        read(catalog, tmp_path, write_made(tmp_path / "bad", count=0, bad=[f"{n}.png" for n in range(3)]))


def test_deeper_pictures_among_eight_bit_ones_are_refused_by_name(catalog, tmp_path):
    pictures = [encode(draw_disc(i, sex_of(i))) for i in range(9)]
    pictures[4] = encode(make_pixels(4, (32, 32), np.uint16))
    sides = read(catalog, tmp_path, write_parquet(tmp_path / "x.parquet", png=pictures))
    assert [(item.name, item.reason) for item in sides.images.unusable] == [
        ("im4", "its pixels are uint16 where the others have 8 bits")
    ]


def test_work_folders_vanish_and_those_of_the_dead_are_removed(tmp_path):
    home = resolve_home(tmp_path)
    (tmp_path / "work" / "evaluate-dead").mkdir(parents=True)
    (tmp_path / "work" / "evaluate-dead" / "images.u16").write_bytes(b"x")
    living = tmp_path / "work" / "evaluate-living"
    living.mkdir()
    with FileLock(living / ".lock"):
        with open_work_folder(home) as folder:
            (folder / "images.u16").write_bytes(b"x")
            assert not (tmp_path / "work" / "evaluate-dead").exists()
        assert [path.name for path in (tmp_path / "work").glob("evaluate-*")] == ["evaluate-living"]


def test_memory_stays_at_one_image(catalog, sources, tmp_path):
    """The writer is fed one image at a time: nothing keeps them."""
    source = open_source(catalog, "reference:discs/train", Choice())
    alive = []
    gc.freeze()  # what was there before is not looked through again and again
    try:
        for item in source.read():
            assert isinstance(item, SourceImage)
            alive = [ref for ref in alive if ref() is not None]
            alive.append(weakref.ref(item.pixels))
            gc.collect()
            assert len(alive) <= 2
    finally:
        gc.unfreeze()
