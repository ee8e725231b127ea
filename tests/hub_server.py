"""A small Hugging Face Hub on this machine, for the real client to talk to: downloads, uploads, and every way to fail."""

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

DISCUSSION = {  # of the pull request that an upload makes
    "num": 1,
    "title": "Upload model",
    "status": "draft",
    "isPullRequest": True,
    "author": {"name": "me"},
    "createdAt": "2026-01-01T00:00:00.000Z",
    "changes": {"base": "refs/heads/main"},
    "filesWithConflicts": [],
    "events": [],
}

LARGE = ".safetensors"  # kept in LFS: redirected to another host, and named after its SHA-256


@dataclass
class Repo:
    """A model repo and how it misbehaves.

    Attributes:
        files: by name.
        token: without it the repo looks as if it were not there.
        gated: nobody has access.
        damage: what is sent of a large file in place of its bytes.
        cuts: how many more answers break off in the middle.
        branch: where pull requests go; None if there was none.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    token: str | None = None
    gated: bool = False
    damage: bytes | None = None
    cuts: int = 0
    branch: str | None = None

    @property
    def commit(self) -> str:
        content = "".join(f"{name}{hashlib.sha1(data).hexdigest()}" for name, data in sorted(self.files.items()))
        return hashlib.sha1(content.encode()).hexdigest()


class HubServer:
    """The server, its repos by name, and a log of the requests that it got.

    It listens from the start, so that its address is known; `start` makes it answer.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.log: list[str] = []
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        if self.thread is None:
            self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
            self.thread.start()

    def reset(self) -> None:
        self.repos.clear()
        self.log.clear()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_hub: HubServer

    def log_message(self, format: str, *args: Any) -> None:
        self.server_hub.log.append(f"{self.command} {unquote(self.path)}")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if len(parts) >= 5 and parts[2] == "resolve":
            self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        elif parts[0] == "cdn":
            self._send_bytes("/".join(parts[1:3]), "/".join(parts[3:]), {})
        elif parts[4:5] == ["discussions"]:
            self._json(DISCUSSION | {"repo": {"name": "/".join(parts[2:4]), "type": "model"}})
        elif parts[:2] == ["api", "models"] and "/".join(parts[2:4]) in self.server_hub.repos:
            repo = self.server_hub.repos["/".join(parts[2:4])]
            siblings = [{"rfilename": name} for name in repo.files]
            self._json({"id": "/".join(parts[2:4]), "sha": repo.commit, "siblings": siblings, "tags": [], "private": False})
        else:
            self._json({}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            known = name in self.server_hub.repos
            repo = self.server_hub.repos.setdefault(name, Repo())
            private = asked.get("private") or asked.get("visibility") == "private"
            repo.token = self._token() if private else repo.token
            self._json({"url": f"{self.server_hub.url}/{name}", "name": name}, 409 if known else 200)
        elif parts == ["api", "validate-yaml"]:
            self._json({"errors": [], "warnings": []})
        elif parts[4:5] == ["discussions"]:
            self.server_hub.repos["/".join(parts[2:4])].branch = "refs/pr/1"
            self._json(DISCUSSION)
        elif parts[4:5] == ["preupload"]:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]
            ]
            self._json({"files": files})
        elif parts[4:5] == ["commit"]:
            repo = self.server_hub.repos["/".join(parts[2:4])]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    repo.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"{self.server_hub.url}/{'/'.join(parts[2:4])}"
            answer = {"commitUrl": f"{url}/commit/{repo.commit}", "commitOid": repo.commit, "success": True}
            self._json(answer)
        else:
            self._json({}, 404)

    def _token(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

    def _file(self, name: str, revision: str, file: str) -> None:
        repo = self.server_hub.repos.get(name)
        if repo is None or (repo.token and self._token() != repo.token):
            self._error(404 if repo is None else 401, "RepoNotFound")
        elif repo.gated:
            self._error(403, "GatedRepo")
        elif revision not in ("main", repo.commit):
            self._error(404, "RevisionNotFound")
        elif file not in repo.files:
            self._error(404, "EntryNotFound", {"X-Repo-Commit": repo.commit})
        elif file.endswith(LARGE):
            data = repo.files[file]
            self.send_response(302)
            self.send_header("X-Repo-Commit", repo.commit)
            self.send_header("X-Linked-Etag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Linked-Size", str(len(data)))
            self.send_header("Location", f"http://localhost:{self.server.server_address[1]}/cdn/{name}/{file}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            data = repo.files[file]
            etag = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            self._send_bytes(name, file, {"X-Repo-Commit": repo.commit, "ETag": f'"{etag}"'})

    def _send_bytes(self, name: str, file: str, headers: dict[str, str]) -> None:
        repo = self.server_hub.repos[name]
        data = repo.files[file]
        if file.endswith(LARGE) and repo.damage is not None:
            data = repo.damage
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        if repo.cuts and file.endswith(LARGE):
            repo.cuts -= 1
            self.wfile.write(data[start : start + (len(data) - start) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
        else:
            self.wfile.write(data[start:])

    def _error(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"X-Error-Code": code, "X-Error-Message": code, "Content-Length": "0", **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()

    def _json(self, content: Any, status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
