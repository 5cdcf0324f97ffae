"""Where the tracking store is, and a database whose files moved with it."""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote

from medssl import config, project


class TrackingError(ValueError):
    """A tracking store that cannot be used or has no such run."""


# Where MLflow's tables hold places of files: table, column, and which rows.
_PLACES = (
    ("experiments", "artifact_location", "1"),
    ("runs", "artifact_uri", "1"),
    ("logged_models", "artifact_location", "1"),
    ("model_versions", "source", "1"),
    ("model_versions", "storage_location", "1"),
    ("trace_tags", "value", "key = 'mlflow.artifactLocation'"),
)
FILES = "mlartifacts"  # beside the database
# The UI opens an experiment of this kind on its runs, others on traces of language models.
KIND = {"mlflow.experimentKind": "custom_model_development"}


def store_uri(tracking: config.Tracking, folder: Path) -> str:
    """Return the tracking URI of the project in ``folder``, with the places in an SQLite store mended.

    MLflow writes down where files are as whole paths. Where the folder of the database was moved or copied since, the
    places that lay beside it are those beside it now, in the database too; so a copy writes into itself and not into
    the original. Places elsewhere stay, and so do files that did not come along.

    Raises:
        TrackingError: the database was moved and cannot be written.
    """
    uri = project.tracking_uri(tracking, folder)
    database = database_of(uri)
    if database is not None and database.is_file():
        former: set[Path] = set()
        try:
            with closing(sqlite3.connect(database, timeout=30, isolation_level=None)) as connection:
                former = _former_homes(connection, database.resolve())
                if former:
                    connection.execute("begin immediate")
                    for home in sorted(former):
                        _mend(connection, home, database.resolve().parent)
                    connection.execute("commit")
        except sqlite3.Error as error:
            if former:
                raise TrackingError(
                    f"{database}: moved here from {', '.join(map(str, sorted(former)))}, and the new places of "
                    f"its files cannot be noted in it ({error}); make it and its folder writable, close what uses it"
                ) from None
            # No table yet, or no database: MLflow makes the one and tells the other.
    return uri


@contextmanager
def first(uri: str, folder: Path) -> Iterator[None]:
    """Have other stages of the project in ``folder`` wait while one opens an SQLite store.

    MLflow makes and migrates its tables in hundreds of steps, and two processes that do so at once break both.
    """
    if database_of(uri) is None:
        yield
        return
    lock = folder / ".medssl" / "mlflow.lock"
    lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def database_of(uri: str) -> Path | None:
    """Return the file of an SQLite store, None for a server."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _path(location: str) -> Path:
    """Return the local path of an address, as it is written or as a ``file:`` URI."""
    return Path(unquote(location.removeprefix("file://")) if location.startswith("file:") else location)


def _former_homes(connection: sqlite3.Connection, database: Path) -> set[Path]:
    """Return the folders, other than its own, in which the database lay when our experiments were made.

    Such an experiment has its files in a folder of our name. Either files of its runs are beside the database now, or
    it is marked as ours and nobody made that folder by hand: it is gone, or the database it came from is beside it.
    """
    here = database.parent / FILES
    homes = set()
    known = "select experiment_id from experiment_tags where key = ? and value = ?"
    marked = {row[0] for row in connection.execute(known, *KIND.items())}
    for name, location in connection.execute("select experiment_id, artifact_location from experiments").fetchall():
        there = _path(location or "")
        if there.name != FILES or not there.is_absolute() or there.parent.resolve() == here.parent:
            continue
        runs = connection.execute("select run_uuid from runs where experiment_id = ?", (name,))
        came = any((here / run).is_dir() for (run,) in runs)
        if came or (name in marked and (not there.is_dir() or (there.parent / database.name).is_file())):
            homes.add(there.parent)
    return homes


def _mend(connection: sqlite3.Connection, old: Path, new: Path) -> None:
    """Write down places below one folder as those below another."""
    forms = [(f"{old.as_uri()}/", f"{new.as_uri()}/"), (f"file://{old}/", f"{new.as_uri()}/"), (f"{old}/", f"{new}/")]
    tables = {row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")}
    for table, column, rows in _PLACES:
        if table not in tables:
            continue
        for (place,) in connection.execute(f"select distinct {column} from {table} where {rows}").fetchall():
            prefix, other = next((f for f in forms if (place or "").startswith(f[0])), ("", ""))
            if not prefix or place.startswith((forms[0][1], forms[2][1])):  # a new home may lie within the old one
                continue
            moved = other + place.removeprefix(prefix)
            ours = table == "experiments" and _path(place) == old / FILES
            # What lies only there did not come along: it is found where it is.
            if ours or _path(moved).exists() or not _path(place).exists():
                connection.execute(f"update {table} set {column} = ? where {column} = ? and {rows}", (moved, place))
