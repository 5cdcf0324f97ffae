"""InfoNCE against a memory: a query and its key, told apart from the keys of earlier batches.

Letters: n queries, Q keys in memory, S further negatives of each query, d embedding channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.objectives.rows import full_precision, without_autocast, zero


@without_autocast
def memory_contrast(
    q: Tensor,
    k: Tensor,
    memory: Tensor,
    *,
    temperature: float,
    ignore: Tensor | None = None,
    synthetic: Tensor | None = None,
    usable: Tensor | None = None,
    anchors: Tensor | None = None,
    positive: Tensor | None = None,
) -> Tensor:
    """Return InfoNCE of each query and its key against the memory, and against negatives of its own.

    Args:
        q: (n, d) unit queries.
        k: (n, d) unit keys, which get no gradient.
        memory: (Q, d) unit keys of other samples.
        temperature: divides the dot products.
        ignore: (n, Q) bool, keys left out.
        synthetic: (n, S, d) further negatives of each query.
        usable: (n, S) bool, which of them count; None: all.
        anchors: () what to divide by; None: the number of queries with a negative.
        positive: (n,) score of each query with what it is pulled to, with gradient; None: that of its key.

    Returns:
        The mean over queries with at least one negative; without any a zero that carries a gradient.

    Source: He et al. 2020 (MoCo), Kalantidis et al. 2020 (MoCHi).
    """
    q, k, memory = full_precision(q, k, memory)
    negative = q @ memory.detach().T
    negative = negative if ignore is None else negative.masked_fill(ignore, -torch.inf)
    if synthetic is not None:
        more = torch.einsum("nd,nsd->ns", q, synthetic.detach().to(q.dtype))
        negative = torch.cat([negative, more if usable is None else more.masked_fill(~usable, -torch.inf)], 1)
    some = negative.isfinite().any(1).to(q.dtype)
    own = (q * k.detach()).sum(1) if positive is None else positive.to(q.dtype)
    logits = torch.cat([own[:, None], negative], 1) / temperature
    loss = logits.logsumexp(1) - logits[:, 0]
    number = some.sum() if anchors is None else anchors
    return (loss * some).sum() / number.clamp_min(torch.finfo(q.dtype).tiny) + zero(q)
