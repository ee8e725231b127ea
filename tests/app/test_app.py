"""The session behind the app: what a person does with it, without a browser."""

import csv
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from siammae.app.cached import CachedEncoder
from siammae.app.downloads import downloads, export, formats
from siammae.app.insight import attention, feature_colors
from siammae.app.project import Project
from siammae.app.session import Session
from siammae.app.sessions import Sessions
from siammae.encoder import Encoder
from siammae.models.build import build_encoder
from siammae.prompts import segment
from siammae.propagation import LabelPropagator, propagate_keypoints, propagate_labels, propagate_to_folder
from siammae.video import read_frames, write_video

NUM_FRAMES = 6


def open_session(clip: Path, folder: Path, encoder: Encoder) -> Session:
    Project.create(clip, folder)
    return Session(folder, encoder, size=80)


@pytest.fixture
def clip(texture: NDArray[np.uint8], tmp_path: Path) -> Path:
    """A window of 80 x 112 pixels that moves over the texture."""
    frames = [texture[3 * index : 3 * index + 80, 4 * index : 4 * index + 112] for index in range(NUM_FRAMES)]
    write_video(tmp_path / "clip.mp4", frames, 10)
    return tmp_path / "clip.mp4"


@pytest.fixture
def session(clip: Path, colours: Encoder, tmp_path: Path) -> Session:
    return open_session(clip, tmp_path / "project", colours)


def _masks(session: Session) -> NDArray[np.uint8]:
    return np.stack([session.mask(index) for index in range(NUM_FRAMES)])


def test_a_middle_frame_runs_both_ways_and_a_correction_goes_on_from_there(session: Session, clip: Path) -> None:
    session.draw(2, "box", [(30, 20), (61, 45)], 1, 1)
    assert list(session.propagate()) == [2, 3, 4, 5, 1, 0]
    expected = propagate_labels(clip, session.mask(2), session.encoder, size=80, start=2, progress=False)
    assert np.array_equal(_masks(session), expected)

    before = _masks(session)
    session.draw(4, "brush", [(90, 10), (95, 30)], 2, 9)
    assert list(session.propagate()) == [4, 5]
    assert np.array_equal(_masks(session)[:4], before[:4])
    frames = list(read_frames(clip))
    propagator = LabelPropagator(frames[2], before[2], session.encoder, size=80)
    propagator.add(frames[4], session.mask(4))
    assert np.array_equal(session.mask(5), propagator.step(frames[5]))
    session.discard(4)
    list(session.propagate())
    assert np.array_equal(_masks(session), before)


def test_a_stopped_run_keeps_what_is_done_and_goes_on(session: Session, clip: Path) -> None:
    session.draw(0, "box", [(30, 20), (60, 45)], 1, 1)
    done = []
    for index in session.propagate():
        done.append(index)
        if index == 2:
            break
    assert done == [0, 1, 2]
    assert session.mask(2).any()
    assert not session.mask(3).any()
    assert list(session.propagate()) == [3, 4, 5]
    expected = propagate_labels(clip, session.mask(0), session.encoder, size=80, progress=False)
    assert np.array_equal(_masks(session), expected)
    assert list(session.propagate()) == []


def test_strokes_are_undone_and_erased(session: Session) -> None:
    session.draw(0, "box", [(60, 45), (30, 20)], 3, 1)
    assert np.count_nonzero(session.mask(0) == 3) == 31 * 26
    session.draw(0, "eraser", [(30, 20)], 3, 20)
    assert np.count_nonzero(session.mask(0)) < 31 * 26
    session.undo()
    assert np.count_nonzero(session.mask(0)) == 31 * 26
    session.discard(0)
    with pytest.raises(ValueError, match="nothing is labelled yet in the chosen frames: mark"):
        next(session.propagate())


