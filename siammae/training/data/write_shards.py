"""Folders of videos made into folders of shards, by several processes; an interrupted call goes on where it was.

Shard number s takes the s-th hundred (or `clips_per_shard`) of the sorted list of videos, so every process knows its work. A
shard is done when its record is there, which is written after it. The index is written last, from the records, a few at a
time, so that memory does not grow with their number.
"""

import csv
import hashlib
import io
import json
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from siammae.training.data.index_writer import writing_index
from siammae.training.data.shard_index import FACTS, shard_name
from siammae.training.data.shard_writer import ShardSettings, record_name, write_shard
from siammae.training.data.store_lock import held
from siammae.training.data.stores import Store
from siammae.video.frames import VIDEO_SUFFIXES

BEGUN, SKIPPED = "settings.json", "skipped.csv"
RECORDS = 32  # records of shards that are read at the same time


@dataclass(frozen=True)
class ShardReport:
    """Contents of a folder of shards, and what was skipped."""

    clips: int
    frames: int
    shards: int
    hours: float  # of video
    bytes: int  # of all shards
    skipped: tuple[tuple[str, str], ...]  # videos that gave no clip, each with the reason


@dataclass(frozen=True)
class Progress:
    """The state of the work: videos done in this call and before it, their number, bytes written in this call."""

    done: int
    total: int
    bytes: int


def write_shards(
    videos: str, out: str, settings: ShardSettings, *, processes: int = 1, timeout: float = 60.0,
    progress: Callable[[Progress], object] = lambda state: None,
) -> ShardReport:  # fmt: skip
    """Write the videos of a folder into shards with an index, or finish what an earlier call began.

    Args:
        videos: a folder of videos at any depth or a .txt file with one path a line; a local path, or the address of a folder
            in an object store.
        out: the folder for the shards; a local path or an address.
        settings: rate, size and format of the frames.
        processes: shards that are written at the same time.
        timeout: seconds within which a remote store answers.
        progress: called twice a second.

    Raises:
        ValueError: no video is there or usable, or `out` was begun with other videos or settings.
        FileExistsError: another call writes into `out`.
        OSError: the disk is full, or a store refuses or does not answer; the next call goes on.
    """
    source, names = find_videos(videos, timeout)
    store = Store(out, timeout)
    if not store.lists:
        raise ValueError(f"{out} cannot be written: web servers only give files; choose a folder or an object store")
    if store.folder is not None:
        store.folder.mkdir(parents=True, exist_ok=True)
    with held(store):
        for draft in store.folder.glob(".*.part.*") if store.folder else ():  # left by a killed call
            draft.unlink()
        _begin(store, names, settings)
        shards = -(-len(names) // settings.clips_per_shard)
        missing = _missing(store, shards)
        if missing:
            with suppress(FileNotFoundError):
                store.remove(FACTS)  # it describes shards that are about to change
            _write_missing(missing, names, (source, store, settings), processes, progress)
        return _finish(store, shards, settings, len(names))


def find_videos(videos: str, timeout: float) -> tuple[Store, list[str]]:
    """Return the store of the videos and their names in it, sorted.

    Raises:
        ValueError: there is none.
    """
    path = Path(videos)
    if path.suffix == ".txt" and "://" not in videos:
        names = [line.strip() for line in path.read_text().splitlines()]
        source, names = Store(str(path.resolve().parent), timeout), [name for name in names if name]
    else:
        source = Store(videos, timeout)
        names = [name for name in source.find() if Path(name).suffix.lower() in VIDEO_SUFFIXES]
    if not names:
        raise ValueError(f"no video in {videos}: no file in it ends in {', '.join(sorted(VIDEO_SUFFIXES))}")
    return source, names


def _begin(store: Store, names: list[str], settings: ShardSettings) -> None:
    """Note videos and settings in the store, or compare them with those that it was begun with."""
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:32]
    wanted = {**asdict(settings), "videos": len(names), "digest": digest}
    try:
        began = json.loads(store.read(BEGUN))
    except FileNotFoundError:
        if others := [name for name in store.sizes() if name.endswith(".tar")]:
            raise ValueError(
                f"{store.url} holds {others[0]}, which this command did not write; choose another folder"
            ) from None
        store.write(BEGUN, json.dumps(wanted, indent=1).encode())
        return
    different = [f"{key} {began.get(key)}, not {value}" for key, value in wanted.items() if began.get(key) != value]
    if different:
        shown = "other videos of the same number" if list(wanted)[-1] in different[0] else "; ".join(different[:3])
        raise ValueError(f"{store.url} was begun with {shown}; choose another folder, or give what it was begun with")


