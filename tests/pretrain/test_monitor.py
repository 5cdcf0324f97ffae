"""Rank, dispersion, alignment, uniformity against known values and loops; nearest neighbours on data that separates."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.pretrain.monitor import alignment, dispersion_ratio, knn_accuracy, knn_scores, rankme, uniformity

Q1 = np.sin(1 + 2 * np.arange(4)[:, None] + np.arange(3)[None])
Q1 = Q1 / np.linalg.norm(Q1, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (np.eye(4), 4.0),
        (np.diag([3.0, 1]), 1.754765),
        (np.diag([2.0, 1, 1]), 2.828427),
        (np.diag([4.0, 2, 1, 1]), 3.363586),
        (np.ones((5, 3)), 1.0),
        (np.ones((8, 4)), 1.0),
        (Q1, 1.977490),
        (np.array([[1, 0], [0.9, 0.1], [-1, 0], [-0.9, 0.1]]), 1.285992),  # centred it would be 1.219355
    ],
)
def test_w7_rankme(matrix: np.ndarray, expected: float) -> None:
    assert rankme(matrix) == pytest.approx(expected, abs=1e-5)


def test_w7_rankme_invariances() -> None:
    rng = np.random.default_rng(0)
    z = rng.standard_normal((30, 6)) * np.arange(1, 7)
    turned = z @ np.linalg.qr(rng.standard_normal((6, 6)))[0]
    for other in (z[rng.permutation(30)], turned, 7 * z):
        assert rankme(other) == pytest.approx(rankme(z), abs=1e-9)
    assert rankme(z + 100) != pytest.approx(rankme(z), abs=0.5)
    assert np.isfinite(rankme(np.zeros((3, 2))))


def on_circle(*degrees: float) -> np.ndarray:
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)


A, B = on_circle(0, 90, 200, 300), on_circle(10, 70, 215, 330)
W8 = np.array([[1, 0], [0.8, 0.6], [-1, 0], [-0.8, 0.6]])


@pytest.mark.parametrize(("rows", "expected"), [(2048, 63.7), (64, 51)])
def test_v12_rankme_of_noise_needs_many_rows(rows: int, expected: float) -> None:
    assert rankme(np.random.default_rng(0).standard_normal((rows, 64))) == pytest.approx(expected, abs=1)


def test_w8_dispersion_ratio() -> None:
    assert dispersion_ratio(W8, np.array([7, 7, 3, 3])) == pytest.approx(0.342111, abs=1e-6)
    # Rows are used as they are: within (1.341641 + 0.632456) / 2, between (3 + 2.863564 + 1.897367 + 1.6) / 4.
    longer = W8 * [[2], [1], [1], [1]]
    assert dispersion_ratio(longer, np.array([7, 7, 3, 3])) == pytest.approx(0.987048 / 2.340233, abs=1e-6)


def slow_dispersion(z: np.ndarray, patients: np.ndarray) -> float:
    within, between = [], []
    for patient in sorted(set(patients)):
        rows = np.flatnonzero(patients == patient)
        pairs = [np.linalg.norm(z[i] - z[j]) for i in rows for j in rows if i < j]
        if pairs:
            within.append(np.mean(pairs))
    for i in range(len(z)):
        between += [np.linalg.norm(z[i] - z[j]) for j in range(i) if patients[i] != patients[j]]
    return float(np.mean(within) / np.mean(between))


def test_dispersion_ratio_against_loops_and_invariances() -> None:
    rng = np.random.default_rng(1)
    patients = np.array(["b", "a", "e", "c", "d"])[rng.choice(5, 40, p=[0.4, 0.3, 0.15, 0.1, 0.05])]
    patients[-1] = "alone"
    z = rng.standard_normal((40, 3)) + 2 * rng.standard_normal((6, 3))[np.unique(patients, return_inverse=True)[1]]
    ratio = dispersion_ratio(z, patients)
    assert ratio == pytest.approx(slow_dispersion(z, patients), abs=1e-12)
    order = rng.permutation(40)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    assert dispersion_ratio(z[order], patients[order]) == pytest.approx(ratio)
    assert dispersion_ratio(5 * z @ turn + 100, patients) == pytest.approx(ratio)
    noise = rng.standard_normal((1000, 8))
    assert dispersion_ratio(noise, rng.integers(0, 20, 1000)) == pytest.approx(1, abs=0.02)


def test_dispersion_ratio_looks_at_whole_patients_first() -> None:
    rng = np.random.default_rng(2)
    z, patients = rng.standard_normal((60, 4)), np.arange(60) % 20
    first = np.isin(patients, range(5))
    assert dispersion_ratio(z, patients, most=15) == pytest.approx(slow_dispersion(z[first], patients[first]))


def test_dispersion_ratio_without_an_answer() -> None:
    assert np.isnan(dispersion_ratio(W8, np.arange(4)))
    assert np.isnan(dispersion_ratio(W8, np.zeros(4)))
    assert np.isnan(dispersion_ratio(np.ones((4, 2)), np.array([0, 0, 1, 1])))
    assert np.isnan(dispersion_ratio(W8[:1], np.zeros(1)))


def test_v25_alignment_and_uniformity() -> None:
    assert alignment(A, B) == pytest.approx(0.121774, abs=1e-6)
    assert uniformity(A) == pytest.approx(-3.572823, abs=1e-6)
    assert uniformity(B) == pytest.approx(-2.405540, abs=1e-6)
    assert alignment(A, A) == 0
    assert alignment(A, -A) == pytest.approx(4)
    assert uniformity(np.ones((5, 3))) == 0
    assert uniformity(np.array([[1, 0], [-1, 0]]), t=3) == pytest.approx(-12)
    assert np.isnan(uniformity(A[:1]))


def test_alignment_and_uniformity_against_loops_and_invariances() -> None:
    rng = np.random.default_rng(3)
    z1, z2 = rng.standard_normal((2, 30, 5))
    u1, u2 = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (z1, z2))
    energies = [np.exp(-0.7 * ((u1[i] - u1[j]) ** 2).sum()) for i in range(30) for j in range(30) if i != j]
    assert uniformity(z1, t=0.7) == pytest.approx(np.log(np.mean(energies)), abs=1e-12)
    squared = [((a - b) ** 2).sum() for a, b in zip(u1, u2, strict=True)]
    assert alignment(z1, z2) == pytest.approx(np.mean(squared), abs=1e-12)
    order, turn = rng.permutation(30), np.linalg.qr(rng.standard_normal((5, 5)))[0]
    lengths = rng.uniform(0.1, 9, (30, 1))
    assert uniformity((lengths * z1)[order] @ turn) == pytest.approx(uniformity(z1))
    assert alignment((lengths * z1)[order] @ turn, z2[order] @ turn) == pytest.approx(alignment(z1, z2))


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(["a", "b", "c"], [40, 30, 5])
    centre = {"a": [5, 0, 0], "b": [0, 5, 0], "c": [0, 0, 5]}
    return np.array([centre[k] for k in labels]) + 0.3 * rng.standard_normal((75, 3)), labels


def test_knn_separates() -> None:
    (train, labels), (test, truth) = blobs(0), blobs(1)
    assert knn_accuracy(train, labels, test, truth) == 1.0
    shares = knn_scores(train, labels, test, k=5)
    assert shares.shape == (75, 3)
    assert np.allclose(shares.sum(1), 1)
    assert knn_accuracy(train, np.random.default_rng(0).permutation(labels), test, truth) < 0.7


def test_knn_is_balanced_over_classes() -> None:
    (train, labels), (test, truth) = blobs(0), blobs(1)
    test = np.where((truth == "c")[:, None], test[0], test)  # every c looks like an a
    assert knn_accuracy(train, labels, test, truth) == pytest.approx(2 / 3)


def test_knn_with_fewer_references_than_neighbours() -> None:
    scores = knn_scores(np.eye(2), np.array(["x", "y"]), np.array([[1.0, 0.1]]), k=20)
    assert scores[0].argmax() == 0
