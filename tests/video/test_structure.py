"""Containers followed part by part: the parts hold the packets, and a cut or a broken part is found where it begins."""

import importlib.util
import io
import struct
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import av
import pytest

from siammae.video.progress import progress_bar
from siammae.video.structure.file import CUT, Broken, File
from siammae.video.structure.parts import WALKS

_spec = importlib.util.spec_from_file_location("make_video_short", Path(__file__).parents[2] / "docs" / "make_video.py")
assert _spec is not None
assert _spec.loader is not None
make_video = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_video)
make_video.FRAMES = 12
CONTAINERS = {container.title: container for container in make_video.CONTAINERS}


class Kind(NamedTuple):
    """A container: FFmpeg's name of it, bytes between two parts, and whether a file tells that it ends between two parts."""

    name: str
    gap: int = 0
    counted: bool = True


KINDS = {
    "AVI, MJPEG": Kind("avi"),
    "AVI, MPEG-4": Kind("avi"),
    "FLV, Sorenson": Kind("flv", gap=4),
    "FLV, H.264": Kind("flv", gap=4),
    "Ogg, VP8": Kind("ogg"),
    "GIF": Kind("gif"),
    "MXF, MPEG-2": Kind("mxf"),
    "Matroska, H.264": Kind("matroska"),
    "WebM, VP8": Kind("matroska"),
    "WebM, live recording": Kind("matroska", counted=False),
    "YUV4MPEG": Kind("yuv4mpegpipe", counted=False),
}


def parts(name: str, data: bytes) -> tuple[list[int], Broken | None]:
    """The ends of the parts, and how the structure breaks."""
    ends: list[int] = []
    try:
        ends.extend(end for end in WALKS[name](File(io.BytesIO(data))))
    except Broken as broken:
        return ends, broken
    return ends, None


