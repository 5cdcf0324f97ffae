"""MetaImage files whose every value is known: axes, types, spellings and masks."""

from __future__ import annotations

import gzip
import itertools
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from medssl import sources
from medssl.ingest import parts
from medssl.sources import identifiers
from medssl.sources.record import BadRecord, Record, Volume
from tests.sources import examples_images as examples

SCENE = np.arange(3 * 4 * 5).reshape(3, 4, 5).astype(np.int16)  # superior, posterior, left
SPACING_MM = (3.0, 2.0, 1.5)  # of the axes of SCENE
TOWARDS = {"S": (0, 1), "I": (0, -1), "P": (1, 1), "A": (1, -1), "L": (2, 1), "R": (2, -1)}
CODES = ["".join(code) for code in itertools.permutations("SIPALR", 3) if len({TOWARDS[c][0] for c in code}) == 3]
TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip


def read(path: Path, **more: Any) -> Volume:
    volume = sources.read(Record(path=path, format="metaimage", patient="p1", trial="t1", **more))
    assert isinstance(volume, Volume)
    assert volume.values.dtype == np.float32
    assert volume.values.flags["C_CONTIGUOUS"]
    return volume


def refusal(path: Path, **more: Any) -> tuple[str, str]:
    with pytest.raises(BadRecord) as caught:
        sources.read(Record(path=path, format="metaimage", patient="p1", trial="t1", **more))
    assert "Jane" not in str(caught.value) and path.name not in str(caught.value)
    return caught.value.reason, caught.value.detail


def write(path: Path, values: np.ndarray = SCENE, data: bytes | None = None, file: str = "", **fields: Any) -> Path:
    """Write voxels ``(z, y, x)``, beside the header for a name that ends in .mhd; ``data`` are others than theirs."""
    data = values.astype("<i2").tobytes() if data is None else data
    local = path.suffix == ".mha"
    file = file or ("LOCAL" if local else f"{path.stem}.raw")
    spacing = {"ElementSpacing": " ".join(map(str, SPACING_MM[::-1]))}
    path.write_bytes(examples.metaimage_header(file, values.shape, **(spacing | fields)) + (data if local else b""))
    if not local:
        (path.parent / f"{path.stem}.raw").write_bytes(data)
    return path


def stored(codes: str) -> tuple[np.ndarray, dict[str, str]]:
    """Return SCENE with index axes x, y, z that point to ``codes``, and the fields that say so."""
    xyz = SCENE.transpose([TOWARDS[c][0] for c in codes])
    xyz = np.flip(xyz, [i for i, c in enumerate(codes) if TOWARDS[c][1] < 0])
    matrix = np.zeros((3, 3), int)
    for i, c in enumerate(codes):
        matrix[i, 2 - TOWARDS[c][0]] = TOWARDS[c][1]  # in the order left, posterior, superior
    spacing = [SPACING_MM[TOWARDS[c][0]] for c in codes]
    # Where voxel (0, 0, 0) is, so that all orientations occupy the same place.
    origin = np.zeros(3)
    for c in codes:
        axis, sign = TOWARDS[c]
        origin[2 - axis] = 7 if sign > 0 else 7 + (SCENE.shape[axis] - 1) * SPACING_MM[axis]
    said = {"TransformMatrix": matrix.ravel(), "ElementSpacing": spacing, "Offset": origin}
    return xyz.transpose(), {key: " ".join(map(str, numbers)) for key, numbers in said.items()}


def pack(data: bytes) -> dict[str, Any]:
    packed = zlib.compress(data)
    return {"data": packed, "CompressedData": True, "CompressedDataSize": len(packed)}


def test_there_are_48_orientations() -> None:
    assert len(CODES) == 48


@pytest.mark.parametrize("codes", CODES)
def test_all_48_orientations(tmp_path: Path, codes: str) -> None:
    values, fields = stored(codes)
    volume = read(write(tmp_path / "a.mha", values, **fields))
    np.testing.assert_array_equal(volume.values, SCENE)
    np.testing.assert_allclose(volume.spacing_mm, SPACING_MM)


@pytest.mark.parametrize("name", ["TransformMatrix", "Rotation", "Orientation"])
def test_names_of_the_matrix(tmp_path: Path, name: str) -> None:
    fields = {"TransformMatrix": None, name: "0 0 1 1 0 0 0 -1 0"}  # x is up, y is left, z is to the front
    values = SCENE[:, ::-1].transpose(1, 2, 0)
    volume = read(write(tmp_path / "a.mha", values, ElementSpacing="3 1.5 2", **fields))
    np.testing.assert_array_equal(volume.values, SCENE)
    assert volume.spacing_mm == SPACING_MM


def test_oblique_axes_are_the_nearest(tmp_path: Path) -> None:
    turned = "0.984808 0.173648 0 -0.173648 0.984808 0 0 0 1"
    np.testing.assert_array_equal(read(write(tmp_path / "a.mha", TransformMatrix=turned)).values, SCENE)


