"""JHMDB and BADJA: readers on small trees in the official layouts, and PCK against cases worked out by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from siammae import labels, propagate_keypoints
from siammae.encoder import Encoder
from siammae.evaluation import Badja, Jhmdb, evaluate
from siammae.evaluation.datasets.jhmdb import JOINTS
from siammae.evaluation.metrics import keypoint_distances
from siammae.labels import read_tracks

WALK, JUMP = "A_walk_f_nm_np1_fr_goo_0", "B_jump_f_nm_np1_fr_goo_0"


def skeleton(num_frames: int = 4) -> NDArray[np.float64]:
    """Joints [T, 15, 2] in a box of 60 x 80 pixels, diagonal 100."""
    random = np.random.default_rng(0)
    points = random.uniform((20, 10), (80, 90), (num_frames, 15, 2)).round()
    points[:, 0], points[:, 1] = (20, 10), (80, 90)
    return points


def jhmdb(root: Path, videos: dict[str, NDArray[np.float64]], size: tuple[int, int] = (120, 160)) -> Path:
    for name, points in videos.items():
        kind = name.split("_")[1]
        for index in range(len(points)):
            path = root / "Rename_Images" / kind / name / f"{index + 1:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
        folder = root / "joint_positions" / kind / name
        folder.mkdir(parents=True)
        savemat(folder / "joint_positions.mat", {"pos_img": points.transpose(2, 1, 0) + 1})
        (root / "splits").mkdir(exist_ok=True)
        with open(root / "splits" / f"{kind}_test_split1.txt", "a") as file:
            file.write(f"{name}.avi {1 if kind == 'jump' else 2}\n")
    return root


def write_tracks(path: Path, points: NDArray[np.float64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    labels.write_tracks(path, points, np.ones(points.shape[:2]))


def test_distances_are_in_units_of_the_scale() -> None:
    gt = np.zeros((2, 2, 2))
    pred = np.array([[[3.0, 4.0], [np.nan, np.nan]], [[0.0, 1.0], [np.inf, 0.0]]])
    assert keypoint_distances(gt, pred, np.array([10.0, 2.0])) == pytest.approx(
        np.array([[0.5, np.nan], [0.5, np.inf]]), nan_ok=True
    )
    with pytest.raises(ValueError, match="the scale of frame 1 is 0; expected a positive one"):
        keypoint_distances(gt, pred, np.array([10.0, 0.0]))
    with pytest.raises(ValueError, match=r"expected \[T, K, 2\] twice and \[T\]"):
        keypoint_distances(gt, pred[:1], np.ones(2))


def test_jhmdb_reads_the_test_videos_of_the_split(tmp_path: Path) -> None:
    root = jhmdb(tmp_path, {WALK: skeleton(), JUMP: skeleton()})
    (one,) = Jhmdb(root).find()
    assert one.name == WALK
    assert np.array_equal(one.points, skeleton())  # MATLAB counts from 1
    assert [path.name for path in one.frames] == ["00001.png", "00002.png", "00003.png", "00004.png"]
    assert [one.name for one in Jhmdb(root, [JUMP]).find()] == [JUMP]


def test_pck_of_jhmdb_by_hand(tmp_path: Path) -> None:
    truth = skeleton(3)
    root = jhmdb(tmp_path / "jhmdb", {WALK: truth})
    tracks = truth.copy()
    tracks[0] += 50  # the first frame does not count
    tracks[1, 4] += (5.9, 0)  # 0.6 x 100 x 0.1 = 6 pixels may be wrong at 0.1
    tracks[2, 4] += (6.1, 0)
    tracks[1, 5] = np.nan  # lost: counts neither way
    tracks[2, 5] += (0, 13)
    write_tracks(tmp_path / "pred" / f"{WALK}.csv", tracks)
    with pytest.warns(UserWarning, match=r"^1 joints that lay in the first picture are lost .* PCK@0\.1 would be 90\.0 %$"):
        scores = Jhmdb(root).score(tmp_path / "pred")
    assert scores.by_joint(0.1) == pytest.approx(dict.fromkeys(JOINTS, 1.0) | {JOINTS[4]: 0.5, JOINTS[5]: 0.0})
    assert scores.pck(0.1) == pytest.approx((13 + 0.5) / 15)
    assert scores.pck(0.2) == pytest.approx(14 / 15)
    assert scores.headline == ("PCK@0.1", scores.pck(0.1))
    tracks[1, 0] = np.nan  # a corner of the box is lost, and the box shrinks with it
    write_tracks(tmp_path / "pred" / f"{WALK}.csv", tracks)
    with pytest.warns(UserWarning, match=r"^2 joints"):
        assert Jhmdb(root).score(tmp_path / "pred").by_joint(0.1)[JOINTS[4]] == 0


def test_lost_joints_of_jhmdb_are_named_and_counted_as_wrong_beside_the_score(tmp_path: Path) -> None:
    truth = skeleton(3)
    truth[:, 13] = 70, 150  # below the first picture: nobody can know it
    root = jhmdb(tmp_path / "jhmdb", {WALK: truth, WALK.replace("_0", "_1"): skeleton(3)})
    tracks = truth.copy()
    tracks[:, 13] = np.nan
    tracks[1, 2:8] = np.nan
    write_tracks(tmp_path / "pred" / f"{WALK}.csv", tracks)
    write_tracks(tmp_path / "pred" / f"{WALK.replace('_0', '_1')}.csv", skeleton(3))
    with pytest.warns(UserWarning, match=r"^6 joints"):
        scores = Jhmdb(root).score(tmp_path / "pred")
    assert (scores.pck(0.1), scores.num_lost, scores.num_counted, scores.num_annotated) == (1, 6, 52, 60)
    wrong = (9 + 6 * 3 / 4) / 15
    assert scores.with_lost.pck(0.1) == pytest.approx(wrong)
    assert scores.with_lost.num_counted == 58
    assert "52 of 60 annotated keypoints count; 6 are lost; PCK@0.1 with these as wrong: 90.0 %" in scores.table()
    figures = scores.figures()
    assert (figures["lost"], figures["PCK with lost as wrong"]) == (6, pytest.approx(wrong))


def test_a_jhmdb_that_is_not_whole(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="lacks 2 files or folders: Rename_Images, joint_positions"):
        Jhmdb(tmp_path).find()
    root = jhmdb(tmp_path, {WALK: skeleton(), JUMP: skeleton()})
    with pytest.raises(FileNotFoundError, match=r"lacks 1 .*joint_positions/\*/nobody"):
        Jhmdb(root, ["nobody"]).find()
    (root / "Rename_Images" / "walk" / WALK / "00004.png").unlink()
    with pytest.raises(ValueError, match=r"joint_positions.mat has 4 frames; .* has 3"):
        Jhmdb(root).find()
    savemat(root / "joint_positions" / "walk" / WALK / "joint_positions.mat", {"pos_img": np.zeros((2, 14, 4))})
    with pytest.raises(ValueError, match=r"holds pos_img \[2, 14, 4\]; expected \[2, 15, T\]"):
        Jhmdb(root).find()
    (root / "joint_positions" / "walk" / WALK / "joint_positions.mat").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="cannot be read as JHMDB's joints"):
        Jhmdb(root).find()
    with pytest.raises(FileNotFoundError, match=f"lacks 1 files or folders: {JUMP}.csv"):
        Jhmdb(root, [JUMP]).score(tmp_path / "pred")


def test_joints_are_carried_through_a_video(tmp_path: Path) -> None:
    points = skeleton(3)
    root = jhmdb(tmp_path / "jhmdb", {WALK: points})
    for path in (root / "Rename_Images").rglob("*.png"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)).save(path)
    evaluation = evaluate(Jhmdb(root), tmp_path / "out", "vitt8d6", protocol="cropmae")
    assert evaluation is not None
    tracks = read_tracks(tmp_path / "out" / "predictions" / f"{WALK}.csv", 3, 15)
    assert np.array_equal(tracks[0], points[0])
    assert np.abs(tracks[1] - points[0]).max() < 8  # nothing moves; CRW's cells are 4 x 3 pixels
    assert evaluation.about["config"]["point_maps"] == "crw"


@pytest.mark.parametrize("protocol", ["best", "cropmae"])
def test_joints_outside_the_first_picture_are_lost_and_do_not_count(tmp_path: Path, protocol: str) -> None:
    points = skeleton(3)
    points[:, 13] = 70, 150  # an ankle far below the picture of 120 x 160, all the time
    points[1:, 14] = 60, 125  # another one that leaves it
    root = jhmdb(tmp_path / "jhmdb", {WALK: points})
    evaluation = evaluate(Jhmdb(root), tmp_path / "out", "vitt8d6", protocol=protocol, size=64)
    assert evaluation is not None
    distances = evaluation.scores.distances[WALK]  # type: ignore[attr-defined]
    assert np.isnan(distances[:, 13]).all()
    assert np.isfinite(distances[1:, 14]).all()  # counts at its annotated place
    figures = evaluation.scores.figures()
    assert (figures["counted"], figures["annotated"]) == (28, 30)
    assert "28 of 30 annotated keypoints count" in evaluation.scores.table()
    assert "right-ankle" not in figures["by joint"]


def test_jhmdb_without_any_joint_in_the_first_picture(tmp_path: Path) -> None:
    points = skeleton(3)
    root = jhmdb(tmp_path / "jhmdb", {WALK: points - 500, WALK.replace("_0", "_1"): points})
    names = [WALK, WALK.replace("_0", "_1")]
    evaluation = evaluate(Jhmdb(root, names), tmp_path / "out", "vitt8d6", size=64)
    assert evaluation is not None
    assert evaluation.scores.figures()["counted"] == 30
    assert np.isfinite(evaluation.scores.headline[1])


def test_joints_without_a_box_are_wrong(tmp_path: Path) -> None:
    truth = skeleton(2)
    root = jhmdb(tmp_path / "jhmdb", {WALK: truth})
    tracks = np.full_like(truth, np.nan)
    tracks[:, 3] = truth[:, 3]  # the only joint that is not lost; a box of one point has no diagonal
    write_tracks(tmp_path / "pred" / f"{WALK}.csv", tracks)
    with pytest.warns(UserWarning, match=r"^14 joints"):
        scores = Jhmdb(root).score(tmp_path / "pred")
    assert (scores.num_counted, scores.num_annotated) == (1, 15)
    assert scores.pck(0.5) == 0


def test_crw_maps_take_points_outside_the_frame(colours: Encoder, texture: NDArray[np.uint8]) -> None:
    frames = np.stack([texture, texture])
    with pytest.raises(ValueError, match="outside the frame"):
        propagate_keypoints(frames, [[-9, 50]], colours, size=256)
    points, scores = propagate_keypoints(frames, [[-9, 50], [-90, 50]], colours, size=256, config="crw")
    assert np.isfinite(points[1, 0]).all()
    assert scores[1, 0] > 0
    assert np.isnan(points[1, 1]).all()
    assert scores[1, 1] == 0


def badja(root: Path, joints: dict[int, NDArray[np.float64]], visible: dict[int, list[int]], num_frames: int = 5) -> Path:
    """One sequence of 54 x 96 pixels, a twentieth of the full resolution; animals of 10 x 10 pixels."""
    entries: list[dict[str, Any]] = []
    for index in range(num_frames):
        for kind, pixels in (
            ("JPEGImages", np.full((54, 96, 3), 128)),
            ("Annotations", np.pad(np.full((10, 10), 255), ((20, 24), (40, 46)))),
        ):
            path = root / kind / "480p" / "cat" / f"{index:05d}.{'jpg' if kind == 'JPEGImages' else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    for index, points in joints.items():
        places = np.zeros((37, 2))
        places[: len(points)] = ((points + 0.5) * 20 - 0.5)[:, ::-1]  # (row, column) at 1080 x 1920
        entries.append(
            {
                "image_path": f"DAVIS/JPEGImages/Full-Resolution/cat/{index:05d}.jpg",
                "segmentation_path": f"DAVIS/Annotations/Full-Resolution/cat/{index:05d}.png",
                "joints": places.tolist(),
                "visibility": [joint in visible[index] for joint in range(37)],
            }
        )
    (root / "joint_annotations").mkdir(exist_ok=True)
    (root / "joint_annotations" / "cat.json").write_text(json.dumps(entries))
    return root


def test_pck_of_badja_by_hand(tmp_path: Path) -> None:
    points = np.array([[40.0, 20.0], [50.0, 25.0], [45.0, 22.0]])
    root = badja(tmp_path, {1: points, 3: points + 2, 4: points + 3}, {1: [0, 1], 3: [0, 1, 2], 4: [1]})
    (one,) = Badja(root).find()
    assert [path.stem for path in one.frames] == ["00001", "00002", "00003", "00004"]  # from the first annotated frame on
    assert one.points[0, :2] == pytest.approx(points[:2])
    assert np.isnan(one.points[0, 2]).all()
    assert np.isnan(one.points[1]).all()
    tracks = np.full((4, 37, 2), np.nan)
    tracks[2, 0] = points[0] + 2 + (1.9, 0)  # 0.2 x 10 = 2 pixels may be wrong
    tracks[2, 1] = points[1] + 2 + (2.1, 0)
    write_tracks(tmp_path / "pred" / "cat.csv", tracks)  # joint 1 is lost in the last frame
    scores = Badja(root).score(tmp_path / "pred")
    assert np.count_nonzero(~np.isnan(scores.distances["cat"])) == 3  # joint 2 was not given
    assert scores.headline == ("PCK@0.2", pytest.approx(1 / 3))
    assert scores.pck(0.3) == pytest.approx(2 / 3)
    assert scores.figures()["sequences"]["cat"]["frames"] == [None, None, 0.5, 0.0]
    assert scores.figures()["delta 3 px"] == pytest.approx(2 / 3)


def test_badja_at_3_pixels_by_loops(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    shares = []
    for name in ("cat", "fox"):
        places = {index: random.uniform((5, 5), (90, 48), (37, 2)) for index in (0, 2, 4)}
        visible = {index: random.choice(37, 30, replace=False).tolist() for index in (0, 2, 4)}
        root = badja(tmp_path / "gt", places, visible)
        for kind in ("JPEGImages", "Annotations"):
            (root / kind / "480p" / "cat").rename(root / kind / "480p" / f"of-{name}")
        (root / "joint_annotations" / "cat.json").rename(root / "joint_annotations" / f"of-{name}.json")
        tracks = random.uniform((0, 0), (95, 53), (5, 37, 2))
        correct = []
        for frame in (2, 4):
            for joint in range(37):
                if joint in visible[0] and joint in visible[frame]:
                    tracks[frame, joint] = places[frame][joint] + random.uniform(-4, 4, 2)
                    x, y = tracks[frame, joint].round(3)
                    away = ((x - places[frame][joint][0]) ** 2 + (y - places[frame][joint][1]) ** 2) ** 0.5
                    correct.append(away < 3)
        shares.append(sum(correct) / len(correct))
        write_tracks(tmp_path / "pred" / f"of-{name}.csv", tracks)
    scores = Badja(root).score(tmp_path / "pred")
    assert 0 < scores.within_pixels < 1
    assert scores.within_pixels == pytest.approx(sum(shares) / 2, abs=1e-12)


def test_a_few_joints_outside_the_frame_do_not_count(tmp_path: Path) -> None:
    points = np.array([[40.0, 20.0], [50.0, 25.0], [45.0, 60.0]])
    (one,) = Badja(badja(tmp_path, {1: points, 3: points}, {1: [0, 1, 2], 3: [0, 1, 2]})).find()
    assert np.isfinite(one.points[0, :2]).all()
    assert np.isnan(one.points[0, 2]).all()


def test_a_badja_that_is_not_whole(tmp_path: Path) -> None:
    points = np.array([[40.0, 20.0]])
    with pytest.raises(FileNotFoundError, match=r"joint_annotations.*DAVIS's layout and BADJA's joints"):
        Badja(tmp_path).find()
    root = badja(tmp_path, {1: points, 7: points}, {1: [0], 7: [0]})
    with pytest.raises(FileNotFoundError, match=r"lacks 2 .*cat/00007\.jpg.*cat/00007\.png"):
        Badja(root).find()
    root = badja(tmp_path, {1: points + 60}, {1: [0]})
    with pytest.raises(ValueError, match="joints outside the frame"):
        Badja(root).find()
    (root / "joint_annotations" / "cat.json").write_text('[{"image_path": "x.jpg"}]')
    with pytest.raises(ValueError, match="cannot be read as BADJA's annotations: KeyError 'joints'"):
        Badja(root).find()


def test_tracks_of_other_frames_or_points(tmp_path: Path) -> None:
    write_tracks(tmp_path / "a.csv", np.zeros((2, 3, 2)))
    with pytest.raises(ValueError, match=r"lacks point 0 of frame 2; expected 3 frames of 3 points"):
        read_tracks(tmp_path / "a.csv", 3, 3)
    with pytest.raises(ValueError, match="does not hold 2 frames of 2 points"):
        read_tracks(tmp_path / "a.csv", 2, 2)
    (tmp_path / "b.csv").write_text("x,y\n1,2\n")
    with pytest.raises(ValueError, match="does not hold"):
        read_tracks(tmp_path / "b.csv", 1, 1)


def test_real_joints_lie_on_the_animals(real_data: Path, tmp_path: Path) -> None:
    found = Badja(real_data / "davis2016", joints=real_data / "badja").find()
    assert {one.name for one in found} == {"camel", "cows", "dog", "horsejump-high"}
    for one in found:
        mask = np.array(Image.open(one.annotations[1])) > 0
        x, y = one.points[0][np.isfinite(one.points[0, :, 0])].round().astype(int).T
        assert mask[y, x].mean() > 0.8
