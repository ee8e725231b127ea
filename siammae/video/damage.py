"""Damage in video files: where it begins, which frames are whole before it, and where whole frames begin again."""

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

from torch import Tensor

from siammae.errors import VideoError
from siammae.video.container import reason
from siammae.video.structure import CUT, Broken, Structure

LONGEST_GAP = 60  # seconds that data lost from a transport stream may span; a longer gap joins two recordings
LONGEST_LOSS = 3600  # seconds up to which the time tells how many frames are lost; a longer leap is a wrong time
SUSPECT = 32  # packets of a transport stream after a break in its counters in which a gap in time means lost data


@dataclass(frozen=True)
class Damage:
    """A place where a video cannot be decoded, the reason, and the error that showed it."""

    reason: str
    error: Exception


@dataclass(frozen=True)
class Lost:
    """The number of frames lost by damage, up to the next whole frame or the end."""

    count: int


def attempt(read: Callable[[], Tensor]) -> Iterator[Tensor | Damage | Lost]:
    """Yield one frame, or where it cannot be read, a Damage and a Lost."""
    try:
        yield read()
    except VideoError as error:
        yield Damage(str(error), error)
        yield Lost(1)


class Fault(Exception):
    """An error raised where a file, and not the decoder, shows that data is missing.

    Attributes:
        time: frames shown before this time are whole, or None if that is not known.
        packet: the first packet behind the missing data, or None.
    """

    def __init__(self, reason: str, time: int | None, packet: Any = None) -> None:
        super().__init__(reason)
        self.time, self.packet = time, packet