def test_without_matrix_and_sizes(tmp_path: Path) -> None:
    absent = dict.fromkeys(("TransformMatrix", "Offset", "ElementSpacing", "AnatomicalOrientation", "ObjectType"))
    volume = read(write(tmp_path / "a.mha", **absent))
    np.testing.assert_array_equal(volume.values, SCENE)
    assert np.isnan(volume.spacing_mm).all()
    sized = read(write(tmp_path / "a.mha", ElementSize="1 2 3", **absent))
    assert sized.spacing_mm == (3, 2, 1)
    assert read(write(tmp_path / "a.mha", ElementSize="1 1 1")).spacing_mm == SPACING_MM


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["a.mhd", "a.mha"])
def test_types(tmp_path: Path, kind: str, order: str, packed: bool, name: str) -> None:
    values = SCENE.astype(order + TYPES[kind])
    if np.dtype(TYPES[kind]).kind != "u":
        values -= 30
    data = values.tobytes()
    more = pack(data) if packed else {"data": data}
    path = write(tmp_path / name, ElementType=kind, BinaryDataByteOrderMSB=order == ">", **more)
    np.testing.assert_array_equal(read(path).values, values)


def test_byte_order_by_its_other_name_and_in_conflict(tmp_path: Path) -> None:
    data = SCENE.astype(">i2").tobytes()
    fields = {"BinaryDataByteOrderMSB": None, "ElementByteOrderMSB": True}
    np.testing.assert_array_equal(read(write(tmp_path / "a.mha", data=data, **fields)).values, SCENE)
    assert refusal(write(tmp_path / "a.mha", data=data, ElementByteOrderMSB=True))[0] == "unreadable"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("skipped", [10, -1])
def test_other_bytes_before_the_voxels(tmp_path: Path, packed: bool, skipped: int) -> None:
    more = pack(SCENE.tobytes()) if packed else {"data": SCENE.tobytes()}
    more["data"] = b"not voxels" + more["data"]
    path = write(tmp_path / "a.mhd", HeaderSize=skipped, **more)
    np.testing.assert_array_equal(read(path).values, SCENE)
    assert refusal(write(tmp_path / "a.mhd", HeaderSize=-2, **more))[0] == "unreadable"


