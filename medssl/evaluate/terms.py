"""Losses of fine-tuning with a term on embeddings, and the table of all losses by name.

Letters as in `medssl.evaluate.losses`. A loss may train a projection of its own; predictions do not need it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import normalize

from medssl.evaluate.losses import ALDR, LDR, BinaryCrossEntropy, CrossEntropy, Huber, Loss
from medssl.models.heads import Projection
from medssl.objectives import conr, pairs, rows
from medssl.objectives.pairs import Cells


def beta(concentration: float) -> Tensor:
    """Return a random number () of Beta(concentration, concentration), by torch's global generator."""
    return torch.distributions.Beta(concentration, concentration).sample()


def harder(embedded: Tensor, target: Tensor, shares: tuple[Tensor, Tensor], order: Tensor) -> tuple[Tensor, Tensor]:
    """Return two mixtures of each embedding (2B, D), and their soft labels (2B, K).

    A mixed negative is ``(1 - l) f_i + l f_order(i)``. A mixed positive is ``l f_p + (1 - l) f_n``: p is the sample of
    the same class that is least like it, n the one of another class that is most like it, by the cosine. A sample that
    has no such other stands in for it.

    Args:
        embedded: (B, D).
        target: (B, K) one-hot.
        shares: l of the negatives, and of the positives.
        order: (B,) a random order.

    Source: Zhang et al. 2021 (Core-tuning). Deliberate difference from the released code: what is no positive is
    masked, where the code searches the least of a matrix that is 0 there.
    """
    unit = normalize(embedded.detach().float(), dim=1)
    likeness, same = unit @ unit.T, target @ target.T > 0
    own = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    positive, negative = same & ~own, ~same
    number = torch.arange(len(unit), device=unit.device)
    p = torch.where(positive.any(1), likeness.masked_fill(~positive, torch.inf).argmin(1), number)
    n = torch.where(negative.any(1), likeness.masked_fill(~negative, -torch.inf).argmax(1), number)
    away, pulled = shares

    def mixed(x: Tensor) -> Tensor:
        return torch.cat([(1 - away) * x + away * x[order], pulled * x[p] + (1 - pulled) * x[n]])

    return mixed(embedded), mixed(target)


@rows.without_autocast
def focal_contrast(z: Tensor, classes: Tensor, *, temperature: float) -> Tensor:
    """Return the focal supervised contrast of unit rows (N, d): positives are other rows of the same class (N,).

    Source: Zhang et al. 2021 (Core-tuning), with the mean over a row's positives.
    """
    (z,) = rows.full_precision(z)
    same = pairs.kernel((classes[:, None] == classes).to(z.dtype), z)
    return rows.contrast(z, None, same, rows.focal, temperature=temperature)


class CoreTuning(CrossEntropy):
    """Cross-entropy on embeddings and on hard mixtures of them, plus focal contrast of a projection of the same rows.

    Rows of the same soft label are of one class to the contrast.

    Source: Zhang et al. 2021 (Core-tuning), with one share of a mixture a batch, as released: at least 0.8 of the other
    sample in a mixed negative. The contrast is the clean mean over positives, of weight 1, in place of 10 times a sum
    divided by the number of rows.
    """

    weight, temperature, least = 1.0, 0.07, 0.8

    def __init__(self, samples: int, dim: int = 1) -> None:
        super().__init__(samples, dim)
        self.projection = Projection(dim, 256, norm="none")

    def of_embeddings(self, head: nn.Module, embedded: Tensor, truth: Tensor, ids: Tensor) -> Tensor:
        """Return the sum of both."""
        scores = head(embedded)
        target = functional.one_hot(truth, scores.shape[1]).to(scores.dtype)
        shares = (beta(1).clamp_min(self.least).to(scores), beta(1).to(scores))
        order = torch.randperm(len(truth), device=truth.device)
        mixed, soft = harder(embedded, target, shares, order)
        every, targets = torch.cat([embedded, mixed]), torch.cat([target, soft])
        # Rounded, so that a class mixed with itself is that class.
        _, classes = (targets * 1e4).round().unique(dim=0, return_inverse=True)
        z = normalize(self.projection(every), dim=1)
        entropy = functional.cross_entropy(torch.cat([scores, head(mixed)]), targets)
        return entropy + self.weight * focal_contrast(z, classes, temperature=self.temperature)


