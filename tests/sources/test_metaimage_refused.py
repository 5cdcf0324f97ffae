"""MetaImage files that must be refused: voxels elsewhere, sizes that are wrong, bombs and absurd headers."""

from __future__ import annotations

import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.sources import examples_images as examples
from tests.sources.test_metaimage import SCENE, pack, refusal, write


@pytest.mark.parametrize("file", ["../a.raw", "/etc/passwd", "C:\\a.raw", "..", "sub/a.raw"])
def test_voxels_of_another_folder(tmp_path: Path, file: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "a.raw").write_bytes(SCENE.tobytes())
    assert refusal(write(tmp_path / "set" / "b.mhd", file=file))[0] == "outside_folder"


def test_a_link_to_another_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    path = write(tmp_path / "set" / "a.mhd")
    path.with_suffix(".raw").rename(tmp_path / "b.raw")
    assert refusal(path)[0] == "missing_file"
    path.with_suffix(".raw").symlink_to(tmp_path / "b.raw")
    assert refusal(path)[0] == "outside_folder"


def test_a_header_never_becomes_voxels(tmp_path: Path) -> None:
    for skipped in (None, -1, 0, 40):
        (tmp_path / "a.mhd").unlink(missing_ok=True)
        path = write(tmp_path / "a.mhd", file="a.mhd", HeaderSize=skipped)
        assert refusal(path)[0] == "unreadable"
        path.unlink()
        path.with_name("b.mhd").write_bytes(examples.metaimage_header("a.mhd", SCENE.shape, HeaderSize=skipped))
        path.symlink_to("b.mhd")
        assert refusal(path)[0] == "unreadable"
    assert refusal(write(tmp_path / "a.mha", data=SCENE.tobytes() + b"1234", HeaderSize=4))[0] == "unreadable"
    assert refusal(write(tmp_path / "a.mha", data=SCENE.tobytes()[:-2], HeaderSize=-1))[0] == "unreadable"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("size", ["6 4 3", "4000 4000 4000", "4 4 3", "99999999999 99999999999 99999999999"])
def test_sizes_that_differ_from_the_data(tmp_path: Path, size: str, packed: bool) -> None:
    more = pack(SCENE.tobytes()) if packed else {"data": SCENE.tobytes()}
    for name in ("a.mha", "a.mhd"):
        tracemalloc.start()
        assert refusal(write(tmp_path / name, DimSize=size, **more))[0] == "unreadable"
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
        tracemalloc.stop()


def test_a_bomb_is_not_inflated(tmp_path: Path) -> None:
    bomb = pack(SCENE.tobytes() + bytes(50_000_000))
    path = write(tmp_path / "a.mhd", **bomb)
    tracemalloc.start()
    assert refusal(path)[0] == "unreadable"  # more than the header claims
    assert refusal(write(path, DimSize="3000 3000 3000", **bomb))[0] == "unreadable"  # more than deflate can
    assert refusal(write(path, DimSize="300 300 200", **pack(bytes(40_000))))[0] == "unreadable"
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_damage_within_compressed_data_is_noticed(tmp_path: Path) -> None:
    data = zlib.compress(SCENE.tobytes())
    for wrong in (data[:-1], data[:-4], data[:20], data[:-4] + b"1234", b"", b"x" * len(data)):
        path = write(tmp_path / "a.mha", data=wrong, CompressedData=True)
        assert refusal(path)[0] == "unreadable"
    for size in (len(data) + 1, -1, 1e300, "nan", "x", 1.5):
        path = write(tmp_path / "a.mha", data=data, CompressedData=True, CompressedDataSize=size)
        assert refusal(path)[0] == "unreadable"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"NDims": 2}, "unsupported"),
        ({"NDims": "Doe^Jane"}, "unsupported"),
        ({"ObjectType": "Tube"}, "unsupported"),
        ({"BinaryData": False}, "unsupported"),
        ({"ElementNumberOfChannels": 3}, "unsupported"),
        ({"DistanceUnits": "cm"}, "unsupported"),
        ({"ElementToIntensityFunctionSlope": "2.5"}, "unsupported"),
        ({"ElementToIntensityFunctionOffset": "-1024"}, "unsupported"),
        ({"ElementType": "MET_FLOAT_ARRAY"}, "unsupported"),
        ({"ElementType": None}, "unsupported"),
        ({"file": "LIST"}, "unsupported"),
        ({"file": "LIST 2"}, "unsupported"),
        ({"file": "a%03d.raw 1 3 1"}, "unsupported"),
        ({"file": "Jane.raw"}, "missing_file"),
        ({"file": "x" * 5000}, "unreadable"),
        ({"file": "a\0.raw"}, "outside_folder"),
        ({"DimSize": None}, "unreadable"),
        ({"DimSize": "5 4"}, "unreadable"),
        ({"DimSize": "5 4 3 1"}, "unreadable"),
        ({"DimSize": "5 4 2.5"}, "unreadable"),
        ({"DimSize": "5 4 nan"}, "unreadable"),
        ({"DimSize": "5 4 \xb3"}, "unreadable"),
        ({"DimSize": "5 4 0"}, "no_samples"),
        ({"DimSize": "5 -4 -3"}, "no_samples"),
        ({"DimSize": "1e308 1e308 1e308"}, "unreadable"),
        ({"ElementSpacing": "1 1 0"}, "unreadable"),
        ({"ElementSpacing": "1 1 -1"}, "unreadable"),
        ({"ElementSpacing": "1 1 inf"}, "unreadable"),
        ({"ElementSpacing": ""}, "unreadable"),
        ({"Offset": "1 2 Jane"}, "unreadable"),
        ({"TransformMatrix": "nan 0 0 0 1 0 0 0 1"}, "unreadable"),
        ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "unreadable"),
        ({"TransformMatrix": "0 0 0 0 0 0 0 0 0"}, "unreadable"),
        ({"TransformMatrix": "1 0 0 0 1 0 0 0 2"}, "unreadable"),
        ({"TransformMatrix": "1 0 0 0.5 1 0 0 0 1"}, "unreadable"),
        ({"TransformMatrix": "1 0 0 0 1 0"}, "unreadable"),
        ({"TransformMatrix": "1e300 0 0 0 1 0 0 0 1"}, "unreadable"),
        ({"HeaderSize": "99999"}, "unreadable"),
        ({"HeaderSize": "1e300"}, "unreadable"),
        ({"HeaderSize": "-99"}, "unreadable"),
    ],
)
def test_absurd_headers(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    assert refusal(write(tmp_path / "a.mhd", **fields))[0] == reason
    if "file" not in fields:
        assert refusal(write(tmp_path / "a.mha", **fields))[0] == reason


@pytest.mark.parametrize("data", [b"", b"\0" * 5000, b"NDims = 3\n", b"x" * 70_000 + b"\nElementDataFile = LOCAL\n"])
def test_what_is_no_header(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.mha").write_bytes(data)
    assert refusal(tmp_path / "a.mha")[0] == "unreadable"
