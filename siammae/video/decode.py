"""Video files read with PyAV, in order, by number and by time: H.264, HEVC, VP9, AV1, GIF and the rest of FFmpeg's formats.

No other folder reads videos with PyAV. Frames come upright, and damage is an error. A time without a unit is a presentation
time (pts), in ticks of the stream's time base.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from fractions import Fraction
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

from siammae.errors import VideoError
from siammae.video.container import best_stream, open_video
from siammae.video.damage import Damage, Lost, Recovery, cut_time
from siammae.video.index import IndexMismatch, VideoIndex
from siammae.video.pixels import lies_on_its_side
from siammae.video.structure import Structure

TIMED = frozenset({"gif", "matroska", "mov", "mpegts"})  # formats that store the time at which each packet is shown
ONE_BY_ONE = frozenset({"av1", "gif", "h264", "hevc", "mjpeg", "vp9"})  # codecs of which each packet gives one frame
REORDERED = 32  # packets after which no frame comes that is shown earlier; H.264 and HEVC allow 16


class VideoDecoder:
    """A video file, or the bytes of one, opened for reading: one reading at a time, a new one ends the one before.

    Attributes:
        label: name of the video in messages.
        fps: frames per second on average.
        length: number of frames that the header names, or None.
        duration: seconds that the header names, or None.
        size: height and width that the header names, in pixels, as stored: phones store frames on their side.

    Raises:
        VideoError: the file is no video that can be decoded.
    """

    def __init__(self, source: Path | bytes, label: str | None = None, *, threads: int = 0) -> None:
        self._source, self._threads, self.label = source, threads, label or str(source)
        self._open()
        stream = self._stream
        self.fps = float(stream.average_rate or stream.guessed_rate or Fraction(25))
        self.length: int | None = stream.frames or None
        self.size: tuple[int, int] = stream.codec_context.height, stream.codec_context.width
        self.duration: float | None = None
        if stream.duration:
            self.duration = float(stream.duration * self._base)
        elif self._container.duration:
            self.duration = self._container.duration / 1e6

    def _open(self) -> None:
        source = BytesIO(self._source) if isinstance(self._source, bytes) else self._source
        self._container = open_video(source, self.label)
        self._stream = best_stream(self._container, self.label)
        self._formats = set(self._container.format.name.split(","))
        codec = self._stream.codec_context
        codec.thread_type = "SLICE"  # frame threads report damage late, and near the end of a file not at all
        codec.thread_count = self._threads
        if codec.name == "hevc":  # else it conceals damage; h264 with it refuses clips cut from longer ones
            codec.options |= {"err_detect": "explode"}
        self._base = self._stream.time_base or Fraction(1, 90_000)
        self._start = self._stream.start_time or 0
        self._structure = Structure(self._source, self._formats)
        self._moved = False

    def __enter__(self) -> "VideoDecoder":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._structure.close()
        self._container.close()

    def frames(self) -> Iterator[Any]:
        """Return PyAV's frames in the order in which they are shown; VideoError at damage, after all the frames before it."""
        return self._raising(self.frames_past_damage(), None, None)

    def frames_past_damage(self) -> "Iterator[Any | Damage | Lost]":
        """Return PyAV's frames as `frames` does, but past damage: at it a Damage, and before the next whole frame a Lost.

        The frames between the damage and the next key frame count as lost.
        """
        if self._moved:
            self.close()
            self._open()
        self._moved = True
        return self._decode(self._container.demux(self._stream), None)

    def frames_shown_at(self, times: Sequence[float]) -> Iterator[Any]:
        """Yield PyAV's frame that is shown at each of `times`, which ascend, in seconds from the first frame.

        After the end it is the last frame. From one time to the next the file is decoded on, or sought if the next key frame
        lies between them.

        Raises:
            VideoError: no frame can be decoded there.
        """
        frames: Iterator[Any] = iter(())
        shown, ahead = None, None  # the frame shown at the last time, and the one decoded after it
        for seconds in times:
            target = self._start + round(seconds / float(self._base))
            if shown is None or self._key_between(shown.pts if ahead is None else ahead.pts, target):
                frames, shown, ahead = self._frames_from(target, None), None, None
            for frame in frames if ahead is None else chain([ahead], frames):
                ahead = frame
                if shown is not None and frame.pts is not None and frame.pts > target:
                    break
                shown, ahead = frame, None
            if shown is None:
                raise VideoError(f"{self.label} has no frame at {seconds:.2f} s")
            yield shown

    def _key_between(self, reached: int | None, target: int) -> bool:
        """Tell whether the file's index, if it has one, names a key frame after the time `reached`, up to `target`."""
        if reached is None:
            return True
        entries = self._stream.index_entries
        place = entries.search_timestamp(target) if len(entries) else -1
        return place < 0 or bool(entries[place].timestamp > reached)

    def pixel_aspect(self) -> Fraction:
        """Return the width of a pixel divided by its height, upright; 1 where the file does not say.

        Raises:
            VideoError: the first frame is damaged.
        """
        aspect = Fraction(self._stream.sample_aspect_ratio or 1)
        first = None if aspect == 1 else next(self.frames(), None)
        return 1 / aspect if first is not None and lies_on_its_side(first) else aspect

    def seconds(self, time: int | None) -> float:
        """Convert a presentation time to seconds from the first frame; None, which a frame may have, counts as 0."""
        return float(((time or 0) - self._start) * self._base)

    def frames_at(self, numbers: Sequence[int], index: "VideoIndex") -> Iterator[Any]:
        """Yield PyAV's frames of these numbers, which ascend and lie within the index; seeks where that skips frames.

        Raises:
            IndexMismatch: the decoder gives other frames than the index names.
            VideoError: damage between a frame and the key frame before it.
        """
        frames: Iterator[Any] = iter(())
        times, reached = index.times, None  # `reached` is the number of the last decoded frame
        for number in numbers:
            if reached is None or index.key_before(number) > reached + 1:
                frames, reached = self._frames_from(times[number], times), None
            for frame in frames:
                reached = bisect_left(times, frame.pts or 0) if reached is None else reached + 1
                if reached > number or frame.pts != times[reached]:
                    raise IndexMismatch
                if reached == number:
                    yield frame
                    break
            else:
                raise IndexMismatch

    def _frames_from(self, time: int, times: Sequence[int] | None) -> Iterator[Any]:
        """Return the frames from the last key frame shown at or before `time` on; `times` numbers them in messages."""
        import av

        self._moved, goal, back = True, time, 1 / self.fps
        while goal >= self._start:
            try:
                self._container.seek(goal, stream=self._stream, backward=True)
                packets = self._container.demux(self._stream)
                key = next((packet for packet in packets if packet.is_keyframe and packet.size), None)
            except av.FFmpegError:
                break
            if key is not None and key.pts is not None and key.pts <= time:
                return self._raising(self._decode(chain([key], packets), key.pts), key.pts, times)
            goal = time - round(back / self._base)  # some formats seek by decoding time, or land only near the goal
            back *= 2
        return self.frames()

    def _decode(self, packets: Iterator[Any], begin: int | None) -> "Iterator[Any | Damage | Lost]":
        structure = self._structure if begin is None else None
        duration = 1 / Fraction(self.fps)
        return Recovery(self._container, self._stream, self._source, structure, duration).decode(packets, begin)

    def _raising(
        self, frames: "Iterator[Any | Damage | Lost]", begin: int | None, times: Sequence[int] | None
    ) -> Iterator[Any]:
        """Yield frames up to the damage, and raise it as an error that names the place.

        They begin at the key frame shown at `begin`, or with the first of the file if None. `times`, the times of all
        frames, number them.
        """
        count, shown = 0, None
        for frame in frames:
            if isinstance(frame, Lost):
                continue
            if isinstance(frame, Damage):
                if begin is None:
                    place = f"frame {count}"
                elif times is not None:
                    place = f"frame {bisect_left(times, begin) + count}"
                else:
                    place = f"a frame near {self.seconds(begin if shown is None else shown.pts):.2f} s"
                raise VideoError(
                    f"{self.label} is damaged: {place} cannot be decoded ({frame.reason}); copy the file again, "
                    "or work with the frames before this one"
                ) from frame.error
            yield frame
            count, shown = count + 1, frame

    def index(self, most: int | None) -> "VideoIndex | None":
        """List the times of the first `most` frames, or of all, without decoding more than one.

        Returns None where packets do not tell exactly which frames there are.

        Raises:
            VideoError: the first frame is damaged.
        """
        import av

        codec = self._stream.codec_context.codec
        if codec.canonical_name not in ONE_BY_ONE or not (self._formats & TIMED or codec.intra_only):
            return None
        with VideoDecoder(self._source, self.label) as other:  # packets shown before the first frame cannot be decoded
            first = next(other.frames(), None)
        begin = None if first is None else first.pts
        times: list[Any] = []
        keys: list[Any] = []
        self._moved, ended, cut = True, True, False
        structure, decoded = Structure(self._source, self._formats), None
        try:
            for packet in self._container.demux(self._stream):
                if packet.is_corrupt and "mpegts" in self._formats:
                    return None  # joined, or with gaps
                place = math.inf if not packet.size else packet.pos
                broken = place is not None and structure.broken_before(place + packet.size) is not None
                cut = packet.is_corrupt or broken or (not packet.size and cut_time(self._stream, self._source) is not None)
                ended = most is None or len(times) < most + REORDERED
                if cut or not ended:
                    break
                if packet.size and not packet.is_discard:
                    if decoded is not None and packet.dts is not None and packet.dts < decoded:
                        return None  # recordings joined without new times
                    times.append(packet.pts)
                    keys += [packet.pts] * packet.is_keyframe
                    decoded = packet.dts
        except av.FFmpegError:
            cut = True
        finally:
            structure.close()
        if begin is None or None in times:
            return None
        if cut:  # of frames shown after the last whole packet is decoded, some may be missing
            times = [time for time in times if decoded is not None and time <= decoded]
        times = sorted(time for time in times if time >= begin)
        if len(set(times)) < len(times) or times[:1] != [begin]:
            return None
        if ended and not cut and "mpegts" in self._formats and not self._ends_whole(times, keys):
            return None
        return VideoIndex(
            times if ended else times[:-REORDERED], sorted(key for key in keys if key >= begin), ended and not cut
        )

    def _ends_whole(self, times: Sequence[int], keys: Sequence[int]) -> bool:
        """Decode from the last key frame on, and tell whether all the frames come; a transport stream may be cut anywhere."""
        begin = max(keys, default=times[0])
        try:
            with VideoDecoder(self._source, self.label) as other:
                count = sum(1 for _ in other._frames_from(begin, times))
        except VideoError:
            return False
        return count == len(times) - bisect_left(times, begin)
