"""Lay the pipeline out in another folder and run it there: for the demo and for real recordings.

A workspace is a copy of ``dvc.yaml``, ``pipeline/`` and the package with its own ``params.yaml``, so that its stages
depend on exactly the code they run, and the project's own ``params.yaml`` stays as it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from medssl import config, parallel

PACKAGE = Path(__file__).parent
# Folders of data/ that dvc.yaml lists and no stage makes are always there; git tracks nothing else in them.
KEPT = "*\n!.gitignore\n"


class WorkspaceError(ValueError):
    """A workspace that cannot be laid out or a pipeline that failed in it."""


def template(name: str) -> Path:
    """Return a file or folder of the project: beside the package in a checkout, inside it when installed."""
    for home in (PACKAGE.parent, PACKAGE / "template"):
        if (home / name).exists() and (home / "dvc.yaml").exists():
            return home / name
    raise WorkspaceError(f"{name}: not found beside the package; install medssl from a checkout or a wheel")


def params_for(template_name: str, data: Path | None) -> str:
    """Return the text of a params file, with every ``source.root`` below ``data`` where that is given.

    Cohorts whose folder is not there are left out with their runs, so that a part of the sets is enough.

    Raises:
        WorkspaceError: ``data`` is no folder, or holds none of the sets.
    """
    text = template(template_name).read_text()
    if data is None:
        return text
    if not data.is_dir():
        raise WorkspaceError(f"{data}: no such folder; give the one that holds ecg/ ppg/ eeg/ mri/ ct/")
    raw = yaml.safe_load(text)
    present = {}
    for key, modality in raw["modalities"].items():
        root = data.resolve() / modality["source"]["root"]
        if root.is_dir():
            modality["source"]["root"] = str(root)
            present[key] = modality
        else:
            print(f"{key}: {modality['source']['root']} is not in the data folder; left out", file=sys.stderr)
    if not present:
        expected = ", ".join(m["source"]["root"] for m in raw["modalities"].values())
        raise WorkspaceError(f"{data}: none of the sets is there; expected any of {expected}")
    raw["modalities"] = present
    runs = raw["runs"] = {k: v for k, v in raw["runs"].items() if v["modality"] in present}
    while lost := [k for k, v in runs.items() if v.get("start") not in (None, *runs)]:
        for key in lost:
            print(
                f"{key}: starts from {runs.pop(key)['start']}, whose recordings are not there; left out",
                file=sys.stderr,
            )
    raw["sequels"] = {k: v for k, v in raw.get("sequels", {}).items() if k in raw["runs"]}
    raw["release"] = {k: v for k, v in raw.get("release", {}).items() if v["run"] in raw["runs"]}
    return yaml.safe_dump(raw, sort_keys=False)


def quick(params: str) -> str:
    """Return the text of a params file with two small synthetic cohorts, ECG and CT, and a short run of each.

    Raises:
        WorkspaceError: a params file without them.
    """
    raw, short = yaml.safe_load(params), {"ecg-simclr": (5, 12, 80), "ct-anatomy": (3, 10, 60)}
    if not short.keys() <= raw["runs"].keys() or not {"ecg", "ct"} <= raw["synthetic"].keys():
        raise WorkspaceError(f"--quick is for params.yaml; it needs the runs {', '.join(short)} of synthetic cohorts")
    runs = {}
    for name, (epochs, steps, patients) in short.items():
        run = runs[name] = raw["runs"][name]
        run["pretrain"] |= {"epochs": epochs, "steps_per_epoch": steps}
        run["evaluate"] |= {"labels": run["evaluate"]["labels"][:2], "fractions": [1.0], "seeds": 1, "bootstrap": 100}
        run["evaluate"]["protocols"] = ["probe", "knn", "handcrafted", "random_init"]
        raw["synthetic"][run["modality"]]["patients"] = patients
    kept = [run["modality"] for run in runs.values()]
    for section in ("synthetic", "modalities"):
        raw[section] = {key: raw[section][key] for key in kept}
    return yaml.safe_dump(raw | {"runs": runs}, sort_keys=False)


def lay_out(folder: Path, params: str) -> None:
    """Write or refresh a workspace; outputs and DVC's records in it stay, so that only changes run again.

    Raises:
        WorkspaceError: the folder holds a project that is not a workspace of ours, such as this checkout.
    """
    marker = folder / ".medssl" / "workspace"
    taken = [name for name in ("medssl", "pipeline", "dvc.yaml", "params.yaml") if (folder / name).exists()]
    if taken and not marker.is_file():
        raise WorkspaceError(f"{folder}: holds {', '.join(taken)} of another project; name a new folder")
    marker.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    marker.touch()
    for name in ("medssl", "pipeline"):
        source = PACKAGE if name == "medssl" else template(name)
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "template"))
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copyfile(template(name), folder / name)
    for name in ("encoders", "runs"):
        kept = folder / "data" / name
        kept.mkdir(parents=True, exist_ok=True)
        (kept / ".gitignore").write_text(KEPT)
    (folder / "params.yaml").write_text(params)
    if not (folder / ".dvc").is_dir():
        dvc(folder, "init", "--no-scm", "--quiet")
        dvc(folder, "config", "core.analytics", "false")
        # DVC's index holds the names of raw files; by default it lies in a folder that every user can read.
        dvc(folder, "config", "core.site_cache_dir", ".medssl/dvc")


def repro(folder: Path, *, lanes: int = 2) -> None:
    """Run what changed of the pipeline in a folder, several cohorts side by side, then what reads all of them.

    DVC runs one stage at a time. Cohorts of different folders have no stage in common, so each gets a DVC of its own,
    ``lanes`` at once, which wait for each other only where DVC notes what was done. Cohorts of one folder, or of one
    within the other, share one, as a stage may make it, and so do those of which a run starts from one of the other.
    The stages of a lane have its share of the cores.

    Args:
        folder: of the project, with ``params.yaml``.
        lanes: how many cohorts at once; each takes the memory of a stage. With 1 it is ``dvc repro``.

    Raises:
        WorkspaceError: DVC failed for a cohort; the others are done.
        ValueError: a mistake in ``params.yaml``.
    """
    params = config.load(folder / "params.yaml")
    wanted = {cohort: [f"dedup@{cohort}"] for cohort in params.modalities}
    for name, run in params.runs.items():
        wanted[run.modality].append(f"results@{name}")
    for name, release in params.release.items():
        wanted[params.runs[release.run].modality].append(f"release@{name}")
    linked = {frozenset(params.runs[name].modality for name in pair) for pair in params.sequels.items()}
    apart: list[list[str]] = []
    for cohort in params.modalities:
        beside = [
            group
            for group in apart
            if any({cohort, other} in linked or _nested(folder, params, cohort, other) for other in group)
        ]
        apart = [group for group in apart if group not in beside] + [[*(c for group in beside for c in group), cohort]]
    lanes = min(lanes, len(apart))
    if lanes < 2:
        dvc(folder, "repro")
        return
    # To ask once is quicker than a DVC for each cohort that finds nothing to do.
    if dvc(folder, "status", "--quiet", may_fail=True) == 0:
        print("Data and pipelines are up to date.", file=sys.stderr)
        return
    threads = {"OMP_NUM_THREADS": str(max(1, parallel.cores() // lanes))} | dict(os.environ)
    with ThreadPoolExecutor(lanes) as pool:
        done = [
            pool.submit(
                dvc, folder, "--wait-for-lock", "repro", *(stage for cohort in group for stage in wanted[cohort]),
                environment=threads, label=", ".join(group),
            )
            for group in apart
        ]  # fmt: skip
    for one in done:
        one.result()
    dvc(folder, "repro")


def _nested(folder: Path, params: config.Params, cohort: str, other: str) -> bool:
    """Say whether the recordings of two cohorts lie in one folder, or those of one within the other's."""
    one, two = ((folder / params.modalities[key].source.root).resolve() for key in (cohort, other))
    return one.is_relative_to(two) or two.is_relative_to(one)


