"""What a search may change of a run: one table, a row a key.

A row names a key below ``runs.<name>``, what kind of values it takes and between which, and for which runs it stands:

- ``log`` and ``range``: numbers from low to high, on a logarithmic or a linear scale; whole ones where both ends are;
- ``choice``: one of the values, whatever they are: numbers, words, null, lists, mappings;
- ``times``: multiples of the run's own value, rounded to whole numbers where that is one.

The run's own value always belongs to its axis, because the first trial is the run as it stands.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import ValidationError

from medssl.config import SIGNALS, Run, explain
from medssl.pretrain.recipes import RECIPES

DIGITS = 3  # of a number that is drawn, so that people can read and repeat it


class Setting(NamedTuple):
    """What decides which rows stand for a run."""

    recipe: str
    encoder: str
    modality: str  # without suffix
    channels: int
    trials: float  # of the median training patient
    samples: float  # of the median trial
    steps: int = 0  # of a signal

    @classmethod
    def of(cls, run: Run, facts: Mapping[str, Any], training: pd.DataFrame) -> Setting:
        """Return the setting of a run on a store.

        Args:
            run: entry of ``runs``.
            facts: of the store.
            training: sample table of those who train.
        """
        trials = training.groupby("patient")["trial"].nunique().median()
        samples = training.groupby("trial").size().median()
        name = run.encoder.name if run.encoder else ""
        channels, *size = facts["shape"]
        steps = int(size[0]) if len(size) == 1 else 0
        return cls(run.recipe, name, facts["modality"], int(channels), float(trials), float(samples), steps)


def _always(setting: Setting) -> bool:
    return True


def _recipe(*names: str) -> Callable[[Setting], bool]:
    return lambda setting: setting.recipe in names


def _encoder(*names: str) -> Callable[[Setting], bool]:
    return lambda setting: setting.encoder in names


class Row(NamedTuple):
    """One line of the table."""

    key: str
    kind: Literal["log", "range", "choice", "times"]
    values: tuple[Any, ...]
    when: Callable[[Setting], bool] = _always


RESNETS = ("resnet1d", "resnet2d", "resnet3d")
PATIENTS = {"view": 0.5, "trial": 0.25, "patient": 0.25}
SIGREG = {"name": "sigreg", "of": "projection", "weight": 0.02, "directions": 256}
LATENT, SPECTRUM = ({"name": name, "weight": 1.0, "share": 0.5, "spans": 4} for name in ("latent", "spectrum"))
CONTRAST = ("simclr", "comet", "comet_code", "wearable", "anatomy", "swav", "multiview", "sogclr", "mochi")

# fmt: off
SPACE = (
    # Optimisation.
    Row("pretrain.lr", "log", (1e-4, 1e-2)),
    Row("pretrain.weight_decay", "log", (1e-6, 1e-1)),
    Row("pretrain.epochs", "times", (0.5, 1, 2, 4)),
    # What meets in a batch.
    Row("pretrain.batch.patients", "times", (0.5, 1, 2)),
    Row("pretrain.batch.trials", "choice", (1, 2), lambda s: s.trials >= 2 and s.recipe != "wearable"),
    Row("pretrain.batch.samples", "choice", (1, 2, 4), lambda s: s.samples >= 2 and s.recipe != "wearable"),
    # What an encoder has to see through.
    Row("pretrain.views", "choice", (None, "mild"), lambda s: s.modality not in SIGNALS),
    Row("pretrain.views", "choice", (None, "mild", "spectral"), lambda s: s.modality in SIGNALS),
    Row("pretrain.views", "choice", (None, "mild", "spectral", "leads"),
        lambda s: s.modality in ("ecg", "eeg") and s.channels > 2),
    Row("pretrain.view_strength", "range", (0.25, 1.5)),
    Row("pretrain.positives", "choice", (None, PATIENTS, {"view": 0.0, "trial": 0.5, "patient": 0.5}),
        lambda s: s.trials * s.samples >= 2 and not RECIPES[s.recipe].partners),
    # Objective.
    Row("pretrain.temperature", "log", (0.05, 0.5), _recipe(*CONTRAST)),
    Row("pretrain.projection_dim", "choice", (32, 64, 128)),
    Row("pretrain.regulariser", "choice", (None, SIGREG), lambda s: s.recipe not in ("comet", "comet_code")),
    Row("pretrain.predict", "choice", (None, LATENT), lambda s: s.modality not in SIGNALS),
    Row("pretrain.predict", "choice", (None, LATENT, SPECTRUM), lambda s: s.modality in SIGNALS),
    Row("pretrain.options.decoupled", "choice", (False, True), _recipe("simclr")),
    Row("pretrain.options.pool", "choice", ("mean", "max", "time_cosine"), _recipe("comet")),
    Row("pretrain.options.koleo", "choice", (0.0, 0.1, 0.3), _recipe("wearable")),
    Row("pretrain.options.momentum", "choice", (0.9, 0.97, 0.99), _recipe("wearable", "byol", "mochi")),
    Row("pretrain.options.participant_pairs", "choice", (0.0, 0.5, 1.0), _recipe("wearable")),
    Row("pretrain.options.loss", "choice", ("y_aware", "threshold", "exp_weighted"), _recipe("anatomy")),
    Row("pretrain.options.sigma", "log", (0.1, 2.0), _recipe("anatomy")),
    Row("pretrain.options.prototypes", "choice", (32, 128, 512), _recipe("swav")),
    Row("pretrain.options.eps", "log", (0.02, 0.5), _recipe("swav")),
    Row("pretrain.options.views", "choice", (2, 4, 6), _recipe("multiview")),
    Row("pretrain.options.gamma", "choice", (0.5, 0.7, 0.9), _recipe("sogclr")),
    Row("pretrain.options.heads", "choice", (1, 3, 5), _recipe("amcl")),
    # Encoder.
    Row("encoder.widths", "times", (0.5, 1, 2)),
    Row("encoder.depth", "choice", (1, 2), _encoder(*RESNETS)),
    Row("encoder.pool", "choice", (None, "mean_std", "stages"), _encoder(*RESNETS, "convnet1d")),
    Row("encoder.stem", "choice", (None, "small"), _encoder(*RESNETS)),
    Row("encoder.front", "choice", (None, "spectrum"), lambda s: s.encoder == "convnet1d" and s.modality == "eeg"),
    Row("encoder.depth", "choice", (3, 5, 7, 9), _encoder("dilated1d")),
    Row("encoder.crop", "choice", (None, 250), lambda s: s.steps >= 500 and not RECIPES[s.recipe].dense),
    Row("encoder.crop", "choice", (None, 250, 500), lambda s: s.steps >= 1000 and not RECIPES[s.recipe].dense),
)
# fmt: on


class Axis(NamedTuple):
    """A row for one run: how values are drawn, and the run's own."""

    key: str
    draws: BaseDistribution  # of choices, over their JSON text, which storages keep as it is
    own: Any

    def value(self, drawn: Any) -> Any:
        """Return a drawn value as the run takes it."""
        if isinstance(self.draws, CategoricalDistribution):
            return json.loads(drawn)
        return drawn if drawn == self.own or isinstance(drawn, int) else float(f"{drawn:.{DIGITS}g}")

    def stored(self) -> Any:
        """Return the run's own value as it is drawn."""
        return json.dumps(self.own) if isinstance(self.draws, CategoricalDistribution) else self.own

    def facts(self) -> list[Any]:
        """Return what decides the axis, as JSON has it."""
        return [self.key, optuna.distributions.distribution_to_json(self.draws), self.own]


