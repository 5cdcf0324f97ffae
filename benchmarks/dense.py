"""Objectives over the whole table in plain autograd, which is what ours are compared with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.published import plain_dense
from benchmarks.timing import measured
from medssl import objectives as O


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
    for weights, row in zip(w, scores, strict=True):
        order = weights.argsort()[1:]
        ranked, s = weights[order], row[order]
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


def unit(n: int, number: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [functional.normalize(torch.randn(n, 128, generator=generator)).requires_grad_() for _ in range(number)]


def with_keys(n: int) -> list[Tensor]:
    rows = unit(n, 4)
    return [*rows[:2], *(key.detach() for key in rows[2:])]


def with_measures(n: int) -> list[Tensor]:
    return [*unit(2 * n, 1), torch.randn(n, 4, generator=torch.Generator().manual_seed(2))]


def maps(n: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, 8, 64, generator=generator).mul_(0.3).requires_grad_() for _ in range(2)]


def weighted(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Ours with weights of a block of rows at a time."""

    def loss(z: Tensor, a: Tensor) -> Tensor:
        both = a.repeat(2, 1)
        w = lambda rows: O.kernels.rbf(both[rows], both, sigma=1.0)  # noqa: E731
        out: Tensor = getattr(O.anatomy, name)(z, w, temperature=0.1)
        return out

    return loss


# Ours, the dense form, and the inputs for a batch of n.
OBJECTIVES: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], Callable[[int], list[Tensor]]]] = {
    "nt_xent": (lambda a, b: O.nt_xent(a, b, temperature=0.1), dense_ntxent, lambda n: unit(n, 2)),
    "dcl": (lambda a, b: O.dcl(a, b, temperature=0.1), dense_dcl, lambda n: unit(n, 2)),
    "info_nce": (lambda *qk: O.wearable.info_nce(*qk), dense_info_nce, with_keys),
    "koleo": (lambda z: O.koleo(z), dense_koleo, lambda n: unit(n, 1)),
    "y_aware": (weighted("y_aware"), dense_y_aware, with_measures),
    "exp_weighted": (weighted("exp_weighted"), dense_exp_weighted, with_measures),
    "threshold": (weighted("threshold"), dense_threshold, with_measures),
    "comet.sample": (
        lambda a, b: O.comet.sample(a, b),
        lambda a, b: plain_dense(a.transpose(0, 1), b.transpose(0, 1)),
        maps,
    ),
    "comet.identity": (
        lambda a, b, ids: O.comet.identity(a, b, ids, mode="clean", pool="max"),
        dense_identity,
        lambda n: [*maps(n), torch.arange(n) // 8],
    ),
}


def objective(name: str, side: str, n: int) -> dict[str, float]:
    """Measure one forward and backward pass of a batch of ``n``: ``side`` is ``ours`` or ``dense``."""
    ours, dense, inputs = OBJECTIVES[name]
    function = ours if side == "ours" else dense

    def work(of: list[Tensor]) -> float:
        loss = function(*of)
        loss.backward()
        return float(loss.detach())

    work(inputs(8))  # libraries load on first use
    whole = inputs(n)
    value, seconds, processor, gigabytes = measured(lambda: work(whole))
    return {"value": value, "seconds": seconds, "processor": processor, "gigabytes": gigabytes}
