"""The contrastive core against the obvious alternatives, in one run on one machine.

    python benchmarks/contrast.py [--batch 256] [--steps 3] [--objectives 4096] [--plot cost.png]

1. One COMET step (forward passes, four losses, backward, optimiser, running average) against a plain transcription of
   the published step: eight forward passes through ordinary convolutions, full similarity tensors. Same weights, same
   batch; the losses are compared without dropout on the same masks.
2. Each objective against its dense form in plain autograd: time, and memory above the inputs.
3. Loader and sampler as a share of a step.
4. The cost of a step against batch size and window length, as a plot.

Each measurement runs in a process of its own, so that peak memory means something. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from medssl import objectives as O
from medssl.config import Pretrain
from medssl.models import build
from medssl.pretrain.data import Batch
from medssl.pretrain.fit import keep_freed_memory
from medssl.pretrain.module import Contrast
from medssl.pretrain.recipes import RECIPES

CHANNELS, LENGTH = 15, 300
LEVELS = {"patient": 0.1, "trial": 0.7, "sample": 0.1, "observation": 0.1}
NAMES = ("patient", "trial", "sample", "observation")


# --- 1. The published step, transcribed from its specification ------------------------------------------------------


class PlainBlock(nn.Module):
    """The residual block with ordinary convolutions; parameter names as in the encoder under test."""

    def __init__(self, inputs: int, outputs: int, dilation: int, project: bool) -> None:
        super().__init__()
        self.first = nn.Conv1d(inputs, outputs, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv1d(outputs, outputs, 3, padding=dilation, dilation=dilation)
        self.skip = nn.Conv1d(inputs, outputs, 1) if project else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.second(functional.gelu(self.first(functional.gelu(x))))
        return h + (x if self.skip is None else self.skip(x))


class PlainEncoder(nn.Module):
    """Linear, mask, eleven blocks, dropout."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inputs = nn.Linear(channels, 64)
        blocks = [PlainBlock(64, 64, 2**i, False) for i in range(10)]
        self.blocks = nn.Sequential(*blocks, PlainBlock(64, 320, 2**10, True))
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        h = self.inputs(x)
        if keep is not None:
            h = h * keep[..., None]
        return self.dropout(self.blocks(h.transpose(1, 2))).transpose(1, 2)


def plain_dense(z1: Tensor, z2: Tensor) -> Tensor:
    """Contrast over the second axis, full similarity tensor."""
    n = z1.shape[1]
    z = torch.cat([z1, z2], dim=1)
    scores = torch.matmul(z, z.transpose(1, 2))
    scores = scores.masked_fill(torch.eye(2 * n, dtype=torch.bool), -torch.inf)
    logs = -functional.log_softmax(scores, dim=-1)
    first = torch.arange(n)
    return (logs[:, first, first + n].mean() + logs[:, first + n, first].mean()) / 2


def plain_pyramid(z1: Tensor, z2: Tensor, over_batch: bool) -> Tensor:
    """The same at every length from T down to 2, max-pooled in between."""
    terms = []
    while z1.shape[1] > 1:
        pair = (z1.transpose(0, 1), z2.transpose(0, 1)) if over_batch else (z1, z2)
        terms.append(plain_dense(*pair))
        z1, z2 = (functional.max_pool1d(z.transpose(1, 2), 2).transpose(1, 2) for z in (z1, z2))
    return torch.stack(terms).mean()


def plain_identity(z1: Tensor, z2: Tensor, ids: Tensor) -> Tensor:
    """Same-id pairs as coded: only the earlier index of a pair is an anchor, in either direction."""
    u1, u2 = (functional.normalize(z, dim=1).reshape(len(z), -1) for z in (z1, z2))
    scores = u1 @ u2.T / z1.shape[2] / 0.1
    same = ids[:, None] == ids[None]
    rows, columns = same.triu(1), same.tril(-1)
    upper = (scores.logsumexp(1)[:, None] - scores)[rows].mean()
    lower = (scores.logsumexp(0)[None] - scores)[columns].mean()
    return (upper + lower) / 2