def named(words: Sequence[str]) -> list[Row]:
    """Return the rows that a user names: ``pretrain.lr`` as in the table, or with values of one's own.

    ``pretrain.lr=1e-4..1e-2`` is a range, logarithmic where it spans a factor of 10 or more, and
    ``pretrain.views=[null, leads]`` are choices, each as JSON has it or a plain word. No word: the whole table.

    Raises:
        ValueError: a key that is not in the table and has no values, or values that are neither.
    """
    rows: list[Row] = []
    for word in words:
        key, equals, values = word.partition("=")
        if not equals:
            found = [row for row in SPACE if row.key == key]
            if not found:
                have = ", ".join(dict.fromkeys(row.key for row in SPACE))
                raise ValueError(f"--space {key}: no such row; give it values, {key}=LOW..HIGH, or take of: {have}")
            rows += found
        elif values.startswith("[") and values.endswith("]"):
            rows.append(Row(key, "choice", tuple(_choices(values))))
        else:
            try:
                low, high = (json.loads(end) for end in values.split(".."))
                if not low < high:
                    raise ValueError(word)
            except (ValueError, TypeError):
                raise ValueError(f"--space {word}: expected {key}=LOW..HIGH with numbers, or {key}=[A, B, C]") from None
            rows.append(Row(key, "log" if low > 0 and high >= 10 * low else "range", (low, high)))
    return rows or list(SPACE)


