"""What the learner has done: exercises, predictions and how well confidence matched success."""

from __future__ import annotations

from datetime import datetime

import plotly.graph_objects as go
import streamlit as st

from refract.authoring import source
from refract.errors import RefractError
from refract.plots.style import BLUE, GREY
from refract.progress import Calibration, ExerciseState, Prediction, SectionSummary, calibration
from streamlit_app.content import figures, pages
from streamlit_app.content.pages import PageInfo
from streamlit_app.render import page, progress
from streamlit_app.render.blocks import PLOTLY
from streamlit_app.render.exercise import chip


def render() -> None:
    """Draw the progress page."""
    page.frame()
    st.title("Your progress", anchor="your-progress")
    opened = progress.store()
    made: list[Prediction] = []
    shown = 0
    last: list[datetime] = []
    for info in pages.all_pages():
        try:
            section = source.load(info.paths)
        except RefractError:
            st.header(info.title, anchor=info.url_path)
            st.caption("This section's source cannot be read; its own page says why.")
            continue
        summary = progress.summary(opened, section)
        made += summary.predictions
        shown += len(summary.skipped)
        if summary.last_activity:
            last.append(summary.last_activity)
        _section(info, summary, [exercise.name for exercise in section.exercises])
    if last:
        st.caption(f"Last activity: {max(last).astimezone():%d %B %Y, %H:%M}.")
    st.header("Predictions", anchor="predictions")
    _predictions(made, shown)
    st.header("Keep it, move it", anchor="keep-it-move-it")
    st.markdown(
        "Your progress is one file on this machine"
        + (f": `{opened.path}`. " if opened else ". ")
        + "Export it with your answers, and merge it on another machine:"
    )
    st.code("python -m refract export\npython -m refract progress import refract_export.zip", language="bash")


def _section(info: PageInfo, summary: SectionSummary, names: list[str]) -> None:
    st.header(info.title, anchor=info.url_path)
    states = [summary.exercises[name] for name in names]
    passed = sum(state.passed for state in states)
    if states:
        st.progress(passed / len(states), text=f"{passed} of {len(states)} exercises passed")
        rows = [
            f"| [`{state.name}`]({info.url_path}#{state.name}) | {_state(state)} "
            f"| {state.attempts} | {state.hints_opened} |"
            for state in states
        ]
        head = "| Exercise | State | Checks | Hints |\n| :-- | :-- | --: | --: |\n"
        st.markdown(head + "\n".join(rows))
    page.link(info.url_path, "Open the section", icon=":material/arrow_forward:")


def _state(state: ExerciseState) -> str:
    return chip(state)[0] + (", solution shown" if state.solution_shown and not state.without_solution else "")


def _predictions(made: list[Prediction], shown: int) -> None:
    found = calibration(made)
    unseen = _not_counted(made, shown)
    if not found.count:
        st.caption(f"None yet. Sections ask you to predict a result before they show it.{unseen}")
        return
    assert found.mean_confidence is not None and found.share_correct is not None
    st.markdown(
        f"You predicted {found.count} result{'' if found.count == 1 else 's'}, on average "
        f"{found.mean_confidence:.0%} sure, and were right in {found.share_correct:.0%} of them. "
        f"Your Brier score is {found.brier:.2f}: 0 is perfect, 0.25 is what always saying 50% earns.{unseen}"
    )
    drawn = calibration_figure(found).to_plotly_json()
    st.plotly_chart(
        go.Figure(figures.themed(drawn, dark=st.context.theme.type == "dark")),
        key="calibration",
        theme="streamlit",
        config=PLOTLY,
        alt="Share of predictions that were right, against how sure you were. On the diagonal, the two are equal.",
    )


def _not_counted(made: list[Prediction], shown: int) -> str:
    """The sentences about answers that do not show in the figure."""
    unsure = sum(one.confidence is None and not one.late for one in made)
    waiting = sum(one.confidence is not None and one.correct is None and not one.late for one in made)
    parts = [
        f"{shown} shown without a prediction" if shown else "",
        f"{unsure} without a confidence" if unsure else "",
        f"{waiting} not revealed yet" if waiting else "",
    ]
    listed = ", ".join(filter(None, parts))
    return f" Not counted: {listed}." if listed else ""


def calibration_figure(found: Calibration) -> go.Figure:
    """Share right against mean confidence, one point a bin, its area by the number of predictions."""
    filled = [bin for bin in found.bins if bin.count]
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dot", "color": GREY}, name="calibrated", hoverinfo="skip"
    )
    figure.add_scatter(
        x=[bin.mean_confidence for bin in filled],
        y=[bin.share_correct for bin in filled],
        mode="markers",
        marker={"size": [10 + 6 * bin.count**0.5 for bin in filled], "color": BLUE, "opacity": 1},
        text=[f"{bin.count} prediction{'' if bin.count == 1 else 's'}" for bin in filled],
        hovertemplate="%{text}<br>%{x:.0%} sure, %{y:.0%} right<extra></extra>",
        name="you",
    )
    figure.update_layout(
        height=360,
        showlegend=False,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        xaxis={"title": "how sure you were", "range": [-0.03, 1.03], "tickformat": ".0%"},
        yaxis={"title": "share that was right", "range": [-0.08, 1.08], "tickformat": ".0%"},
    )
    return figure
