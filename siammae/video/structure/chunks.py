"""Containers of chunks that begin with a name and a size: AVI, FLV, fragmented MP4, MXF, and the packets of ASF."""

import struct
from collections.abc import Iterator

from siammae.video.structure.file import CUT, Broken, File

UNKNOWN_SIZE = 0x7FFFFF00  # a RIFF size of this or more stands for "not known" or overflowed


def avi(file: File) -> Iterator[int]:
    """Yield the end of each chunk of the `movi` lists, where the frames lie."""
    position = 0
    while position + 12 <= file.size and file.read(position, 4) == b"RIFF":
        size = file.number(position + 4, 4, "little")
        end = position + 8 + size + size % 2
        yield from _avi_lists(file, position + 12, min(end, file.size))
        if not 0 < size < UNKNOWN_SIZE:
            return
        position = end


def _avi_lists(file: File, position: int, end: int) -> Iterator[int]:
    while position + 12 <= end:
        head = file.read(position, 12)
        size = int.from_bytes(head[4:8], "little")
        if head[:4] != b"LIST" or head[8:] != b"movi":
            position += 8 + size + size % 2
            continue
        known = 4 < size < UNKNOWN_SIZE
        stop = position + 8 + size if known else file.size
        yield from _movi(file, position + 12, min(stop, file.size))
        if stop > file.size:
            raise Broken(file.size, CUT)
        if not known:
            return
        position = stop + size % 2


def _movi(file: File, position: int, end: int) -> Iterator[int]:
    while position + 8 <= end:
        head = file.read(position, 8)
        if not _is_chunk(head) and position % 2 == 0 and _is_chunk(file.read(position - 1, 8)):
            position -= 1  # written without padding to even sizes
            head = file.read(position, 8)
        if head[:4] == b"idx1":  # of a list whose size was never written
            return
        if not _is_chunk(head):
            raise Broken(position)
        size = int.from_bytes(head[4:], "little")
        content = 4 if head[:4] == b"LIST" else size + size % 2
        if position + 8 + content - size % 2 > end:
            raise Broken(position, CUT if end == file.size else None)
        position += 8 + content
        yield position


def _is_chunk(head: bytes) -> bool:
    """Tell whether a chunk of a `movi` list begins so: 00dc, 01wb, ix00, JUNK, LIST."""
    return len(head) == 8 and (head[:2].isalnum() and head[:4].isalnum())


def flv(file: File) -> Iterator[int]:
    """Yield the end of each tag; the tag onMetaData may say how large the file is."""
    position, said = file.number(5, 4) + 4, 0
    while position + 11 <= file.size:
        head = file.read(position, 11)
        if head[0] & 0x1F not in (8, 9, 15, 18):
            raise Broken(position)
        end = position + 11 + int.from_bytes(head[1:4], "big")
        if end > file.size:
            raise Broken(position, CUT)
        if head[0] == 18:
            script = file.read(position + 11, end - position - 11)
            _, name, value = script.partition(b"\0\x08filesize\0")
            said = int(struct.unpack(">d", value[:8])[0]) if name and len(value) >= 8 and value[:2] < b"\x7f\xf0" else said
        position = end + 4
        yield end
    if position < file.size or said > file.size:
        raise Broken(min(position, file.size), CUT)


def fragmented_mp4(file: File) -> Iterator[int]:
    """Yield the end of each box of a file in fragments; for other files, whose index names each frame, nothing."""
    position, fragments, promised = 0, False, 0
    while position + 8 <= file.size:
        head = file.read(position, 16)
        size, name, begin = int.from_bytes(head[:4], "big"), head[4:8], 8
        if size == 1:
            size, begin = int.from_bytes(head[8:], "big"), 16
        elif size == 0 and name == b"mdat":
            size = file.size - position
        if name == b"sidx":
            promised = max(promised, _indexed(file, position + begin, position + size))
        fragments = fragments or name in (b"moof", b"sidx", b"styp")
        if fragments:
            if size < begin or not all(32 <= letter < 127 or letter == 0xA9 for letter in name):
                raise Broken(position)
            if position + size > file.size:  # the index before the data names each frame
                raise Broken(file.size if name == b"mdat" else position, CUT)
        if size < begin:
            return
        position += size
        yield position
    if fragments and (position < file.size or promised > file.size):
        raise Broken(position, CUT)


def _indexed(file: File, position: int, end: int) -> int:
    """Return the end of the last fragment that a segment index names."""
    wide = 8 if file.read(position, 1) == b"\x01" else 4
    first = file.number(position + 12 + wide, wide)
    count = file.number(position + 12 + 2 * wide + 2, 2)
    table = file.read(position + 16 + 2 * wide, 12 * count)
    sizes = [int.from_bytes(table[place : place + 4], "big") & 0x7FFFFFFF for place in range(0, len(table), 12)]
    return end + first + sum(sizes)


def mxf(file: File) -> Iterator[int]:
    """Yield the end of each key, length and value; the header names the position of the footer."""
    position, footer, key = 0, 0, b"\x06\x0e\x2b\x34"
    while position + 17 <= file.size:
        head = file.read(position, 25)
        if head[:4] != key:
            raise Broken(position)
        wide = head[16] & 0x7F if head[16] & 0x80 else 0
        start = position + 17 + wide
        end = start + (int.from_bytes(head[17 : 17 + wide], "big") if wide else head[16])
        if head[4:14] == b"\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02" and not footer:
            footer = file.number(start + 24, 8)
        if end > file.size:
            raise Broken(position, CUT)
        position = end
        yield position
    if position < file.size or footer >= file.size:
        raise Broken(position, CUT)


def asf(file: File) -> Iterator[int]:
    """Yield the end of the data, unless the file is a live recording."""
    position = file.number(16, 8, "little")
    head, data = file.read(0, min(position, 1 << 20)), b"\x36\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c"
    properties = head.find(b"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11\x8e\xe4\x00\xc0\x0c\x20\x53\x65")
    if properties < 0 or file.read(position, 16) != data or head[properties + 88 : properties + 89] not in (b"\x00", b"\x02"):
        return
    end = position + file.number(position + 16, 8, "little")
    if end > file.size:
        raise Broken(file.size, CUT)
    yield end