def _choices(text: str) -> list[Any]:
    """Return the values of a list, in JSON or as plain words."""
    try:
        return list(json.loads(text))
    except ValueError:
        return [_word(word.strip()) for word in text[1:-1].split(",")]


def _word(word: str) -> Any:
    try:
        return json.loads(word)
    except ValueError:
        return word


def axes(rows: Sequence[Row], run: Run, setting: Setting) -> tuple[list[Axis], list[str]]:
    """Return the axes of a run, and in words which rows were left out although they stand for it.

    Of two rows of one key the later one counts. A range is widened to the run's own value, and choices have it first.

    Raises:
        ValueError: a key that the run does not have; nothing left to search.
    """
    whole = run.model_dump(mode="json")
    made: dict[str, Axis] = {}
    notes: dict[str, str] = {}
    for row in (row for row in rows if row.when(setting)):
        own: Any = whole
        for part in row.key.split("."):
            if not isinstance(own, dict) or part not in own:
                raise ValueError(f"{row.key}: a run of recipe {run.recipe} has no such key")
            own = own[part]
        draws = _draws(row, own)
        if draws is None:
            notes[row.key] = f"{row.key} is {json.dumps(own)}, which has no place on a scale; it stays"
        else:
            made[row.key] = Axis(row.key, draws, own)
    if not made:
        raise ValueError("; ".join(["nothing to search", *notes.values()]))
    return list(made.values()), [note for key, note in notes.items() if key not in made]


def _draws(row: Row, own: Any) -> BaseDistribution | None:
    """Return how values of a row are drawn, None where the run's own value is not one of their kind."""
    if row.kind in ("log", "range"):
        if isinstance(own, bool) or not isinstance(own, int | float) or (row.kind == "log" and own <= 0):
            return None
        low, high = min(row.values[0], own), max(row.values[1], own)
        whole = all(isinstance(number, int) for number in (low, high, own))
        kind: Any = IntDistribution if whole else FloatDistribution
        made: BaseDistribution = kind(low, high, log=row.kind == "log")
        return made
    if row.kind == "times":
        if own is None:
            return None
        values = [_times(own, factor) for factor in row.values]
    else:
        values = list(row.values)
    texts = dict.fromkeys(map(json.dumps, [own, *values]))
    return CategoricalDistribution(list(texts)) if len(texts) > 1 else None


def _times(own: Any, factor: float) -> Any:
    if isinstance(own, list):
        return [_times(one, factor) for one in own]
    return max(1, round(own * factor)) if isinstance(own, int) else own * factor


def drawn(trial: optuna.Trial, over: Sequence[Axis]) -> dict[str, Any]:
    """Return a value for each axis, as a trial draws them."""
    return {axis.key: axis.value(_drawn(trial, axis)) for axis in over}


def _drawn(trial: optuna.Trial, axis: Axis) -> Any:
    draws = axis.draws
    if isinstance(draws, CategoricalDistribution):
        return trial.suggest_categorical(axis.key, draws.choices)
    if isinstance(draws, IntDistribution):
        return trial.suggest_int(axis.key, draws.low, draws.high, log=draws.log)
    assert isinstance(draws, FloatDistribution)
    return trial.suggest_float(axis.key, draws.low, draws.high, log=draws.log)


def changed(over: Sequence[Axis], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the values that are not the run's own."""
    return {axis.key: values[axis.key] for axis in over if values[axis.key] != axis.own}


def applied(run: Run, values: Mapping[str, Any]) -> Run:
    """Return the run with other values, by their keys.

    Raises:
        ValueError: values that do not go together.
    """
    # What nobody wrote stays unwritten: a recipe refuses options that another of its options leaves unused.
    raw = run.model_dump(mode="json", exclude_unset=True)
    for key, value in values.items():
        *sections, last = key.split(".")
        place = raw
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    try:
        return Run.model_validate(raw)
    except ValidationError as error:
        raise ValueError(explain(error, "trial")) from None
