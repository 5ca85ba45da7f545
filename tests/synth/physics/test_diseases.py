"""Diseases: masks of the wanted volume, in tissue, on the same brain; laws of growth; maps that never fold."""

from __future__ import annotations

import functools
import itertools
import json
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from synth.nouns import Subject, Visit
from synth.physics import anatomy, deformation
from synth.physics.diseases import DISEASES, alzheimer, glioma, multiple_sclerosis, stroke
from synth.physics.diseases.mass import push_away
from synth.physics.diseases.meningioma import push_brain
from synth.physics.diseases.reaction_diffusion import front_speed_mm, grow_tumour
from synth.physics.grid import LABELS, LESIONS, Grid
from synth.physics.illness import draw_diseases, draw_tissues, follow_diseases, look_from_row, solve_illness
from synth.physics.look import Look, combine_looks, fields_at
from synth.physics.relaxation import RELAXATION
from synth.physics.render import Rendering
from synth.physics.sequences import SEQUENCES
from synth.seeds import stream, stream_key

GRID = Grid(4.0)
SEED = 11
LABELLED = {  # what each shows at two visits, in mL, and which labels may then be there
    "multiple-sclerosis": ((8.0, 11.0), {"lesion", "core", "enhancing"}),
    "white-matter-hyperintensities": ((6.0, 20.0), {"lesion"}),
    "glioma": ((30.0, 80.0), {"oedema", "enhancing", "core"}),
    "meningioma": ((12.0, 25.0), {"enhancing"}),
    "ischaemic-stroke": ((50.0, 35.0), {"lesion", "core"}),
    "alzheimer-disease": ((0.0, 0.0), set()),
}


@dataclass(frozen=True)
class Followed:
    """One subject's visits: labels, what was aimed at, and rows."""

    seen: list[Rendering]
    wanted: list[anatomy.Volumes]
    rows: list[dict[str, object]]
    looks: list[Look]


def someone(name: str, number: int = 0, volumes_ml: tuple[float, ...] = ()) -> Subject:
    volumes_ml = volumes_ml or LABELLED[name][0]
    spots = name == "white-matter-hyperintensities"
    visits = tuple(
        Visit(n, 1.5 * n, 60 + 1.5 * n, 1080.0, 28.0 + 2 * n, ml, {"hyperintensity_ml": ml} if spots else {})
        for n, ml in enumerate(volumes_ml)
    )
    diagnosis = "none" if spots else name
    return Subject("s", "c", number, 60.0, "F", diagnosis, 1450.0, "", "", 3.0, 1.0, visits)


@functools.cache
def follow(name: str, number: int = 0) -> Followed:
    """Solve and render the labels of a subject's visits, from its rows."""
    subject = someone(name, number)
    keys = (stream_key(SEED, number, -1, each) for each in ("velocity", "tissue"))
    shape = anatomy.draw_shape(stream(SEED, number, -1, "shape"), *keys)
    diseases = draw_diseases(SEED, subject)
    found = Followed([], [], [], [])
    for visit in subject.visits:
        pose = anatomy.draw_pose(stream(SEED, number, 0, "pose"))
        ailments = follow_diseases(diseases, subject, visit)
        volumes = anatomy.Volumes(visit.brain_ml or 0, visit.ventricle_ml or 0, 594.0)
        for one in ailments:
            volumes = one.disease.aim(one.state, volumes)
        solution, ailments = solve_illness(GRID, shape, pose, 1450.0, volumes, ailments)
        row = json.loads(json.dumps({"diseases": [one.to_json() for one in ailments]}, allow_nan=False))
        look = look_from_row(row)
        found.seen.append(anatomy.render_labels(GRID, shape, pose, solution, look))
        found.wanted.append(volumes)
        found.rows.append(row)
        found.looks.append(look)
    return found


