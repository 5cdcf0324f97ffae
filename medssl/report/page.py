"""What a self-contained page is made of: a filled template, and pictures inside it."""

from __future__ import annotations

import base64
import io
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure


def fill(room: str, template: str, **values: Any) -> str:
    """Return a file of ``templates`` of a package, filled: text is escaped, and a value that is missing is an error."""
    environment = Environment(loader=PackageLoader(room), autoescape=True, undefined=StrictUndefined)
    return environment.get_template(template).render(**values)


def inline(png: bytes) -> str:
    """Return a picture as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def drawn(figure: Figure) -> str:
    """Return a figure as a data URI; equal figures have equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return inline(buffer.getvalue())
