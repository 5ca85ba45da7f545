"""Parts of the documents: charts, pictures, words, markup, the answers to the seven questions."""

from __future__ import annotations

import base64
import io
import math
import re
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pictures

from synth.evaluation.document.about import About
from synth.evaluation.document.charts import (
    STRIP,
    Mark,
    choose_range,
    choose_ticks,
    draw_apart,
    draw_shared,
    split_cramped,
)
from synth.evaluation.document.facts import answer_questions, describe_population, find_question
from synth.evaluation.document.markup import clean_text, link, tag
from synth.evaluation.document.pictures import encode_picture, make_sheet, show_difference, show_slices, shrink
from synth.evaluation.document.style import STYLE
from synth.evaluation.document.words import (
    FAMILIES,
    GOAL_SIGNS,
    GOALS,
    SEVEN_CS,
    format_seconds,
    format_value,
    name_metric,
    name_score,
    name_subgroup,
)
from synth.evaluation.metric import Family, Goal, SevenC
from synth.evaluation.metrics import METRICS
from synth.nouns import GateResult

# ----------------------------------------------------------------------------------------------------------- words


def test_words_exist_for_everything() -> None:
    assert set(FAMILIES) == set(get_args(Family))
    assert set(SEVEN_CS) == set(get_args(SevenC))
    assert set(GOALS) == set(GOAL_SIGNS) == set(get_args(Goal))
    assert len({name_metric(name) for name in METRICS}) == len(METRICS), "two metrics have one name"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.8125, "0.812"), (1.0, "1.000"), (0.9996, "1.000"), (12.345, "12.35"), (123.45, "123.5"), (12345.6, "12,346"),
        (0.0, "0"), (-0.25, "−0.250"), (0.00123, "0.0012"), (-2e-5, "−2.0 × 10⁻⁵"), (3.2e8, "3.2 × 10⁸"),
        (None, "none"), (math.nan, "none"), (math.inf, "none"),
    ],
)  # fmt: skip
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert format_value(value) == text


@given(st.floats(1e-300, 1e300), st.sampled_from((-1.0, 0.0, 1.0)))
def test_numbers_keep_their_value(size: float, sign: float) -> None:
    value = sign * size
    text = format_value(value).replace("−", "-").replace(",", "")
    mantissa, _, power = text.partition(" × 10")
    found = float(mantissa) * 10 ** int(power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")) or 0)
    assert found == pytest.approx(value, rel=0.06, abs=0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.84, "0.8 s"), (59.96, "1 min 00 s"), (200, "3 min 20 s"), (3900, "1 h 05 min"), (math.nan, "unknown")],
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_names_are_for_people() -> None:
    assert name_score("attribute_auc.view=PA") == "Attribute AUC: view = PA"
    assert name_score("gap.recall") == "Gap of recall"
    assert name_score("gap.ms_ssim_pairs") == "Gap of MS-SSIM between pairs"
    assert name_subgroup("sex=F,age_years=40-60") == "sex F, age 40-60"


# ---------------------------------------------------------------------------------------------------------- markup


def test_markup_is_escaped_once() -> None:
    inner = tag("b", "<i>&")
    assert inner == "<b>&lt;i&gt;&amp;</b>"
    assert tag("p", inner, class_='"x"', hidden=True, title=None) == f'<p class="&quot;x&quot;" hidden>{inner}</p>'
    with pytest.raises(ValueError, match="no name"):
        tag("p", **{"a b": 1})


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "//x", "https://x y", 'https://x"y'])
def test_only_web_addresses_become_links(url: str) -> None:
    assert "href" not in link(url, "x")
    assert 'href="https://example.org/a"' in link("https://example.org/a", "x")


def test_invisible_characters_are_removed() -> None:
    assert clean_text("a\x00\u202eb\u2066\x9fc\td") == "abc\td"


