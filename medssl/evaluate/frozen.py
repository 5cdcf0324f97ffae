"""Everything that is fitted to features of frozen samples: probes of the encoder, baselines, controls, and checks.

Features of a task are (n_units, d). A replicate is a draw of the label budget together with one of the trained
encoders; baselines have the draw alone.
"""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import device, nn, uint8

from medssl import features
from medssl import table as tables
from medssl.config import Evaluate
from medssl.evaluate import identity, novelty, probe, trust
from medssl.evaluate.baselines import BASELINES
from medssl.evaluate.baselines.demographics import demographics
from medssl.evaluate.baselines.giveaway import label_in_features
from medssl.evaluate.metrics import headline, protocols
from medssl.evaluate.pooling import mean_deviation
from medssl.evaluate.results import Predictions, measure
from medssl.evaluate.tasks import Task, pooled
from medssl.hub import Encoder
from medssl.hub.stores import embed_store
from medssl.ingest.contract import differences
from medssl.models.adapt import alpha_batch_norm
from medssl.models.embed import embed_samples, embed_stages
from medssl.store import Store

Pooled = list[np.ndarray]  # features of each task
UNTRAINED = 8  # networks before any training, at least: they differ more than trained ones, and cost little
COMPARED = 5000  # samples of a part, at most, whose distances are looked at
Predict = Callable[[Task, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Part:
    """What is evaluated at once: a store with the split of one fold, its tasks, and what is asked of them."""

    store: Store
    tasks: Sequence[Task]
    evaluate: Evaluate
    results: Predictions
    fold: int = 0
    repeat: int = 0
    cache: Path | None = None  # of features of all samples
    device: str | device = "cpu"
    progress: bool = False

    def of(self, indices: Sequence[int]) -> Part:
        """Return the part with some of its tasks."""
        return replace(self, tasks=[self.tasks[i] for i in indices])

    def pooled(self, values: np.ndarray) -> Pooled:
        """Return features of the units of each task from those of the samples (n, d)."""
        pool = pooled if self.evaluate.pooling == "mean" else mean_deviation
        return pool(self.tasks, self.store.blocks(), lambda rows: np.asarray(values[rows], np.float64))

    def embedded(self, encoder: Encoder) -> np.ndarray:
        """Return embeddings (n, d) of all samples."""
        # In the encoder's own scale, which makes one set of features of an encoder that all folds share.
        part = replace(self, store=self.store.scaled_by(encoder.scale))
        compute = functools.partial(embed_store, encoder, part.store, device=self.device)
        return part.of_samples(f"embed/{_digest(encoder.module)}/{encoder.contract}", compute)

    def of_samples(self, name: str, compute: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Return features (n, d) of all samples, found again by ``name`` where they were computed before."""
        return features.of_samples(name, self.store, compute, cache=self.cache, progress=self.progress)

    def baseline(self, name: str) -> Pooled | None:
        """Return the features of a baseline, None for a modality that has none of the kind."""
        baseline, modality = BASELINES[name], self.store.facts["modality"]
        if modality not in baseline.modalities:
            return None
        train = np.flatnonzero((self.store.table["split"] == "train").to_numpy())
        compute = baseline.fit(self.store, train, 0)
        if modality in baseline.fitted:  # of this fold alone
            return pooled(self.tasks, self.store.blocks(), compute)
        return self.pooled(self.of_samples(name, compute))

    def add(
        self, task: Task, protocol: str, fraction: float, predicted: Sequence[np.ndarray], trainings: int = 1
    ) -> None:
        """Keep the test predictions of replicates."""
        where = {"fold": self.fold, "repeat": self.repeat, "trainings": trainings}
        self.results.add(task, protocol, fraction, predicted, **where)

    def draws(self, task: Task, fraction: float, trainings: int) -> list[np.ndarray]:
        """Return the training units of each replicate; with all labels they are the same for each encoder."""
        number = max(self.evaluate.seeds, trainings) if fraction < 1 else trainings
        return [task.subset(fraction, seed) for seed in range(number)]

    def fitted(
        self,
        protocol: str,
        sets: Sequence[Pooled],
        predict: Predict = probe.linear,
        *,
        fractions: Sequence[float] | None = None,
    ) -> None:
        """Fit each task at each budget to features of each training, in turn, and keep what is predicted.

        Args:
            protocol: name of the result.
            sets: features of each training; of a baseline, one.
            predict: of (task, features, training units).
            fractions: budgets; None: all that are asked for.
        """
        for index, task in enumerate(self.tasks):
            for fraction in fractions or self.evaluate.fractions:
                draws = self.draws(task, fraction, len(sets))
                predicted = [predict(task, sets[s % len(sets)][index], units) for s, units in enumerate(draws)]
                self.add(task, protocol, fraction, predicted, len(sets))


def _digest(module: nn.Module) -> str:
    """Return a hash of a network's weights and of its kind."""
    digest = hashlib.blake2b(str(module).encode(), digest_size=16)
    for name, value in module.state_dict().items():
        # As bytes: numpy has no bfloat16.
        digest.update(name.encode() + value.detach().cpu().flatten().contiguous().view(uint8).numpy().tobytes())
    return digest.hexdigest()


def of_encoder(part: Part, trained: Sequence[Pooled], untrained: Sequence[Pooled]) -> None:
    """Probe the frozen encoders, and the same network before any training."""
    asked, tasks = part.evaluate.asked, part.tasks
    if asked("probe"):
        part.fitted("probe", trained)
    if asked("naive_bayes"):
        classes = [i for i, task in enumerate(tasks) if task.kind != "number"]
        part.of(classes).fitted("naive_bayes", [[of[i] for i in classes] for of in trained], probe.naive_bayes)
    if asked("knn"):
        part.fitted("knn", trained, probe.knn)
    if untrained:
        part.fitted("random_init", untrained)
    if asked("probe_subject_free"):
        # Of a label that is constant within patients nothing would be left.
        within = [i for i, task in enumerate(tasks) if identity.varies_within(task)]
        free = [[identity.without_subject_axis(tasks[i], of[i]) for i in within] for of in trained]
        part.of(within).fitted("probe_subject_free", free)
    for index, task in enumerate(tasks if asked("permuted_labels") else ()):
        predicted = probe.permuted(task, trained[0][index])
        # Test labels have an order of their own: the same as the predictions in the opposite one.
        moved = probe.orders(task.patient[task.part("test")], len(predicted), seed=probe.TEST_ORDERS)
        shuffled = [one[np.argsort(order)] for one, order in zip(predicted, moved, strict=True)]
        part.add(task, "permuted_labels", 1.0, shuffled)
        part.add(task, "probe_fixed", 1.0, [probe.observed(task, trained[0][index])])


def adapted(part: Part, encoder: Encoder) -> Pooled:
    """Return features whose batch normalisation half-trusts the test samples at hand, those of one site at a time.

    Sites are those of ``label_site`` or ``label_device``, else the source. Test samples alone are adapted to: training
    samples are embedded with the statistics of training, as the probe knows them.
    """
    table = part.store.table
    values = np.array(part.embedded(encoder))
    module = alpha_batch_norm(encoder.module)
    site = next((table[c].astype(str) for c in ("label_site", "label_device") if c in table), table["source"])
    for name in site[table["split"] == "test"].unique():
        rows = np.flatnonzero(((table["split"] == "test") & (site == name)).to_numpy())
        values[rows] = embed_samples(module, part.store.scaled_by(encoder.scale), rows, device=part.device)
    return part.pooled(values)


def of_stages(part: Part, encoders: Sequence[Encoder]) -> None:
    """Probe inner stages of the encoders; of a store that must be converted there are none."""
    made = [embed_stages(of.module, part.store.scaled_by(of.scale), device=part.device) for of in encoders]
    for name in made[0]:
        part.fitted(f"stage_{name}", [part.pooled(of[name]) for of in made])


def beside(embedding: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return both blocks of features (n_units, about twice the wider) for one linear model: each weighs about as much.

    The few columns of one are repeated until they are as many as those of the other: a quadratic penalty takes a column
    that is there c times for one that is larger by the root of c. Once among hundreds, age and sex together with an
    embedding told less than they do alone.

    Source: Escofier and Pages 1994 (multiple factor analysis), where a block is scaled by its largest singular value.
    """
    blocks = (embedding, known)
    most = max(block.shape[1] for block in blocks)
    return np.column_stack([np.tile(block, (1, round(most / block.shape[1]))) for block in blocks])


def of_baselines(part: Part, trained: Sequence[Pooled]) -> Pooled:
    """Fit the baselines, and the embedding together with features of the field or with who a person is.

    Who a person is, is returned by task: (n_units, k), k = 0 where it is unknown.
    """
    asked, tasks = part.evaluate.asked, part.tasks
    for name in BASELINES:
        more = ("handcrafted_boosting", "handcrafted_probe") if name == "handcrafted" else ()
        wanted = [protocol for protocol in (name, *more) if asked(protocol)]
        if not wanted or (made := part.baseline(name)) is None:
            continue
        if name in wanted:
            part.fitted(name, [made])
        if "handcrafted_boosting" in wanted:
            # Trees take seconds each: at the largest budget alone.
            part.fitted("handcrafted_boosting", [made], probe.boosting, fractions=[max(part.evaluate.fractions)])
        if "handcrafted_probe" in wanted:
            part.fitted("handcrafted_probe", [[beside(z, x) for z, x in zip(of, made, strict=True)] for of in trained])
    known = {i: of for i, task in enumerate(tasks) if (of := demographics(part.store.table, task)) is not None}
    some = part.of(list(known))
    if asked("demographics"):
        some.fitted("demographics", [list(known.values())])
    if asked("demographics_probe"):
        some.fitted("demographics_probe", [[beside(of[i], known[i]) for i in known] for of in trained])
    return [known.get(i, np.zeros((len(task.patient), 0))) for i, task in enumerate(tasks)]


def checks(part: Part, encoders: Sequence[Encoder], trained: Pooled, known: Pooled, *, key: bytes) -> list[trust.Check]:
    """Check the split, the encoders, embeddings and demographics of a part."""

    def stating(values: Pooled) -> dict[str, list[int]]:
        found = {t.name: label_in_features(t, x) for t, x in zip(part.tasks, values, strict=True) if x.shape[1]}
        return {name: columns for name, columns in found.items() if columns}

    table = part.store.table
    apart = [trust.encoder_apart(encoder.config.get("provenance", {}), table, key) for encoder in encoders]
    inside = trust.no_label_inside(stating(known), stating(trained))
    return [
        trust.parts_apart(table),
        *trust.joined([check] for check in apart),
        inside,
        *of_embedding(table, part.embedded(encoders[0])),
    ]


def of_embedding(table: pd.DataFrame, values: np.ndarray) -> list[trust.Check]:
    """Check whether test patients resemble those trained on, and whether embeddings tell who somebody is.

    Args:
        table: sample table with split.
        values: (n, d) embeddings of its samples.
    """
    parts = {s: np.flatnonzero((table["split"] == s).to_numpy()) for s in tables.SPLITS}
    rng = np.random.default_rng(0)
    some = {s: np.sort(rng.permutation(rows)[:COMPARED]) for s, rows in parts.items()}
    known = {s: np.asarray(values[rows], np.float64) for s, rows in some.items()}
    known = {s: z[np.isfinite(z).all(1)] for s, z in known.items()}
    checks = []
    if all(map(len, known.values())):
        inside, outside = (novelty.mahalanobis(known["train"], known[s]) for s in ("val", "test"))
        checks.append(trust.alike(novelty.report(inside, outside)))
    test = table.iloc[parts["test"]]
    if test["patient"].nunique() > 1 and test["patient"].duplicated().any():
        given = (values[parts["test"]], test["patient"].to_numpy(), test["trial"].to_numpy())
        checks.append(trust.anonymous(identity.reidentification(*given)))
    return checks


def evaluate(part: Part, encoders: Sequence[Encoder], *, key: bytes) -> list[trust.Check]:
    """Fit and predict all that is asked of frozen features, into ``part.results``; return the checks.

    Args:
        part: store with the split of one fold, tasks, results.
        encoders: of a run, one a training.
        key: of the project, for the codes of patients.
    """
    trained = [part.pooled(part.embedded(encoder)) for encoder in encoders]
    untrained = []
    for seed in range(max(part.evaluate.seeds, UNTRAINED) if part.evaluate.asked("random_init") else 0):
        other = copy.copy(encoders[0])
        other.module = encoders[0].untrained(1000 + seed)
        untrained.append(part.pooled(part.embedded(other)))
    of_encoder(part, trained, untrained)
    # What looks into the network takes samples as they are stored.
    if not differences(encoders[0].contract, part.store.facts):
        if part.evaluate.asked("stages"):
            of_stages(part, encoders)
        if part.evaluate.asked("probe_adapted"):
            part.fitted("probe_adapted", [adapted(part, encoder) for encoder in encoders])
    known = of_baselines(part, trained)
    return checks(part, encoders, trained[0], known, key=key)


def validated(part: Part, encoder: Encoder) -> tuple[str, dict[str, Any]]:
    """Return the headline of a probe of one task on validation patients: its metric, and ``mean, lo, hi, n_patients``.

    It is fitted to training patients, and test patients have no part in it. Limits are None where patients are too few.

    Args:
        part: with one task.
        encoder: to embed with.
    """
    (task,) = part.tasks
    moved = np.select([task.split == "train", task.split == "val"], ["train", "test"], "other")
    if not (moved == "test").any():
        return headline({}), {"mean": None, "lo": None, "hi": None, "n_patients": 0}
    seen = replace(part, tasks=[replace(task, split=moved)], results=Predictions())
    seen.fitted("probe", [seen.pooled(part.embedded(encoder))], fractions=[1.0])
    ((_, fractions),) = protocols(measure(seen.results.frame(), draws=part.evaluate.bootstrap)[task.name]).items()
    (scored,) = fractions.values()
    return headline(scored), {key: scored[headline(scored)].get(key) for key in ("mean", "lo", "hi", "n_patients")}