@pytest.mark.parametrize("title", KINDS)
def test_parts_hold_the_packets_and_cuts_and_breaks_are_found_where_they_are(tmp_path: Path, title: str) -> None:
    kind, path = KINDS[title], make_video.write(CONTAINERS[title], tmp_path)
    data = path.read_bytes()
    ends, broken = parts(kind.name, data)
    assert broken is None
    assert ends == sorted(set(ends))
    if kind.name != "gif":  # of which FFmpeg reports other places
        with av.open(str(path)) as file:
            packets = [(packet.pos, packet.pos + packet.size) for packet in file.demux(video=0) if packet.size]
        assert len(packets) == 12
        for begin, end in packets:
            assert any(low <= begin and end <= high for low, high in pairwise([0, *ends]))
    for begin, end in pairwise(ends):
        start = begin + kind.gap
        _, broken = parts(kind.name, data[: max(start + 1, (start + end) // 2)])
        assert (broken and broken.position, broken and broken.reason) == (start, CUT)
        _, broken = parts(kind.name, data[:start] + bytes(8) + data[start + 8 :])
        assert broken is not None
        assert broken.position == start
        assert broken.reason != CUT
    if kind.counted:
        first = 2 if kind.name == "matroska" else 0  # after the segment has begun
        last = next((place for place, end in enumerate(ends) if data[end : end + 14][4:14] == FOOTER), len(ends) - 1)
        for end in ends[first:last]:
            _, broken = parts(kind.name, data[:end])
            assert broken is not None
            assert broken.reason == CUT


FOOTER = b"\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x04"  # how the key of MXF's footer goes on


@pytest.mark.parametrize(("step", "shift"), [(188, 0), (192, 4), (204, 0)])
def test_packets_of_transport_streams_have_three_sizes(step: int, shift: int) -> None:
    data = (bytes(shift) + b"G" + bytes(step - shift - 1)) * 600
    ends, broken = parts("mpegts", data)
    assert broken is None
    assert ends[-1] == len(data)
    _, broken = parts("mpegts", data[: 550 * step + shift + 10])
    assert broken is not None
    assert (broken.position, broken.reason) == (550 * step, CUT)
    _, broken = parts("mpegts", data[: 300 * step] + bytes(step) + data[301 * step :])
    assert broken is not None
    assert broken.position == 300 * step
    assert parts("mpegts", bytes(5000)) == ([], None)


@pytest.mark.parametrize("colors", [0, 2, 8])
@pytest.mark.parametrize("everywhere", [True, False])
def test_palettes_of_gifs_are_passed_over(colors: int, everywhere: bool) -> None:
    flags, palette = (0x80 | colors.bit_length() - 2, bytes(3 * colors)) if colors else (0, b"")
    head = b"GIF89a" + struct.pack("<HHBBB", 4, 4, flags if everywhere else 0, 0, 0) + (palette if everywhere else b"")
    own = (0, b"") if everywhere else (flags, palette)
    picture = b"," + struct.pack("<HHHHB", 0, 0, 4, 4, own[0]) + own[1] + b"\x02" + b"\x02\x4c\x01" + b"\x00"
    data = head + picture + picture + b";"
    assert parts("gif", data) == ([len(head) + len(picture), len(data) - 1], None)


@pytest.mark.parametrize("version", [0, 1])
def test_a_segment_index_promises_fragments(version: int) -> None:
    place = struct.pack(">QQ" if version else ">II", 0, 100)  # earliest time; bytes between the index and the fragments
    entries = b"".join(struct.pack(">III", 40, 1000, 0) for _ in range(20))
    content = struct.pack(">BxxxII", version, 1, 1000) + place + struct.pack(">HH", 0, 20) + entries
    index = struct.pack(">I4s", 8 + len(content), b"sidx") + content
    free = struct.pack(">I4s", 100, b"free") + bytes(92)
    fragment = struct.pack(">I4s", 20, b"moof") + bytes(12) + struct.pack(">I4s", 20, b"mdat") + bytes(12)
    data = index + free + 20 * fragment
    assert parts("mov", data)[1] is None
    until_the_end = data[:-20] + struct.pack(">I4s", 0, b"mdat") + bytes(12)
    assert parts("mov", until_the_end) == (parts("mov", data)[0], None)
    for end in (len(index) + 100, len(index) + 140, len(index) + 100 + 18 * 40):
        broken = parts("mov", data[:end])[1]
        assert broken is not None
        assert (broken.position, broken.reason) == (end, CUT)


def test_the_data_of_asf_says_how_long_it_is(tmp_path: Path) -> None:
    data = make_video.write(CONTAINERS["ASF, WMV"], tmp_path).read_bytes()
    (end,), broken = parts("asf", data)
    assert broken is None
    assert 0 <= len(data) - end < 200  # only an index follows
    broken = parts("asf", data[: end - 1])[1]
    assert broken is not None
    assert (broken.position, broken.reason) == (end - 1, CUT)


def chunk(name: bytes, content: bytes) -> bytes:
    """One of AVI's chunks."""
    return name + struct.pack("<I", len(content)) + content


def test_an_avi_of_several_riffs_is_followed_to_the_last() -> None:
    movie = chunk(b"LIST", b"movi" + chunk(b"00dc", bytes(100)) + chunk(b"00dc", bytes(60)))
    data = chunk(b"RIFF", b"AVI " + movie) + chunk(b"RIFF", b"AVIX" + movie)
    ends, broken = parts("avi", data)
    assert broken is None
    assert ends == [132, 200, 200 + 132, 200 + 200]
    broken = parts("avi", data[:-10])[1]
    assert broken is not None
    assert (broken.position, broken.reason) == (332, CUT)


def test_every_element_of_a_cluster_is_known() -> None:
    names = [b"\xa3", b"\xa0", b"\xe7", b"\xa7", b"\xab", b"\xaf", b"\x58\x54", b"\xec", b"\xbf"]
    inside = b"".join(name + b"\x82ab" for name in names)
    cluster = b"\x1f\x43\xb6\x75" + bytes([0x80 | len(inside)]) + inside
    segment = b"\x18\x53\x80\x67" + bytes([0x80 | 2 * len(cluster)]) + 2 * cluster
    ends, broken = parts("matroska", b"\x1a\x45\xdf\xa3\x80" + segment)
    assert broken is None
    assert ends[-1] == 5 + len(segment)
    other = cluster.replace(b"\x58\x54", b"\x58\x55")
    assert parts("matroska", b"\x1a\x45\xdf\xa3\x80" + segment.replace(cluster, other))[1] is not None


def page(flags: int, number: int, content: bytes) -> bytes:
    """A page of an Ogg file."""
    return b"OggS\0" + struct.pack("<BqIIIB", flags, 0, 7, number, 0, 1) + bytes([len(content)]) + content


@pytest.mark.parametrize("flags", [0, 1])  # 1: the page continues a packet
def test_a_page_of_a_video_in_ogg_that_is_missing(flags: int) -> None:
    pages = [page(2, 0, b"\x80theora"), page(flags, 1, b"one"), page(flags, 2, b"two"), page(4 | flags, 3, b"last")]
    assert parts("ogg", b"".join(pages))[1] is None
    broken = parts("ogg", b"".join([*pages[:2], pages[3]]))[1]
    assert broken is not None
    assert "pages are missing before byte" in broken.reason
    broken = parts("ogg", b"".join(pages[:3]))[1]
    assert broken is not None
    assert broken.reason == CUT


@pytest.mark.parametrize(
    ("layout", "size"),
    [
        ("", 35 + 24),
        ("C420", 35 + 24),
        ("C420jpeg", 35 + 24),
        ("C422", 35 + 40),
        ("C444", 105),
        ("Cmono", 35),
        ("C420p10", 118),
    ],
)
def test_frames_of_yuv4mpeg_have_the_size_of_their_layout(layout: str, size: int) -> None:
    head = f"YUV4MPEG2 W7 H5 F25:1 {layout}".strip().encode() + b"\n"
    frame = b"FRAME\n" + bytes(size)
    assert parts("yuv4mpegpipe", head + 3 * frame) == ([len(head) + count * len(frame) for count in (1, 2, 3)], None)
    broken = parts("yuv4mpegpipe", head + 3 * frame[:-1])[1]
    assert broken is not None


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (False, False), (None, False)])
def test_a_progress_bar_is_shown_if_asked_for(capsys: pytest.CaptureFixture[str], progress: bool | None, shown: bool) -> None:
    assert list(progress_bar(range(3), 3, "count", progress)) == [0, 1, 2]
    assert ("3/3" in capsys.readouterr().err) == shown
