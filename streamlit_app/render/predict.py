"""A prediction: asked before its figure, answered once, kept."""

from __future__ import annotations

import streamlit as st

from refract.authoring.model import Predict
from refract.authoring.values import Recorded
from refract.errors import RefractError
from refract.paths import SectionPaths
from refract.progress import Prediction
from refract.session import LETTERS, judge, parse_answer, write_answer
from streamlit_app.content.predictions import truth
from streamlit_app.render import progress, text


def render(
    paths: SectionPaths, question: Predict, recorded: dict[str, Recorded], given: Prediction | None, skipped: bool
) -> None:
    """The question; after it was answered or skipped, also the verdict and the explanation."""
    try:
        right = truth(question, recorded)
    except RefractError as error:
        text.problem(error, "This prediction")
        return
    with st.container(border=True, key=f"predict-{question.name}"):
        text.anchor(question.name)
        st.markdown("**Predict before you look**")
        st.markdown(text.prose(paths, question.question, recorded))
        if given is None and not skipped:
            _form(paths, question, recorded)
        else:
            _verdict(paths, question, recorded, given, right)


def _form(paths: SectionPaths, question: Predict, recorded: dict[str, Recorded]) -> None:
    with st.form(key=f"form-{question.name}", border=False):
        answer: str | float | None
        if question.kind == "choice":
            labels = {
                letter: f"{letter}. {text.prose(paths, option, recorded)}"
                for letter, option in zip(LETTERS, question.options, strict=False)
            }
            answer = st.radio(
                "Your prediction",
                list(labels),
                index=None,
                format_func=lambda letter: labels.get(letter, letter),
                key=f"answer-{question.name}",
            )
        else:
            answer = st.number_input("Your prediction", value=None, key=f"answer-{question.name}", width=240)
        confidence = st.slider(
            "How sure are you?",
            min_value=0,
            max_value=100,
            value=50,
            step=5,
            format="%d%%",
            key=f"confidence-{question.name}",
            width=320,
        )
        with st.container(horizontal=True, vertical_alignment="center"):
            submitted = st.form_submit_button("Predict", type="primary", key=f"submit-{question.name}")
            st.form_submit_button(
                "Show without predicting",
                key=f"skip-{question.name}",
                type="tertiary",
                on_click=progress.record,
                args=(progress.SKIPPED, paths.id, question.name),
            )
        if submitted:
            if answer is None:
                st.warning("Choose an answer first." if question.kind == "choice" else "Enter a number first.")
            else:
                try:
                    parsed = parse_answer(question, answer)
                except RefractError as error:
                    st.warning(str(error))
                else:
                    _keep(paths, question, recorded, parsed, confidence / 100)
                    st.rerun()


def _keep(
    paths: SectionPaths,
    question: Predict,
    recorded: dict[str, Recorded],
    answer: str | float,
    confidence: float | None,
) -> None:
    progress.record(
        "prediction",
        paths.id,
        question.name,
        answer=answer,
        confidence=confidence,
        correct=judge(question, answer, recorded),
        truth=truth(question, recorded),
    )


def _verdict(
    paths: SectionPaths, question: Predict, recorded: dict[str, Recorded], given: Prediction | None, right: str | float
) -> None:
    if given is None:
        st.caption("Shown without a prediction.")
        said, shown = "", st.info
    elif given.late:
        st.caption("Predicted after the answer was shown: it does not count.")
        said, shown = f"You said {_answer(paths, question, given.answer, recorded)}.  \n", st.info
    else:
        correct = judge(question, given.answer, recorded)
        if given.correct is None:  # made in a notebook; here is where it is revealed
            _keep(paths, question, recorded, given.answer, given.confidence)
        sure = f" ({given.confidence:.0%} sure)" if given.confidence is not None else ""
        verdict = "that is right" if correct else "that is not what happened"
        said = f"You said {_answer(paths, question, given.answer, recorded)}{sure}: {verdict}.  \n"
        shown = st.success if correct else st.info
    shown(f"{said}**What happened:** {_answer(paths, question, right, recorded)}")
    st.markdown(text.prose(paths, question.reveal, recorded))


def _answer(paths: SectionPaths, question: Predict, answer: str | float, recorded: dict[str, Recorded]) -> str:
    return text.prose(paths, write_answer(question, answer), recorded)
