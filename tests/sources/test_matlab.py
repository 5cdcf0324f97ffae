"""MATLAB files of versions 4, 5, 7 and 7.3: values, hints, and what must be refused."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from medssl import sources
from medssl.sources.record import BadRecord, Record, Signal

NAME = "Doe^Jane"
RATE_HZ = 100
TIME_S = np.arange(500) / RATE_HZ
SINES = np.stack([np.sin(2 * np.pi * 1.5 * TIME_S), 0.4 * np.cos(2 * np.pi * 5 * TIME_S)])
HINTS: dict[str, Any] = {"rate_hz": RATE_HZ, "unit": "mV", "columns": ("I", "II")}


def record(path: Path, **more: Any) -> Record:
    return Record(path=path, format="matlab", patient="p1", trial="t1", **{"hints": HINTS, **more})


def read_signal(path: Path, **more: Any) -> Signal:
    signal = sources.read(record(path, **more))
    assert isinstance(signal, Signal)
    assert signal.values.dtype == np.float32
    assert signal.values.flags["C_CONTIGUOUS"]
    return signal


def refusal(path: Path, **more: Any) -> str:
    with pytest.raises(BadRecord) as caught:
        sources.read(record(path, **more))
    for private in (NAME, "Jane", path.name, str(path.parent), "secret"):
        assert private not in str(caught.value)
    return caught.value.reason


def write73(path: Path, tables: dict[str, Any], **more: Any) -> Path:
    """Write what MATLAB 7.3 does: 512 bytes of text, axes in reverse, the class as an attribute."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, table in tables.items():
            kind = "double"
            if isinstance(table, str):
                table, kind = np.frombuffer(table.encode("utf-16-le"), "<u2")[None], "char"
            stored = np.atleast_2d(table).T
            data = file.create_dataset(name, data=stored, **(more if stored.size > 1 else {}))
            data.attrs["MATLAB_class"] = np.bytes_(kind)
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(508) + b"\0\x02IM")
    return path


def write(path: Path, version: str, tables: dict[str, Any]) -> Path:
    match version:
        case "4":
            scipy.io.savemat(path, tables, format="4")
        case "5":
            scipy.io.savemat(path, tables)
        case "7":
            scipy.io.savemat(path, tables, do_compression=True)
        case "7.3":
            write73(path, tables)
        case "7.3z":
            write73(path, tables, chunks=True, compression="gzip", shuffle=True, fletcher32=True)
    return path


VERSIONS = ["4", "5", "7", "7.3", "7.3z"]


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("upright", [False, True])
def test_sine(tmp_path: Path, version: str, upright: bool) -> None:
    path = write(tmp_path / "a.mat", version, {"secret": SINES.T if upright else SINES})
    signal = read_signal(path)
    np.testing.assert_allclose(signal.values, SINES, atol=1e-6)
    assert (signal.rate_hz, signal.channels, signal.unit) == (100.0, ("I", "II"), "mV")
    part = read_signal(path, start_s=1.0, end_s=2.5)
    np.testing.assert_array_equal(part.values, signal.values[:, 100:250])
    assert refusal(path, start_s=5.0) == "too_short"


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
@pytest.mark.parametrize("of", ["5", "7", "7.3"])
def test_whole_numbers(tmp_path: Path, of: str, kind: str) -> None:
    values = np.arange(-60 if kind[0] in "if" else 0, 60)[None].astype(kind)
    signal = read_signal(write(tmp_path / "a.mat", of, {"x": values}), hints={"rate_hz": 10})
    np.testing.assert_array_equal(signal.values, values)
    assert (signal.channels, signal.unit) == (("signal",), "1")


@pytest.mark.parametrize("order", ["<", ">"])
def test_version_4_of_either_byte_order(tmp_path: Path, order: str) -> None:
    head = np.array([20 + 1000 * (order == ">") + 10, 2, 500, 0, 2], f"{order}i4").tobytes()  # 30: int16
    stored = np.round(1000 * SINES).astype(f"{order}i2")
    (tmp_path / "a.mat").write_bytes(head + b"x\0" + stored.tobytes(order="F"))
    np.testing.assert_array_equal(read_signal(tmp_path / "a.mat").values, np.round(1000 * SINES))


