"""MONAI loads and runs a bundle, and its embeddings of a NIfTI file are those of medssl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest

from medssl import hub
from medssl.config import SignalIngest, VolumeIngest
from medssl.hub import bundle, recordings
from tests.hub.stores import encoder_of
from tests.test_hub import save

# MONAI's LoadImage makes all its readers, and one warns that a decoder of graphics cards is not there.
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")

CT: dict[str, Any] = {"spacing_mm": (1.5, 1.5, 1.5), "hu_window": (-1000, 1000), "unit": "1", "max_blank": None}
CASES = {
    "volume": ("resnet3d", VolumeIngest(size=(16, 16, 16), **CT)),
    "slices": ("resnet2d", VolumeIngest(samples="slices", size=(16, 16), **CT | {"spacing_mm": (2, 2)})),
    "patches": ("resnet3d", VolumeIngest(samples="patches", size=(8, 8, 8), **CT)),
}
REQUIRED = {
    "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version", "task", "description",
    "authors", "copyright", "network_data_format",
}  # fmt: skip
OF_TENSORS = {
    "type", "format", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data", "channel_def",
}  # fmt: skip


@pytest.fixture(params=CASES)
def encoder(request: pytest.FixtureRequest, tmp_path: Path) -> hub.Encoder:
    name, params = CASES[request.param]
    return hub.load_encoder(save(tmp_path / "encoder", name, params, [2, 2, 4, 4], 1))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three files, stored along other axes with other voxels, the last with a slice that is constant."""
    folder = tmp_path / "images"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number, (turn, mm) in enumerate(
        ((np.diag([-2, 1.5, 3]), (2, 1.5, 3)), (np.eye(3)[[1, 2, 0]] * 2.5, (2.5,) * 3))
    ):
        affine = np.eye(4)
        affine[:3, :3] = turn
        affine[:3, 3] = 5, -7, 11
        values = draw.uniform(-900, 900, (14, 18, 12)).astype(np.float32)
        if number:
            values[:, 3] = values[4] = values[:, :, 5] = -1000.0
        image = nibabel.Nifti1Image(values, affine)
        image.header.set_zooms(mm)
        nibabel.save(image, folder / f"{number}.nii.gz")
    return folder


def run(folder: Path, images: Path, **override: Any) -> pd.DataFrame:
    from monai.bundle import ConfigWorkflow

    work = ConfigWorkflow(
        workflow_type="infer",
        config_file=str(folder / "configs" / "inference.json"),
        meta_file=str(folder / "configs" / "metadata.json"),
        logging_file=False,
        init_id="",
        final_id="",
        **{"bundle_root": str(folder), "dataset_dir": str(images), "device": "cpu", **override},
    )
    work.initialize()
    assert not work.check_properties()
    (table,) = work.run()
    return table


def test_a_nifti_file_is_embedded_as_by_medssl(encoder: hub.Encoder, images: Path, tmp_path: Path) -> None:
    folder = bundle.write(encoder, tmp_path / "bundle")
    table = run(folder, images)
    again = pd.read_parquet(folder / "eval" / "embeddings.parquet")
    assert list(table) == list(again) == ["row", "sample", "reason", "embedding"]
    for row, path in enumerate(sorted(images.iterdir()), 1):
        expected = recordings.embed(encoder, path)
        found = table[table["row"] == row]
        assert found["reason"].tolist() == expected["reason"].tolist()
        assert found["sample"].tolist() == expected["sample"].tolist()
        for one, other in zip(found["embedding"], expected["embedding"], strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                np.testing.assert_allclose(one, other, atol=1e-5)
    assert table["embedding"].notna().any()
    if encoder.contract["samples"] == "slices":
        assert table["reason"].str.startswith("blank").any()


def test_an_image_that_cannot_be_cut_has_a_reason(images: Path, tmp_path: Path) -> None:
    name, params = CASES["volume"]
    encoder = hub.load_encoder(save(tmp_path / "encoder", name, params, [2, 2, 4, 4], 1))
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)), images / "2.nii")
    table = run(bundle.write(encoder, tmp_path / "bundle"), images, output=str(tmp_path / "new" / "z.parquet"))
    assert table["reason"].tolist() == ["", "", "blank: the volume is constant; nothing to learn from"]
    assert (tmp_path / "new" / "z.parquet").is_file()
    assert "nii" not in table.to_csv()


def test_the_folder_is_what_monai_specifies_and_holds_no_pickle(encoder: hub.Encoder, tmp_path: Path) -> None:
    folder = bundle.write(encoder, tmp_path / "bundle")
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    of_encoder = {f"models/{name}" for name in (*hub.folder.FILES, "checksums.json")}
    assert files == {"configs/metadata.json", "configs/inference.json", "docs/README.md", "LICENSE", *of_encoder}
    about = json.loads((folder / "configs" / "metadata.json").read_text())
    assert set(about) >= REQUIRED
    shapes = about["network_data_format"]
    assert all(set(t) >= OF_TENSORS for side in ("inputs", "outputs") for t in shapes[side].values())
    assert shapes["inputs"]["image"]["spatial_shape"] == list(encoder.contract["size"])
    assert about["contract"] == json.loads(json.dumps(encoder.contract))
    assert (folder / "docs" / "README.md").read_text() == encoder.card
    for path in folder.rglob("*.json"):
        assert str(tmp_path) not in path.read_text()


def test_an_old_bundle_is_replaced_and_nothing_else(encoder: hub.Encoder, tmp_path: Path) -> None:
    folder = bundle.write(encoder, tmp_path / "bundle")
    (folder / "eval").mkdir()
    assert bundle.write(encoder, folder) == folder and not (folder / "eval").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(
        hub.EncoderError, match=r"mine: holds other files, and none of configs/metadata\.json; name a new folder"
    ):
        bundle.write(encoder, tmp_path / "mine")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_encoders_of_signals_have_none(tmp_path: Path) -> None:
    encoder = encoder_of(SignalIngest(rate_hz=100, channels=("A",), unit="mV", window_s=1), "ecg")
    with pytest.raises(hub.EncoderError, match="the encoder takes ecg; bundles are of images"):
        bundle.write(encoder, tmp_path / "bundle")
    assert not list(tmp_path.iterdir())