def plain_loss(encoder: nn.Module, x: Tensor, ids: dict[str, Tensor], keep: list[Tensor]) -> Tensor:
    """Eight passes, four losses; the weights count on the two dense levels."""
    z = {}
    for level in NAMES:
        masks = (None, None) if level in ids else keep
        z[level] = [encoder(x, mask) for mask in masks]
    loss = plain_identity(*z["patient"], ids["patient"]) + plain_identity(*z["trial"], ids["trial"])
    loss = loss + LEVELS["sample"] * plain_pyramid(*z["sample"], over_batch=True)
    return loss + LEVELS["observation"] * plain_pyramid(*z["observation"], over_batch=False)


def comet_batch(size: int, length: int = LENGTH) -> Batch:
    """A batch of noise: ten samples a trial, four trials a patient."""
    x = torch.randn(size, CHANNELS, length, generator=torch.Generator().manual_seed(0))
    number = torch.arange(size)
    return Batch(x, x, x, x[:, None, :0], number // 40, number // 10, x.new_zeros(size, 0), number, number)


def contrast_net(**options: Any) -> Contrast:
    """The recipe under test, with fixed initial weights."""
    torch.manual_seed(0)
    params = Pretrain(levels=LEVELS, lr=1e-4, weight_decay=0.01, **options)
    return Contrast(build("dilated1d", in_channels=CHANNELS), RECIPES["comet_code"], params, steps=100)


def comet_step(kind: str, size: int, length: int, steps: int) -> dict[str, float]:
    """Time steps of one kind: ``published``, ``medssl`` or ``medssl-bf16``; the first is a warm-up."""
    batch, net = comet_batch(size, length), contrast_net()
    encoder: nn.Module = net.encoder
    if kind == "published":
        encoder = PlainEncoder(CHANNELS)
        encoder.load_state_dict(net.encoder.state_dict())
    else:
        keep_freed_memory()
    average = AveragedModel(encoder)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-4)
    seconds = []
    for step in range(steps + 1):
        begin = time.perf_counter()
        if kind == "published":
            keep = [torch.rand(size, length) > 0.4 for _ in range(2)]
            x = batch.x.transpose(1, 2)
            loss = plain_loss(encoder, x, {"patient": batch.patient, "trial": batch.trial}, keep)
        else:
            shown = Batch(**{**batch.__dict__, "draw": batch.draw + step * size})
            shown = net.on_after_batch_transfer(net.on_before_batch_transfer(shown, 0), 0)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind == "medssl-bf16"):
                loss = net.training_step(shown, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update_parameters(encoder)
        seconds.append(time.perf_counter() - begin)
    return {"seconds": statistics.median(seconds[1:]), "loss": float(loss.detach())}


def comet_equal(size: int) -> dict[str, float]:
    """The losses of the three kinds without dropout, on the same masks."""
    batch, net = comet_batch(size), contrast_net()
    net.encoder.dropout.p = 0.0  # type: ignore[union-attr, assignment]
    plain = PlainEncoder(CHANNELS)
    plain.load_state_dict(net.encoder.state_dict())
    plain.dropout.p = 0.0
    with torch.no_grad():
        shown = net.on_after_batch_transfer(batch, 0)
        from medssl.views.masks import MASKS

        keep = [MASKS["continuous"](net.draws.fork(10 + k), LENGTH, 64) for k in range(2)]
        published = plain_loss(plain, batch.x.transpose(1, 2), {"patient": batch.patient, "trial": batch.trial}, keep)
        ours = net.recipe.step(net, shown)["loss"]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = net.recipe.step(net, shown)["loss"]
    return {"published": float(published), "medssl": float(ours), "medssl-bf16": float(half)}


# --- 2. Objectives against their dense forms -------------------------------------------------------------------------


def dense_scores(z: Tensor, temperature: float) -> Tensor:
    """All cells, -inf on the diagonal."""
    return (z @ z.T / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)


def dense_ntxent(z1: Tensor, z2: Tensor) -> Tensor:
    scores = dense_scores(torch.cat([z1, z2]), 0.1)
    n = len(z1)
    return functional.cross_entropy(scores, torch.arange(2 * n).roll(n))


def dense_dcl(z1: Tensor, z2: Tensor) -> Tensor:
    scores, n = dense_scores(torch.cat([z1, z2]), 0.1), len(z1)
    partner = torch.arange(2 * n).roll(n)[:, None]
    positive = scores.gather(1, partner)
    return (scores.scatter(1, partner, -torch.inf).logsumexp(1, keepdim=True) - positive).mean()


def dense_info_nce(q1: Tensor, q2: Tensor, k1: Tensor, k2: Tensor) -> Tensor:
    own = torch.arange(len(q1))
    return (functional.cross_entropy(q1 @ k2.T / 0.04, own) + functional.cross_entropy(q2 @ k1.T / 0.04, own)) / 2


def dense_koleo(z: Tensor) -> Tensor:
    distance = (2 - 2 * z @ z.T).clamp_min(1e-12).sqrt()
    distance = distance.masked_fill(torch.eye(len(z), dtype=torch.bool), torch.inf)
    return -(distance.min(1).values + 1e-8).log().mean()


def dense_weights(a: Tensor) -> Tensor:
    distance = (a[:, None] - a[None]).square().mean(2)
    return torch.exp(-distance / 2).repeat(2, 2).fill_diagonal_(0)


def dense_y_aware(z: Tensor, a: Tensor) -> Tensor:
    w = dense_weights(a)
    logs = -functional.log_softmax(dense_scores(z, 0.1), dim=1)
    return (w * logs.masked_fill(w == 0, 0)).sum(1).div(w.sum(1)).mean()


def dense_exp_weighted(z: Tensor, a: Tensor) -> Tensor:
    w, eye = dense_weights(a), torch.eye(len(z), dtype=torch.bool)
    scores = z @ z.T / 0.1
    lse = (scores * (1 - w)).masked_fill(eye, -torch.inf).logsumexp(1, keepdim=True)
    return (w * (lse - scores)).sum(1).div(w.sum(1)).mean()


def dense_threshold(z: Tensor, a: Tensor) -> Tensor:
    """A row at a time: all cells against all cells of a row would not fit."""
    w, scores, terms = dense_weights(a), dense_scores(z, 0.1), []
    for k in range(len(z)):
        order = w[k].argsort()[1:]
        ranked, s = w[k, order], scores[k, order]
        below = torch.searchsorted(ranked, ranked)
        lse = s.logcumsumexp(0)[(below - 1).clamp_min(0)]
        counted = ranked * (below > 0)
        terms.append((counted * (lse - s)).sum() / counted.sum())
    return torch.stack(terms).mean()


def dense_identity(z1: Tensor, z2: Tensor, ids: Tensor) -> Tensor:
    u1, u2 = (functional.normalize(z.amax(1), dim=1) for z in (z1, z2))
    scores = u1 @ u2.T / 0.1
    same = (ids[:, None] == ids[None]).fill_diagonal_(False)
    rows = (scores.logsumexp(1)[:, None] - scores)[same].mean()
    return (rows + (scores.logsumexp(0)[None] - scores)[same].mean()) / 2


def measures(n: int) -> Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(2))


