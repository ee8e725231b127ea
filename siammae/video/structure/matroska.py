"""Matroska and WebM: elements in elements, each with its size (RFC 8794, RFC 9559)."""

from collections.abc import Iterator

from siammae.video.structure.file import CUT, Broken, File

HEADER, SEGMENT, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
IN_SEGMENT = frozenset(
    {0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, CLUSTER}
)  # seek head, info, tracks, cues, attachments, chapters, tags
IN_CLUSTER = frozenset({0xA3, 0xA0, 0xE7, 0xA7, 0xAB, 0xAF, 0x5854, 0xEC, 0xBF})  # blocks, times, places, padding, checks


def matroska(file: File) -> Iterator[int]:
    """Yield the end of each element: those of clusters one by one, others whole.

    A segment or cluster may have no size, as in live recordings: it ends where the next one begins. What follows the first
    segment of known size is not looked at.
    """
    position, segment_end = 0, None
    cluster_end: int | None = None
    while position < file.size:
        name, size, start = _element(file, position)
        end = None if size is None else start + size
        if name == SEGMENT:
            segment_end, position = end, start
        elif name == CLUSTER:
            cluster_end, position = end, start
        else:
            if name in IN_SEGMENT or name == HEADER:
                cluster_end = None
            limit = min((bound for bound in (cluster_end, segment_end) if bound is not None), default=None)
            unknown = cluster_end is not None and name not in IN_CLUSTER
            if end is None or unknown or (limit is not None and end > limit):
                raise Broken(position)
            if end > file.size:
                raise Broken(position, CUT)
            position = end
        yield position
        if cluster_end is not None and position >= cluster_end:
            cluster_end = None
        if segment_end is not None and position >= segment_end:
            return
    if segment_end is not None or cluster_end is not None:
        raise Broken(position, CUT)


def _element(file: File, position: int) -> tuple[int, int | None, int]:
    """Return an element's name, its size (None: not known) and the position of its content."""
    head = file.read(position, 12)
    try:
        width = 9 - head[0].bit_length()
        if width > 4:
            raise Broken(position)
        name = int.from_bytes(head[:width], "big")
        count = 9 - head[width].bit_length()
        if count > 8:
            raise Broken(position)
        start = width + count
        if start > len(head):
            raise Broken(position, CUT)
    except IndexError:
        raise Broken(position, CUT) from None
    value = int.from_bytes(head[width:start], "big") & ((1 << 7 * count) - 1)
    return name, None if value == (1 << 7 * count) - 1 else value, position + start
