"""The encoders that a run left: one a training, of the fixed split or of a fold."""

import json

from medssl import hub
from pipeline import stage


def of_run(run: str, fold: int | None = None) -> list[hub.Encoder]:
    """Return the encoders of a run, the first training first."""
    folder = stage.run_folder(run, fold)
    reference = folder / "encoder" / "reference.json"
    first = json.loads(reference.read_text())["encoder_from"] if reference.is_file() else folder / "encoder"
    others = sorted((folder / "seeds").iterdir(), key=lambda path: int(path.name))
    return [hub.load_encoder(first), *map(hub.load_encoder, others)]
