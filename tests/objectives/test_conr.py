"""ConR: the numbers of V-7, a slow loop, and rare labels that a regression alone does not tell from the many."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import normalize

from medssl import objectives as O
from medssl.objectives import rows
from medssl.objectives.conr import conr
from tests.objectives.circle import at
from tests.objectives.test_learning import fit, orthonormal

Z = at(0, 20, 75, 100, 160, 250)
Y = torch.tensor([10, 10.5, 14, 14.5, 20, 20.5], dtype=torch.float64)
PREDICTED = torch.tensor([10, 12, 11, 13, 19, 12.5], dtype=torch.float64)


def test_v7() -> None:
    for t, eta, expected in ((0.07, 0.01, 0.002949), (0.5, 0.1, 0.579741)):
        found = conr(Z, Y, PREDICTED, temperature=t, omega=1, eta=eta)
        assert found.item() == pytest.approx(expected, abs=1e-6)
    # Two anchors without a positive, of which the released code makes NaN.
    y, predicted = (torch.tensor(v, dtype=torch.float64) for v in ([10, 10.5, 14, 20, 21], [10, 12, 11, 19, 12.5]))
    found = conr(at(0, 20, 75, 160, 250), y, predicted, temperature=0.07, omega=1, eta=0.01)
    assert found.item() == pytest.approx(0.001901, abs=1e-6)


def some(n: int = 12, d: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return rows, labels of which one is unknown, predictions and weights."""
    generator = torch.Generator().manual_seed(0)
    z = normalize(torch.randn(n, d, dtype=torch.float64, generator=generator), dim=1)
    y, predicted, weight = (torch.rand(n, dtype=torch.float64, generator=generator) for _ in range(3))
    y[n // 2] = torch.nan
    return z, 5 * y, 2 * predicted, weight


def loop(z: Tensor, y: Tensor, predicted: Tensor, weight: Tensor, given: dict[str, Any]) -> float:
    terms = []
    for i in range(len(z)):
        pulled = [j for j in range(len(z)) if j != i and abs(y[i] - y[j]) <= given["omega"]]
        far = [j for j in range(len(z)) if abs(y[i] - y[j]) > given["omega"]]
        pushed = [j for j in far if abs(predicted[i] - predicted[j]) <= given["omega"]]
        if not pulled or not pushed:
            continue
        e = [math.exp(z[i] @ other / given["temperature"]) for other in z]
        total = sum(e[j] for j in pulled)
        total += sum(weight[i] * math.exp(given["eta"] * abs(y[i] - y[j])) * e[j] for j in pushed)
        terms.append(-weight[i] * sum(math.log(e[j] / total) for j in pulled) / len(pulled))
    return float(sum(terms) / len(terms))


def test_equals_the_loop_in_blocks_in_any_order_and_any_rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"temperature": 0.3, "omega": 1.0, "eta": 0.2}
    z, y, predicted, weight = some()
    expected = pytest.approx(loop(z, y, predicted, weight, given), abs=1e-9)
    assert conr(z, y, predicted, **given, weight=weight).item() == expected
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(1))
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))[0]
    monkeypatch.setattr(rows, "block_cells", lambda z: 30)
    found = conr((z @ turn)[order], y[order], predicted[order], **given, weight=weight[order])
    assert found.item() == expected


def test_gradients_half_precision_duplicates_and_nobody_to_be_told_apart_from() -> None:
    given = {"temperature": 0.3, "omega": 1.0, "eta": 0.2}
    z, y, predicted, weight = some(4, 3)
    y = torch.tensor([0, 0.5, 2, 2.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda v: conr(v, y, 0 * predicted, **given, weight=weight), z.clone().requires_grad_()
    )
    z, y, predicted, weight = some()
    exact = conr(z, y, predicted, **given).item()
    assert conr(z.half(), y, predicted, **given).item() == pytest.approx(exact, abs=1e-2)
    same = at(*[0] * 11, 180).requires_grad_()
    loss = conr(same, y, predicted, **(given | {"temperature": 0.05}))
    assert loss.isfinite()
    assert torch.autograd.grad(loss, same)[0].isfinite().all()
    # Equal labels, no label, and a regression that confuses nobody.
    for labels, said in (
        (torch.ones(12), predicted),
        (torch.full((12,), torch.nan), predicted),
        (torch.arange(12) // 2, torch.arange(12) * 10.0),
    ):
        z = z.clone().requires_grad_()
        loss = conr(z, labels, said, **given)
        assert loss.item() == 0
        assert not torch.autograd.grad(loss, z)[0].any()


def rare_auroc(method: str, seed: int = 0) -> float:
    """Return how well an embedding (3) tells rare high labels, which look like frequent ones but for a faint feature.

    The regression loses more on the many than it gains on the rare by that feature, and has no use for it.
    """
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    mixing = orthonormal(rng, 8).T

    def cohort(n: int, share: float) -> tuple[Tensor, Tensor, np.ndarray]:
        rare = rng.random(n) < share
        y = np.where(rare, 4 + 0.3 * rng.standard_normal(n), rng.standard_normal(n))
        usual = np.where(rare, rng.standard_normal(n), y)
        faint = 2 * rare + 0.5 * rng.standard_normal(n)
        x = np.column_stack([usual, faint, 3 * rng.standard_normal((n, 6))]) @ mixing
        return torch.from_numpy(x + 0.1 * rng.standard_normal(x.shape)).float(), torch.from_numpy(y).float(), rare

    (x, y, rare), (x_test, _, rare_test) = cohort(600, 0.05), cohort(400, 0.5)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder, regressor = nn.Linear(16, 3), nn.Linear(3, 1)

    def loss() -> Tensor:
        who = torch.from_numpy(rng.permutation(600)[:128])
        views = [encoder(x[who] + 0.1 * torch.randn(128, 16, generator=generator)) for _ in range(2)]
        if method == "simclr":
            return O.nt_xent(*(normalize(v, dim=1) for v in views), temperature=0.1)
        z, labels = torch.cat(views), y[who].repeat(2)
        predicted = regressor(z)[:, 0]
        error = (predicted - labels).abs().mean()
        if method == "error":
            return error
        return error + 4 * conr(normalize(z, dim=1), labels, predicted, temperature=0.1, omega=0.5, eta=0.2)

    fit(nn.ModuleList([encoder, regressor]), loss, 200, 1e-2)
    with torch.no_grad():
        z, z_test = encoder(x).numpy(), encoder(x_test).numpy()
    probe = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced")).fit(z, rare)
    return float(roc_auc_score(rare_test, probe.predict_proba(z_test)[:, 1]))


@pytest.mark.parametrize(("method", "least", "most"), [("conr", 0.95, 1), ("error", 0, 0.75), ("simclr", 0, 0.65)])
def test_rare_labels_are_told_apart(method: str, least: float, most: float) -> None:
    assert least <= rare_auroc(method) <= most


def test_numbers_far_apart_stay_finite() -> None:
    z = normalize(torch.randn(8, 3), dim=1).requires_grad_()
    y = torch.tensor([1000.0, 1000.5, 9000.0, 9000.5, 20000.0, 20000.5, 25000.0, 25000.5])
    conr(z, y, torch.zeros(8), temperature=0.2, omega=1.0, eta=0.01).backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()
