"""Typed sections of ``params.yaml``: the only package that reads YAML.

Every section is a frozen pydantic model that forbids unknown keys, so a typing mistake is one clear line
that names the key, the value and what is allowed. Functions elsewhere get plain values.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from medssl.config import stages
from medssl.config.cohort import Cohort, Dedup, SignalIngest, Source, SplitParams, Synthetic, VolumeIngest
from medssl.config.recipes import OPTIONS, Anatomy, Factor, Options
from medssl.config.recipes.sequels import SEVERAL
from medssl.config.run import (
    BASELINES,
    CONTROLS,
    ENCODER,
    TRAINED,
    Batch,
    EncoderParams,
    Evaluate,
    Positives,
    Pretrain,
    Run,
)
from medssl.config.section import MODALITIES, SIGNALS, Count, Positive, Section, explain

__all__ = [
    "BASELINES", "CONTROLS", "ENCODER", "MODALITIES", "OPTIONS", "SIGNALS", "TRAINED", "Anatomy", "Batch", "Cohort",
    "Compute", "ConfigError", "Dedup", "EncoderParams", "Evaluate", "Factor", "Options", "Params", "Positives",
    "Pretrain", "Release", "Run", "SignalIngest", "Source", "SplitParams", "Synthetic", "Tracking", "VolumeIngest",
    "evaluate_of", "explain", "load", "load_default", "modality_of", "obstacles", "parse", "part",
]  # fmt: skip


_NAME = re.compile(r"\w[\w-]*")


class ConfigError(ValueError):
    """A value in ``params.yaml`` or the environment that cannot be used; the message names it and the fix."""


class Tracking(Section):
    """Where runs are recorded. ``MLFLOW_TRACKING_URI`` wins over ``uri``; null means ``mlflow.db`` of the project."""

    uri: str | None = None
    experiment: str = "medssl"


class Compute(Section):
    """How work is spread over workers, devices and nodes.

    The loss does not depend on the number of processes: contrast is over the whole batch. Precision does change what is
    trained, and so does batch normalisation on CPU processes, which see their own share (on GPUs it is synchronised).
    """

    workers: Count = 1
    executor: Literal["serial", "process", "dask"] = "serial"
    address: str | None = None
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = "auto"
    devices: Count | Literal["auto"] = 1
    nodes: Count = 1
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    loader_workers: Annotated[int, Field(ge=0)] = 0
    compile: bool = False
    checkpoint_minutes: Positive = 10.0
    progress: bool = True


class Release(Section):
    """An encoder to hand on: made like that of ``run``, of all patients of its cohort.

    ``licence`` is that of the recordings, and ``cite`` what their publisher asks to cite; the card says both.
    """

    run: str
    licence: Annotated[str, Field(min_length=1)]
    cite: str = ""


class Params(Section):
    """The whole of ``params.yaml``.

    ``folds`` names the folds that DVC runs a stage for, as a set: ``{f0, f1, f2}`` for 3 x 1 of ``split.folds`` x
    ``split.repeats``; with several such cohorts, of the one that has most. ``sequels`` names the runs that start from
    others, ``{second: first}``, for which DVC runs a stage too.
    """

    seed: Annotated[int, Field(ge=0)] = 0
    tracking: Tracking = Tracking()
    compute: Compute = Compute()
    synthetic: dict[str, Synthetic] = Field(default_factory=dict)
    modalities: dict[str, Cohort] = Field(min_length=1)
    folds: dict[str, None] = Field(default_factory=dict)
    runs: dict[str, Run] = Field(default_factory=dict)
    sequels: dict[str, str] = Field(default_factory=dict)
    release: dict[str, Release] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_its_folds(self) -> Self:
        most = max(((c.split.folds or 0) * c.split.repeats, key) for key, c in self.modalities.items())
        names = [f"f{number}" for number in range(most[0])]
        if list(self.folds) != names:
            have, needed = (f"{{{', '.join(some)}}}" for some in (self.folds, names))
            raise ValueError(
                f"folds {have}: modalities.{most[1]}.split has folds x repeats = {most[0]}, and each is a stage; "
                f"write folds: {needed}"
            )
        return self

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        for section in ("modalities", "synthetic", "runs", "release"):
            for key in getattr(self, section):
                # Stages, folders and words of commands are named after them.
                if not _NAME.fullmatch(key):
                    raise ValueError(f"{section}.{key!r}: a name has letters, digits, - and _, and begins with no -")
                if section in ("modalities", "synthetic") and modality_of(key) not in MODALITIES:
                    raise ValueError(
                        f"{section}.{key}: '{modality_of(key)}' is not a modality; allowed: {', '.join(MODALITIES)}, "
                        "each with an optional suffix such as ecg-holter"
                    )
        for key, modality in self.modalities.items():
            signal = modality_of(key) in SIGNALS
            if signal != isinstance(modality.ingest, SignalIngest):
                raise ValueError(
                    f"modalities.{key}.ingest: keys of a {'volume' if signal else 'signal'} given; "
                    f"{key} needs those of a {'signal' if signal else 'volume'}"
                )
        for name, run in self.runs.items():
            if run.modality not in self.modalities:
                raise ValueError(
                    f"runs.{name}.modality '{run.modality}' is not in modalities; allowed: {', '.join(self.modalities)}"
                )
        return self

    @model_validator(mode="after")
    def _can_start(self) -> Self:
        for name, run in self.runs.items():
            where, seen = f"runs.{name}.start '{run.start}'", [name]
            while (start := self.runs[seen[-1]].start) is not None:
                if start not in self.runs:
                    raise ValueError(f"runs.{seen[-1]}.start '{start}' is not in runs; allowed: {', '.join(self.runs)}")
                seen.append(start)
                if start in seen[:-1]:
                    raise ValueError(f"{where}: {' -> '.join(seen)} is a circle; one of them starts from nothing")
            if run.start is None:
                continue
            first = self.runs[run.start]
            if first.encoder_from is not None:
                raise ValueError(f"{where} takes a trained encoder; name a run with a recipe")
            one, two = first.modality, run.modality
            differ = (
                self.modalities[one].unlike(self.modalities[two])
                if modality_of(one) == modality_of(two)
                else "modality"
            )
            if differ:
                raise ValueError(
                    f"{where} is of cohort {one}, and {name} of {two}, which differ in {differ}; give both the same"
                )
            if first.encoder != run.encoder:
                raise ValueError(f"{where} has another encoder; give both the same")
            if first.recipe == "mcl" and first.start is not None and run.recipe not in SEVERAL:
                raise ValueError(
                    f"{where} is an encoder of several stages (recipe mcl), and recipe {run.recipe} trains one; take "
                    f"{' or '.join(SEVERAL)}, or a start without a start"
                )
            began = self.started(name, None, run.seeds - 1)
            if began is not None and began[2] >= first.seeds:
                raise ValueError(f"{where} has seeds: {first.seeds}, and {name} {run.seeds}; take as many or fewer")
        sequels = {name: run.start for name, run in self.runs.items() if run.start is not None}
        if self.sequels != sequels:
            have, needed = (
                f"{{{', '.join(f'{a}: {b}' for a, b in some.items())}}}" for some in (self.sequels, sequels)
            )
            raise ValueError(f"sequels {have}: each run with a start is a stage; write sequels: {needed}")
        return self

    def started(self, name: str, fold: int | None, number: int) -> tuple[str, int | None, int] | None:
        """Return run, fold and number of the training that a training of a run starts from; None: from nothing.

        In the same cohort it is of the same fold, so that both hold out the same patients, and of the same number. In
        another cohort it is of the fixed split, which trains one encoder where that cohort has folds.
        """
        run = self.runs[name]
        if run.start is None:
            return None
        first = self.runs[run.start]
        if first.modality == run.modality:
            return run.start, fold, number
        return run.start, None, 0 if self.modalities[first.modality].split.folds else number

    def reads(self, name: str) -> tuple[str, ...]:
        """Return what a run's encoder has read besides recordings: in its own training, and in all it starts from."""
        found: list[str] = []
        at: str | None = name
        while at is not None:
            found += self.runs[at].reads()
            at = self.runs[at].start
        return tuple(dict.fromkeys(found))

    @model_validator(mode="after")
    def _can_be_released(self) -> Self:
        for name, release in self.release.items():
            run = self.runs.get(release.run)
            if run is None:
                raise ValueError(
                    f"release.{name}.run '{release.run}' is not in runs; allowed: {', '.join(self.runs) or 'none'}"
                )
            if run.encoder_from is not None:
                raise ValueError(
                    f"release.{name}.run '{release.run}' takes a trained encoder; name a run with a recipe"
                )
            if self.modalities[run.modality].dedup.fitted():
                raise ValueError(
                    f"release.{name}: modalities.{run.modality}.dedup compares training patients with each other and "
                    "removes nothing of others; take scope volume or patient, and a threshold instead of keep_ratio"
                )
        return self


