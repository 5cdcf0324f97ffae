"""One process against two: the same loss, the same gradient, the same trained weights."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributed
from torch import multiprocessing as mp

from medssl.config import OPTIONS, Compute, Run
from medssl.models import build
from medssl.pretrain.data import Batch
from medssl.pretrain.fit import fit
from medssl.pretrain.gather import averaged, gather
from medssl.pretrain.module import Training
from medssl.pretrain.recipes import RECIPES, Sizes
from medssl.pretrain.told import Told
from medssl.store import open_store

WORLD = 2
ROWS = 12


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def in_group(rank: int, port: int, work: Callable[..., Any], out: Path, *arguments: Any) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORLD)
    try:
        torch.save(work(*arguments), out / f"{rank}.pt")
    finally:
        distributed.destroy_process_group()


def on_two(work: Callable[..., Any], out: Path, *arguments: Any) -> list[Any]:
    mp.spawn(in_group, (free_port(), work, out, *arguments), nprocs=WORLD)
    return [torch.load(out / f"{rank}.pt") for rank in range(WORLD)]


def module_of(recipe: str, *, options: dict[str, Any] | None = None, **given: Any) -> Training:
    """A network without batch statistics and without dropout."""
    run = Run.model_validate(
        {
            "modality": "x",
            "recipe": recipe,
            "encoder": {"name": "dilated1d"},
            "pretrain": {
                "projection_dim": 6,
                "projection_norm": "layer",
                "temperature": 0.2,
                "labels": ["kind"] if OPTIONS[recipe].labelled else [],
                "options": options or {},
                **given,
            },
            "evaluate": {},
        }
    ).pretrain
    torch.manual_seed(0)
    encoder = build("dilated1d", in_channels=2, widths=(6, 8), depth=3)
    encoder.dropout.p = 0.0  # type: ignore[union-attr, assignment]
    told = features() if run.predict is not None and run.predict.name == "handcrafted" else None
    sizes = Sizes(8, 40, (2, 32), ((1,), (1,)), torch.randn(20, 2), told=0 if told is None else 5)
    return Training(RECIPES[recipe].net(encoder, run, sizes), RECIPES[recipe], steps=10, seed=1, told=told)


def features() -> Told:
    """Five features of forty samples; one process has all that are unknown in a batch."""
    values = np.random.default_rng(3).normal(size=(40, 6))
    values[[1, 4], 2] = np.nan
    return Told(values, np.array([0, 1, 2, 3, 5]), np.full(5, 0.1), np.full(5, 2.0))


def batch_of(rows: slice, step: int = 0, *, paired: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(5 + step)
    x = torch.randn(ROWS, 2, 32, generator=generator)
    patient, trial = torch.arange(ROWS) // 4, torch.arange(ROWS) // 2
    anatomy = torch.randn(ROWS, 2, generator=generator)
    anatomy[3, 0] = torch.nan
    # Within and across patients, and across the two processes.
    duplicate = torch.tensor([50, 9, 2, 9, 4, 4, 6, 2, 8, 2, 50, 9])
    # After a first batch, half of the samples were met before.
    row = torch.arange(ROWS) + 6 * step
    draw = torch.arange(ROWS) + 100 * (step + 1)
    # A class or a number, unknown of one sample.
    label = 4.0 * (torch.arange(ROWS) // 3 % 3)[:, None]
    label[5] = torch.nan
    parts = [x, patient + 2 * step, trial, draw, row, duplicate, anatomy, label, x.new_ones(ROWS)]
    own = Batch(*(part[rows] for part in parts))
    if not paired:
        return own
    # Partners are the sample itself, another of its trial, one of another trial; some were read by the other process.
    mates = (torch.arange(ROWS) ^ torch.tensor([0, 1, 2, 3]).repeat(3))[rows]
    return replace(own, partner=replace(Batch(*(part[mates] for part in parts)), draw=own.draw))


def loss_and_gradients(recipe: str, options: dict[str, Any], rows: slice | None = None) -> dict[str, Tensor]:
    """Train two steps on the given rows, or on this process's share, averaging gradients as DDP does.

    Returned are loss and gradients of the second, which what is kept of the first has a part in, and all that is kept.
    """
    module = module_of(recipe, **options).train()
    if rows is None:
        share = ROWS // WORLD
        rows = slice(distributed.get_rank() * share, (distributed.get_rank() + 1) * share)
    optimizer = torch.optim.SGD(module.recipe.groups(module.net, module.params), lr=0.1)
    out: dict[str, Tensor] = {}
    for step in range(2):
        batch = batch_of(rows, step, paired=module.params.positives is not None)
        batch = module.on_after_batch_transfer(module.on_before_batch_transfer(batch, 0), 0)
        optimizer.zero_grad()
        module.training_step(batch, step).backward()
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if distributed.is_initialized():
                distributed.all_reduce(parameter.grad)
                parameter.grad /= WORLD
            out[name] = parameter.grad.clone()
        out["loss"] = torch.tensor(module.mean_losses()["train/loss"])
        optimizer.step()
        module.after_step()
    return out | {f"kept {name}": value.clone() for name, value in module.net.named_buffers()}


REGULARISED = {of: {"of": of, "weight": 0.5, "directions": 16} for of in ("embedding", "projection")}
CASES: list[tuple[str, dict[str, Any]]] = [
    (recipe, {"options": example, "duplicates": cure, "duplicate_weight": 1.0})
    for recipe, kind in RECIPES.items()
    for cure in (("remove",) if kind.duplicates else ("remove", "mask", "weight"))
    for example in OPTIONS[recipe].examples
] + [
    (recipe, {"options": OPTIONS[recipe].examples[0], "duplicates": "remove", "regulariser": REGULARISED[on]})
    for recipe, on in (
        *((recipe, "projection") for recipe in ("simclr", "amcl", "byol", "lejepa")),
        *((recipe, "embedding") for recipe in ("comet", "wearable", "swav")),
    )
]
CASES += [
    (recipe, {"options": OPTIONS[recipe].examples[0], "duplicates": cure, "predict": {"name": name}})
    for recipe, name, cure in (
        ("simclr", "latent", "mask"), ("simclr", "spectrum", "remove"), ("wearable", "latent", "mask"),
        ("byol", "latent", "remove"), ("comet_code", "latent", "remove"), ("swav", "spectrum", "remove"),
        ("simclr", "handcrafted", "mask"), ("wearable", "handcrafted", "remove"), ("comet", "handcrafted", "remove"),
    )
]  # fmt: skip
CASES += [
    (recipe, {"options": options["options"], "duplicates": cure, "positives": {"trial": 0.5, "patient": 0.5}})
    for recipe, options in CASES
    for cure in (("remove",) if RECIPES[recipe].duplicates else ("mask",))
    if options["duplicates"] == "remove" and not RECIPES[recipe].partners
]


def share_of_a_square() -> tuple[Tensor, Tensor, dict[str, float]]:
    rank = distributed.get_rank()
    x = torch.full((2, 3), rank + 1.0, requires_grad=True)
    whole = gather(x)
    whole.square().sum().backward()
    assert x.grad is not None
    return gather(torch.tensor([rank])), x.grad, averaged({"a": float(rank), "b": 4.0})


def of_group(cases: list[tuple[str, dict[str, Any]]]) -> tuple[Any, list[dict[str, Tensor]]]:
    return share_of_a_square(), [loss_and_gradients(*case) for case in cases]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, list[dict[str, Tensor]]]]:
    """What each of two processes finds, of everything: to start one takes longer than a case does."""
    return on_two(of_group, tmp_path_factory.mktemp("two"), CASES)


@pytest.mark.parametrize(
    "case",
    range(len(CASES)),
    ids=[f"{name}-{o['options']}-{o['duplicates']}{'-pairs' * ('positives' in o)}" for name, o in CASES],
)
def test_two_processes_equal_one(case: int, two: list[tuple[Any, list[dict[str, Tensor]]]]) -> None:
    one = loss_and_gradients(*CASES[case], rows=slice(0, ROWS))
    # Without the positive in the denominator, or of logarithms of mean kernels, a loss may be negative, and a surrogate
    # may be anything.
    signed = CASES[case][0] in ("multiview", "sogclr", "sepclr") or "decoupled" in CASES[case][1]["options"]
    assert float(one["loss"]) > 0 or signed
    assert one["loss"].isfinite()
    assert any(g.abs().max() > 1e-4 for n, g in one.items() if n != "loss" and "kept" not in n)
    if CASES[case][1]["duplicates"] != "remove":
        plain = loss_and_gradients(CASES[case][0], CASES[case][1] | {"duplicates": "remove"}, rows=slice(0, ROWS))
        assert (one["loss"] - plain["loss"]).abs() > 1e-3
    for rank in range(WORLD):
        got = two[rank][1][case]
        assert got.keys() == one.keys()
        for name, expected in one.items():
            assert torch.allclose(got[name].float(), expected.float(), atol=1e-5, rtol=1e-5), (rank, name)


def test_gathered_rows_are_in_order_and_their_gradient_undoes_the_average(
    two: list[tuple[Any, list[dict[str, Tensor]]]],
) -> None:
    for rank, ((order, gradient, means), _) in enumerate(two):
        assert order.tolist() == [0, 1]
        # DDP divides by the number of processes afterwards.
        assert torch.equal(gradient, torch.full((2, 3), WORLD * 2 * (rank + 1.0)))
        assert means == {"a": 0.5, "b": 4.0}


def test_a_single_process_gathers_nothing() -> None:
    x = torch.randn(3, 2)
    assert gather(x) is x
    assert averaged({"a": 1.0}) == {"a": 1.0}


Case = tuple[int, dict[str, float] | None]  # nodes, positives
MIXED = {"view": 0.4, "trial": 0.3, "patient": 0.3}
TRAINED: dict[str, Case] = {
    "simclr": (1, None),
    "comet": (2, None),
    "sogclr": (1, None),
    "mochi": (1, MIXED),
    "byol": (2, MIXED),
}


def launched(rank: int, port: int, folder: Path, cases: dict[str, Case], out: Path, nodes: int) -> None:
    """Train all cases as one of two processes that torchrun started, on one node or on two."""
    torch.nn.Dropout.forward = undropped  # type: ignore[method-assign]
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank if nodes == 1 else 0),
        "GROUP_RANK": str(rank if nodes == 2 else 0),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": str(2 // nodes),
    }
    for recipe, (_, positives) in cases.items():
        trained = train(folder, recipe, positives, out / recipe)
        if rank == 0:
            torch.save(trained, out / f"{recipe}.pt")


def undropped(_: torch.nn.Dropout, x: Tensor) -> Tensor:
    """Dropout draws for the rows a process has, so it differs by process as it does by seed."""
    return x


def train(folder: Path, recipe: str, positives: dict[str, float] | None, checkpoints: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    run = Run.model_validate(
        {
            "modality": "x",
            "recipe": recipe,
            "encoder": {"name": "dilated1d", "widths": [6, 8], "depth": 3},
            "pretrain": {
                "epochs": 2,
                "steps_per_epoch": 3,
                "batch": {"patients": 4, "trials": 2, "samples": 2},
                "positives": positives,
                "lr": 1e-3,
                "projection_norm": "layer",
                "monitor_steps": 3,
                "monitor_label": "disease",
                "select": "last",
            },
            "evaluate": {},
        }
    )
    store = open_store(folder / "store", folder / "dedup.parquet", folder / "split.parquet")
    compute = Compute(accelerator="cpu", progress=False)
    fitted = fit(store, run, seed=0, compute=compute, checkpoints=checkpoints)
    return {"weights": fitted.encoder.state_dict(), "history": fitted.history}


@pytest.fixture(scope="module")
def on_nodes(signal_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train all on two processes, of one node or of two; return the folder of what came out."""
    out = tmp_path_factory.mktemp("nodes")
    for nodes in (1, 2):
        cases = {recipe: case for recipe, case in TRAINED.items() if case[0] == nodes}
        mp.spawn(launched, (free_port(), signal_folder, cases, out, nodes), nprocs=WORLD)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("recipe", TRAINED)
def test_training_on_two_processes_ends_where_one_does(
    recipe: str, on_nodes: Path, signal_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.Dropout, "forward", undropped)
    with torch.random.fork_rng():
        one = train(signal_folder, recipe, TRAINED[recipe][1], tmp_path)
    two = torch.load(on_nodes / f"{recipe}.pt")
    assert len(one["history"]) == 2
    for a, b in zip(one["history"], two["history"], strict=True):
        assert a["train/loss"] == pytest.approx(b["train/loss"], abs=1e-4)
    for name, weight in one["weights"].items():
        assert torch.allclose(weight, two["weights"][name], atol=1e-4), name