def weighted(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Ours with weights of a block of rows at a time."""

    def loss(z: Tensor, a: Tensor) -> Tensor:
        both = a.repeat(2, 1)
        w = lambda rows: O.kernels.rbf(both[rows], both, sigma=1.0)  # noqa: E731
        out: Tensor = getattr(O.anatomy, name)(z, w, temperature=0.1)
        return out

    return loss


def objective_case(name: str, n: int) -> tuple[Callable[..., Tensor], Callable[..., Tensor], list[Tensor]]:
    """Ours, the dense form, and the inputs."""
    generator = torch.Generator().manual_seed(1)
    unit = [functional.normalize(torch.randn(n, 128, generator=generator), dim=1).requires_grad_() for _ in range(4)]
    pair, both = unit[:2], torch.cat(unit[:2]).detach().requires_grad_()
    maps = [torch.randn(n, 8, 64, generator=generator).mul_(0.3).requires_grad_() for _ in range(2)]
    return {
        "nt_xent": (lambda a, b: O.nt_xent(a, b, temperature=0.1), dense_ntxent, pair),
        "dcl": (lambda a, b: O.dcl(a, b, temperature=0.1), dense_dcl, pair),
        "info_nce": (O.wearable.info_nce, dense_info_nce, [*pair, *(k.detach() for k in unit[2:])]),
        "koleo": (O.koleo, dense_koleo, pair[:1]),
        "y_aware": (weighted("y_aware"), dense_y_aware, [both, measures(n)]),
        "exp_weighted": (weighted("exp_weighted"), dense_exp_weighted, [both, measures(n)]),
        "threshold": (weighted("threshold"), dense_threshold, [both, measures(n)]),
        "comet.sample": (O.comet.sample, lambda a, b: plain_dense(a.transpose(0, 1), b.transpose(0, 1)), maps),
        "comet.identity": (
            lambda a, b, ids: O.comet.identity(a, b, ids, mode="clean", pool="max"),
            dense_identity,
            [*maps, torch.arange(n) // 8],
        ),
    }[name]


OBJECTIVES = (
    "nt_xent",
    "dcl",
    "info_nce",
    "koleo",
    "y_aware",
    "exp_weighted",
    "threshold",
    "comet.sample",
    "comet.identity",
)


def objective(name: str, side: str, n: int) -> dict[str, float]:
    """Value, seconds and peak memory above the inputs of one forward and backward."""
    ours, dense, inputs = objective_case(name, n)
    function = ours if side == "ours" else dense
    small = [x.detach()[:8].clone().requires_grad_(x.requires_grad) for x in inputs]
    if name in ("y_aware", "exp_weighted", "threshold"):
        small[1] = inputs[1][:4]
    function(*small).backward()  # libraries load on first use
    before = peak_gb()
    begin = time.perf_counter()
    loss = function(*inputs)
    loss.backward()
    return {
        "value": float(loss.detach()),
        "seconds": time.perf_counter() - begin,
        "gigabytes": max(peak_gb() - before, 1e-3),
    }


# --- 3. Loader and sampler -------------------------------------------------------------------------------------------


def loading() -> dict[str, float]:
    """Seconds per batch of sampler and loader on a store of 20,000 windows, and of a training step on it."""
    import numpy as np
    import pandas as pd

    from medssl.pretrain.data import Samples, Standard, collate
    from medssl.pretrain.sampler import HierarchicalBatches
    from medssl.store import Writer, open_store
    from medssl.table import content_hash, sample_id

    with tempfile.TemporaryDirectory() as folder:
        facts = {"modality": "ecg", "shape": [CHANNELS, LENGTH], "unit": "mV", "params": {}, "anatomy_units": {}}
        rng, noise = np.random.default_rng(0), np.random.default_rng(1).standard_normal((64, CHANNELS, LENGTH))
        with Writer(f"{folder}/store", facts) as writer:
            for k in range(20_000):
                x = (noise[k % 64] + rng.random()).astype(np.float32)
                content, codes = content_hash(x), (k // 40, k // 10)
                row = {"sample_id": sample_id(content, *codes, k % 10), "patient": codes[0], "trial": codes[1]}
                row |= {"index_in_trial": k % 10, "content": content, "source": "noise", "quality": 1.0, "fold": 1.0}
                row |= {"modality": "ecg", "rate_hz": 250.0, "spacing_mm": None, "unit": "mV", "channels": ["a"]}
                writer.add(x, row | {"start_s": 0.0, "duration_s": 1.2})
        store = open_store(f"{folder}/store")
        table: pd.DataFrame = store.table
        rows = np.arange(len(table))
        sampler = HierarchicalBatches(table, rows, patients=16, trials=2, samples=8, steps=20)
        begin = time.perf_counter()
        batches = list(sampler)
        drawn = (time.perf_counter() - begin) / len(batches)
        samples = Samples(store, Standard.fit(table, ()), seed=0)
        begin = time.perf_counter()
        for batch in batches:
            loaded = collate([samples[key] for key in batch])
        read = (time.perf_counter() - begin) / len(batches)
        assert loaded.x.shape == (256, CHANNELS, LENGTH)
    return {"sampler": drawn, "loader": read}


# --- Running and printing --------------------------------------------------------------------------------------------


def peak_gb() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def child(*arguments: object) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    out: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return out


def measure(what: str, *rest: str) -> dict[str, float]:
    """Dispatch in the child."""
    if what == "step":
        result = comet_step(rest[0], *map(int, rest[1:]))
    elif what == "equal":
        result = comet_equal(int(rest[0]))
    elif what == "objective":
        result = objective(rest[0], rest[1], int(rest[2]))
    else:
        result = loading()
    return {**result, "peak_gb": peak_gb()}


def plot(path: Path) -> None:
    """Draw the cost of a step against batch size and window length."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    sizes, lengths = (32, 64, 128), (75, 150, 300)
    for kind in ("published", "medssl", "medssl-bf16"):
        left.loglog(sizes, [child("step", kind, b, LENGTH, 1)["seconds"] for b in sizes], "o-", label=kind)
        right.loglog(lengths, [child("step", kind, 64, t, 1)["seconds"] for t in lengths], "o-", label=kind)
    left.set(
        xlabel=f"batch size (windows of {LENGTH} steps)", ylabel="seconds per step", xticks=sizes, xticklabels=sizes
    )
    right.set(xlabel="window length (batch of 64)", xticks=lengths, xticklabels=lengths)
    for axes in (left, right):
        axes.minorticks_off()
        axes.grid(True, which="major", alpha=0.3)
    left.legend()
    figure.suptitle("One COMET step")
    figure.savefig(path, dpi=110)
    print(f"plot: {path}")


def main() -> None:
    """Run everything and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--objectives", type=int, default=4096, help="batch size of part 2; 0 leaves it out")
    parser.add_argument("--plot", type=Path, help="draw part 4 there")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(*args.child)))
        return
    ratios: dict[str, float] = {}

    print(
        f"COMET step, [{args.batch}, {LENGTH}, {CHANNELS}], median of {args.steps}, {torch.get_num_threads()} threads"
    )
    steps = {k: child("step", k, args.batch, LENGTH, args.steps) for k in ("published", "medssl", "medssl-bf16")}
    equal = child("equal", min(args.batch, 64))
    base = steps["published"]
    print(f"{'':14}{'seconds':>9}{'speed':>8}{'peak GB':>9}{'memory':>8}{'loss*':>12}")
    for kind, row in steps.items():
        speed, memory = base["seconds"] / row["seconds"], row["peak_gb"] / base["peak_gb"]
        print(f"{kind:14}{row['seconds']:9.2f}{speed:8.2f}{row['peak_gb']:9.2f}{memory:8.2f}{equal[kind]:12.6f}")
        name = kind.replace("medssl", "step").replace("-", "_")
        if kind != "published":
            ratios |= {f"{name}_speedup": speed, f"{name}_memory": memory}
            ratios[f"{name}_loss"] = equal[kind] / equal["published"]
    print("* without dropout, same masks, batch 64")

    cost = child("loading")
    share = (cost["sampler"] + cost["loader"]) / steps["medssl"]["seconds"]
    print(
        f"\nsampler {cost['sampler'] * 1e3:.2f} ms, loader {cost['loader'] * 1e3:.1f} ms a batch: {share:.2%} of a step"
    )
    ratios["loading_share"] = share

    if args.objectives:
        print(f"\nobjectives at batch {args.objectives}: one forward and backward, memory above the inputs")
        print(f"{'':16}{'dense s':>9}{'ours s':>9}{'speed':>8}{'dense GB':>10}{'ours GB':>9}{'memory':>8}{'value':>10}")
        for name in OBJECTIVES:
            dense, ours = (child("objective", name, side, args.objectives) for side in ("dense", "ours"))
            assert abs(dense["value"] - ours["value"]) < 1e-3 * max(1.0, abs(dense["value"])), (name, dense, ours)
            speed, memory = dense["seconds"] / ours["seconds"], ours["gigabytes"] / dense["gigabytes"]
            print(
                f"{name:16}{dense['seconds']:9.2f}{ours['seconds']:9.2f}{speed:8.2f}{dense['gigabytes']:10.2f}"
                f"{ours['gigabytes']:9.2f}{memory:8.2f}{ours['value']:10.4f}"
            )
            ratios |= {f"{name}_speedup": speed, f"{name}_memory": memory}
    if args.plot:
        plot(args.plot)
    print(json.dumps({k: round(v, 4) for k, v in ratios.items()}))


if __name__ == "__main__":
    main()
