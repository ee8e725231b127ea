"""Shards: samples from the tar files that `siammae shards` writes, on a disk or in an object store.

Times, boxes and flips of a micro-batch are drawn from the index alone. Then the parts of shards that hold its frames are read,
all at the same time, and nothing else of them.
"""

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from siammae.training.config import DataConfig
from siammae.training.data.clips import Frame, UnusableClip, VideoClip, read_image
from siammae.training.data.finish import Finish
from siammae.training.data.samples import Plan, crop, plan_sample
from siammae.training.data.shard_index import BLOCK, Member, ShardIndex, open_index, shard_name
from siammae.training.data.stores import Range, Store
from siammae.training.data.visits import Visit, VisitMicroBatches, VisitSource


@dataclass(frozen=True)
class ShardClip:
    """A clip of a shard, known from the index: JPEG frames, one a member, or one video at `rate` frames a second."""

    name: str
    shard: str
    frames: int
    fps: float  # of the source, or of the shards if that is less
    rate: float
    members: list[Member]
    video: bool

    def numbers(self, times: Sequence[float]) -> list[int]:
        """Return the number of the frame shown at each of `times`."""
        return [min(self.frames - 1, int(time * self.fps + 1e-6)) for time in times]

    def wanted(self, times: Sequence[float]) -> list[int]:
        """List the numbers of the members that hold the frames at `times`."""
        return [0] if self.video else sorted(set(self.numbers(times)))

    def range(self, number: int) -> Range:
        """Return the part of the shard that holds a member with its header."""
        member = self.members[number]
        return self.shard, member.header, member.header + BLOCK + member.size

    def read(self, times: list[float], contents: dict[int, bytes | FileNotFoundError]) -> list[Frame]:
        """Read the frame shown at each of `times` from the members that hold them, each with its header.

        Raises:
            UnusableClip: a member is missing, cut off or another one, or cannot be decoded.
        """
        files = {number: self._checked(number, content) for number, content in contents.items()}
        if self.video:
            with VideoClip(files[0], self.name) as clip:
                return clip.read([(number + 0.5) / self.rate for number in self.numbers(times)])
        images = {number: read_image(file, f"{self.name}, frame {number}") for number, file in files.items()}
        return [images[number] for number in self.numbers(times)]

    def _checked(self, number: int, content: bytes | FileNotFoundError) -> bytes:
        """Return the bytes of a member behind its header; UnusableClip if they are not what the index says."""
        member = self.members[number]
        if isinstance(content, FileNotFoundError):
            raise UnusableClip(f"{self.name}: unreadable shard ({content})")
        if len(content) < BLOCK + member.size:
            raise UnusableClip(f"{self.name}: the shard ends within {member.name}; copy or write {self.shard} again")
        try:
            header = tarfile.TarInfo.frombuf(content[:BLOCK], "utf-8", "strict")
            same = (header.name, header.size) == (member.name, member.size)
        except (tarfile.TarError, ValueError):
            same = False
        if not same:
            raise UnusableClip(
                f"{self.name}: the shard does not hold {member.name} where the index says; {self.shard} was changed or damaged"
            )
        return content[BLOCK:]


class PlannedVisit(NamedTuple):
    """A visit of a clip before its frames are read."""

    clip: ShardClip
    plans: list[Plan]
    wanted: list[int]  # members to read
    unusable: str  # the reason, or nothing


class ShardMicroBatches(VisitMicroBatches):
    """Micro-batches of a run from a store of shards."""

    def __init__(
        self, store: Store, index: ShardIndex, config: DataConfig, *, size: int, side: int, futures: int, seed: int
    ) -> None:
        super().__init__(len(index), config, size=size, side=side, futures=futures, seed=seed)
        self._store, self._index = store, index

    def name(self, index: int) -> str:
        row = self._index.clips[index]
        return f"{self._store.url}/{shard_name(int(row['shard']))}:{int(row['key']):08d}"

    def visit(self, visits: Sequence[Visit]) -> list[list[Tensor] | UnusableClip]:
        planned = [self._plan(visit) for visit in visits]
        wanted = [(k, number) for k, planned_visit in enumerate(planned) for number in planned_visit.wanted]
        contents: list[dict[int, bytes | FileNotFoundError]] = [{} for _ in planned]
        parts = self._store.read_ranges([planned[k].clip.range(number) for k, number in wanted])
        for (k, number), content in zip(wanted, parts, strict=True):
            contents[k][number] = content
        return [self._samples(*pair) for pair in zip(planned, contents, strict=True)]

    def _plan(self, visit: Visit) -> PlannedVisit:
        """Draw the samples of a visit, without reading."""
        row, rng, repeats = self._index.clips[visit[0]], self.rng(visit[1]), range(self._config.repeats)
        frames, fps, size = int(row["frames"]), float(row["fps"]), (int(row["height"]), int(row["width"]))
        name, shard = self.name(visit[0]), shard_name(int(row["shard"]))
        members, video = self._index.members(visit[0]), self._index.format == "clips"
        clip = ShardClip(name, shard, frames, fps, self._index.fps, members, video)
        try:
            if self._config.gap[0] * fps < 1 - 1e-3:
                raise UnusableClip(
                    f"its {fps:.3g} frames a second are too few for the shortest gap of {self._config.gap[0]:.3g} s"
                )
            plans = [plan_sample((frames - 1) / fps, size, self._config, self._futures, rng) for _ in repeats]
        except UnusableClip as error:
            return PlannedVisit(clip, [], [], str(error))
        times = [time for plan in plans for time in plan.times]
        return PlannedVisit(clip, plans, clip.wanted(times), "")

    def _samples(self, planned: PlannedVisit, contents: dict[int, bytes | FileNotFoundError]) -> list[Tensor] | UnusableClip:
        """Cut the samples of a planned visit."""
        if planned.unusable:
            return UnusableClip(f"{planned.clip.name}: {planned.unusable}")
        try:
            frames = planned.clip.read([time for plan in planned.plans for time in plan.times], contents)
        except UnusableClip as error:
            return error
        length = 1 + self._futures
        return [
            crop(list(zip(frames[k * length : (k + 1) * length], plan.boxes, strict=True)), plan.flip, self._side)
            for k, plan in enumerate(planned.plans)
        ]


class ShardSource(VisitSource):
    """Micro-batches of a run from a store of shards.

    Raises:
        ValueError: the store has no index, a shard is missing or was changed, or the gap is shorter than a frame.
        StoreError: the store cannot be read.
    """

    def __init__(
        self, store: Store, config: DataConfig, *, size: int, side: int, futures: int, seed: int, pin: bool,
        finish: Finish | None = None,
    ) -> None:  # fmt: skip
        index = open_index(store)
        index.check_shards(store)
        if config.gap[0] * index.fps < 1 - 1e-3:
            raise ValueError(
                f"data.gap begins at {config.gap[0]:.3g} s, less than a frame of {store.url} at {index.fps:g} a second; "
                f"set data.gap to {1 / index.fps:.3g} s or more, or write shards with a higher --fps"
            )
        self.digest = index.digest
        dataset = ShardMicroBatches(store, index, config, size=size, side=side, futures=futures, seed=seed)
        super().__init__(dataset, len(index), config.workers, pin, finish)
