"""Frames by number are the frames that iteration gives, whatever the file; and only what is needed is read."""

import struct
from collections.abc import Callable
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from films import index_first, packets, picture, write
from PIL import Image
from torch import Tensor

from siammae.errors import VideoError
from siammae.video import Frames, decode, read_frames
from siammae.video import videofile as frames_module

COUNT = 45  # frames of most films here, in groups of 10
QUIET = "log-level=none"
FILMS: dict[str, tuple[str, str, dict[str, Any]]] = {  # suffix, codec, other arguments of `write`
    "H.264 with B frames": ("mp4", "libx264", {"options": {"bf": "3", "g": "10"}}),
    "H.264 in open groups": ("mp4", "libx264", {"options": {"x264-params": "keyint=10:min-keyint=10:open-gop=1:bframes=3"}}),
    "H.264 in open groups, Matroska": ("mkv", "libx264", {"options": {"x264-params": "keyint=10:open-gop=1:bframes=3"}}),
    "H.264, groups shorter than the delay": ("mp4", "libx264", {"options": {"bf": "3", "x264-params": "keyint=2:b-pyramid=2"}}),
    "H.264 in a transport stream": ("ts", "libx264", {"options": {"bf": "3", "g": "10"}}),
    "H.264 in AVI": ("avi", "libx264", {"options": {"bf": "3", "g": "10"}}),
    "HEVC": ("mp4", "libx265", {"options": {"x265-params": f"{QUIET}:keyint=10:min-keyint=10:bframes=3"}}),
    "HEVC in Matroska": ("mkv", "libx265", {"options": {"x265-params": f"{QUIET}:keyint=10:min-keyint=10:bframes=3"}}),
    "VP9": ("webm", "libvpx-vp9", {"options": {"g": "10"}}),
    "AV1": ("mp4", "libsvtav1", {"options": {"g": "10", "svtav1-params": "lp=1"}}),
    "GIF": ("gif", "gif", {}),
    "MPEG-4": ("avi", "mpeg4", {"options": {"g": "10", "bf": "2"}}),
    "late start": ("mp4", "libx264", {"options": {"bf": "3", "g": "10"}, "times": [137 + 4 * i for i in range(COUNT)]}),
    "late start, Matroska": (
        "mkv",
        "libx264",
        {"options": {"bf": "3", "g": "10"}, "times": [137 + 4 * i for i in range(COUNT)]},
    ),
    "variable rate": ("mp4", "libx264", {"options": {"bf": "3", "g": "10"}, "times": [i * i // 3 + i for i in range(COUNT)]}),
}


def film(path: Path, name: str) -> Path:
    suffix, codec, arguments = FILMS[name]
    return write(path / f"clip.{suffix}", [picture(index) for index in range(COUNT)], codec, **arguments)


def equal(found: Any, expected: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", FILMS)
def test_frames_by_number_are_those_of_iteration(tmp_path: Path, name: str) -> None:
    source = read_frames(film(tmp_path, name))
    expected = list(iter(source))
    assert len(source) == len(expected) == COUNT
    assert equal([source[index] for index in range(COUNT)], expected)
    assert equal([source[-1], source[np.int64(-COUNT)]], [expected[-1], expected[0]])
    chosen = [31, 4, 4, -1, 12, 0, 30, 29]
    assert equal(read_frames(source).at(chosen), [expected[index] for index in chosen])
    assert equal(source.at(torch.tensor([7, 3])), [expected[7], expected[3]])
    assert source.at([]) == []
    for part in (slice(3, 24), slice(None, None, -1), slice(40, 2, -7), slice(-9, None, 2), slice(20, None)):
        assert equal(source[part], expected[part])
        assert len(source[part]) == len(expected[part])
    assert equal(source[5:40][::2].at([-1, 3]), [expected[39], expected[11]])
    for stop in (COUNT, 33, 1):
        assert equal(source.backwards(stop), expected[:stop][::-1])


def forbid_reading_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(decoder: decode.VideoDecoder) -> None:
        raise AssertionError(f"{decoder.label} is read from its first frame on")

    monkeypatch.setattr(decode.VideoDecoder, "frames", refuse)


@pytest.mark.parametrize("name", sorted(set(FILMS) - {"H.264 in AVI", "MPEG-4"}))
def test_a_late_frame_is_sought(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = read_frames(film(tmp_path, name))
    expected = list(source)
    forbid_reading_from_the_start(monkeypatch)
    for index in (44, *range(10, COUNT)):  # the first group begins at the start anyway
        assert torch.equal(source[index], expected[index])
    assert equal(islice(source.backwards(COUNT), 32), expected[:12:-1])


@pytest.mark.parametrize("name", FILMS)
@pytest.mark.parametrize("number", [COUNT, -COUNT - 1])
def test_a_number_past_the_end_is_told_the_number_of_frames(tmp_path: Path, name: str, number: int) -> None:
    source = read_frames(film(tmp_path, name))
    for ask in (source.__getitem__, lambda n: source.at([0, n])):
        with pytest.raises(VideoError, match=rf"clip\.\w+ holds only {COUNT} frames; frame {number} was asked for") as caught:
            ask(number)
        assert isinstance(caught.value, IndexError)


@pytest.mark.parametrize("make", [list, np.stack, lambda pictures: torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)])
def test_lists_and_arrays_are_read_by_number(make: Callable[[Any], Any]) -> None:
    source = read_frames(make([picture(index) for index in range(5)]))
    assert len(source) == 5
    for index in (0, 3, -1):
        assert np.array_equal(source[index].permute(1, 2, 0), picture(index % 5))
    assert equal(source[1:4], source.at([1, 2, 3]))
    with pytest.raises(IndexError, match="the sequence holds only 5 frames; frame 5 was asked for"):
        source[5]


def test_part_of_a_folder_keeps_its_names_and_reads_nothing_else(tmp_path: Path) -> None:
    for index in range(6):
        Image.fromarray(picture(index)).save(tmp_path / f"frame{index}.png")
    (tmp_path / "frame0.png").write_bytes(b"no picture")
    part = read_frames(tmp_path)[1:6:2]
    assert isinstance(part, Frames)
    assert (part.names, part.folder, part.length) == (["frame1", "frame3", "frame5"], tmp_path, 3)
    assert np.array_equal(part[1].permute(1, 2, 0), picture(3))
    assert len(list(part)) == 3
    assert equal(part.backwards(2), [part[1], part[0]])
    with pytest.raises(VideoError, match=r"frame0\.png cannot be read"):
        read_frames(tmp_path)[0]


def test_frames_of_different_sizes_are_refused_by_number_too() -> None:
    source = read_frames([picture(0), picture(1), picture(2, 40, 50)])
    assert len(source.at([1, 0])) == 2
    for ask in (lambda: source.at([0, 2]), lambda: list(source.backwards(3))):
        with pytest.raises(VideoError, match="all frames of a sequence must have one size"):
            ask()


def test_an_iterator_has_neither_numbers_nor_length() -> None:
    source = read_frames(picture(index) for index in range(3))
    asks: list[Callable[[], Any]] = [
        lambda: source[0], lambda: source[0:2], lambda: source.at([0]), lambda: source.backwards(1)
    ]  # fmt: skip
    for ask in asks:
        with pytest.raises(ValueError, match=r"forwards only, and once; .* pass a file, a folder, a list or an array"):
            ask()
    with pytest.raises(TypeError, match="its frames come only once"):
        len(source)
    assert source
    assert len(list(source)) == 3


def test_only_the_group_of_a_frame_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage in an earlier group ends iteration, but leaves what needs not that group as it is."""
    monkeypatch.setattr(frames_module, "REVERSED_WINDOW", 10)
    path = write(tmp_path / "clip.mp4", [picture(i) for i in range(40)], options={"bf": "0", "g": "10"})
    expected = list(read_frames(path))
    data, (start, size) = bytearray(path.read_bytes()), packets(path)[15]
    data[start + 8 : start + size] = np.random.default_rng(0).bytes(size - 8)
    path.write_bytes(data)
    source = read_frames(path)
    assert equal(source.at([39, 20, 9, 14]), [expected[i] for i in (39, 20, 9, 14)])
    frames = source.backwards(40)
    assert equal([next(frames) for _ in range(20)], expected[:19:-1])
    asks: list[Callable[[], Any]] = [
        lambda: list(iter(source)), lambda: source[15], lambda: source.at([3, 19]), lambda: list(source[2:30]),
        lambda: list(frames), lambda: list(source.backwards(16)),
    ]  # fmt: skip
    for ask in asks:
        with pytest.raises(VideoError, match=r"clip\.mp4 is damaged: frame 15 cannot be decoded"):
            ask()


def test_a_cut_video_tells_of_the_cut_and_not_of_a_number_too_large(tmp_path: Path) -> None:
    path = index_first(tmp_path / "whole.mp4", 40)
    start, size = packets(path)[30]
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(path.read_bytes()[: start + size // 2])
    found: list[Tensor] = []
    with pytest.raises(VideoError) as caught:
        found.extend(frame for frame in read_frames(cut))
    source = read_frames(cut)
    assert equal(source.at(range(len(found))), found)
    for number in (len(found), 39, 1000):
        with pytest.raises(VideoError) as again:
            source.at([number])
        assert str(again.value) == str(caught.value)


def test_a_clip_cut_at_an_open_group_has_the_numbers_of_its_shown_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"x265-params": f"{QUIET}:keyint=10:min-keyint=10:bframes=3:open-gop=1:b-adapt=0"}
    path = write(tmp_path / "long.mp4", [picture(i) for i in range(40)], "libx265", options=options)
    for suffix in ("mp4", "mkv"):
        with av.open(str(path)) as source, av.open(str(tmp_path / f"short.{suffix}"), "w") as target:
            stream, groups = target.add_stream_from_template(source.streams.video[0]), 0
            for packet in source.demux(video=0):
                groups += packet.is_keyframe
                if packet.size and groups > 2:
                    packet.stream = stream
                    target.mux(packet)
        short = read_frames(tmp_path / f"short.{suffix}")
        expected = list(iter(short))
        assert len(packets(tmp_path / f"short.{suffix}")) > len(expected)  # the first ones refer to the group cut off
        assert len(short) == len(expected)
        with monkeypatch.context() as patch:
            forbid_reading_from_the_start(patch)
            assert equal([short[index] for index in range(len(expected))], expected)


def test_frames_hidden_by_an_edit_list_have_no_number(tmp_path: Path) -> None:
    path = index_first(tmp_path / "whole.mp4", 40)
    data = bytearray(path.read_bytes())
    edit = data.index(b"elst") + 8
    _, duration, start = struct.unpack(">IIi", data[edit : edit + 12])
    with av.open(str(path)) as container:
        per_frame = int(Fraction(1, 25) / container.streams.video[0].time_base)
    data[edit + 4 : edit + 12] = struct.pack(">Ii", duration // 2, start + 5 * per_frame)
    path.write_bytes(data)
    source = read_frames(path)
    expected = list(iter(source))
    assert len(source) == len(expected) < 40
    assert equal([source[index] for index in range(len(expected))], expected)


def test_times_are_listed_only_as_far_as_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames_module, "FIRST_INDEXED", 4)
    monkeypatch.setattr(decode, "REORDERED", 3)
    path = film(tmp_path, "H.264 with B frames")
    expected, asked = list(iter(read_frames(path))), []
    original = decode.VideoDecoder.index
    monkeypatch.setattr(decode.VideoDecoder, "index", lambda self, most: asked.append(most) or original(self, most))
    source = read_frames(path)
    for number in (2, 3, 5, 9, 30, 44):
        assert torch.equal(source[number], expected[number])
    assert asked == [4, 10, 60]
    assert len(source) == COUNT


def test_a_file_whose_packets_are_not_its_frames_is_counted_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """H.264 in AVI: its packets carry times in decoding order."""
    path = film(tmp_path, "H.264 in AVI")
    expected = list(iter(read_frames(path)))
    monkeypatch.setattr(decode, "TIMED", {*decode.TIMED, "avi"})
    for numbers in (range(COUNT), [17, 44], [44, 3]):
        assert equal(read_frames(path).at(numbers), [expected[index] for index in numbers])
    assert equal(read_frames(path).backwards(COUNT), expected[::-1])


def test_parts_in_reversed_order_are_read_by_number(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", [picture(index) for index in range(12)], options={"g": "4"})
    whole = list(read_frames(path))
    backwards = read_frames(path)[10:2:-2]
    assert len(backwards) == 4
    for found, number in zip(backwards.at([0, 3, 1]), (10, 4, 8), strict=True):
        assert torch.equal(found, whole[number])


def test_videos_are_read_without_a_limit_of_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "clip.mp4", [picture(index) for index in range(3)])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert len(list(read_frames(path))) == 3
