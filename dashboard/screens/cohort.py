"""One cohort: how it stands and why, its gates, its population, its subjects."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import queries
from dashboard.charts import draw_mix
from dashboard.components.frame import (
    IMAGES_PAGE,
    MEASURED_PAGE,
    SCORECARD_PAGE,
    choose_cohort,
    run_page,
    show_title,
)
from dashboard.components.gallery import show_gallery
from dashboard.components.mix import MIX_LEGEND, list_bands, list_prevalences, tabulate_mix, tabulate_prevalences
from dashboard.store import read_frame, read_rows
from dashboard.words import SCORECARD_GATE, SEX, explain_gate, explain_refusal, name_diagnosis, name_gate, number, share

MIX_TITLES = {
    "sex": "Sex",
    "diagnosis": "Diagnosis",
    "age_decade": "Age at the first visit (decade)",
    "age_years": "Age at the first visit (requested bands)",
}
SUBJECT_TABLE = {
    "Age (years)": st.column_config.NumberColumn(format="%.1f"),
    "Intracranial volume (mL)": st.column_config.NumberColumn(format="%.0f"),
    "Field strength (T)": st.column_config.NumberColumn(format="%.1f"),
    "Design weight": st.column_config.NumberColumn(
        format="%.3f", help="Undoes deliberate oversampling: sums of it estimate the population."
    ),
}


def show_header(cohort: dict[str, Any], gates: list[dict[str, Any]]) -> None:
    """Show name, status, the reasons in plain words, and what the cohort is made of."""
    spec = json.loads(cohort["spec_json"])
    show_title(cohort["name"], spec.get("description", ""), cohort)
    reasons = explain_refusal(cohort["status"], cohort["reasons"] or [], gates)
    if reasons:
        verb = "was withdrawn" if cohort["decision"] == "withdrawn" else "is not released"
        st.error(
            f"**This cohort {verb}.**\n\n" + "\n".join(f"- {reason}" for reason in reasons), icon=":material/block:"
        )
    imaging = spec.get("imaging", {})
    voxel_mm = imaging.get("resolution_mm") if imaging.get("model") is None else None  # a model has its own grid
    figures = {
        "Subjects": f"{cohort['subjects']:,}",
        "Images": f"{cohort['images']:,}",
        "Contrasts": ", ".join(imaging.get("contrasts", [])) or "—",
        "Voxel size": f"{voxel_mm:g} mm" if voxel_mm is not None else "—",
    }
    for column, (label, value) in zip(st.columns([1, 1, 1.6, 1]), figures.items(), strict=True):
        column.metric(label, value, border=True)
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        query = {"cohort": cohort["cohort_id"]}
        st.page_link(IMAGES_PAGE, label="Browse the images", icon=":material/grid_view:", query_params=query)
        st.page_link(MEASURED_PAGE, label="Requested vs measured", icon=":material/straighten:", query_params=query)
        st.page_link(SCORECARD_PAGE, label="Scorecard", icon=":material/verified:", query_params=query)
    st.caption(describe_origin(cohort, spec))


def describe_origin(cohort: dict[str, Any], spec: dict[str, Any]) -> str:
    """Return where the cohort comes from, in one line."""
    decided = "not decided yet"
    if cohort["decision"]:
        decided = f"decided by {cohort['decided_by']} on {cohort['decided_at']:%-d %B %Y, %H:%M} UTC"
    return " · ".join(
        [
            f"`{cohort['cohort_id']}`",
            f"population {cohort['population']} {cohort['population_version']}",
            f"engine {cohort['engine']} {cohort['engine_version']}",
            f"seed {spec.get('seed', '—')}",
            f"registered {cohort['created_at']:%-d %B %Y, %H:%M} UTC",
            decided,
        ]
    )


def show_gates(gates: list[dict[str, Any]]) -> None:
    """Show what had to hold for a release, the failed gates first."""
    st.subheader("Release gates", anchor=False)
    if not gates:
        st.info("No scorecard yet: this cohort was registered, but not evaluated.", icon=":material/hourglass_empty:")
        return
    ordered = sorted(gates, key=lambda gate: gate["passed"])
    st.table(
        pd.DataFrame(
            {
                "": [":green[**✓**]" if gate["passed"] else ":red[**✗**]" for gate in ordered],
                "Gate": [name_gate(gate["gate"]) for gate in ordered],
                "Value": [(number if is_of_scorecard(gate) else share)(gate["value"]) for gate in ordered],
                "Threshold": [limit(gate) for gate in ordered],
                "In plain words": [explain_gate(gate, named=False) for gate in ordered],
            }
        ),
        hide_index=True,
        border="horizontal",
    )


def is_of_scorecard(gate: dict[str, Any]) -> bool:
    """Return whether a gate looks at a score, which is no share, and says its direction in words."""
    return str(gate["gate"]).startswith(SCORECARD_GATE)


def limit(gate: dict[str, Any]) -> str:
    """Return a gate's threshold with its direction: errors have a largest, shares a least allowed value."""
    if is_of_scorecard(gate):
        direction = next((words for words in ("at most", "at least") if words in gate["reason"]), "")
        return f"{direction} {number(gate['threshold'])}".strip()
    return f"{'at most' if gate['gate'].startswith('population.') else 'at least'} {share(gate['threshold'])}"


