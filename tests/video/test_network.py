"""Frames over the network, from servers on this machine: RTSP, the web, plain connections; and what goes wrong there."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from siammae import LabelPropagator, VideoError, read_frames
from siammae.video import network, write_video


def film(path: Path) -> Path:
    """A transport stream or MP4 of 8 frames that brighten."""
    levels = np.linspace(40, 200, 8).astype(np.uint8)
    frames = np.broadcast_to(levels[:, None, None, None], (8, 48, 64, 3))
    write_video(path.with_suffix(".mp4"), frames, 25)
    if path.suffix == ".ts":
        with av.open(str(path.with_suffix(".mp4"))) as source, av.open(str(path), "w", format="mpegts") as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
    return path


@contextmanager
def serving(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server on this machine that talks to one client; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                talk(client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)
        assert not thread.is_alive()


def rtsp(data: bytes, seen: list[str], client: socket.socket) -> None:
    """RFC 2326, as much as a camera needs: OPTIONS, DESCRIBE, SETUP, PLAY, then a transport stream in RTP over the same TCP."""
    text = ""
    while "PLAY" not in text:
        text = ""
        while not text.endswith("\r\n\r\n"):
            received = client.recv(4096)
            if not received:
                return
            text += received.decode()
        seen.append(text.split("\r\n")[0])
        number = next(line for line in text.split("\r\n") if line.startswith("CSeq"))
        body, extra = "", ""
        if text.startswith("DESCRIBE"):
            body = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track1\r\n"
            extra = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        if text.startswith("SETUP"):
            extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
        client.sendall(f"RTSP/1.0 200 OK\r\n{number}\r\nSession: 1\r\n{extra}\r\n{body}".encode())
    for count, begin in enumerate(range(0, len(data), 7 * 188)):
        packet = struct.pack(">BBHII", 0x80, 33, count, count * 3600, 1) + data[begin : begin + 7 * 188]
        client.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)


def test_an_rtsp_camera_is_read(tmp_path: Path) -> None:
    path, seen = film(tmp_path / "film.ts"), []
    with serving(partial(rtsp, path.read_bytes(), seen)) as port:
        frames = read_frames(f"rtsp://guest:secret@127.0.0.1:{port}/live", allow_network=True)
        pictures = list(frames)
    assert frames.label == f"rtsp://127.0.0.1:{port}/live"
    assert frames.length is None
    assert [line.split()[0] for line in seen[:4]] == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"]
    expected = list(read_frames(path))
    assert len(pictures) >= 7  # the end of a live stream is not announced: its last packet may wait for another
    places = [next(i for i, frame in enumerate(expected) if torch.equal(frame, picture)) for picture in pictures]
    assert places == sorted(set(places))


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_video_behind_a_web_address_is_read(tmp_path: Path, web: str) -> None:
    path = film(tmp_path / "film.mp4")
    frames = read_frames(f"{web}/film.mp4", allow_network=True)
    assert frames.fps == 25
    assert all(torch.equal(one, other) for one, other in zip(frames, read_frames(path), strict=True))
    with pytest.raises(ValueError, match="can be read forwards only, and once"):
        frames[0]


def test_a_stream_feeds_a_propagator(tmp_path: Path, web: str, encoder: Any) -> None:
    film(tmp_path / "film.mp4")
    frames = iter(read_frames(f"{web}/film.mp4", allow_network=True))
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 10:40] = 1
    propagator = LabelPropagator(next(frames), mask, encoder, size=48)
    assert [propagator.step(frame).shape for frame in frames] == [(48, 64)] * 7


def test_a_playlist_opens_no_file_of_this_machine(tmp_path: Path, web: str) -> None:
    path = film(tmp_path / "film.ts")
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
    (tmp_path / "own.m3u8").write_text(playlist.format("film.ts"))
    (tmp_path / "stolen.m3u8").write_text(playlist.format(f"file://{path}"))
    assert len(list(read_frames(f"{web}/own.m3u8", allow_network=True))) == 8
    with pytest.raises(VideoError):
        list(read_frames(f"{web}/stolen.m3u8", allow_network=True))


def test_addresses_are_refused_unless_they_are_allowed(tmp_path: Path) -> None:
    for address in ("rtsp://127.0.0.1/live", "https://127.0.0.1/film.mp4"):
        with pytest.raises(VideoError, match=r"is an address, but only files .* read_frames\(ADDRESS, allow_network=True\)"):
            read_frames(address)
    for address in ("file:///etc/passwd", "concat://a", "ftp://127.0.0.1/film.mp4"):
        with pytest.raises(VideoError, match="is an address"):
            read_frames(address, allow_network=True)
    with pytest.raises(FileNotFoundError, match=r"no such video file or folder of images: film\.mp4"):
        read_frames("film.mp4", allow_network=True)
    with pytest.raises(ValueError, match=r"on_damage is 'skip', but rtsp://127\.0\.0\.1/live is a stream"):
        read_frames("rtsp://127.0.0.1/live", allow_network=True, on_damage="skip")


def test_a_file_is_read_as_ever_when_the_network_is_allowed(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4")
    assert len(read_frames(str(path), allow_network=True)) == 8


def test_who_does_not_answer_is_named_without_the_password(monkeypatch: pytest.MonkeyPatch, web: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(VideoError, match=rf"^rtsp://127.0.0.1:{port}/live cannot be read: .*; expected the address") as refused:
        read_frames(f"rtsp://guest:secret@127.0.0.1:{port}/live", allow_network=True)
    assert "secret" not in str(refused.value)
    with pytest.raises(VideoError, match="cannot be read"):
        read_frames(f"{web}/nothing.mp4", allow_network=True)
    monkeypatch.setattr(network, "PATIENCE", 0.3)
    done = threading.Event()
    with serving(lambda client: done.wait(20) and None) as port:
        with pytest.raises(VideoError, match=r"no data for 0\.3 seconds"):
            read_frames(f"tcp://127.0.0.1:{port}", allow_network=True)
        done.set()


def test_a_stream_that_stalls_gives_its_frames_and_then_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "film.ts")
    monkeypatch.setattr(network, "PATIENCE", 1.0)
    done = threading.Event()

    def talk(client: socket.socket) -> None:
        client.sendall(path.read_bytes())
        done.wait(20)

    with serving(talk) as port:
        frames, read = iter(read_frames(f"tcp://127.0.0.1:{port}", allow_network=True)), []
        with pytest.raises(VideoError, match=r"broke off after \d+ frames: no data for 1 seconds; open it again"):
            read.extend(frames)
        done.set()
    assert len(read) >= 4