def test_points_restart_where_they_were_corrected(session: Session, clip: Path) -> None:
    session.place_point(0, 2, (60, 40))
    assert list(session.propagate()) == list(range(NUM_FRAMES))
    points, scores = propagate_keypoints(clip, [(np.nan, np.nan), (60, 40)], session.encoder, size=80, progress=False)
    before = session.results.tracks[3]
    assert np.array_equal(before[0], points[3], equal_nan=True)
    assert np.array_equal(before[1], scores[3])
    session.place_point(4, 2, (20, 20))
    list(session.propagate())
    assert session.results.tracks[4][0][1].tolist() == [20, 20]
    assert np.array_equal(session.results.tracks[3][0], before[0], equal_nan=True)
    later, _ = propagate_keypoints(list(read_frames(clip))[4:], session.points(4), session.encoder, size=80, progress=False)
    assert np.array_equal(session.results.tracks[5][0], later[1], equal_nan=True)


def test_results_become_files(session: Session) -> None:
    session.draw(0, "box", [(30, 20), (60, 45)], 1, 1)
    session.place_point(0, 1, (40, 30))
    assert sorted(session.propagate()) == sorted(2 * list(range(NUM_FRAMES)))
    assert downloads(session) == ["masks.zip", "masks.csv", "points.csv", "overlay.mp4"]
    paths = {name: export(session, name) for name in downloads(session)}
    with zipfile.ZipFile(paths["masks.zip"]) as archive:
        assert archive.namelist() == [*(f"{index:05d}.png" for index in range(NUM_FRAMES)), "scores.csv"]
        picture = Image.open(archive.open("00003.png"))
        assert picture.mode == "P"
        assert np.array_equal(np.array(picture), session.mask(3))
    with open(paths["masks.csv"], newline="") as file:
        row = next(csv.DictReader(file))
    assert list(row.values()) == ["0", "1", str(31 * 26), "30", "20", "61", "46", "Object 1"]
    assert len(list(read_frames(paths["overlay.mp4"]))) == NUM_FRAMES


def test_a_step_is_timed_before_the_propagation(session: Session) -> None:
    assert session.estimate() == {"frames": NUM_FRAMES, "seconds": None}
    session.prepare(0)
    seconds = session.estimate()["seconds"]
    assert seconds > 0
    session.set_trim(0, NUM_FRAMES, 2)
    assert session.estimate() == {"frames": NUM_FRAMES // 2, "seconds": pytest.approx(seconds / 2, abs=0.1)}
    assert not session.labels.frames("mask")
    assert not session.results.masks


def test_scores_are_those_of_the_command(session: Session, clip: Path, tmp_path: Path) -> None:
    session.draw(0, "box", [(30, 20), (60, 45)], 1, 1)
    session.draw(0, "box", [(70, 30), (100, 60)], 5, 1)
    list(session.propagate())
    session.draw(4, "box", [(80, 5), (100, 25)], 2, 1)
    list(session.propagate())
    folder = propagate_to_folder(
        clip, {index: session.mask(index) for index in (0, 4)}, tmp_path / "masks", session.encoder, size=80, progress=False
    )
    with zipfile.ZipFile(export(session, "masks.zip")) as archive:
        assert archive.read("scores.csv").decode() == (folder / "scores.csv").read_text()
    assert not list(session.folder.glob(".export-*"))


def test_results_become_files_of_other_tools(session: Session) -> None:
    assert formats(session) == []
    session.draw(0, "box", [(30, 20), (60, 45)], 1, 1)
    session.name_object(1, "fish")
    session.set_trim(0, NUM_FRAMES, 2)
    list(session.propagate())
    contents = {}
    for name in formats(session):
        if name.endswith(".zip") and (name != "coco.zip" or find_spec("pycocotools")):
            with zipfile.ZipFile(export(session, name)) as archive:
                contents[name] = archive.namelist()
                pictures = [entry for entry in archive.namelist() if entry.endswith(".jpg")]
                assert len(pictures) == 3, name
                assert Image.open(archive.open(pictures[0])).size == (112, 80)
                if name == "yolo.zip":
                    assert "fish" in archive.read("clip/data.yaml").decode()
    assert "clip/annotations.xml" in contents["cvat.zip"]
    assert "clip/gt/gt.txt" in contents["mot.zip"]
    with av.open(str(export(session, "cut-out.webm"))) as container:
        assert container.streams.video[0].metadata.get("alpha_mode") == "1"
        assert len(list(container.decode(video=0))) == 3
    assert not list(session.folder.glob(".export-*"))
    with pytest.raises(ValueError, match=r"there is no gif\.zip yet"):
        export(session, "gif.zip")


def test_a_missing_package_is_named(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    session.draw(0, "box", [(30, 20), (60, 45)], 1, 1)
    list(session.propagate())
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(ValueError, match=r"coco\.zip cannot be made: .*pycocotools"):
        export(session, "coco.zip")


@pytest.fixture
def scene(encoder: Encoder, tmp_path: Path) -> Session:
    """A session whose frames are red, with a green block of 40 x 32 pixels and a blue one of 16 x 16."""
    picture = np.full((80, 112, 3), (200, 30, 30), np.uint8)
    picture[24:56, 32:72], picture[8:24, 88:104] = (30, 200, 30), (30, 30, 200)
    write_video(tmp_path / "scene.mp4", [picture] * 2, 10)
    return open_session(tmp_path / "scene.mp4", tmp_path / "scene", encoder)


def _overlap(mask: NDArray[np.bool_], rows: slice, columns: slice) -> float:
    truth = np.zeros_like(mask)
    truth[rows, columns] = True
    return float((mask & truth).sum() / (mask | truth).sum())


def test_a_box_is_fitted_and_clicks_correct_it(scene: Session) -> None:
    change = scene.fit_box(0, [(76, 60), (24, 16)], 2)
    assert {key[0] for key in change} == {"mask", "objects", "prompts"}
    fitted = scene.mask(0) == 2
    expected = segment(scene.frames()[0], box=(24, 16, 76, 60), model=scene.encoder, size=80)
    assert np.array_equal(fitted, expected == 1)
    assert _overlap(fitted, slice(24, 56), slice(32, 72)) > 0.8

    scene.fit_click(0, (28, 20), 2, plus=False)
    clicks = {2: [(28, 20)]}
    again = segment(scene.frames()[0], box={2: (24, 16, 76, 60)}, points=clicks, labels={2: [0]}, model=scene.encoder, size=80)
    assert np.array_equal(scene.mask(0), again)
    assert scene.labels.get("prompts", 0)[2]["clicks"] == [[28, 20, 0]]
    scene.undo()
    assert np.array_equal(scene.mask(0) == 2, fitted)
    assert scene.labels.get("prompts", 0)[2]["clicks"] == []
    scene.undo()
    assert not scene.mask(0).any()
    assert scene.labels.get("prompts", 0) is None


def test_a_click_outside_the_box_adds_to_the_mask(scene: Session) -> None:
    scene.fit_box(0, [(24, 16), (52, 60)], 2)
    half = scene.mask(0) == 2
    assert not half[:, 53:].any()
    scene.fit_click(0, (62, 40), 2, plus=True)
    assert scene.labels.get("prompts", 0)[2] == {"box": None, "clicks": [[62, 40, 1]], "base": True}
    whole = scene.mask(0) == 2
    assert whole[40, 62]
    assert whole[half].mean() > 0.9


def test_a_fitted_object_leaves_the_others_and_strokes_end_its_prompts(scene: Session) -> None:
    scene.draw(0, "box", [(32, 24), (51, 55)], 1, 1)
    first = scene.mask(0) == 1
    scene.fit_box(0, [(24, 16), (76, 60)], 2)
    assert np.array_equal(scene.mask(0) == 1, first)
    assert (scene.mask(0) == 2).any()
    with pytest.raises(ValueError, match="Object 1 is there already: choose it in the list, or erase it first"):
        scene.fit_click(0, (40, 40), 2, plus=True)
    scene.draw(0, "eraser", [(70, 30)], 2, 3)
    assert scene.labels.get("prompts", 0) is None
    scene.fit_click(0, (60, 40), 2, plus=True)
    assert scene.labels.get("prompts", 0)[2]["base"]


def test_a_click_beside_nothing_and_a_box_without_area_are_refused(scene: Session) -> None:
    with pytest.raises(
        ValueError, match="there is nothing to take away from yet: drag a box around the object, or click on it"
    ):
        scene.fit_click(0, (40, 40), 1, plus=False)
    with pytest.raises(ValueError, match="has no area"):
        scene.fit_box(0, [(10, 10), (10, 10)], 1)
    with pytest.raises(ValueError, match="there is no frame 2"):
        scene.fit_box(2, [(10, 10), (40, 40)], 1)
    with pytest.raises(ValueError, match="object 65: expected 1 to 64"):
        scene.fit_box(0, [(10, 10), (40, 40)], 65)
    assert not scene.labels.frames("mask")
    assert scene.labels.undoable == 0


def test_prompts_are_kept_with_the_project(scene: Session) -> None:
    scene.fit_box(0, [(24, 16), (76, 60)], 2)
    again = Session(scene.folder, scene.encoder, size=80)
    assert again.labels.get("prompts", 0) == {2: {"box": [24, 16, 76, 60], "clicks": [], "base": False}}
    scene.remove_object(2)
    assert scene.labels.get("prompts", 0) is None


def test_views_of_the_features(session: Session, encoder: Encoder) -> None:
    session.encoder = encoder
    assert attention(session, 1).shape == (2 * 80 + 4, 2 * 112 + 4, 3)
    assert feature_colors(session, 1).shape == (80, 112, 3)


def test_frames_are_encoded_before_they_are_asked_for(clip: Path, tmp_path: Path) -> None:
    encoder = build_encoder("vit_tiny_patch16_224", {"depth": 1}, name="tiny").eval()
    encoded = []
    encoder.vit.patch_embed.register_forward_hook(lambda *_: encoded.append(1))
    session = open_session(clip, tmp_path / "project", CachedEncoder(encoder))
    session.prepare(0)
    assert len(encoded) == 2
    session.fit_click(0, (45, 30), 1, plus=True)
    session.undo()
    assert len(encoded) == 2
    for _ in range(2):
        session.fit_box(0, [(30, 20), (60, 45)], 1)
        session.undo()
        assert len(encoded) == 3  # a box of few cells is encoded closely, once
    session.draw(0, "box", [(30, 20), (60, 45)], 1, 1)
    run = session.propagate()
    assert [next(run), next(run)] == [0, 1]
    assert len(encoded) == 3
    assert next(run) == 2
    assert len(encoded) == 4


def test_hostile_files_are_refused(clip: Path, colours: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{clip}\n#EXT-X-ENDLIST\n")
    link = tmp_path / "link.mp4"
    link.symlink_to(clip)
    strip = tmp_path / "strip.gif"
    Image.new("L", (4000, 20)).save(strip)
    sessions = Sessions(tmp_path / "projects", colours, size=80)
    for path, message in (
        (playlist, "cannot be read as a video"),
        (link, "no video file of a known kind"),
        (strip, "frames are 4000 x 20 pixels"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            sessions.create(path)
        assert str(tmp_path) not in str(caught.value)
    for limit, value, message in (
        ("MAX_FRAMES", 5, "more than 5 frames"),
        ("MAX_PIXELS", 99, "up to 99 pixels"),
        ("MAX_BYTES", 99, "the file has"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"siammae.app.upload.{limit}", value)
            with pytest.raises(ValueError, match=message):
                sessions.create(clip)
    assert not list(sessions.root.glob("*"))


def test_closing_removes_everything(session: Session, clip: Path) -> None:
    session.close()
    assert not session.folder.exists()
    assert clip.exists()


def test_nonsense_from_the_browser_is_refused(session: Session) -> None:
    for path in ([], [(1, 2, 3)], [(float("nan"), 1)]):
        with pytest.raises(ValueError, match="a stroke is a list"):
            session.draw(0, "brush", path, 1, 9)
    with pytest.raises(ValueError, match="there is no frame 6"):
        session.draw(6, "brush", [(1, 1)], 1, 9)
