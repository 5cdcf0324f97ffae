"""The HTML file: data as base64 beside the script that draws them, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from medssl.explore.columns import visible
from medssl.explore.layout import Layout
from medssl.explore.pictures import Pictures
from medssl.report.page import fill

SCRIPTS = ("data.js", "map.js", "picture.js", "panel.js", "main.js")  # in the order in which they need one another


@dataclass(frozen=True)
class Page:
    """What goes into a page: row ``i`` of ``table`` is point ``i`` of ``layout`` and picture ``i``."""

    run: str
    modality: str
    table: pd.DataFrame
    layout: Layout
    pictures: Pictures | None
    units: Mapping[str, str]  # of anat_<measure>, by measure
    total: int  # samples of the run, of which the page shows len(table)


def write(page: Page, out: Path) -> list[str]:
    """Write a page, and return in lines what it holds; a page that was there stays until the new one is whole."""
    n, patients = len(page.table), page.table["patient"].nunique()
    columns = visible(page.table, page.units)
    layout, pictures = page.layout, page.pictures
    blobs = {
        "xy": np.rint((layout.xy + 1) / 2 * 65535).astype("<u2").tobytes(),
        "neighbours": layout.neighbours.astype("<u4").tobytes(),
        "cosine": np.rint(np.clip(layout.cosine, -1, 1) * 10000).astype("<i2").tobytes(),
        **{f"column{k}": np.ascontiguousarray(c.values).astype(c.values.dtype.newbyteorder("<")).tobytes()
           for k, c in enumerate(columns)},
        **(pictures.blobs if pictures else {}),
    }  # fmt: skip
    facts: dict[str, Any] = {
        "run": page.run,
        "ids": list(page.table["sample_id"]),
        "k": layout.neighbours.shape[1],
        "columns": [{"name": c.name, "title": c.title, "group": c.group, "classes": c.classes} for c in columns],
        "patients": pd.factorize(page.table["patient"])[0].tolist(),
        "pictures": {"kind": pictures.kind, **pictures.facts} if pictures else None,
    }
    counted = f"{n:,} samples of {patients:,} {'patient' if patients == 1 else 'patients'}"
    held = pictures.words if pictures else "no traces and no pictures"
    text = fill(
        "medssl.explore",
        "page.html.j2",
        run=page.run,
        modality=page.modality.upper(),
        counted=counted,
        drawn=f" (drawn at random from {page.total:,})" if page.total > n else "",
        method=layout.method,
        held=held,
        pictures=pictures is not None,
        columns=[c.title for c in columns],
        style=_own("style.css"),
        script=Markup("\n").join(_own(name) for name in SCRIPTS),
        facts=Markup(json.dumps(facts, separators=(",", ":")).replace("<", "\\u003c")),
        blobs={name: Markup(base64.b64encode(blob).decode()) for name, blob in blobs.items()},
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(out)
    share = "recordings" if pictures else "table of samples"
    return [
        f"{out}: {counted}, {layout.method}, {len(text) / 1e6:.1f} MB",
        f"it holds {held} and {len(columns)} columns; share it as you would share the {share}",
    ]


def _own(name: str) -> Markup:
    return Markup(resources.files("medssl.explore").joinpath("templates", name).read_text(encoding="utf-8"))
