"""What pages are made of: a value that is missing is an error, a picture is what it was."""

from __future__ import annotations

import base64

import jinja2
import pytest
from matplotlib.figure import Figure

from medssl.report import page


def test_a_template_needs_all_its_values() -> None:
    with pytest.raises(jinja2.UndefinedError, match="summary"):
        page.fill("medssl.check", "page.html.j2", source="manifest", known=True, cut=False)


def test_pictures_come_back_as_they_were() -> None:
    assert base64.b64decode(page.inline(b"\x89PNG").removeprefix("data:image/png;base64,")) == b"\x89PNG"
    figures = [Figure(figsize=(1, 1)), Figure(figsize=(1, 1)), Figure(figsize=(2, 1))]
    first, again, other = map(page.drawn, figures)
    assert first == again != other
    assert base64.b64decode(first.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
