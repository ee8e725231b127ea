"""The sessions of everybody who uses the app: opened by uploads, found by their ids, ended when nobody uses them."""

import json
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from siammae.app.fitting import Fitter
from siammae.app.job import SessionEnded
from siammae.app.project import Project
from siammae.app.session import Session
from siammae.app.turns import Turns
from siammae.encoder import Encoder
from siammae.geometry import InputSize

IDLE_SECONDS = 3600.0  # a session that nobody uses for so long ends
MAX_SESSIONS = 64  # open at once


class Sessions:
    """Open sessions by id; an id is the name of the project's folder, and cannot be guessed.

    Args:
        root: folder of the projects.
        encoder, size: the model and its input size.
        keep: whether projects outlive their sessions, as in a workspace; else a session's end removes its folder.
        clock: function that returns the time in seconds.
    """

    def __init__(
        self,
        root: Path,
        encoder: Encoder,
        *,
        size: InputSize = None,
        keep: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root, self.encoder, self.size, self.keep = root, encoder, size, keep
        self._clock, self._turns, self._lock = clock, Turns(), threading.RLock()
        self._fitter = Fitter(encoder, size)
        self._open: dict[str, tuple[Session, float]] = {}  # and the time of the last use

    def create(self, source: Path, *, name: str | None = None, move: bool = False) -> tuple[str, Session]:
        """Open a new project for a video, copied or moved from `source`; nothing is left of it if the video is refused."""
        self.end_idle()
        with self._lock:
            if len(self._open) >= MAX_SESSIONS:
                raise ValueError(f"{MAX_SESSIONS} projects are open, as many as the app holds; close one, or try again later")
        stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(name or source.name).stem).strip("-")[:40] or "video"
        key = f"{stem}-{secrets.token_hex(4)}" if self.keep else secrets.token_hex(16)
        folder = self.root / key
        Project.create(source, folder, name=name, move=move)
        try:
            session = Session(folder, self.encoder, size=self.size, turns=self._turns, fitter=self._fitter)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        with self._lock:
            self._open[key] = session, self._clock()
        return key, session

    def get(self, key: str) -> Session:
        """Return a session, opening it again if its project was kept; SessionEnded if there is none."""
        with self._lock:
            if key in self._open:
                session = self._open[key][0]
            elif self.keep and re.fullmatch(r"[A-Za-z0-9-]+", key) and (self.root / key / "project.json").is_file():
                session = Session(self.root / key, self.encoder, size=self.size, turns=self._turns, fitter=self._fitter)
            else:
                raise SessionEnded("this project was closed")
            self._open[key] = session, self._clock()
            return session

    def close(self, key: str, *, remove: bool = False) -> None:
        """End a session, and remove its project if `remove`, or if projects are not kept."""
        if remove:
            self.get(key)
        with self._lock:
            entry = self._open.pop(key, None)
        if entry is not None:
            entry[0].close(remove=remove or not self.keep)

    def end_idle(self) -> None:
        """End the sessions that nobody has used for an hour, except those that propagate."""
        with self._lock:
            now = self._clock()
            idle = {
                key: entry
                for key, entry in self._open.items()
                if now - entry[1] > IDLE_SECONDS and not (entry[0].job and entry[0].job.active)
            }
            self._open = {key: entry for key, entry in self._open.items() if key not in idle}
        for session, _ in idle.values():
            session.close(remove=not self.keep)

    def close_all(self) -> None:
        """End all sessions."""
        with self._lock:
            keys = list(self._open)
        for key in keys:
            self.close(key)

    def projects(self) -> list[dict[str, Any]]:
        """List the kept projects, the last changed first: id, name of the video, and time of the last change in seconds."""
        if not self.keep:
            return []
        found = []
        for path in self.root.glob("*/project.json"):
            try:
                name = str(json.loads(path.read_text())["name"])
                changed = max(entry.stat().st_mtime for entry in path.parent.iterdir() if not entry.name.startswith("."))
            except (OSError, ValueError, KeyError, TypeError):
                continue  # a project that is being made or removed
            found.append({"id": path.parent.name, "name": name, "changed": changed})
        return sorted(found, key=lambda project: -project["changed"])
