"""LUNA16 and LIDC-IDRI in miniature: folders, tables and headers as published."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from medssl import sources
from medssl.sources.record import BadRecord, Record, SourceError, Volume
from tests.sources import examples_images as examples

UID = "1.3.6.1.4.1.14519.5.2.1.6279.6001."
SCENE = (np.arange(60).reshape(3, 4, 5) * 50 - 2000).astype(np.int16)
LUNGS = np.tile([0, 3, 4, 5, 0], (3, 4, 1)).astype(np.uint8)


def read(record: Record) -> Volume:
    volume = sources.read(record)
    assert isinstance(volume, Volume)
    return volume


# --- LUNA16 ---------------------------------------------------------------------------------------------------------
def scan(folder: Path, name: str, values: np.ndarray = SCENE, **more: str) -> None:
    """Write one scan as LUNA16 publishes it: int16 beside its header, lungs compressed; no person is named."""
    folder.mkdir(parents=True, exist_ok=True)
    said = {"PatientName": None, "TransformMatrix": "-1 0 0 0 -1 0 0 0 1", "AnatomicalOrientation": "LPI", **more}
    if values.dtype == np.uint8:
        data = zlib.compress(values.tobytes())
        said |= {"ElementType": "MET_UCHAR", "CompressedData": "True", "CompressedDataSize": str(len(data))}
    else:
        data = values.astype("<i2").tobytes()
    file = f"{UID}{name}.{'zraw' if values.dtype == np.uint8 else 'raw'}"
    (folder / file).write_bytes(data)
    (folder / f"{UID}{name}.mhd").write_bytes(examples.metaimage_header(file, values.shape, **said))


@pytest.fixture
def luna(tmp_path: Path) -> Path:
    rows = [f"{UID}100,-56.08,-67.85,-311.92,5.5", f"{UID}100,53.21,-64.43,-266.36,24.25", f"{UID}999,1,2,3,4.4"]
    (tmp_path / "annotations.csv").write_text("\n".join(["seriesuid,coordX,coordY,coordZ,diameter_mm", *rows]) + "\n")
    (tmp_path / "candidates_V2.csv").write_text(f"seriesuid,coordX,coordY,coordZ,class\n{UID}200,1,2,3,0\n")
    scan(tmp_path / "subset0", "200")
    scan(tmp_path / "subset9", "100")
    scan(tmp_path / "seg-lungs-LUNA16", "100", LUNGS)
    (tmp_path / "subset9" / f"._{UID}100.mhd").write_bytes(b"of a Mac")
    return tmp_path


def test_luna16(luna: Path) -> None:
    first, second = sources.list_records("luna16", luna)
    assert (first.patient, first.trial, first.fold) == (f"{UID}100", f"{UID}100", 9)
    assert first.labels == {"nodules": 2.0, "largest_nodule_mm": 24.25}
    assert (second.patient, second.labels, second.fold, second.mask) == (f"{UID}200", {"nodules": 0.0}, 0, None)
    volume = read(first)
    np.testing.assert_array_equal(volume.values, np.maximum(SCENE, -1024)[:, ::-1, ::-1])
    assert (volume.unit, volume.spacing_mm) == ("HU", (3, 0.75, 0.5))
    assert first.mask_labels == {3: "left_lung", 4: "right_lung", 5: "trachea"}
    np.testing.assert_array_equal(volume.mask, LUNGS[:, ::-1, ::-1])
    assert read(second).mask is None


def test_luna16_mask_of_another_scan(luna: Path) -> None:
    scan(luna / "seg-lungs-LUNA16", "100", LUNGS[:2])  # of a part of it
    volume = read(sources.list_records("luna16", luna)[0])
    np.testing.assert_array_equal(volume.mask, np.concatenate([LUNGS[:2], 0 * LUNGS[:1]])[:, ::-1, ::-1])
    assert volume.notes == {"mask_resampled": 1, "mask_outside": 0, "mask_unnamed": 0, "mask_absent": 0}
    scan(luna / "seg-lungs-LUNA16", "100", LUNGS, Offset="-12.5 3 300")
    with pytest.raises(BadRecord, match="bad_mask"):
        read(sources.list_records("luna16", luna)[0])


def test_luna16_without_its_files(luna: Path) -> None:
    (luna / "subset9" / f"{UID}100.raw").unlink()
    with pytest.raises(BadRecord, match="missing_file"):
        read(sources.list_records("luna16", luna)[0])
    (luna / "scans").mkdir()
    (luna / "annotations.csv").rename(luna / "scans" / "annotations.csv")
    with pytest.raises(SourceError, match=r"no \*\*/subset\[0-9\]/\*\.mhd; point source\.root"):
        sources.list_records("luna16", luna / "scans")
    with pytest.raises(SourceError, match=r"annotations\.csv: no such table; point source\.root"):
        sources.list_records("luna16", luna)


# --- LIDC-IDRI ------------------------------------------------------------------------------------------------------
def series(folder: Path, count: int, name: str = "{:06d}.dcm") -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        image = examples.header(ImagePositionPatient=[0, 0, -2.5 * i], SeriesInstanceUID=f"{UID}7")
        examples.write(folder / name.format(i + 1), image, examples.phantom(seed=i))


@pytest.mark.parametrize("above", ["LIDC-IDRI", "manifest-1600709154662/LIDC-IDRI", ""])
def test_lidc(tmp_path: Path, above: str) -> None:
    ct = tmp_path / above / "LIDC-IDRI-0001" / "01-01-2000-NA-NA-30178" / "3000566.000000-NA-03192"
    series(ct, 10, "1-{:03d}.dcm")
    (ct / "069.xml").write_text("<LidcReadMessage/>")
    series(ct.parents[1] / "01-01-2000-NA-NA-35511" / "3000923.000000-NA-62357", 2)  # chest X-rays
    series(tmp_path / above / "LIDC-IDRI-1012" / f"{UID}1" / f"{UID}2", 12)  # names of the older download
    series(tmp_path / above / "phantoms" / f"{UID}3", 12)
    (tmp_path / above / "metadata.csv").write_text("Series UID,Subject ID\n")
    first, second = sources.list_records("lidc", tmp_path)
    assert (first.patient, first.path, first.fold, first.labels) == ("LIDC-IDRI-0001", ct, None, {})
    assert first.trial == "01-01-2000-NA-NA-30178/3000566.000000-NA-03192"
    assert (second.patient, second.trial) == ("LIDC-IDRI-1012", f"{UID}1/{UID}2")
    assert (read(first).values.shape, read(first).unit, read(first).spacing_mm) == (
        (10, 24, 28),
        "HU",
        (2.5, 0.5, 0.75),
    )
    assert read(second).values.shape == (12, 24, 28)


def test_lidc_without_scans(tmp_path: Path) -> None:
    series(tmp_path / "LIDC-IDRI-0001" / "a" / "b", 9)
    with pytest.raises(SourceError, match=r"no LIDC-IDRI-0001/ or such with a folder of 10 slices"):
        sources.list_records("lidc", tmp_path)
