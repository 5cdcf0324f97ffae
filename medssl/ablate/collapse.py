"""What a training did to its embedding besides its results: how many directions it uses, and how it spreads.

Of the encoder of the fixed split. None of it says that an encoder is good; a value far below that of the base run says
that the training collapsed. Ranks of few patients are small whatever the encoder does, so that only values of one base
run compare.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl.ablate.factors import Cell

CURVES = {
    "rankme": "train/rankme",  # of projections, one sample a patient
    "rankme_encoder": "train/rankme_encoder",  # of embeddings
    "uniformity": "val/uniformity",
    "alignment": "val/alignment",
    "dispersion": "val/dispersion",
}
COLUMNS = ("run", "level", *CURVES, "deviation")


def deviation(embeddings: np.ndarray) -> float:
    """Return the mean standard deviation of the columns of ``embeddings`` (n, d) at unit length, times the root of d.

    Between 0 (all rows are one) and 1 (spread evenly over the sphere).

    Source: Chen and He 2021 (SimSiam), section 4.1.
    """
    z = np.asarray(embeddings, np.float64)
    z = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    return float(z.std(axis=0).mean() * z.shape[1] ** 0.5)


def of_run(folder: Path) -> dict[str, float]:
    """Return the indicators of a run, NaN where one was not measured: those of the step whose encoder was kept."""
    kept = json.loads((folder / "encoder" / "config.json").read_text())["provenance"]["kept_step"]
    rows = {row["step"]: row for row in json.loads((folder / "curves.json").read_text())}
    row: dict[str, Any] = rows.get(kept, {})
    found = {name: float("nan") if row.get(curve) is None else row[curve] for name, curve in CURVES.items()}
    z = pd.read_parquet(folder / "probe" / "embeddings.parquet", columns=["embedding"])["embedding"]
    return found | {"deviation": deviation(np.stack(z.to_list()))}


def indicators(cells: Sequence[Cell], out: Path) -> pd.DataFrame:
    """Return one row per base run and level that has a training of its own; of the base run itself ``level`` is empty.

    Args:
        cells: what was run.
        out: folder with a workspace for each base run.
    """
    own = {(c.base, c.level): c.run for c in cells if not c.refused and c.run != c.base}
    places = {(c.base, ""): c.base for c in cells if not c.refused} | own
    rows = [
        {"run": base, "level": level, **of_run(out / base / "data" / "runs" / name)}
        for (base, level), name in places.items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(COLUMNS[2:], float))