@rows.without_autocast
def mixed_contrast(z: Tensor, classes: Tensor, *, share: Tensor, order: Tensor, temperature: float) -> Tensor:
    """Return the contrast of mixtures with the rows that are not in them, by soft targets.

    Row i is the unit ``l_i z_i + (1 - l_i) z_order(i)``. Its positives are the rows of either class, with the weights
    l_i and 1 - l_i, which add up where both are the same.

    Args:
        z: (N, d) unit rows.
        classes: (N,).
        share: (N,) l, or () of all.
        order: (N,) a random order.
        temperature: divides the dot products.

    Source: Venkataramanan et al. 2022 (It Takes Two to Tango), mixtures whose labels are interpolated. Deliberate
    difference: the loss is a cross-entropy with soft targets, as in the mixup of several modalities (M3CoL).
    """
    (z,) = rows.full_precision(z)
    share = share.to(z.dtype).expand(len(z))
    mixed = normalize(share[:, None] * z + (1 - share[:, None]) * z[order], dim=1)
    number = torch.arange(len(z), device=z.device)

    def cells(block: slice) -> Cells:
        first, second, part = classes[block, None], classes[order[block], None], share[block, None]
        other = (number != number[block, None]) & (number != order[block, None])
        target = (part * (first == classes) + (1 - part) * (second == classes)) * other
        told = (other & (target == 0)).any(1, keepdim=True)
        return Cells((target * told).detach(), other)

    return rows.contrast(mixed, z, cells, rows.softmax, temperature=temperature)


class MetricMixup(CrossEntropy):
    """Cross-entropy plus `mixed_contrast` of a projection.

    Source: see `mixed_contrast`; shares of Beta(2, 2) and the weight 0.4 as published.
    """

    weight, temperature, concentration = 0.4, 0.1, 2.0

    def __init__(self, samples: int, dim: int = 1) -> None:
        super().__init__(samples, dim)
        self.projection = Projection(dim, 64, norm="none")

    def of_embeddings(self, head: nn.Module, embedded: Tensor, truth: Tensor, ids: Tensor) -> Tensor:
        """Return the sum of both."""
        z = normalize(self.projection(embedded), dim=1)
        order = torch.randperm(len(truth), device=truth.device)
        share = beta(self.concentration).to(z)
        apart = mixed_contrast(z, truth, share=share, order=order, temperature=self.temperature)
        return self(head(embedded), truth, ids) + self.weight * apart


class ConR(Huber):
    """Huber plus ConR of the embeddings, for numbers of which some are rare.

    Numbers are standardised here, so what is published for years of age is divided by a standard deviation of about 16
    of them. With depth ``head`` there are no embeddings to move, and the term does nothing.

    Source: Keramati et al. 2024; see `medssl.objectives.conr`.
    """

    weight, temperature, omega, eta = 0.25, 0.2, 1 / 16, 0.16

    def of_embeddings(self, head: nn.Module, embedded: Tensor, truth: Tensor, ids: Tensor) -> Tensor:
        """Return the sum of both."""
        scores, z = head(embedded), normalize(embedded, dim=1)
        apart = conr.conr(z, truth[:, 0], scores[:, 0], temperature=self.temperature, omega=self.omega, eta=self.eta)
        return self(scores, truth, ids) + self.weight * apart


LOSSES: dict[str, Callable[[int, int], Loss]] = {
    "cross_entropy": CrossEntropy,
    "label_smoothing": partial(CrossEntropy, smoothing=0.1),
    "ldr": LDR,
    "aldr": ALDR,
    "core_tuning": CoreTuning,
    "metric_mixup": MetricMixup,
    "binary_cross_entropy": BinaryCrossEntropy,
    "huber": Huber,
    "conr": ConR,
}
USUAL = {"class": "cross_entropy", "multilabel": "binary_cross_entropy", "number": "huber"}


def build(name: str | None, *, kind: str, samples: int, dim: int = 1) -> Loss:
    """Return a loss by its name, or the usual one of a kind of task.

    Args:
        name: key of `LOSSES`; None for that of `USUAL`.
        kind: of the task: ``class``, ``multilabel`` or ``number``.
        samples: number of training samples.
        dim: of the embeddings.

    Raises:
        ValueError: an unknown name, or a loss for another kind of task.
    """
    name = name or USUAL[kind]
    fitting = [key for key, made in LOSSES.items() if getattr(made, "func", made).kind == kind]  # type: ignore[union-attr]
    if name not in fitting:
        raise ValueError(f"loss '{name}' is not one for a {kind} task; allowed: {', '.join(fitting)}")
    return LOSSES[name](samples, dim)
