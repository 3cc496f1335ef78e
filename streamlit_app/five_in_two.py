"""Draws the home page's picture, ``five_in_two.svg`` (a beam, a prism of two neurons, five features), and the icon."""

from __future__ import annotations

import math
from pathlib import Path

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7")
WIDTH, HEIGHT = 960, 260


def picture() -> str:
    """The picture as SVG, on a transparent ground, in colours that stand out on light and on dark."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img"><title>A beam enters two neurons and leaves as five arrows, 72 degrees apart.</title>'
    ]
    middle = HEIGHT / 2
    for row, colour in enumerate(COLOURS):  # the beam: five features side by side
        y = middle + (row - 2) * 7
        parts.append(f'<line x1="40" y1="{y:.1f}" x2="330" y2="{y:.1f}" stroke="{colour}" stroke-width="5"/>')
    parts.append(
        f'<path d="M 300 {middle + 95} L 395 {middle - 95} L 490 {middle + 95} Z" fill="#8a94a0" fill-opacity="0.18" '
        'stroke="#8a94a0" stroke-width="3" stroke-linejoin="round"/>'
    )
    for y in (middle + 2, middle + 50):  # two neurons
        parts.append(f'<circle cx="395" cy="{y}" r="16" fill="none" stroke="#8a94a0" stroke-width="4"/>')
    centre, radius = 760, 105
    for row, colour in enumerate(COLOURS):
        y = middle + (row - 2) * 7
        parts.append(
            f'<path d="M 445 {y + 5:.1f} C 540 {y:.1f}, 600 {middle}, {centre} {middle}" fill="none" '
            f'stroke="{colour}" stroke-width="3" stroke-opacity="0.45"/>'
        )
    for place, colour in enumerate(COLOURS):
        angle = math.pi / 2 + 2 * math.pi * place / 5
        parts.append(_arrow(centre, middle, radius, angle, colour))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _arrow(x: float, y: float, length: float, angle: float, colour: str) -> str:
    dx, dy = math.cos(angle), -math.sin(angle)
    tip = (x + length * dx, y + length * dy)
    base = (x + (length - 18) * dx, y + (length - 18) * dy)
    wing = (-dy * 9, dx * 9)
    points = " ".join(
        f"{px:.1f},{py:.1f}"
        for px, py in (tip, (base[0] + wing[0], base[1] + wing[1]), (base[0] - wing[0], base[1] - wing[1]))
    )
    return (
        f'<line x1="{x}" y1="{y}" x2="{base[0]:.1f}" y2="{base[1]:.1f}" stroke="{colour}" stroke-width="6"/>'
        f'<polygon points="{points}" fill="{colour}"/>'
    )


def icon() -> str:
    """The browser tab's icon: the five arrows alone."""
    arrows = [_arrow(32, 32, 30, math.pi / 2 + 2 * math.pi * i / 5, colour) for i, colour in enumerate(COLOURS)]
    return "\n".join(['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">', *arrows, "</svg>"]) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("icon.svg").write_text(icon(), encoding="utf-8")
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
