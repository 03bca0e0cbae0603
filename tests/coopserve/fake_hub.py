"""The parts of the Hugging Face Hub's HTTP API that pushing and pulling a model need, kept in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Repositories by name: the files of each."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.fetched: list[str] = []
        self.url = ""

    def post(self, path: str, body: bytes) -> tuple[int, object]:
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization', 'me')}/{asked['name']}"
            self.repositories.setdefault(name, {})
            return 200, {"url": f"{self.url}/{name}", "name": name}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/\w+", path):
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return 200, {"files": files}
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/\w+", path):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.repositories[match[1]][line["value"]["path"]] = content
            return 200, {"commitUrl": f"{self.url}/{match[1]}/commit/{COMMIT}", "commitOid": COMMIT, "success": True}
        return 404, {"error": f"no {path}"}

    def get(self, path: str) -> tuple[int, object]:
        if match := re.match(r"/api/models/([^/]+/[^/]+)", path):
            if match[1] not in self.repositories:
                return 404, {"error": "Repository not found"}
            files = self.repositories[match[1]]
            if "/tree/" in path:
                tree = [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in files.items()
                ]
                return 200, tree
            siblings = [{"rfilename": name} for name in files]
            return 200, {"id": match[1], "modelId": match[1], "sha": COMMIT, "siblings": siblings, "private": False}
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/\w+/(.+)", path):
            self.fetched.append(match[2])
            return 200, self.repositories[match[1]][match[2]]
        return 404, {"error": f"no {path}"}


@contextmanager
def hub_server() -> Iterator[FakeHub]:
    """A hub on a free port."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def do_POST(self) -> None:
            self.answer(*hub.post(self.path, self.body()))

        def do_GET(self) -> None:
            self.answer(*hub.get(self.path.partition("?")[0]))

        do_HEAD = do_GET  # noqa: N815

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def answer(self, status: int, content: object) -> None:
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