@pytest.mark.parametrize("name", sorted(DISEASES))
def test_masks_have_the_wanted_volume_and_lie_in_tissue(name: str) -> None:
    found = follow(name)
    for seen, wanted, volumes in zip(found.seen, LABELLED[name][0], found.wanted, strict=True):
        mask_ml = (seen.lesion > 0).sum() * 0.064
        assert abs(mask_ml - wanted) <= 0.05 * wanted + 0.05
        allowed = {0, *(LESIONS[label] for label in LABELLED[name][1])}
        assert set(np.unique(seen.lesion)) <= allowed
        assert (seen.tissue[seen.lesion > 0] > 0).all()
        counts = {label: (seen.tissue == value).sum() * 0.064 for label, value in LABELS.items()}
        assert counts["grey_matter"] + counts["white_matter"] == pytest.approx(volumes.brain_ml, rel=0.01)
        assert counts["ventricles"] == pytest.approx(volumes.ventricle_ml, rel=0.03, abs=0.3)
        inside = sum(counts.values()) - counts["background"]
        assert inside == pytest.approx(1450, rel=0.01)


@pytest.mark.parametrize("name", sorted(DISEASES))
def test_a_disease_is_found_again_at_follow_up(name: str) -> None:
    first, second = (seen.lesion > 0 for seen in follow(name).seen)
    smaller = min(first.sum(), second.sum())
    assert (first & second).sum() >= 0.8 * smaller


def test_an_unknown_or_healthy_subject_has_no_disease() -> None:
    healthy = someone("glioma", volumes_ml=(0.0,))
    assert draw_diseases(SEED, Subject(**{**_fields(healthy), "diagnosis": "none"})) == []
    assert combine_looks([]).fields is None
    assert follow_diseases([], healthy, healthy.visits[0]) == []


def _fields(subject: Subject) -> dict[str, object]:
    return {name: getattr(subject, name) for name in Subject.__slots__}


def test_both_registries_agree() -> None:
    assert LABELLED.keys() == DISEASES.keys()
    for name, disease in DISEASES.items():
        assert disease.name == name
        assert disease.description
        assert disease.sources
        assert not set(disease.tissues) & {"gm", "wm", "csf"}


# --------------------------------------------------------------------------------------------------------------- fields


def least_jacobian(fields: NDArray[np.float64]) -> float:
    """Return the least Jacobian of p -> p + u(p) on a 3 mm grid over the head."""
    axes = [np.arange(-80.0, 80.0, 3), np.arange(-110.0, 80.0, 3), np.arange(-60.0, 90.0, 3)]
    place = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    moved = place + fields_at(fields, place)[..., :3]
    change = np.stack(np.gradient(moved, 3.0, axis=(0, 1, 2)), axis=-1)
    return float(np.linalg.det(change).min())


@pytest.mark.parametrize("radius", [5.0, 14.0, 26.0])
def test_no_mass_folds_the_brain(radius: float) -> None:
    for centre in ((30, -20, 20), (-45, 10, 30), (18, 40, 5)):
        for push in (0.4, -0.15):
            assert least_jacobian(push_away(np.array(centre, float), radius, push * radius)) > 0.02
    for base, inwards in (((60, -10, 35), (-0.9, 0, -0.4)), ((20, 10, 75), (-0.2, 0, -1))):
        towards = np.array(inwards) / np.linalg.norm(inwards)
        assert least_jacobian(push_brain(np.array(base, float), towards, radius)) > 0.02


@pytest.mark.parametrize("loss", [0.0, 0.1, 0.3, 0.5])
def test_the_hippocampi_lose_what_is_asked_and_nothing_folds(loss: float) -> None:
    fields = alzheimer.pull_together(alzheimer.find_pull(loss))
    assert alzheimer.measure_loss(fields) == pytest.approx(loss, abs=0.02)
    assert least_jacobian(fields) > 0.02


def test_atrophy_of_alzheimers_disease_is_regional() -> None:
    """The same head with and without it, volumes alike: medial temporal fluid grows, frontal fluid shrinks."""
    ill, well = follow("alzheimer-disease").seen[1].tissue, follow("white-matter-hyperintensities").seen[1].tissue
    assert abs(int((ill == 1).sum()) - int((well == 1).sum())) < 0.02 * (well == 1).sum()
    x, y, z = (slice(10, 32), slice(22, 33), slice(12, 21))  # around both hippocampi, 4 mm voxels
    near = [(tissue[x, y, z] == 1).sum() for tissue in (ill, well)]
    front = [(tissue[:, 37:, 22:] == 1).sum() for tissue in (ill, well)]
    assert near[0] > 1.08 * near[1]
    assert front[0] < front[1]


