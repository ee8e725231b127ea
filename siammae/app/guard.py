"""The guard at the door of the app: who may ask, and how errors are answered."""

import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

POLICY = "default-src 'self'; img-src 'self' blob:; object-src 'none'; frame-ancestors 'none'; base-uri 'none'"


def allowed_hosts(host: str, names: Collection[str] = ()) -> frozenset[str]:
    """Return the names under which this machine answers; its IP addresses are allowed besides."""
    own = {"localhost", host, socket.gethostname(), socket.getfqdn(), *names}
    return frozenset(name.lower().rstrip(".") for name in own)


class Guard:
    """A middleware that answers only to the machine's own names, and takes changes from its own page alone.

    A page from elsewhere that resolves its name to this machine (DNS rebinding) names itself in `Host`; a page that posts
    across sites names itself in `Origin`, and cannot set the header `X-Siammae`.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        if (reason := self._refusal(request)) is not None:
            await JSONResponse({"error": reason}, 403)(scope, receive, send)
            return

        async def send_safely(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                assert isinstance(headers, list)
                headers += [
                    (b"content-security-policy", POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        await self.app(scope, receive, send_safely)  # type: ignore[arg-type]

    def _refusal(self, request: Request) -> str | None:
        host = request.headers.get("host", "")
        if not self._is_own(f"//{host}"):
            return "the app does not answer under this host name; name it with --allow-host"
        if request.method not in ("GET", "HEAD"):
            origin = request.headers.get("origin")
            if "x-siammae" not in request.headers or (origin is not None and urlsplit(origin).netloc != host):
                return "changes are taken from the app's own page only"
        return None

    def _is_own(self, url: str) -> bool:
        try:
            name = (urlsplit(url).hostname or "").rstrip(".")
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self.hosts
        return True
