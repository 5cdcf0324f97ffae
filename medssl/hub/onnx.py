"""An encoder as one ONNX file, for programs without torch, checked against torch before it is kept.

The graph takes prepared samples: it holds the network alone. How recordings become samples is in the contract, which
the file carries as JSON. Letters: N samples, any number, C channels.
"""

from __future__ import annotations

import copy
import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from medssl import __version__
from medssl.hub import Encoder, EncoderError
from medssl.ingest import contract as contracts

TOLERANCE = 1e-4  # of a number of an embedding, or of the largest where that is above 1
BATCHES = (1, 3)
NEEDS = 'needs onnx, onnxscript and onnxruntime, of which one is not installed: pip install "medssl[onnx]"'


def write(encoder: Encoder, path: str | Path, *, samples: np.ndarray | None = None) -> dict[str, Any]:
    """Write an encoder as an ONNX file, and return what a program needs to run it and how near it is to torch.

    Its input ``samples`` is float32 (N, C, ...), its output ``embeddings`` float32 (N, embedding_dim). Metadata of the
    file: ``contract``, JSON, and ``medssl``, the version that wrote it. It holds no path of this machine.

    Args:
        encoder: of any place, also a module of other code.
        path: of the file, which is there only if it passes the check; an old one is replaced.
        samples: prepared ones (n, C, ...), such as a store's, to check on too; noise, drift and flat ones always are.

    Returns:
        ``input`` and ``output`` (name and shape), ``opset``, ``bytes`` and ``largest_difference``.

    Raises:
        EncoderError: onnx is not installed; torch cannot export the network, or onnxruntime gives other embeddings.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401, torch's exporter imports it late
    except ImportError:
        raise EncoderError(f"ONNX {NEEDS}") from None
    path, shape = Path(path), contracts.facts_of(encoder.contract)["shape"]
    module = copy.deepcopy(encoder.module).cpu().eval()
    model = _exported(module, shape)
    onnx.helper.set_model_props(model, {"contract": json.dumps(encoder.contract), "medssl": __version__})
    content = model.SerializeToString()
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        apart = max(_difference(module, session, x) for x in _inputs(shape, samples))
    except EncoderError:
        raise
    except Exception as error:  # onnxruntime raises classes of its own, of which none is public
        raise EncoderError(f"ONNX: onnxruntime does not run the network as exported: {_said(error)}") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)
    return {
        "input": {"name": "samples", "shape": ["N", *shape]},
        "output": {"name": "embeddings", "shape": ["N", int(encoder.contract["embedding_dim"])]},
        "opset": int(model.opset_import[0].version),
        "bytes": len(content),
        "largest_difference": apart,
    }


def _exported(module: nn.Module, shape: list[int]) -> Any:
    """Return the network as an ONNX model, without what tells of the machine that made it."""
    # It tells of operators of packages that are not installed and not asked for.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    try:
        program = torch.onnx.export(
            module,
            (torch.zeros(2, *shape),),
            input_names=["samples"],
            output_names=["embeddings"],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            dynamo=True,
            verbose=False,
        )
    except Exception as error:  # whatever the network's code does that torch cannot follow
        raise EncoderError(f"ONNX: torch cannot export {type(module).__name__}: {_said(error)}") from None
    assert program is not None
    model = program.model_proto
    # Each node has the lines of code that it came from, with their files.
    for part in (model.graph, *model.functions):
        for item in (*part.node, *part.value_info):
            del item.metadata_props[:]
        del part.metadata_props[:]
    return model


def _inputs(shape: list[int], samples: np.ndarray | None) -> list[np.ndarray]:
    """Return batches of each size: noise, drift as of recordings, both of unit size, flat samples, and the given."""
    draw = np.random.default_rng(0)
    out = []
    for n in BATCHES:
        noise = draw.standard_normal((n, *shape))
        drift = np.cumsum(noise, axis=-1)
        drift = (drift - drift.mean(axis=-1, keepdims=True)) / max(float(drift.std()), 1e-6)
        out += [noise, drift, np.zeros((n, *shape))]
        if samples is not None:
            out.append(np.resize(samples, (n, *shape)))
    return [x.astype(np.float32) for x in out]


def _difference(module: nn.Module, session: Any, x: np.ndarray) -> float:
    """Return the largest difference between torch and onnxruntime.

    Raises:
        EncoderError: it is above `TOLERANCE`.
    """
    with torch.inference_mode():
        expected = module(torch.from_numpy(x)).float().numpy()
    (found,) = session.run(None, {"samples": x})
    apart = float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")
    allowed = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not apart <= allowed:
        raise EncoderError(f"ONNX: onnxruntime differs from torch by {apart:.2g}; allowed {allowed:.2g}")
    return apart


def _said(error: Exception) -> str:
    """Return the last cause of an error, on one line."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