class Recovery:
    """A reading of a video's packets that goes on after damage at the next key frame.

    Args:
        container, stream: PyAV's, opened.
        source: path of the file, or its bytes.
        structure: its structure, or None if the packets do not come from the first on.
        duration: seconds of a frame on average.
    """

    def __init__(
        self, container: Any, stream: Any, source: Path | bytes, structure: Structure | None, duration: Fraction
    ) -> None:
        self._container, self._stream, self._codec = container, stream, stream.codec_context
        self._source, self._structure = source, structure
        self._transport = container.format.name == "mpegts"
        # AVI does not store when frames are shown: where they are reordered, the times of those that are held back are guesses
        self._guessed = container.format.name == "avi" and bool(self._codec.has_b_frames)
        self._base = stream.time_base or Fraction(1, 90_000)
        self._ticks = duration / self._base  # of a frame on average
        self._times: list[int] = []  # of all packets so far, ascending
        self._packets, self._frames = 0, 0  # packets so far; frames so far, with those lost
        self._steps: list[int] = []  # shortest and longest time between two frames
        self._after: int | None = None  # no frame of a packet that is still to come is shown before this time
        self._suspect = 0  # packets in which a gap in time means lost data

    def decode(self, packets: Iterator[Any], begin: int | None) -> "Iterator[Any | Damage | Lost]":
        """Yield the frames of packets from the key frame shown at `begin` on, or from the first of the file on if None.

        Frames shown before `begin` need frames before the key frame, and are left out. At damage comes a Damage, and then a
        Lost before the next whole frame or at the end.
        """
        import av

        packets = self._checked(packets)
        shown, packet, lost = None, None, False  # `lost`: no frame came since the damage
        while True:
            try:
                for packet in packets:
                    for frame in packet.decode():
                        if begin is not None and frame.pts is not None and frame.pts < begin:
                            continue
                        if frame.is_corrupt:
                            raise Fault("its data is damaged", frame.pts)
                        if not lost and (missing := self._gap(shown, frame, ended=not packet.size)):
                            gap = Fault(f"{missing} {'frame is' if missing == 1 else 'frames are'} missing here", None)
                            if not frame.key_frame:
                                raise gap
                            yield Damage(str(gap), gap)
                            lost = True
                        if lost:
                            yield Lost(self._lost_until(shown, frame))
                        yield frame
                        self._count(None if lost else shown, frame)
                        shown, lost = frame, False
                return
            except (av.FFmpegError, Fault) as error:
                fault = error
            whole_until = fault.time if isinstance(fault, Fault) else getattr(packet, "pts", None)
            if not (lost or self._guessed):
                for frame in _held_before(whole_until, shown, self._codec):
                    if begin is None or (frame.pts is not None and frame.pts >= begin):
                        yield frame
                        self._count(shown, frame)
                        shown = frame
            yield Damage(reason(fault), fault)
            self._codec.flush_buffers()
            key, packets = self._next_key(fault)
            if key is None:
                yield Lost(self._lost_until(shown, None))
                return
            begin, packets, lost = key.pts, chain([key], packets), True

    def _checked(self, packets: Iterator[Any]) -> Iterator[Any]:
        """Yield packets; Fault where the file shows that data is missing.

        A transport stream does not tell where a frame ends, so its last packet is left out if the file is cut off.
        """
        held = None
        for packet in packets:
            if not packet.size and packet.pts is not None:
                continue  # a frame that repeats the one before it, as AVI stores it
            fault = self._fault(packet)
            if held is not None and (packet.size or fault is None):
                yield held
                self._reach(held)
                held = None
            if fault is not None:
                raise fault
            if packet.size and not packet.is_discard:
                self._packets += 1
                if packet.pts is not None:
                    insort(self._times, packet.pts)
            if self._transport and packet.size:
                held = packet
                continue
            yield packet
            self._reach(packet)

    def _reach(self, packet: Any) -> None:
        if packet.dts is not None:
            self._after = packet.dts + 1

    def _fault(self, packet: Any) -> Fault | None:
        """Return the fault that a packet, or the end of the file, shows."""
        broken = self._broken_at(packet)
        if not packet.size:
            cut_at = cut_time(self._stream, self._source)
            if cut_at is not None:
                return Fault(CUT, cut_at)
        elif packet.is_corrupt and not self._transport:
            return Fault(CUT, packet.pts)
        if self._transport:  # its packets may be lost or joined without harm: frames and their times decide
            self._suspect = SUSPECT if packet.is_corrupt or broken else max(0, self._suspect - 1)
            broken = broken if broken is not None and broken.reason == CUT and not packet.size else None
        return None if broken is None else Fault(broken.reason, self._after, packet if packet.size else None)

    def _broken_at(self, packet: Any) -> Broken | None:
        """Return how the file is broken before the end of a packet, or of itself for the empty packet at the end."""
        if self._structure is None or (packet.size and packet.pos is None):
            return None
        return self._structure.broken_before(packet.pos + packet.size if packet.size else math.inf)

    def _gap(self, shown: Any, frame: Any, ended: bool) -> int:
        """Return how many frames of a transport stream are missing before one.

        A gap in time tells where the counters were broken just before, or where the file has `ended`: one that is cut off
        between two packets lacks frames that are shown before others but decoded after them.
        """
        if not self._transport or shown is None or shown.pts is None or frame.pts is None:
            return 0
        cut = ended and self._steady() and self._after is not None and frame.pts - self._ticks >= self._after
        if not (self._suspect or cut):
            return 0
        ticks = frame.pts - shown.pts
        missing = round(ticks / self._ticks) - 1
        return missing if missing > 0 and ticks * self._base <= LONGEST_GAP else 0

    def _steady(self) -> bool:
        """Tell whether the frames so far came at a steady rate."""
        if not self._steps:
            return False
        low, high = self._steps
        return low > 0 and high - low <= max(1, low // 20)

    def _count(self, before: Any, frame: Any) -> None:
        """Note a frame, and the time since the one before it if none was lost between them."""
        self._frames += 1
        if before is not None and None not in (before.pts, frame.pts):
            step = frame.pts - before.pts
            self._steps = [min(step, *self._steps), max(step, *self._steps)] if self._steps else [step, step]

    def _lost_until(self, shown: Any, frame: Any) -> int:
        """Return how many frames lie between the last one shown and the next one, or the end of the file if that is None.

        At a steady rate the time that has passed tells; at another one, or without times, the packets that were read.
        """
        if frame is not None and frame.pts is not None and shown is not None and shown.pts is not None and self._steady():
            passed = frame.pts - shown.pts
            if passed * self._base <= LONGEST_LOSS:
                return self._lose(round(passed / self._ticks) - 1)
        if not self._times or (frame is not None and frame.pts is None):
            return self._lose(self._packets - (frame is not None) - self._frames)
        first = 0 if shown is None or shown.pts is None else bisect_right(self._times, shown.pts)
        return self._lose((len(self._times) if frame is None else bisect_left(self._times, frame.pts)) - first)

    def _lose(self, count: int) -> int:
        self._frames += max(0, count)
        return max(0, count)

    def _next_key(self, fault: Exception) -> tuple[Any, Iterator[Any]]:
        """Return the next key frame's packet after a fault, and the packets after it; None at the end."""
        import av

        failed = False
        while True:
            first = []
            if isinstance(fault, Fault) and fault.packet is not None:  # the structure is followed up to its break
                first, self._structure = [fault.packet], None
            packets = self._checked(chain(first, self._container.demux(self._stream)))
            try:
                for packet in packets:
                    failed = False
                    if not packet.size or packet.is_keyframe:
                        return packet if packet.size else None, packets
                return None, packets
            except av.FFmpegError as error:
                if failed:
                    return None, packets
                failed, fault = True, error
            except Fault as error:
                if error.packet is None:
                    return None, packets
                fault = error


def cut_time(stream: Any, source: Path | bytes) -> int | None:
    """Return the decoding time of the first packet that a file's index names and the file no longer holds."""
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    return next((entry.timestamp for entry in stream.index_entries if entry.pos + entry.size > size), None)


def _held_before(damaged_at: int | None, shown: Any, codec: Any) -> Iterator[Any]:
    """Yield the frames that a decoder still holds and that follow the last one `shown` without a gap.

    A decoder holds frames that arrive earlier than they are shown, so what it holds may belong behind the damage. No frame is
    missing before the time `damaged_at`, nor between two frames of which the first lasts until the second.
    """
    import av

    try:
        for frame in codec.decode(None):
            follows = shown is not None and frame.pts is not None and frame.pts <= shown.pts + shown.duration
            before = damaged_at is not None and frame.pts is not None and frame.pts < damaged_at
            if frame.is_corrupt or not (before or follows):
                return
            yield frame
            shown = frame
    except av.FFmpegError:
        return
