"""Pictures whose every value is known, and files that must be refused."""

from __future__ import annotations

import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from medssl import sources
from medssl.sources.record import BadRecord, Record, Volume

VALUES = np.arange(12).reshape(3, 4)


def read(path: Path, **hints: Any) -> Volume:
    volume = sources.read(Record(path=path, format="image", patient="p1", trial="t1", hints=hints))
    assert isinstance(volume, Volume)
    assert volume.values.dtype == np.float32
    assert volume.values.flags["C_CONTIGUOUS"]
    assert "Jane" not in repr(volume)
    return volume


def refusal(path: Path, **hints: Any) -> str:
    with pytest.raises(BadRecord) as caught:
        sources.read(Record(path=path, format="image", patient="p1", trial="t1", hints=hints))
    assert "Jane" not in str(caught.value) and path.name not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".png", {}),
        (".tif", {}),
        (".tiff", {"compression": "tiff_lzw"}),
        (".tif", {"compression": "tiff_deflate"}),
        (".tif", {"compression": "packbits"}),
    ],
)
def test_grey_values_are_exact(tmp_path: Path, dtype: Any, suffix: str, options: dict[str, Any]) -> None:
    values = (VALUES * (np.iinfo(dtype).max // 11)).astype(dtype)
    Image.fromarray(values).save(tmp_path / f"a{suffix}", **options)
    volume = read(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(volume.values, values[None])
    assert volume.unit == "1" and np.isnan(volume.spacing_mm).all()


def test_big_endian_tiff(tmp_path: Path) -> None:
    Image.frombytes("I;16B", (4, 3), (VALUES * 5000).astype(">u2").tobytes()).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read(tmp_path / "a.tif").values[0], VALUES * 5000)


@pytest.mark.parametrize(
    ("hint", "spacing"),
    [
        (0.5, (np.nan, 0.5, 0.5)),
        ("0.5", (np.nan, 0.5, 0.5)),
        ((0.5, 0.7), (np.nan, 0.5, 0.7)),
        ((3, 0.5, 0.7), (3, 0.5, 0.7)),
    ],
)
def test_spacing(tmp_path: Path, hint: Any, spacing: tuple[float, ...]) -> None:
    Image.fromarray(VALUES.astype(np.uint8)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png", spacing_mm=hint).spacing_mm, spacing)


@pytest.mark.parametrize("hint", [0, -1, (1, 2, 3, 4), "wide", float("inf"), float("nan"), ()])
def test_bad_spacing(tmp_path: Path, hint: Any) -> None:
    Image.fromarray(VALUES.astype(np.uint8)).save(tmp_path / "a.png")
    assert refusal(tmp_path / "a.png", spacing_mm=hint) == "unreadable"


def write_pages(path: Path, *pages: np.ndarray, **options: Any) -> Path:
    pictures = [Image.fromarray(page) for page in pages]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], **options)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pages_of_a_tiff_are_slices(tmp_path: Path, dtype: Any) -> None:
    pages = [(VALUES + 20 * i).astype(dtype) for i in range(3)]
    volume = read(write_pages(tmp_path / "a.tif", *pages), spacing_mm=(3, 1, 1))
    np.testing.assert_array_equal(volume.values, pages)
    assert volume.spacing_mm == (3, 1, 1)


def test_pages_must_match(tmp_path: Path) -> None:
    grey = VALUES.astype(np.uint8)
    assert refusal(write_pages(tmp_path / "a.tif", grey, grey[:2])) == "unsupported"
    assert refusal(write_pages(tmp_path / "b.tif", grey, np.zeros((3, 4, 3), np.uint8))) == "unsupported"
    assert refusal(write_pages(tmp_path / "c.png", grey, grey + 1)) == "unsupported"  # an animation


@pytest.mark.parametrize("mode", ["RGB", "LA", "P", "1", "CMYK", "F"])
def test_other_pictures_are_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode in ("CMYK", "F") else "a.png")
    Image.new(mode, (4, 3)).save(path)
    assert refusal(path) == "unsupported"


@pytest.mark.parametrize("kind", ["JPEG", "BMP", "GIF", "EPS"])
def test_only_png_and_tiff_are_opened(tmp_path: Path, kind: str) -> None:
    Image.new("L", (4, 3)).save(tmp_path / "a.png", format=kind)
    assert refusal(tmp_path / "a.png") == "unreadable"


def test_text_in_the_file_is_not_used(tmp_path: Path) -> None:
    text = PngInfo()
    text.add_text("Patient", "Doe^Jane")
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "Doe^Jane", 6  # a description, and a turn by a quarter
    Image.fromarray(VALUES.astype(np.uint8)).save(tmp_path / "a.png", pnginfo=text, exif=exif)
    np.testing.assert_array_equal(read(tmp_path / "a.png").values[0], VALUES)


def chunk(name: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")


def png(width: int, height: int, rows: int) -> bytes:
    """Return a PNG of 8 bit grey zeros that claims ``height`` rows and holds ``rows``."""
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((8, 0, 0, 0, 0))
    body = zlib.compress(bytes((width + 1) * rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("width", "height", "rows", "reason"),
    [
        (60000, 60000, 10, "unreadable"),  # Pillow's own limit
        (9000, 9000, 1, "unsupported"),
        (8000, 8000, 1, "unreadable"),  # 64 million pixels from 100 bytes
        (9000, 9000, 9000, "unsupported"),  # 80 million pixels that are really there, in 80 kB
    ],
)
def test_bombs_take_no_memory(tmp_path: Path, width: int, height: int, rows: int, reason: str) -> None:
    (tmp_path / "a.png").write_bytes(png(width, height, rows))
    tracemalloc.start()
    assert refusal(tmp_path / "a.png") == reason
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("keep", [0, 5, 30, 200, -600])
def test_truncated(tmp_path: Path, suffix: str, keep: int) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(path) == "unreadable"
