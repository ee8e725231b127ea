"""Frames come in the right order, number, size and colours from every kind of source, and bad sources say what is wrong."""

import struct
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.video.frame import PictureType
from films import HEIGHT, UNITY, WIDTH, Picture, distance, index_first, packets, picture, with_display_matrix, write
from PIL import Image

from siammae.errors import VideoError
from siammae.video import as_frame, as_picture, read_frames
from siammae.video import videofile as frames_module
from siammae.video.videofile import REVERSED_WINDOW


def pixels_of(frames: Any) -> list[Picture]:
    return [frame.permute(1, 2, 0).numpy() for frame in frames]


def read_until_damage(path: Path) -> tuple[list[Picture], str]:
    """The frames before the damage, and what the one error says."""
    found: list[Picture] = []
    with pytest.raises(VideoError) as caught:
        found.extend(frame.permute(1, 2, 0).numpy() for frame in read_frames(path))
    return found, str(caught.value)


def assert_first_pictures(found: list[Picture], tolerance: float = 6) -> None:
    for index, pixels in enumerate(found):
        assert distance(pixels, picture(index)) < tolerance, f"frame {index} is not the picture that was written"


@pytest.mark.parametrize(
    ("codec", "suffix", "tolerance"),
    [("libx264", "mp4", 4), ("libx265", "mp4", 6), ("libvpx-vp9", "webm", 6), ("libsvtav1", "mp4", 6), ("gif", "gif", 25)],
)
def test_video_files_give_their_pictures(tmp_path: Path, codec: str, suffix: str, tolerance: float) -> None:
    options = {"libx265": {"x265-params": "log-level=none"}, "libsvtav1": {"svtav1-params": "lp=1"}}
    written = [picture(index) for index in range(12)]
    source = read_frames(write(tmp_path / f"clip.{suffix}", written, codec, options=options.get(codec)))
    frames = list(source)
    assert len(frames) == 12
    assert all(frame.shape == (3, HEIGHT, WIDTH) and frame.dtype == torch.uint8 for frame in frames)
    assert source.fps == pytest.approx(25, abs=0.5)
    assert source.name(3) == "00003"
    assert_first_pictures(pixels_of(frames), tolerance)
    assert distance(written[0], written[11]) > 2 * tolerance  # so that a wrong order would be seen
    assert len(list(source)) == 12


def test_odd_sizes_are_kept(tmp_path: Path) -> None:
    (frame,) = read_frames(write(tmp_path / "odd.mp4", [picture(0, 37, 53)]))
    assert frame.shape == (3, 37, 53)
    assert distance(frame.permute(1, 2, 0), picture(0, 37, 53)) < 4


def test_variable_frame_rate_gives_every_frame_once(tmp_path: Path) -> None:
    times = [0, 4, 8, 30, 31, 32, 90, 94, 200]
    path = write(tmp_path / "uneven.mp4", [picture(index) for index in range(9)], times=times)
    with av.open(str(path)) as container:
        shown = [float(frame.time) for frame in container.decode(video=0)]
    assert shown == pytest.approx([time / 100 for time in times])
    found = pixels_of(read_frames(path))
    assert len(found) == 9
    assert_first_pictures(found)