# --------------------------------------------------------------------------------------------------------------- glioma


@pytest.mark.parametrize(("diffusion", "rho"), [(20.0, 10.0), (60.0, 25.0)])
def test_the_front_of_a_tumour_moves_as_fisher_says(diffusion: float, rho: float) -> None:
    """A slab of uniform tissue, long enough for the front to settle; it nears 2 sqrt(D rho) from below."""
    uniform = np.full((90, 3, 3), diffusion, np.float32)
    levels = np.array([0.16, 0.8], np.float32)
    speed = front_speed_mm(diffusion, rho)
    arrival = grow_tumour(uniform, rho, 1.0, (0, 1, 1), 160 / speed, levels)
    for level in range(2):
        measured = 30 / (arrival[level, 80, 1, 1] - arrival[level, 50, 1, 1])
        assert 0.87 * speed < measured < 1.02 * speed
    assert (arrival[0, 1:] < arrival[1, 1:]).all()


def test_nothing_grows_where_there_is_no_tissue() -> None:
    tissue = np.full((30, 5, 5), 30.0, np.float32)
    tissue[15] = 0
    arrival = grow_tumour(tissue, 20.0, 1.0, (2, 2, 2), 3.0, np.array([0.5], np.float32))
    assert np.isfinite(arrival[0, :15]).all()
    assert np.isinf(arrival[0, 15:]).all()


def test_the_layers_of_a_glioma_are_nested() -> None:
    overlay = follow("glioma").looks[1].overlays[0]
    assert [part.label for part in overlay.parts] == [LESIONS[n] for n in ("oedema", "enhancing", "core")]
    filled = overlay.fractions.astype(int)
    assert filled.sum(axis=-1).max() <= 255
    seen, dense, core = (np.argwhere(filled[..., n:].sum(axis=-1) > 127) for n in range(3))
    assert len(seen) > len(dense) > len(core) > 0
    assert glioma.T1_DENSITY > glioma.T2_DENSITY


# --------------------------------------------------------------------------------------------------- multiple sclerosis


def test_lesions_are_born_at_the_rate_and_enhance_for_weeks() -> None:
    lives = [multiple_sclerosis.draw_lives(stream_key(1, n, -1, "lives"))[1] for n in range(20)]
    weeks = np.concatenate([one.enhances_years for one in lives]) * 365.25 / 7
    assert np.median(weeks) == pytest.approx(2.0, rel=0.06)
    assert weeks.mean() == pytest.approx(3.07, rel=0.06)
    assert np.mean([one.black_hole.mean() for one in lives]) == pytest.approx(0.36, abs=0.02)
    births = [multiple_sclerosis.date_births(one, 5.0, [100, 110], [0.0, 2.0]) for one in lives]
    for one in births:
        assert (np.diff(one) >= 0).all()
        assert (one[:100] < 0).all()
        assert ((one[100:] > 0) & (one[100:] < 2)).all()
    assert np.mean([100 / -one[0] for one in births]) == pytest.approx(5.0, rel=0.1)


def test_a_lesion_swells_and_shrinks() -> None:
    years = np.array([0, 3, 26, 520]) * 7 / 365.25
    size = multiple_sclerosis.size_at_age(years)
    assert size[0] < 1 < size[2] < size[1]
    assert size[3] == pytest.approx(1)


def test_new_lesions_are_as_many_as_the_population_says() -> None:
    subject = someone("multiple-sclerosis", volumes_ml=(8.0, 9.0, 10.0))
    said = tuple(
        Visit(v.visit, v.years_since_first, v.age_years, v.brain_ml, v.ventricle_ml, v.lesion_ml, {"new_lesions": new})
        for v, new in zip(subject.visits, (0, 7, 0), strict=True)
    )
    subject = Subject(**{**_fields(subject), "visits": said})  # type: ignore[arg-type]
    [(disease, drawn)] = draw_diseases(SEED, subject)
    counts = disease.state(drawn, subject, said[2])["counts"]
    assert [after - before for before, after in itertools.pairwise(counts)] == [7, 0]


