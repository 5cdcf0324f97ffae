"""One small good recording in each format of heart signals: two leads, sines of known frequency, some noise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import scipy.io
import wfdb

RATE_HZ = 100
NAMES = ("I", "II")
NAME = "Doe^Jane"  # planted where formats keep a name; must never come out


def leads(seed: int, seconds: float = 5.0) -> np.ndarray:
    """Return (2, T) in mV: 1 mV at 1.5 Hz, 0.4 mV at 5 Hz, and noise of 10 uV."""
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    sines = np.stack([np.sin(2 * np.pi * 1.5 * time_s), 0.4 * np.cos(2 * np.pi * 5 * time_s)])
    return sines + np.random.default_rng(seed).normal(0, 0.01, sines.shape)


def write_wfdb(folder: Path, name: str, values: np.ndarray, fmt: str = "16", names: tuple[str, ...] = NAMES) -> Path:
    steps = {"80": 100, "508": 100, "310": 250, "311": 250}.get(fmt, 1000)
    wfdb.wrsamp(
        name,
        fs=RATE_HZ,
        units=["mV"] * len(values),
        sig_name=list(names),
        p_signal=values.T.copy(),
        fmt=[fmt] * len(values),
        adc_gain=[steps] * len(values),
        baseline=[0] * len(values),
        comments=[f"name: {NAME}"],
        write_dir=str(folder),
    )
    return folder / f"{name}.hea"


def wfdb_segments(folder: Path, seed: int) -> Path:
    """Write the variable layout: both leads, a gap, then only the second lead."""
    values = leads(seed, 4.0)
    write_wfdb(folder, "s_0001", values)
    write_wfdb(folder, "s_0002", values[1:], names=NAMES[1:])
    layout = [f"~ 0 1000/mV 16 0 0 0 0 {name}" for name in NAMES]
    (folder / "s_layout.hea").write_text("\n".join([f"s_layout 2 {RATE_HZ} 0", *layout, ""]))
    (folder / "s.hea").write_text(f"s/4 2 {RATE_HZ} 900\ns_layout 0\ns_0001 400\n~ 100\ns_0002 400\n")
    return folder / "s.hea"


def matlab(folder: Path, seed: int, compress: bool = True) -> Path:
    path = folder / "m.mat"
    scipy.io.savemat(path, {"fs": RATE_HZ, "ecg": leads(seed), "name": NAME}, do_compression=compress)
    return path


def matlab73(folder: Path, seed: int) -> Path:
    path = folder / "m73.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        # MATLAB's axes are those of HDF5 in reverse: (T, 2) in the file is 2 x T in MATLAB.
        table = file.create_dataset("ecg", data=leads(seed).T, chunks=(100, 2), compression="gzip", shuffle=True)
        table.attrs["MATLAB_class"] = np.bytes_("double")
        text = file.create_dataset("name", data=np.frombuffer(NAME.encode("utf-16-le"), "<u2")[:, None])
        text.attrs["MATLAB_class"] = np.bytes_("char")
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(508) + b"\0\x02IM")
    return path


def aecg_text(values: np.ndarray, names: tuple[str, ...] = NAMES, *, digits_per_mv: int = 1000) -> str:
    """Return an annotated ECG with planted names, a rhythm, and a derived beat that is not to be read."""

    def sequence(code: str, value: str) -> str:
        return f'<component><sequence><code code="{code}" codeSystem="2.16"/>{value}</sequence></component>'

    def rhythm(rows: np.ndarray) -> str:
        time = f'<value xsi:type="GLIST_TS"><head value="20010203"/><increment value="{1 / RATE_HZ}" unit="s"/></value>'
        listed = [
            sequence(
                f"MDC_ECG_LEAD_{name}",
                f'<value xsi:type="SLIST_PQ"><origin value="0" unit="uV"/>'
                f'<scale value="{1000 / digits_per_mv}" unit="uV"/>'
                f"<digits>{' '.join(str(round(v * digits_per_mv)) for v in row)}</digits></value>",
            )
            for name, row in zip(names, rows, strict=True)
        ]
        return f"<component><sequenceSet>{sequence('TIME_ABSOLUTE', time)}{''.join(listed)}</sequenceSet></component>"

    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<AnnotatedECG xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        f"<id root='{NAME}'/><componentOf><subject><name>{NAME}</name></subject></componentOf>"
        f"<component><series><code code='RHYTHM'/><author>{NAME}</author>{rhythm(values)}"
        f"<derivation><derivedSeries>{rhythm(9 * values[:, :50])}</derivedSeries></derivation>"
        "</series></component></AnnotatedECG>\n"
    )


def aecg(folder: Path, seed: int) -> Path:
    path = folder / "a.xml"
    path.write_text(aecg_text(leads(seed)))
    return path


EXAMPLES: dict[str, Callable[[Path, int], Path]] = {
    "wfdb": lambda folder, seed: write_wfdb(folder, "r", leads(seed)),
    "wfdb-212": lambda folder, seed: write_wfdb(folder, "r212", leads(seed), "212"),
    "wfdb-flac": lambda folder, seed: write_wfdb(folder, "f", leads(seed), "516"),
    "wfdb-multi": wfdb_segments,
    "matlab": matlab,
    "matlab-plain": lambda folder, seed: matlab(folder, seed, compress=False),
    "matlab73": matlab73,
    "aecg": aecg,
}
