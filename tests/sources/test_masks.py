"""Label maps against the table of their names, for all formats, and refusals that say they are about the mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from medssl import sources
from medssl.sources import masks
from medssl.sources.record import BadRecord, Record, Volume

LABELS = np.zeros((3, 4, 5), np.int32)
LABELS[1, 1:3, 1:5] = 6
LABELS[2, 0, 0:2] = 1


def read(path: Path, form: str, mask: Path, names: dict[int, str], **hints: Any) -> Volume:
    volume = sources.read(Record(path, form, "p1", "t1", mask=mask, mask_labels=names, hints=hints))
    assert isinstance(volume, Volume)
    return volume


@pytest.mark.parametrize(
    ("names", "unnamed", "absent"),
    [
        ({1: "liver", 6: "spleen"}, 0, 0),
        ({1: "liver"}, 0.8, 0),
        ({6: "spleen", 2: "lung", 3: "heart"}, 0.2, 2),
        ({255: "liver"}, 1, 1),
        ({0: "background", 1: "liver", -1: "void"}, 0.8, 1),
    ],
)
def test_names_and_values(names: dict[int, str], unnamed: float, absent: int) -> None:
    assert masks.against_names(LABELS, names) == {"mask_unnamed": pytest.approx(unnamed), "mask_absent": absent}
    slow = [names.get(value) for value in LABELS.ravel().tolist() if value]
    assert slow.count(None) / len(slow) == pytest.approx(unnamed)


def test_without_names_or_voxels() -> None:
    assert masks.against_names(LABELS, {}) == {}
    assert masks.against_names(LABELS, {0: "background"}) == {}
    assert masks.against_names(0 * LABELS, {1: "liver"}) == {"mask_unnamed": 0, "mask_absent": 1}


def nifti(path: Path, values: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(values.T.astype(np.int16), np.diag([-1.0, -1, 2, 1])), path)
    return path


def test_every_format_compares_them(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(60.0).reshape(3, 4, 5))
    np.save(tmp_path / "m.npy", LABELS)
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(LABELS[1].astype(np.uint8)).save(tmp_path / "m.png")
    text = "NDims = 3\nDimSize = 5 4 3\nElementSpacing = 1 1 2\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    (tmp_path / "a.mha").write_bytes(text.encode() + LABELS.astype("<i2").tobytes())
    volume, mask = nifti(tmp_path / "a.nii", np.arange(60).reshape(3, 4, 5)), nifti(tmp_path / "m.nii", LABELS)
    cases = [(volume, "nifti", mask), (tmp_path / "a.npy", "array", tmp_path / "m.npy")]
    cases += [(tmp_path / "a.mha", "metaimage", tmp_path / "a.mha"), (tmp_path / "a.npy", "array", mask)]
    for path, form, beside in cases:
        notes = read(path, form, beside, {1: "liver", 2: "lung"}).notes
        assert (notes["mask_unnamed"], notes["mask_absent"]) == (pytest.approx(0.8), 1), form
        assert "mask_unnamed" not in read(path, form, beside, {}).notes
    notes = read(tmp_path / "a.png", "image", tmp_path / "m.png", {1: "liver"}).notes
    assert (notes["mask_unnamed"], notes["mask_absent"]) == (1, 1)


def test_refusals_say_that_they_are_about_the_mask(tmp_path: Path) -> None:
    volume = nifti(tmp_path / "a.nii", np.arange(60).reshape(3, 4, 5))
    np.save(tmp_path / "a.npy", np.ones((3, 4, 5)))
    (tmp_path / "text.nii").write_text("no image " * 90)
    for name in ("m.png", "m.jpg", "m.tif"):
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / name)
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "a.png")
    for path, form, mask, words in (
        (volume, "nifti", "m.png", "the mask is a picture and its volume is none; save it as NIfTI"),
        (volume, "nifti", "m.tif", "the mask is a picture and its volume is none; save it as NIfTI"),
        (volume, "nifti", "m.jpg", "the mask is JPEG, which changes labels"),
        (volume, "nifti", "text.nii", "of the mask: the file is not NIfTI"),
        (volume, "nifti", "none.nii", "of the mask: the file does not exist"),
        (tmp_path / "a.npy", "array", "none.npy", "of the mask: the file does not exist"),
        (tmp_path / "a.npy", "array", "m.png", "the mask is a picture and its volume is none"),
        (tmp_path / "a.png", "image", "m.jpg", "the mask is JPEG, which changes labels; save it as PNG"),
        (tmp_path / "a.png", "image", "none.png", "of the mask: the file does not exist"),
    ):
        with pytest.raises(BadRecord) as caught:
            read(path, form, tmp_path / mask, {})
        assert words in caught.value.detail and mask not in str(caught.value)
