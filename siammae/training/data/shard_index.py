"""The index of a folder of shards: where each clip's frames lie, so that any of them is read without reading the rest.

A shard is a plain tar file. The members of a clip stand one behind the other: its frames (KEY.000000.jpg, KEY.000001.jpg, ...)
or its video (KEY.mp4), then KEY.json, which names the source. The index are three arrays that are mapped into memory, so all
processes of a machine share them: 40 bytes for each clip, 4 for each member and 8 for each shard.

Letters: N clips, M members, S shards.
"""

import json
import os
import tarfile
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from siammae.files import atomic_folder
from siammae.training.data.stores import Store

VERSION = 1
FACTS = "index.json"
ARRAYS = "clips.npy", "members.npy", "shards.npy"
BLOCK = tarfile.BLOCKSIZE  # tar pads everything to blocks of this many bytes
SUFFIXES = {"jpeg": "jpg", "clips": "mp4"}  # of a member, by the shards' format
CLIP = np.dtype(
    [
        ("shard", "<u4"), ("key", "<u4"), ("offset", "<u8"),  # bytes from the shard's begin to the header of the first member
        ("first", "<u8"), ("members", "<u4"),  # rows of members.npy
        ("frames", "<u4"), ("fps", "<f4"), ("height", "<u2"), ("width", "<u2"),
    ]
)  # fmt: skip


class Member(NamedTuple):
    """A member's place in its shard: `size` bytes behind the header of BLOCK bytes at `header`."""

    name: str
    header: int
    size: int


def shard_name(number: int) -> str:
    return f"shard-{number:06d}.tar"


def member_name(key: int, number: int, format: str) -> str:
    return f"{key:08d}.{number:06d}.jpg" if format == "jpeg" else f"{key:08d}.mp4"


class ShardIndex:
    """The index of a folder of shards, mapped into memory. Pickled, it is mapped again in the other process.

    Args:
        folder: the folder with the arrays.
        facts: the content of index.json.

    Attributes:
        format: "jpeg" or "clips".
        fps: frames a second that were kept; a clip with fewer has its own rate.
        digest: digest of all arrays; another one means other shards.
    """

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self._folder, self._facts = folder, facts
        self.format, self.fps, self.digest = str(facts["format"]), float(facts["fps"]), str(facts["digest"])

    def __reduce__(self) -> Any:
        return ShardIndex, (self._folder, self._facts)

    def __len__(self) -> int:
        return int(self._facts["clips"])

    @cached_property
    def clips(self) -> NDArray[Any]:
        """The clips' places, [N], of CLIP."""
        return np.load(self._folder / "clips.npy", mmap_mode="r")  # type: ignore[no-any-return]

    @cached_property
    def sizes(self) -> NDArray[np.uint32]:
        """The members' sizes in bytes, [M]."""
        return np.load(self._folder / "members.npy", mmap_mode="r")  # type: ignore[no-any-return]

    @cached_property
    def shards(self) -> NDArray[np.uint64]:
        """The shards' sizes in bytes, [S]."""
        return np.load(self._folder / "shards.npy", mmap_mode="r")  # type: ignore[no-any-return]

    def members(self, clip: int) -> list[Member]:
        """List the places of a clip's frames, or of its video."""
        row = self.clips[clip]
        key, sizes = int(row["key"]), self.sizes[int(row["first"]) : int(row["first"]) + int(row["members"])].astype(np.int64)
        lengths = BLOCK + -(-sizes // BLOCK) * BLOCK
        headers = int(row["offset"]) + np.cumsum(lengths) - lengths
        return [
            Member(member_name(key, number, self.format), header, size)
            for number, (header, size) in enumerate(zip(headers.tolist(), sizes.tolist(), strict=True))
        ]

    def check_shards(self, store: Store) -> None:
        """Compare the shards' sizes with the index, where the store lists its files.

        Raises:
            ValueError: a shard is missing or has another size.
        """
        if not store.lists:
            return
        found = store.sizes()
        remedy = "copy it again, or write it again with `siammae shards`"
        for number, size in enumerate(self.shards.tolist()):
            name = shard_name(number)
            if name not in found:
                raise ValueError(f"{store.url}/{name} is missing; {remedy}")
            if found[name] != size:
                raise ValueError(f"{store.url}/{name} has {found[name]} bytes where the index says {size}; {remedy}")


def open_index(store: Store, cache: Path | None = None) -> ShardIndex:
    """Open the index of a store; that of a remote one is copied once to `cache`, by default $SIAMMAE_CACHE or ~/.cache/siammae.

    Raises:
        ValueError: the store has no index of this version, or its arrays do not fit together.
        StoreError: the store cannot be read.
    """
    try:
        facts = json.loads(store.read(FACTS))
        if facts["version"] != VERSION:
            raise ValueError(f"{store.url}/{FACTS} is of version {facts['version']}; this siammae reads version {VERSION}")
    except FileNotFoundError:
        raise ValueError(
            f"{store.url} has no {FACTS}: it holds no shards, or `siammae shards` was interrupted; run it again to finish"
        ) from None
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{store.url}/{FACTS} is damaged ({error}); write it again with `siammae shards`") from error
    folder = store.folder
    if folder is None:
        home = cache or Path(os.environ.get("SIAMMAE_CACHE", "~/.cache/siammae")).expanduser()
        folder = home / "shards" / str(facts["digest"])
        if not folder.is_dir():
            home.mkdir(parents=True, exist_ok=True)
            with atomic_folder(folder, overwrite=True) as draft:
                for name in ARRAYS:
                    store.download(name, draft / name)
    index = ShardIndex(folder, facts)
    try:
        counts = len(index.clips), len(index.sizes), len(index.shards)
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} has a damaged index ({error}); write it again with `siammae shards`") from error
    if counts != (facts["clips"], facts["members"], facts["shards"]):
        raise ValueError(f"{folder} has arrays that do not fit {FACTS}; write it again with `siammae shards`")
    return index
