"""The scorecards of one cohort: verdict, gates, every score beside its control, subgroups, copies. No real image."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from dashboard import queries
from dashboard.charts import draw_scores
from dashboard.components.frame import VIEWER_PAGE, choose_cohort, run_page, show_title
from dashboard.scores import (
    FAMILIES,
    VERDICT_MARK,
    escape_markdown,
    explain_scorecard,
    judge_scorecard,
    list_by_subgroup,
    make_rows,
    select_family,
    split_by_scale,
    tabulate_gates,
    tabulate_scores,
)
from dashboard.store import read_frame, read_rows

OWN_AXES = 3  # small charts side by side
LEGEND = (
    "<div class='legend'><span>● score</span><span>━ its 95 % interval</span>"
    "<span style='color:#a35200'>◇ control: usually what real patients score</span></div>"
)
SCORE_TABLE = {
    "Score": st.column_config.TextColumn(width=280),
    "Images": st.column_config.NumberColumn(format="localized", width=75),
    "Not measurable because": st.column_config.TextColumn(width=420),
}


def choose_scorecard(cohort_id: str) -> dict[str, Any] | None:
    """Show the scorecards of a cohort and return the chosen one: of the URL, else of the decision, else the newest."""
    rows = read_rows(queries.SCORECARDS, cohort_id)
    if not rows:
        return None
    ids = [row["scorecard_id"] for row in rows]
    wanted = st.query_params.get("scorecard")
    if wanted is not None and wanted not in ids:
        st.warning("There is no such scorecard of this cohort; another one is shown.", icon=":material/info:")
    start = ids.index(wanted) if wanted in ids else next((i for i, row in enumerate(rows) if row["decisive"]), 0)
    if len(rows) == 1:
        return rows[0]
    names = {row["scorecard_id"]: describe_scorecard(row) for row in rows}
    chosen = st.selectbox("Scorecard", ids, index=start, format_func=lambda name: names[name], key=f"of-{cohort_id}")
    if chosen != wanted:
        st.query_params["scorecard"] = chosen
    return rows[ids.index(chosen)]


def describe_scorecard(row: dict[str, Any]) -> str:
    """Return a scorecard in one line."""
    decisive = " · the decision rests on it" if row["decisive"] else ""
    when = f"{row['created_at']:%-d %B %Y, %H:%M} UTC"
    return (
        f"{VERDICT_MARK[judge_scorecard(row)]} · {when} · against {row['reference']} · policy {row['policy']}{decisive}"
    )


def show_verdict(row: dict[str, Any]) -> None:
    """Show what the gates and controls say, and what the scorecard is of."""
    verdict, reasons = judge_scorecard(row), explain_scorecard(row)
    listed = "\n".join(f"- {escape_markdown(reason)}" for reason in reasons)
    if verdict == "passed":
        st.success("**Every control behaves and every gate holds.**", icon=":material/check:")
    elif verdict == "refused":
        st.error(f"**These images do not pass.**\n\n{listed}", icon=":material/block:")
    else:
        st.warning(f"**A control misbehaves, so no score proves anything.**\n\n{listed}", icon=":material/report:")
    figures = {
        "Images judged": f"{row['images']:,}",
        "Against": row["reference"],
        "Policy": row["policy"],
        "Copies found": f"{row['copies']:,}",
    }
    for column, (label, value) in zip(st.columns(4), figures.items(), strict=True):
        column.metric(label, value, border=True)
    st.caption(
        f"`{row['scorecard_id']}` · reference `{row['reference_fingerprint'][:12]}` · policy "
        f"`{row['policy_hash'][:12]}` · seed {row['seed']} · {row['created_at']:%-d %B %Y, %H:%M} UTC · "
        f"internal document, with pictures of real patients: `{row['document']}`"
    )


def show_gates(row: dict[str, Any]) -> None:
    """Show the gates of the policy."""
    st.subheader("Gates", anchor=False)
    if not row["gates"]:
        st.info("No gate was applied.", icon=":material/info:")
        return
    st.table(tabulate_gates(row["gates"]), hide_index=True, border="horizontal")


def show_family(scores: pd.DataFrame, family: str) -> None:
    """Show the charts and the table of one family."""
    own = select_family(scores, family)
    if own.empty:
        return
    st.subheader(family.capitalize(), anchor=False)
    st.caption(FAMILIES[family])
    shared, apart = split_by_scale(make_rows(own), family)
    if len(shared):
        st.altair_chart(draw_scores(shared), alt=f"Scores of {family} beside their controls")
    for start in range(0, len(apart), OWN_AXES):
        for column, place in zip(st.columns(OWN_AXES), range(start, min(start + OWN_AXES, len(apart))), strict=False):
            one = apart.iloc[[place]]
            column.altair_chart(draw_scores(one), alt=f"{one['label'].iloc[0]} beside its control")
    st.dataframe(tabulate_scores(own), column_config=SCORE_TABLE, hide_index=True)


def show_subgroups(scores: pd.DataFrame) -> None:
    """Show one score by subgroup, with the number of images in brackets."""
    found = list_by_subgroup(scores)
    if not found:
        return
    st.subheader("By subgroup", anchor=False)
    label = st.selectbox("Score", list(found), key="subgroup-score", bind="query-params")
    rows = found[label]
    whole = scores[(scores["subgroup"] == "") & (scores["name"] == rows["name"].iloc[0])
                   & (scores["features"] == rows["features"].iloc[0])]["value"].dropna()  # fmt: skip
    shown = make_rows(rows, by_subgroup=True)
    if len(shown):
        line = float(whole.iloc[0]) if len(whole) else None
        st.altair_chart(draw_scores(shown, label, line), alt=f"{label} by subgroup")
        st.caption("In brackets: images of the subgroup." + (" Dashed: all images." if line is not None else ""))
    missing = rows[rows["value"].isna()]
    if len(missing):
        with st.expander(f"Not measurable in {len(missing)} of {len(rows)} subgroups", icon=":material/info:"):
            st.dataframe(missing[["subgroup", "reason"]], hide_index=True)


def show_copies(row: dict[str, Any]) -> None:
    """Show the images that are copies of a training image; selecting one opens the viewer."""
    copies = read_frame(queries.SCORECARD_COPIES, row["scorecard_id"])
    if copies.empty:
        return
    st.subheader("Copies of training images", anchor=False)
    st.caption(
        "Images that the calibrated search calls copies, the most alike first, 100 at most. Select one to see it. The "
        "real images are in the internal document alone."
    )
    table = pd.DataFrame({"Image": copies["image_id"], "Score (1 is an exact copy)": copies["score"]})
    event = st.dataframe(
        table, hide_index=True, on_select="rerun", key="copies", selection_mode="single-row", width=620
    )
    if event["selection"]["rows"]:
        st.switch_page(VIEWER_PAGE, query_params={"image": copies["image_id"].iloc[event["selection"]["rows"][0]]})


def show_page() -> None:
    """Show the page."""
    cohort = choose_cohort()
    show_title("Scorecard", f"What was measured of the images of `{cohort['cohort_id']}` against real ones.", cohort)
    row = choose_scorecard(cohort["cohort_id"])
    if row is None:
        st.info("The images of this cohort were not judged against a reference yet.", icon=":material/info:")
        return
    show_verdict(row)
    show_gates(row)
    scores = read_frame(queries.SCORECARD_METRICS, row["scorecard_id"])
    st.html(LEGEND)
    for family in FAMILIES:
        show_family(scores, family)
    show_subgroups(scores)
    show_copies(row)


run_page(show_page)
