"""TAP-Vid: metrics against plain loops, its layouts, and pickles that are no data."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from siammae import labels
from siammae.cli import main
from siammae.evaluation import TapVid, evaluate
from siammae.evaluation.datasets.pickles import read_pickle
from siammae.evaluation.tracking import tracking_metrics
from siammae.labels import read_tracks
from siammae.synthetic import render_clip


def by_loops(
    given: NDArray[Any], gt: NDArray[Any], hidden: NDArray[Any], pred: NDArray[Any], pred_hidden: NDArray[Any], queries: str
) -> dict[str, float]:
    """TAP-Vid's metrics, counted point by point as the paper words them."""
    num_points, num_frames = hidden.shape
    places = [
        (k, t) for k in range(num_points) for t in range(num_frames) if (t > given[k] if queries == "first" else t != given[k])
    ]
    metrics = {"occlusion_accuracy": sum(hidden[k, t] == pred_hidden[k, t] for k, t in places) / len(places)}
    for threshold in (1, 2, 4, 8, 16):
        near = visible = true_positives = false_positives = 0
        for k, t in places:
            dx, dy = pred[k, t] - gt[k, t]
            within = bool(dx * dx + dy * dy < threshold * threshold)
            visible += not hidden[k, t]
            near += within and not hidden[k, t]
            if not pred_hidden[k, t]:
                if within and not hidden[k, t]:
                    true_positives += 1
                else:
                    false_positives += 1
        metrics[f"pts_within_{threshold}"] = near / visible
        metrics[f"jaccard_{threshold}"] = true_positives / (visible + false_positives)
    metrics["average_jaccard"] = sum(metrics[f"jaccard_{n}"] for n in (1, 2, 4, 8, 16)) / 5
    metrics["average_pts_within_thresh"] = sum(metrics[f"pts_within_{n}"] for n in (1, 2, 4, 8, 16)) / 5
    return metrics


@pytest.mark.parametrize("queries", ["first", "strided"])
@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_the_paper_by_loops(queries: Any, seed: int) -> None:
    random = np.random.default_rng(seed)
    num_points, num_frames = random.integers(1, 12), random.integers(3, 20)
    gt = random.uniform(0, 256, (num_points, num_frames, 2))
    pred = gt + random.standard_cauchy(gt.shape) * 3
    pred[0, -1] = gt[0, -1] + (4, 0)  # exactly at a threshold
    hidden, pred_hidden = random.random((2, num_points, num_frames)) < 0.3
    hidden[:, -1] = False
    given = random.integers(0, num_frames - 1, num_points)
    metrics = tracking_metrics(given, gt, hidden, pred, pred_hidden, queries)
    assert metrics == pytest.approx(by_loops(given, gt, hidden, pred, pred_hidden, queries), abs=1e-12)


def test_lost_points_are_wrong_and_hidden() -> None:
    gt, hidden = np.zeros((1, 3, 2)), np.array([[False, False, True]])
    pred = np.full((1, 3, 2), np.nan)
    metrics = tracking_metrics(np.array([0]), gt, hidden, pred, np.isnan(pred[..., 0]), "first")
    assert (metrics["average_pts_within_thresh"], metrics["average_jaccard"], metrics["occlusion_accuracy"]) == (0, 0, 0.5)
    with pytest.raises(ValueError, match="queries are in frames 3 to 3; expected 0 to 2"):
        tracking_metrics(np.array([3]), gt, hidden, pred, hidden, "first")
    with pytest.raises(ValueError, match=r"expected \[K, T, 2\] and \[K, T\]"):
        tracking_metrics(np.array([0]), gt, hidden[0], pred, hidden, "first")


def video(seed: int, num_frames: int = 7, encoded: bool = False) -> dict[str, Any]:
    """A video in TAP-Vid's form: three points, of which the last is hidden until frame 2; one point is never visible."""
    clip = render_clip(num_frames, (64, 96), num_objects=2, seed=seed)
    random = np.random.default_rng(seed)
    points = np.repeat(random.uniform(0.2, 0.8, (4, 1, 2)), num_frames, axis=1).astype(np.float32)
    occluded = np.zeros((4, num_frames), dtype=bool)
    occluded[2, :2], occluded[3] = True, True
    frames: Any = clip.frames
    if encoded:
        frames = []
        for frame in clip.frames:
            stream = io.BytesIO()
            Image.fromarray(frame).save(stream, "JPEG", quality=95)
            frames.append(stream.getvalue())
    return {"video": frames, "points": points, "occluded": occluded}


