"""Hostile files end in one clear error, soon, and without gigabytes."""

import json
import os
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from siammae import Geometry, load_model, save_model
from siammae.encoder import Encoder
from siammae.errors import VideoError, WeightsError
from siammae.files import read_tensors, save_tensors
from siammae.labels import as_mask, read_points
from siammae.training.data.clips import UnusableClip, VideoClip
from siammae.training.data.clips import read_image as read_training_image
from siammae.video import as_frame, images_in, read_frames, read_image


def png(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds one empty block."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def small_video(path: Path) -> Path:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mjpeg", rate=25, width=64, height=48, pix_fmt="yuvj420p")
        file.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        file.mux(stream.encode(None))
    return path


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 60_000])  # above PIL's limit, where it only warns; and above twice the limit
@pytest.mark.parametrize("read", [read_image, as_mask, as_frame])
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path, read: Any, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(side, side))
    with pytest.raises(VideoError, match=r"limit.*MAX_IMAGE_PIXELS"):
        read(path)
    with pytest.raises(UnusableClip, match="limit"):
        read_training_image(path.read_bytes())


def test_the_limit_of_pixels_holds_for_videos_and_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_video(tmp_path / "clip.avi")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48 - 1)
    with pytest.raises(VideoError, match=r"48 x 64 pixels.*MAX_IMAGE_PIXELS"):
        read_frames(path)
    with pytest.raises(UnusableClip, match="limit"):
        VideoClip(path.read_bytes())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48)
    assert next(iter(read_frames(path))).shape == (3, 48, 64)


@pytest.mark.parametrize("size", [(100_000, 1), (1, 100_000)])
def test_a_line_is_a_picture(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("L", size, 1).save(tmp_path / "line.png")
    assert as_mask(tmp_path / "line.png").size == size[::-1]
    assert as_frame(tmp_path / "line.png").shape == (3, *size[::-1])


@pytest.mark.parametrize("name", ["pipe.mp4", "pipe.png"])
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    for read in (read_frames, read_image, as_mask):
        with pytest.raises(VideoError, match="no regular file"):
            read(tmp_path / name)
    with pytest.raises(VideoError, match="no regular file"):
        read_frames("/dev/zero")


PLAYLISTS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nclip.avi\n", "ffconcat version 1.0\nfile clip.avi\n"


@pytest.mark.parametrize("text", PLAYLISTS)
def test_a_playlist_does_not_open_other_files(tmp_path: Path, text: str) -> None:
    small_video(tmp_path / "clip.avi")
    (tmp_path / "list.mp4").write_text(text)
    with pytest.raises(VideoError):
        list(read_frames(tmp_path / "list.mp4"))


def test_names_may_be_strange(tmp_path: Path) -> None:
    names = ["a².png", "a\n1.png", "a٣.png", "http:x.png", "\u202egnp.png"]
    for name in names:
        Image.new("L", (7, 5)).save(tmp_path / name, format="PNG")
    assert len(images_in(tmp_path)) == len(list(read_frames(tmp_path))) == len(names)
    for name in ("x" * 5000, "a\0b"):
        with pytest.raises(FileNotFoundError):
            read_frames(name)


def test_broken_and_looping_links_are_reported(tmp_path: Path) -> None:
    (tmp_path / "0.png").symlink_to("nowhere.png")
    with pytest.raises(FileNotFoundError, match=r"0\.png"):
        list(read_frames(tmp_path))
    (tmp_path / "0.png").unlink()
    (tmp_path / "0.png").symlink_to("0.png")
    with pytest.raises(VideoError, match=r"0\.png"):
        list(read_frames(tmp_path))


def test_a_stream_without_a_decoder_is_no_video(tmp_path: Path) -> None:
    path = small_video(tmp_path / "clip.avi")
    path.write_bytes(path.read_bytes().replace(b"MJPG", b"?!?!"))
    with pytest.raises(VideoError, match="video stream"):
        read_frames(path)


def test_a_bomb_of_text_in_a_png(tmp_path: Path) -> None:
    file = BytesIO(png(7, 5))
    text = b"key\0\0" + zlib.compress(bytes(80_000_000))
    content = file.getvalue()
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    (tmp_path / "text.png").write_bytes(content[:33] + chunk + content[33:])
    with pytest.raises(VideoError, match=r"text\.png"):
        read_image(tmp_path / "text.png")


def tensors(offsets: tuple[int, int], shape: list[int], length: int | None = None) -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": list(offsets)}}).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + bytes(8)


@pytest.mark.parametrize(
    "content",
    [b"", tensors((0, 8), [2], 1 << 60), tensors((0, 1 << 40), [1 << 38]), tensors((0, 8), [1 << 62, 4]), tensors((4, 8), [1])],
)
def test_lying_tensors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lie.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        read_tensors(tmp_path / "lie.safetensors")


@pytest.mark.parametrize("value", ["inf", "-inf", "1e300", "1e10"])
def test_points_lie_in_a_picture(tmp_path: Path, value: str) -> None:
    (tmp_path / "points.csv").write_text(f"x,y\n3,{value}\n")
    with pytest.raises(ValueError, match="pixels of the frame"):
        read_points(tmp_path / "points.csv")


@pytest.mark.parametrize("shape", [(1, 100_000), (100_000, 1)])
def test_a_frame_of_one_pixel_by_many_is_not_encoded_at_gigapixels(shape: tuple[int, int], encoder: Encoder) -> None:
    with pytest.raises(ValueError, match=r"more than the limit.*pass size=\(height, width\)"):
        Geometry.of(shape, encoder)
    assert Geometry.of(shape, encoder, (32, 64)).grid == (2, 4)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\udcff"])
def test_a_config_that_is_no_json_is_an_error_of_the_weights(tmp_path: Path, text: str, encoder: Encoder) -> None:
    folder = save_model(encoder, tmp_path / "model")
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(WeightsError, match="is not JSON"):
        load_model(str(folder))
    save_tensors(tmp_path / "lone.safetensors", {}, {"config": text.replace("\udcff", "?")})
    with pytest.raises(WeightsError, match="is not JSON"):
        load_model(str(tmp_path / "lone.safetensors"))


@pytest.mark.parametrize("change", [{"depth": 10**9}, {"depth": 900}, {"img_size": 9000}, {"num_heads": 5}, {"num_heads": 0}])
def test_a_config_of_another_model_than_the_weights_is_refused_before_memory_is_spent(
    tmp_path: Path, change: dict[str, int], encoder: Encoder
) -> None:
    folder = save_model(encoder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["model_args"] |= change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"no model that can be built|does not fit"):
        load_model(str(folder))
