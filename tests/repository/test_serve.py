"""examples/service/serve.py, driven as its clients would: upload, mark, propagate, and every refusal."""

import base64
import importlib.util
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import siammae
from siammae.evaluation.metrics import region_similarity
from siammae.synthetic import Clip, render_clip
from siammae.video import write_video

pytest.importorskip("fastapi", reason="serve.py needs pip install fastapi uvicorn python-multipart")
testclient = pytest.importorskip("fastapi.testclient")

SIZE = 120


@pytest.fixture(scope="module")
def serve() -> ModuleType:
    spec = importlib.util.spec_from_file_location("serve", Path(__file__).parents[2] / "examples" / "service" / "serve.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def clip() -> Clip:
    return render_clip(5)


@pytest.fixture(scope="module")
def film(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("film") / "pond.mp4"
    write_video(path, clip.frames, 25)
    return path.read_bytes()


@pytest.fixture
def client(serve: ModuleType) -> Iterator[Any]:
    with testclient.TestClient(serve.create_app(size=SIZE, most_bytes=2_000_000, most_videos=2)) as client:
        yield client


def upload(client: Any, data: bytes, name: str = "pond.mp4") -> Any:
    return client.post("/videos", files={"file": (name, data)})


def box_of(mask: NDArray[np.bool_]) -> list[int]:
    rows, columns = np.nonzero(mask)
    return [int(value) for value in (columns.min(), rows.min(), columns.max(), rows.max())]


def test_a_video_is_uploaded_marked_and_propagated(client: Any, clip: Clip, film: bytes) -> None:
    sent = upload(client, film)
    assert sent.status_code == 201
    video = sent.json()
    assert (video["height"], video["width"], video["fps"]) == (*clip.masks.shape[1:], 25)

    left, top, right, bottom = box = box_of(clip.masks[0] == 1)
    marked = client.post(f"/videos/{video['id']}/mask", json={"box": box})
    assert marked.headers["content-type"] == "image/png"
    mask = np.array(Image.open(BytesIO(marked.content)))
    assert mask.any()
    assert not np.delete(mask, np.s_[top : bottom + 1], axis=0).any()
    assert not np.delete(mask, np.s_[left : right + 1], axis=1).any()

    with client.stream("POST", f"/videos/{video['id']}/propagate") as stream:
        assert stream.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in stream.iter_lines()]
    assert [line["frame"] for line in lines] == [0, 1, 2, 3, 4]
    masks = [np.array(Image.open(BytesIO(base64.b64decode(line["png"])))) for line in lines]
    np.testing.assert_array_equal(masks[0], mask)
    assert region_similarity(mask == 1, masks[4] == 1) > 0.5  # the object moves a little
    assert [[each["id"] for each in line["objects"]] for line in lines] == [[1]] * 5
    assert lines[0]["objects"][0] == {"id": 1, "score": 1.0, "lost": False}


def test_the_stream_is_what_the_library_gives(client: Any, clip: Clip, film: bytes, tmp_path: Path) -> None:
    (tmp_path / "pond.mp4").write_bytes(film)
    key = upload(client, film).json()["id"]
    marked = client.post(f"/videos/{key}/mask", json={"frame": 3, "points": [[280, 120]], "labels": [1]})
    mask = np.array(Image.open(BytesIO(marked.content)))
    frames = siammae.read_frames(tmp_path / "pond.mp4")
    np.testing.assert_array_equal(mask, siammae.segment(frames[3], points=[[280, 120]], model="vitt8d6", size=SIZE))
    lines = [json.loads(line) for line in client.post(f"/videos/{key}/propagate").text.splitlines()]
    assert [line["frame"] for line in lines] == [3, 4]
    expected = siammae.propagate_labels(frames[3:], mask, "vitt8d6", size=SIZE)
    for line, ids in zip(lines, expected, strict=True):
        np.testing.assert_array_equal(np.array(Image.open(BytesIO(base64.b64decode(line["png"])))), ids)


def test_mistakes_are_answered(client: Any, film: bytes) -> None:
    assert client.post("/videos/none/propagate").status_code == 404
    refused = upload(client, b"no video at all")
    assert refused.status_code == 422
    assert "cannot be read as a video" in refused.json()["detail"]
    large = upload(client, film + bytes(2_000_000))
    assert large.status_code == 413
    key = upload(client, film).json()["id"]
    assert client.post(f"/videos/{key}/propagate").status_code == 409
    for prompt in ({}, {"box": [900, 900, 950, 950]}, {"frame": 99, "box": [0, 0, 20, 20]}, {"frame": -1}, {"box": [1, 2]}):
        answer = client.post(f"/videos/{key}/mask", json=prompt)
        assert answer.status_code == 422, prompt
        assert answer.json()["detail"]


def test_old_videos_make_room_and_all_are_removed_at_the_end(serve: ModuleType, film: bytes) -> None:
    app = serve.create_app(size=SIZE, most_videos=2)
    with testclient.TestClient(app) as client:
        keys = [upload(client, film).json()["id"] for _ in range(3)]
        codes = [client.post(f"/videos/{key}/mask", json={"box": [70, 60, 160, 150]}).status_code for key in keys]
        assert codes == [404, 200, 200]
        upload(client, film, "../../../escaped.mp4")
    assert not list(Path(serve.tempfile.gettempdir()).glob(f"siammae-serve-*/{keys[2]}*"))
    assert not Path(serve.tempfile.gettempdir(), "escaped.mp4").exists()
