"""Three hundred damaged files of every format: each is a reject row or samples, and costs no other file a byte."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medssl import sources
from medssl.config import SignalIngest, VolumeIngest
from medssl.ingest.build import build
from medssl.sources import manifest
from medssl.sources.record import Record, Signal
from medssl.store import Store
from tests.sources import examples_cardiac, examples_eeg, examples_images, examples_tables

EXAMPLES: dict[str, Callable[[Path, int], Path]] = {
    **examples_cardiac.EXAMPLES,
    **examples_eeg.EXAMPLES,
    **examples_images.EXAMPLES,
    **examples_tables.EXAMPLES,
}
CASES = 300
NAME = "Doe^Jane"
# What an absurd header may claim: all bits set, large and negative numbers, not a number, a path.
ABSURD = (b"\xff" * 8, b"\x7f" * 8, b"99999999", b"-9999999", b"NaN     ", b"../../x ", b"\x00\x00\x00\x80")


def damage(data: bytes, draw: np.random.Generator) -> bytes:
    """Return ``data`` cut off, with bits flipped, a block zeroed, an absurd value in its head, or nothing at all."""
    kind, out = draw.integers(0, 9), bytearray(data)
    if kind == 0:
        return b""
    if kind <= 2:
        return data[: draw.integers(1, len(data))]
    if kind <= 5:
        # Headers are small and matter most: half of the flips are among the first bytes.
        reach = len(data) if draw.random() < 0.5 else min(len(data), 600)
        for at in draw.integers(0, reach, draw.integers(1, 17)):
            out[at] ^= 1 << draw.integers(0, 8)
    elif kind == 6:
        at, size = draw.integers(0, len(data)), draw.integers(1, max(2, len(data) // 4))
        out[at : at + size] = bytes(len(out[at : at + size]))
    else:
        at, value = draw.integers(0, min(len(data), 2000)), ABSURD[draw.integers(0, len(ABSURD))]
        out[at : at + len(value)] = value[: len(out) - at]
    return bytes(out)


def record(path: Path, patient: str, name: str) -> Record:
    form = name.partition("-")[0]
    form = {"matlab73": "matlab", "nifti2": "nifti"}.get(form, form)
    hints: dict[str, Any] = {"rate_hz": 100.0} if form in ("tabular", "array", "matlab") else {}
    assert form == manifest.format_of(path)
    return Record(path, form, patient, "t", "damaged", hints=hints)


def params_for(first: Record) -> SignalIngest | VolumeIngest:
    raw = sources.read(first)
    if isinstance(raw, Signal):
        return SignalIngest(  # a gap of the example is not what is tested here
            rate_hz=50, channels=raw.channels[:2], unit=raw.unit, window_s=1,
            max_flat=1.0, max_missing=1.0, max_reject_share=1.0,
        )  # fmt: skip
    return VolumeIngest(samples="slices", size=(16, 16), unit=raw.unit, max_reject_share=1.0)


def ingest(records: list[Record], out: Path) -> Store:
    return build(records, out, key="ecg", params=params_for(records[0]), secret=b"0" * 32, progress=False)


def files_of(path: Path) -> list[Path]:
    return sorted(p for p in path.parent.rglob("*") if p.is_file())


@pytest.mark.parametrize("name", EXAMPLES)
def test_damaged_files_harm_nothing_else(name: str, tmp_path: Path) -> None:
    write = EXAMPLES[name]
    good, bad = [], []
    for i in range(3):
        (folder := tmp_path / f"good{i}").mkdir()
        good.append(record(write(folder, i), f"a{i}" if i < 2 else "z2", name))
    (whole := tmp_path / "whole").mkdir()
    path = write(whole, 7)
    for i in range(CASES):
        draw = np.random.default_rng([i, *name.encode()])
        shutil.copytree(whole, folder := tmp_path / f"bad{i:03d}-{NAME}")
        files = files_of(folder / path.relative_to(whole).parts[0])
        victim = files[draw.integers(0, len(files))]
        victim.write_bytes(damage(victim.read_bytes(), draw))
        bad.append(record(folder / path.relative_to(whole), f"m{i:03d}{NAME}", name))
    plain = ingest(good, tmp_path / "store")
    made = ingest(sorted([*good, *bad], key=manifest.order), tmp_path / "both")

    fate = made.table.groupby("patient")["index_in_trial"].count()
    refused = made.rejects[~made.rejects["reason"].isin(["flat", "blank"])]
    assert len(fate) + len(refused) >= len(good) + CASES
    assert len(refused) > CASES / 10
    assert refused["path"].is_unique
    assert set(made.rejects["detail"].str.contains(r"\(entry \d+ of")) == {True}
    kept = made.table["patient"].isin(set(plain.table["patient"])).to_numpy()
    assert made.table["sample_id"][kept].tolist() == plain.table["sample_id"].tolist()
    assert made.read(np.flatnonzero(kept)).tobytes() == plain.read(np.arange(len(plain))).tobytes()
    # Three letters are among a million random bytes by chance, so samples and compressed tables are asked for four.
    assert b"Jane" not in b"".join(p.read_bytes() for p in made.folder.iterdir())
    said = made.table.to_json() + made.rejects.to_json() + (made.folder / "store.json").read_text()
    assert "Doe" not in said and "Jane" not in said
