"""One small good recording of each table and array format, for the tests that damage files of every format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

RATE_HZ = 100.0
SECONDS = 5


def leads(seed: int) -> pd.DataFrame:
    """Leads I and II of 5 s at 100 Hz, mV, to 1 uV."""
    noise = np.random.default_rng(seed)
    time_s = np.arange(round(SECONDS * RATE_HZ)) / RATE_HZ
    sines = [np.sin(2 * np.pi * 1.2 * time_s), 0.5 * np.cos(2 * np.pi * 7 * time_s)]
    values = np.stack(sines, axis=1) + noise.normal(scale=0.02, size=(len(time_s), 2))
    return pd.DataFrame(values.round(3), columns=["I", "II"])


def csv(folder: Path, seed: int) -> Path:
    leads(seed).to_csv(folder / "a.csv", index=False)
    return folder / "a.csv"


def tsv(folder: Path, seed: int) -> Path:
    leads(seed).to_csv(folder / "a.tsv", index=False, sep="\t")
    return folder / "a.tsv"


def parquet(folder: Path, seed: int) -> Path:
    leads(seed).to_parquet(folder / "a.parquet", row_group_size=200)
    return folder / "a.parquet"


def npy(folder: Path, seed: int) -> Path:
    np.save(folder / "a.npy", leads(seed).to_numpy(np.float32).T)
    return folder / "a.npy"


def npz(folder: Path, seed: int) -> Path:
    np.savez_compressed(folder / "a.npz", ecg=leads(seed).to_numpy(np.float32), rate_hz=np.array(RATE_HZ))
    return folder / "a.npz"


# Arrays name no channels: a manifest gives these files rate_hz 100 and columns I;II.
EXAMPLES: dict[str, Callable[[Path, int], Path]] = {
    "tabular-csv": csv,
    "tabular-tsv": tsv,
    "tabular-parquet": parquet,
    "array-npy": npy,
    "array-npz": npz,
}
