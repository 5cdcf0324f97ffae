"""Pictures in colour, with palettes or transparency, and of every depth: their luminance, or a refusal."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from medssl import sources
from medssl.sources.record import BadRecord, Volume
from tests.sources.test_image import COLOURS, GREY, VALUES, read, refusal

OPAQUE = np.where(GREY > 128, 255, 0).astype(np.uint8)


def luminance(path: Path) -> np.ndarray:
    with Image.open(path) as picture, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that transparency of palettes is left out
        return np.asarray(picture.convert("L"), dtype=float)


PICTURES: dict[str, tuple[Image.Image, dict[str, Any]]] = {
    "rgb.png": (Image.fromarray(COLOURS), {}),
    "rgb.tif": (Image.fromarray(COLOURS), {}),
    "rgb.bmp": (Image.fromarray(COLOURS), {}),
    "rgb.jpg": (Image.fromarray(COLOURS), {"quality": 95}),
    "rgba.png": (Image.fromarray(np.dstack([COLOURS, OPAQUE])), {}),
    "palette.png": (Image.fromarray(COLOURS).quantize(64), {}),
    "transparent.png": (Image.fromarray(COLOURS).quantize(64), {"transparency": bytes(range(64))}),
    "palette.bmp": (Image.fromarray(COLOURS).quantize(64), {}),
    "cmyk.tif": (Image.fromarray(COLOURS).convert("CMYK"), {}),
    "cmyk.jpg": (Image.fromarray(COLOURS).convert("CMYK"), {}),
    "ycc.tif": (Image.fromarray(COLOURS).convert("YCbCr"), {}),
}


@pytest.mark.parametrize("name", PICTURES)
def test_colour_becomes_luminance(tmp_path: Path, name: str) -> None:
    picture, options = PICTURES[name]
    picture.save(tmp_path / name, **options)
    volume = read(tmp_path / name)
    assert np.abs(volume.values[0] - luminance(tmp_path / name)).max() <= 1
    assert volume.notes["colour"] > 0.85
    if name == "rgb.png":
        slow = [[0.299 * r + 0.587 * g + 0.114 * b for r, g, b in row] for row in COLOURS.astype(float)]
        assert np.abs(volume.values[0] - slow).max() <= 0.6
        tinted = [[max(pixel) - min(pixel) > 16 for pixel in row] for row in COLOURS.astype(int)]
        assert volume.notes == {"colour": pytest.approx(np.mean(tinted))}
    if name == "rgba.png":
        assert volume.notes["transparent"] == pytest.approx((OPAQUE < 255).mean())
    assert ("transparent" in volume.notes) == (name in ("rgba.png", "transparent.png"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "CMYK"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_content_is_taken_as_it_is(tmp_path: Path, mode: str, suffix: str) -> None:
    if mode == "CMYK" and suffix == ".png":
        suffix = ".jpg"
    path = tmp_path / f"a{suffix}"
    Image.fromarray(GREY).convert(mode).save(path, **({"quality": 100} if suffix == ".jpg" else {}))
    volume = read(path)
    assert np.abs(volume.values[0] - GREY).max() <= (2 if suffix == ".jpg" else 0)
    assert volume.notes == {"colour": 0}


@pytest.mark.parametrize("quality", [5, 30, 75, 95])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_of_grey_content_has_no_colour(tmp_path: Path, mode: str, quality: int) -> None:
    Image.fromarray(GREY).convert(mode).save(tmp_path / "a.jpg", quality=quality)
    volume = read(tmp_path / "a.jpg")
    assert volume.notes == {"colour": 0}
    assert np.abs(volume.values[0] - luminance(tmp_path / "a.jpg")).max() <= 1


def test_a_coloured_mark_on_a_grey_picture(tmp_path: Path) -> None:
    marked = np.repeat(np.full((64, 64, 1), 90, np.uint8), 3, axis=-1)
    marked[8:16, 8:24] = 255, 0, 0
    Image.fromarray(marked).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png").notes["colour"] == 128 / 4096
    Image.fromarray(marked).save(tmp_path / "a.jpg", quality=90)
    assert 128 / 4096 <= read(tmp_path / "a.jpg").notes["colour"] < 3 * 128 / 4096  # colour of JPEG bleeds


def test_black_and_white_and_floats(tmp_path: Path) -> None:
    Image.fromarray(GREY > 99).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png").values[0], np.where(GREY > 99, 255, 0))
    floats = (VALUES / 7 - 1).astype(np.float32)
    Image.fromarray(floats).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read(tmp_path / "a.tif").values[0], floats)


def test_sixteen_bits_of_grey_and_of_colour(tmp_path: Path) -> None:
    deep = (VALUES * 5000).astype(np.uint16)
    tifffile.imwrite(tmp_path / "grey.tif", deep)
    assert read(tmp_path / "grey.tif").notes == {"colour": 0}
    np.testing.assert_array_equal(read(tmp_path / "grey.tif").values[0], deep)
    tifffile.imwrite(tmp_path / "rgb.tif", np.repeat(deep[..., None], 3, axis=-1), photometric="rgb")
    volume = read(tmp_path / "rgb.tif")
    assert volume.notes == {"colour": 0, "narrowed": 1}
    np.testing.assert_allclose(volume.values[0], deep / 257, atol=1)


# Types and byte orders of a TIFF that Pillow knows where 0 is black, and where it is white.
BLACK = [f"{order}{kind}" for order in "<>" for kind in ("u1", "i1", "u2", "i2", "i4", "f4")] + ["<u4"]
WHITE = ["<u1", ">u1", "<u2", "<f4", ">f4"]


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("white", [False, True])
@pytest.mark.parametrize("dtype", [f"{order}{kind}{size}" for order in "<>" for kind in "uif" for size in (1, 2, 4, 8)])
def test_every_type_of_tiff_is_right_or_refused(
    tmp_path: Path, dtype: str, white: bool, compression: str | None
) -> None:
    """By sign, size, byte order, black or white, packed or not: Pillow leaves out signs and some of the turning."""
    if dtype[1:] == "f1":
        return
    kind = np.dtype(dtype)
    ends = (-3.5, 8.0) if kind.kind == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
    values = np.linspace(*ends, 11)[:, None].astype(np.float64).repeat(2, axis=1)
    values = values.clip(ends[0], np.nextafter(float(ends[1]), 0)).astype(kind)
    options = {"byteorder": dtype[0], "compression": compression}
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, photometric="miniswhite" if white else "minisblack", **options)
    if dtype not in (WHITE if white else BLACK):
        with pytest.raises(BadRecord, match=r"of a kind or byte order that is not read .* save it with 8 or 16 bits"):
            read(path)
        return
    volume, expected = read(path), values.astype(np.float32)
    if white:
        expected = {"u1": 255, "u2": 65535}.get(dtype[1:], expected.min() + expected.max()) - expected
    np.testing.assert_array_equal(volume.values[0], expected)
    assert volume.notes == ({"colour": 0, "inverted": 1} if white else {"colour": 0})


def test_pages_of_floats_that_show_zero_white_are_turned_together(tmp_path: Path) -> None:
    pages = np.array([VALUES, VALUES + 20], np.float32)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="miniswhite")
    np.testing.assert_array_equal(read(tmp_path / "a.tif").values, 31 - pages)
    with tifffile.TiffWriter(tmp_path / "b.tif") as file:
        for photometric in ("miniswhite", "minisblack"):
            file.write(pages[0], photometric=photometric)
    assert refusal(tmp_path / "b.tif") == "unsupported"
    with tifffile.TiffWriter(tmp_path / "c.tif") as file:
        for dtype in (np.int8, np.uint8):
            file.write(VALUES.astype(dtype), photometric="minisblack")
    assert refusal(tmp_path / "c.tif") == "unsupported"


def test_a_tiff_must_say_which_end_is_black(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, VALUES.astype(np.uint8), photometric="minisblack")
    entry = (262).to_bytes(2, "little") + (3).to_bytes(2, "little")
    data = path.read_bytes()
    assert data.count(entry) == 1
    path.write_bytes(data.replace(entry, (263).to_bytes(2, "little") + entry[2:]))  # another tag
    with pytest.raises(BadRecord, match="does not say whether 0 is black or white"):
        read(path)


def test_pictures_of_papers_as_covid_ct_publishes_them(tmp_path: Path) -> None:
    for folder in ("CT_COVID", "CT_NonCOVID"):
        (tmp_path / folder).mkdir()
        for i, (name, (picture, options)) in enumerate(PICTURES.items()):
            if Path(name).suffix in (".png", ".jpg"):
                picture.save(tmp_path / folder / f"2020.01.24.91918{i}-p27-132{Path(name).suffix}", **options)
        Image.fromarray(GREY).convert("RGB").save(tmp_path / folder / "1%0.jpg")
        Image.fromarray(GREY).convert("RGBA").save(tmp_path / folder / "2%1.png")
    records = sources.list_records("covid_ct", tmp_path)
    assert len(records) == 2 * 8
    for record in records:
        volume = sources.read(record)
        assert isinstance(volume, Volume)
        assert np.abs(volume.values[0] - luminance(record.path)).max() <= 1
