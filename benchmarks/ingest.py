"""What a store costs against a plain loop over the same files, and how memory grows with their number.

    python benchmarks/ingest.py [--records 500] [--many 2000] [--kinds ecg eeg ct]

The plain loop is what a user would write: the format's own library, SciPy's resampling by the same filter or the same
HU window and respacing, one record at a time, appended to one array. The store adds checks of the header, names by
keyed hash, quality, hashes of the content and a table. Times include writing. Two workers start their processes
within the time. Times and ratios are medians of the repeats, a ratio within each. Memory is the largest resident size
of a process that ingests 500 and one that ingests ``--many`` short recordings, workers apart. The last line is JSON.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly
from tqdm import tqdm

from benchmarks.timing import apart, in_turns, last_line, measured, ratio, table
from medssl.config import SignalIngest, VolumeIngest
from medssl.ingest import volumes
from medssl.ingest.build import build
from medssl.sources.record import Record
from medssl.sources.resampling import anti_alias

FEW = 500  # recordings whose memory is compared with that of many
LEADS = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")
SITES = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "F7", "F8", "T3", "T4", "T5", "T6")
FILTER = anti_alias(5).astype(np.float32)  # from 500 and from 250 to 100 Hz
PARAMS: dict[str, SignalIngest | VolumeIngest] = {
    "ecg": SignalIngest(rate_hz=100, channels=LEADS, unit="mV", window_s=10),
    "eeg": SignalIngest(rate_hz=100, channels=SITES, unit="uV", window_s=10),
    "ct": VolumeIngest(samples="volume", size=(16, 96, 96), spacing_mm=(5, 4, 4), hu_window=(-1000, 1000), unit="HU"),
}


def write_ecg(folder: Path, seed: int) -> Path:
    """Write 10 s of 12 leads at 500 Hz as a WFDB record."""
    import wfdb

    values = np.random.default_rng(seed).standard_normal((5000, 12)).cumsum(0) * 0.01
    values -= values.mean(0)
    wfdb.wrsamp(
        f"r{seed}", 500, ["mV"] * 12, list(LEADS), p_signal=values, fmt=["16"] * 12, write_dir=str(folder)
    )  # fmt: skip
    return folder / f"r{seed}.hea"


def write_eeg(folder: Path, seed: int) -> Path:
    """Write 60 s of 16 channels at 250 Hz as EDF."""
    import edfio

    rng = np.random.default_rng(seed)
    signals = [
        edfio.EdfSignal(
            20 * rng.standard_normal(15000), 250,
            label=f"EEG {site}", physical_dimension="uV", physical_range=(-300, 300),
        )
        for site in SITES
    ]  # fmt: skip
    edfio.Edf(signals).write(folder / f"r{seed}.edf")
    return folder / f"r{seed}.edf"


def write_ct(folder: Path, seed: int) -> Path:
    """Write 16 slices of 512 x 512, as CT has them, as a DICOM series."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    series = folder / f"r{seed}"
    series.mkdir()
    rng, uid = np.random.default_rng(seed), generate_uid()
    y, x = np.mgrid[-1:1:512j, -1:1:512j]
    body = (x**2 + 1.6 * y**2 < 0.6) & ~((np.abs(x) - 0.35) ** 2 + y**2 < 0.06)  # with two lungs
    for k in range(16):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        image = FileDataset(str(series / f"{k}.dcm"), {}, file_meta=meta, preamble=b"\0" * 128)
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        image.Modality, image.SeriesInstanceUID, image.SliceThickness = "CT", uid, 5
        image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, 5 * k], [1, 0, 0, 0, 1, 0]
        image.PixelSpacing, image.Rows, image.Columns = [0.7, 0.7], 512, 512
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
        image.RescaleSlope, image.RescaleIntercept = 1, -1024
        image.PixelData = (24 + 1030 * body + rng.integers(-20, 20, body.shape)).astype(np.uint16).tobytes()
        pydicom.dcmwrite(series / f"{k}.dcm", image, enforce_file_format=True)
    return series


def plain_ecg(path: Path) -> np.ndarray:
    """Read and resample as a user would."""
    import wfdb

    record = wfdb.rdrecord(str(path.with_suffix("")))
    return resample_poly(record.p_signal.T.astype(np.float32), 1, 5, axis=1, window=FILTER, padtype="line")[None]