def evaluate_of(given: dict[str, Any]) -> Evaluate:
    """Return a section ``evaluate`` of some of its values.

    Raises:
        ConfigError: a value out of range.
    """
    try:
        return Evaluate.model_validate(given)
    except ValidationError as error:
        raise ConfigError(explain(error, "evaluate")) from None


def modality_of(key: str) -> str:
    """Return the modality of a key of ``modalities``: ``ecg`` for ``ecg`` and for ``ecg-holter``."""
    return key.split("-", 1)[0]


class _Loader(yaml.SafeLoader):
    """PyYAML takes the last of two equal keys without a word; DVC refuses such a file, and so do we.

    It also takes ``on``, ``off``, ``yes`` and ``no`` for truth values, as YAML 1.1 has it. DVC reads YAML 1.2, where
    they are words, and some keys here are such words.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 (as its parent has it)
        first: [one for one in found if one[0] != "tag:yaml.org,2002:bool" or first in "tTfF"]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value} stands twice", key.start_mark)
            seen.add(key.value)
        return node


def _mapping(text: str, where: str) -> dict[str, Any]:
    try:
        raw = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: expected sections (seed, modalities, runs ...), found {type(raw).__name__}")
    return raw


def parse(text: str, where: str = "params.yaml") -> Params:
    """Read the text of a params file.

    Raises:
        ConfigError: not YAML, an unknown key, a wrong type or a value out of range.
    """
    raw = _mapping(text, where)
    for key, modality in (raw.get("modalities") or {}).items():
        # Choose the ingest model by modality first: a union would report the failures of both.
        if isinstance(modality, dict) and isinstance(modality.get("ingest"), dict):
            kind: type[Section] = SignalIngest if modality_of(str(key)) in SIGNALS else VolumeIngest
            try:
                modality["ingest"] = kind.model_validate(modality["ingest"])
            except ValidationError as error:
                raise ConfigError(explain(error, f"{where}: modalities.{key}.ingest")) from None
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(explain(error, where)) from None


def load(path: str | Path = "params.yaml") -> Params:
    """Read and check ``params.yaml``."""
    path = Path(path)
    return parse(_text(path), str(path))


def _text(path: Path) -> str:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; run from the folder that holds {path.name}")
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None


def _nearest(name: str, folder: Path) -> Path:
    """Return a file of the project: of this folder, else the one the package brings along."""
    package = Path(__file__).parents[1]
    homes = [folder, package.parent, package / "template"]
    return next((home / name for home in homes if (home / name).is_file()), folder / name)


def load_default() -> Params:
    """Read the project's ``params.yaml``: of this folder, else the one the package brings along."""
    return load(_nearest("params.yaml", Path()))


def obstacles(path: str | Path = "params.yaml") -> list[str]:
    """Return what would stop ``dvc repro`` although the values are right, one line each (`medssl.config.stages`).

    The stages are those of ``dvc.yaml`` beside the file, else of the package's.

    Raises:
        ConfigError: one of the two files cannot be read.
    """
    path = Path(path)
    params, pipeline = load(path), _nearest("dvc.yaml", path.parent)
    missing = stages.left_out(_mapping(_text(pipeline), str(pipeline)), _mapping(_text(path), str(path)), params)
    problems = stages.folders(path.parent, params)
    if missing:
        keys = ", ".join(key for key, _ in missing)
        lines = stages.to_add(missing)
        problems.insert(0, f"{path}: {keys} left out, which dvc.yaml names and DVC must find; add: {lines}")
    return problems


def part(params: Params, section: str, key: str) -> Any:
    """Return ``params.<section>.<key>`` or say which keys exist."""
    table = getattr(params, section)
    if key not in table:
        raise ConfigError(f"{section}.{key}: no such entry; allowed: {', '.join(table) or 'none'}")
    return table[key]
