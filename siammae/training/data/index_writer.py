"""The index of a folder of shards, written one shard after the other, so that memory does not grow with the number of clips."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from numpy.typing import NDArray

from siammae.training.data.shard_index import ARRAYS, CLIP, FACTS, VERSION
from siammae.training.data.stores import Store

DTYPES = CLIP, np.dtype("<u4"), np.dtype("<u8")  # of ARRAYS
CHUNK = 1 << 20  # bytes that are read at a time


class Rows:
    """An array in a .npy file that grows by rows; `finish` writes its length into the header."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self._file: IO[bytes] = open(path, "w+b")  # noqa: SIM115 - closed by `close`
        self._dtype, self._length = dtype, 0
        self._begin = self._write_header()

    def __len__(self) -> int:
        return self._length

    def append(self, rows: NDArray[Any]) -> None:
        self._file.write(rows.astype(self._dtype, copy=False).tobytes())
        self._length += len(rows)

    def finish(self, digest: "hashlib._Hash") -> None:
        """Write the header, and add the rows to a digest."""
        self._file.seek(0)
        if self._write_header() != self._begin:
            raise RuntimeError(f"numpy's header of {self._length} rows is longer than that of none")
        while chunk := self._file.read(CHUNK):
            digest.update(chunk)
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _write_header(self) -> int:
        """Write a header, which numpy pads so that any length fits; returns the place behind it."""
        facts = {"descr": dtype_to_descr(self._dtype), "fortran_order": False, "shape": (self._length,)}
        write_array_header_1_0(self._file, facts)
        return self._file.tell()


class IndexWriter:
    """The arrays of an index, one row after the other."""

    def __init__(self, paths: list[Path]) -> None:
        self._clips, self._members, self._shards = self._arrays = [
            Rows(path, dtype) for path, dtype in zip(paths, DTYPES, strict=True)
        ]

    def add(self, record: dict[str, Any]) -> None:
        """Add the next shard.

        Args:
            record: the shard's `bytes`, and its `clips` with key, offset, sizes, frames, fps, height and width.
        """
        rows: list[tuple[Any, ...]] = []
        first, sizes = len(self._members), [size for clip in record["clips"] for size in clip["sizes"]]
        for clip in record["clips"]:
            place = len(self._shards), clip["key"], clip["offset"], first, len(clip["sizes"])
            rows.append((*place, clip["frames"], clip["fps"], clip["height"], clip["width"]))
            first += len(clip["sizes"])
        self._clips.append(np.array(rows, CLIP))
        self._members.append(np.array(sizes, "<u4"))
        self._shards.append(np.array([record["bytes"]], "<u8"))

    def finish(self) -> dict[str, Any]:
        """Complete the arrays; returns their lengths and the digest of all."""
        digest = hashlib.sha256()
        for array in self._arrays:
            array.finish(digest)
        counts = {"clips": len(self._clips), "members": len(self._members), "shards": len(self._shards)}
        return {**counts, "digest": digest.hexdigest()[:32]}

    def close(self) -> None:
        for array in self._arrays:
            array.close()


@contextmanager
def writing_index(store: Store, facts: dict[str, Any]) -> Iterator[IndexWriter]:
    """Yield a writer that takes the records of all shards in their order; the index appears when the block ends.

    Args:
        store: the store of the shards.
        facts: format, fps and what else index.json says of the shards.

    Raises:
        OSError: the disk or the store refuses; index.json is written last, so no new one describes arrays that are not there.
    """
    clips, members, shards = ARRAYS
    with store.writing(clips) as first, store.writing(shards) as third, store.writing(members) as second:
        writer = IndexWriter([first, second, third])
        try:
            yield writer
            counts = writer.finish()
        finally:
            writer.close()
    store.write(FACTS, json.dumps({"version": VERSION, **facts, **counts}, indent=1).encode())
