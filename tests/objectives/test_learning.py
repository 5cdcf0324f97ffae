"""Toy problems that only the right positives solve: a trait under nuisance that SimCLR cannot tell from it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import normalize

from medssl import objectives as O

pytestmark = pytest.mark.slow

SEEDS = range(5)


def fit(module: nn.Module, loss: Callable[[], Tensor], steps: int, lr: float) -> None:
    optimizer = torch.optim.Adam(module.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


# --- C11: the patient's frequency under another one of each sample --------------------------------------------------


def waves(rng: np.random.Generator) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Return samples (60, 4, 5, 2, 64), and patient and trial of each (60, 4, 5)."""
    t = np.arange(64) / 64
    shape = (60, 4, 5)
    patient = np.broadcast_to(np.arange(60)[:, None, None], shape)
    trial = np.broadcast_to(np.arange(240).reshape(60, 4)[..., None], shape)
    f = 3 + 1.5 * (np.arange(60) % 2) + 0.2 * rng.standard_normal(60)
    own = rng.uniform(0.8, 1.2, 60)[:, None, None, None] * np.sin(
        2 * np.pi * f[:, None, None, None] * t
        + rng.uniform(0, 2 * np.pi, (60, 4, 1, 1))
        + np.arange(5)[None, None, :, None]
    )
    other = np.sin(2 * np.pi * rng.uniform(1, 25, (*shape, 1)) * t + rng.uniform(0, 2 * np.pi, (*shape, 1)))
    s = own + 4 * rng.uniform(0.3, 1.7, (*shape, 1)) * other
    noise = 0.3 * rng.standard_normal((2, *shape, 64))
    x = np.stack([s + noise[0], 0.5 * s + noise[1]], axis=3)
    return torch.from_numpy(x).float(), patient, trial


def cut_spans(x: Tensor, generator: torch.Generator) -> Tensor:
    """Zero three spans of 6 steps."""
    start = torch.randint(0, 64 - 6 + 1, (len(x), 3, 1), generator=generator)
    t = torch.arange(64)
    return x * ~((t >= start) & (t < start + 6)).any(1)[:, None]


def wave_accuracy(seed: int, level: str) -> float:
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    x, patient, trial = waves(rng)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for k, (a, b) in enumerate(((2, 16), (16, 16), (16, 4))):
            layers += [nn.Conv1d(a, b, 7, padding="same", dilation=2**k), *([nn.GELU()] if k < 2 else [])]
        network = nn.Sequential(*layers)
    ids = torch.from_numpy((patient if level == "patient" else trial)[:40].reshape(160, 5).copy())
    train = x[:40].reshape(160, 5, 2, 64)

    def loss() -> Tensor:
        chosen = torch.from_numpy(rng.permutation(160)[:16])
        batch = train[chosen].flatten(0, 1)
        maps = [network(cut_spans(batch, generator)).transpose(1, 2) for _ in range(2)]
        if level == "sample":
            return O.nt_xent(*(normalize(z.amax(1), dim=1) for z in maps), temperature=0.1)
        return O.comet.identity(*maps, ids[chosen].flatten(), mode="clean", pool="max")

    fit(network, loss, 300, 3e-3)
    with torch.no_grad():
        z = network(x.flatten(0, 2)).amax(2).numpy().reshape(60, 20, 4)
    label = np.repeat(np.arange(60) % 2, 20).reshape(60, 20)
    probe = make_pipeline(StandardScaler(), LogisticRegression())
    probe.fit(z[:40].reshape(-1, 4), label[:40].ravel())
    return float(probe.score(z[40:].reshape(-1, 4), label[40:].ravel()))


@pytest.mark.parametrize(("level", "least", "most"), [("patient", 0.88, 1), ("trial", 0.88, 1), ("sample", 0, 0.65)])
def test_c11_identity_levels_find_the_patient(level: str, least: float, most: float) -> None:
    mean = np.mean([wave_accuracy(seed, level) for seed in SEEDS])
    assert least <= mean <= most


# --- W11: a participant's trait under three times larger segment nuisance --------------------------------------------


def orthonormal(rng: np.random.Generator, columns: int) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((16, columns)))[0]


def participant_r2(seed: int, pairing: str) -> float:
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    u = rng.standard_normal((200, 1, 2)).repeat(16, 1)
    s = 3 * rng.standard_normal((200, 16, 6))
    x = np.concatenate([u, s], 2) @ orthonormal(rng, 8).T + 0.1 * rng.standard_normal((200, 16, 16))
    data = torch.from_numpy(x).float()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = nn.Linear(16, 4)

    def loss() -> Tensor:
        who = torch.from_numpy(rng.permutation(150)[:128])
        first, second = (torch.from_numpy(v) for v in rng.permuted(np.tile(np.arange(16), (128, 1)), axis=1)[:, :2].T)
        pair = [data[who, first], data[who, second if pairing == "participant" else first]]
        z = [normalize(encoder(v + 0.1 * torch.randn(v.shape, generator=generator)), dim=1) for v in pair]
        ways = ((z[0], z[1]), (z[1], z[0]))
        cross = O.pairs.cross(z[0])
        return torch.stack([O.rows.contrast(a, b, cross, O.rows.softmax, temperature=0.1) for a, b in ways]).mean()

    fit(encoder, loss, 600, 1e-2)
    with torch.no_grad():
        z = encoder(data).mean(1).numpy()
    probe = make_pipeline(StandardScaler(), Ridge(1.0)).fit(z[:150], u[:150, 0])
    return float(r2_score(u[150:, 0], probe.predict(z[150:])))


@pytest.mark.parametrize(("pairing", "least", "most"), [("participant", 0.95, 1), ("segment", -1, 0.30)])
def test_w11_participant_pairs_find_the_trait(pairing: str, least: float, most: float) -> None:
    mean = np.mean([participant_r2(seed, pairing) for seed in SEEDS])
    assert least <= mean <= most


# --- N9: anatomy under three times larger site effects ---------------------------------------------------------------


def anatomy_r2(seed: int, method: str) -> float:
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    a, s = rng.standard_normal(400), 3 * rng.standard_normal((400, 6))
    x = np.concatenate([a[:, None], s], 1) @ orthonormal(rng, 7).T + 0.1 * rng.standard_normal((400, 16))
    data = torch.from_numpy(x).float()
    measure = torch.from_numpy(rng.permutation(a) if method == "shuffled" else a).float()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = nn.Linear(16, 2)

    def loss() -> Tensor:
        who = torch.from_numpy(rng.permutation(300)[:64])
        views = [data[who] + 0.1 * torch.randn(64, 16, generator=generator) for _ in range(2)]
        z = [normalize(encoder(v), dim=1) for v in views]
        if method == "simclr":
            return O.nt_xent(*z, temperature=0.1)
        return O.anatomy.y_aware(torch.cat(z), O.kernels.rbf(measure[who], sigma=0.5), temperature=0.1)

    fit(encoder, loss, 600, 1e-2)
    with torch.no_grad():
        z = encoder(data).numpy()
    probe = make_pipeline(StandardScaler(), Ridge(1.0)).fit(z[:300], a[:300])
    return float(r2_score(a[300:], probe.predict(z[300:])))


@pytest.mark.parametrize(
    ("method", "least", "most"), [("kernel", 0.9, 1), ("simclr", -1, 0.30), ("shuffled", -1, 0.35)]
)
def test_n9_kernel_weights_find_the_anatomy(method: str, least: float, most: float) -> None:
    mean = np.mean([anatomy_r2(seed, method) for seed in SEEDS])
    assert least <= mean <= most