def show_population(cohort: dict[str, Any]) -> None:
    """Show the mix of subjects: what was requested, what was drawn, and the population it stands for."""
    st.subheader("Population", anchor=False)
    st.html(MIX_LEGEND)
    spec = json.loads(cohort["spec_json"])
    left, right = st.columns(2, gap="large")
    places = [(left, "sex"), (left, "diagnosis"), (right, "age_decade")]
    queried = {attribute: queries.mix_of(attribute) for _, attribute in places}
    if bands := list_bands(spec):
        places.append((right, "age_years"))
        queried["age_years"] = queries.mix_of_bands(bands)
    for column, attribute in places:
        found = read_frame(queried[attribute], cohort["cohort_id"])
        if found["category"].notna().all():
            mix = tabulate_mix(found, attribute, spec)
            column.altair_chart(draw_mix(mix, MIX_TITLES[attribute]), alt=f"Share of subjects by {attribute}")
    for place, row in enumerate(read_rows(queries.ATTRIBUTES, cohort["cohort_id"])):
        found = read_frame(queries.ATTRIBUTE_MIX, cohort["cohort_id"], row["name"])
        mix = tabulate_mix(found, row["name"], spec)
        title = row["name"].replace("_", " ").capitalize() + (" (several at once)" if row["kind"] == "ARRAY" else "")
        (left, right)[place % 2].altair_chart(draw_mix(mix, title), alt=f"Share of subjects by {row['name']}")
    show_prevalences(cohort, spec)
    show_effective_size(cohort)


def show_prevalences(cohort: dict[str, Any], spec: dict[str, Any]) -> None:
    """Show the prevalences that the recipe asks for within strata, if any, beside those of the cohort."""
    wanted = list_prevalences(spec)
    found = [read_rows(queries.PREVALENCE, cohort["cohort_id"], *asked["parameters"]) for asked in wanted]
    held = [(asked, rows[0]) for asked, rows in zip(wanted, found, strict=True) if rows]
    if held:
        mix = tabulate_prevalences([asked for asked, _ in held], [row for _, row in held])
        st.altair_chart(
            draw_mix(mix, "Prevalence within strata", "Share of the stratum (%)"), alt="Prevalence by stratum"
        )


def show_effective_size(cohort: dict[str, Any]) -> None:
    """Show how many unweighted subjects the design-weighted cohort is worth."""
    rows = read_rows(queries.EFFECTIVE_SIZE, cohort["cohort_id"])
    if rows:
        st.markdown(
            f"**Effective sample size: {rows[0]['effective']:,.0f}** of {cohort['subjects']:,} subjects",
            help="An unweighted sample of the population of this size would estimate a mean as precisely (Kish).",
        )


