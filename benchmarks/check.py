"""`medssl check` on ten files of a kind: seconds to its last line, against one import of the training stack.

    python benchmarks/check.py [--repeats 5]

The alternative is what the command paid before it read a byte: torch, MONAI and the objectives' libraries, whatever the
files were. Written files are small, so what is measured is the start and not the disk.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

FILES = 10
BAR_S = 2.0


def wfdb_(folder: Path, number: int) -> str:
    import wfdb

    signal = np.random.default_rng(number).standard_normal((1000, 2))
    wfdb.wrsamp(
        f"r{number}",
        fs=100,
        units=["mV"] * 2,
        sig_name=["I", "II"],
        p_signal=signal,
        fmt=["16"] * 2,
        write_dir=str(folder),
    )
    return f"r{number}.hea"


def edf(folder: Path, number: int) -> str:
    from edfio import Edf, EdfSignal

    signal = np.random.default_rng(number).standard_normal(1000)
    Edf([EdfSignal(signal, 100, label="EEG Fp1", physical_dimension="uV")]).write(folder / f"r{number}.edf")
    return f"r{number}.edf"


def csv(folder: Path, number: int) -> str:
    signal = np.random.default_rng(number).standard_normal((1000, 2))
    np.savetxt(folder / f"r{number}.csv", signal, delimiter=",", header="I,II", comments="")
    return f"r{number}.csv"


def nifti(folder: Path, number: int) -> str:
    import nibabel

    values = np.random.default_rng(number).standard_normal((16, 16, 16)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / f"r{number}.nii.gz")
    return f"r{number}.nii.gz"


def png(folder: Path, number: int) -> str:
    from PIL import Image

    grey = np.random.default_rng(number).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(grey).save(folder / f"r{number}.png")
    return f"r{number}.png"


KINDS: dict[str, Callable[[Path, int], str]] = {"wfdb": wfdb_, "edf": edf, "csv": csv, "nifti": nifti, "png": png}


def seconds(*words: str) -> float:
    """Return how long a command of this interpreter takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    ratios: dict[str, float] = {}
    print(f"{'kind':8} {'check (s)':>10} {'import (s)':>11} {'ratio':>6}   (bar {BAR_S} s)")
    with tempfile.TemporaryDirectory() as home:
        for kind, write in KINDS.items():
            folder = Path(home, kind)
            folder.mkdir()
            rows = [f"{write(folder, i)},P{i},1,100,mV" for i in range(FILES)]
            (folder / "manifest.csv").write_text("\n".join(["path,patient,trial,rate_hz,unit", *rows]))
            # In turns, so that what else the machine does falls on both.
            pairs = [
                (seconds("-m", "medssl.cli", "check", str(folder)), seconds("-c", "import medssl.hub"))
                for _ in range(repeats)
            ]
            own, other = (statistics.median(side) for side in zip(*pairs, strict=True))
            ratios[f"check_{kind}_s"], ratios[f"check_{kind}_ratio"] = round(own, 2), round(own / other, 3)
            print(f"{kind:8} {own:10.2f} {other:11.2f} {own / other:6.2f}")
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
