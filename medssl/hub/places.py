"""Where an encoder folder may lie besides this disk: MLflow, a DVC revision, the Hugging Face hub.

What is fetched is a folder like any other, so `medssl.hub.folder.verify` checks it before use. Of a repository only
the four files of an encoder folder are read, whatever else it holds.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from medssl import project
from medssl.hub.folder import FILES, EncoderError

NAMES = (*FILES, "checksums.json")
# The last colon parts the path, so that addresses such as git@host:group/name need no quotes.
DVC = re.compile(r"dvc:(?P<repo>.*)@(?P<revision>[^@:]+):(?P<path>[^:]+)")
HUGGING_FACE = re.compile(r"hf:(?P<name>[^@:]+)(@(?P<revision>[^@:]+))?")
NEEDS_HUB = 'needs huggingface_hub, which is not installed: pip install "medssl[hub]"'


def fetched(reference: str) -> Path | None:
    """Return a local folder with what a reference to another place stands for; None for any other reference.

    ``runs:/ID/encoder`` and ``models:/NAME@alias`` are of MLflow. ``dvc:REPO@REV:PATH`` is a folder that DVC or git
    has at a revision (branch, tag, commit) of a repository (folder or address; none: this project's); it is kept by
    commit below ``.medssl/hub``. ``hf:ORG/NAME``, or ``hf:ORG/NAME@REV``, is of a Hugging Face hub, kept by commit in
    its own cache.

    Raises:
        EncoderError: what is wrong with the reference or stops the transfer, in one sentence.
    """
    return next((fetch(reference) for prefix, fetch in PLACES.items() if reference.startswith(prefix)), None)


def pretrained(reference: str | Path, revision: str | None) -> str:
    """Return a reference in which ``ORG/NAME`` is of the Hugging Face hub where no such folder is here.

    Raises:
        EncoderError: a revision of something else, or a second one.
    """
    text = str(reference)
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", text) and not Path(text).exists():
        text = f"hf:{text}"
    if revision is None:
        return text
    if not text.startswith("hf:") or "@" in text:
        raise EncoderError(
            f"{reference}: revision {revision!r} is for an ORG/NAME of the Hugging Face hub that names none itself; "
            "leave it out, or write dvc:REPO@REV:PATH for one of git"
        )
    return f"{text}@{revision}"


def push(
    folder: Path, name: str, *, message: str, private: bool | None, token: str | None, revision: str | None
) -> str:
    """Upload an encoder folder to a Hugging Face hub, its card as the page of the model, and return the commit's URL.

    Raises:
        EncoderError: the hub refuses it or does not answer, in one sentence.
    """
    try:
        from huggingface_hub import HfApi, errors
    except ImportError:
        raise EncoderError(f"push_to_hub {NEEDS_HUB}") from None
    shutil.copyfile(folder / "card.md", folder / "README.md")
    api = HfApi(token=token)
    try:
        full = api.create_repo(name, private=private, exist_ok=True).repo_id
        made = api.upload_folder(
            repo_id=full,
            folder_path=folder,
            allow_patterns=[*NAMES, "README.md"],
            commit_message=message,
            revision=revision,
        )
    except (errors.HFValidationError, errors.HTTPError, OSError) as error:
        raise EncoderError(f"push_to_hub: {name}: {_said(error)}; log in with `hf auth login`, or give token") from None
    return str(made.commit_url)


def _mlflow(reference: str) -> Path:
    from medssl import tracking

    return tracking.download(reference)


def _dvc(reference: str) -> Path:
    """Return the folder of ``dvc:REPO@REV:PATH``."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    match = DVC.fullmatch(reference)
    if not match:
        raise EncoderError(f"{reference}: expected dvc:REPO@REV:PATH, such as dvc:@v1.0:data/runs/ecg/encoder")
    source, revision, path = match["repo"], match["revision"], PurePosixPath(match["path"])
    if path.is_absolute() or ".." in path.parts or source.startswith("-"):
        raise EncoderError(f"{reference}: the path leads outside the repository; give a folder below its root")
    here = project.root()
    try:
        with Repo.open(source or str(here), rev=revision, uninitialized=True, subrepos=True) as repo:
            commit = repo.get_rev()
            key = hashlib.sha256(f"{source or here}:{path}".encode()).hexdigest()[:12]
            kept = here / ".medssl" / "hub" / f"{path.name}-{commit[:12]}-{key}"
            return _whole(kept, lambda name, to: repo.dvcfs.get_file(str(path / name), str(to)))
    except FileNotFoundError:
        what = f"no {path} with {', '.join(NAMES)} at revision {revision}"
        raise EncoderError(f"{reference}: {what}; `dvc list REPO --rev REV` shows what there is") from None
    except (DvcException, OSError) as error:
        fix = "check repository and revision, and whether `dvc push` was run there"
        raise EncoderError(f"{reference}: {_said(error)}; {fix}") from None


def _whole(kept: Path, get: Callable[[str, Path], Any]) -> Path:
    """Return a folder of a commit, which never changes; made in one step if it is not there."""
    if kept.is_dir():
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=kept.parent))
    try:
        for name in NAMES:
            get(name, temporary / name)
        if not kept.is_dir():  # or another process was first
            temporary.rename(kept)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return kept


def _hugging_face(reference: str) -> Path:
    """Return the folder of ``hf:ORG/NAME`` or ``hf:ORG/NAME@REV``."""
    match = HUGGING_FACE.fullmatch(reference)
    if not match:
        raise EncoderError(f"{reference}: expected hf:ORG/NAME or hf:ORG/NAME@REV")
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError:
        raise EncoderError(f"{reference}: {NEEDS_HUB}") from None
    try:
        # It asks for the commit of the revision first, and then for the files of this commit alone.
        folder = snapshot_download(match["name"], revision=match["revision"], allow_patterns=list(NAMES))
    except errors.GatedRepoError:
        raise EncoderError(f"{reference}: its authors ask for consent; give it on its page, `hf auth login`") from None
    except errors.RepositoryNotFoundError:
        raise EncoderError(f"{reference}: the hub shows no such model; if it is private, `hf auth login`") from None
    except errors.RevisionNotFoundError:
        raise EncoderError(f"{reference}: the model has no revision {match['revision']}") from None
    except (errors.HFValidationError, errors.HTTPError, OSError) as error:
        raise EncoderError(f"{reference}: {_said(error)}") from None
    return Path(folder)


def _said(error: Exception) -> str:
    """Return an error as one line that is no longer than a sentence, without user or password of an address."""
    words = re.sub(r"://[^/\s@]+@", "://", " ".join(str(error).split()))
    return words[:200] or type(error).__name__


PLACES: dict[str, Callable[[str], Path]] = {
    "runs:/": _mlflow,
    "models:/": _mlflow,
    "dvc:": _dvc,
    "hf:": _hugging_face,
}