def test_big_endian_version_5(tmp_path: Path) -> None:
    def element(kind: int, content: bytes) -> bytes:
        return np.array([kind, len(content)], ">u4").tobytes() + content + b"\0" * (-len(content) % 8)

    flags = element(6, np.array([6, 0], ">u4").tobytes())
    axes = element(5, np.array([2, 500], ">i4").tobytes())
    numbers = element(9, SINES.astype(">f8").tobytes(order="F"))
    matrix = element(14, flags + axes + element(1, b"x") + numbers)
    (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0".ljust(124) + b"\x01\x00MI" + matrix)
    np.testing.assert_allclose(read_signal(tmp_path / "a.mat").values, SINES, atol=1e-7)


def test_missing_values_stay_missing(tmp_path: Path, version: str) -> None:
    values = SINES.copy()
    values[1, 5:8] = np.nan
    assert np.isnan(read_signal(write(tmp_path / "a.mat", version, {"x": values})).values).sum() == 3


# --- hints ----------------------------------------------------------------------------------------------------------
def test_only_table_is_found_among_other_values(tmp_path: Path, version: str) -> None:
    path = write(tmp_path / "a.mat", version, {"fs": 500.0, "name": NAME, "ecg": SINES, "age": 71.0})
    np.testing.assert_allclose(read_signal(path).values, SINES, atol=1e-6)


@pytest.mark.parametrize("of", ["5", "7"])
def test_structs_cells_and_other_kinds_are_stepped_over(tmp_path: Path, of: str) -> None:
    cell = np.empty((1, 2), dtype=object)
    cell[:] = [[SINES, NAME]]
    others = {
        "s": {"name": NAME, "ecg": SINES},
        "c": cell,
        "z": SINES + 1j,
        "yes": SINES > 0,
        "cube": np.ones((2, 3, 4)),
    }
    path = write(tmp_path / "a.mat", of, {**others, "ecg": SINES})
    np.testing.assert_allclose(read_signal(path).values, SINES, atol=1e-6)
    assert refusal(write(path, of, others)) == "no_samples"
    for name in others:
        assert refusal(path, hints={**HINTS, "variable": name}) == "missing_channel"


def test_hdf5_cells_and_structs_are_stepped_over(tmp_path: Path) -> None:
    path = write73(tmp_path / "a.mat", {})
    with h5py.File(path, "a") as file:
        file["#refs#/a"] = SINES.T
        file["s/ecg"] = SINES.T
        refs = np.array([[file["#refs#/a"].ref]], dtype=h5py.ref_dtype)
        file.create_dataset("c", data=refs, dtype=h5py.ref_dtype).attrs["MATLAB_class"] = np.bytes_("cell")
    assert refusal(path) == "no_samples"


def test_variable_is_named_where_there_are_several(tmp_path: Path, version: str) -> None:
    path = write(tmp_path / "a.mat", version, {"secret": SINES, "other": 2 * SINES})
    assert refusal(path) == "unsupported"
    signal = read_signal(path, hints={**HINTS, "variable": "other"})
    np.testing.assert_allclose(signal.values, 2 * SINES, atol=1e-6)
    assert refusal(path, hints={**HINTS, "variable": "third"}) == "missing_channel"


@pytest.mark.parametrize("columns", ["I,II", "I; II", ["I", "II"], ("I", "II")])
def test_names_of_channels(tmp_path: Path, columns: Any) -> None:
    path = write(tmp_path / "a.mat", "5", {"x": SINES})
    assert read_signal(path, hints={**HINTS, "columns": columns}).channels == ("I", "II")
    assert read_signal(path, hints={"rate_hz": 100}).channels == ("channel 1", "channel 2")
    assert refusal(path, hints={**HINTS, "columns": "I"}) == "missing_channel"
    second = read_signal(path, hints={**HINTS, "columns": "II=2"})
    assert second.channels == ("II",)
    np.testing.assert_allclose(second.values, SINES[1:], atol=1e-6)


def test_only_channel_has_the_name_in_the_hint(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mat", "5", {"x": SINES[0]})
    assert read_signal(path, hints={"rate_hz": 100, "channel": "PPG"}).channels == ("PPG",)


def test_rate_is_required(tmp_path: Path, version: str) -> None:
    path = write(tmp_path / "a.mat", version, {"x": SINES, "fs": 100.0})
    assert refusal(path, hints={}) == "no_rate"
    assert refusal(path, hints={"rate_hz": -1}) == "no_rate"


def test_tables_without_a_time_axis_are_refused(tmp_path: Path, version: str) -> None:
    assert refusal(write(tmp_path / "a.mat", version, {"x": np.ones((5, 5))})) == "unsupported"
    assert refusal(write(tmp_path / "a.mat", version, {"x": np.float64(3)})) == "no_samples"


# --- damage ---------------------------------------------------------------------------------------------------------
def test_empty_and_absent_files(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    assert refusal(path) == "missing_file"
    path.touch()
    assert refusal(path) == "unreadable"


@pytest.mark.parametrize("keep", [3, 100, 130, 512, 530, 700, 2000, -9])
def test_cut_off_files_are_refused(tmp_path: Path, version: str, keep: int) -> None:
    path = write(tmp_path / "a.mat", version, {"x": SINES})
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(path) == "unreadable"


@pytest.mark.parametrize("of", ["4", "5"])
def test_absurd_axes_are_refused(tmp_path: Path, of: str) -> None:
    path = write(tmp_path / "a.mat", of, {"x": SINES})
    data = path.read_bytes()
    axes = np.array([2, 500], "<i4").tobytes()
    assert data.count(axes) == 1
    for absurd in ([2, 2_000_000_000], [2_000_000_000, 2_000_000_000], [-2, 500], [2, 501]):
        path.write_bytes(data.replace(axes, np.array(absurd, "<i4").tobytes()))
        assert refusal(path) == "unreadable"


def test_element_of_type_0_is_refused(tmp_path: Path) -> None:
    # scipy's own reader ends the process on this one.
    path = write(tmp_path / "a.mat", "5", {"x": SINES})
    numbers = np.array([9, SINES.nbytes], "<u4").tobytes()
    data = path.read_bytes()
    assert data.count(numbers) == 1
    path.write_bytes(data.replace(numbers, np.array([0, SINES.nbytes], "<u4").tobytes()))
    assert refusal(path) == "unreadable"


def test_damage_inside_a_compressed_table_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mat", "7", {"x": SINES})
    data = path.read_bytes()
    for at in (len(data) // 2, -2):  # in the content and in its checksum
        damaged = bytearray(data)
        damaged[at] ^= 1
        path.write_bytes(damaged)
        assert refusal(path) == "unreadable"


def test_compressed_tables_without_their_checksum_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mat", "7", {"x": SINES})
    data = bytearray(path.read_bytes()[:-4])
    data[132:136] = (len(data) - 136).to_bytes(4, "little")
    path.write_bytes(data)
    assert refusal(path) == "unreadable"


@pytest.mark.parametrize("of", ["7", "7.3z"])
def test_what_unpacks_to_very_much_is_refused(tmp_path: Path, of: str) -> None:
    path = write(tmp_path / "a.mat", of, {"x": np.zeros((2, 2_000_000))})
    assert path.stat().st_size < 200_000
    assert refusal(path) == "unreadable"


def test_what_claims_to_unpack_to_very_much_is_refused(tmp_path: Path) -> None:
    matrix = np.array([14, 4_000_000_000, 6, 8, 6, 0, 5, 8, 2, 249_999_996, 1 << 16 | 1, 120, 9, 3_999_999_936], "<u4")
    content = zlib.compress(matrix.tobytes())
    tag = np.array([15, len(content)], "<u4").tobytes()
    (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0".ljust(124) + b"\x00\x01IM" + tag + content)
    assert refusal(tmp_path / "a.mat") == "unreadable"


# --- HDF5 -----------------------------------------------------------------------------------------------------------
def test_hdf5_links_must_not_lead_outside(tmp_path: Path) -> None:
    write73(tmp_path / "other.mat", {"x": SINES})
    path = write73(tmp_path / "a.mat", {})
    with h5py.File(path, "a") as file:
        file["x"] = h5py.ExternalLink("other.mat", "/x")
    assert refusal(path) == "no_samples"


def test_hdf5_numbers_in_another_file_are_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside.bin"
    outside.write_bytes(SINES.tobytes())
    path = tmp_path / "a.mat"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", SINES.shape, "f8", external=[(str(outside), 0, SINES.nbytes)])
    assert refusal(path) == "outside_folder"


def test_hdf5_virtual_tables_are_refused(tmp_path: Path) -> None:
    write73(tmp_path / "other.mat", {"x": SINES})
    path = tmp_path / "a.mat"
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout(SINES.T.shape, "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.mat"), "x", SINES.T.shape)
        file.create_virtual_dataset("x", layout)
    assert refusal(path) == "outside_folder"


def test_hdf5_tables_never_written_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (2, 10**12), "f8", chunks=(2, 1000))  # 16 TB of nothing in 4 kB
    assert refusal(path) == "unreadable"


def test_hdf5_chunks_beyond_measure_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    with h5py.File(path, "w") as file:
        table = file.create_dataset(
            "x", (2, 500), "f8", maxshape=(2, None), chunks=(2, 100_000_000), compression="gzip"
        )
        table.id.write_direct_chunk((0, 0), zlib.compress(SINES.tobytes()))
    assert refusal(path) == "unreadable"


def test_hdf5_filters_that_matlab_does_not_use_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=SINES, compression="lzf")
    assert refusal(path) == "unsupported"


@pytest.mark.parametrize(
    ("at", "content"), [(8, b"\x09"), (13, b"\x04"), (24, b"\xff" * 8), (40, b"\xff\xff\xff\0\0\0\0\0")]
)
def test_hdf5_first_block_is_checked(tmp_path: Path, at: int, content: bytes) -> None:
    path = write73(tmp_path / "a.mat", {"x": SINES})
    data = bytearray(path.read_bytes())
    data[512 + at : 512 + at + len(content)] = content
    path.write_bytes(data)
    with pytest.raises(BadRecord, match=r"first block|cut off"):  # not by the library's own luck
        sources.read(record(path))
