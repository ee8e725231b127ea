"""Containers of pages, packets or blocks: Ogg, GIF, MPEG-TS and YUV4MPEG."""

from collections.abc import Iterator

from siammae.video.structure.file import CUT, Broken, File

VIDEO_IN_OGG = (b"\x80theora", b"OVP80", b"BBCD", b"\x01video")  # how the first packet of a video begins


def ogg(file: File) -> Iterator[int]:
    """Yield the end of each page; those of a video are numbered, and the last one is marked."""
    position, numbers, videos = 0, {}, set()  # type: tuple[int, dict[bytes, int], set[bytes]]
    while position + 27 <= file.size:
        head = file.read(position, 27 + 255)
        if head[:4] != b"OggS":
            raise Broken(position)
        start, last, serial, number = head[5] & 2, head[5] & 4, head[14:18], int.from_bytes(head[18:22], "little")
        body = position + 27 + head[26]
        end = body + sum(head[27 : 27 + head[26]])
        if end > file.size or len(head) < 27 + head[26]:
            raise Broken(position, CUT)
        if start and file.read(body, 8).startswith(VIDEO_IN_OGG):
            videos.add(serial)
        if serial in videos:
            if not start and number != (numbers[serial] + 1) & 0xFFFFFFFF:
                raise Broken(position, f"pages are missing before byte {position}")
            numbers[serial] = number
        if last:
            videos.discard(serial)
        position = end
        yield position
    if position < file.size or videos:
        raise Broken(position, CUT)


def gif(file: File) -> Iterator[int]:
    """Yield the end of each block; the last byte of a GIF is its trailer."""
    flags = file.number(10, 1)
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while True:
        head = file.read(position, 10)
        if head[:1] == b";":
            return
        if head[:1] == b"!":
            end = _past_blocks(file, position + 2)
        elif head[:1] == b",":
            colors = head[9] if len(head) == 10 else 0
            end = _past_blocks(file, position + 11 + (3 << (colors & 7) + 1 if colors & 0x80 else 0))
        elif head:
            raise Broken(position)
        else:
            raise Broken(position, CUT)
        if end > file.size:
            raise Broken(position, CUT)
        position = end
        yield position


def _past_blocks(file: File, position: int) -> int:
    """Return the position after blocks of up to 255 bytes and the empty one that ends them."""
    while position < file.size:
        data = file.read(position, 1 << 16)
        offset = 0
        while offset < len(data):
            if not data[offset]:
                return position + offset + 1
            offset += data[offset] + 1
        position += offset
    return file.size + 1


def mpegts(file: File) -> Iterator[int]:
    """Yield the ends of runs of packets, which have a fixed size and begin with a G.

    The counters of packets, which start again where recordings are joined, prove nothing.
    """
    step, shift = next(((step, shift) for step in (188, 192, 204) for shift in (0, 4) if _in_step(file, shift, step)), (0, 0))
    if not step:
        return
    position, whole = 0, file.size // step * step
    while position < whole:
        data = file.read(position, min(step << 8, whole - position))
        marks = data[shift::step]
        if marks.strip(b"G"):
            wrong = next(index for index, mark in enumerate(marks) if mark != ord("G"))
            raise Broken(position + wrong * step)
        position += len(data)
        yield position
    if file.read(whole + shift, 1) == b"G":
        raise Broken(whole, CUT)


def _in_step(file: File, shift: int, step: int) -> bool:
    return all(file.read(shift + step * index, 1) == b"G" for index in range(3))


def y4m(file: File) -> Iterator[int]:
    """Yield the end of each frame; all have the size of the first one."""
    head = file.read(0, 256)
    position = head.find(b"\n") + 1
    if not position or file.read(position, 5) != b"FRAME":
        return
    size = _y4m_frame(head[: position - 1])
    while size is not None and position < file.size:
        head = file.read(position, 256)
        if head[:5] != b"FRAME"[: len(head)]:
            raise Broken(position)
        end = position + head.find(b"\n") + 1 + size
        if end > file.size or b"\n" not in head:
            raise Broken(position, CUT)
        position = end
        yield position


def _y4m_frame(head: bytes) -> int | None:
    """Return the size in bytes of a frame, or None for a layout of colours that is not known."""
    words = {word[:1]: word[1:] for word in head.split(b" ")[1:]}
    try:
        width, height = int(words[b"W"]), int(words[b"H"])
    except (KeyError, ValueError):
        return None
    colors = words.get(b"C", b"420")
    half_width, half_height = (width + 1) // 2, (height + 1) // 2
    sizes = {
        b"420": width * height + 2 * half_width * half_height,
        b"422": width * height + 2 * half_width * height,
        b"444": 3 * width * height,
        b"mono": width * height,
    }
    layout, _, bits = colors.partition(b"p")
    layout = layout.removesuffix(b"jpeg").removesuffix(b"mpeg2").removesuffix(b"paldv")
    if colors in (b"420jpeg", b"420mpeg2", b"420paldv"):
        layout, bits = b"420", b""
    if layout not in sizes or (bits and not bits.isdigit()):
        return None
    return sizes[layout] * (2 if bits or colors == b"mono16" else 1)
