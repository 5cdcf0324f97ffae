"""Make the encoders that come with the package: ``python -m pipeline.ready DIR``, the folder of the real recordings."""

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from medssl import config, hub, workspace
from medssl.hub import folder
from medssl.report import card

MARKS = "<!-- encoders: made by `make encoders` -->\n", "<!-- end of encoders -->\n"


def written(text: str) -> str:
    """Return a page with the table of the ready encoders between its marks."""
    before, _, rest = text.partition(MARKS[0])
    return f"{before}{MARKS[0]}{card.catalogue(hub.ready())}{MARKS[1]}{rest.partition(MARKS[1])[2]}"


def take(folders: Iterable[Path], to: Path) -> None:
    """Copy encoders into the folder ``to``; one of the same name there is replaced."""
    for one in folders:
        hub.verify(one)
        shutil.rmtree(to / one.name, ignore_errors=True)
        shutil.copytree(one, to / one.name)
        print(f"{to / one.name}")


def main(data: Path) -> None:
    """Run the pipeline on real recordings as far as released encoders need it, and put them into the package."""
    place = Path("data/real")
    try:
        workspace.lay_out(place, workspace.params_for("params.real.yaml", data))
        names = list(config.load(place / "params.yaml").release)
        if not names:
            raise ValueError(f"params.real.yaml: no entry of release is of a run on the sets in {data}; add one")
        workspace.dvc(place, "repro", *(f"release@{name}" for name in names))
        take((place / "data" / "release" / name for name in names), folder.READY)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    page = Path("docs/reference/ready-encoders.md")
    page.write_text(written(page.read_text()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
