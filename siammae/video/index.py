"""Frame numbers of a video file: the times at which its frames are shown, listed without decoding them."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass


@dataclass(frozen=True)
class VideoIndex:
    """The times at which a video's frames are shown, and those of its key frames, ascending.

    Attributes:
        times: times of the frames from the first on.
        keys: times of the key frames.
        complete: True if these are all frames of a file that is not cut off.
    """

    times: list[int]
    keys: list[int]
    complete: bool

    def key_before(self, number: int) -> int:
        """Return the number of the last key frame at or before frame `number`; the first frame counts as one."""
        place = bisect_right(self.keys, self.times[number])
        return bisect_left(self.times, self.keys[place - 1]) if place else 0


class IndexMismatch(Exception):
    """An error raised where a file's frames differ from what its packets announced."""
