"""The one style of all figures: a Plotly template, and colours that survive colour blindness and both themes."""

from __future__ import annotations

import plotly.graph_objects as go
import plotly.io as pio

# Okabe and Ito, 2008, https://jfly.uni-koeln.de/color/ ; yellow is left out: it vanishes on white.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
PALETTE = [BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY]
GREY = "#8a8f98"  # legible on white and on black
INK = "#24292f"

SEQUENTIAL = "Cividis"  # equally readable with and without colour vision
# Light in the middle, so that zero recedes; blue and vermilion stay apart for every kind of colour vision.
DIVERGING = [[0.0, VERMILION], [0.5, "#f4f1ea"], [1.0, BLUE]]


def template() -> go.layout.Template:
    """Opaque white paper and dark ink: the same picture is legible in a light and in a dark notebook."""
    axis = {
        "gridcolor": "#e6e8eb",
        "zerolinecolor": "#c4c8ce",
        "linecolor": "#8a8f98",
        "ticks": "outside",
        "tickcolor": "#c4c8ce",
        "title": {"standoff": 8},
        "automargin": True,
    }
    return go.layout.Template(
        layout={
            "font": {"family": "DejaVu Sans, Verdana, sans-serif", "size": 13, "color": INK},
            "paper_bgcolor": "white",
            "plot_bgcolor": "white",
            "colorway": PALETTE,
            "colorscale": {"sequential": SEQUENTIAL, "diverging": DIVERGING},
            "margin": {"l": 60, "r": 24, "t": 48, "b": 56},
            "title": {"x": 0.0, "xref": "paper", "xanchor": "left", "font": {"size": 15}},
            "xaxis": axis,
            "yaxis": axis,
            "hovermode": "closest",
        }
    )


def use() -> None:
    """Make the course's template the default of this process."""
    pio.templates["refract"] = template()
    pio.templates.default = "refract"
