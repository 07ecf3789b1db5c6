"""A Hub of our own, on this machine: the requests that sending a model makes, as `huggingface_hub` makes them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = "hf_ofthetests"
LARGE = (".onnx", ".safetensors", ".data")


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b"*.safetensors filter=lfs\n"})
    commits: list[str] = field(default_factory=lambda: ["0" * 40])


class FakeHub(ThreadingHTTPServer):
    """What it was sent, and what it is to refuse.

    Attributes:
        repositories: by name.
        stored: large files by their sha256, committed or not.
        asked: every request, as ``"POST /api/repos/create"``.
        refused: status and headers by a pattern of requests that are answered so.
        before: called before a request is answered, which it is not where this raises ConnectionAbortedError.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.refused: dict[str, tuple[int, str]] = {}
        self.before: Callable[[str], None] = lambda request: None
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def download(self, name: str, folder: Path) -> None:
        """As `hf download --local-dir` leaves it, which lays a folder of its own beside the files."""
        for file, content in self.repositories[name].files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        own = folder / ".cache" / "huggingface" / "download"
        own.mkdir(parents=True)
        (own / "README.md.metadata").write_text("0\n", encoding="utf-8")


class Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._respond()

    do_POST = do_PUT = do_GET

    def _respond(self) -> None:
        body, request = self._body(), f"{self.command} {self.path}"
        self.server.asked.append(request)
        try:
            self.server.before(request)
        except ConnectionAbortedError:
            self.close_connection = True
            return None
        for pattern, (status, said) in self.server.refused.items():
            if re.fullmatch(pattern, request):
                return self._say(status, {"error": said})
        if "/lfs/" not in self.path and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._say(401, {"error": "Invalid credentials in Authorization header"})
        for pattern, answer in ANSWERS.items():
            if found := re.fullmatch(pattern, request):
                return self._say(*answer(self.server, body, *found.groups()))
        return self._say(400, {"error": f"no such request: {request}"})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _say(self, status: int, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if "error" in content:
            self.send_header("X-Error-Message", content["error"])
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _info(hub: FakeHub, body: bytes, name: str) -> tuple[int, Any]:
    if name not in hub.repositories:
        return 404, {"error": "Repository not found"}
    found = hub.repositories[name]
    files = [{"rfilename": file} for file in found.files]
    return 200, {"id": name, "sha": found.commits[-1], "private": found.private, "siblings": files}


def _create(hub: FakeHub, body: bytes) -> tuple[int, Any]:
    asked = json.loads(body)
    name = f"{asked['organization']}/{asked['name']}"
    if name in hub.repositories:
        return 409, {"error": "You already created this model repo"}
    hub.repositories[name] = Repository(asked.get("visibility") == "private")
    return 200, {"url": f"{hub.url}/{name}"}


def _valid(hub: FakeHub, body: bytes) -> tuple[int, Any]:
    return 200, {"errors": [], "warnings": []}


def _modes(hub: FakeHub, body: bytes, name: str) -> tuple[int, Any]:
    modes = [
        {
            "path": file["path"],
            "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
            "shouldIgnore": False,
        }
        for file in json.loads(body)["files"]
    ]
    return 200, {"files": modes}


def _batch(hub: FakeHub, body: bytes, name: str) -> tuple[int, Any]:
    objects = []
    for one in json.loads(body)["objects"]:
        there = one["oid"] in hub.stored
        objects.append(one if there else {**one, "actions": {"upload": {"href": f"{hub.url}/lfs/{one['oid']}"}}})
    return 200, {"transfer": "basic", "objects": objects}


def _store(hub: FakeHub, body: bytes, oid: str) -> tuple[int, Any]:
    if hashlib.sha256(body).hexdigest() != oid:
        return 400, {"error": "the content is not what was announced"}
    hub.stored[oid] = body
    return 200, {}


def _commit(hub: FakeHub, body: bytes, name: str) -> tuple[int, Any]:
    found, lines = hub.repositories[name], [json.loads(line) for line in body.splitlines()]
    if lines[0]["value"].get("parentCommit", found.commits[-1]) != found.commits[-1]:
        return 412, {"error": "A commit has happened since. Please refresh and try again."}
    for line in lines[1:]:
        value = line["value"]
        large = line["key"] == "lfsFile"
        found.files[value["path"]] = hub.stored[value["oid"]] if large else base64.b64decode(value["content"])
    found.commits.append(hashlib.sha1(body).hexdigest())
    return 200, {"commitUrl": f"{hub.url}/{name}/commit/{found.commits[-1]}", "commitOid": found.commits[-1]}


NAME = r"([\w.-]+/[\w.-]+)"
ANSWERS: dict[str, Callable[..., tuple[int, Any]]] = {
    rf"GET /api/models/{NAME}": _info,
    r"POST /api/repos/create": _create,
    r"POST /api/validate-yaml": _valid,
    rf"POST /api/models/{NAME}/preupload/main": _modes,
    rf"POST /{NAME}\.git/info/lfs/objects/batch": _batch,
    r"PUT /lfs/(\w+)": _store,
    rf"POST /api/models/{NAME}/commit/main": _commit,
}
