"""Fine-tune an encoder on few labels, in part or as a whole, or train the same network from scratch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from medssl.evaluate import losses, terms
from medssl.evaluate.metrics import headline
from medssl.evaluate.tasks import Task
from medssl.models.embed import embed_samples, stages
from medssl.models.heads import Classifier
from medssl.store import Store
from medssl.views import signals, volumes
from medssl.views.draws import Draws

Depth = Literal["head", "partial", "full"]

WARM_UP = 0.1  # share of the steps
MEASUREMENTS = 20  # of the validation patients, evenly spread over the steps
PATIENCE = 8  # measurements without a better one
DECAY = 1e-2
HELD_BYTES = 512 * 2**20  # samples up to which a part is held in memory
# Leaves labels alone: another start, electrodes of other gain, a little noise, a gap. Pretraining's plans are harsher.
MILD: signals.Plan = (
    (0.5, signals.shift),
    (0.5, signals.lead_gain),
    (0.5, signals.faint_noise),
    (0.3, signals.cut_out),
)


@dataclass(frozen=True)
class _Part:
    """Samples of some units, or what was made of them."""

    store: Store
    units: np.ndarray  # (n,) ascending
    rows: np.ndarray  # (samples,) positions in the store's table
    owner: np.ndarray  # (samples,) position in ``units``
    held: Tensor | None = None  # (samples, ...), in memory

    @classmethod
    def of(cls, store: Store, task: Task, units: np.ndarray) -> _Part:
        """Return the samples of units, not yet read."""
        units = np.sort(units)
        wanted = np.isin(task.member, units)
        return cls(store, units, task.rows[wanted], np.searchsorted(units, task.member[wanted]))

    def kept(self) -> _Part:
        """Return the same in memory, if it is small enough, for what is read many times."""
        if len(self.rows) * 4 * math.prod(self.store.facts["shape"]) > HELD_BYTES:
            return self
        return replace(self, held=torch.from_numpy(self.store.read(self.rows)))

    def read(self, at: np.ndarray) -> Tensor:
        """Return the samples at some positions."""
        if self.held is None:
            return torch.from_numpy(self.store.read(self.rows[at]))
        return self.held[torch.from_numpy(at)]


def finetune(
    encoder: nn.Module,
    store: Store,
    task: Task,
    units: np.ndarray,
    *,
    depth: Depth = "full",
    max_steps: int = 300,
    batch: int = 32,
    lr: float = 1e-3,
    encoder_lr: float = 1.0,
    loss: str | None = None,
    augment: bool = False,
    embeddings: np.ndarray | None = None,
    validation: np.ndarray | None = None,
    seed: int,
    device: str | torch.device = "cpu",
) -> tuple[np.ndarray, int]:
    """Train a copy of ``encoder`` and a small head on the samples of ``units``; predict the test units.

    AdamW with warm-up and cosine decay, for at most ``max_steps`` steps, whatever the depth, the number of labels and
    where the encoder comes from: a network from scratch has the same budget. How long is best, validation units say:
    the headline metric on them is measured `MEASUREMENTS` times, the best measured state is kept (of equals the
    earliest), and `PATIENCE` measurements without a better one end the training. Their labels are part of the cost: a
    result at "1 % of labels" has used them too, unless ``validation`` names fewer. Where they cannot tell (none, or one
    class alone), the last state counts. The test units decide nothing.

    Samples are drawn with equal weight per unit and per class. Predictions are averaged over a unit's samples.

    Args:
        encoder: pretrained, or freshly initialised for the supervised control; not changed.
        store, task, units: where the samples are, what to predict, and the units to train on.
        depth: what is trained beside the head: nothing, on embeddings computed once (``head``); the last of the
            encoder's stages and what follows it (``partial``); everything (``full``). What is frozen is in eval mode.
        max_steps: steps at most, of ``batch`` samples. On 280 patients of PTB-XL, of 300 the first 30 to 150 were kept.
        batch: samples of a step; fewer where there are fewer.
        lr: highest learning rate of the head.
        encoder_lr: factor on it for the encoder; below 1 keeps more of what it knew. 1 for one from scratch.
        loss: key of `medssl.evaluate.terms.LOSSES`; None for the usual one of the task's kind.
        augment: train on mild random views, which leave labels alone; not for ``head``. Off, because the
            AUROC of NORM was 0.02 lower with them, from scratch, after 300 steps on 280 patients of PTB-XL.
        embeddings: (len(store), d) of all samples, in the store's order, where they are known; for ``head`` alone.
        validation: units that choose the length; None for the task's validation part.
        seed: of the head, the order of samples, dropout and views.
        device: where to train.

    Returns:
        Predictions (n_test, K), and after how many steps they were taken.

    Raises:
        ValueError: an unknown depth or loss, or views for ``head``.
    """
    if depth not in ("head", "partial", "full"):
        raise ValueError(f"depth '{depth}' is unknown; allowed: head, partial, full")
    if augment and depth == "head":
        raise ValueError("augment with depth 'head': embeddings are computed once; leave it out, or take 'partial'")
    outputs = max(1, len(task.classes))
    truth, restore = _targets(task, units)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Classifier(copy.deepcopy(encoder), outputs).to(device)
        trained = _trained(model, depth)
        network = model.head if depth == "head" else model
        embed: nn.Module = nn.Identity() if depth == "head" else model.encoder
        validation = task.part("val") if validation is None else validation
        train, val, test = (_Part.of(store, task, part) for part in (units, validation, task.part("test")))
        if depth == "head":
            train, val, test = _embedded(model.encoder, (train, val, test), embeddings, device)
        else:
            train, val = train.kept(), val.kept()
        dim = int(model.encoder.embedding_dim)  # type: ignore[arg-type]
        criterion = terms.build(loss, kind=task.kind, samples=len(train.owner), dim=dim).to(device)
        rng = np.random.default_rng([seed, 13])
        chances = _chances(task, train)
        batch = min(batch, max(2, len(chances)))
        learnt = nn.ModuleList([model.head, criterion])
        optimizer = _optimizer(model.encoder, learnt, lr, encoder_lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, max_steps))
        every, best, kept, state = max(1, max_steps // MEASUREMENTS), -math.inf, 0, None
        for step in range(1, max_steps + 1):
            network.eval()
            for part in trained:
                part.training = True
            picked = rng.choice(len(chances), size=batch, p=chances)
            x = train.read(picked).to(device)
            if augment:
                x = _view(x, Draws(torch.arange(batch, device=device) + step * batch, seed=seed))
            y = truth[train.units[train.owner[picked]]].to(device)
            value = criterion.of_embeddings(model.head, embed(x), y, torch.from_numpy(picked).to(device))
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_([*model.parameters(), *criterion.parameters()], 1.0)
            optimizer.step()
            schedule.step()
            if len(val.units) and (step % every == 0 or step == max_steps):
                found = _quality(task, _predict(network, val, criterion, restore, device), val.units)
                if found > best:
                    best, kept, state = found, step, copy.deepcopy(network.state_dict())
                elif state is not None and step - kept >= PATIENCE * every:
                    break
        if state is None:
            kept = step
        else:
            network.load_state_dict(state)
        return _predict(network, test, criterion, restore, device), kept


def _targets(task: Task, units: np.ndarray) -> tuple[Tensor, Callable[[np.ndarray], np.ndarray]]:
    """Return what to predict for each unit, standardised if it is a number, and what undoes that."""
    if task.kind == "class":
        return torch.from_numpy(np.searchsorted(task.classes, task.truth)), lambda out: out
    truth = task.truth.astype(np.float64).reshape(len(task.truth), -1)
    if task.kind == "multilabel":
        return torch.from_numpy(truth).float(), lambda out: out
    mean, std = truth[units].mean(), truth[units].std(ddof=1) if len(units) > 1 else 1.0
    std = max(std, 1e-6)
    return torch.from_numpy((truth - mean) / std).float(), lambda out: out * std + mean


def _trained(model: Classifier, depth: Depth) -> list[nn.Module]:
    """Freeze what ``depth`` says, and return the modules that are to be in training mode."""
    inside = list(model.encoder.modules())
    first = {"head": len(inside), "full": 0}.get(depth)
    if first is None:
        first = inside.index(list(stages(model.encoder).values())[-1])
    model.encoder.requires_grad_(False)
    for module in inside[first:]:
        module.requires_grad_(True)
    return [*inside[first:], *model.head.modules()]


def _embedded(
    encoder: nn.Module, parts: Sequence[_Part], known: np.ndarray | None, device: str | torch.device
) -> list[_Part]:
    """Return parts that hold embeddings, standardised on the first part and cut at six deviations, as for a probe."""
    values = [
        embed_samples(encoder, part.store, part.rows, device=device) if known is None else known[part.rows]
        for part in parts
    ]
    mean, std = values[0].mean(0), np.maximum(values[0].std(0), 1e-6)
    scaled = [torch.from_numpy(np.clip((value - mean) / std, -6, 6)).float() for value in values]
    return [replace(part, held=value) for part, value in zip(parts, scaled, strict=True)]


def _view(x: Tensor, draws: Draws) -> Tensor:
    """Return one mild random view of each sample: `MILD`, or turned and shifted with another appearance, not zoomed."""
    if x.ndim == 3:
        return signals.view(x, draws, MILD)
    size, most = x.shape[2:], math.radians(10)
    angle = draws.uniform(1 if len(size) == 2 else 3, low=-most, high=most)
    shift = torch.stack([draws.uniform(low=-n / 16, high=n / 16) for n in size], 1)
    # Size is anatomy, and may be the label.
    place = volumes.affine(angle, shift, torch.ones_like(shift), size)
    return volumes.appearance(volumes.read(x, place, size), draws)


def _chances(task: Task, part: _Part) -> np.ndarray:
    """Return how often each sample is drawn: units count equally, and of classes, classes."""
    weight = 1 / np.bincount(part.owner, minlength=len(part.units))[part.owner]
    if task.kind == "class":
        of = np.searchsorted(task.classes, task.truth[part.units])
        weight = weight / np.bincount(of)[of[part.owner]]
    return weight / weight.sum()


def _optimizer(encoder: nn.Module, learnt: nn.Module, lr: float, encoder_lr: float) -> torch.optim.AdamW:
    """Return AdamW with a rate for the encoder and one for what is new; biases and normalisations do not decay."""
    groups = []
    for module, rate in ((encoder, lr * encoder_lr), (learnt, lr)):
        free = [p for p in module.parameters() if p.requires_grad]
        groups += [{"params": [p for p in free if p.ndim > 1], "lr": rate, "weight_decay": DECAY}]
        groups += [{"params": [p for p in free if p.ndim <= 1], "lr": rate, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], fused=True)


def _rate(step: int, steps: int) -> float:
    """Return the learning rate of a step, counted from 0, as a share of the highest."""
    warm = max(1, round(WARM_UP * steps))
    return min((step + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * max(0, step - warm) / max(1, steps - warm)))


def _quality(task: Task, predicted: np.ndarray, units: np.ndarray) -> float:
    """Return the headline metric of predictions; larger is better, NaN where they cannot tell."""
    scored = task.score(predicted, units, np.ones((1, len(units))))
    return float(scored[headline(scored)][0])


@torch.inference_mode()
def _predict(
    network: nn.Module,
    part: _Part,
    criterion: losses.Loss,
    restore: Callable[[np.ndarray], np.ndarray],
    device: str | torch.device,
) -> np.ndarray:
    """Return predictions (n, K) per unit, averaged over its samples, with the network in eval mode."""
    network.eval()
    found = []
    for start in range(0, len(part.owner), 256):
        x = part.read(np.arange(start, min(start + 256, len(part.owner)))).to(device)
        found.append(criterion.predict(network(x)).double().cpu().numpy())
    values = np.concatenate(found)
    sums = np.zeros((len(part.units), values.shape[1]))
    np.add.at(sums, part.owner, values)
    return restore(sums / np.bincount(part.owner, minlength=len(part.units))[:, None])
