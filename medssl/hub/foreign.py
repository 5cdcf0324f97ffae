"""Encoders of other code: a torch module and a contract that a function returns."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from medssl.config import explain
from medssl.hub.folder import FORMAT, EncoderError
from medssl.ingest import contract as contracts


class Foreign(nn.Module):
    """A module of other code, (B, C, ...) -> (B, embedding_dim), that says how long its embeddings are."""

    def __init__(self, module: nn.Module, embedding_dim: int) -> None:
        super().__init__()
        self.module, self.embedding_dim = module, embedding_dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the module makes of ``x``."""
        return torch.as_tensor(self.module(x))


def load(reference: str, device: str) -> tuple[nn.Module, dict[str, Any]]:
    """Return the module that ``module:function`` makes, and its ``config`` as of an encoder folder, with a card.

    Raises:
        EncoderError: what is wrong with the other code, in one sentence.
    """
    name, _, function = reference.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)  # as `python -m` does; its own imports may come as late as the first sample
    try:
        importlib.invalidate_caches()
        make = getattr(importlib.import_module(name), function, None)
        if not callable(make):
            raise EncoderError(f"{reference}: module {name} has no function {function}")
        made = make()
        module, given = made if isinstance(made, tuple) and len(made) == 2 else (made, getattr(made, "contract", None))
        if not isinstance(module, nn.Module) or not isinstance(given, dict):
            what = f"returned a {type(module).__name__} with a contract of type {type(given).__name__}"
            raise EncoderError(
                f"{reference}: {what}; expected a torch module with a dict, as a pair or its attribute contract"
            )
        try:
            facts = contracts.facts_of(given)
        except ValidationError as error:
            raise EncoderError(explain(error, f"{reference}: contract")) from None
        except ValueError as error:
            raise EncoderError(f"{reference}: {error}") from None
        module = module.eval().to(device)
        for n in (1, 2):  # one alone shows an output that loses the axis of samples, two show one that mixes them
            with torch.inference_mode():
                z = module(torch.zeros(n, *facts["shape"], device=device))
            if not isinstance(z, torch.Tensor) or z.ndim != 2 or len(z) != n or not z.shape[1]:
                found = f"shape {tuple(z.shape)}" if isinstance(z, torch.Tensor) else f"a {type(z).__name__}"
                asked = (n, *facts["shape"])
                raise EncoderError(f"{reference}: gives {found} for samples {asked}; expected a tensor ({n}, d)")
    except EncoderError:
        raise
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise EncoderError(f"{reference}: no module {name} in {here} or among the installed packages") from None
        raise EncoderError(f"{reference}: raised {type(error).__name__}: {' '.join(str(error).split())}") from error
    finally:
        sys.path.remove(here)
    contract = contracts.contract_of(facts, z.shape[1], contracts.scale_of(given))
    about = "A module of other code: data, training and licence are those of its authors, and no checksum guards it."
    card = f"# {reference}\n\n{about}\n\n```json\n{json.dumps(contract, indent=1)}\n```\n"
    config = {"format": FORMAT, "contract": contract, "provenance": {"reference": reference}, "card": card}
    return Foreign(module, z.shape[1]), config
