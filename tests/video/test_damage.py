"""Files that are cut off or broken give their whole frames and then one error; whole files, however odd, give all frames."""

import importlib.util
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from films import packets, picture, write
from torch import Tensor

from siammae.errors import VideoError
from siammae.video import read_frames

_spec = importlib.util.spec_from_file_location("make_video", Path(__file__).parents[2] / "docs" / "make_video.py")
assert _spec is not None
assert _spec.loader is not None
make_video = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_video)

CONTAINERS = {container.title: container for container in make_video.CONTAINERS}
REFUSED = {"MP4, index at the end", "WebP, animated"}  # cannot be opened without their end
MUTE = {"raw HEVC"}  # has no structure, and a decoder that may take part of a frame for the whole


def read_until_damage(path: Path) -> tuple[list[Tensor], str]:
    """The frames before the damage, and what the one error says."""
    frames: list[Tensor] = []
    with pytest.raises(VideoError) as caught:
        frames.extend(frame for frame in read_frames(path))  # not `list`, which asks for the length first
    return frames, str(caught.value)


def each(source: Any) -> list[Tensor]:
    """The frames, without a question for their number."""
    return [frame for frame in source]  # noqa: C416


def equal(found: Any, expected: Any) -> bool:
    return all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's, at the page where a TIFF stack is cut
@pytest.mark.parametrize("title", [title for title in CONTAINERS if title not in REFUSED | MUTE])
def test_a_file_that_is_cut_off_gives_its_frames_and_then_the_error(tmp_path: Path, title: str) -> None:
    path = make_video.write(CONTAINERS[title], tmp_path)
    whole = list(read_frames(path))
    assert len(whole) == make_video.FRAMES
    data, cut = path.read_bytes(), path.with_stem("cut")
    counts = []
    for share in (0.35, 0.65, 0.85):
        cut.write_bytes(data[: round(share * len(data))])
        frames, message = read_until_damage(cut)
        counts.append(len(frames))
        assert equal(frames, whole[: len(frames)])
        assert f"frame {len(frames)} cannot be decoded" in message or "cannot be read as a picture" in message
        source = read_frames(cut)
        numbers = range(0, len(frames), 7)
        assert equal(source.at(numbers), [whole[number] for number in numbers])
        with pytest.raises(VideoError) as by_number:
            source.at([len(frames)])
        with pytest.raises(VideoError) as counted:
            len(source)
        assert str(by_number.value) == str(counted.value) == message
    assert counts == sorted(counts)
    assert counts[-1] >= counts[0] + 20


@pytest.mark.parametrize("title", sorted(REFUSED))
def test_a_file_that_needs_its_end_is_refused_without_it(tmp_path: Path, title: str) -> None:
    path = make_video.write(CONTAINERS[title], tmp_path)
    data, cut = path.read_bytes(), path.with_stem("cut")
    for share in (0.35, 0.85):
        cut.write_bytes(data[: round(share * len(data))])
        with pytest.raises(VideoError, match=r"cut\.\w+.* cannot be read as a (video|picture)"):
            list(read_frames(cut))


@pytest.mark.parametrize(
    "title", ["Matroska, H.264", "WebM, VP8", "FLV, H.264", "Ogg, VP8", "GIF", "MPEG-TS, H.264", "MXF, MPEG-2"]
)
@pytest.mark.parametrize("fill", ["zeros", "nothing"])
def test_a_hole_in_the_structure_is_damage(tmp_path: Path, title: str, fill: str) -> None:
    path = make_video.write(CONTAINERS[title], tmp_path)
    whole = list(read_frames(path))
    path.write_bytes(make_video.hole(fill, 0.5)(path.read_bytes()))
    frames, message = read_until_damage(path)
    assert 20 < len(frames) < 40
    assert equal(frames, whole[: len(frames)])
    assert "is damaged" in message


# ------------------------------------------------------------------------------------------------ whole, but out of the common