def write(path: Path, content: Any, protocol: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
def test_arrays_come_out_of_every_kind_of_pickle(tmp_path: Path, protocol: int) -> None:
    content = {
        "a": np.arange(12, dtype=">i4").reshape(3, 4),
        "b": [np.asfortranarray(np.eye(3, dtype=np.float32)), np.bool_(True), np.float64(2.5), 7, "text", b"\xff\x00"],
        "c": (np.zeros((0, 2)), np.array([b"x", b"yz"], dtype=object), None, True),
    }
    back = read_pickle(write(tmp_path / "a.pkl", content, protocol))
    assert np.array_equal(back["a"], content["a"])
    assert np.array_equal(back["b"][0], np.eye(3))
    assert back["b"][0].dtype == np.float32
    assert back["b"][1:] == [True, 2.5, 7, "text", b"\xff\x00"]
    assert back["c"][0].shape == (0, 2)
    assert list(back["c"][1]) == [b"x", b"yz"]


class Evil:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def test_a_pickle_cannot_run_anything(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for number, evil in enumerate(
        (
            Evil(os.system, f"touch {mark}"),
            Evil(eval, f"open({str(mark)!r}, 'w')"),
            Evil(getattr, "text", "upper"),
            Evil(np.load, str(mark)),
            Evil(np.memmap, str(mark), "uint8", "w+", 0, 4),
        )
    ):
        with pytest.raises(ValueError, match=r"cannot be read as a pickle of NumPy arrays: it calls .*; expected arrays"):
            read_pickle(write(tmp_path / f"{number}.pkl", [evil]))
    assert not mark.exists()


def test_a_pickle_cannot_forge_an_array(tmp_path: Path) -> None:
    kind = np.zeros(1).__reduce__()[0]

    class Forged:
        def __init__(self, *state: Any) -> None:
            self.state = state

        def __reduce__(self) -> Any:
            return kind, (np.ndarray, (0,), b"b"), self.state

    addresses = (1, (2,), np.dtype(np.int64), False, b"A" * 15)  # fewer bytes than the shape says
    objects = (1, (1,), np.dtype(object), False, b"AAAAAAAA")  # bytes as places in the memory
    lists = (1, (1,), np.dtype(np.int64), False, [7])
    huge = (1, (10**15,), np.dtype(np.int64), False, b"")
    for state in (addresses, objects, lists, huge):
        with pytest.raises(ValueError, match="cannot be read as a pickle of NumPy arrays"):
            read_pickle(write(tmp_path / "forged.pkl", Forged(*state)))
    for call in (Evil(np.ndarray, (3,)), Evil(kind, list, (0,), b"b")):
        with pytest.raises(ValueError, match="cannot be read as a pickle of NumPy arrays"):
            read_pickle(write(tmp_path / "call.pkl", call))
    for data in (b"", b"no pickle", pickle.dumps([np.arange(9)])[:-9], pickle.dumps(np.zeros(2, dtype="U3"))):
        (tmp_path / "cut.pkl").write_bytes(data)
        with pytest.raises(ValueError, match=r"cut\.pkl cannot be read as a pickle"):
            read_pickle(tmp_path / "cut.pkl")


def test_queries_first_and_strided(tmp_path: Path) -> None:
    path = write(tmp_path / "tapvid_davis.pkl", {"cat": video(0), "dog": video(1)})
    first, _ = TapVid(path).find()
    assert first.name == "cat"
    assert first.rows.tolist() == [0, 1, 2]  # point 3 is never visible
    assert first.query_frames.tolist() == [0, 0, 2]
    (strided,) = TapVid(path, ["dog"], queries="strided").find()
    assert list(zip(strided.query_frames.tolist(), strided.rows.tolist(), strict=True)) == [
        (0, 0),
        (0, 1),
        (5, 0),
        (5, 1),
        (5, 2),
    ]
    assert strided.points.shape == (7, 5, 2)
    assert np.isnan(strided.points[0, 4]).all()
    assert first.tracks[0, 0] == pytest.approx(video(0)["points"][0, 0].astype(float) * 256 - 0.5)


def test_layouts_of_all_sets(tmp_path: Path) -> None:
    stacking = write(tmp_path / "rgb_stacking.pkl", [video(0), video(1)])
    assert [one.name for one in TapVid(stacking).find()] == ["00000", "00001"]
    for number in (0, 1):
        write(tmp_path / "kinetics" / f"000{number}_of_0010.pkl", [video(number, encoded=True)])
    found = TapVid(tmp_path / "kinetics").find()
    assert [one.name for one in found] == ["0000_of_0010_00000", "0001_of_0010_00000"]
    write(tmp_path / "robotap" / "robotap_split0.pkl", {"a": video(0)})
    write(tmp_path / "robotap" / "robotap_split1.pkl", {"b": video(1)})
    assert [one.name for one in TapVid(tmp_path / "robotap").find()] == ["a", "b"]
    write(tmp_path / "robotap" / "robotap_split1.pkl", {"a": video(1)})
    with pytest.raises(ValueError, match=r"robotap_split1\.pkl has the video a, which .*robotap_split0\.pkl has too"):
        TapVid(tmp_path / "robotap").find()


def test_all_that_is_wrong_in_a_pickle_is_named(tmp_path: Path) -> None:
    good = video(0)
    path = write(
        tmp_path / "bad.pkl",
        {
            "../a": good,
            "b": {"video": good["video"]},
            "c": good | {"points": good["points"][:, :-1]},
            "d": good | {"video": good["video"][:-1]},
            "e": good | {"video": [1, 2, 3]},
            "f": good | {"points": good["points"] * np.nan},
        },
    )
    with pytest.raises(ValueError, match=r"\.\./a: no name.*b: no dictionary.*c: occluded.*d: 6 frames.*e: video.*f: visible"):
        TapVid(path).find()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 files or folders: \*\.pkl"):
        TapVid(tmp_path / "nothing").find()
    hidden = write(tmp_path / "hidden.pkl", {"a": good | {"occluded": np.ones((4, 7), dtype=bool)}})
    with pytest.raises(ValueError, match="has no visible point in a"):
        TapVid(hidden).find()
    with pytest.raises(FileNotFoundError, match="lacks 1 files or folders: owl"):
        TapVid(write(tmp_path / "good.pkl", {"a": good}), ["owl"]).find()


@pytest.mark.parametrize("queries", ["first", "strided"])
def test_points_are_tracked_and_scored(tmp_path: Path, queries: Any) -> None:
    still = video(0) | {"video": np.repeat(video(0)["video"][:1], 7, axis=0)}
    path = write(tmp_path / "tapvid.pkl", {"still": still, "cat": video(1, encoded=True)})
    evaluation = evaluate(TapVid(path, queries=queries), tmp_path / "out", "vitt8d6", size=128)
    assert evaluation is not None
    metrics = evaluation.scores.figures()["sequences"]["still"]["metrics"]
    assert metrics["pts_within_8"] == 1
    assert metrics["occlusion_accuracy"] > 0.7
    (sequence,) = TapVid(path, ["still"], queries=queries).find()
    tracks = read_tracks(tmp_path / "out" / "predictions" / "still.csv", *sequence.points.shape[:2])
    given = sequence.query_frames
    assert tracks[given, np.arange(len(given))] == pytest.approx(sequence.points[given, np.arange(len(given))], abs=1e-3)
    again = TapVid(path, queries=queries).score(tmp_path / "out" / "predictions")
    assert again.headline == evaluation.scores.headline


def test_the_command_scores_perfect_tracks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "tapvid.pkl", {"cat": video(0)})
    (sequence,) = TapVid(path).find()
    (tmp_path / "pred").mkdir()
    labels.write_tracks(tmp_path / "pred" / "cat.csv", sequence.points, np.ones(sequence.points.shape[:2]))
    main(["score", "tapvid", str(path), str(tmp_path / "pred")])
    assert "| all | 100.0 | 100.0 | 100.0 |" in capsys.readouterr().out


def test_occlusion_comes_from_scores_and_positions_count_all_the_same(tmp_path: Path) -> None:
    content = video(0)
    content["occluded"][0, 5:] = True
    path = write(tmp_path / "tapvid.pkl", {"cat": content})
    (sequence,) = TapVid(path).find()
    scores = np.where(sequence.occluded.T, 0.05, 0.3)
    (tmp_path / "pred").mkdir()
    labels.write_tracks(tmp_path / "pred" / "cat.csv", sequence.tracks.swapaxes(0, 1), scores)
    assert TapVid(path).score(tmp_path / "pred").means["occlusion_accuracy"] == 1
    strict = TapVid(path, occluded_below=0.5).score(tmp_path / "pred").means
    assert strict["average_pts_within_thresh"] == 1
    assert strict["average_jaccard"] == 0
    assert strict["occlusion_accuracy"] < 0.5