@pytest.mark.parametrize("file", ["LOCAL", "Local", "local"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("equals", [b" = ", b"=", b": "])
def test_spelling_of_headers(tmp_path: Path, file: str, end: bytes, equals: bytes) -> None:
    head = examples.metaimage_header(file, SCENE.shape, Comment="a = b: c")
    (tmp_path / "a.mha").write_bytes(head.replace(b" = ", equals).replace(b"\n", end) + SCENE.tobytes())
    np.testing.assert_array_equal(read(tmp_path / "a.mha").values, SCENE)


def test_what_says_nothing_new_is_taken(tmp_path: Path) -> None:
    said = {
        "ElementToIntensityFunctionSlope": "1.000000",
        "ElementToIntensityFunctionOffset": "0",
        "DistanceUnits": "mm",
    }
    np.testing.assert_array_equal(read(write(tmp_path / "a.mha", ElementNumberOfChannels="1", **said)).values, SCENE)


def test_compressed_data_without_their_size_and_as_gzip(tmp_path: Path) -> None:
    packed = pack(SCENE.tobytes())
    for name in ("a.mha", "a.mhd"):
        path = write(tmp_path / name, **(packed | {"CompressedDataSize": None}))
        np.testing.assert_array_equal(read(path).values, SCENE)
    data = gzip.compress(SCENE.tobytes())
    path = write(tmp_path / "a.mha", data=data, CompressedData="True", CompressedDataSize=len(data))
    np.testing.assert_array_equal(read(path).values, SCENE)


def test_hounsfield_units_have_a_floor(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mha", np.array([[[-3024, -1024, 5]]], np.int16))
    assert read(path).values.ravel().tolist() == [-3024, -1024, 5] and read(path).unit == "1"
    volume = read(path, hints={"unit": "HU"})
    assert volume.values.ravel().tolist() == [-1024, -1024, 5] and volume.unit == "HU"


@pytest.mark.parametrize("packed", [False, True])
def test_a_record_is_read_again_when_its_voxels_change(tmp_path: Path, packed: bool) -> None:
    path = write(tmp_path / "a.mhd")
    voxels = path.with_suffix(".raw").rename(path.with_suffix(".zraw" if packed else ".raw"))
    record = Record(path=path, format="metaimage", patient="p1", trial="t1")
    before = parts.name_of(record, b"0")
    assert parts.name_of(record, b"0") == before
    voxels.write_bytes(b"other")
    assert parts.name_of(record, b"0") != before


def test_what_identifies_a_person(tmp_path: Path) -> None:
    def kinds(**fields: Any) -> frozenset[str] | None:
        path = write(tmp_path / "a.mha", **({"PatientName": None} | fields))
        return identifiers.scan(path, "metaimage")[0]

    assert kinds() == frozenset()
    assert kinds(ITK_InputFilterName="MetaImageIO", Comment="", Modality="MET_MOD_CT") == frozenset()
    assert kinds(PatientName="Doe^Jane", PatientID="7", AcquisitionDate="2001.02.03") == {"name", "identifier", "date"}
    assert kinds(Comment="seen by Jane") == {"comment"}
    dicom = {"0010|0010": "Doe^Jane", "0010|0030": "19500203", "0008|0060": "CT", "0009|1001": "Jane", "0010|0040": ""}
    assert kinds(**dicom) == {"patient name", "birth date", "private element"}
    (tmp_path / "a.mha").write_text("Doe^Jane")
    assert identifiers.scan(tmp_path / "a.mha", "metaimage") == [None]


@pytest.mark.parametrize("name", ["metaimage", "metaimage-packed"])
def test_examples(tmp_path: Path, name: str) -> None:
    volume = read(examples.EXAMPLES[name](tmp_path, 3))
    assert volume.spacing_mm == (3, 0.75, 0.5)
    np.testing.assert_array_equal(volume.values[1], examples.phantom(seed=4))


# --- masks ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("codes", ["LPS", "RAI", "SRA"])
def test_mask_on_other_axes_of_the_same_grid(tmp_path: Path, codes: str) -> None:
    values, fields = stored(codes)
    mask = write(tmp_path / "mask.mhd", values % 6, **fields)
    _, upright = stored("LPS")
    found = read(write(tmp_path / "a.mha", **upright), mask=mask).mask
    assert found is not None and found.dtype == np.int32
    np.testing.assert_array_equal(found, SCENE % 6)


@pytest.mark.parametrize(
    ("fields", "outside"),
    [
        ({"Offset": "-12.5 3 -68"}, 20 / 59),  # up by two thirds of a slice: the last lies beyond the volume
        ({"Offset": "-12.5 3 -69"}, 0),  # less than half a slice changes no nearest neighbour
        ({"ElementSpacing": "1.5 2 3.5"}, 0),  # at the last slice too
        ({"ElementSpacing": "1.5 2 3.8"}, 20 / 59),
        ({"DimSize": "5 3 4"}, 15 / 59),
        ({"ElementType": "MET_USHORT"}, 0),
    ],
)
def test_mask_of_another_grid(tmp_path: Path, fields: dict[str, str], outside: float) -> None:
    image = write(tmp_path / "a.mha")
    volume = read(image, mask=write(tmp_path / "mask.mha", **fields))
    resampled = outside > 0
    assert volume.notes == {"mask_resampled": resampled, "mask_outside": pytest.approx(outside)}
    expected = SCENE.copy()  # of most, the nearest voxel is still the one of the same index
    if "DimSize" in fields:
        expected = np.concatenate([SCENE.reshape(4, 3, 5)[:3], np.zeros((3, 1, 5), np.int16)], axis=1)
    if fields.get("Offset") == "-12.5 3 -68":
        expected = np.concatenate([np.zeros((1, 4, 5), np.int16), SCENE[:2]])
    if fields.get("ElementSpacing") == "1.5 2 3.8":
        expected = SCENE[[0, 1, 2]]
    np.testing.assert_array_equal(volume.mask, expected)


@pytest.mark.parametrize(
    "fields",
    [{"TransformMatrix": "-1 0 0 0 1 0 0 0 1"}, {"Offset": "1e308 1e308 1e308"}, {"Offset": "-12.5 3 -64"},
     {"ElementSpacing": "1e308 1e308 1e308"}, {"ElementSpacing": None, "Offset": None}],
)  # fmt: skip
def test_mask_of_another_place(tmp_path: Path, fields: dict[str, str | None]) -> None:
    image = write(tmp_path / "a.mha")
    reason = "unreadable" if fields.get("ElementSpacing") else "bad_mask"
    assert refusal(image, mask=write(tmp_path / "mask.mha", **fields))[0] == reason


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 3e9])
def test_mask_of_other_than_integers(tmp_path: Path, value: float) -> None:
    values = np.full(SCENE.shape, 2.0, "<f8")
    fields = {"ElementType": "MET_DOUBLE"}
    mask = write(tmp_path / "mask.mha", data=values.tobytes(), **fields)
    assert (read(write(tmp_path / "a.mha"), mask=mask).mask == 2).all()
    values[1, 2, 3] = value
    write(mask, data=values.tobytes(), **fields)
    assert refusal(tmp_path / "a.mha", mask=mask)[0] == "bad_mask"


def test_nifti_mask(tmp_path: Path) -> None:
    affine = np.diag([-1.5, -2, 3, 1])
    affine[:3, 3] = 12.5, -3, -70
    nibabel.save(nibabel.Nifti1Image((SCENE % 3).transpose(2, 1, 0), affine), tmp_path / "m.nii.gz")
    volume = read(write(tmp_path / "a.mha"), mask=tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(volume.mask, SCENE % 3)
    assert volume.notes == {"mask_resampled": 0, "mask_outside": 0}
    # As nibabel and SimpleITK save an array of which they know no place.
    nibabel.save(nibabel.Nifti1Image((SCENE % 3).transpose(2, 1, 0), np.eye(4)), tmp_path / "m.nii.gz")
    assert refusal(tmp_path / "a.mha", mask=tmp_path / "m.nii.gz")[0] == "bad_mask"
