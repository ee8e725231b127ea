"""One shard, written from a few videos: frames as JPEG, or short videos with many key frames."""

import json
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Literal

from PIL import Image

from siammae.training.data.clips import Frame, UnusableClip, VideoClip
from siammae.training.data.shard_index import BLOCK, member_name, shard_name
from siammae.training.data.stores import Store

Format = Literal["jpeg", "clips"]


@dataclass(frozen=True)
class ShardSettings:
    """The way in which videos become shards."""

    fps: float = 8.0  # frames kept per second
    short_side: int = 256  # pixels; smaller frames are kept as they are
    format: Format = "jpeg"
    quality: int = 90  # of JPEG, 1 to 95
    clips_per_shard: int = 100

    def __post_init__(self) -> None:
        if self.fps <= 0 or self.short_side < 1 or self.clips_per_shard < 1:
            raise ValueError("fps must be above 0, and short_side and clips_per_shard at least 1")
        if not 1 <= self.quality <= 95:
            raise ValueError(f"quality is {self.quality}; expected 1 to 95, as JPEG has it")
        if self.format not in ("jpeg", "clips"):
            raise ValueError(f"format is {self.format!r}; expected jpeg or clips")


class Interrupted(Exception):
    """An error raised where a shard is left unfinished because another one failed."""


def record_name(number: int) -> str:
    """Return the name of a shard's record, which is written after the shard: both are there, or the shard is written again."""
    return f"shard-{number:06d}.json"


def write_shard(
    out: Store, number: int, sources: Sequence[str], source_store: Store, settings: ShardSettings, done: Callable[[int], bool]
) -> dict[str, Any]:
    """Write shard `number` of the list of all sources, and its record; returns the record.

    Args:
        out: the store to write to.
        number: the shard takes sources number * clips_per_shard and the following.
        sources: names of those videos in `source_store`.
        source_store: the store of the videos.
        settings: rate, size and format.
        done: called after each video with the bytes that were added; returns False if the shard is to be left.

    Raises:
        Interrupted: `done` returned False.
        OSError: the disk or the store refuses.
    """
    clips: list[dict[str, Any]] = []
    skipped: list[tuple[str, str]] = []
    with out.writing(shard_name(number)) as draft, open(draft, "wb") as file:
        for key, name in enumerate(sources, start=number * settings.clips_per_shard):
            begin = file.tell()
            try:
                with _local(source_store, name) as path:
                    clips.append({"key": key, "source": name, "offset": begin, **_write_clip(file, key, path, name, settings)})
            except UnusableClip as error:
                file.seek(begin)
                file.truncate()
                skipped.append((name, str(error)))
            if not done(file.tell() - begin):
                raise Interrupted
        file.write(bytes(2 * BLOCK))
        file.flush()
        size = file.tell()
    record = {"shard": shard_name(number), "bytes": size, "clips": clips, "skipped": skipped}
    out.write(record_name(number), json.dumps(record).encode())
    return record


@contextmanager
def _local(store: Store, name: str) -> Iterator[Path]:
    """Yield the local path of a video, that of a copy if its store is remote."""
    if store.folder is not None:
        yield store.folder / name
        return
    with tempfile.TemporaryDirectory(prefix="siammae-") as folder:
        path = Path(folder) / f"video{Path(name).suffix}"
        try:
            store.download(name, path)
        except FileNotFoundError:
            raise UnusableClip(f"{store.url}/{name} is not there") from None
        yield path


def _write_clip(file: IO[bytes], key: int, path: Path, name: str, settings: ShardSettings) -> dict[str, Any]:
    """Write the members of one clip; returns what the record says of it."""
    shapes: list[tuple[int, ...]] = []
    sizes: list[int] = []
    with VideoClip(path, name) as clip:

        def frames() -> Iterator[Frame]:
            for frame in clip.every(1 / settings.fps, settings.short_side):
                shapes.append(frame.shape)
                if shapes[-1] != shapes[0]:
                    raise UnusableClip(f"{name}: the size of its frames changes")
                yield frame

        for member in (_jpegs if settings.format == "jpeg" else _video)(frames(), settings):
            _add(file, member_name(key, len(sizes), settings.format), member)
            sizes.append(len(member))
        fps = float(min(settings.fps, clip.fps))
    if len(shapes) < 2:
        raise UnusableClip(f"{name}: shorter than two frames at {settings.fps:g} frames per second")
    height, width = _stored(shapes[0], settings.format)
    facts = {"frames": len(shapes), "fps": fps, "height": height, "width": width}
    _add(file, f"{key:08d}.json", json.dumps({"source": name, **facts}).encode())
    return facts | {"sizes": sizes}


def _add(file: IO[bytes], name: str, content: bytes) -> None:
    """Add a member to a tar file."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    file.write(info.tobuf(tarfile.USTAR_FORMAT))
    file.write(content)
    file.write(bytes(-len(content) % BLOCK))


def _jpegs(frames: Iterator[Frame], settings: ShardSettings) -> Iterator[bytes]:
    for frame in frames:
        encoded = BytesIO()
        Image.fromarray(frame).save(encoded, format="JPEG", quality=settings.quality)
        yield encoded.getvalue()


def _stored(shape: tuple[int, ...], format: Format) -> tuple[int, int]:
    """Return height and width of stored frames: H.264 wants even sides, so a row or column is left out."""
    height, width = shape[:2]
    return (height, width) if format == "jpeg" else (height - height % 2, width - width % 2)


def _video(frames: Iterator[Frame], settings: ShardSettings) -> Iterator[bytes]:
    """Encode frames to one H.264 video with a key frame every 12 frames and none that depends on a later one."""
    import av

    encoded, stream, height, width = BytesIO(), None, 0, 0
    rate = Fraction(settings.fps).limit_denominator(1001)
    with av.open(encoded, "w", format="mp4") as container:
        for frame in frames:
            if stream is None:
                height, width = _stored(frame.shape, "clips")
                stream = container.add_stream(
                    "libx264", rate=rate, options={"crf": "20", "preset": "veryfast", "g": "12", "bf": "0", "threads": "1"}
                )
                stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame[:height, :width].copy(), format="rgb24")))
        if stream is not None:
            container.mux(stream.encode(None))
    yield encoded.getvalue()
