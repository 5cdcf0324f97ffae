"""How a command is added to the command line: its words, and what ``--json`` prints of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from medssl.cli.answer import Answer

OF_PARAMS = "params.yaml with modalities.<modality>.ingest (default: the project's defaults)"
OF_ENCODER = (
    "folder, name of a ready encoder (medssl card), runs:/ID/encoder, models:/NAME@alias, dvc:REPO@REV:PATH or "
    "hf:ORG/NAME[@REV]"
)


class Commands:
    """The commands of a parser, in the order in which they were added."""

    def __init__(self, top: argparse.ArgumentParser) -> None:
        self._made = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(self, work: Callable[[argparse.Namespace], Answer], does: str, keys: str) -> argparse.ArgumentParser:
        """Add a command that is called like its function.

        Args:
            work: does it.
            does: what it does, in a line.
            keys: what stands in the JSON document, for ``--help``: ``key (what it is), key``.
        """
        shape = argparse.RawDescriptionHelpFormatter
        told = f"--json prints one object with the keys {keys};\na mistake is an object with the key error."
        made = self._made.add_parser(work.__name__, help=does, description=does, epilog=told, formatter_class=shape)
        made.add_argument("--json", action="store_true", dest="as_json", help="print one JSON document, see below")
        made.set_defaults(work=work)
        return made
