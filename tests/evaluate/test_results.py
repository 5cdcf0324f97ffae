"""Predictions as they come in, and every figure made again from their table alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk

from medssl.evaluate.intervals import draw_weights
from medssl.evaluate.replicates import Replicates, completed
from medssl.evaluate.results import COLUMNS, Predictions, measure, subgroups
from medssl.evaluate.tasks import Task
from medssl.store import Store


def cohort(n: int = 60, *, trials: int = 2) -> pd.DataFrame:
    """Return a sample table, all of it to test on: a class, findings and a number of each patient."""
    patient = np.arange(n).repeat(trials)
    rng = np.random.default_rng(0)
    sick = (rng.random(n) < 0.4)[patient]
    return pd.DataFrame(
        {
            "sample_id": [f"s{i:04d}" for i in range(len(patient))], "patient": 7000 - patient,
            "trial": np.arange(len(patient)), "method": "", "split": "test",
            "label_disease": np.where(sick, "sick", "healthy"), "label_size": 1e5 + rng.standard_normal(n)[patient],
            "label_sex": np.where(patient % 2, "m", "f"), "label_age": np.where(patient % 5, 30.0 + patient, np.nan),
            "label_findings": [["mi"][:s] + ["af"][: s * (p % 3)] for p, s in zip(patient, sick * 1, strict=True)],
        }
    )  # fmt: skip


def predict(task: Task, rng: np.random.Generator, noise: float = 2.5) -> np.ndarray:
    """Return scores (n_test, K) that tell something of the truth."""
    truth = task.truth[task.part("test")]
    if task.kind == "number":
        return (truth + noise * rng.standard_normal(len(truth)))[:, None]
    target = truth if task.kind == "multilabel" else truth[:, None] == task.classes
    scores = 1 / (1 + np.exp(-3 * (target - 0.5) - noise * rng.standard_normal(target.shape)))
    return scores if task.kind == "multilabel" else scores / scores.sum(1, keepdims=True)


def crossed(
    table: pd.DataFrame, name: str, *, folds: int = 3, repeats: int = 2, seeds: int = 2, trainings: int = 1
) -> Predictions:
    """Return cross-fitted predictions of one label."""
    out, rng = Predictions(), np.random.default_rng(1)
    patients = table["patient"].unique()
    for fold in range(folds * repeats):
        deal = np.random.default_rng(fold // folds).permutation(len(patients)) % folds
        held = dict(zip(patients, deal == fold % folds, strict=True))
        task = Task.of(table.assign(split=np.where(table["patient"].map(held), "test", "val")), name)
        scores = [predict(task, rng) for _ in range(seeds * trainings)]
        out.add(task, "probe", 1.0, scores, fold=fold, repeat=fold // folds, trainings=trainings)
    return out


def test_columns(signal_store: Store) -> None:
    task = Task.of(signal_store.table, "findings")
    test = task.part("test")
    collected = Predictions()
    collected.add(task, "probe", 0.1, [task.truth[test].astype(float)] * 2, fold=4, repeat=1, trainings=2)
    frame = collected.frame()
    assert frame.columns.tolist() == list(COLUMNS) == Predictions().frame().columns.tolist()
    assert len(frame) == 2 * len(test)
    assert frame["seed"].tolist() == [0] * len(test) + [1] * len(test)
    assert frame[["fold", "repeat", "training"]].drop_duplicates().to_numpy().tolist() == [[4, 1, 0], [4, 1, 1]]
    assert frame["id"].iloc[: len(test)].tolist() == task.id[test].tolist()
    assert set(frame["truth"]) <= {"af", "af|mi", "norm"} and set(frame["classes"]) == {"af|mi|norm"}
    assert frame["patient"].dtype == np.int64 and frame["scores"].iloc[0].dtype == np.float32


def test_a_fixed_split_by_hand() -> None:
    """One seed: the deviation over draws of patients, at the logit; the rarer class has the degrees of freedom."""
    table = cohort()
    task = Task.of(table, "disease")
    collected, scores = Predictions(), predict(task, np.random.default_rng(0)).astype(np.float32)
    collected.add(task, "probe", 1.0, [scores])
    got = measure(collected.frame(), draws=300)["disease"]["probe"]["1"]
    truth, p = task.truth == "sick", scores[:, 1]
    order = np.argsort(task.id)
    weights = draw_weights(task.patient[order], 300, strata=truth[order])
    drawn = [sk.roc_auc_score(truth[order], p[order], sample_weight=w) for w in weights[1:]]
    area, deviation = sk.roc_auc_score(truth, p), np.diff(np.percentile(drawn, (15.866, 84.134)))[0] / 2
    reach = stats.t.ppf(0.975, min(truth.sum(), (~truth).sum()) - 1) * deviation / (area * (1 - area))
    ends = [1 / (1 + np.exp(-np.log(area / (1 - area)) + s * reach)) for s in (1, -1)]
    assert got["auroc"]["mean"] == pytest.approx(area)
    assert [got["auroc"]["lo"], got["auroc"]["hi"]] == pytest.approx(ends)
    assert got["auroc"]["covers"] == "patients"
    assert got["brier"]["mean"] == pytest.approx(sk.brier_score_loss(truth, p))
    assert next(iter(got)) == "auroc"


@pytest.mark.parametrize("name", ["disease", "size", "findings"])
def test_cross_fitting(name: str) -> None:
    """Each repeat is a whole test set; scores of two folds are not compared; the mean is over repeats and seeds."""
    table = cohort()
    frame = crossed(table, name).frame()
    got = measure(frame, draws=50)[name]["probe"]["1"]
    head = "r2" if name == "size" else "auroc"
    values = []
    for _, rows in frame.groupby(["repeat", "seed"]):
        scores = np.stack(list(rows["scores"])).astype(float)
        if name == "size":
            values.append(sk.r2_score(rows["truth"].astype(float), scores[:, 0]))
            continue
        columns = [1] if name == "disease" else [0, 1]
        areas = []
        for k in columns:
            label = ["healthy", "sick"][k] if name == "disease" else ["af", "mi"][k]
            won = pairs = 0.0
            for _, part in rows.groupby("fold"):
                positive = part["truth"].str.split("|").map(lambda names, label=label: label in names).to_numpy()
                of_fold = np.stack(list(part["scores"]))[:, k]
                count = positive.sum() * (~positive).sum()
                won += count * sk.roc_auc_score(positive, of_fold) if count else 0
                pairs += count
            areas.append(won / pairs)
        values.append(np.mean(areas))
    assert got[head]["mean"] == pytest.approx(np.mean(values))
    assert (got[head]["n_patients"], got[head]["seeds"], got[head]["folds"]) == (60, 2, 6)
    assert got[head]["covers"] == "patients and training"
    assert got[head]["lo"] < got[head]["mean"] < got[head]["hi"]
    if name == "findings":
        assert {"auroc/af", "auroc/mi"} <= set(got)
    # The order of the rows is of no matter.
    assert measure(frame.sample(frac=1, random_state=0), draws=50)[name]["probe"]["1"][head] == got[head]


def test_seeds_that_differ_widen_the_interval() -> None:
    """Three seeds of .6, .7 and .8 once had the interval [.70, .70]."""
    table = cohort(trials=1)
    task = Task.of(table, "disease")
    sick = (task.truth == "sick")[:, None] == [False, True]

    def seeds(*noises: float) -> dict:
        rng, collected = np.random.default_rng(0), Predictions()
        collected.add(task, "probe", 1.0, [sick + noise * rng.standard_normal(sick.shape) for noise in noises])
        return measure(collected.frame(), draws=100)["disease"]["probe"]["1"]["auroc"]

    alike, unlike = seeds(0.9, 0.9, 0.9), seeds(0.4, 0.9, 2.5)
    assert unlike["hi"] - unlike["lo"] > 1.5 * (alike["hi"] - alike["lo"])


def test_perfect_predictions_are_not_certain() -> None:
    """No draw of patients differs; of m patients none was wrong."""
    task = Task.of(cohort(), "disease")
    collected = Predictions()
    collected.add(task, "probe", 1.0, [(task.truth[:, None] == task.classes).astype(float)])
    got = measure(collected.frame(), draws=20)["disease"]["probe"]["1"]
    m = min((task.truth == "sick").sum(), (task.truth == "healthy").sum())
    assert got["auroc"]["lo"] == got["mcc"]["lo"] / 2 + 0.5 == pytest.approx(0.025 ** (1 / m))
    assert (got["auroc"]["mean"], got["auroc"]["hi"]) == (1, 1)
    assert got["ece"]["lo"] == 0 and got["ece"]["hi"] == pytest.approx(1 - 0.025 ** (1 / m))


def test_the_interval_widens_with_fewer_patients_not_with_fewer_windows() -> None:
    def width(table: pd.DataFrame) -> float:
        table = table.assign(label_disease=np.where(table["patient"] % 2, "sick", "healthy"))
        table.loc[table["trial"] == 0, "label_disease"] = "sick"  # of a trial, not of the patient
        task = Task.of(table, "disease")
        assert len(task.patient) == len(table)
        hard = np.random.default_rng(0).standard_normal(8000)[task.patient]
        score = hard + (task.truth == "sick")
        collected = Predictions()
        collected.add(task, "probe", 1.0, [np.stack([-score, score], 1)])
        got = measure(collected.frame(), draws=200)["disease"]["probe"]["1"]["auroc"]
        return got["hi"] - got["lo"]

    assert width(cohort(20, trials=20)) > 2 * width(cohort(400, trials=1))


def test_tables_of_earlier_versions() -> None:
    frame = crossed(cohort(), "disease", folds=1, repeats=1).frame()
    old = frame.drop(columns=["fold", "repeat", "training", "id"])
    one, other = (measure(f, draws=400)["disease"]["probe"]["1"]["auroc"] for f in (frame, old))
    assert other.pop("mean") == pytest.approx(one.pop("mean"))
    # Units come in another order, so the draws are others.
    assert [other.pop(k) for k in ("lo", "hi")] == pytest.approx([one.pop(k) for k in ("lo", "hi")], abs=0.02)
    assert one == other
    # A table of both versions, as after a stage that was not made again.
    mixed = completed(pd.concat([frame, old.assign(protocol="knn")], ignore_index=True))
    assert mixed["fold"].dtype == np.int64 and mixed["id"].notna().all()
    assert set(measure(mixed, draws=5)["disease"]) == {"probe", "knn"}


def test_a_unit_is_tested_once_in_a_repeat() -> None:
    frame = crossed(cohort(), "disease").frame()
    with pytest.raises(ValueError, match="repeat 0, training 0, seed 0: a unit has two predictions"):
        measure(pd.concat([frame, frame.head(1)]), draws=5)


def test_repeats_that_lack_a_run() -> None:
    """A fold that is still to be computed: the runs that all repeats have tell how trainings differ."""
    frame = crossed(cohort(), "disease", seeds=3).frame()
    part = frame[~((frame["repeat"] == 1) & (frame["seed"] == 2))]
    replicates = Replicates.of(completed(part))
    positions, runs = replicates.grid()
    assert positions.shape == (2, 2) and runs.tolist() == [[0, 0], [0, 1]]
    assert measure(part, draws=20)["disease"]["probe"]["1"]["auroc"]["seeds"] == 3
    other = frame[(frame["repeat"] == 0) & (frame["seed"] == 0) | (frame["repeat"] == 1) & (frame["seed"] == 1)]
    assert Replicates.of(completed(other)).grid()[0].shape == (2, 1)
    torn = frame[~((frame["fold"] == 2) & (frame["seed"] == 1))]
    assert measure(torn, draws=20)["disease"]["probe"]["1"]["auroc"]["lo"] is not None


def test_permuted_labels() -> None:
    """The interval is over orders, and the probe has the p-value of no relation."""
    task = Task.of(cohort(), "disease")
    rng, collected = np.random.default_rng(0), Predictions()
    truth = (task.truth == "sick")[:, None] == [False, True]
    probe = predict(task, rng)
    orders = [rng.dirichlet(np.ones(2), len(truth)) for _ in range(39)]
    collected.add(task, "probe", 1.0, [probe])
    collected.add(task, "probe", 0.1, [probe])
    collected.add(task, "permuted_labels", 1.0, orders)
    got = measure(collected.frame(), draws=20)["disease"]
    areas = [sk.roc_auc_score(truth[:, 1], s[:, 1].astype(np.float32)) for s in orders]
    null = got["permuted_labels"]["1"]["auroc"]
    assert [null["lo"], null["hi"]] == pytest.approx(np.percentile(areas, (2.5, 97.5)).tolist())
    assert (null["covers"], null["seeds"]) == ("orders", 39)
    assert got["probe"]["1"]["auroc"]["p_value"] == pytest.approx(1 / 40)
    assert "p_value" not in got["probe"]["0.1"]["auroc"] and "p_value" not in got["probe"]["1"]["brier"]
    # The probe that chose its strength is not what the orders are compared with.
    collected.add(task, "probe_fixed", 1.0, [orders[int(np.argsort(areas)[-4])]])
    assert measure(collected.frame(), draws=20)["disease"]["probe"]["1"]["auroc"]["p_value"] == pytest.approx(5 / 40)


def test_subgroups() -> None:
    table = cohort()
    table["label_site"] = np.where(table["patient"] > 6998, "small", "large")  # two patients
    frame = pd.concat([crossed(table, name).frame() for name in ("disease", "size")], ignore_index=True)
    got = subgroups(frame, table, draws=50)
    assert got["value"].tolist() == 2 * ["f", "m", "<40", "40-60", "60+", "large", "small"]
    assert got["group"].tolist() == 2 * ["sex", "sex", "age", "age", "age", "site", "site"]
    assert got["metric"].tolist() == ["auroc"] * 7 + ["r2"] * 7
    of = got.iloc[:7].set_index("value")
    assert of.loc[["f", "m", "large", "small"], "n_patients"].tolist() == [30, 30, 58, 2]
    assert of.loc[["<40", "40-60", "60+"], "n_patients"].tolist() == [8, 16, 24]  # 12 of no known age
    assert of.loc["small", "too_few"] == "n=2" and np.isnan(of.loc["small", "lo"])
    assert of.loc["m", "too_few"] == "" and of.loc["m", "lo"] < of.loc["m", "mean"] < of.loc["m", "hi"]
    women = frame[frame["patient"].isin(table.loc[table["label_sex"] == "f", "patient"])]
    assert of.loc["f", "mean"] == pytest.approx(measure(women, draws=5)["disease"]["probe"]["1"]["auroc"]["mean"])
    # A label has no subgroups by itself, and a table of an earlier version is joined by patient.
    assert "sex" not in set(subgroups(crossed(table, "sex").frame(), table, draws=5)["group"])
    old = crossed(table, "disease", folds=1, repeats=1).frame().drop(columns="id")
    assert subgroups(old, table, draws=5)["n_patients"].tolist() == of["n_patients"].tolist()
    assert subgroups(frame, table.drop(columns=[c for c in table if c.startswith("label_")])).empty


def test_memory_of_many_units_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws come in blocks: the figures are those of one block, to rounding."""
    frame = crossed(cohort(), "disease").frame()
    whole = measure(frame, draws=30)["disease"]["probe"]["1"]
    monkeypatch.setattr("medssl.evaluate.intervals.BLOCK", 300)
    parts = measure(frame, draws=30)["disease"]["probe"]["1"]
    for name, value in whole.items():
        assert [parts[name][k] for k in ("mean", "lo", "hi")] == pytest.approx([value[k] for k in ("mean", "lo", "hi")])
