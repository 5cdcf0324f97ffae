"""Every command: instant help, one JSON document with the keys of its help, one line for a mistake."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from medssl import cli, hub, project, tracking
from medssl.ablate import factors
from medssl.evaluate import compare
from medssl.store import Store

COMMANDS = next(a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
HEAVY = {
    "torch", "monai", "mlflow", "mne", "pandas", "lightning", "matplotlib", "scipy", "numpy", "sklearn", "pydantic",
    "yaml", "jinja2", "rich", "shtab", "tqdm", "requests", "dvc",
}  # fmt: skip


def documented(command: str) -> set[str]:
    """Return the words of the line on JSON in a command's help."""
    told = re.sub(r"\s+", " ", COMMANDS[command].format_help())
    found = re.search(r"--json prints one object with the keys (.*); a mistake", told)
    assert found is not None, told
    return set(re.findall(r"\w+", found[1]))


def document(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    """Run a command with --json and return its exit code and document, whose keys its help must name."""
    code = cli.main([*map(str, words), "--json"])
    out = capsys.readouterr().out
    said = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert set(said) <= documented(str(words[0])) | {"error"}
    return code, said


def test_help_of_every_command_imports_nothing_heavy() -> None:
    """All in one process: what one of them imported, the process has."""
    script = (
        "import sys, io, contextlib\nfrom medssl import cli\n"
        "for words in (['--help'], *([name, '--help'] for name in sys.argv[1:])):\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):\n"
        "        cli.main(words)\n"
        "    assert 'usage: medssl' in out.getvalue()\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))\n"
    )
    words = [sys.executable, "-c", script, *COMMANDS]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & HEAVY


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_json_and_tells_its_keys(command: str) -> None:
    assert COMMANDS[command].parse_args(["--json", *_required(COMMANDS[command])]).as_json is True
    assert documented(command)


def _required(parser: argparse.ArgumentParser) -> list[str]:
    """Return words that a parser needs."""
    words = []
    for action in parser._actions:
        value = str(next(iter(action.choices))) if action.choices else "1"
        if action.option_strings and action.required:
            words += [action.option_strings[0], value]
        elif not action.option_strings and action.nargs != "?":
            words.append(value)
    return words


def test_check_and_card(capsys: pytest.CaptureFixture[str], signal_store: Store, tmp_path: Path) -> None:
    code, said = document(capsys, "check", signal_store.folder)
    assert (code, said["ok"], said["problems"]) == (0, True, [])
    code, said = document(capsys, "check", tmp_path)
    assert (code, said["ok"]) == (1, False) and said["problems"]
    code, said = document(capsys, "card")
    assert code == 0 and said["ready"] == list(hub.ready())


def test_compare_and_retrieve_are_rows(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    table = pd.DataFrame(
        {"label": ["age", "sex"], "a": [0.5, float("nan")], "when": [pd.Timestamp("2026-01-02"), pd.NaT]}
    )
    monkeypatch.setattr(compare, "compare_runs", lambda folders: table)
    code, said = document(capsys, "compare", "a", "b")
    assert code == 0
    assert said["rows"] == [
        {"label": "age", "a": 0.5, "when": "2026-01-02T00:00:00"},
        {"label": "sex", "a": None, "when": None},
    ]
    assert cli.main(["compare", "a", "b"]) == 0
    assert capsys.readouterr().out == table.to_string(index=False) + "\n"  # plain in a pipe


def test_track(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = pd.DataFrame({"name": ["ecg-simclr"], "status": ["finished"], "mean": [0.8]})
    monkeypatch.setattr(project, "root", lambda: tmp_path)
    monkeypatch.setattr(tracking, "runs", lambda root: rows if root == tmp_path else None, raising=False)
    monkeypatch.setattr(tracking, "resync", lambda root: [], raising=False)
    assert document(capsys, "track")[1] == {"runs": rows.to_dict("records")}
    assert document(capsys, "track", "--resync")[1] == {"resynced": []}
    assert cli.main(["track", "--resync"]) == 0
    assert capsys.readouterr().out == "nothing to log: the tracking store has all\n"


def test_explore(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []
    pages = types.ModuleType("medssl.explore")
    pages.of_run = lambda root, run, *, out, pictures: asked.append((root, run, out, pictures)) or ["page"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "medssl.explore", pages)
    monkeypatch.setattr("medssl.explore", pages, raising=False)
    monkeypatch.setattr(project, "root", lambda: tmp_path)
    assert document(capsys, "explore", "r", "--no-pictures", "--out", "p.html")[1] == {"run": "r", "lines": ["page"]}
    assert cli.main(["explore", "r"]) == 0 and capsys.readouterr().out == "page\n"
    assert asked == [(tmp_path, "r", Path("p.html"), False), (tmp_path, "r", None, True)]


def test_export(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wrote: list[Any] = []
    for name in ("onnx", "bundle"):
        writer = types.ModuleType(f"medssl.hub.{name}")
        writer.write = lambda encoder, path, name=name: wrote.append((name, encoder, path)) or {"largest": 1e-5}  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"medssl.hub.{name}", writer)
        monkeypatch.setattr(hub, name, writer, raising=False)
    monkeypatch.setattr(hub, "load_encoder", lambda reference: f"encoder {reference}")
    said = document(capsys, "export", "e", "--to", "onnx", "--out", tmp_path / "e.onnx")[1]
    assert said["details"] == {"largest": 1e-5} and said["path"] == str(tmp_path / "e.onnx")
    assert document(capsys, "export", "e", "--to", "monai", "--out", tmp_path / "b")[0] == 0
    assert wrote == [("onnx", "encoder e", tmp_path / "e.onnx"), ("bundle", "encoder e", tmp_path / "b")]
    with pytest.raises(SystemExit) as stopped:
        cli.main(["export", "e", "--to", "tflite", "--out", "x"])
    assert stopped.value.code == 2


def test_a_mistake_is_one_line_and_a_document(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["embed", "--encoder", str(tmp_path / "none"), "--input", "x", "--out", "y"]
    assert cli.main(words) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("error: ") and shown.err.count("\n") == 1
    assert cli.main([*words, "--json"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"error": shown.err.removeprefix("error: ").strip()}


def test_what_a_library_prints_is_no_part_of_the_document(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def noisy(*words: object, **more: object) -> list[str]:
        print("noise")
        return ["done"]

    monkeypatch.setattr("medssl.ablate.ablate", noisy)
    assert factors  # the package is there
    code = cli.main(["ablate", "f.yaml", "--out", "o", "--json"])
    shown = capsys.readouterr()
    assert code == 0 and json.loads(shown.out)["lines"] == ["done"] and shown.err == "noise\n"


def test_a_reader_that_has_enough_is_no_mistake() -> None:
    words = f"{sys.executable} -m medssl.cli completion bash | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0" and "Traceback" not in done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0 and capsys.readouterr().out.startswith("medssl ")
