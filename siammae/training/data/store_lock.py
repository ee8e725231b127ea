"""The lock of a store into which a process writes: the system's on a disk, a small file with a heartbeat in an object store."""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from siammae.files import locked
from siammae.training.data.stores import Store, StoreError

LOCK = "writer.json"
HEARTBEAT = 20  # seconds between two signs of life of a writer
DEAD = 90  # seconds without one after which its lock is taken over


@contextmanager
def held(store: Store) -> Iterator[None]:
    """Keep a store for this process until the block ends.

    Raises:
        FileExistsError: another process has it.
        StoreError: at the end, if another process took it over because no sign of life arrived for DEAD seconds.
    """
    if store.folder is not None:
        with locked(store.folder):
            yield
        return
    owner = _read(store)
    silent = time.time() - owner["time"] if owner else DEAD
    if owner and silent < DEAD:
        raise FileExistsError(
            f"{store.url} is being written by process {owner['process']} on {owner['host']} (its last sign of life was "
            f"{silent:.0f} s ago); choose another folder, or wait: {DEAD} s after it has died its place is free"
        )
    mine = secrets.token_hex(8)
    ended = threading.Event()
    _sign(store, mine)
    thread = threading.Thread(target=_beat, args=(store, mine, ended), daemon=True)
    thread.start()
    try:
        _check(store, mine)
        yield
        _check(store, mine)
    finally:
        ended.set()
        thread.join()
        if _read(store).get("token") == mine:
            store.remove(LOCK)


def _beat(store: Store, mine: str, ended: threading.Event) -> None:
    """Give a sign of life every HEARTBEAT seconds, as long as no other process has taken the store over."""
    while not ended.wait(HEARTBEAT):
        try:
            if _read(store).get("token") != mine:
                return
            _sign(store, mine)
        except StoreError:
            continue  # the work itself meets the same store and reports it


def _sign(store: Store, mine: str) -> None:
    sign = {"token": mine, "host": socket.gethostname(), "process": os.getpid(), "time": time.time()}
    store.write(LOCK, json.dumps(sign).encode())


def _check(store: Store, mine: str) -> None:
    owner = _read(store)
    if owner.get("token") != mine:
        raise FileExistsError(
            f"{store.url} was taken over by process {owner.get('process')} on {owner.get('host')}; let one process write there"
        )


def _read(store: Store) -> dict[str, Any]:
    """Read the lock; nothing if there is none."""
    try:
        owner: dict[str, Any] = json.loads(store.read(LOCK))
        return owner
    except FileNotFoundError:
        return {}
