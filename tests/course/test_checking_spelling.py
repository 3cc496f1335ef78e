"""Which name was meant: a typo finds its name, another word does not."""

from __future__ import annotations

import pytest

from refract.checking.spelling import near, slip_for

KNOWN = ["norm", "x_hat", "W", "reconstruct", "reconstruct_linear", "range"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("nrom", "norm"),
        ("Norm", "norm"),
        ("xhat", "x_hat"),
        ("w", "W"),
        ("reconstuct", "reconstruct"),
        ("recontruct", "reconstruct"),
        ("name", None),
        ("rearrange", None),
        ("b", None),
        ("W", None),
        ("", None),
    ],
)
def test_near(name, meant):
    assert near(name, KNOWN) == meant


@pytest.mark.parametrize(
    ("defined", "slip"),
    [
        (["recontruct"], "recontruct"),
        (["other", "Reconstruct"], "Reconstruct"),
        (["re_construct"], "re_construct"),
        (["reconstruct"], None),
        (["reconstruct_slow"], None),
        (["construct_tree", "recur"], None),
        ([], None),
    ],
)
def test_slip(defined, slip):
    assert slip_for("reconstruct", defined) == slip
    assert slip_for("superposition_index", ["superposition_index_slow"]) is None