def plain_eeg(path: Path) -> np.ndarray:
    """Read, resample and cut as a user would."""
    import mne

    raw = mne.io.read_raw_edf(path, preload=True, verbose="error")
    values = (raw.get_data() * 1e6).astype(np.float32)
    values = resample_poly(values, 2, 5, axis=1, window=FILTER, padtype="line")
    return values.reshape(len(values), -1, 1000).swapaxes(0, 1)


def plain_ct(path: Path) -> np.ndarray:
    """Read a series, sort, rescale and respace as a user would."""
    import pydicom

    slices = sorted((pydicom.dcmread(f) for f in path.iterdir()), key=lambda s: s.ImagePositionPatient[2])
    hu = np.stack([s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices])
    spacing = np.array([5.0, *slices[0].PixelSpacing])
    scaled = np.clip((hu.astype(np.float32) + 1000) / 2000, 0, 1)
    fitted = volumes.respace(scaled, spacing, np.array([5.0, 4, 4]))
    return volumes.crop_or_pad(fitted, (16, 96, 96))[None, None]


KINDS: dict[str, tuple[str, Callable[[Path, int], Path], Callable[[Path], np.ndarray], int]] = {
    "ecg": ("wfdb", write_ecg, plain_ecg, 1),
    "eeg": ("edf", write_eeg, plain_eeg, 4),
    "ct": ("dicom", write_ct, plain_ct, 40),
}


def records_of(kind: str, folder: Path, number: int) -> list[Record]:
    """Write the recordings."""
    form, write, _, _ = KINDS[kind]
    bar = tqdm(range(number), desc=f"write {kind}", disable=None, leave=False)
    return [Record(write(folder, i), form, f"p{i:05d}", "t", "benchmark") for i in bar]


def compare(kind: str, number: int, repeats: int) -> dict[str, list[float]]:
    """Return times of the plain loop and of one and two workers, in turns, so that all see the same machine."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (raw := folder / "raw").mkdir()
        records = records_of(kind, raw, number)
        plain = KINDS[kind][2]

        def loop() -> None:
            np.save(folder / "plain.npy", np.concatenate([plain(r.path) for r in records]))

        def ours(workers: int) -> None:
            shutil.rmtree(folder / "store", ignore_errors=True)
            build(
                records, folder / "store", key=kind, params=PARAMS[kind], secret=b"0" * 32, progress=False,
                executor="process" if workers > 1 else "serial", workers=workers,
            )  # fmt: skip

        loop(), ours(1)  # libraries are imported, files are in the page cache
        sides = {
            "plain": lambda: measured(loop).seconds,
            "one": lambda: measured(lambda: ours(1)).seconds,
            "two": lambda: measured(lambda: ours(2)).seconds,
        }
        return in_turns(sides, repeats)


def short(folder: str, number: int) -> dict[str, float]:
    """Ingest ``number`` short recordings, which are all one file."""
    base = Path(folder) / "r0.hea"
    records = [Record(base, "wfdb", f"p{i:05d}", "t", "benchmark") for i in range(number)]
    build(records, Path(folder) / f"store{number}", key="ecg", params=PARAMS["ecg"], secret=b"0" * 32, progress=False)
    return {}


def main() -> None:
    """Print a line a kind, the memory, and the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--records", type=int, default=500, help="ECG recordings; a 4th of EEG, a 40th of CT")
    parser.add_argument("--many", type=int, default=2000, help="recordings whose memory is compared with that of 500")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    args = parser.parse_args()
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        write_ecg(Path(name), 0)
        few, many = (apart(short, name, number)["peak_gb"] for number in (FEW, args.many))
    ratios["memory_growth"] = many / few
    print(f"peak memory: {few:.2f} GB for {FEW} records, {many:.2f} GB for {args.many}")
    print(f"{os.cpu_count()} cores")
    show = table("kind", "records", "plain s", "one s", "two s", "one/plain", "one/two")
    for kind in args.kinds:
        number = max(8, args.records // KINDS[kind][3])
        found = compare(kind, number, args.repeats)
        times = map(statistics.median, found.values())
        against = {f"{kind}_one_to_{other}": ratio(found["one"], found[other]) for other in ("plain", "two")}
        show(kind, number, *times, *against.values())
        ratios |= against
    last_line(ratios)


if __name__ == "__main__":
    main()