# ----------------------------------------------------------------------------------------------------------- style


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_has_contrast(theme: int) -> None:
    """Text is at least 4.5 times as bright or dark as its ground (WCAG 2.2, 1.4.3)."""
    colours = dict(re.findall(r"--([a-z-]+):\s*(#[0-9a-f]{6})", STYLE.split(":root {")[theme + 1].partition("}")[0]))
    pairs = [(ink, ground) for ink in ("ink", "faint", "mark", "control", "good", "bad") for ground in ("page", "soft")]
    pairs += [
        ("good", "good-soft"),
        ("bad", "bad-soft"),
        ("faint", "bad-soft"),
        ("ink", "bad-soft"),
        ("warn", "warn-soft"),
    ]
    pairs += [("faint", "good-soft"), ("faint", "warn-soft")]
    for ink, ground in pairs:
        low, high = sorted((luminance(colours[ink]), luminance(colours[ground])))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


# ---------------------------------------------------------------------------------------------------------- charts


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    high = low + span
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-300):
        return
    ticks = choose_ticks(low, high)
    assert 1 <= len(ticks) <= 9
    room = 1e-6 * (high - low)
    assert all(low - room <= tick <= high + room for tick in ticks)


def test_ticks_are_round() -> None:
    assert choose_ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert choose_ticks(0.31, 0.88) == [0.4, 0.5, 0.6, 0.7, 0.8]
    assert choose_ticks(-0.0004, 0.0005, 3) == [-0.0004, -0.0002, 0, 0.0002, 0.0004]
    assert choose_ticks(3, 3) == [3]


def test_ticks_have_equal_decimals() -> None:
    svg = draw_shared([Mark("a", "", 0.8, 0.75, 0.87)], "t")
    assert re.findall(r'class="tick"[^>]*>([^<]*)<', svg) == ["0.76", "0.78", "0.80", "0.82", "0.84", "0.86"]
    tiny = draw_apart([Mark("a", "", 2e-7, 0.0, 4e-7)], "t")
    assert re.findall(r'class="tick"[^>]*>([^<]*)<', tiny) == ["0", "1e−7", "2e−7", "3e−7", "4e−7"]


def read_numbers(svg: str, mark: str, name: str) -> list[float]:
    return [float(found) for found in re.findall(rf'<{mark}[^>]*class="{name}"[^>]*?(?: cx| x1)="([\d.]+)"', svg)]


def test_marks_lie_where_their_values_are() -> None:
    marks = [Mark("a", "", 0.2, 0.1, 0.3), Mark("b", "", 0.6, 0.5, 0.9, 0.4)]
    svg = draw_shared(marks, "t")
    low, high = choose_range(marks)
    wanted = [STRIP[0] + (value - low) / (high - low) * (STRIP[1] - STRIP[0]) for value in (0.2, 0.6)]
    assert read_numbers(svg, "circle", "value") == pytest.approx(wanted, abs=0.06)
    assert svg.count('class="interval"') == 2
    assert svg.count('class="control"') == 1


def test_axis_stays_within_the_metric() -> None:
    assert choose_range([Mark("a", "", 0.02, 0.0, 0.99, bounds=(0.0, 1.0))]) == (0.0, 1.0)
    low, high = choose_range([Mark("a", "", 0.0, bounds=(0.0, 1.0))])
    assert low == 0.0
    assert high > 0.0


def test_charts_take_degenerate_rows() -> None:
    for mark in (Mark("a", "", 0.0), Mark("a", "", 5.0, 5.0, 5.0, 5.0), Mark("", "", 1.0, None, None, math.nan)):
        for svg in (draw_shared([mark], "t", line=mark.value), draw_apart([mark], "t")):
            assert "nan" not in svg
            assert "inf" not in svg.replace("interval", "")


def test_rows_too_small_for_the_axis_get_their_own() -> None:
    areas = [Mark(str(k), "", 0.5, 0.4, 0.6) for k in range(3)]
    rate = Mark("rate", "", 0.002, 0.001, 0.003)
    assert split_cramped([*areas, rate]) == (areas, [rate])


# -------------------------------------------------------------------------------------------------------- pictures


def decode(address: str) -> np.ndarray:
    kind, _, content = address.partition(";base64,")
    assert kind in ("data:image/png", "data:image/jpeg")
    return np.asarray(Pictures.open(io.BytesIO(base64.b64decode(content))), np.float32) / 255


