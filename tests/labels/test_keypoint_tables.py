"""Tables of keypoints in the dialects that people have, and DeepLabCut's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from siammae.labels import read_named_points, read_points, read_tracks, write_tracks

POINTS = [[310.5, 142.0], [388.0, np.nan]]


@pytest.mark.parametrize(
    "text",
    [
        "x,y\n310.5,142\n388,\n",
        "X;Y\n310,5;142\n388;\n",
        "x\ty\r\n310,5\t142\r\n388\t\r\n",
        "\ufeffsep=;\nx;y\n310.5;142\n388;nan\n",
        "x y\n310.5 142\n388 nan\n",
        ' "x" , "Y" \n\n 310.5 , 142 \n 388 ,\n\n',
        "point,score,Y,X\n0,1,142,310.5\n1,1,,388\n",
    ],
)
def test_dialects_of_tables(tmp_path: Path, text: str) -> None:
    (tmp_path / "points.csv").write_text(text, encoding="utf-8", newline="")
    found = read_named_points(tmp_path / "points.csv")
    assert np.array_equal(found.points, POINTS, equal_nan=True)
    assert found.points.dtype == np.float32
    assert found.names is None


@pytest.mark.parametrize("column", ["name", "bodypart", "Keypoint", "label"])
def test_names_of_points_are_kept(tmp_path: Path, column: str) -> None:
    (tmp_path / "points.csv").write_text(f'{column},x,y\nnose,1,2\n"left ear, tip",3,4\n')
    points, names = read_named_points(tmp_path / "points.csv")
    assert names == ["nose", "left ear, tip"]
    write_tracks(tmp_path / "tracks.csv", np.stack([points, points + 1]), np.ones((2, 2)), [5, 6], names)
    first = (tmp_path / "tracks.csv").read_text().splitlines()[:3]
    assert first == ["frame,point,name,x,y,score", "5,0,nose,1.000,2.000,1.0000", '5,1,"left ear, tip",3.000,4.000,1.0000']
    again = read_named_points(tmp_path / "tracks.csv", 6)
    assert np.array_equal(again.points, points + 1)
    assert again.names == names


def test_tracks_with_names_are_tracks(tmp_path: Path) -> None:
    points = np.array([[[1.0, 2.0], [np.nan, np.nan]], [[3.0, 4.0], [5.0, 6.0]]])
    write_tracks(tmp_path / "tracks.csv", points, np.ones((2, 2)), names=["a,b", "c # d"])
    assert np.array_equal(read_tracks(tmp_path / "tracks.csv", 2, 2), points, equal_nan=True)
    with pytest.raises(ValueError, match="lacks point 0 of frame 2"):
        read_tracks(tmp_path / "tracks.csv", 3, 2)


PREDICTED = """scorer,DLC,DLC,DLC,DLC,DLC,DLC
bodyparts,nose,nose,nose,tail,tail,tail
coords,x,y,likelihood,x,y,likelihood
0,1.5,2.5,0.9,3.5,4.5,0.8
1,11.5,12.5,0.9,,,0.1
"""
LABELLED = """scorer,,,me,me,me,me
individuals,,,mouse1,mouse1,mouse2,mouse2
bodyparts,,,nose,nose,nose,nose
coords,,,x,y,x,y
labeled-data,clip,img0000.png,1.5,2.5,3.5,4.5
labeled-data,clip,img0001.png,11.5,12.5,,
"""
OLD_LABELLED = LABELLED.replace(",,,", ",").replace("labeled-data,clip,", "labeled-data/clip2/")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (PREDICTED, ["nose", "tail"]),
        (LABELLED, ["mouse1 nose", "mouse2 nose"]),
        (OLD_LABELLED, ["mouse1 nose", "mouse2 nose"]),
    ],
    ids=["predictions", "labels of several animals", "labels of older versions"],
)
def test_deeplabcuts_tables(tmp_path: Path, text: str, names: list[str]) -> None:
    path = tmp_path / "dlc.csv"
    path.write_text(text)
    for frame, expected in ((0, [[1.5, 2.5], [3.5, 4.5]]), (1, [[11.5, 12.5], [np.nan, np.nan]])):
        found = read_named_points(path, frame)
        assert np.array_equal(found.points, expected, equal_nan=True)
        assert found.names == names
    with pytest.raises(ValueError, match=r"several frames \(2 frames, 0 to 1\); keep the rows of one"):
        read_points(path)
    with pytest.raises(ValueError, match="frame 7 is not among them"):
        read_points(path, 7)
    path.write_text("\n".join(text.splitlines()[:-1]))
    assert np.array_equal(read_points(path), [[1.5, 2.5], [3.5, 4.5]])  # the only one, whatever its number


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows with the columns x and y: it is empty"),
        ("a,b\n1,2\n", "but the columns a, b; expected one row for each point, or DeepLabCut's header rows"),
        ("310,142\n388,97\n", "but the columns 310, 142; expected"),
        ("x,y\n", "has no rows with the columns x and y"),
        ("x,y\n1,two\n", "x and y must be numbers .*'two'"),
        ("scorer,a,a\nbodyparts,n,n\n0,1,2\n", "lacks their header rows bodyparts and coords"),
        ("scorer,a,a\nbodyparts,n,n\ncoords,x,y\n", "holds no points"),
        ("scorer,a,a\nbodyparts,n\ncoords,x,y\n0,1,2\n", "header rows have different lengths"),
        ("scorer,a,a\nindividuals,n\nbodyparts,n,n\ncoords,x,y\n0,1,2\n", "header rows have different lengths"),
        (
            f"scorer,a,a\nbodyparts,n,n\ncoords,x,y\nimg{'9' * 5000}.png,1,2\n",
            r"a frame is called '9{40}'; expected its number",
        ),
        ("frame,x,y\nnan,1,2\n", "a frame is called 'nan'; expected its number, a whole number"),
        ("frame,x,y\n1e400,1,2\n", "a frame is called '1e400'"),
        ("frame,x,y\n,1,2\n", "a frame is called ''"),
        ("frame,x,y\n1.5,1,2\n", "a frame is called '1.5'"),
    ],
)
def test_tables_that_cannot_be(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "points.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_points(tmp_path / "points.csv")


@pytest.mark.parametrize("frame", ["inf", "-1e400", "nan", "", "one"])
def test_tracks_of_a_frame_without_a_number(tmp_path: Path, frame: str) -> None:
    (tmp_path / "tracks.csv").write_text(f"frame,point,x,y\n{frame},0,1,2\n")
    with pytest.raises(ValueError, match=r"tracks\.csv does not hold 1 frames of 1 points"):
        read_tracks(tmp_path / "tracks.csv", 1, 1)


def test_decimal_commas_between_spaces(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("x y\n310,5 142\n388 97,25\n")
    assert read_points(tmp_path / "points.csv").tolist() == [[310.5, 142], [388, 97.25]]


def test_every_point_has_a_name_or_none_has(tmp_path: Path) -> None:
    for options, message in (
        ({"names": ["nose"]}, r"there are 2 frames, 1 names and scores \[2, 2\]"),
        ({"frames": [0]}, r"there are 1 frames, no names and scores"),
        ({"scores": np.ones((2, 1))}, r"points have shape \[2, 2, 2\], but there are 2 frames, no names and scores \[2, 1\]"),
    ):
        given: dict[str, Any] = {"scores": np.ones((2, 2)), **options}
        with pytest.raises(ValueError, match=message):
            write_tracks(tmp_path / "tracks.csv", np.zeros((2, 2, 2)), **given)
    assert not list(tmp_path.iterdir())