@pytest.mark.parametrize(
    ("matrix", "filters"),  # the filters that ffmpeg's own player inserts
    [
        pytest.param((0, UNITY, -UNITY, 0), ["transpose=clock"], id="90 clockwise"),
        pytest.param((-UNITY, 0, 0, -UNITY), ["hflip", "vflip"], id="180"),
        pytest.param((0, -UNITY, UNITY, 0), ["transpose=cclock"], id="270 clockwise"),
        pytest.param((-UNITY, 0, 0, UNITY), ["hflip"], id="mirrored"),
        pytest.param((UNITY, 0, 0, -UNITY), ["vflip"], id="upside down"),
        pytest.param((0, UNITY, UNITY, 0), ["transpose=cclock_flip"], id="transposed"),
        pytest.param((0, -UNITY, -UNITY, 0), ["transpose=clock_flip"], id="transposed and turned"),
    ],
)
def test_rotation_metadata_is_respected_as_ffmpeg_does(
    tmp_path: Path, matrix: tuple[int, int, int, int], filters: list[str]
) -> None:
    stored = picture(0)
    stored[: HEIGHT // 2, : WIDTH // 2] = [255, 0, 0]
    (frame,) = read_frames(with_display_matrix(write(tmp_path / "stored.mp4", [stored]), matrix))
    graph = av.filter.Graph()
    nodes = [graph.add_buffer(width=WIDTH, height=HEIGHT, format=av.VideoFormat("rgb24"), time_base=Fraction(1, 25))]
    nodes += [graph.add(*name.split("=")) for name in filters] + [graph.add("buffersink")]
    for before, after in pairwise(nodes):
        before.link_to(after)
    graph.configure()
    graph.push(av.VideoFrame.from_ndarray(stored, format="rgb24"))
    expected = graph.pull().to_ndarray(format="rgb24")
    assert frame.shape[1:] == expected.shape[:2]
    assert distance(frame.permute(1, 2, 0), expected) < 4


def test_a_clockwise_quarter_turn_takes_the_top_left_corner_to_the_top_right(tmp_path: Path) -> None:
    stored = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    stored[:16, :16] = 255
    (frame,) = read_frames(with_display_matrix(write(tmp_path / "stored.mp4", [stored]), (0, UNITY, -UNITY, 0)))
    assert frame.shape == (3, WIDTH, HEIGHT)
    assert frame[:, :12, -12:].float().mean() > 250
    assert frame[:, :12, :12].float().mean() < 5


def test_backwards_is_forwards_reversed_across_windows(tmp_path: Path) -> None:
    count = 2 * REVERSED_WINDOW + 5
    path = write(tmp_path / "clip.mp4", [picture(i) for i in range(count)], options={"bf": "3", "g": "25"})
    with av.open(str(path)) as container:
        assert any(frame.pict_type == PictureType.B for frame in container.decode(video=0))
    source = read_frames(path)
    forward = list(source)
    for stop in (count, count - 3, REVERSED_WINDOW + 1, REVERSED_WINDOW, 1, 0):
        backward = list(source.backwards(stop))
        assert len(backward) == stop
        assert all(torch.equal(one, other) for one, other in zip(backward, reversed(forward[:stop]), strict=True))
    with pytest.raises(VideoError, match=f"only {count} frames"):
        list(source.backwards(count + 40))


def test_backwards_holds_no_more_than_a_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "clip.mp4", [picture(i) for i in range(20)])
    expected = list(read_frames(path))[::-1]
    monkeypatch.setattr("siammae.video.videofile.REVERSED_WINDOW", 3)
    found = list(read_frames(path).backwards(20))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_video_file_is_decoded_lazily(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converted = []
    source = read_frames(index_first(tmp_path / "clip.mp4"))
    original = frames_module.as_rgb
    monkeypatch.setattr(frames_module, "as_rgb", lambda frame: converted.append(frame.pts) or original(frame))
    frames = iter(source)
    assert converted == []
    for expected in (1, 2, 3):
        next(frames)
        assert len(converted) == expected


def test_a_folder_is_read_in_natural_order_and_names_its_frames(tmp_path: Path) -> None:
    for index in (10, 2, 1, 100):
        Image.fromarray(np.full((4, 6, 3), index, np.uint8)).save(tmp_path / f"frame{index}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "._frame1.png").write_bytes(b"left by another system")
    source = read_frames(tmp_path)
    assert source.length == 4
    assert source.names == ["frame1", "frame2", "frame10", "frame100"]
    assert [int(frame[0, 0, 0]) for frame in source] == [1, 2, 10, 100]
    assert [int(frame[0, 0, 0]) for frame in source.backwards(3)] == [10, 2, 1]
    assert [int(frame[0, 0, 0]) for frame in read_frames(str(tmp_path / "frame1*.png"))] == [1, 10, 100]


def test_a_name_that_looks_like_a_glob_but_exists_is_taken_literally(tmp_path: Path) -> None:
    path = tmp_path / "shot[1].png"
    Image.fromarray(picture(0)).save(path)
    (frame,) = read_frames(str(path))
    assert np.array_equal(frame.permute(1, 2, 0), picture(0))


def test_a_list_may_mix_paths_arrays_pictures_and_tensors(tmp_path: Path) -> None:
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    tensor = torch.from_numpy(picture(3)).permute(2, 0, 1)
    items = [tmp_path / "a.png", str(tmp_path / "a.png"), picture(1), Image.fromarray(picture(2)), tensor, tensor / 255]
    found = list(read_frames(items))
    for frame, index in zip(found[:5], [0, 0, 1, 2, 3], strict=True):
        assert torch.equal(frame, torch.from_numpy(picture(index)).permute(2, 0, 1))
    assert torch.allclose(found[5] * 255, tensor.float(), atol=1e-4)


def test_pictures_of_one_name_in_several_folders_are_numbered(tmp_path: Path) -> None:
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
        Image.fromarray(picture(0)).save(tmp_path / name / "a.png")
    source = read_frames([tmp_path / "left" / "a.png", tmp_path / "right" / "a.png"])
    assert source.names is None
    assert [source.name(index) for index in range(2)] == ["00000", "00001"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_and_tensors_of_frames(dtype: Any) -> None:
    stack = np.stack([picture(index) for index in range(3)])
    expected = torch.from_numpy(stack).permute(0, 3, 1, 2)
    for source in (stack, expected):
        assert torch.equal(torch.stack(list(read_frames(source))), expected)
    floats = (stack / 255).astype(dtype)
    for source in (floats, torch.from_numpy(floats).permute(0, 3, 1, 2)):
        frames = torch.stack(list(read_frames(source)))
        assert frames.dtype == torch.float32
        assert torch.allclose(frames * 255, expected.float(), atol=0.2)


def test_an_array_read_backwards_or_read_only_or_reversed_in_its_channels() -> None:
    stack = np.stack([picture(index) for index in range(3)])
    stack.flags.writeable = False
    reversed_channels = list(read_frames(stack[..., ::-1]))
    assert np.array_equal(reversed_channels[1].permute(1, 2, 0), stack[1][..., ::-1])
    assert np.array_equal(next(iter(read_frames(stack[::-1, ::-1]))).permute(1, 2, 0), stack[2][::-1])
    assert np.array_equal(next(read_frames(stack).backwards(2)).permute(1, 2, 0), stack[1])


def test_a_frame_is_not_changed_by_a_source_that_uses_its_buffer_again() -> None:
    buffer = np.zeros((4, 6, 3), np.uint8)

    def camera() -> Iterator[Picture]:
        for index in range(3):
            buffer[:] = index
            yield buffer

    assert [int(frame.max()) for frame in list(read_frames(camera()))] == [0, 1, 2]


def test_a_generator_is_not_consumed_ahead_of_need() -> None:
    made = []

    def generate() -> Iterator[Picture]:
        for index in range(10):
            made.append(index)
            yield picture(index)

    frames = iter(read_frames(generate()))
    assert made == []
    for expected in (1, 2, 3):
        next(frames)
        assert len(made) == expected


def test_a_generator_cannot_be_read_backwards() -> None:
    with pytest.raises(ValueError, match=r"forwards only.*pass a file, a folder, a list or an array"):
        read_frames(iter([picture(0)])).backwards(1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_respected(tmp_path: Path, orientation: int) -> None:
    upright = picture(0)
    stored = {  # what a camera stores so that a viewer that follows the EXIF standard shows `upright`
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.jpg"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, quality=98, subsampling=0, exif=exif)
    (frame,) = read_frames(path)
    assert frame.shape == (3, HEIGHT, WIDTH)
    assert distance(frame.permute(1, 2, 0), upright) < 3


def test_grey_indexed_and_transparent_pictures_become_rgb(tmp_path: Path) -> None:
    indexed = Image.new("P", (6, 4), 1)
    indexed.putpalette([0, 0, 0, 10, 20, 30])
    indexed.info["transparency"] = b"\x00\x80"
    indexed.save(tmp_path / "indexed.png")
    transparent = Image.new("RGBA", (6, 4), (10, 20, 30, 40))
    for item in (tmp_path / "indexed.png", transparent):
        assert as_frame(item)[:, 0, 0].tolist() == [10, 20, 30]
    assert as_frame(Image.new("L", (6, 4), 7))[:, 0, 0].tolist() == [7, 7, 7]


# ---------------------------------------------------------------------------------------------------------- bad sources


def test_missing_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such video file or folder of images: .*absent\.mp4"):
        read_frames(tmp_path / "absent.mp4")
    with pytest.raises(FileNotFoundError, match=r"no file matches .*\*\.jpg"):
        read_frames(str(tmp_path / "*.jpg"))
    with pytest.raises(FileNotFoundError, match=r"no such picture: .*absent\.png"):
        list(read_frames([tmp_path / "absent.png"]))


def test_an_empty_folder_says_which_pictures_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"holds no images \(.*\.jpg.*\.png"):
        read_frames(tmp_path)


@pytest.mark.parametrize("content", [b"this is text, not a video\n" * 50, b""])
def test_a_file_that_is_no_video_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"notes\.mp4 cannot be read as a video: .*; expected a complete video file"):
        read_frames(path)


def test_a_file_with_sound_only_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match=r"sound\.mp4 has no video stream"):
        read_frames(path)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("share", [0.0, 0.5], ids=["between two packets", "inside a packet"])
@pytest.mark.parametrize("position", range(28, 34))
def test_a_cut_video_gives_its_frames_and_then_one_error(tmp_path: Path, codec: str, share: float, position: int) -> None:
    path = index_first(tmp_path / "whole.mp4", 40, codec)
    start, size = packets(path)[position]
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(path.read_bytes()[: start + int(size * share)])
    found, message = read_until_damage(cut)
    assert position - 5 <= len(found) <= position  # B frames of the damaged group may be missing
    assert_first_pictures(found)
    assert f"cut.mp4 is damaged: frame {len(found)} cannot be decoded (the file ends too early)" in message


def test_a_cut_video_without_reordered_frames_loses_none_before_the_cut(tmp_path: Path) -> None:
    path = write(
        tmp_path / "whole.mp4", [picture(i) for i in range(30)], options={"bf": "0"}, container={"movflags": "faststart"}
    )
    for share in (0.0, 0.5):
        start, size = packets(path)[20]
        cut = tmp_path / "cut.mp4"
        cut.write_bytes(path.read_bytes()[: start + int(size * share)])
        found, message = read_until_damage(cut)
        assert len(found) == 20
        assert_first_pictures(found)
        assert "frame 20 cannot be decoded" in message


def test_a_cut_fragmented_video_is_noticed(tmp_path: Path) -> None:
    container = {"movflags": "frag_keyframe+empty_moov"}
    path = write(tmp_path / "whole.mp4", [picture(i) for i in range(30)], options={"g": "10", "bf": "0"}, container=container)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(path.read_bytes()[: packets(path)[25][0]])
    found, message = read_until_damage(cut)
    assert len(found) == 25
    assert "frame 25 cannot be decoded" in message


def test_a_video_whose_index_is_cut_off_is_refused_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "whole.mp4", [picture(i) for i in range(20)])
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(path.read_bytes()[: packets(path)[15][0]])
    with pytest.raises(VideoError, match=r"cut\.mp4 cannot be read as a video"):
        read_frames(cut)


def test_an_edit_list_that_hides_frames_is_no_damage(tmp_path: Path) -> None:
    path = index_first(tmp_path / "whole.mp4", 40)
    data = bytearray(path.read_bytes())
    edit = data.index(b"elst") + 8
    count, duration, start = struct.unpack(">IIi", data[edit : edit + 12])
    assert count == 1
    with av.open(str(path)) as container:
        per_frame = int(Fraction(1, 25) / container.streams.video[0].time_base)
    data[edit + 4 : edit + 12] = struct.pack(">Ii", duration // 2, start + 5 * per_frame)
    trimmed = tmp_path / "trimmed.mp4"
    trimmed.write_bytes(data)
    found = pixels_of(read_frames(trimmed))
    assert 15 <= len(found) < 30
    for index, pixels in enumerate(found):
        assert distance(pixels, picture(index + 5)) < 6


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9"])
@pytest.mark.parametrize("position", [20, 39], ids=["middle", "last"])
def test_damage_inside_a_video_ends_it_with_one_error(tmp_path: Path, codec: str, position: int) -> None:
    path = tmp_path / ("whole.webm" if codec == "libvpx-vp9" else "whole.mp4")
    options = {"libx264": {"bf": "0"}, "libx265": {"x265-params": "log-level=none:bframes=0"}}
    write(path, [picture(i) for i in range(40)], codec, options=options.get(codec))
    data, (start, size) = bytearray(path.read_bytes()), packets(path)[position]
    begin = start + min(8, size // 3)
    data[begin : start + size] = np.random.default_rng(0).bytes(start + size - begin)
    path.write_bytes(data)
    found, message = read_until_damage(path)
    assert len(found) == position
    assert_first_pictures(found)
    assert f"frame {position} cannot be decoded" in message
    assert "copy the file again" in message


def test_a_clip_cut_from_a_longer_one_at_an_open_group_of_pictures_is_read(tmp_path: Path) -> None:
    options = {"x264-params": "keyint=10:min-keyint=10:open-gop=1:bframes=3"}
    path = write(tmp_path / "long.mp4", [picture(i) for i in range(40)], options=options)
    with av.open(str(path)) as source, av.open(str(tmp_path / "short.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        groups = 0
        for packet in source.demux(video=0):
            groups += packet.is_keyframe
            if packet.size and groups > 2:
                packet.stream = stream
                target.mux(packet)
    assert 15 <= len(list(read_frames(tmp_path / "short.mp4"))) <= 25


def test_pictures_of_different_sizes_are_named_with_both_sizes(tmp_path: Path) -> None:
    for name, size in (("a", (40, 30)), ("b", (40, 30)), ("c", (50, 20))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    frames = iter(read_frames(tmp_path))
    next(frames)
    next(frames)
    with pytest.raises(VideoError, match=r"frame c is 20 x 50 pixels but the frames before it are 30 x 40"):
        next(frames)


def test_a_corrupt_picture_is_named_after_the_sound_ones(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.fromarray(picture(0)).save(tmp_path / f"{name}.jpg")
    data = (tmp_path / "b.jpg").read_bytes()
    for broken in (data[: len(data) // 2], b"no picture at all"):
        (tmp_path / "b.jpg").write_bytes(broken)
        frames = iter(read_frames(tmp_path))
        next(frames)
        with pytest.raises(VideoError, match=r"b\.jpg cannot be read as a picture: "):
            next(frames)


def test_any_frame_becomes_the_same_picture(tmp_path: Path) -> None:
    pixels = picture(0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    floats = [tensor / 255, (tensor / 255).double(), pixels / 255, (tensor / 255).requires_grad_()]
    rounded = [((tensor + shift) / 255).clamp(0, 1) for shift in (-0.49, 0.49)]
    for frame in (pixels, tensor, Image.fromarray(pixels), tmp_path / "a.png", tensor.contiguous(), *floats, *rounded):
        found = as_picture(frame)
        assert found.dtype == np.uint8
        assert found.flags.c_contiguous
        assert np.array_equal(found, pixels)
    with pytest.raises(ValueError, match=r"frame 7 has shape \[5, 6, 4\]; expected \[H, W, 3\]"):
        as_picture(np.zeros((5, 6, 4), np.uint8), "frame 7")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((5, 6, 4), np.uint8), r"frame 0+ has shape \[5, 6, 4\]; expected \[H, W, 3\], RGB; drop the fourth channel"),
        (torch.zeros(4, 5, 6), r"shape \[4, 5, 6\]; expected \[3, H, W\], RGB; drop the fourth channel"),
        (np.zeros((3, 5, 6), np.uint8), r"shape \[3, 5, 6\]; expected \[H, W, 3\], RGB; move the channels: frame.transpose"),
        (torch.zeros(5, 6, 3), r"shape \[5, 6, 3\]; expected \[3, H, W\], RGB; move the channels: frame.permute"),
        (np.zeros(6, np.uint8), r"shape \[6\]; expected \[H, W, 3\], RGB, or grey \[H, W\], \[H, W, 1\]"),
        (torch.zeros(2, 5, 6), r"shape \[2, 5, 6\]; expected \[3, H, W\], RGB, or grey \[H, W\], \[1, H, W\]"),
        (np.zeros((0, 6, 3), np.uint8), r"shape \[0, 6, 3\]; expected"),
        (np.zeros((5, 6, 3), np.int16), r"holds torch.int16; expected uint8 in 0..255, uint16, or float in"),
        (torch.zeros(3, 5, 6, dtype=torch.int64), r"holds torch.int64; expected uint8"),
        (np.zeros((5, 6, 3), bool), r"holds bool; expected uint8"),
        (np.zeros((5, 6, 3), object), r"holds object; expected uint8"),
        (np.full((5, 6, 3), 255.0), r"holds floats from 255 to 255; expected \[0, 1\] \(or uint8 in 0..255\)"),
        (np.full((5, 6, 3), -0.1), r"holds floats from -0.1 to -0.1; expected \[0, 1\]"),
        (torch.full((3, 5, 6), torch.nan), r"holds floats from nan to nan; expected \[0, 1\]"),
        (Image.fromarray(np.full((5, 6), 40000, np.int32)), r"grey picture of 32 bits; expected 8 or 16 bits"),
        (Image.fromarray(np.full((5, 6), 40000, np.float32)), r"holds floats from 40000 to 40000; expected \[0, 1\]"),
        (17, r"frame 0+ is a int; expected a path, a PIL image, an array or a tensor"),
    ],
)
def test_frames_of_another_form_are_refused(frame: Any, message: str) -> None:
    for source in ([frame], iter([frame])):
        with pytest.raises(ValueError, match=message):
            list(read_frames(source))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((5, 6, 3), np.uint8), r"shape \[5, 6, 3\]; expected \[T, H, W, 3\]; put a single picture into a list"),
        (torch.zeros(3, 5, 6), r"shape \[3, 5, 6\]; expected \[T, 3, H, W\]; put a single picture into a list"),
        (Image.new("RGB", (6, 5)), r"one picture is no sequence of frames; pass a list"),
        (17, r"frames are a int; expected a path, an array, a tensor or an iterable of frames"),
        ([], r"holds no frames"),
        (iter([]), r"holds no frames"),
        (np.zeros((0, 5, 6, 3), np.uint8), r"holds no frames"),
    ],
)
def test_sources_that_are_no_sequence_are_refused(source: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(read_frames(source))
