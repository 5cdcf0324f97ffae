"""Factors of an ablation: which keys of which runs they change, and the params file with a run for each level.

A level maps dotted keys to values: keys below a run (``pretrain.positives``) or, with the prefix ``cohort.``, below its
cohort (``cohort.ingest.normalise``). The latter gives the level a cohort of its own with the same split. Where the keys
of a level are names of base runs, each of them has its own values, and those not named do not have that level. The key
``protocol`` has another protocol of a run stand in for its probe: ``protocol: random_init`` is the untrained encoder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from medssl import config, workspace
from medssl.ablate import refusals
from medssl.config import explain
from medssl.config.section import Count, Section
from medssl.store import Store, open_store
from medssl.tune import space

COHORT = "cohort."
PROTOCOL = "protocol"
PROBE = "probe"
_NAME = re.compile(r"\w+(-\w+)*")
JOIN = "--"  # between the parts of a name: words of commands and folders are named after runs and cohorts


class Factor(Section):
    """What is changed of some base runs, and why.

    ``runs`` names the base runs, each with the labels to report; ``levels`` what is changed of them, and ``notes`` what
    their sources say of them.
    """

    question: str
    runs: dict[str, tuple[str, ...]] = Field(min_length=1)
    levels: dict[str, Annotated[dict[str, Any], Field(min_length=1)]] = Field(min_length=1)
    notes: dict[str, str] = Field(default_factory=dict)

    def values(self, level: str, base: str) -> dict[str, Any] | None:
        """Return what a level changes of a base run; None where the run does not have that level."""
        given = self.levels[level]
        return deepcopy(given.get(base) if set(given) <= set(self.runs) else given)


class Ablation(Section):
    """A file of factors.

    ``like`` is the params file that has the base runs: beside this file, or one that the project brings along. ``runs``
    are further base runs, as a params file has them. ``evaluate`` changes that section of every run, and ``compute``
    that of the params file, such as the precision. ``baselines`` are further protocols of the base runs alone, which no
    training changes; each level is compared with them too. ``cost_steps`` is how many steps of each run are measured,
    in turns (`medssl.ablate.costs`); null: none.
    """

    like: str
    evaluate: dict[str, Any] = Field(default_factory=dict)
    compute: dict[str, Any] = Field(default_factory=dict)
    baselines: tuple[str, ...] = ()
    cost_steps: Count | None = None
    runs: dict[str, dict[str, Any]] = Field(default_factory=dict)
    factors: dict[str, Factor] = Field(min_length=1)

    @model_validator(mode="after")
    def _runs_are_of_cohorts(self) -> Self:
        if lacking := [name for name, run in self.runs.items() if not isinstance(run.get("modality"), str)]:
            raise ValueError(f"runs.{lacking[0]}: modality missing; name a cohort of {self.like}")
        return self

    @model_validator(mode="after")
    def _levels_of_base_runs_are_mappings(self) -> Self:
        for name, factor in self.factors.items():
            for level, given in factor.levels.items():
                for base in given if set(given) <= set(factor.runs) else ():
                    if not isinstance(given[base], dict) or not given[base]:
                        raise ValueError(
                            f"factors.{name}.levels.{level}.{base} = {given[base]!r}: expected keys and values, "
                            "such as {pretrain.views: mild}"
                        )
        return self

    @model_validator(mode="after")
    def _names_are_told_apart(self) -> Self:
        levels = [level for factor in self.factors.values() for level in factor.levels]
        if bad := [name for name in (*self.factors, *levels) if not _NAME.fullmatch(name)]:
            raise ValueError(f"factors: {bad[0]!r}: a name is of letters, digits and _, with single - between them")
        return self

    @model_validator(mode="after")
    def _baselines_are_of_base_runs_alone(self) -> Self:
        if self.baselines and not self.evaluate.get("protocols"):
            raise ValueError("baselines: every run evaluates all protocols; name those of levels: evaluate.protocols")
        return self

    def labels(self, base: str) -> list[str]:
        """Return the labels that any factor reports of a base run."""
        named = [label for factor in self.factors.values() for label in factor.runs.get(base, ())]
        return list(dict.fromkeys(named))


class Cell(NamedTuple):
    """One level of one base run."""

    factor: str
    level: str
    base: str
    run: str  # of the level; the base run where another protocol alone is taken
    protocol: str
    labels: tuple[str, ...]
    refused: str = ""  # why it cannot be


class Choice(NamedTuple):
    """Which part of a file is run, by name; no name of a kind: all of it."""

    factors: Sequence[str] = ()
    levels: Sequence[str] = ()
    runs: Sequence[str] = ()

    def takes(self, cell: Cell) -> bool:
        """Say whether a cell belongs to the part."""
        own = (cell.factor, cell.level, cell.base)
        return all(not names or name in names for names, name in zip(self, own, strict=True))

    def check(self, ablation: Ablation) -> None:
        """Refuse names that the file does not have.

        Raises:
            ConfigError: a factor, a level or a base run that no factor has.
        """
        factors = ablation.factors
        levels, runs = (
            list(dict.fromkeys(n for f in factors.values() for n in getattr(f, kind))) for kind in ("levels", "runs")
        )
        for kind, names, have in zip(self._fields, self, (factors, levels, runs), strict=True):
            if unknown := [name for name in names if name not in have]:
                raise config.ConfigError(f"--{kind} {', '.join(unknown)}: not in the file; it has {', '.join(have)}")


EVERYTHING = Choice()


class Plan(NamedTuple):
    """What is run of one base run."""

    params: dict[str, Any]  # of its workspace
    cells: list[Cell]


def read(path: Path) -> Ablation:
    """Return a file of factors.

    Raises:
        ConfigError: not YAML, an unknown key or a wrong type.
    """
    try:
        return Ablation.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except yaml.YAMLError as error:
        raise config.ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise config.ConfigError(explain(error, str(path))) from None


def bases(ablation: Ablation, given: Mapping[str, Any], choice: Choice = EVERYTHING) -> tuple[list[str], list[str]]:
    """Return the base runs of a part of the file, and those whose recordings are not there.

    Args:
        ablation: the factors.
        given: content of the params file that has the base runs; cohorts whose recordings lack are not in it.
        choice: the part.

    Raises:
        ConfigError: a name that does not exist; no recordings of any base run.
    """
    choice.check(ablation)
    known = {**given["runs"], **ablation.runs}
    some = [f for name, f in ablation.factors.items() if not choice.factors or name in choice.factors]
    named = [base for factor in some for base in factor.runs if not choice.runs or base in choice.runs]
    if unknown := [base for base in named if base not in known]:
        raise config.ConfigError(f"factors: no run {unknown[0]} in {ablation.like}; it has {', '.join(known)}")
    there = [base for base in dict.fromkeys(named) if known[base]["modality"] in given["modalities"]]
    absent = [base for base in dict.fromkeys(named) if base not in there]
    if not there:
        raise config.ConfigError(f"factors: the recordings of no base run are there ({', '.join(absent)})")
    return there, absent


def expand(ablation: Ablation, given: Mapping[str, Any], base: str) -> Plan:
    """Return the params of a workspace with a base run and a run for each of its levels, and what stands where.

    Each base run has a workspace of its own, because DVC reads and writes the records of all stages at each of them.
    Levels that make the same run, in whatever factor, share it. A level whose values do not go together is a cell that
    says why. All factors are expanded, whichever are run, so that the others' runs stay what they are.

    Raises:
        ConfigError: a base run that is not valid.
    """
    known = {**given["runs"], **ablation.runs}
    run = _base(base, known[base], ablation)
    cohorts = {run.modality: given["modalities"][run.modality]}
    runs, cells = {base: _with_baselines(base, run, ablation.baselines)}, []
    at = run.start  # what a base run starts from is trained too, and not reported
    while at is not None and at not in runs:
        if at not in known:
            raise config.ConfigError(f"runs.{base}.start: no run {at} in {ablation.like}; it has {', '.join(known)}")
        runs[at] = _base(at, known[at], ablation)
        cohorts.setdefault(runs[at].modality, given["modalities"][runs[at].modality])
        at = runs[at].start
    for name, factor in ablation.factors.items():
        for level in factor.levels if base in factor.runs else ():
            values = factor.values(level, base)
            if values is not None:
                cell = Cell(name, level, base, base, str(values.pop(PROTOCOL, PROBE)), factor.runs[base])
                cells.append(_placed(cell, values, run, runs, cohorts))
    own = ("modalities", "runs", "folds", "synthetic", "sequels", "release")
    params = {key: value for key, value in given.items() if key not in own}
    roots = [cohort["source"]["root"] for cohort in cohorts.values()]
    made = {k: v for k, v in (given.get("synthetic") or {}).items() if f"data/raw/{k}" in roots}
    folds = {f"f{k}": None for k in range(max(map(_folds, cohorts.values())))}
    params |= {"synthetic": made, "modalities": cohorts, "folds": folds}
    if ablation.compute:
        params["compute"] = {**(given.get("compute") or {}), **ablation.compute}
    params["runs"] = {key: one.model_dump(mode="json", exclude_unset=True) for key, one in runs.items()}
    if sequels := {key: one.start for key, one in runs.items() if one.start is not None}:
        params["sequels"] = sequels
    return Plan(params, cells)


def _folds(cohort: Mapping[str, Any]) -> int:
    split = cohort.get("split") or {}
    return int(split.get("folds") or 0) * int(split.get("repeats", 1))


def _base(name: str, raw: Mapping[str, Any], ablation: Ablation) -> config.Run:
    own = {"labels": ablation.labels(name), "finetune_labels": []}
    try:
        return config.Run.model_validate(
            {**raw, "evaluate": {**(raw.get("evaluate") or {}), **ablation.evaluate, **own}}
        )
    except ValidationError as error:
        raise config.ConfigError(explain(error, f"runs.{name}")) from None


def _with_baselines(name: str, run: config.Run, protocols: Sequence[str]) -> config.Run:
    if not protocols:
        return run
    every = list(dict.fromkeys((*(run.evaluate.protocols or ()), *protocols)))
    try:
        return space.applied(run, {"evaluate.protocols": every})
    except ValueError as error:
        raise config.ConfigError(f"baselines: runs.{name}: {error}") from None


def _placed(
    cell: Cell, values: dict[str, Any], base: config.Run, runs: dict[str, config.Run], cohorts: dict[str, Any]
) -> Cell:
    """Return a cell with its run, which is added to ``runs``, as is its cohort to ``cohorts``; or with a reason."""
    known = (*config.ENCODER, *config.BASELINES, *config.CONTROLS)
    if cell.protocol not in known:
        return cell._replace(refused=f"protocol '{cell.protocol}' unknown; allowed: {', '.join(known)}")
    if not (base if values else runs[cell.base]).evaluate.asked(cell.protocol):
        return cell._replace(refused=f"protocol {cell.protocol} is not evaluated; name it in evaluate.protocols")
    if not values:
        same = cell.protocol == PROBE
        return cell._replace(refused="as the base run" * same)
    of_cohort = {key.removeprefix(COHORT): values.pop(key) for key in list(values) if key.startswith(COHORT)}
    try:
        run = space.applied(base, values)
        if reason := refusals.of_recipe(run):
            return cell._replace(refused=reason)
        if of_cohort and run.start is not None:
            return cell._replace(refused=f"starts from {run.start}, which is of cohort {runs[run.start].modality}")
        if of_cohort:
            run = run.model_copy(update={"modality": _cohort(cell, base.modality, of_cohort, cohorts)})
    except config.ConfigError as error:
        return cell._replace(refused=str(error))
    except ValueError as error:
        return cell._replace(refused=str(error).removeprefix("trial: "))
    if run == base:
        return cell._replace(refused="as the base run" * (cell.protocol == PROBE))
    name = next((key for key, other in runs.items() if other == run), JOIN.join((cell.base, cell.factor, cell.level)))
    runs[name] = run
    return cell._replace(run=name)


def _cohort(cell: Cell, modality: str, values: Mapping[str, Any], cohorts: dict[str, Any]) -> str:
    """Return the name of a cohort with other values, which is added to ``cohorts``.

    Raises:
        ConfigError: a value that a cohort does not take, or a key that decides who is in it or in which fold.
    """
    changed = deepcopy(cohorts[modality])
    for key, value in values.items():
        *sections, last = key.split(".")
        if key.split(".")[0] not in ("ingest", "dedup"):
            raise config.ConfigError(
                f"{COHORT}{key}: decides who is tested, so that nothing is paired; ingest and dedup may change"
            )
        place = changed
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    own = (key for key, other in cohorts.items() if other == changed)
    name = next(own, JOIN.join((modality, cell.factor, cell.level)))
    folds = {f"f{k}": None for k in range(_folds(changed))}
    config.parse(json.dumps({"modalities": {name: changed}, "folds": folds}), f"factors.{cell.factor}.{cell.level}")
    cohorts[name] = changed
    return name


def params_like(ablation: Ablation, beside: Path, data: Path | None) -> dict[str, Any]:
    """Return the params file that has the base runs, with its recordings below ``data`` where that is given.

    Raises:
        WorkspaceError: see `medssl.workspace.params_for`.
    """
    own = (beside / ablation.like).resolve()
    text = workspace.params_for(str(own) if own.is_file() else ablation.like, data)
    raw: dict[str, Any] = yaml.safe_load(text)
    return raw


def cohort(home: Path, key: str) -> Store:
    """Return the store of a cohort in a workspace, with receipts and split."""
    place = home / "data" / key
    return open_store(place / "store", place / "split.parquet", place / "dedup.parquet")


def text(plan: Plan) -> str:
    """Return the params file of a workspace."""
    written: str = yaml.safe_dump(plan.params, sort_keys=False)
    return written
