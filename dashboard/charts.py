"""Charts: data frames in, Altair charts out. Pure functions; titles carry the units."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

INK, FAINT, GRID = "#1f2933", "#61707f", "#e6eaee"
REQUESTED, DRAWN, WEIGHTED = "#b8c2cc", "#14708a", "#e0a030"
MIX_SERIES = {"Requested": REQUESTED, "Drawn": DRAWN, "Design-weighted": WEIGHTED}
KIND_COLOURS = ("#14708a", "#d9822b", "#7a5ab5", "#3f9b5b", "#c0455e", "#5b6b7b")
CONTROL = "#a35200"
BAR_PX, POINTS_PX, FURNITURE_PX = 13, 350, 92  # heights are of whole charts: titles and axes take FURNITURE_PX


def _style(chart: alt.TopLevelMixin) -> alt.TopLevelMixin:
    """Return ``chart`` with the dashboard's quiet axes."""
    return (
        chart.configure_view(stroke=None)
        .configure_axis(
            gridColor=GRID, domainColor=GRID, tickColor=GRID, labelColor=FAINT, titleColor=FAINT,
            labelFontSize=12, titleFontSize=12, titleFontWeight="normal",
        )
        .configure_title(
            color=INK, fontSize=14, anchor="start", fontWeight=600, subtitleColor=FAINT, subtitleFontSize=12
        )
        .configure_legend(labelColor=INK, labelFontSize=12, titleColor=FAINT)
    )  # fmt: skip


def draw_mix(mix: pd.DataFrame, title: str, axis_title: str = "Share of subjects (%)") -> alt.TopLevelMixin:
    """Return grouped bars of the shares of subjects by category.

    ``mix`` has one row per category and series: category, series (a key of MIX_SERIES), share (0 to 1) and subjects.
    """
    series = [name for name in MIX_SERIES if name in set(mix["series"])]
    categories = list(dict.fromkeys(mix["category"]))
    base = alt.Chart(mix.assign(percent=100 * mix["share"])).encode(
        y=alt.Y(
            "category:N", sort=categories, title=None, axis=alt.Axis(labelLimit=300, labelFontSize=12, ticks=False)
        ),
        yOffset=alt.YOffset("series:N", sort=series),
        tooltip=[
            alt.Tooltip("category:N", title="Category"),
            alt.Tooltip("series:N", title="Share"),
            alt.Tooltip("percent:Q", title="% of subjects", format=".1f"),
            alt.Tooltip("subjects:Q", title="Subjects drawn"),
        ],
    )
    top = min(max(10.0, 118 * float(mix["share"].max())), 112.0)
    axis = alt.X(
        "percent:Q",
        title=axis_title,
        scale=alt.Scale(domain=[0, top], nice=False),
        axis=alt.Axis(tickCount=5),
    )
    colour = alt.Color(
        "series:N", sort=series, legend=None, scale=alt.Scale(domain=series, range=[MIX_SERIES[s] for s in series])
    )
    bars = base.mark_bar(cornerRadiusEnd=2).encode(x=axis, color=colour)
    text = base.mark_text(align="left", baseline="middle", dx=4, fontSize=10, color=FAINT).encode(
        x="percent:Q", text=alt.Text("percent:Q", format=".1f")
    )
    height = len(categories) * (len(series) * BAR_PX + 12) + FURNITURE_PX
    return _style((bars + text).properties(title=title, height=height))


