"""The learner's progress, kept in one file on their own machine: see ``open_store``."""

from refract.progress.events import Event
from refract.progress.states import Calibration, CalibrationBin, ExerciseState, Prediction, SectionSummary, calibration
from refract.progress.store import Store, home, open_store

__all__ = [
    "Calibration",
    "CalibrationBin",
    "Event",
    "ExerciseState",
    "Prediction",
    "SectionSummary",
    "Store",
    "calibration",
    "home",
    "open_store",
]
