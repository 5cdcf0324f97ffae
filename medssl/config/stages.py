"""What the stages of ``dvc.yaml`` ask of ``params.yaml`` and of the folder around it.

DVC follows values by their names in the file and knows no default: a key that a stage names and the file leaves out
stops the pipeline, although the model has a value for it. Likewise a folder that a stage lists must be there.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medssl.config import Params

_TEMPLATE = re.compile(r"\$\{([^}]+)\}")


def named(stages: dict[str, Any], raw: dict[str, Any]) -> list[str]:
    """Return the dotted keys of a params file that the stages name, once each, in their order.

    Args:
        stages: ``stages`` of ``dvc.yaml``. A ``foreach`` over a mapping of the params file, such as ``${runs}``, is
            followed; other kinds of it, and params of other files, name nothing here.
        raw: the params file as it is written, whose entries make the stages.
    """
    keys: dict[str, None] = {}
    for stage in stages.values():
        template, table, entries = stage, "", [""]
        if "matrix" in stage or ("do" in stage and not isinstance(stage["foreach"], str)):
            continue
        if "do" in stage:
            template, table = stage["do"], _TEMPLATE.sub(r"\1", stage["foreach"])
            entries = list(raw.get(table) or {})
            keys[table] = None
        names = [name for name in template.get("params", ()) if isinstance(name, str)]
        # What a template takes out of the file, wherever it stands in the stage.
        names += [f"${{{name}}}" for name in _TEMPLATE.findall(json.dumps(template)) if name not in ("key", "item")]
        for entry in entries:
            for name in names:
                key = _TEMPLATE.sub(r"\1", name.replace("${key}", entry))
                if key.startswith("item."):
                    key = f"{table}.{entry}.{key.removeprefix('item.')}"
                keys[key] = None
    return list(keys)


def left_out(pipeline: dict[str, Any], raw: dict[str, Any], params: Params) -> list[tuple[str, Any]]:
    """Return the keys that stages name and the file leaves out, each with its default.

    Args:
        pipeline: content of ``dvc.yaml``; its ``vars`` count as written in the file.
        raw: the params file as it is written.
        params: the same, checked and with defaults.
    """
    given = {name for entry in pipeline.get("vars", ()) if isinstance(entry, dict) for name in entry}
    out = []
    for key in named(pipeline.get("stages", {}), raw):
        node: Any = raw
        default: Any = params
        for part in key.split("."):
            node = node.get(part, ...) if isinstance(node, dict) else ...
            default = default.get(part) if isinstance(default, dict) else getattr(default, part, None)
        if node is ... and key not in given:
            simple = default is None or isinstance(default, str | int | float)
            out.append((key, default if simple else {}))
    return out


def to_add(missing: list[tuple[str, Any]]) -> str:
    """Return in words what to write where: ``seed: 0; under compute: devices: 1, nodes: 1``."""
    places: dict[str, list[str]] = {}
    for key, default in missing:
        place, _, name = key.rpartition(".")
        places.setdefault(place, []).append(f"{name}: {default if isinstance(default, str) else json.dumps(default)}")
    return "; ".join(f"under {place}: " * bool(place) + ", ".join(lines) for place, lines in places.items())


def folders(home: Path, params: Params) -> list[str]:
    """Return what is wrong with the folders that the stages read, one line each.

    Args:
        home: the folder of the params file, where the stages run.
        params: the content of the file.
    """
    data, problems = home / "data", []
    made = {Path("data", "raw", key) for key in params.synthetic}
    written = [(data / name).resolve() for name in (*params.modalities, "runs", "flow", "report")]
    for key, cohort in params.modalities.items():
        root, encoder = Path(cohort.source.root), cohort.dedup.encoder
        if root not in made and not (home / root).is_dir():
            problems.append(f"modalities.{key}.source.root: {root} is not there")
        if any(folder.is_relative_to((home / root).resolve()) for folder in written):
            problems.append(
                f"modalities.{key}.source.root: {root} holds what stages write, which it would then depend on; "
                f"put the recordings into a folder of their own, such as data/raw/{key}"
            )
        if encoder is not None and not (home / encoder).is_dir():
            problems.append(f"modalities.{key}.dedup.encoder: {encoder} is not there; copy the encoder's folder there")
    for key, run in params.runs.items():
        reference = run.encoder_from
        if reference is not None and ":" not in reference and not (home / reference).is_dir():
            problems.append(f"runs.{key}.encoder_from: {reference} is not there; copy the encoder's folder there")
    # Always in a checkout and in a workspace; without runs no stage makes the folder of their results.
    listed = ["encoders"] if params.runs else ["encoders", "runs"]
    if (home / "dvc.yaml").is_file():
        problems += [f"{data / n}: dvc.yaml lists this folder; make it" for n in listed if not (data / n).is_dir()]
    return problems
