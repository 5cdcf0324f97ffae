"""Archives of NumPy arrays: which array is read, and archives that must be refused."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sources.test_arrays import SINES, TIME_S, read_signal, refusal, write


def test_npz_variable_and_its_default(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", SINES, rate=np.array(100.0), time=TIME_S, names=np.array(["Jane"]))
    assert read_signal(path).values.shape == (2, 500)
    np.testing.assert_allclose(read_signal(path, variable="time").values, TIME_S[np.newaxis], rtol=1e-6)
    assert refusal(path, {"rate_hz": 1, "variable": "nothing"}) == "missing_channel"
    assert refusal(path, {"rate_hz": 1, "variable": "names"}) == "unsupported"
    two = write(tmp_path / "b.npz", SINES, more=SINES)
    assert refusal(two, {"rate_hz": 1}) == "unsupported"
    assert read_signal(two, variable="more").values.shape == (2, 500)
    none = tmp_path / "c.npz"
    np.savez(none, names=np.array(["Jane"]))
    assert refusal(none, {"rate_hz": 1}) == "unsupported"


def test_npz_never_unpickles(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    path = write(tmp_path / "a.npz", np.array([Trap()], object))
    assert refusal(path, {"rate_hz": 1, "variable": "data"}) == "unsupported"
    write(tmp_path / "a.npy", np.array([Trap()], object))
    assert refusal(tmp_path / "a.npy", {"rate_hz": 1}) == "unsupported"
    (tmp_path / "b.npy").write_bytes(b"\x80\x04\x95")
    assert refusal(tmp_path / "b.npy", {"rate_hz": 1}) == "unreadable"
    assert not (tmp_path / "sprung").exists()


def test_npz_bombs_are_refused_by_their_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.npz", np.zeros((1000, 1000)))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("unpacked"))
    assert refusal(path, {"rate_hz": 1}) == "unreadable"


def test_npz_packed_otherwise_or_with_names_that_lead_out(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", SINES)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.write(tmp_path / "x.npy", "x.npy")
    assert refusal(tmp_path / "a.npz", {"rate_hz": 1}) == "unsupported"
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.write(tmp_path / "x.npy", "../../outside.npy")
    assert read_signal(tmp_path / "b.npz").values.shape == (2, 500)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "b.npz", "x.npy"]


def test_npz_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=SINES)
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    assert refusal(path, {"rate_hz": 1}) == "unreadable"
