"""Completion of the shell: commands, options, files, runs of ``params.yaml`` and names of ready encoders."""

from __future__ import annotations

import argparse
from pathlib import Path

from medssl.cli.answer import Answer
from medssl.cli.commands import Commands

# Without starting Python: runs are the keys below `runs:`, ready encoders are folders.
RUNS = r"sed -n '/^runs:/,/^[^ #]/s/^  \([A-Za-z0-9_][A-Za-z0-9_-]*\):.*/\1/p' params.yaml 2>/dev/null"
ENCODERS = Path(__file__).parents[1] / "encoders"
# Whatever command an option or argument of this name belongs to.
OF_FILES = {"file", "html", "input", "manifest", "out", "params", "paths", "split", "store"}
OF_FOLDERS = {"data", "folder", "recordings"}
OF_RUNS = {"run", "runs"}


def completion(args: argparse.Namespace) -> Answer:
    """Return the script that makes a shell complete what is typed after ``medssl``."""
    import shtab

    from medssl.cli import parser

    top = parser()
    commands = next(a for a in top._actions if isinstance(a, argparse._SubParsersAction))
    for sub in commands.choices.values():
        for action in sub._actions:
            if action.choices is None and (how := _how(action.dest)):
                action.complete = how  # type: ignore[attr-defined]
    script = shtab.complete(top, args.shell, root_prefix="medssl", preamble=_functions().get(args.shell, ""))
    return Answer({"shell": args.shell, "script": script}, [script])


def _how(dest: str) -> dict[str, str]:
    """Return what completes a word, by shell; empty: nothing does."""
    if dest in OF_FILES:
        return {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
    if dest in OF_FOLDERS:
        return {"bash": "_shtab_compgen_dirs", "zsh": "_files -/", "tcsh": "d"}
    if dest in OF_RUNS:
        return {"bash": "_medssl_runs", "zsh": "_medssl_runs", "tcsh": f"`{RUNS}`"}
    if dest == "encoder":
        return {"bash": "_medssl_encoders", "zsh": "_medssl_encoders", "tcsh": "f"}
    return {}


def _functions() -> dict[str, str]:
    """Return the functions that the scripts call, by shell."""
    names = " ".join(sorted(path.parent.name for path in ENCODERS.glob("*/config.json")))
    return {
        "bash": f'_medssl_runs() {{ compgen -W "$({RUNS})" -- "$1"; }}\n'
        f'_medssl_encoders() {{ compgen -W "{names}" -- "$1"; compgen -d -- "$1"; }}',
        "zsh": f'_medssl_runs() {{ local -a runs; runs=(${{(f)"$({RUNS})"}}); compadd -a runs; }}\n'
        f"_medssl_encoders() {{ compadd {names}; _files -/; }}",
    }


def add(commands: Commands) -> None:
    """Add the command about the shell."""
    sub = commands.add(
        completion,
        'a script for the shell: eval "$(medssl completion bash)"',
        "shell, script",
    )
    sub.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell to write it for")