def with_sound(path: Path, seconds: float, video: Callable[[Any], Any] | None = None) -> Path:
    """20 frames (0.8 s) and a longer sound."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, width=80, height=48, pix_fmt="yuv420p")
        sound = file.add_stream("mp2" if path.suffix in (".avi", ".ts", ".mpg") else "aac", rate=44100, layout="mono")
        for index in range(20):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index), format="rgb24")))
        file.mux(stream.encode(None))
        size = sound.codec_context.frame_size or 1152
        for index in range(int(seconds * 44100 / size)):
            layout = sound.codec_context.format.name
            frame = av.AudioFrame(format=layout, layout="mono", samples=size)
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.sample_rate, frame.pts = 44100, index * size
            file.mux(sound.encode(frame))
        file.mux(sound.encode(None))
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "avi", "ts", "flv"])
@pytest.mark.parametrize("seconds", [0.3, 3])
def test_sound_of_another_length_is_no_damage(tmp_path: Path, suffix: str, seconds: float) -> None:
    assert len(list(read_frames(with_sound(tmp_path / f"clip.{suffix}", seconds)))) == 20


@pytest.mark.parametrize("source", ["mp4", "mkv", "ts", "flv"])
@pytest.mark.parametrize("target", ["mp4", "mov", "mkv", "ts", "flv", "nut"])
def test_copied_packets_are_read_to_the_end(tmp_path: Path, source: str, target: str) -> None:
    bframes = "0" if source == "mkv" else "2"  # Matroska does not say when packets are decoded
    path = write(tmp_path / f"one.{source}", [picture(index) for index in range(30)], options={"g": "10", "bf": bframes})
    expected = list(read_frames(path))
    with av.open(str(path)) as file, av.open(str(tmp_path / f"two.{target}"), "w") as copy:
        stream = copy.add_stream_from_template(file.streams.video[0])
        for packet in file.demux(video=0):
            if packet.size:
                packet.stream = stream
                copy.mux(packet)
    assert equal(read_frames(tmp_path / f"two.{target}"), expected)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "webm"])
def test_a_rate_that_varies_is_no_damage(tmp_path: Path, suffix: str) -> None:
    times = [0, 4, 8, 30, 31, 32, 90, 94, 200, 204, 900, 904]
    codec = "libvpx-vp9" if suffix == "webm" else "libx264"
    path = write(tmp_path / f"uneven.{suffix}", [picture(index) for index in range(len(times))], codec, times=times)
    assert len(list(read_frames(path))) == len(times)


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_a_live_recording_ends_where_it_ends(tmp_path: Path, suffix: str) -> None:
    codec = "libvpx" if suffix == "webm" else "libx264"
    path = write(
        tmp_path / f"live.{suffix}",
        [picture(index) for index in range(40)],
        codec,
        options={"g": "10", "bf": "0"} if codec == "libx264" else {"g": "10"},
        container={"live": "1", "cluster_time_limit": "200"},
    )
    whole = list(read_frames(path))
    assert len(whole) == 40
    data = path.read_bytes()
    clusters = [place for place in range(len(data)) if data[place : place + 4] == b"\x1f\x43\xb6\x75"]
    assert len(clusters) > 3
    path.write_bytes(data[: clusters[3]])  # the recorder stopped between two clusters
    frames = list(read_frames(path))
    assert 10 < len(frames) < 40
    assert equal(frames, whole[: len(frames)])
    path.write_bytes(data[: clusters[3] + 200])
    assert equal(read_until_damage(path)[0][:10], whole[:10])


@pytest.mark.parametrize("title", ["MP4, index first", "MP4, index at the end", "Matroska, H.264", "AVI, MJPEG", "GIF", "APNG"])
def test_bytes_after_the_end_are_no_damage(tmp_path: Path, title: str) -> None:
    path = make_video.write(CONTAINERS[title], tmp_path)
    whole = list(read_frames(path))
    for tail in (bytes(3000), np.random.default_rng(0).bytes(3000)):
        longer = path.with_stem("longer")
        longer.write_bytes(path.read_bytes() + tail)
        assert equal(read_frames(longer), whole)


def test_an_avi_whose_sizes_were_never_written_is_whole(tmp_path: Path) -> None:
    path = make_video.write(CONTAINERS["AVI, MJPEG"], tmp_path)
    whole = list(read_frames(path))
    data = bytearray(path.read_bytes())
    movi = data.index(b"movi")
    data[4:8] = data[movi - 4 : movi] = bytes(4)
    path.write_bytes(data[: data.index(b"idx1")])
    assert equal(read_frames(path), whole)


def test_an_avi_without_its_index_has_all_its_frames(tmp_path: Path) -> None:
    path = make_video.write(CONTAINERS["AVI, MPEG-4"], tmp_path)
    whole = list(read_frames(path))
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"idx1") + 40])
    assert equal(read_frames(path), whole)


def test_a_frame_that_an_avi_repeats_is_passed_over(tmp_path: Path) -> None:
    path = make_video.write(CONTAINERS["AVI, MJPEG"], tmp_path)
    whole = list(read_frames(path))
    data = bytearray(path.read_bytes())
    place = data.index(b"00dc", data.index(b"movi") + 3000)
    assert data[place : place + 4] == b"00dc"
    data[place:place] = b"00dc" + bytes(4)
    sizes = (4, data.index(b"movi") - 4)
    for at in sizes:
        data[at : at + 4] = (int.from_bytes(data[at : at + 4], "little") + 8).to_bytes(4, "little")
    path.write_bytes(data.replace(b"idx1", b"JUNK"))
    assert equal(read_frames(path), whole)


@pytest.mark.parametrize("size", [0, 100])
def test_an_flv_that_says_too_small_a_size_is_whole(tmp_path: Path, size: int) -> None:
    path = make_video.write(CONTAINERS["FLV, H.264"], tmp_path)
    whole = list(read_frames(path))
    data = bytearray(path.read_bytes())
    place = data.index(b"filesize") + 9
    data[place : place + 8] = np.array(size, ">f8").tobytes()
    path.write_bytes(data)
    assert equal(read_frames(path), whole)


# ------------------------------------------------------------------------------------------------------- transport streams


def segments(folder: Path, codec: str = "libx264", size: tuple[int, int] = (48, 80), options: Any = None) -> list[Path]:
    """Three recordings of four frames each, one after the other in time, as a segmenter cuts them."""
    paths = []
    for part in range(3):
        path = folder / f"seg{part}-{size[0]}.ts"
        with av.open(str(path), "w", options={"muxdelay": "0", **(options or {})}) as file:
            stream = file.add_stream(codec, rate=25, width=size[1], height=size[0], pix_fmt="yuv420p")
            stream.options = {"bf": "0"} if codec == "libx264" else {}
            for index in range(4):
                frame = av.VideoFrame.from_ndarray(picture(4 * part + index, *size), format="rgb24")
                frame.pts = (0 if options else 4 * part) + index
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
        paths.append(path)
    return paths


def joined(path: Path, parts: list[Path]) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
@pytest.mark.parametrize("options", [None, {"mpegts_flags": "resend_headers"}, {"mpegts_m2ts_mode": "1"}])
def test_joined_segments_have_the_frames_of_their_parts(tmp_path: Path, codec: str, options: Any) -> None:
    parts = segments(tmp_path, codec, options=options)
    expected = [frame for part in parts for frame in read_frames(part)]
    assert len(expected) == 12
    path = joined(tmp_path / "joined.ts", parts)
    source = read_frames(path)
    assert equal(source, expected)
    assert len(source) == 12
    assert equal(source.at([11, 4, 0]), [expected[11], expected[4], expected[0]])
    assert equal(source.backwards(12), expected[::-1])
    assert equal(read_frames(joined(tmp_path / "swapped.ts", parts[::-1])), [*expected[8:], *expected[4:8], *expected[:4]])


def test_a_missing_segment_is_named(tmp_path: Path) -> None:
    first, _, last = segments(tmp_path)
    frames, message = read_until_damage(joined(tmp_path / "joined.ts", [first, last]))
    assert equal(frames, read_frames(first))
    assert "joined.ts is damaged: frame 4 cannot be decoded (4 frames are missing here)" in message


def test_one_missing_frame_is_named(tmp_path: Path) -> None:
    first, second, _ = segments(tmp_path)
    later = tmp_path / "later.ts"
    with av.open(str(second)) as file, av.open(str(later), "w", options={"muxdelay": "0"}) as copy:
        stream = copy.add_stream_from_template(file.streams.video[0])
        for packet in file.demux(video=0):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts + 3600, packet.dts + 3600, stream
                copy.mux(packet)
    _, message = read_until_damage(joined(tmp_path / "joined.ts", [first, later]))
    assert "frame 4 cannot be decoded (1 frame is missing here)" in message


def test_joined_segments_of_another_size_are_answered_with_both_sizes(tmp_path: Path) -> None:
    path = joined(tmp_path / "joined.ts", [segments(tmp_path)[0], segments(tmp_path, size=(64, 96))[1]])
    frames, message = read_until_damage(path)
    assert len(frames) == 4
    assert "frame 00004 is 64 x 96 pixels but the frames before it are 48 x 80" in message


def test_a_cut_transport_stream_loses_its_last_frame_only(tmp_path: Path) -> None:
    path = write(tmp_path / "whole.ts", [picture(index) for index in range(20)], options={"bf": "0"})
    whole = list(read_frames(path))
    start, _ = packets(path)[15]
    path.write_bytes(path.read_bytes()[: start + 100])
    frames, message = read_until_damage(path)
    assert 14 <= len(frames) <= 15
    assert equal(frames, whole[: len(frames)])
    assert "the file ends too early" in message


@pytest.mark.parametrize("share", [0.35, 0.55, 0.8])
def test_a_transport_stream_cut_between_two_packets_lacks_no_frame_in_silence(tmp_path: Path, share: float) -> None:
    path = make_video.write(CONTAINERS["MPEG-TS, H.264"], tmp_path)
    whole, data = list(read_frames(path)), path.read_bytes()
    first, silent = round(share * len(data) / 188), 0
    for packet in range(first, first + 15):
        cut = path.with_stem(f"cut{packet}")
        cut.write_bytes(data[: 188 * packet])
        source, frames = read_frames(cut), []
        try:
            frames.extend(frame for frame in source)
            silent += 1  # after a picture that no other one waits for: as whole as a recording that was stopped there
            assert len(source) == len(frames)
        except VideoError as error:
            with pytest.raises(VideoError, match=re.escape(str(error))):
                len(source)
        assert len(frames) >= 10
        assert equal(frames, whole[: len(frames)])
    assert silent <= 5


# --------------------------------------------------------------------------------------------------- going on past damage


def damaged_in_the_middle(folder: Path, suffix: str = "mp4", codec: str = "libx264") -> tuple[Path, list[Tensor]]:
    """40 frames in groups of 10, of which number 15 is garbage; with the frames of the whole file."""
    options = {
        "libx264": {"bf": "0", "g": "10"},
        "libx265": {"x265-params": "log-level=none:bframes=0:keyint=10:min-keyint=10"},
    }
    path = write(folder / f"clip.{suffix}", [picture(i) for i in range(40)], codec, options=options.get(codec, {"g": "10"}))
    whole = list(read_frames(path))
    data, (start, size) = bytearray(path.read_bytes()), packets(path)[15]
    begin = start + min(8, size // 3)
    data[begin : start + size] = np.random.default_rng(0).bytes(start + size - begin)
    path.write_bytes(data)
    return path, whole


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("mp4", "libx264"), ("mkv", "libx264"), ("avi", "libx264"), ("mp4", "libx265"), ("webm", "libvpx-vp9")],
)
def test_frames_after_damage_keep_their_numbers(tmp_path: Path, suffix: str, codec: str) -> None:
    path, whole = damaged_in_the_middle(tmp_path, suffix, codec)
    source = read_frames(path, on_damage="skip")
    with pytest.warns(UserWarning, match=rf"clip\.{suffix} is damaged: frames 15 to 19 are skipped \("):
        frames = each(source)
    assert equal(frames, whole[:15] + whole[20:])
    assert [source.number(index) for index in range(35)] == [*range(15), *range(20, 40)]
    assert [source.name(index) for index in (14, 15, 34)] == ["00014", "00020", "00039"]
    assert len(source) == 35
    assert equal(source.at([15, 0, -1]), [whole[20], whole[0], whole[39]])
    with pytest.raises(ValueError, match=r"damaged frames before frame 25 are skipped.*use on_damage=\"repeat\""):
        source.backwards(20)
    source = read_frames(path, on_damage="repeat")
    with pytest.warns(UserWarning, match="frames 15 to 19 are replaced by a repeated frame"):
        frames = each(source)
    expected = whole[:15] + 5 * [whole[14]] + whole[20:]
    assert equal(frames, expected)
    assert len(source) == 40
    assert equal(source.at([17, 20, 39]), [whole[14], whole[20], whole[39]])
    assert equal(source.backwards(22), expected[21::-1])
    assert equal(source[12:23:5], expected[12:23:5])
    with pytest.raises(VideoError, match="frame 15 cannot be decoded"):
        for _ in read_frames(path):
            pass


def test_damage_is_told_once_and_numbers_past_the_end_are_refused(tmp_path: Path) -> None:
    path, whole = damaged_in_the_middle(tmp_path)
    source = read_frames(path, on_damage="skip")
    with pytest.warns(UserWarning, match="frames 15 to 19 are skipped"):
        assert torch.equal(source[18], whole[23])
    assert torch.equal(source[16], whole[21])  # without another warning
    assert source.pixel_aspect == 1
    with pytest.raises(VideoError, match="holds only 35 frames; frame 99 was asked for"):
        source.at([99])


def test_frames_at_uneven_times_keep_their_numbers(tmp_path: Path) -> None:
    times = [0, 4, 8, 30, 31, 32, 90, 94, 200, 204, 900, 904]
    path = write(tmp_path / "clip.mkv", [picture(i) for i in range(12)], times=times, options={"bf": "0", "g": "4"})
    whole = list(read_frames(path))
    data, (start, size) = bytearray(path.read_bytes()), packets(path)[5]
    data[start + 8 : start + size] = np.random.default_rng(0).bytes(size - 8)
    path.write_bytes(data)
    source = read_frames(path, on_damage="skip")
    with pytest.warns(UserWarning, match="frames 5 to 7 are skipped"):
        frames = each(source)
    assert [source.number(index) for index in range(9)] == [0, 1, 2, 3, 4, 8, 9, 10, 11]
    assert equal(frames, whole[:5] + whole[8:])


TIMED = [
    "MP4, index first",
    "Matroska, H.264",
    "Matroska, HEVC",
    "WebM, VP8",
    "WebM, live recording",
    "MPEG-TS, H.264",
    "MPEG-TS, MPEG-2",
    "MPEG-PS, MPEG-2",
    "FLV, H.264",
    "Ogg, VP8",
]


@pytest.mark.filterwarnings("ignore:.*is damaged")
@pytest.mark.parametrize("title", TIMED)
@pytest.mark.parametrize("fill", ["zeros", "noise"])
def test_frames_after_a_hole_are_whole_and_keep_their_numbers(tmp_path: Path, title: str, fill: str) -> None:
    path = make_video.write(CONTAINERS[title], tmp_path)
    whole = list(read_frames(path))
    path.write_bytes(make_video.hole(fill, 0.4)(path.read_bytes()))
    source = read_frames(path, on_damage="skip")
    frames = each(source)
    numbers = [source.number(index) for index in range(len(frames))]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 59
    assert len(frames) >= 24
    wrong = [number for number, frame in zip(numbers, frames, strict=True) if not torch.equal(frame, whole[number])]
    assert len(wrong) <= (fill == "noise")  # which a decoder may take for one frame's picture


@pytest.mark.filterwarnings("ignore:.*is damaged", "ignore:Corrupt EXIF data")
@pytest.mark.parametrize("title", sorted(set(CONTAINERS) - set(TIMED) - REFUSED - {"MP4, index at the end"}))
@pytest.mark.parametrize("on_damage", ["skip", "repeat"])
def test_going_on_past_a_hole_comes_to_an_end(tmp_path: Path, title: str, on_damage: Any) -> None:
    path = make_video.write(CONTAINERS[title], tmp_path)
    path.write_bytes(make_video.hole("noise", 0.4)(path.read_bytes()))
    assert 15 <= len(each(read_frames(path, on_damage=on_damage))) <= 61


@pytest.mark.filterwarnings("ignore:.*is damaged")
def test_a_cut_file_ends_with_its_last_whole_frame(tmp_path: Path) -> None:
    path = make_video.write(CONTAINERS["Matroska, H.264"], tmp_path)
    path.write_bytes(path.read_bytes()[:30_000])
    frames, _ = read_until_damage(path)
    for on_damage in ("skip", "repeat"):
        assert equal(read_frames(path, on_damage=on_damage), frames)


@pytest.mark.parametrize("source", ["folder", "list", "generator"])
def test_damaged_pictures_are_passed_over_too(tmp_path: Path, source: str) -> None:
    from PIL import Image

    paths = [tmp_path / f"frame{index}.png" for index in range(6)]
    for index, path in enumerate(paths):
        Image.fromarray(picture(index)).save(path)
    expected = list(read_frames(tmp_path))
    for broken in (0, 3, 4):
        paths[broken].write_bytes(b"no picture")
    form: Any = {"folder": tmp_path, "list": paths, "generator": None}[source]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        skipped = read_frames(form or iter(paths), on_damage="skip")
        assert equal(each(skipped), [expected[1], expected[2], expected[5]])
    assert re.search(r"frame 0 is skipped .*frame0\.png cannot be read", str(caught[0].message))
    assert [str(warning.message).split(" is ")[1] for warning in caught] == [f"damaged: frame {index}" for index in (0, 3, 4)]
    assert [skipped.name(index) for index in range(3)] == (
        ["00001", "00002", "00005"] if source == "generator" else ["frame1", "frame2", "frame5"]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        repeated = each(read_frames(form or iter(paths), on_damage="repeat"))
    assert equal(repeated, [expected[index] for index in (1, 1, 2, 2, 2, 5)])


def test_a_missing_segment_leaves_its_numbers_free(tmp_path: Path) -> None:
    first, _, last = segments(tmp_path)
    expected = [*read_frames(first), *read_frames(last)]
    source = read_frames(joined(tmp_path / "joined.ts", [first, last]), on_damage="skip")
    with pytest.warns(UserWarning, match="frames 4 to 7 are skipped"):
        frames = each(source)
    assert equal(frames, expected)
    assert [source.number(index) for index in range(8)] == [0, 1, 2, 3, 8, 9, 10, 11]


def test_what_becomes_of_damage_is_one_of_three() -> None:
    with pytest.raises(ValueError, match="on_damage is 'ignore'; expected one of error, skip, repeat"):
        read_frames([picture(0)], on_damage="ignore")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="on_damage belongs to the reading of a source"):
        list(read_frames(read_frames([picture(0), picture(1)])[1:], on_damage="skip"))


@pytest.mark.parametrize("title", ["MP4, index first", "Matroska, H.264", "MPEG-TS, H.264", "Ogg, VP8", "GIF", "TIFF stack"])
def test_the_page_says_what_happens(tmp_path: Path, title: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        row = make_video.row(CONTAINERS[title], tmp_path)
    assert row in make_video.PAGE.read_text(), "run python docs/make_video.py"
