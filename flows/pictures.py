"""Contact sheets: a grid of previews that shows a cohort at a glance."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from catalog import Catalog

_TEXT_HEIGHT = 14
_GAP = 6

# Evenly spaced over subject index, one row of the sheet per subject and visit.
_CHOICE = """
    WITH sessions AS (
        SELECT i.subject_id, i.visit, s.diagnosis, s.sex, any_value(c.age_years) AS age_years,
               any_value(c.field_strength_t) AS field_strength_t,
               row_number() OVER (ORDER BY s.subject_index, i.visit) - 1 AS place, count(*) OVER () AS total
        FROM images AS i JOIN subjects AS s USING (subject_id) JOIN scans AS c USING (scan_id)
        WHERE i.cohort_id = $1 GROUP BY i.subject_id, i.visit, s.diagnosis, s.sex, s.subject_index
    )
    SELECT * FROM sessions WHERE floor(place * $2 / total) > floor((place - 1) * $2 / total) ORDER BY place LIMIT $2
"""


def draw_contact_sheet(catalog: Catalog, cohort_id: str, kinds: Sequence[str], path: Path, rows: int = 8) -> Path:
    """Draw ``rows`` visits of a cohort, ``kinds`` in order as columns, write the PNG to ``path`` and return it."""
    sessions = catalog.sql(_CHOICE, [cohort_id, rows]).dicts()
    lines = []
    for session in sessions:
        query = "SELECT image_id, kind FROM images WHERE subject_id = ? AND visit = ?"
        images = catalog.sql(query, [session["subject_id"], session["visit"]]).dicts()
        images.sort(key=lambda image: kinds.index(image["kind"]))
        previews = catalog.previews([image["image_id"] for image in images])
        panels = [(image["kind"], Image.open(io.BytesIO(previews[image["image_id"]])).convert("L")) for image in images]
        lines.append((_describe_session(session), panels))
    sheet = _paste_lines(lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    marks = PngInfo()
    marks.add_text("Synthetic", "YES")
    marks.add_text("Description", f"Cohortium contact sheet of synthetic cohort {cohort_id}; no real person is shown")
    sheet.save(path, pnginfo=marks)
    return path


def embed_picture(path: Path) -> str:
    """Return the picture as a data address, which a web page shows without a file server."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _describe_session(session: dict[str, object]) -> str:
    return (
        f"{session['subject_id']} visit {session['visit']}: {session['sex']}, {session['age_years']:.0f} y, "
        f"{session['diagnosis']}, {session['field_strength_t']:g} T"
    )


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
