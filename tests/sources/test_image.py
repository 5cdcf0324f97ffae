"""Pictures whose every value is known, and files that must be refused."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from medssl import sources
from medssl.sources.record import BadRecord, Record, Volume

VALUES = np.arange(12).reshape(3, 4)


RNG = np.random.default_rng(0)
GREY = np.kron(RNG.integers(0, 256, (5, 7)), np.ones((8, 8))).astype(np.uint8)
COLOURS = RNG.integers(0, 256, (40, 56, 3)).astype(np.uint8)


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


def test_labels_of_few_bits_and_of_tiff(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 4), np.uint8)).save(tmp_path / "a.png")
    labels = np.array([[0, 1, 2, 3], [3, 2, 1, 0]])
    for bits in (2, 4):
        rows = b"".join(
            b"\0" + int("".join(f"{v:0{bits}b}" for v in row), 2).to_bytes(bits * 4 // 8, "big") for row in labels
        )
        head = (4).to_bytes(4, "big") + (2).to_bytes(4, "big") + bytes((bits, 0, 0, 0, 0))
        body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        (tmp_path / "m.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
        record = Record(tmp_path / "a.png", "image", "p1", "t1", mask=tmp_path / "m.png")
        np.testing.assert_array_equal(sources.read(record).mask[0], labels)
        # As a picture, the largest value is white.
        np.testing.assert_array_equal(read(tmp_path / "m.png").values[0], labels * 255 // (2**bits - 1))
    record = Record(tmp_path / "a.png", "image", "p1", "t1", mask=tmp_path / "m.tif")
    for dtype in (np.int8, np.uint16, np.uint32):
        tifffile.imwrite(tmp_path / "m.tif", labels.astype(dtype), photometric="minisblack")
        np.testing.assert_array_equal(sources.read(record).mask[0], labels)
    tifffile.imwrite(tmp_path / "m.tif", labels.astype(np.uint8), photometric="miniswhite")
    with pytest.raises(BadRecord, match="bad_mask: the mask is a TIFF that shows 0 white"):
        sources.read(record)


def test_what_is_no_picture_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("value,name\n1,liver\n" * 9)
    with pytest.raises(BadRecord, match="no picture in PNG, JPEG, TIFF or BMP; save it as PNG"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["GIF", "EPS", "WEBP", "ICO"])
def test_other_kinds_are_not_opened(tmp_path: Path, kind: str) -> None:
    Image.new("L", (16, 16)).save(tmp_path / "a.png", format=kind)
    assert refusal(tmp_path / "a.png") == "unreadable"


def test_other_colour_spaces_are_refused(tmp_path: Path) -> None:
    Image.new("LAB", (4, 3)).save(tmp_path / "a.tif")
    assert refusal(tmp_path / "a.tif") == "unsupported"


# As a matrix of rows: what is stored is shown turned or mirrored.
SHOWN: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.T,
    6: lambda a: a[::-1].T, 7: lambda a: a[::-1, ::-1].T, 8: lambda a: a.T[::-1],
}  # fmt: skip


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_a_picture_is_read_as_it_is_shown(tmp_path: Path, suffix: str, orientation: int) -> None:
    text = PngInfo()
    text.add_text("Patient", "Doe^Jane")
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "Doe^Jane", orientation
    more = {".png": {"pnginfo": text}, ".jpg": {"quality": 100}, ".tif": {}}[suffix]
    Image.fromarray(GREY).save(tmp_path / f"a{suffix}", exif=exif, **more)
    values = read(tmp_path / f"a{suffix}").values[0]
    assert values.shape == SHOWN[orientation](GREY).shape
    assert np.abs(values - SHOWN[orientation](GREY)).max() <= (2 if suffix == ".jpg" else 0)


def test_masks_of_pictures(tmp_path: Path) -> None:
    path, labels = tmp_path / "a.jpg", (GREY // 60).astype(np.uint8)
    Image.fromarray(GREY).save(path)
    Image.fromarray(labels).save(tmp_path / "grey.png")
    palette = Image.fromarray(labels).convert("P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9, 1, 2, 3])
    palette.save(tmp_path / "palette.png")
    Image.fromarray(labels > 1).save(tmp_path / "two.png")
    Image.fromarray(labels[1:]).save(tmp_path / "small.png")
    Image.fromarray(COLOURS).save(tmp_path / "colour.png")
    for name, expected in (("grey", labels), ("palette", labels), ("two", labels > 1)):
        record = Record(path, "image", "p1", "t1", mask=tmp_path / f"{name}.png")
        np.testing.assert_array_equal(sources.read(record).mask, expected[None])
    for name in ("small", "colour"):
        with pytest.raises(BadRecord, match="bad_mask"):
            sources.read(Record(path, "image", "p1", "t1", mask=tmp_path / f"{name}.png"))


def chunk(name: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")


def png(width: int, height: int, rows: int, *, bits: int = 8, colour: int = 0) -> bytes:
    """Return a PNG of zeros that claims ``height`` rows and holds ``rows``."""
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((bits, colour, 0, 0, 0))
    palette = chunk(b"PLTE", bytes(6)) if colour == 3 else b""
    row = 1 + width * bits * {0: 1, 2: 3, 3: 1, 6: 4}[colour] // 8
    body = zlib.compress(bytes(row * rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + palette + chunk(b"IDAT", body) + chunk(b"IEND", b"")


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
    for bits, colour in ((8, 0), (8, 2), (8, 6), (8, 3), (1, 3), (1, 0)):
        (tmp_path / "a.png").write_bytes(png(width, height, rows, bits=bits, colour=colour))
        tracemalloc.start()
        assert refusal(tmp_path / "a.png") == reason
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["JPEG", "BMP"])
def test_jpeg_and_bmp_that_claim_too_much(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    for width, height in ((9000, 9000), (8000, 8000), (60000, 60000)):
        Image.new("L", (16, 16)).save(path, format=kind)
        data = path.read_bytes()
        if kind == "JPEG":
            old, new = b"\x08\0\x10\0\x10", b"\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big")
        else:
            old = (16).to_bytes(4, "little") * 2
            new = width.to_bytes(4, "little") + height.to_bytes(4, "little")
        assert data.count(old) == 1
        path.write_bytes(data.replace(old, new))
        tracemalloc.start()
        assert refusal(path) in ("unreadable", "unsupported")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
        tracemalloc.stop()


def test_an_honest_picture_of_one_bit(tmp_path: Path) -> None:
    Image.new("1", (3000, 3000)).save(tmp_path / "a.png", optimize=True)
    assert (tmp_path / "a.png").stat().st_size < 3000 * 3000 / 1040
    assert not read(tmp_path / "a.png").values.any()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".bmp"])
@pytest.mark.parametrize("keep", [0, 5, 30, 200, -600])
def test_truncated(tmp_path: Path, suffix: str, keep: int) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(path) == "unreadable"
