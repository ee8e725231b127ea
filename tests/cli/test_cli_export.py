"""`siammae export-masks` and `siammae cut-out`."""

from pathlib import Path
from xml.etree import ElementTree as xml

import numpy as np
import pytest
from PIL import Image

from siammae.cli import main
from siammae.labels import write_mask
from siammae.video import write_video


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with a video of three frames and its masks of the objects 1 and 3."""
    monkeypatch.chdir(tmp_path)
    Path("masks").mkdir()
    ids = np.zeros((32, 48), dtype=np.uint8)
    ids[4:12, 8:20], ids[20:30, 30:40] = 1, 3
    for t in range(3):
        write_mask(f"masks/{t:05d}.png", np.roll(ids, t, axis=1))
    write_video("fish.mp4", np.full((3, 32, 48, 3), 90, dtype=np.uint8), 25)


def run(*words: object) -> int:
    try:
        main([*map(str, words)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize("format", ["coco", "yolo", "cvat", "label-studio", "davis", "mot"])
def test_every_format_is_a_command_away(format: str, capsys: pytest.CaptureFixture[str]) -> None:
    if format == "coco":
        pytest.importorskip("pycocotools")
    assert run("export-masks", "masks", "--format", format, "--video", "fish.mp4", "-o", "out") == 0
    assert capsys.readouterr().out == f"{format}: {Path('out').resolve()}\n"
    assert len(list(Path("out").rglob("*.jpg"))) == 3


def test_names_and_the_void_reach_the_file() -> None:
    assert run("export-masks", "masks", "--format", "cvat", "--names", "1=big fish", "3=crab", "-o", "out") == 0
    labels = xml.parse("out/annotations.xml").iterfind("meta/task/labels/label/name")
    assert [label.text for label in labels] == ["big fish", "crab"]
    assert run("export-masks", "masks", "--format", "mot", "--names", "fish", "--void-id", 3, "-o", "out", "--overwrite") == 0
    assert Path("out/gt/gt.txt").read_text().splitlines()[0] == "1,1,9,5,12,8,1,1,1"
    assert Path("out/gt/labels.txt").read_text() == "fish\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "-o", "out"], "no such folder of masks: nowhere"),
        (["masks", "--video", "nowhere.mp4", "-o", "out"], "no such video file or folder of images: nowhere.mp4"),
        (["masks", "--format", "mot", "--names", "1=fish", "-o", "out"], "objects [3] have no name"),
        (["masks", "--names", "fish", "crab", "-o", "out"], "--names fish: expected ID=NAME for every object"),
        (["masks", "--names", "1=fish", "1=crab", "-o", "out"], "--names gives object 1 two names: fish and crab"),
        (["masks", "--format", "yolo", "-o", "masks"], "masks exists"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export-masks", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not Path("out").exists()


def test_objects_are_cut_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("cut-out", "fish.mp4", "masks", "-o", "cut", "--ids", 3) == 0
    assert capsys.readouterr().out == "cut-outs: cut\n"
    alpha = np.array(Image.open("cut/00001.png"))[..., 3]
    np.testing.assert_array_equal(alpha > 0, np.array(Image.open("masks/00001.png")) == 3)
    assert run("cut-out", "fish.mp4", "masks", "-o", "cut.webm") == 0
    assert Path("cut.webm").stat().st_size > 500
    assert run("cut-out", "fish.mp4", "masks", "-o", "cut.avi") == 2
    assert "ends in .avi; expected .mov, .webm" in capsys.readouterr().err