def test_pictures_survive_encoding() -> None:
    small = np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)
    assert np.abs(decode(encode_picture(small)) - small).max() <= 0.5 / 255 + 1e-6
    large = np.linspace(0, 1, 96 * 96, dtype=np.float32).reshape(96, 96)
    assert np.abs(decode(encode_picture(large)) - large).max() < 0.03


def test_volumes_are_hung_as_radiologists_do() -> None:
    """A mark at the patient's right, front and top must be on the left and at the top of the slices."""
    volume = np.zeros((9, 11, 7), np.float32)  # x to the right, y to the front, z to the top
    x, y, z = (n // 2 for n in volume.shape)
    volume[8, 10, z] = 1.0  # right and front: top left of the axial slice
    volume[7, y, 6] = 0.7  # right and top: top left of the coronal slice
    volume[x, 9, 5] = 0.4  # front and top: top left of the sagittal slice
    picture = show_slices(volume)
    assert picture.shape == (11, 9 + 9 + 11)
    axial, coronal, sagittal = picture[:, :9], picture[2:9, 9:18], picture[2:9, 18:]
    assert axial[0, 0] == 1.0
    assert coronal[0, 1] == np.float32(0.7)
    assert sagittal[1, 1] == np.float32(0.4)


@pytest.mark.parametrize("shape", [(8, 8), (8, 9, 7)])
def test_differences_find_mirrored_copies(shape: tuple[int, ...]) -> None:
    image = np.random.Generator(np.random.Philox(2)).random(shape).astype(np.float32)
    same, mirrored = show_difference(image, image)
    assert same.max() == 0
    assert not mirrored
    axis = 1 if len(shape) == 2 else 0
    same, mirrored = show_difference(image, np.flip(image, axis))
    assert same.max() == 0
    assert mirrored
    other, _ = show_difference(image, np.zeros_like(image))
    assert other == pytest.approx(np.clip(3 * image, 0, 1))


def test_sheet_holds_every_picture() -> None:
    images = [np.full((4, 5), value, np.float32) for value in (0.1, 0.2, 0.3)]
    sheet = make_sheet(images, 2)
    assert sheet.shape == (4 + 2 + 4, 5 + 2 + 5)
    assert sheet[0, 0] == np.float32(0.1)
    assert sheet[0, 7] == np.float32(0.2)
    assert sheet[6, 0] == np.float32(0.3)


def test_large_pictures_are_made_smaller() -> None:
    assert shrink(np.ones((512, 256), np.float32)).shape == (128, 64)
    assert shrink(np.ones((64, 64, 64), np.float32)).shape == (64, 64, 64)


# ----------------------------------------------------------------------------------------------------------- facts


def test_gates_answer_the_question_of_their_metric(pictures) -> None:
    answers = {answer.question: answer for answer in answer_questions(pictures.facts())}
    assert [gate.gate for gate in answers["coverage"].gates] == ["recall"]
    assert answers["coverage"].failed
    assert "fails recall" in answers["coverage"].state
    assert [gate.gate for gate in answers["compliance"].gates] == ["membership"]
    assert answers["compliance"].state.startswith("holds 1 gate; 2 of 3 scores measured")
    assert answers["comprehension"].state.startswith("answered by this document")
    total = sum(len(answer.scores) for answer in answers.values())
    assert total == len(pictures.report.scores)


def test_gates_are_known_by_their_stated_metric() -> None:
    gate = GateResult("my-gate", math.nan, math.nan, False, "my-gate: not measurable (it was not computed)")
    assert find_question(gate, About()) is None
    assert find_question(gate, About(gate_metrics={"my-gate": "attribute_auc.*"})) == "constraint"


def test_population_is_described(pictures) -> None:
    shares = {share.attribute.name: share for share in describe_population(pictures.images)}
    assert shares["sex"].text == "F 50.0 %, M 50.0 %"
    assert shares["age_years"].known == 11
    assert shares["findings"].values == (("Effusion", 8 / 12),)