def show_subjects(cohort: dict[str, Any]) -> None:
    """Show the subjects, 100 at a time; the images of a selected one appear below."""
    st.subheader("Subjects", anchor=False)
    start = read_start()
    found = read_frame(queries.SUBJECTS, cohort["cohort_id"], start)
    page, more = found.head(queries.SUBJECTS_PER_PAGE), len(found) > queries.SUBJECTS_PER_PAGE
    if page.empty:
        st.info(f"This cohort has no subject from number {start} on.", icon=":material/info:")
    else:
        event = st.dataframe(
            tabulate_subjects(page), column_config=SUBJECT_TABLE, hide_index=True, on_select="rerun",
            selection_mode=["single-row", "single-cell"], key=f"subjects-{start}", height=min(35 * len(page) + 38, 430),
        )  # fmt: skip
        rows = [*event["selection"]["rows"], *(cell[0] for cell in event["selection"]["cells"])]
        if rows:
            st.query_params["subject"] = page["subject_id"].iloc[rows[0]]
    show_paging(cohort, start, page, more)
    if subject := st.query_params.get("subject"):
        show_subject(cohort, subject)


def read_start() -> int:
    """Return the first subject to show, from the URL; anything but a whole number counts as 0."""
    text = st.query_params.get("from", "0")
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def tabulate_subjects(page: pd.DataFrame) -> pd.DataFrame:
    """Return the table of subjects as it is shown."""
    table = pd.DataFrame(
        {
            "Subject": page["subject_id"],
            "Age (years)": page["age_years"],
            "Sex": page["sex"].map(lambda sex: SEX.get(sex, sex)),
            "Diagnosis": page["diagnosis"].map(name_diagnosis),
            "Visits": page["visits"],
            "Intracranial volume (mL)": page["intracranial_ml"],
            "Scanner": page["manufacturer"] + " " + page["manufacturer_model"],
            "Field strength (T)": page["field_strength_t"],
            "Design weight": page["design_weight"],
        }
    )
    absent = {"Diagnosis": "diagnosis", "Scanner": "manufacturer"}
    return table.drop(columns=[name for name in table if page.get(absent.get(name, ""), table[name]).isna().all()])


def show_paging(cohort: dict[str, Any], start: int, page: pd.DataFrame, more: bool) -> None:
    """Show which subjects these are, and the buttons that lead to the neighbouring pages."""
    if start == 0 and not more:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Previous 100", icon=":material/chevron_left:", disabled=start == 0):
            before = read_rows(queries.SUBJECTS_BEFORE, cohort["cohort_id"], start)[0]
            open_from(next(iter(before.values())) or 0)
        if st.button("Next 100", icon=":material/chevron_right:", disabled=not more):
            open_from(int(page["subject_index"].iloc[-1]) + 1)
        if not page.empty:
            last = int(page["subject_index"].iloc[-1]) + 1
            st.caption(f"Subjects {number(start + 1)} to {last:,} of {cohort['subjects']:,}")


def open_from(first: int) -> None:
    """Show the subjects from number ``first`` on."""
    st.query_params["from"] = str(first)
    st.query_params.pop("subject", None)
    st.rerun()


def show_subject(cohort: dict[str, Any], subject_id: str) -> None:
    """Show the images of one subject."""
    rows = read_rows(queries.SUBJECT_IMAGES, cohort["cohort_id"], subject_id)
    if not rows:
        st.warning(f"There is no subject `{subject_id[:130].replace('`', '')}` in this cohort.", icon=":material/info:")
        return
    st.markdown(f"**Images of `{subject_id}`**")
    show_gallery(rows[: queries.IMAGES_PER_PAGE])


def show_page() -> None:
    """Show the page."""
    cohort = choose_cohort()
    reports = read_rows(queries.REPORT, cohort["report_id"]) if cohort["report_id"] else []
    gates = list(reports[0]["gates"]) if reports else []
    show_header(cohort, gates)
    show_gates(gates)
    show_population(cohort)
    show_subjects(cohort)


run_page(show_page)
