"""What fine-tuning minimises, by name: for classes, several labels at once, or numbers; two for noisy labels.

Letters: B samples, K classes or labels, D dimensions of an embedding. A loss takes ``scores`` (B, K) of a network,
``truth`` and the samples' own numbers ``ids`` (B,), and gives the batch's mean; its `Loss.predict` turns scores into
what is reported. ``truth`` is (B,) int64 for classes, (B, K) float32 of 0 and 1 for labels, and (B, 1) float32 for a
number. Losses with a term on embeddings are in `medssl.evaluate.terms`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

SMOOTHING = 1e-5  # keeps the logarithm of a share that became 0 finite, as in the released code of ALDR


class Loss(nn.Module):
    """A loss; ``kind`` is the kind of task it is for.

    Args:
        samples: number of training samples, of which ``ids`` count from 0; for losses that keep something of each.
        dim: D; for losses that train something on embeddings.
    """

    kind: str

    def __init__(self, samples: int, dim: int = 1) -> None:
        super().__init__()
        self.samples, self.dim = samples, dim

    def of_embeddings(self, head: nn.Module, embedded: Tensor, truth: Tensor, ids: Tensor) -> Tensor:
        """Return the mean loss of a batch of embeddings (B, D), of which ``head`` makes scores."""
        return self(head(embedded), truth, ids)

    def forward(self, scores: Tensor, truth: Tensor, ids: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        raise NotImplementedError

    def predict(self, scores: Tensor) -> Tensor:
        """Return shares of classes, probabilities of labels or numbers (B, K)."""
        raise NotImplementedError


class CrossEntropy(Loss):
    """Cross-entropy; ``smoothing`` is the share of each label that goes to all classes alike.

    Source: Szegedy et al. 2016 for the smoothing.
    """

    kind = "class"

    def __init__(self, samples: int, dim: int = 1, *, smoothing: float = 0.0) -> None:
        super().__init__(samples, dim)
        self.smoothing = smoothing

    def forward(self, scores: Tensor, truth: Tensor, ids: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        return functional.cross_entropy(scores, truth, label_smoothing=self.smoothing)

    def predict(self, scores: Tensor) -> Tensor:
        """Return the softmax."""
        return scores.softmax(1)


class BinaryCrossEntropy(Loss):
    """Binary cross-entropy, averaged over labels."""

    kind = "multilabel"

    def forward(self, scores: Tensor, truth: Tensor, ids: Tensor) -> Tensor:
        """Return the mean over samples and labels."""
        return functional.binary_cross_entropy_with_logits(scores, truth)

    def predict(self, scores: Tensor) -> Tensor:
        """Return the logistic function."""
        return scores.sigmoid()


class Huber(Loss):
    """Squared up to one (standard deviation, where numbers are standardised), linear beyond."""

    kind = "number"

    def forward(self, scores: Tensor, truth: Tensor, ids: Tensor) -> Tensor:
        """Return the mean."""
        return functional.huber_loss(scores, truth)

    def predict(self, scores: Tensor) -> Tensor:
        """Return the scores themselves."""
        return scores


def positive(scores: Tensor) -> Tensor:
    """Return scores (B, K) made positive by softplus and divided by their mean over the classes."""
    raised = functional.softplus(scores)
    return raised / raised.mean(1, keepdim=True)


def ldr(shares: Tensor, truth: Tensor, *, margin: float, strength: Tensor) -> Tensor:
    """Return each sample's loss (B,): strength * log mean_k exp((margin [k != truth] + f_k - f_truth) / strength).

    Args:
        shares: f, of `positive`, (B, K).
        truth: (B,).
        margin: by which the true class should lead.
        strength: (B,), the lambda of the paper. Large: the mean margin that is missed, which forgives a wrong label.
            Small: the largest. 1 without margin: cross-entropy less log K.
    """
    classes = shares.shape[1]
    missed = margin * (1 - functional.one_hot(truth, classes)) + shares - shares.gather(1, truth[:, None])
    return strength * ((missed / strength[:, None]).logsumexp(1) - math.log(classes))


class LDR(Loss):
    """Label-distributionally robust loss, for labels of which some are wrong.

    Source: Zhu et al. 2023 (ICML), with the published margin 2 and strength 1. `predict` gives shares that rank
    classes; they are no calibrated probabilities, because of the margin.
    """

    kind = "class"

    def __init__(self, samples: int, dim: int = 1, *, margin: float = 2.0, strength: float = 1.0) -> None:
        super().__init__(samples, dim)
        self.margin, self.strength = margin, strength

    def forward(self, scores: Tensor, truth: Tensor, ids: Tensor) -> Tensor:
        """Return the mean of `ldr`."""
        strength = torch.full((len(scores),), self.strength, dtype=scores.dtype, device=scores.device)
        return ldr(positive(scores), truth, margin=self.margin, strength=strength).mean()

    def predict(self, scores: Tensor) -> Tensor:
        """Return the softmax of `positive`, at the loss's strength."""
        return (positive(scores) / self.strength).softmax(1)


class ALDR(LDR):
    """`LDR` whose strength is each sample's own: less where the network is sure, the full one where it is not.

    When a sample is seen, its strength becomes l - l KL(softmax(f / its last strength) || uniform) / (spread log K),
    between (1 - 1 / spread) l and l, where l is ``strength``. The loss adds -spread log K (its own - l)^2 / (2 l),
    which no gradient reaches.

    Attributes:
        own: (samples,) strengths.

    Source: Zhu et al. 2023 (ICML) and its released code.
    """

    own: Tensor

    def __init__(
        self, samples: int, dim: int = 1, *, margin: float = 2.0, strength: float = 1.0, spread: float = 2.0
    ) -> None:
        super().__init__(samples, dim, margin=margin, strength=strength)
        self.spread = spread
        self.register_buffer("own", torch.full((samples,), strength))

    def forward(self, scores: Tensor, truth: Tensor, ids: Tensor) -> Tensor:
        """Return the mean loss, after the strengths of ``ids`` were brought up to date."""
        shares, wide = positive(scores), self.spread * math.log(scores.shape[1])
        with torch.no_grad():
            sure = (shares / self.own[ids, None].to(shares.dtype)).softmax(1) + SMOOTHING
            sure = sure / sure.sum(1, keepdim=True)
            distance = (sure * (sure * scores.shape[1]).log()).sum(1)
            own = self.strength * (1 - distance / wide)
            self.own[ids] = own.to(self.own.dtype)
        added = wide / (2 * self.strength) * (own - self.strength).square()
        return (ldr(shares, truth, margin=self.margin, strength=own) - added).mean()
