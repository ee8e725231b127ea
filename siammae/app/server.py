"""The server of `siammae app`: it serves the page and its projects until Ctrl-C."""

import asyncio
import os
import signal
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware

from siammae.app.cached import CachedEncoder, warm_up
from siammae.app.guard import Guard, allowed_hosts
from siammae.app.routes import Routes
from siammae.app.sessions import Sessions
from siammae.encoder import Encoder
from siammae.geometry import InputSize

SECONDS_BETWEEN_SWEEPS = 60


def serve(
    encoder: Encoder,
    *,
    size: InputSize,
    host: str,
    port: int,
    browser: bool,
    workspace: Path | None = None,
    names: Collection[str] = (),
) -> None:
    """Serve the page until Ctrl-C; without a workspace, remove all projects then.

    Raises:
        OSError: the address is taken, or the workspace cannot be written or is in use.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    listener = _listen(host, port)
    encoder = CachedEncoder(encoder)
    warm_up(encoder)
    with tempfile.TemporaryDirectory(prefix="siammae-app-") as scratch, _held(workspace):
        root = workspace or Path(scratch) / "projects"
        root.mkdir(exist_ok=True)
        (Path(scratch) / "uploads").mkdir()
        sessions = Sessions(root, encoder, size=size, keep=workspace is not None)
        server = uvicorn.Server(uvicorn.Config(build(sessions, Path(scratch), allowed_hosts(host, names)), log_level="warning"))
        address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        kept = f", projects in {workspace}" if workspace else ""
        print(f"siammae app with {encoder.name}{kept}: {address} (Ctrl-C ends it)", flush=True)
        if browser:
            threading.Timer(0.5, webbrowser.open, [address]).start()
        over = threading.Event()
        sweeper = threading.Thread(target=_sweep, args=(sessions, over), daemon=True)
        sweeper.start()
        try:
            asyncio.run(server.serve([listener]))
        except KeyboardInterrupt:
            pass
        finally:
            over.set()
            sweeper.join()
            sessions.close_all()


def build(sessions: Sessions, scratch: Path, hosts: Collection[str]) -> Starlette:
    """Build the app; uploads go through scratch/uploads."""
    routes = Routes(sessions, scratch / "uploads", scratch / "example.mp4")
    return Starlette(routes=routes.list(), middleware=[Middleware(Guard, hosts=hosts)])


def _listen(host: str, port: int) -> socket.socket:
    """Open the port; OSError with the remedy where it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(f"cannot serve at {host}, port {port}: {error.strerror}; choose another with --port or --host") from error
    return listener


def _sweep(sessions: Sessions, over: threading.Event) -> None:
    while not over.wait(SECONDS_BETWEEN_SWEEPS):
        sessions.end_idle()


@contextmanager
def _held(workspace: Path | None) -> Iterator[None]:
    """Make a workspace and keep it to this process; OSError where another app uses it."""
    if workspace is None or os.name == "nt":
        yield
        return
    import fcntl

    workspace.mkdir(parents=True, exist_ok=True)
    with open(workspace / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OSError(f"another siammae app uses the workspace {workspace}; end it, or choose another folder") from error
        yield
