"""The index of shards is written one shard after the other: the same files as from whole arrays, and flat memory."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from siammae.training.data.index_writer import Rows, writing_index
from siammae.training.data.shard_index import ARRAYS, CLIP, FACTS, open_index
from siammae.training.data.shard_writer import ShardSettings
from siammae.training.data.stores import Store
from siammae.training.data.write_shards import write_shards

SHARDS, EACH, FRAMES = 2000, 100, 80  # of a folder of 200,000 clips
MEMORY = """
import re, sys
from siammae.training.data.shard_writer import ShardSettings
from siammae.training.data.write_shards import write_shards

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

before = peak()
report = write_shards(sys.argv[1], sys.argv[2], ShardSettings())
print(peak() - before, report.clips, report.frames, len(report.skipped))
"""


def record(number: int, clips: int, rng: np.random.Generator) -> dict[str, Any]:
    """Make the record of a shard whose clips have any number of members."""
    rows = []
    for key in range(clips):
        sizes = rng.integers(1, 50_000, rng.integers(1, 9)).tolist()
        facts = {"frames": len(sizes), "fps": float(rng.uniform(1, 30)), "height": 256, "width": 340}
        rows.append({"key": 100 * number + key, "source": f"{key}.mp4", "offset": 512 * key, "sizes": sizes, **facts})
    return {"shard": f"shard-{number:06d}.tar", "bytes": 10_000 * number + 1, "clips": rows, "skipped": []}


def whole_arrays(records: list[dict[str, Any]]) -> dict[str, bytes]:
    """Return the files of an index, each saved by numpy from one list of all its rows."""
    rows: list[tuple[Any, ...]] = []
    sizes: list[int] = []
    for number, each in enumerate(records):
        for clip in each["clips"]:
            place = number, clip["key"], clip["offset"], len(sizes), len(clip["sizes"])
            rows.append((*place, clip["frames"], clip["fps"], clip["height"], clip["width"]))
            sizes += clip["sizes"]
    shards = [each["bytes"] for each in records]
    arrays = np.array(rows, CLIP), np.array(sizes, "<u4"), np.array(shards, "<u8")
    digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:32]
    files: dict[str, bytes] = {}
    for name, array in zip(ARRAYS, arrays, strict=True):
        file = BytesIO()
        np.save(file, array)
        files[name] = file.getvalue()
    counts = {"clips": len(rows), "members": len(sizes), "shards": len(records)}
    files[FACTS] = json.dumps({"version": 1, "format": "jpeg", "fps": 8.0, **counts, "digest": digest}, indent=1).encode()
    return files


@pytest.mark.parametrize("clips", [[3, 100, 0, 1], [0, 0, 2], [7]])
def test_an_index_has_the_bytes_of_whole_arrays(tmp_path: Path, clips: list[int]) -> None:
    """Also where a shard has no clip at all."""
    records = [record(number, count, np.random.default_rng(number)) for number, count in enumerate(clips)]
    with writing_index(Store(str(tmp_path)), {"format": "jpeg", "fps": 8.0}) as index:
        for each in records:
            index.add(each)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == whole_arrays(records)
    assert len(open_index(Store(str(tmp_path)))) == sum(clips)


def test_the_header_has_room_for_any_length(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "rows.npy", np.dtype("<u4"))
    rows._length = 10**18
    rows.finish(hashlib.sha256())
    rows.close()
    assert b"'shape': (1000000000000000000,)" in (tmp_path / "rows.npy").read_bytes()


def test_an_index_that_is_not_finished_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "clips.npy").write_bytes(b"before")
    records = [record(0, 3, np.random.default_rng(0)), {"bytes": 1}]
    with pytest.raises(KeyError), writing_index(Store(str(tmp_path)), {}) as index:
        any(map(index.add, records))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("clips.npy", b"before")]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A list of 200,000 videos and a folder with all their shards and no index: two files, with many names each."""
    folder = tmp_path_factory.mktemp("many")
    names = [f"{number:06d}.mp4" for number in range(SHARDS * EACH)]
    (folder / "list.txt").write_text("\n".join(names))
    out = folder / "out"
    out.mkdir()
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:32]
    (out / "settings.json").write_text(json.dumps({**asdict(ShardSettings()), "videos": len(names), "digest": digest}))
    clip = {"source": "x.mp4", "offset": 0, "frames": FRAMES, "fps": 8.0, "height": 256, "width": 340}
    sizes = np.random.default_rng(0).integers(15_000, 30_000, (EACH, FRAMES)).tolist()
    clips = [clip | {"key": key, "sizes": sizes[key]} for key in range(EACH)]
    (folder / "record").write_text(json.dumps({"shard": "any", "bytes": 1, "clips": clips, "skipped": [["y.mp4", "short"]]}))
    (folder / "tar").write_bytes(b"x")
    for number in range(SHARDS):
        os.link(folder / "record", out / f"shard-{number:06d}.json")
        os.link(folder / "tar", out / f"shard-{number:06d}.tar")
    return folder / "list.txt", out


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of a process's memory from /proc")
def test_memory_does_not_grow_with_the_number_of_clips(many: tuple[Path, Path]) -> None:
    """A fresh process writes the index of 200,000 clips, 72 MB, and takes less than half as much memory.

    The list of videos is the largest part of what it takes.
    """
    listed, out = many
    words = [sys.executable, "-c", MEMORY, str(listed), str(out)]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert [int(word) for word in said[1:]] == [SHARDS * EACH, SHARDS * EACH * FRAMES, SHARDS]
    index = sum((out / name).stat().st_size for name in ARRAYS)
    assert index > 70e6
    assert 1024 * int(said[0]) < 0.5 * index, said[0]
    last = open_index(Store(str(out))).members(SHARDS * EACH - 1)
    assert len(last) == FRAMES


def test_shards_about_to_change_have_no_index(many: tuple[Path, Path]) -> None:
    """A shard of another length than its record says is written again, and meanwhile no index describes it."""
    listed, out = many
    (out / FACTS).touch()
    (out / "shard-000007.tar").unlink()
    (out / "shard-000007.tar").write_bytes(b"longer")
    seen: list[bool] = []
    report = write_shards(
        str(listed), str(out), ShardSettings(), processes=1, progress=lambda _: seen.append((out / FACTS).exists())
    )
    assert seen
    assert not any(seen)
    assert report.clips == (SHARDS - 1) * EACH  # none of the videos is there
    assert open_index(Store(str(out))).shards[7] == (out / "shard-000007.tar").stat().st_size
