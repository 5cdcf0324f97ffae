"""``pretrain.predict``: a part of each sample is hidden, and what is left has to tell something about it.

``latent``: the embedding of the whole sample, by the teacher where the recipe has one, else by the average that it
exports, else by the encoder itself, always without gradient. ``spectrum``: log-powers of the hidden part in bands.
These targets are standardised over the batch of all processes, each number by itself, so that what is the same for all
samples is nothing to predict; the loss is then the share of the variance that is not predicted, 1 for a guess.
``handcrafted`` hides nothing: a linear map tells features of the field, on the scale of the training samples.

Source: Baevski et al. 2022 (data2vec) and Assran et al. 2023 (I-JEPA) for latent targets, He et al. 2022 (MAE) for
hidden inputs, Pascual et al. 2019 for handcrafted targets. Deliberate differences: one prediction a sample from
its embedding, not one a position, so that any encoder will do; hidden values are zeros, which the encoder sees; nothing
is left out of the pass; one linear map in place of a perceptron for each kind of feature, because that is how a probe
reads the embedding.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from medssl.config import Pretrain
from medssl.models.crops import Crops
from medssl.models.heads import Projection
from medssl.models.vit import ViT
from medssl.objectives.rows import full_precision, without_autocast
from medssl.pretrain.net import Net
from medssl.views.masks import boxes

BANDS = 16
STREAM = 1000  # of random numbers, far from those of views and recipes


def head(params: Pretrain, *, embedding: int, shape: tuple[int, ...], told: int = 0) -> nn.Module:
    """Return the predictor: a small perceptron, of handcrafted features a linear map, as probes read them.

    Args:
        params: with ``predict``.
        embedding: channels of the encoder's output.
        shape: of a sample, (C, ...).
        told: number of handcrafted features.

    Raises:
        ValueError: the spectrum of images.
    """
    assert params.predict is not None
    if params.predict.name == "handcrafted":
        return nn.Linear(embedding, told)
    if params.predict.name == "spectrum" and len(shape) != 2:
        raise ValueError("pretrain.predict.name: spectrum is for signals; take latent")
    outputs = embedding if params.predict.name == "latent" else shape[0] * BANDS
    return Projection(embedding, outputs, norm=params.projection_norm)


def spectrum(x: Tensor) -> Tensor:
    """Return (B, C `BANDS`): log-powers of signals (B, C, T) in bands, evenly spaced on a logarithmic scale."""
    power = torch.fft.rfft(x.float()).abs().square()
    bins = power.shape[2]
    edges = [round((bins - 1) ** (k / BANDS)) for k in range(BANDS + 1)]  # from the first frequency to Nyquist's
    bands = [power[:, :, low : max(high, low + 1)].mean(2) for low, high in itertools.pairwise(edges)]
    return torch.stack(bands, 2).add(1e-4).log().flatten(1)


@without_autocast
def unpredicted(predicted: Tensor, target: Tensor, whole: Tensor) -> Tensor:
    """Return the mean squared difference of predictions (B, d) from targets (B, d), standardised as the whole batch.

    Args:
        predicted: of this process.
        target: of this process; without gradient.
        whole: (N, d) targets of all processes.
    """
    predicted, target, whole = full_precision(predicted, target, whole)
    deviation, mean = torch.std_mean(whole, 0, correction=0)
    return (predicted - (target - mean) / deviation.clamp_min(1e-4)).square().mean()


@contextmanager
def unrecorded(module: nn.Module) -> Iterator[None]:
    """Have batch normalisations keep no statistics of a pass: later they meet samples without holes."""
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


def prediction(net: Net, x: Tensor, average: nn.Module) -> Tensor:
    """Return the term of a batch.

    Args:
        net: with the head ``predict``.
        x: (B, C, ...) samples of the size that the encoder reads.
        average: the encoder that is exported.
    """
    params = net.params.predict
    assert params is not None
    hidden = boxes(net.draws.fork(STREAM), x.shape[2:], number=params.spans, share=params.share)[:, None]
    with torch.no_grad():
        if params.name == "spectrum":
            target = spectrum(x * hidden)
        else:
            encoder = average if net.teacher is None else net.teacher["encoder"]  # type: ignore[index]
            target = encoder(x)
        whole = net.gather(target)
    with unrecorded(net.encoder):
        seen = net.encoder(x * ~hidden)
    return unpredicted(net.heads["predict"](seen), target, whole)


@without_autocast
def untold(found: Tensor, told: Tensor) -> Tensor:
    """Return the mean squared difference of what was found (B, K) from features (B, K); an unknown one counts as 0.

    So the mean over processes is that of the whole batch, whoever has the unknown ones.
    """
    found, told = full_precision(found, told)
    known = told.isfinite()
    return torch.where(known, found - torch.where(known, told, 0), 0).square().mean()


def patches(x: Tensor, size: int) -> tuple[Tensor, list[int]]:
    """Return the patches (B, P, C size^d) of samples (B, C, ...) and their number an axis, the last running fastest.

    Zeros fill up the last patch of an axis, at its end.
    """
    axes = x.ndim - 2
    x = functional.pad(x, [side for n in reversed(x.shape[2:]) for side in (0, -n % size)])
    grid = [n // size for n in x.shape[2:]]
    for axis, n in enumerate(grid):
        x = x.unflatten(2 + 2 * axis, (n, size))
    x = x.permute(0, *range(2, 2 + 2 * axes, 2), 1, *range(3, 3 + 2 * axes, 2))
    return x.flatten(1 + axes).flatten(1, axes), grid


def context(encoder: nn.Module, x: Tensor, hidden: Tensor, size: int) -> Tensor:
    """Return what an encoder makes of the patches that are seen: (B, M, d).

    A transformer reads them alone and gives a token for each; other encoders see zeros in place of the hidden ones and
    give one token, their embedding. Batch normalisations of these keep statistics of whole samples.

    Args:
        encoder: any.
        x: (B, C, ...) samples of the size that the encoder reads.
        hidden: (B, P) bool, see `patches`, as many in each row.
        size: of a patch.

    Raises:
        ValueError: a transformer with patches of another size.
    """
    inner = encoder.encoder if isinstance(encoder, Crops) else encoder
    if isinstance(inner, ViT):
        if inner.patch != size:
            raise ValueError(f"pretrain.options.patch {size}: encoder.patch is {inner.patch}; give the same")
        return inner.encode(x, ~hidden)
    mask = hidden.view(len(x), *(-(-n // size) for n in x.shape[2:]))
    for axis, n in enumerate(x.shape[2:], 1):
        mask = mask.repeat_interleave(size, axis).narrow(axis, 0, n)
    if encoder.training and any(isinstance(layer, _BatchNorm) for layer in encoder.modules()):
        with torch.no_grad():
            encoder(x)
    with unrecorded(encoder):
        seen: Tensor = encoder(x * ~mask[:, None])
    return seen[:, None]
