"""What the fuzz targets share: atheris feeds bytes to a reader, and anything but a result or a clear error stops the run."""

import os
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

from siammae.errors import WeightsError

Change = Callable[[bytes, random.Random], bytes]


def fuzz(
    read: Callable[[Path], object], seeds: dict[str, bytes], suffixes: tuple[str, ...], change: Change | None = None
) -> None:
    """Run `read` on files of mutated bytes; the first byte of an input picks the suffix. Options are libFuzzer's.

    `change` makes one change that suits the format, and is taken half of the time.
    """
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    inputs = [bytes([suffixes.index(Path(name).suffix)]) + content for name, content in seeds.items()]

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        """A seed with a few changes: compiled readers show no coverage, so libFuzzer would forget all seeds but one."""
        rng = random.Random(seed)
        changed = bytearray(rng.choice([data, *inputs] if data else inputs))
        for _ in range(rng.randint(1, 8)):
            if change is not None and rng.random() < 0.5:
                changed[1:] = change(bytes(changed[1:]), rng)
                continue
            if not changed:
                break
            place = rng.randrange(len(changed)) if rng.random() < 0.5 else rng.randrange(min(len(changed), 256))
            kind = rng.random()
            if kind < 0.4:
                changed[place] ^= 1 << rng.randrange(8)
            elif kind < 0.7:
                changed[place : place + 4] = rng.choice(
                    [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", rng.randbytes(4)]
                )
            elif kind < 0.8:
                changed = changed[: place + 1]
            elif kind < 0.9:
                changed[place:place] = changed[place : place + rng.randint(1, 64)]
            else:
                changed = bytearray(atheris.Mutate(bytes(changed), max_size))
        return bytes(changed[:max_size])

    def one(data: bytes) -> None:
        if not data:
            return
        path = folder / f"input{suffixes[data[0] % len(suffixes)]}"
        path.write_bytes(data[1:])
        try:
            read(path)
        except (ValueError, WeightsError, FileNotFoundError) as error:  # VideoError is a ValueError
            if not str(error) or isinstance(error, UnicodeDecodeError):
                raise RuntimeError("an error without a clear message") from error

    limits = ["-timeout=5", "-rss_limit_mb=2048", "-malloc_limit_mb=1024", f"-max_len={2 * max(map(len, inputs))}"]
    atheris.Setup([sys.argv[0], *limits, *sys.argv[1:]], one, custom_mutator=mutate)
    atheris.Fuzz()
