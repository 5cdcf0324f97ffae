"""``medssl COMMAND``: the command line, a file for each group of commands.

The exit code is 0, 1 (something is wrong) or 2 (usage). Every command imports what it needs when it runs, so that help
is instant.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator

from medssl import __version__
from medssl.cli import completion, encoders, projects, recordings, runs
from medssl.cli.answer import Answer, write
from medssl.cli.commands import Commands

ABOUT = "Self-supervised pretraining for medical signals and images."
THEN = """\
begin with   medssl demo --quick                  synthetic recordings, an encoder and a report in minutes
             medssl new DIR --from RECORDINGS     a project of your own
any command  --json    one JSON document on stdout; progress and notes go to stderr
             --help    its options, and the keys of that document"""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    shape = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(prog="medssl", description=ABOUT, epilog=THEN, formatter_class=shape)
    top.add_argument("--version", action="version", version=f"medssl {__version__}")
    commands = Commands(top)
    for group in (projects, recordings, runs, encoders, completion):
        group.add(commands)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run the command line; a user's mistake is one line on stderr and exit code 1."""
    args = parser().parse_args(argv)
    try:
        with _quiet_stdout(args.as_json):
            answer: Answer = args.work(args)
    except (ValueError, OSError) as error:
        said = " ".join(str(error).split())
        print(f"error: {said}", file=sys.stderr)
        if args.as_json:
            write(Answer({"error": said}, []), as_json=True)
        return 1
    try:
        write(answer, as_json=args.as_json)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has what it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return answer.code


@contextlib.contextmanager
def _quiet_stdout(as_json: bool) -> Iterator[None]:
    """Keep stdout for the one document: what a library prints there goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield
