"""The app's door: who is answered, and how mistakes are answered."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from siammae.encoder import Encoder
from siammae.video import write_video

pytest.importorskip("httpx")
starlette = pytest.importorskip("starlette.testclient")

OWN = {"X-Siammae": "1"}


@pytest.fixture
def client(colours: Encoder, tmp_path: Path) -> Iterator[Any]:
    from siammae.app.guard import allowed_hosts
    from siammae.app.server import build
    from siammae.app.sessions import Sessions

    (tmp_path / "uploads").mkdir()
    sessions = Sessions(tmp_path / "projects", colours, size=80)
    app = build(sessions, tmp_path, allowed_hosts("127.0.0.1", ["label.example.org"]))
    with starlette.TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client
    sessions.close_all()
    assert not list((tmp_path / "uploads").iterdir())


@pytest.fixture
def clip(texture: NDArray[np.uint8], tmp_path: Path) -> bytes:
    write_video(tmp_path / "clip.mp4", [texture[3 * i : 3 * i + 80, :112] for i in range(4)], 10)
    return (tmp_path / "clip.mp4").read_bytes()


def _upload(client: Any, data: bytes, name: str = "clip.mp4") -> Any:
    return client.post("/api/projects", content=data, headers={**OWN, "X-Name": name})


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:7860", 200),
        ("127.0.0.1", 200),
        ("[::1]:7860", 200),
        ("192.168.1.7:7860", 200),
        ("LOCALHOST.", 200),
        ("label.example.org", 200),
        ("evil.example.org", 403),
        ("localhost.evil.example.org", 403),
        ("127.0.0.1.evil.example.org", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_foreign_host_names_are_not_answered(client: Any, host: str, status: int) -> None:
    for path in ("/", "/api/about", "/static/app.js"):
        assert client.get(path, headers={"Host": host}).status_code == status


def test_changes_come_from_the_own_page_alone(client: Any, clip: bytes) -> None:
    post = {"content": clip}
    assert client.post("/api/projects", **post).status_code == 403
    assert client.post("/api/projects", **post, headers={**OWN, "Origin": "http://evil.example.org"}).status_code == 403
    assert client.post("/api/projects", **post, headers={**OWN, "Origin": "null"}).status_code == 403
    good = {**OWN, "X-Name": "clip.mp4", "Origin": "http://localhost"}
    assert client.post("/api/projects", **post, headers=good).status_code == 200


def test_mistakes_are_one_line_without_a_path(client: Any, clip: bytes, tmp_path: Path) -> None:
    opened = _upload(client, clip).json()
    at = f"/api/projects/{opened['id']}"
    assert (opened["frames"], opened["width"], opened["name"]) == (4, 112, "clip.mp4")

    def edit(**wish: Any) -> Any:
        return client.post(f"{at}/edit", json=wish, headers=OWN)

    draw = {"do": "draw", "frame": 0, "object": 1, "shape": "box", "path": [[1, 2], [9, 9]], "width": 1}
    assert edit(**draw).json()["touched"] == [0]
    wrong = [
        (_upload(client, clip, "clip.txt"), 400, "no video file of a known kind"),
        (_upload(client, clip[:200]), 400, "cannot be read as a video"),
        (_upload(client, b""), 400, "cannot be read as a video"),
        (_upload(client, clip, "..%2F..%2Fetc%2Fpasswd"), 400, "no video file of a known kind"),
        (client.get("/api/projects/0123456789abcdef"), 410, "was closed"),
        (client.get("/api/projects/..%2Fuploads"), 404, ""),
        (client.get(f"{at}/frames/4.jpg"), 400, "there is no frame 4"),
        (client.get(f"{at}/frames/99"), 400, "there is no frame 99"),
        (client.get(f"{at}/files/masks.zip"), 400, "there is no masks.zip yet"),
        (client.get(f"{at}/files/project.json"), 400, "there is no project.json"),
        (client.get(f"{at}/frames/0/nothing.png"), 400, "expected attention or features"),
        (client.post(f"{at}/edit", content=b"{", headers=OWN), 400, ""),
        (client.post(f"{at}/edit", content=b"[1]", headers=OWN), 400, "expected an object"),
        (edit(do="dance"), 400, "there is no change 'dance'"),
        (edit(do=["draw"]), 400, "there is no change"),
        (edit(do="draw"), 400, "missing or wrong entries: 'frame'"),
        (edit(**{**draw, "frame": 0.5}), 400, "expected a whole number"),
        (edit(**{**draw, "object": 65}), 400, "expected 1 to 64"),
        (edit(**{**draw, "path": "left"}), 400, "a stroke is a list"),
        (edit(**{**draw, "path": []}), 400, "a stroke is a list"),
        (edit(**{**draw, "shape": "star"}), 400, "there is no shape 'star'"),
        (edit(**{**draw, "width": "wide"}), 400, "expected a number"),
        (edit(do="trim", start=3, stop=3, step=1), 400, "expected a part of 0 to 3"),
        (edit(do="trim", start=0, stop=4, step=0), 400, "expected 1 to 4"),
        (edit(do="remove", object=7), 400, "there is no object 7"),
        (client.post(f"{at}/frames/0/mask", content=b"GIF89a", headers=OWN), 400, "the mask"),
    ]
    for answer, status, message in wrong:
        assert answer.status_code == status, answer.text
        assert message in answer.text
        assert str(tmp_path) not in answer.text
        assert "Traceback" not in answer.text
        if status != 404:
            assert "\n" not in answer.json()["error"]
    before = client.get(at).json()
    assert before["anchors"] == [0]
    assert client.delete(at, headers=OWN).status_code == 200
    assert client.get(at).status_code == 410


def test_a_propagation_is_followed_from_outside(client: Any, clip: bytes) -> None:
    at = f"/api/projects/{_upload(client, clip).json()['id']}"
    draw = {"do": "draw", "frame": 1, "object": 3, "shape": "box", "path": [[30, 20], [60, 45]], "width": 1}
    assert client.post(f"{at}/propagate", headers=OWN).json()["error"].startswith("nothing is labelled yet")
    client.post(f"{at}/edit", json=draw, headers=OWN)
    assert client.post(f"{at}/propagate", headers=OWN).json()["job"]["state"] in ("queued", "running", "done")
    for _ in range(1000):
        state = client.get(at).json()
        if state["job"]["state"] == "done":
            break
    assert (state["job"]["done"], state["job"]["total"], state["done"]) == (4, 4, [[0, 3]])
    assert state["objects"] == {"1": "Object 1", "3": "Object 3"}
    labels = client.get(f"{at}/frames/0").json()
    assert labels["mask"] is not None
    assert not labels["anchor"]
    assert list(labels["scores"]) == ["3"]
    assert client.get(f"{at}/frames/0.jpg").content[:2] == b"\xff\xd8"
    assert client.get(f"{at}/files/masks.csv").text.startswith("frame,object,area")
    assert json.loads(client.get("/api/about").text)["projects"] == []