def dvc(
    folder: Path, *words: str, environment: Mapping[str, str] | None = None, label: str = "", may_fail: bool = False
) -> int:
    """Run DVC in a folder with this interpreter first on the path, as its stages call ``python``; its exit code.

    What it says is progress, and so goes to stderr.

    Args:
        folder: of the project.
        words: of the command line.
        environment: None is that of this process.
        label: stands before each line that it says, without bars, where several talk at once.
        may_fail: another exit code than 0 is an answer.

    Raises:
        WorkspaceError: DVC failed; its own message stands above.
    """
    given = os.environ if environment is None else environment
    path = os.pathsep.join([str(Path(sys.executable).parent), given.get("PATH", "")])
    # PYTHONPATH of the caller must not bring another copy of the package into the stages.
    own = {k: v for k, v in given.items() if k != "PYTHONPATH"} | {"PATH": path}
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if label else {"stdout": 2}
    command = [sys.executable, "-m", "dvc", *words]
    with subprocess.Popen(command, cwd=folder, env=own, text=True, **said) as running:  # type: ignore[call-overload]
        for line in running.stdout or ():
            print(f"{label:>12} | {line}", end="", file=sys.stderr, flush=True)
    if running.returncode and not may_fail:
        raise WorkspaceError(f"dvc {' '.join(words)} failed in {folder}; see the message above")
    return running.returncode
