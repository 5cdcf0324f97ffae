"""Places and neighbours: exact, the same every time, and UMAP only where it is there and worth it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from medssl.explore import layout
from medssl.explore.layout import lay_out, nearest, principal


def groups(n: int = 30, d: int = 12) -> np.ndarray:
    """Return three groups of n embeddings, far from one another."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(3 * n, d)) + np.repeat(np.eye(d)[:3] * 12, n, 0)).astype(np.float32)


def test_neighbours_are_those_of_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    z = np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)
    z[7] = z[3] * 4  # length does not count
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    monkeypatch.setattr(layout, "BLOCK_BYTES", 4 * 50 * 8)  # several blocks
    found, cosine = nearest(unit, 5)
    for i in range(50):
        likeness = [float(unit[i] @ unit[j]) if j != i else -np.inf for j in range(50)]
        expected = sorted(range(50), key=lambda j: -likeness[j])[:5]
        assert found[i].tolist() == expected
        np.testing.assert_allclose(cosine[i], [likeness[j] for j in expected], atol=1e-6)
    assert found[3, 0] == 7
    assert cosine[3, 0] == pytest.approx(1)


def test_umap_separates_groups_and_repeats() -> None:
    pytest.importorskip("umap")
    z = groups()
    one, two = lay_out(z, seed=3), lay_out(z, seed=3)
    assert one.method == "UMAP"
    assert one.xy.tobytes() == two.xy.tobytes()
    assert lay_out(z, seed=4).xy.tobytes() != one.xy.tobytes()
    assert one.neighbours.shape == one.cosine.shape == (90, 8)
    assert np.abs(one.xy).max() == pytest.approx(1)
    centres = np.stack([one.xy[k * 30 : (k + 1) * 30].mean(0) for k in range(3)])
    own = np.abs(np.linalg.norm(one.xy[:, None] - centres, axis=2)).argmin(1)
    assert (own == np.repeat([0, 1, 2], 30)).all()


def test_without_umap_or_with_few_it_is_pca(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lay_out(groups(5)).method == "PCA"
    monkeypatch.setitem(sys.modules, "umap", None)
    drawn = lay_out(groups())
    assert drawn.method == "PCA"
    z = groups()
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    scores = np.linalg.svd(unit - unit.mean(0), full_matrices=False)
    expected = scores[0][:, :2] * scores[1][:2]
    for k in range(2):
        assert abs(np.corrcoef(drawn.xy[:, k], expected[:, k])[0, 1]) == pytest.approx(1, abs=1e-5)


def test_two_samples_and_one_number_are_enough() -> None:
    drawn = lay_out(np.array([[1.0], [-2.0]], np.float32))
    assert drawn.neighbours.tolist() == [[1], [0]]
    assert drawn.cosine.tolist() == [[-1], [-1]]
    assert np.isfinite(drawn.xy).all()
    assert np.isfinite(lay_out(np.zeros((6, 3), np.float32)).xy).all()
    assert principal(np.eye(3)).shape == (3, 2)


def test_what_cannot_be_laid_out_is_said() -> None:
    with pytest.raises(ValueError, match="1 embeddings; expected at least 2"):
        lay_out(np.ones((1, 3), np.float32))
    z = groups()
    z[4, 2] = np.nan
    with pytest.raises(ValueError, match="1 of 90 are not finite"):
        lay_out(z)
