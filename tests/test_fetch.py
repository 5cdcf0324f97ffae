"""Fetching against a server on this machine that drops, forgets, lies and names files it must not."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from medssl import cli, fetch

FILES = {
    "RECORDS": b"a\nb\n",
    "records/00/a b#1.dat": bytes(range(256)) * 1024,
    "records/00/a.hea": b"a 1 100 5\n",
    "empty.txt": b"",
}
BIG = "records/00/a b#1.dat"


class Server(ThreadingHTTPServer):
    """Serves ``/ptb-xl/1.0.3/``; the attributes say how it misbehaves."""

    daemon_threads = False  # joined at the end, so that none outlives its test

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = dict(FILES)
        self.listing = listing(FILES)
        self.ranges = True
        self.drops: Counter[str] = Counter()  # times a file breaks off after half of what is left
        self.uneven = False  # or after half and after a quarter by turns
        self.wrong: Counter[str] = Counter()  # times a byte of a file is another one
        self.wrong_at: dict[str, int] = {}  # the same, at one request
        self.busy: Counter[str] = Counter()  # times the answer is 503
        self.shifted: Counter[str] = Counter()  # times another range than the one asked for comes
        self.seen: list[tuple[str, str]] = []  # file, Range

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def asked(self, name: str) -> list[str]:
        return [r for n, r in self.seen if n == name]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        from urllib.parse import unquote

        name = unquote(self.path).removeprefix("/ptb-xl/1.0.3/")
        site, asked = self.server, self.headers.get("Range", "")
        site.seen.append((name, asked))
        body = site.listing if name == fetch.LISTING else site.files.get(name)
        self.close_connection = True
        if body is None or site.busy[name] > 0:
            site.busy[name] -= 1
            self.reply(404 if body is None else 503, b"")
            return
        if site.wrong[name] > 0 or site.wrong_at.get(name) == len(site.asked(name)):
            site.wrong[name] -= 1
            body = body[:-1] + bytes([body[-1] ^ 1])
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked and site.ranges else 0
        if asked and site.ranges and first >= len(body):
            self.reply(416, b"")
            return
        if site.shifted[name] > 0 and asked:
            site.shifted[name] -= 1
            first += 1
        head = {"Content-Range": f"bytes {first}-{len(body) - 1}/{len(body)}"} if asked and site.ranges else {}
        body = body[first:]
        share = 4 if site.uneven and site.drops[name] % 2 else 2
        sent = body[: len(body) // share] if site.drops[name] > 0 else body
        site.drops[name] -= 1
        self.reply(206 if head else 200, sent, {**head, "Content-Length": str(len(body))})

    def reply(self, status: int, body: bytes, head: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), "Connection": "close", **(head or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)


def listing(files: dict[str, bytes]) -> bytes:
    return "".join(f"{hashlib.sha256(v).hexdigest()} {k}\n" for k, v in files.items()).encode()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        site.shutdown()
        thread.join()


def bring(site: Server, to: Path) -> tuple[int, int]:
    return fetch.fetch("ptbxl", to, base_url=site.url, pause_s=0.0, progress=False)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def complete(site: Server) -> dict[str, bytes]:
    return {**FILES, fetch.LISTING: site.listing}


def test_a_set_arrives_whole_and_only_once(server: Server, tmp_path: Path) -> None:
    assert bring(server, tmp_path / "set") == (4, 0)
    assert content(tmp_path / "set") == complete(server)
    server.seen.clear()
    assert bring(server, tmp_path / "set") == (0, 4)
    assert [name for name, _ in server.seen] == [fetch.LISTING]


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_a_dropped_connection_goes_on(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.drops[BIG], server.ranges = 3, ranges
    assert bring(server, tmp_path) == (4, 0)
    assert content(tmp_path) == complete(server)
    size = len(FILES[BIG])
    assert len(server.asked(BIG)) == 4
    if ranges:  # each time half of the rest came
        assert server.asked(BIG) == ["", *(f"bytes={size - size // 2**i}-" for i in (1, 2, 3))]


def test_what_another_run_left_is_continued(server: Server, tmp_path: Path) -> None:
    part = tmp_path / (BIG + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(FILES[BIG][:1000])
    bring(server, tmp_path)
    assert server.asked(BIG) == ["bytes=1000-"]
    assert content(tmp_path) == complete(server)


@pytest.mark.parametrize("left", [FILES[BIG], FILES[BIG] + b"x", b"y" * 1000], ids=["whole", "longer", "other"])
def test_a_part_that_is_whole_or_wrong(server: Server, tmp_path: Path, left: bytes) -> None:
    part = tmp_path / (BIG + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(left)
    bring(server, tmp_path)
    assert content(tmp_path) == complete(server)
    assert len(server.asked(BIG)) == (1 if left == FILES[BIG] else 2)


def test_another_range_than_asked_for_is_not_appended(server: Server, tmp_path: Path) -> None:
    server.drops[BIG], server.shifted[BIG] = 1, 1
    server.wrong_at[BIG] = 3  # it is allowed to be wrong once, which the other range must not count as
    bring(server, tmp_path)
    assert content(tmp_path) == complete(server)
    assert len(server.asked(BIG)) == 4


def test_a_wrong_byte_once_is_fetched_again(server: Server, tmp_path: Path) -> None:
    server.wrong[BIG] = 1
    assert bring(server, tmp_path) == (4, 0)
    assert content(tmp_path) == complete(server)


def test_a_wrong_byte_twice_is_named_and_harms_no_other_file(server: Server, tmp_path: Path) -> None:
    server.wrong["RECORDS"] = 2
    with pytest.raises(fetch.FetchError, match=r"1 of 4 files failed.* RECORDS: its SHA-256 differs .* twice"):
        bring(server, tmp_path)
    assert len(server.asked("RECORDS")) == 2
    assert content(tmp_path) == {k: v for k, v in complete(server).items() if k != "RECORDS"}
    assert bring(server, tmp_path) == (1, 3)


def test_a_damaged_file_is_repaired(server: Server, tmp_path: Path) -> None:
    bring(server, tmp_path)
    (tmp_path / "RECORDS").write_bytes(b"?")
    assert bring(server, tmp_path) == (1, 3)
    assert content(tmp_path) == complete(server)


def test_an_absent_file_and_a_busy_server(server: Server, tmp_path: Path) -> None:
    del server.files["RECORDS"]
    server.busy[BIG] = server.busy[fetch.LISTING] = 2
    with pytest.raises(fetch.FetchError, match="RECORDS: the server answered 404"):
        bring(server, tmp_path)
    assert (tmp_path / BIG).read_bytes() == FILES[BIG]


@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
def test_a_connection_that_never_holds_ends(server: Server, tmp_path: Path, uneven: bool) -> None:
    server.drops[BIG], server.ranges, server.uneven = 100, False, uneven
    with pytest.raises(fetch.FetchError, match="connection was lost 5 times"):
        bring(server, tmp_path)
    assert (tmp_path / (BIG + ".part")).stat().st_size >= len(FILES[BIG]) // 4
    assert not (tmp_path / BIG).exists()
    server.drops.clear()
    server.ranges = True
    assert bring(server, tmp_path) == (1, 3)


def test_a_server_that_is_gone_ends_early(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files = {f"{i}.dat": b"12" for i in range(9)}
    server.listing = listing(server.files)
    server.drops.update(dict.fromkeys(server.files, 1000))
    server.ranges = False
    with pytest.raises(fetch.FetchError, match=r"^2\.dat: .*3 files in a row"):
        bring(server, tmp_path)
    assert not server.asked("3.dat")


@pytest.mark.parametrize(
    "name",
    ["../up.txt", "a/../../up.txt", "/tmp/up.txt", "..\\up.txt", "C:\\up.txt", "a//b", "./../up.txt", ".", "a\x07b",
     fetch.LISTING],
)  # fmt: skip
def test_a_name_that_leads_outside_stops_everything(server: Server, tmp_path: Path, name: str) -> None:
    server.files[name] = b"!"
    server.listing = listing({**FILES, name: b"!"})
    with pytest.raises(fetch.FetchError, match="line 5 names a file outside the folder; nothing was fetched"):
        bring(server, tmp_path / "set")
    assert not list(tmp_path.iterdir())
    assert {n for n, _ in server.seen} == {fetch.LISTING}


def test_a_link_in_the_folder_leads_nowhere(server: Server, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "records").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(fetch.FetchError, match="through a link"):
        bring(server, tmp_path / "set")
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"<html>not here</html>", "line 1 is no SHA-256"),
        (b"\n", "names no file"),
        (b"%s a\n%s a\n" % (b"0" * 64, b"1" * 64), "second sum"),
    ],
)
def test_a_listing_that_is_none(server: Server, tmp_path: Path, text: bytes, words: str) -> None:
    server.listing = text
    with pytest.raises(fetch.FetchError, match=words):
        bring(server, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_file_and_a_folder_of_one_name(server: Server, tmp_path: Path) -> None:
    server.files = {"a": b"1", "a/b": b"2", "c": b"3"}
    server.listing = listing(server.files)
    with pytest.raises(fetch.FetchError, match=r"1 of 3 files failed.*a/b: a file is in the way"):
        bring(server, tmp_path)
    assert (tmp_path / "c").read_bytes() == b"3"


def test_command_line(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fetch", "ptbxl", "--to", str(tmp_path / "set")]
    assert cli.main([*words, "--base-url", server.url + "/"]) == 0
    out = capsys.readouterr().out
    assert "Creative Commons Attribution 4.0" in out
    assert "Wagner" in out
    assert "Goldberger" in out
    assert "4 files fetched, 0 were there" in out
    assert f"medssl check {tmp_path / 'set'} --source ptbxl" in out
    assert cli.main(["fetch", "ptbxl", "--to", str(tmp_path), "--base-url", "physionet.org"]) == 1
    assert "expected an address" in capsys.readouterr().err


def test_an_unknown_name_is_one_line_with_what_is_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fetch", "mimic", "--to", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert all(name in err for name in ("ptbxl", "cinc2017", "mitbih", "ptbdb", "bidmc", "eegmat", "eegmmidb"))
    assert "sleep_edf" in err


def test_every_set_says_where_and_on_which_terms() -> None:
    for known in fetch.SETS.values():
        assert known.path.count("/") == 1 and known.path.rpartition("/")[2][0].isdigit()
        assert "Attribution" in known.licence and "doi:" in known.citation


def test_help_needs_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "medssl.cli", "fetch", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "sleep_edf" in done.stdout
    loaded = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert not loaded & {"requests", "numpy", "pandas", "torch", "tqdm"}
