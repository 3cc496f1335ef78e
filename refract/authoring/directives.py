"""The directives of the source format: one table, which the parser, the errors and the documentation share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Spec:
    """What a directive takes: an argument, options (with the kind of each), children and a body."""

    argument: str  # what stands after the name, in words; "" if nothing may
    identifier: bool = False  # the argument is an id, unique in the section
    required: tuple[tuple[str, str], ...] = ()
    optional: tuple[tuple[str, str], ...] = ()
    children: tuple[str, ...] = ()
    body: bool = True
    top_level: bool = True
    meaning: str = ""

    @property
    def options(self) -> dict[str, str]:
        return dict(self.required + self.optional)


DIRECTIVES: dict[str, Spec] = {
    "exercise": Spec(
        argument="the name of a function or class in the reference module",
        identifier=True,
        required=(("difficulty", "1 to 5"), ("importance", "1 to 5"), ("minutes", "a whole number")),
        children=("hint", "mistake"),
        meaning="a symbol of the reference module for the learner to write",
    ),
    "hint": Spec(
        argument="the hint, or nothing and the hint as the body",
        top_level=False,
        meaning="inside an exercise: one step of help, from a question to a line",
    ),
    "mistake": Spec(
        argument="the name that a test and a wrong answer share",
        top_level=False,
        meaning="inside an exercise: a known wrong turn, and what was seen in the answer",
    ),
    "predict": Spec(
        argument="an id",
        identifier=True,
        required=(("kind", "choice or number"), ("answer", "a letter, a number, or the name of a recorded value")),
        optional=(
            ("tolerance", "a number: how far off still counts as right"),
            ("range", "what a number can be at all, like `0 to 5`"),
        ),
        children=("reveal",),
        meaning="a question asked before a figure, with the learner's confidence",
    ),
    "reveal": Spec(
        argument="",
        top_level=False,
        meaning="inside a prediction: what happened and why, shown after the learner has answered",
    ),
    "figure": Spec(
        argument="the name given to show(figure, name)",
        identifier=True,
        required=(("alt", "a text alternative"),),
        optional=(("after", "the id of the prediction that the figure would give away"),),
        meaning="a figure that the worked notebook saved; the body is its caption",
    ),
    "claim": Spec(
        argument="an id",
        identifier=True,
        required=(
            ("source", "who says so, with a link"),
            ("replicated", "a condition on recorded values"),
        ),
        optional=(("partly", "a weaker condition on recorded values"),),
        meaning="a statement, its source, and the recorded values that decide whether it replicated",
    ),
    "lab": Spec(
        argument="the name of a module in streamlit_app/labs/",
        identifier=True,
        meaning="an interactive on the site; the notebook links to it",
    ),
    "aside": Spec(argument="a title", meaning='a "why", folded away'),
    "bonus": Spec(argument="a title", meaning="an open problem"),
}
