"""An encoder of images as a MONAI bundle: a folder that ``monai.bundle run`` embeds NIfTI files with.

The bundle is MONAI's from reading to orientation; samples are then cut by medssl, as the encoder's contract says, since
another resampling gives other embeddings. Its ``models`` is the encoder folder. Deliberate difference from MONAI's
specification: there is no ``model.pt`` and no ``model.ts``, as both hold pickles.

Letters: n samples of a recording, C channels, D, H, W towards superior, posterior, left.

Source: MONAI Bundle Specification.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from medssl import __version__
from medssl.hub import Encoder, EncoderError
from medssl.hub.folder import replaced
from medssl.ingest import contract as contracts
from medssl.sources.record import BadRecord, Volume
from medssl.store import write_parquet

BATCH = 16  # samples at a time
SCHEMA = "https://project-monai.github.io/schema/meta_schema_20240725.json"
MODALITIES = {"ct": "CT", "mri": "MR"}
INFERENCE: dict[str, Any] = {
    "imports": ["$import pathlib", "$import torch", "$from medssl.hub import load_encoder"],
    "bundle_root": ".",
    "dataset_dir": ".",
    "output": "$@bundle_root + '/eval/embeddings.parquet'",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "encoder": "$load_encoder(@bundle_root + '/models', device=str(@device))",
    "network_def": "$@encoder.module",
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {
                "_target_": "Orientationd",
                "keys": "image",
                "axcodes": "SPL",
                "labels": [["L", "R"], ["P", "A"], ["I", "S"]],
            },
            {"_target_": "medssl.hub.bundle.Prepared", "encoder": "@encoder"},
        ],
    },
    "dataset": {
        "_target_": "Dataset",
        "data": "$[{'image': str(path)} for path in sorted(pathlib.Path(@dataset_dir).glob('*.nii*'))]",
        "transform": "@preprocessing",
    },
    "inferer": {"_target_": "SimpleInferer"},
    "evaluator": {
        "_target_": "medssl.hub.bundle.Embeddings",
        "dataset": "@dataset",
        "network": "@network",
        "inferer": "@inferer",
        "device": "@device",
        "output": "@output",
    },
    "run": ["$@evaluator.run()"],
}


def write(encoder: Encoder, folder: str | Path) -> Path:
    """Write a bundle in one step, and return its folder; an old bundle is replaced.

    Raises:
        EncoderError: an encoder of signals, which MONAI does not read; one of other code; a folder with other files.
    """
    folder = Path(folder)
    if "size" not in encoder.contract:
        raise EncoderError(f"MONAI bundle: the encoder takes {encoder.contract['modality']}; bundles are of images")
    with replaced(folder, "configs/metadata.json") as temporary:
        encoder.save_pretrained(temporary / "models")
        for name in ("configs", "docs"):
            (temporary / name).mkdir()
        for name, content in (("metadata", metadata(encoder)), ("inference", INFERENCE)):
            (temporary / "configs" / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
        (temporary / "docs" / "README.md").write_text(encoder.card)
        (temporary / "LICENSE").write_text(_licence(encoder))
    return folder


def metadata(encoder: Encoder) -> dict[str, Any]:
    """Return ``metadata.json`` of the bundle: all keys of MONAI's schema that an encoder has something to say to."""
    contract = encoder.contract
    shape, modality = contracts.facts_of(contract)["shape"], contract["modality"]
    dim = int(contract["embedding_dim"])
    about = encoder.config.get("provenance", {})
    name = str(about.get("run") or f"{modality} encoder")
    kind = "volumes" if contract["samples"] == "volume" else contract["samples"]
    image = {
        "type": "image",
        "format": "magnitude",
        "modality": MODALITIES.get(modality, "n/a"),
        "num_channels": shape[0],
        "spatial_shape": shape[1:],
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": contract["samples"] == "patches",
        "channel_def": {"0": f"{modality} in {contract['unit']}, scaled as the contract says"},
    }
    embedding = {
        "type": "tuples",
        "format": "latent",
        "num_channels": dim,
        "spatial_shape": [],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
        "channel_def": {"0": "first number of the embedding"},
    }
    packages = {name: version(name) for name in ("nibabel", "safetensors", "scipy")}
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"written by medssl {__version__}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        # The specification calls them optional; MONAI takes that name for an old one.
        "required_packages_version": {"medssl": __version__, **packages},
        "supported_apps": {},
        "name": name,
        "task": f"Embeddings of {modality} {kind}",
        "description": f"A self-supervised encoder: {dim} numbers for each of the {kind}; see docs/README.md",
        "authors": "see docs/README.md",
        "copyright": "see LICENSE",
        "data_source": str(about.get("source", "see docs/README.md")),
        "data_type": "nifti",
        "image_classes": f"single channel, {contract['unit']}, prepared by medssl",
        "label_classes": "none: the encoder was trained without labels",
        "pred_classes": f"{dim} numbers, of which none has a meaning by itself",
        "eval_metrics": {},
        "intended_use": "Research; no diagnosis. See docs/README.md",
        "references": [],
        "contract": contract,
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": embedding}},
    }


