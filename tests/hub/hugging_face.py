"""A Hugging Face hub on the loopback address: answers what downloads and uploads ask, and keeps what they asked."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

NAME = "lab/toy"


class Hub(ThreadingHTTPServer):
    """Files of the one model ``lab/toy``, by commit; branches and tags point to commits."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.commits: dict[str, dict[str, bytes]] = {}
        self.refs: dict[str, str] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, files: dict[str, bytes], ref: str = "main") -> str:
        name = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits[name] = files
        self.refs[ref] = name
        return name

    def commit_folder(self, folder: Path, ref: str = "main", **more: bytes) -> str:
        return self.commit({**{p.name: p.read_bytes() for p in folder.iterdir()}, **more}, ref)


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def say(self, content: Any, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, path = self.server, unquote(urlsplit(self.path).path)
        hub.asked.append(f"{self.command} {path}")
        revision = path.removeprefix(f"/api/models/{NAME}").removeprefix("/revision/") or "main"
        if path.startswith(f"/api/models/{NAME}/tree/"):
            files = hub.commits[path.rsplit("/", 1)[1]]
            self.say([{"type": "file", "path": p, "size": len(c), "oid": oid(c)} for p, c in files.items()])
        elif path.startswith(f"/api/models/{NAME}"):
            commit = hub.refs.get(revision, revision)
            if commit in hub.commits:
                self.say({"id": NAME, "sha": commit, "siblings": [{"rfilename": p} for p in hub.commits[commit]]})
            else:
                self.say({}, 404, X_Error_Code="RevisionNotFound")
        elif path.startswith(f"/{NAME}/resolve/"):
            commit, name = path.removeprefix(f"/{NAME}/resolve/").split("/", 1)
            content = hub.commits[commit][name]
            self.say(content, ETag=f'"{oid(content)}"', X_Repo_Commit=commit)
        elif path.startswith("/api/models/lab/gated"):
            self.say({}, 403, X_Error_Code="GatedRepo")
        else:
            self.say({}, 401, X_Error_Code="RepoNotFound")

    def do_POST(self) -> None:
        hub, path = self.server, urlsplit(self.path).path
        body = self.rfile.read(int(self.headers["Content-Length"]))
        hub.asked.append(f"POST {path}")
        if self.headers.get("Authorization") != "Bearer hf_toy":
            self.say({"error": "no token"}, 401)
        elif path == "/api/repos/create":
            about = json.loads(body)
            self.say({"url": f"{hub.url}/{about.get('organization', 'lab')}/{about['name']}"})
        elif path == "/api/validate-yaml":
            self.say({"errors": [], "warnings": []})
        elif path.endswith("/preupload/main"):
            self.say(
                {
                    "files": [
                        {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                        for f in json.loads(body)["files"]
                    ]
                }
            )
        elif path.endswith("/commit/main"):
            lines = [json.loads(line) for line in body.splitlines()]
            files = {x["value"]["path"]: base64.b64decode(x["value"]["content"]) for x in lines if x["key"] == "file"}
            commit = hub.commit(files)
            self.say({"commitUrl": f"{hub.url}/{NAME}/commit/{commit}", "commitOid": commit})
        else:
            self.say({}, 404)


def oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
