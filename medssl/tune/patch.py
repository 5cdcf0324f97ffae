"""What a search found, as a change of params.yaml: a part of that file, a command, or the file with its comments."""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

from medssl import config


def _reader() -> YAML:
    """Return a reader and writer that leaves comments, quotes, lines and nulls as they are."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 2**20
    # YAML 1.1, which PyYAML reads, takes 1e-06 for a word.
    words: dict[type, tuple[str, Callable[[Any], str]]] = {
        type(None): ("null", lambda _: "null"),
        float: ("float", lambda value: text if "e" not in (text := repr(value)) or "." in text else f"{value:.1e}"),
    }
    for kind, (tag, text) in words.items():
        yaml.representer.add_representer(
            kind, lambda r, v, tag=tag, text=text: r.represent_scalar(f"tag:yaml.org,2002:{tag}", text(v))
        )
    return yaml


def _written(content: Any) -> str:
    out = io.StringIO()
    _reader().dump(content, out)
    return out.getvalue()


def _set(raw: Any, key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        if raw.get(section) is None:
            raw[section] = {}
        raw = raw[section]
    if isinstance(value, list):
        value = CommentedSeq(value)
        value.fa.set_flow_style()
    raw[last] = value


def part(run: str, values: Mapping[str, Any]) -> str:
    """Return the changed keys as the part of params.yaml that holds them.

    Args:
        run: name in ``runs``.
        values: by their keys below it.
    """
    raw: dict[str, Any] = {}
    for key, value in values.items():
        _set(raw, f"runs.{run}.{key}", value)
    return _written(raw)


def command(run: str, values: Mapping[str, Any], params: Path) -> str:
    """Return the ``dvc exp run`` that tries the values without editing the file.

    Args:
        run, values: as of `part`.
        params: the file; a key that it does not have is added by ``++``.
    """
    raw, words = _reader().load(params.read_text("utf-8")), ["dvc", "exp", "run"]
    for key, value in values.items():
        node, path = raw, f"runs.{run}.{key}"
        for name in path.split("."):
            node = node.get(name) if isinstance(node, dict) else None
        text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":")).replace('"', "")
        file = "" if params.name == "params.yaml" else f"{params}:"
        words += ["-S", f"{file}{'++' if node is None else ''}{path}={text}"]
    return shlex.join(words)


def write(params: Path, run: str, values: Mapping[str, Any]) -> None:
    """Change the values in a params file; its other lines and its comments stay.

    Raises:
        ValueError: the changed file would not be one; it is left as it was.
    """
    before = params.read_text("utf-8")
    raw = _reader().load(before)
    for key, value in values.items():
        _set(raw, f"runs.{run}.{key}", value)
    # Names in braces without a value, such as {f0, f1}, stay so.
    bare = set(re.findall(r"[{ ](\w+)(?=[,}])", before))
    text = re.sub(r"(\w+): null(?=[,}])", lambda found: found[1 if found[1] in bare else 0], _written(raw))
    config.parse(text, str(params))
    params.write_text(text, "utf-8")
