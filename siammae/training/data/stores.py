"""Stores: folders on a disk or in an object store (s3://, gs://, https:// and what else fsspec reads), by one interface.

A store answers within a time limit or with an error of one line that says what to do.
"""

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from siammae.files import atomic

PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "http": "aiohttp",
    "https": "aiohttp",
    "az": "adlfs",
    "abfs": "adlfs",
}
CREDENTIALS = "credential", "token", "forbidden", "access denied", "accessdenied", "unauthorized"  # words of errors
SLOWEST = 1e6  # bytes a second; a transfer that is slower counts as stuck
ATTEMPTS = 2  # of a read that a store leaves unanswered; s3fs and gcsfs repeat failed requests themselves

Range = tuple[str, int | None, int | None]  # a file's name in the store, first byte, byte behind the last; None: to its ends


class StoreError(OSError):
    """A store that cannot be reached, does not answer, or refuses."""


class Store:
    """A folder on a disk or in an object store. Pickled, it opens again in the other process.

    Args:
        url: a local path, or an address such as s3://bucket/folder.
        timeout: seconds within which a request is answered.

    Raises:
        ValueError: fsspec knows no such scheme.
        ImportError: the scheme needs a package that is not installed.
    """

    def __init__(self, url: str, timeout: float = 60.0) -> None:
        import fsspec
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        self.url, self.timeout = url.rstrip("/") or "/", timeout
        scheme = url.partition("://")[0] if "://" in url else "file"
        if scheme not in fsspec.available_protocols():
            raise ValueError(
                f"{url} begins with {scheme}://, which is unknown; known are local paths, s3://, gs:// and https://"
            )
        try:
            self._files, self._root = url_to_fs(self.url, use_listings_cache=False)
        except ImportError as error:
            package = PACKAGES.get(scheme, "")
            remedy = f"; install it with: pip install {package}" if package else ""
            raise ImportError(f"{url} needs {package or 'another package'} ({error}){remedy}") from error
        except Exception as error:  # each store has errors of its own
            raise self._explained(error) from error
        self.folder = Path(self._root) if isinstance(self._files, LocalFileSystem) else None  # of a local store
        self.lists = scheme not in ("http", "https")  # web servers do not list their files

    def __reduce__(self) -> Any:
        return Store, (self.url, self.timeout)

    def read(self, name: str) -> bytes:
        """Read a whole file; FileNotFoundError if there is none, StoreError if the store fails."""
        (content,) = self.read_ranges([(name, None, None)])
        if isinstance(content, Exception):
            raise content
        return content

    def read_ranges(self, ranges: Sequence[Range]) -> "list[bytes | FileNotFoundError]":
        """Read parts of files, all at the same time where the store allows it.

        Returns:
            The bytes of each range, fewer where the file ends before; or FileNotFoundError for files that are not there.

        Raises:
            StoreError: the store does not answer in time, or refuses.
        """
        if not ranges:
            return []
        arguments = [
            list(column) for column in zip(*((self._path(name), first, end) for name, first, end in ranges), strict=True)
        ]
        for attempt in range(1, ATTEMPTS + 1):
            try:
                contents = self._call("cat_ranges", *arguments, on_error="return")
                failed = next((item for item in contents if isinstance(item, Exception) and not _absent(item)), None)
                if failed is not None:
                    if self.folder is not None and isinstance(failed, OSError):
                        raise failed
                    raise self._explained(failed) from failed
                break
            except StoreError as error:
                if attempt == ATTEMPTS or isinstance(error.__cause__, PermissionError):
                    raise
        return [
            FileNotFoundError(f"{self.url}/{name} is not there") if isinstance(content, Exception) else bytes(content)
            for (name, _, _), content in zip(ranges, contents, strict=True)
        ]

    def sizes(self) -> dict[str, int]:
        """List the files directly in the folder, with their sizes in bytes; nothing if there is no folder."""
        try:
            found = self._call("ls", self._root, detail=True)
        except FileNotFoundError:
            return {}
        return {entry["name"].rpartition("/")[2]: int(entry["size"]) for entry in found if entry["type"] == "file"}

    def find(self) -> list[str]:
        """List the names of all files at any depth, sorted."""
        found = self._call("find", self._root)
        return sorted(path.removeprefix(self._root).lstrip("/") for path in found)

    def download(self, name: str, target: Path) -> None:
        """Copy a file to a local path, where it appears whole."""
        size = self._call("info", self._path(name))["size"] or 0
        with atomic(target) as draft:
            self._call("get_file", self._path(name), str(draft), seconds=size / SLOWEST)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a local path to write; when the block ends the file appears in the store, whole, under `name`."""
        if self.folder is not None:
            with atomic(self.folder / name) as draft:
                yield draft
            return
        with tempfile.TemporaryDirectory(prefix="siammae-") as folder:
            draft = Path(folder) / name
            yield draft
            self._call("put_file", str(draft), self._path(name), seconds=draft.stat().st_size / SLOWEST)

    def write(self, name: str, content: bytes) -> None:
        """Write a file that appears whole."""
        with self.writing(name) as draft:
            draft.write_bytes(content)

    def remove(self, name: str) -> None:
        self._call("rm_file", self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _call(self, verb: str, *arguments: Any, seconds: float = 0, **options: Any) -> Any:
        """Call a method of the file system, within the time limit and `seconds` more where the file system allows that."""
        from fsspec.asyn import sync

        try:
            if self._files.async_impl:
                step = getattr(self._files, f"_{verb}")
                return sync(self._files.loop, step, *arguments, timeout=self.timeout + seconds, **options)
            return getattr(self._files, verb)(*arguments, **options)
        except FileNotFoundError:
            raise
        except Exception as error:  # each store has errors of its own
            if self.folder is not None and isinstance(error, OSError):
                raise
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> StoreError:
        """Return an error of one line that says what to do."""
        said = " ".join(str(error).split())
        reason = said or type(error).__name__
        if isinstance(error, asyncio.TimeoutError):
            return StoreError(
                f"{self.url} did not answer within {self.timeout:g} s; check the network, or raise the time limit"
            )
        named = f"{type(error).__name__} {said}".lower()
        if isinstance(error, PermissionError) or any(word in named for word in CREDENTIALS):
            return StoreError(
                f"{self.url} refuses access ({reason}); set the store's credentials, such as AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or FSSPEC_S3_ANON=true for a public bucket"
            )
        return StoreError(f"{self.url} cannot be read ({reason}); check the address and the network")


def _absent(error: Exception) -> bool:
    return isinstance(error, FileNotFoundError)
