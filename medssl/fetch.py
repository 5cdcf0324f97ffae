"""Download named public sets from PhysioNet, each file checked against the sums its publisher lists.

A set of tens of thousands of files is seldom fetched in one go. pooch, which knows sums and caches, starts a file anew
after every interruption and keeps a registry of its own; so the transfer here is plain `requests`: a ``Range`` request
continues a ``.part`` file, which gets its name when its SHA-256 is right. What has its name is finished.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    import requests

BASE_URL = "https://physionet.org/files"
LISTING = "SHA256SUMS.txt"
LINE = re.compile(r"([0-9a-fA-F]{64})[ \t]+\*?(.+)")
MAX_LISTING_BYTES = 100_000_000
CHUNK = 1 << 14  # what a dropped connection loses at most: requests hands out whole pieces only
TRIES = 5  # dropped connections in a row without a new byte
PAUSE_S = 1.0  # before the second try; doubled before each further one
MAX_LOST = 3  # files in a row that no connection brought: the server is gone, not a file
TIMEOUT_S = (10, 60)  # to connect; between two pieces of an answer
BUSY = {408, 425, 429, 500, 502, 503, 504}  # answers that may be another one later


@dataclass(frozen=True)
class PublicSet:
    """A published version of a data set."""

    path: str  # <project>/<version> below the server, where SHA256SUMS.txt lies
    licence: str
    citation: str  # besides that of PhysioNet itself
    then: str = "medssl check DIR --source NAME"  # what to do next


CC_BY = "Creative Commons Attribution 4.0"
ODC_BY = "Open Data Commons Attribution 1.0"
PHYSIONET = "Goldberger et al. 2000, Circulation 101(23):e215-e220, doi:10.1161/01.CIR.101.23.e215"
SETS = {
    "ptbxl": PublicSet(
        "ptb-xl/1.0.3", CC_BY, "Wagner et al. 2020, Scientific Data 7:154, doi:10.1038/s41597-020-0495-6"
    ),
    "cinc2017": PublicSet(
        "challenge-2017/1.0.0",
        ODC_BY,
        "Clifford et al. 2017, Computing in Cardiology 44, doi:10.22489/CinC.2017.065-469",
        "unpack DIR/training2017.zip there, then medssl check DIR/training2017 --source NAME",
    ),
    "mitbih": PublicSet(
        "mitdb/1.0.0", ODC_BY, "Moody and Mark 2001, IEEE Eng. Med. Biol. 20(3):45-50, doi:10.1109/51.932724"
    ),
    "ptbdb": PublicSet(
        "ptbdb/1.0.0",
        ODC_BY,
        "Bousseljot et al. 1995, Biomed. Tech. (Berl.) 40(s1):317, doi:10.1515/bmte.1995.40.s1.317",
    ),
    "bidmc": PublicSet(
        "bidmc/1.0.0",
        ODC_BY,
        "Pimentel et al. 2017, IEEE Trans. Biomed. Eng. 64(8):1914-1923, doi:10.1109/TBME.2016.2613124",
    ),
    "eegmat": PublicSet("eegmat/1.0.0", ODC_BY, "Zyma et al. 2019, Data 4(1):14, doi:10.3390/data4010014"),
    "eegmmidb": PublicSet(
        "eegmmidb/1.0.0",
        ODC_BY,
        "Schalk et al. 2004, IEEE Trans. Biomed. Eng. 51(6):1034-1043, doi:10.1109/TBME.2004.827072",
    ),
    "sleep_edf": PublicSet(
        "sleep-edfx/1.0.0", ODC_BY, "Kemp et al. 2000, IEEE Trans. Biomed. Eng. 47(9):1185-1194, doi:10.1109/10.867928"
    ),
}


class FetchError(ValueError):
    """A set or a file of it that cannot be fetched; one clear line, and what is finished stays."""


class _LostError(FetchError):
    """A file whose connection was lost for good."""


def facts(name: str) -> PublicSet:
    """Return what is known of a set.

    Raises:
        FetchError: the name is unknown; the message lists those allowed.
    """
    if name not in SETS:
        raise FetchError(f"'{name}' is no known public set; allowed: {', '.join(SETS)}")
    return SETS[name]


def fetch(
    name: str, to: Path, *, base_url: str = BASE_URL, pause_s: float = PAUSE_S, progress: bool = True
) -> tuple[int, int]:
    """Bring the folder ``to`` up to the published version of a set.

    A file that is there with the right sum is left alone; one with a wrong sum is fetched again and replaced. A file
    that fails does not stop the others.

    Args:
        to: folder, made if absent; files of the set keep their names below it.
        base_url: server or mirror, with ``<project>/<version>/SHA256SUMS.txt`` below it.
        pause_s: wait before the second try of a dropped connection.

    Returns:
        Number of files fetched, and of files that were there.

    Raises:
        FetchError: unknown name, a listing that cannot be trusted (nothing is written then), a server that does not
            answer, or files that failed, by name.
    """
    import requests
    from tqdm import tqdm

    if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).netloc:
        raise FetchError(f"--base-url {base_url}: expected an address such as {BASE_URL}")
    url = f"{base_url.rstrip('/')}/{facts(name).path}/"
    got, had, lost = 0, 0, 0
    failed: list[str] = []
    with requests.Session() as session:
        # Compressed on the way, lengths and ranges would count other bytes than those of the file.
        session.headers["Accept-Encoding"] = "identity"
        listing = _listing(session, url + LISTING, pause_s)
        sums = parse_listing(listing, to)
        to.mkdir(parents=True, exist_ok=True)
        part = to / f"{LISTING}.part"
        part.write_bytes(listing)
        os.replace(part, to / LISTING)
        with tqdm(total=len(sums), desc=f"fetch {name}", unit=" files", disable=None if progress else True) as bar:
            for relative, expected in sums.items():
                target = to / relative
                bar.update()
                if _sha256(target) == expected:
                    had += 1
                    continue
                try:
                    _fetch_file(session, url + quote(relative), target, expected, pause_s)
                    got, lost = got + 1, 0
                except FetchError as error:
                    failed.append(f"{relative}: {error}")
                    lost = lost + 1 if isinstance(error, _LostError) else 0
                if lost == MAX_LOST:
                    raise FetchError(f"{relative}: {failed[-1].partition(': ')[2]} (as {MAX_LOST} files in a row)")
    if failed:
        shown = "; ".join(failed[:10]) + (f"; and {len(failed) - 10} more" if len(failed) > 10 else "")
        raise FetchError(f"{len(failed)} of {len(sums)} files failed, the others are there: {shown}")
    return got, had


def parse_listing(listing: bytes, to: Path) -> dict[str, str]:
    """Return SHA-256 by file name, all of them names below the folder ``to``.

    Raises:
        FetchError: a line that is no sum and name, a name that leads outside of ``to`` (links in it included), or one
            name with two sums. One bad line makes all others doubtful.
    """
    sums: dict[str, str] = {}
    root = to.resolve()
    for number, line in enumerate(listing.decode("utf-8", "replace").split("\n"), start=1):
        if not line.strip():
            continue
        match = LINE.fullmatch(line.rstrip("\r"))
        if match is None:
            raise FetchError(f"{LISTING}: line {number} is no SHA-256 and file name; is the address right?")
        expected, name = match[1].lower(), match[2].removeprefix("./")
        parts = name.split("/")
        if {"", ".", ".."} & set(parts) or re.search(r"[\\\x00-\x1f\x7f]|^\w:", name) or name == LISTING:
            raise FetchError(f"{LISTING}: line {number} names a file outside the folder; nothing was fetched")
        if not (to / name).resolve().is_relative_to(root):
            raise FetchError(f"{LISTING}: line {number} leads outside the folder through a link; nothing was fetched")
        if sums.setdefault(name, expected) != expected:
            raise FetchError(f"{LISTING}: line {number} gives a file a second sum")
    if not sums:
        raise FetchError(f"{LISTING}: names no file; is the address right?")
    return sums


def _listing(session: requests.Session, url: str, pause_s: float) -> bytes:
    """Return the listing; it is what everything else is checked against, so it must not arrive by a weaker way."""
    import requests

    for attempt in range(TRIES):
        last = attempt == TRIES - 1
        try:
            with session.get(url, stream=True, timeout=TIMEOUT_S) as answer:
                if answer.status_code in BUSY and not last:
                    _wait(answer, attempt, pause_s)
                    continue
                if answer.status_code != 200:
                    raise FetchError(f"{url}: the server answered {answer.status_code}")
                if url.startswith("https:") and not answer.url.startswith("https:"):
                    raise FetchError(f"{url}: the server leads to an address without https")
                text = bytearray()
                for piece in answer.iter_content(CHUNK):
                    text += piece
                    if len(text) > MAX_LISTING_BYTES:
                        raise FetchError(f"{url}: the listing is longer than {MAX_LISTING_BYTES} bytes")
                return bytes(text)
        except requests.RequestException as error:
            if last:
                raise FetchError(f"{url}: no answer after {TRIES} tries ({type(error).__name__})") from None
            _wait(None, attempt, pause_s)
    raise AssertionError("the last try returns or raises")


def _fetch_file(session: requests.Session, url: str, target: Path, expected: str, pause_s: float) -> None:
    """Fetch one file to its name, twice if the first comes out wrong: the part it began with may have been."""
    if target.is_dir():
        raise FetchError("a folder of this name is in the way")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise FetchError("a file is in the way of its folder") from None
    part = target.with_name(target.name + ".part")
    for _ in range(2):
        _transfer(session, url, part, pause_s)
        if _sha256(part) == expected:
            os.replace(part, target)
            return
        part.unlink()
    raise FetchError("its SHA-256 differs from the published one, twice")


def _transfer(session: requests.Session, url: str, part: Path, pause_s: float) -> None:
    """Bring ``part`` to the length of the file, going on after dropped connections."""
    import requests

    idle, most = 0, _size(part)
    while True:
        have = _size(part)
        try:
            asked = {"Range": f"bytes={have}-"} if have else {}
            with session.get(url, headers=asked, stream=True, timeout=TIMEOUT_S) as answer:
                if answer.status_code == 416:  # nothing after what is there; the sum tells whether it is the file
                    return
                if answer.status_code in BUSY:
                    if idle == TRIES - 1:
                        raise FetchError(f"the server answered {answer.status_code}, {TRIES} times")
                    _wait(answer, idle, pause_s)
                    idle += 1
                    continue
                if answer.status_code not in (200, 206):
                    raise FetchError(f"the server answered {answer.status_code}")
                goes_on = answer.status_code == 206
                held = answer.headers.get("Content-Range", "")
                if goes_on and not held.startswith(f"bytes {have}-"):
                    part.unlink()  # another piece than the one asked for: begin again, without a range
                    raise requests.ConnectionError
                # A server that knows no ranges sends the whole file.
                with part.open("ab" if goes_on else "wb") as out:
                    for piece in answer.iter_content(CHUNK):
                        out.write(piece)
                return
        except requests.RequestException as error:
            # Against the most there ever was: without ranges a file shrinks and grows for ever.
            idle = 0 if _size(part) > most else idle + 1
            most = max(most, _size(part))
            if idle == TRIES:
                raise _LostError(
                    f"the connection was lost {TRIES} times ({type(error).__name__}); what came is kept, run again"
                ) from None
            _wait(None, max(0, idle - 1), pause_s)


def _wait(answer: Any, attempt: int, pause_s: float) -> None:
    """Wait before another try, longer each time, or as long as the server asks for, a minute at most."""
    asked = answer.headers.get("Retry-After", "") if answer is not None else ""
    time.sleep(min(60.0, float(asked) if asked.isdigit() else pause_s * 2**attempt))


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _sha256(path: Path) -> str:
    """Return the sum of a file, empty without one."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