# --------------------------------------------------------------------------------------------------------------- stroke


def test_territories_share_the_hemispheres() -> None:
    whole = (slice(None),) * 3
    shares = {
        (artery, side): stroke.weigh_territory(artery, side, whole)[::3, ::3, ::3]
        for artery in stroke.TERRITORIES
        for side in (-1, 1)
    }
    assert sum(shares.values()).max() <= 1.001  # type: ignore[attr-defined]
    for side in (-1, 1):
        ml = {artery: float(shares[artery, side].sum()) for artery in stroke.TERRITORIES}
        assert ml["MCA"] > ml["PCA"] > 0
        assert ml["MCA"] > ml["ACA"] > 0


def test_an_infarct_stays_on_its_side_and_hollows_out() -> None:
    found = follow("ischaemic-stroke")
    acute, chronic = (seen.lesion for seen in found.seen)
    assert set(np.unique(acute)) == {0, LESIONS["lesion"]}
    assert set(np.unique(chronic)) == {0, LESIONS["lesion"], LESIONS["core"]}
    half = acute.shape[0] // 2
    sides = [(acute[:half] > 0).sum(), (acute[half:] > 0).sum()]
    assert min(sides) < 0.02 * max(sides)


# -------------------------------------------------------------------------------------------------------------- signals


def signal(kind: str, disease: str, tissue: str) -> float:
    """Return the signal of ``tissue`` at 3 T by the usual protocol's middle."""
    healthy = RELAXATION[3.0]
    subject = someone(disease)
    own = draw_tissues(SEED, 0, draw_diseases(SEED, subject), healthy)
    sequence = SEQUENCES[kind]
    middle = {name: sum(r) / 2 for name, r in sequence.ranges(3.0).items()} | dict(sequence.fixed)
    middle |= {"ti_ms": 2400.0} if kind == "FLAIR" else {}
    return sequence.signal(tissue, {**healthy, **own}[tissue], middle)


@pytest.mark.parametrize(
    ("kind", "disease", "brighter", "darker"),
    [
        ("T1w", "multiple-sclerosis", "wm", "lesion"),
        ("T1w", "multiple-sclerosis", "lesion", "ms-black-hole"),
        ("T1w-Gd", "multiple-sclerosis", "ms-active", "wm"),
        ("FLAIR", "white-matter-hyperintensities", "hyperintensity", "gm"),
        ("T1w-Gd", "glioma", "glioma-rim", "wm"),
        ("T1w-Gd", "glioma", "wm", "glioma-core"),
        ("FLAIR", "glioma", "glioma-oedema", "wm"),
        ("T2w", "glioma", "glioma-core", "glioma-rim"),
        ("T1w-Gd", "meningioma", "meningioma", "wm"),
        ("DWI-b1000", "ischaemic-stroke", "infarct-acute", "gm"),
        ("DWI-b1000", "ischaemic-stroke", "infarct-hyperacute", "gm"),
        ("DWI-b1000", "ischaemic-stroke", "gm", "infarct-cavity"),
        ("FLAIR", "ischaemic-stroke", "infarct-scar", "infarct-cavity"),
    ],
)
def test_tissues_look_as_radiologists_know_them(kind: str, disease: str, brighter: str, darker: str) -> None:
    assert signal(kind, disease, brighter) > 1.05 * signal(kind, disease, darker)


def test_displacements_follow_each_other_and_gains_add_up() -> None:
    fields = [np.zeros((*deformation.GRID_SHAPE, 4)) for _ in range(2)]
    fields[0][..., 0], fields[1][..., 0] = 3.0, 4.0
    fields[0][..., 3], fields[1][..., 3] = 1.0, 0.5
    both = combine_looks([Look(fields=fields[0]), Look(), Look(fields=fields[1])]).fields
    assert both is not None
    np.testing.assert_allclose(both[..., 0], 7.0)
    np.testing.assert_allclose(both[..., 3], 1.5)