def draw_adherence(points: pd.DataFrame, title: str, unit: str, kinds: Sequence[str]) -> alt.TopLevelMixin:
    """Return measured against requested values, with the line of identity and the band of the tolerance.

    ``points`` has requested, measured, tolerance, within, kind and image_id; ``kinds`` fixes the colours.
    """
    known = points.dropna(subset=["requested", "measured"])
    low, high = _bounds(known)
    suffix = f" ({unit})" if unit else ""
    scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    x = alt.X("requested:Q", title=f"Requested{suffix}", scale=scale, axis=alt.Axis(tickCount=5))
    y = alt.Y("measured:Q", title=f"Measured{suffix}", scale=scale, axis=alt.Axis(tickCount=5))
    band = known.drop_duplicates("requested").sort_values("requested")
    band = band.assign(low=band["requested"] - band["tolerance"], high=band["requested"] + band["tolerance"])
    area = alt.Chart(band[["requested", "low", "high"]]).mark_area(color="#14708a", opacity=0.12, clip=True)
    line = alt.Chart(pd.DataFrame({"requested": [low, high], "measured": [low, high]}))
    colour = alt.Color(
        "kind:N", scale=alt.Scale(domain=list(kinds), range=list(KIND_COLOURS[: len(kinds)])), legend=None
    )
    dots = alt.Chart(known).mark_point(filled=True, size=38, clip=True)
    missed = alt.Chart(known[~known["within"].astype(bool)]).mark_point(
        size=150, color="#d64545", strokeWidth=2, clip=True
    )
    tips = [
        alt.Tooltip("image_id:N", title="Image"),
        alt.Tooltip("kind:N", title="Contrast"),
        alt.Tooltip("requested:Q", title=f"Requested{suffix}", format=".4~g"),
        alt.Tooltip("measured:Q", title=f"Measured{suffix}", format=".4~g"),
        alt.Tooltip("tolerance:Q", title=f"Tolerance ±{suffix}", format=".3~g"),
    ]
    layers = alt.layer(
        area.encode(x=x, y=alt.Y("low:Q", title=f"Measured{suffix}", scale=scale), y2="high:Q"),
        line.mark_line(color=FAINT, strokeDash=[4, 3], strokeWidth=1, clip=True).encode(x=x, y=y),
        dots.encode(x=x, y=y, color=colour, opacity=alt.value(0.75), tooltip=tips),
        missed.encode(x=x, y=y, tooltip=tips),
    )
    return _style(layers.properties(title=alt.Title(title, subtitle=count_within(points)), height=POINTS_PX))


def draw_scores(rows: pd.DataFrame, title: str = "", whole: float | None = None) -> alt.TopLevelMixin:
    """Return one line a score: a dot with its 95 % interval and, as a diamond, its control.

    ``rows`` has label, value, low, high, control and images; ``whole`` is a value that a dashed line marks. A single
    row is a small chart with the label as its title.
    """
    alone = len(rows) == 1
    scale = alt.Scale(zero=False, nice=False, padding=14)
    axis = alt.Axis(tickCount=4 if alone else 6, format="~g")
    named = alt.Axis(labelLimit=380, labelFontSize=12, ticks=False, labelColor=INK)
    y = alt.Y("label:N", sort=list(rows["label"]), title=None, axis=None if alone else named)
    tips = [alt.Tooltip("label:N", title="Score"), *(alt.Tooltip(f"{name}:Q", title=text, format=".4~g")
            for name, text in (("value", "Value"), ("low", "From"), ("high", "To"), ("control", "Control"))),
            alt.Tooltip("images:Q", title="Images", format=",")]  # fmt: skip
    base = alt.Chart(rows).encode(y=y, tooltip=tips)
    layers = [
        base.mark_rule(strokeWidth=3, color=DRAWN).encode(
            x=alt.X("low:Q", title=None, scale=scale, axis=axis), x2="high:Q"
        ),
        base.mark_point(size=80, color=DRAWN, filled=True, opacity=1).encode(x=alt.X("value:Q", scale=scale)),
        base.mark_point(size=150, color=CONTROL, shape="diamond", strokeWidth=2).encode(
            x=alt.X("control:Q", scale=scale)
        ),
    ]
    if whole is not None:
        line = alt.Chart(pd.DataFrame({"value": [whole]})).mark_rule(color=FAINT, strokeDash=[4, 3])
        layers.append(line.encode(x=alt.X("value:Q", scale=scale)))
    heading = title or (str(rows["label"].iloc[0]) if alone else "")
    height = FURNITURE_PX if alone else 26 * len(rows) + 40 + 30 * bool(heading)
    return _style(alt.layer(*layers).properties(title=heading, height=height))


def count_within(points: pd.DataFrame) -> str:
    """Return "n of m images within tolerance", from the columns inside and images if there are more than points."""
    if {"images", "inside"} <= set(points.columns) and len(points):
        inside, images = int(points["inside"].iloc[0]), int(points["images"].iloc[0])
    else:
        inside, images = int(points["within"].sum()), len(points)
    shown = "" if images == len(points) else f" · {len(points):,} shown"
    return f"{inside:,} of {images:,} images within tolerance{shown}"


def _bounds(points: pd.DataFrame) -> tuple[float, float]:
    if points.empty:
        return 0.0, 1.0
    low = float(points[["requested", "measured"]].min().min())
    high = float(points[["requested", "measured"]].max().max())
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return (max(0.0, low - margin) if low > 0 else low - margin), high + margin
