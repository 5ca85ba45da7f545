"""Contact sheets: a grid of previews that shows a cohort at a glance."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from catalog import Catalog
from catalog.rows import read_attributes
from synth.nouns import AttributeValue

_TEXT_HEIGHT = 14
_GAP = 6
PICTURES = 6  # small pictures in a line of the sheet
_TILE_WIDTH = 150
_TILE_LINES = 3  # of text above a picture

# Evenly spaced over subject index, one row of the sheet per subject and visit.
_CHOICE = """
    WITH sessions AS (
        SELECT i.subject_id, i.visit, s.diagnosis, s.sex, any_value(c.age_years) AS age_years,
               arg_min(c.field_strength_t, c.scan_id) AS field_strength_t,  -- of originals: partners sort behind them
               any_value(c.attributes_json) AS attributes_json,
               row_number() OVER (ORDER BY s.subject_index, i.visit) - 1 AS place, count(*) OVER () AS total
        FROM images AS i JOIN subjects AS s USING (subject_id) JOIN scans AS c USING (scan_id)
        WHERE i.cohort_id = $1 GROUP BY i.subject_id, i.visit, s.diagnosis, s.sex, s.subject_index
    )
    SELECT * FROM sessions WHERE floor(place * $2 / total) > floor((place - 1) * $2 / total) ORDER BY place LIMIT $2
"""


_IMAGES = """
    SELECT i.image_id, i.kind, p.pair, concat_ws(', ', i.kind, p.pair) AS title
    FROM images AS i LEFT JOIN image_pairs AS p ON p.image_id = i.image_id WHERE i.subject_id = ? AND i.visit = ?
"""


def draw_contact_sheet(catalog: Catalog, cohort_id: str, kinds: Sequence[str], path: Path, rows: int = 8) -> Path:
    """Draw ``rows`` visits of a cohort, ``kinds`` in order as columns, write the PNG to ``path`` and return it.

    Pictures are small, so that a line holds several visits of them.
    """
    shape = catalog.sql("SELECT any_value(shape) FROM images WHERE cohort_id = ?", [cohort_id]).scalar()
    across = max(1, PICTURES // len(kinds)) if len(shape or ()) == 2 else 1
    sessions = catalog.sql(_CHOICE, [cohort_id, rows * across]).dicts()
    tiles = []
    for session in sessions:
        images = catalog.sql(_IMAGES, [session["subject_id"], session["visit"]]).dicts()
        images.sort(key=lambda image: (kinds.index(image["kind"]), image["pair"] or ""))
        previews = catalog.previews([image["image_id"] for image in images])
        panels = [
            (image["title"], Image.open(io.BytesIO(previews[image["image_id"]])).convert("L")) for image in images
        ]
        panels = panels if across == 1 else [(title, _fill_tile(panel, len(panels))) for title, panel in panels]
        tiles.append((_describe_session(session), panels))
    sheet = _paste_lines(tiles) if across == 1 else _paste_grid(tiles, across)
    path.parent.mkdir(parents=True, exist_ok=True)
    marks = PngInfo()
    marks.add_text("Synthetic", "YES")
    marks.add_text("Description", f"Cohortium contact sheet of synthetic cohort {cohort_id}; no real person is shown")
    sheet.save(path, pnginfo=marks)
    return path


def embed_picture(path: Path) -> str:
    """Return the picture as a data address, which a web page shows without a file server."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _describe_session(session: dict[str, Any]) -> str:
    words = [f"{session['subject_id']} visit {session['visit']}:"]
    words += [session["sex"]] if session["sex"] is not None else []
    words += [f"{session['age_years']:.0f} y"] if session["age_years"] is not None else []
    words += [session["diagnosis"]] if session["diagnosis"] is not None else []
    words += [f"{session['field_strength_t']:g} T"] if session["field_strength_t"] is not None else []
    others = read_attributes(session["attributes_json"])
    words += [_write_value(name, value) for name, value in others.items() if name not in session and value is not None]
    return f"{words[0]} {', '.join(words[1:])}"


def _write_value(name: str, value: AttributeValue) -> str:
    """Return a label as it is; a number, rounded, says what it is."""
    if isinstance(value, tuple):
        return " + ".join(value) or "none"
    return value if isinstance(value, str) else f"{name.replace('_', ' ')} {value:.4g}"


def _paste_lines(lines: list[tuple[str, list[tuple[str, Image.Image]]]]) -> Image.Image:
    width = max(sum(panel.width + _GAP for _, panel in panels) for _, panels in lines)
    heights = [max(panel.height for _, panel in panels) + 2 * _TEXT_HEIGHT + _GAP for _, panels in lines]
    sheet = Image.new("L", (width, sum(heights)), 0)
    draw = ImageDraw.Draw(sheet)
    top = 0
    for (title, panels), height in zip(lines, heights, strict=True):
        draw.text((2, top), title, fill=255)
        left = 0
        for kind, panel in panels:
            draw.text((left + 2, top + _TEXT_HEIGHT), kind, fill=160)
            sheet.paste(panel, (left, top + 2 * _TEXT_HEIGHT))
            left += panel.width + _GAP
        top += height
    return sheet


def _fill_tile(panel: Image.Image, panels: int) -> Image.Image:
    """Return a picture enlarged to its part of a tile's width; larger ones stay."""
    width = _TILE_WIDTH // panels - _GAP
    size = width, round(panel.height * width / panel.width)
    return panel if panel.width >= width else panel.resize(size, Image.Resampling.BICUBIC)


def _paste_grid(tiles: list[tuple[str, list[tuple[str, Image.Image]]]], across: int) -> Image.Image:
    """Return the tiles in lines of ``across``; what is written above each is wrapped to its width."""
    width = max(_TILE_WIDTH, *(sum(panel.width + _GAP for _, panel in panels) for _, panels in tiles))
    height = max(panel.height for _, panels in tiles for _, panel in panels) + _TILE_LINES * _TEXT_HEIGHT + _GAP
    sheet = Image.new("L", (across * width, -(-len(tiles) // across) * height), 0)
    draw = ImageDraw.Draw(sheet)
    for place, (title, panels) in enumerate(tiles):
        left, top = place % across * width, place // across * height
        words = textwrap.wrap(title.partition("-s")[2] or title, width // 6)[:_TILE_LINES]
        draw.multiline_text((left + 2, top), "\n".join(words), fill=255, spacing=2)
        for _, panel in panels:
            sheet.paste(panel, (left, top + _TILE_LINES * _TEXT_HEIGHT))
            left += panel.width + _GAP
    return sheet