def _licence(encoder: Encoder) -> str:
    """Return what is known of the licences of code and weights."""
    data = encoder.config.get("provenance", {}).get("release", {}).get("licence")
    of_weights = (
        f"The weights were trained on recordings under this licence: {data}."
        if data
        else "Who trained the weights states no licence of theirs here; see docs/README.md."
    )
    return f"medssl, which runs this encoder, is under Apache-2.0 (https://www.apache.org/licenses/LICENSE-2.0).\n{of_weights}\n"


class Prepared:
    """The samples of an image that MONAI has read and turned: a transform after ``Orientationd`` to SPL.

    Args:
        encoder: whose contract says how.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return ``image`` as samples float32 (n, C, ...), and ``reasons``, a text for each, empty for a good one.

        An image that cannot be cut has no samples and one reason.

        Args:
            data: ``image`` is a ``MetaTensor`` (1, D, H, W) in the contract's unit.
        """
        image, contract = data["image"], self.encoder.contract
        spacing = tuple(float(mm) for mm in image.pixdim)
        try:
            if image.ndim != 4 or len(image) != 1:
                raise BadRecord("unsupported", f"an image of shape {tuple(image.shape)}; expected (1, D, H, W)")
            values = np.asarray(image[0].cpu(), dtype=np.float32)
            made = self.encoder.pieces(Volume(values, spacing, contract["unit"]))  # type: ignore[arg-type]
        except BadRecord as bad:
            nothing = torch.empty(0, *contracts.facts_of(contract)["shape"])
            return {**data, "image": nothing, "reasons": [str(bad)]}
        reasons = [": ".join(made.refused.get(i, ())) for i in range(len(made.samples))]
        return {**data, "image": torch.from_numpy(made.samples), "reasons": reasons}


class Embeddings:
    """What runs in a bundle: embeds each image of a dataset and writes one table.

    Args:
        dataset: items with ``image`` and ``reasons``, as `Prepared` makes them.
        network: the module of the encoder.
        inferer: of MONAI.
        device: where it runs.
        output: FILE.parquet.
    """

    def __init__(
        self,
        dataset: Sequence[dict[str, Any]],
        network: torch.nn.Module,
        inferer: Callable[..., torch.Tensor],
        device: str | torch.device,
        output: str | Path,
    ) -> None:
        self.dataset, self.network, self.inferer = dataset, network.eval(), inferer
        self.device, self.output = device, Path(output)

    def run(self) -> pd.DataFrame:
        """Return and write the columns of ``medssl embed``: row (of the file, from 1), sample, reason, embedding.

        Names of files stay out.
        """
        rows: list[dict[str, Any]] = []
        for row in range(len(self.dataset)):
            item = self.dataset[row]
            for sample, reason in enumerate(item["reasons"]):
                rows.append({"row": row + 1, "sample": sample, "reason": reason, "embedding": None})
            kept = [i for i, reason in enumerate(item["reasons"]) if not reason]
            made = rows[len(rows) - len(item["reasons"]) :]
            with torch.inference_mode():
                for i in range(0, len(kept), BATCH):
                    part = kept[i : i + BATCH]
                    z = self.inferer(item["image"][part].to(self.device), self.network).float().cpu().numpy()
                    for at, vector in zip(part, z, strict=True):
                        made[at]["embedding"] = vector
        table = pd.DataFrame(rows, columns=["row", "sample", "reason", "embedding"])
        self.output.parent.mkdir(parents=True, exist_ok=True)
        write_parquet(table, self.output)
        return table
