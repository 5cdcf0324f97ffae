"""`medssl check` on ten files of a kind: seconds to its last line, against one import of the training stack.

    python benchmarks/check.py [--repeats 5]

The alternative is what the command paid before it read a byte: torch, MONAI and the objectives' libraries, whatever the
files were. Written files are small, so what is measured is the start and not the disk.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.timing import in_turns, last_line, measured, ratio, table

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
    command = [sys.executable, *words]
    quiet = subprocess.DEVNULL
    return measured(lambda: subprocess.run(command, check=True, stdout=quiet, stderr=quiet)).seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    ratios: dict[str, float] = {}
    show = table(f"bar {BAR_S} s", "check s", "import s", "ratio")
    with tempfile.TemporaryDirectory() as home:
        for kind, write in KINDS.items():
            folder = Path(home, kind)
            folder.mkdir()
            rows = [f"{write(folder, i)},P{i},1,100,mV" for i in range(FILES)]
            (folder / "manifest.csv").write_text("\n".join(["path,patient,trial,rate_hz,unit", *rows]))
            commands = {"check": ("-m", "medssl.cli", "check", str(folder)), "import": ("-c", "import medssl.hub")}
            sides = in_turns({k: functools.partial(seconds, *words) for k, words in commands.items()}, repeats)
            own, other = map(statistics.median, sides.values())
            ratios[f"check_{kind}_s"], ratios[f"check_{kind}_ratio"] = own, ratio(sides["check"], sides["import"])
            show(kind, own, other, ratios[f"check_{kind}_ratio"])
    last_line(ratios)


if __name__ == "__main__":
    main()