def _read_records(store: Store, numbers: Sequence[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the numbers of shards with their records, an empty one for a file that went away; RECORDS are in memory."""
    for begin in range(0, len(numbers), RECORDS):
        few = numbers[begin : begin + RECORDS]
        contents = store.read_ranges([(record_name(number), None, None) for number in few])
        for number, content in zip(few, contents, strict=True):
            yield number, json.loads(content) if isinstance(content, bytes) else {}


def _missing(store: Store, shards: int) -> list[int]:
    """List the numbers of the shards that are not there, or not as their record says."""
    sizes = store.sizes()
    written = [number for number in range(shards) if {record_name(number), shard_name(number)} <= sizes.keys()]
    whole = {number for number, record in _read_records(store, written) if record.get("bytes") == sizes[shard_name(number)]}
    return [number for number in range(shards) if number not in whole]


def _write_missing(
    missing: list[int], names: list[str], work: "Work", processes: int, progress: Callable[[Progress], object]
) -> None:
    """Write shards, each with its record, from the names of all videos."""
    _, store, settings = work
    each = settings.clips_per_shard
    parts = ((number, names[number * each : (number + 1) * each]) for number in missing)
    before = len(names) - sum(min(each, len(names) - number * each) for number in missing)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # its imports take seconds, once for all workers
    done, added, stop = context.Value("q", 0), context.Value("q", 0), context.Event()
    processes = min(processes, len(missing))
    with ProcessPoolExecutor(processes, context, initializer=_initialize, initargs=(work, done, added, stop)) as pool:
        running: set[Future[None]] = set()
        try:
            while True:
                running |= {pool.submit(_write_one, *part) for part in islice(parts, 2 * processes - len(running))}
                if not running:
                    break
                finished, running = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                progress(Progress(before + done.value, len(names), added.value))
        except BrokenProcessPool:
            raise OSError(
                f"a process that wrote into {store.url} was killed, perhaps because memory ran out; run the same command "
                "again, with fewer processes"
            ) from None
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


Work = tuple[Store, Store, ShardSettings]  # the videos' store, the shards' store


_state: dict[str, Any] = {}  # of a worker process


def _initialize(work: Work, done: Any, added: Any, stop: Any) -> None:
    """Keep what the shards of a worker process share; Ctrl-C reaches the parent, which stops the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _state.update(work=work, done=done, added=added, stop=stop)


def _write_one(number: int, names: list[str]) -> None:
    source, store, settings = _state["work"]

    def count(size: int) -> bool:
        for counter, amount in ((_state["done"], 1), (_state["added"], size)):
            with counter.get_lock():
                counter.value += amount
        return not _state["stop"].is_set()

    write_shard(store, number, names, source, settings, count)


def _finish(store: Store, shards: int, settings: ShardSettings, videos: int) -> ShardReport:
    """Write the index and the list of skipped videos, from the records of all shards."""
    clips, frames, size, seconds, skipped = 0, 0, 0, 0.0, list[tuple[str, str]]()
    with writing_index(store, {"format": settings.format, "fps": settings.fps, "short_side": settings.short_side}) as index:
        for number, record in _read_records(store, range(shards)):
            if not record:
                raise OSError(f"{store.url}/{record_name(number)} went away; run the same command again")
            index.add(record)
            clips += len(record["clips"])
            frames += sum(clip["frames"] for clip in record["clips"])
            seconds += sum(clip["frames"] / clip["fps"] for clip in record["clips"])
            size += record["bytes"]
            skipped += [(name, reason) for name, reason in record["skipped"]]
        table = io.StringIO()
        csv.writer(table).writerows([("video", "reason"), *skipped])
        store.write(SKIPPED, table.getvalue().encode())
        if not clips:
            raise ValueError(
                f"none of {videos} videos is usable, such as {skipped[0][1]}; {store.url}/{SKIPPED} lists all reasons"
            )
    return ShardReport(clips, frames, shards, seconds / 3600, size, tuple(skipped))
