"""Masks in the formats of other tools, read back by the tools' own readers, and bad input."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import siammae
from siammae.evaluation import Davis
from siammae.labels import write_mask
from siammae.labels.output import FORMATS, VideoMasks, export_masks, to_detections
from siammae.labels.output.contours import outlines, polygon
from siammae.labels.output.runs import brush_runs, run_lengths
from siammae.propagation import propagate_to_folder
from siammae.synthetic import render_clip

SIZE = 37, 52
# other projects warn of what changes in numpy and pandas, and supervision of a missing OpenCV
READER = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:OpenCV")
NAMES = {1: "sea horse", 7: 'cod "& co" <b>', 300: "sea horse"}


def drawn() -> NDArray[np.uint16]:
    """Masks [3, 37, 52] of three objects: with a hole, in two parts, a single pixel, at the border, and absent."""
    masks = np.zeros((3, *SIZE), dtype=np.uint16)
    masks[0, 5:20, 3:17] = 1
    masks[0, 9:13, 7:12] = 0
    masks[0, 25:37, 40:52] = 7
    masks[1, 0:4, 0:9] = 1
    masks[1, 20:30, 30:33] = 7
    masks[1, 20:22, 40:45] = 7
    masks[1, 10, 20] = 300
    return masks  # the last frame has no object


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of these masks, with scores."""
    path = tmp_path / "masks"
    path.mkdir()
    rows = ["frame,object,score,lost,area,box"]
    for number, ids in enumerate(drawn()):
        write_mask(path / f"{number:05d}.png", ids)
        rows += [f"{number},{label},{1 - number / 4 - label / 10000:g},0,1,0 0 1 1" for label in (1, 7, 300)]
    (path / "scores.csv").write_text("\n".join(rows) + "\n")
    return path


def frames() -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), dtype=np.uint8))


def truth() -> dict[tuple[int, int], NDArray[np.bool_]]:
    """The pixels [H, W] of each object in each frame, by position and id."""
    masks = drawn()
    return {(t, int(label)): masks[t] == label for t in range(3) for label in np.unique(masks[t]) if label}


@READER
def test_coco_is_read_by_pycocotools(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    path = export_masks(folder, tmp_path / "out", "coco", names=NAMES, frames=frames())
    data = coco.COCO(str(path / "annotations.json"))
    names = {each["id"]: each["name"] for each in data.loadCats(data.getCatIds())}
    read = {}
    for each in data.loadAnns(data.getAnnIds()):
        mask = data.annToMask(each).astype(bool)
        position = data.loadImgs(each["image_id"])[0]["file_name"]
        left, top, width, height = each["bbox"]
        assert each["area"] == mask.sum() == mask[top : top + height, left : left + width].sum()
        assert names[each["category_id"]] == NAMES[each["track_id"]]
        assert each["score"] == pytest.approx(1 - int(position[:5]) / 4 - each["track_id"] / 10000)
        read[int(position[:5]), each["track_id"]] = mask
    assert_same(read)
    assert len(data.getImgIds()) == 3
    assert all((path / "images" / each["file_name"]).is_file() for each in data.loadImgs(data.getImgIds()))
    assert len(data.loadRes(data.dataset["annotations"]).getAnnIds()) == len(truth())  # scores make them results too


def assert_same(read: dict[tuple[int, int], NDArray[np.bool_]]) -> None:
    expected = truth()
    assert read.keys() == expected.keys()
    for key, mask in expected.items():
        np.testing.assert_array_equal(read[key], mask)


@READER
def test_coco_is_read_by_supervision(folder: Path, tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision")
    path = export_masks(folder, tmp_path / "out", "coco", names=NAMES, frames=frames())
    data = supervision.DetectionDataset.from_coco(str(path / "images"), str(path / "annotations.json"), force_masks=True)
    assert data.classes == ["sea horse", NAMES[7]]
    for name, _, detections in data:
        position = int(Path(name).stem)
        expected = [mask for (t, _), mask in truth().items() if t == position]
        np.testing.assert_array_equal(detections.mask if expected else [], expected)


@READER
def test_yolo_is_read_by_supervision(folder: Path, tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision")
    path = export_masks(folder, tmp_path / "out", "yolo", names=NAMES, frames=frames())
    data = supervision.DetectionDataset.from_yolo(
        str(path / "images"), str(path / "labels"), str(path / "data.yaml"), force_masks=True
    )
    assert data.classes == ["sea horse", NAMES[7]]
    for name, _, detections in data:
        position = int(Path(name).stem)
        expected = {label: mask for (t, label), mask in truth().items() if t == position}
        assert len(detections) == len(expected)
        for (label, mask), read, category in zip(
            expected.items(), detections.mask if expected else [], detections.class_id, strict=True
        ):
            assert data.classes[category] == NAMES[label]
            assert not (mask & ~read).any()
            joining = 0 if label != 7 or position == 0 else 7  # pixels of the line between two parts
            assert (read & ~mask).sum() == joining


@pytest.mark.parametrize("cut", [np.round, np.trunc])
def test_yolo_polygons_survive_rounding_as_well_as_cutting_off(folder: Path, tmp_path: Path, cut: Any) -> None:
    path = export_masks(folder, tmp_path / "out", "yolo")
    words = (path / "labels" / "00000.txt").read_text().splitlines()[0].split()
    points = cut(np.array(words[1:], dtype=np.float32).reshape(-1, 2) * (SIZE[1], SIZE[0])).astype(int)
    np.testing.assert_array_equal(filled(points, SIZE), drawn()[0] == 1)


def filled(points: NDArray[Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    picture = Image.new("1", (size[1], size[0]))
    points = np.resize(points, (max(3, len(points)), 2))
    ImageDraw.Draw(picture).polygon([tuple(point) for point in points.tolist()], fill=1, outline=1)
    return np.array(picture)


@settings(max_examples=60, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 9))))
def test_outlines_run_around_every_part_and_hole(mask: NDArray[np.bool_]) -> None:
    rings = outlines(mask)
    corners = {(x, y) for ring in rings for x, y in ring.tolist()}
    assert all(mask[y, x] for x, y in corners)
    outer = np.zeros(mask.shape, dtype=bool)
    for ring in rings:
        if len(ring) < 3 or signed_area(ring) >= 0:
            outer |= filled(ring, mask.shape)
    assert not (mask & ~outer).any()
    for ring in rings:
        if len(ring) >= 3 and signed_area(ring) < 0:
            assert (filled(ring, mask.shape) & ~mask).any()


def signed_area(ring: NDArray[Any]) -> int:
    x, y = ring.T
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


@settings(max_examples=40, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))).filter(lambda mask: mask.any()))
def test_a_polygon_covers_its_mask_and_nothing_but_joining_lines(mask: NDArray[np.bool_]) -> None:
    cv2 = pytest.importorskip("cv2")
    points = polygon(mask)
    assert len(points) >= 3
    picture = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(picture, [points.astype(np.int32)], 1)
    assert not (mask & (picture == 0)).any()
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    assert len(contours) == len(outlines(mask))
    if len(contours) == 1:
        np.testing.assert_array_equal(picture, mask)


@READER
def test_cvat_is_read_by_datumaro(folder: Path, tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro")
    path = export_masks(folder, tmp_path / "out", "cvat", names=NAMES, frames=frames())
    data = datumaro.Dataset.import_from(str(path), "cvat")
    labels = data.categories()[datumaro.AnnotationType.label]
    read = {}
    for item in data:
        for each in item.annotations:
            assert labels[each.label].name == NAMES[each.group]
            read[int(item.id), each.group] = np.asarray(each.image).astype(bool)
    assert_same(read)


def test_cvat_follows_the_published_format(folder: Path, tmp_path: Path) -> None:
    """docs.cvat.ai, XML annotation format: run lengths of the box, row by row, background first."""
    root = xml.parse(export_masks(folder, tmp_path / "out", "cvat", names=NAMES) / "annotations.xml").getroot()
    assert root.findtext("version") == "1.1"
    assert [label.findtext("name") for label in root.iterfind("meta/task/labels/label")] == ["sea horse", NAMES[7]]
    read = {}
    for image in root.iterfind("image"):
        assert (int(image.get("height", 0)), int(image.get("width", 0))) == SIZE
        assert image.get("name") == f"{int(image.get('id', -1)):05d}.jpg"
        for each in image.iterfind("mask"):
            assert each.get("label") == NAMES[int(each.get("group_id", 0))]
            left, top, width, height = (int(each.get(key, 0)) for key in ("left", "top", "width", "height"))
            runs = [int(run) for run in each.get("rle", "").split(",")]
            mask = np.zeros(SIZE, dtype=bool)
            pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
            mask[top : top + height, left : left + width] = pixels.reshape(height, width)
            read[int(image.get("id", -1)), int(each.get("group_id", 0))] = mask
    assert_same(read)


def test_label_studio_is_read_by_its_own_converter(folder: Path, tmp_path: Path) -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    path = export_masks(folder, tmp_path / "horses", "label-studio", names=NAMES, frames=frames())
    read = {}
    for position, task in enumerate(json.loads((path / "tasks.json").read_text())):
        for each in task["annotations"][0]["result"]:
            values = brush.decode_rle(each["value"]["rle"]).reshape(*SIZE, 4)
            read[position, int(each["id"].split("-")[1])] = values[..., 3] > 0
    assert_same(read)


def test_label_studio_tasks_fit_their_interface(folder: Path, tmp_path: Path) -> None:
    path = export_masks(folder, tmp_path / "horses", "label-studio", names=NAMES, frames=frames())
    view = xml.fromstring((path / "config.xml").read_text())
    labels = {each.get("value") for each in view.iterfind("BrushLabels/Label")}
    (brush,), (image,) = view.findall("BrushLabels"), view.findall("Image")
    assert brush.get("toName") == image.get("name")
    read = {}
    for position, task in enumerate(json.loads((path / "tasks.json").read_text())):
        root, _, name = task["data"]["image"].partition("?d=")
        assert root == "/data/local-files/"
        assert (tmp_path / name).is_file()  # the folder above is the root of Label Studio's storage
        for each in task["annotations"][0]["result"]:
            label = int(each["id"].split("-")[1])
            assert (each["from_name"], each["to_name"]) == (brush.get("name"), image.get("name"))
            assert (each["original_height"], each["original_width"]) == SIZE
            assert each["value"]["brushlabels"] == [NAMES[label]]
            assert NAMES[label] in labels
            read[position, label] = unpacked(each["value"]["rle"]).reshape(*SIZE, 4)[..., 3] == 255
    assert_same(read)


def unpacked(data: list[int]) -> NDArray[np.uint8]:
    """thi.ng's rle-pack, decoded as its documentation describes it."""
    bits = "".join(f"{byte:08b}" for byte in data)
    place = 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    total, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < total:
        same, count = take(1), take(sizes[take(2)]) + 1
        values += [take(word)] * count if same else [take(word) for _ in range(count)]
    return np.array(values, dtype=np.uint8)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**16))
@settings(max_examples=10, deadline=None)
def test_brush_runs_hold_long_runs(height: int, width: int, start: int) -> None:
    mask = np.arange(height * width).reshape(height, width) >= start
    np.testing.assert_array_equal(unpacked(brush_runs(mask)), np.repeat(mask.ravel(), 4) * 255)


@given(arrays(bool, st.integers(1, 40)))
def test_run_lengths_add_up(values: NDArray[np.bool_]) -> None:
    runs = run_lengths(values)
    np.testing.assert_array_equal(np.repeat(np.arange(len(runs)) % 2 == 1, runs), values)
    assert all(run > 0 for run in runs[1:])


def test_davis_is_read_as_davis(tmp_path: Path) -> None:
    masks = np.where(drawn() == 300, 30, drawn())
    path = export_masks(masks, tmp_path / "reef", "davis", frames=frames())
    (sequence,) = Davis(path).find()
    assert sequence.name == "reef"
    assert [frame.name for frame in sequence.frames] == ["00000.jpg", "00001.jpg", "00002.jpg"]
    for written, ids in zip(sequence.annotations, masks, strict=True):
        with Image.open(written) as picture:
            assert picture.mode == "P"
            assert picture.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
            np.testing.assert_array_equal(np.array(picture), ids)


def boxes() -> dict[tuple[int, int], list[int]]:
    """Left, top, width and height of each object, by position and id."""
    found = {}
    for key, mask in truth().items():
        rows, columns = np.nonzero(mask)
        found[key] = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    return found


@READER
def test_mot_is_read_by_motmetrics(folder: Path, tmp_path: Path) -> None:
    motmetrics = pytest.importorskip("motmetrics")
    path = export_masks(folder, tmp_path / "reef", "mot", names=NAMES, frames=frames())
    table = motmetrics.io.loadtxt(path / "gt" / "gt.txt", fmt="mot16", min_confidence=1)
    labels = (path / "gt" / "labels.txt").read_text().splitlines()
    read = {(frame - 1, label): row for (frame, label), row in table.iterrows()}
    assert read.keys() == boxes().keys()
    for (position, label), row in read.items():
        assert row[["X", "Y", "Width", "Height"]].tolist() == boxes()[position, label]
        assert labels[int(row["ClassId"]) - 1] == NAMES[label]
    assert [file.name for file in sorted((path / "img1").iterdir())] == ["000001.jpg", "000002.jpg", "000003.jpg"]
    info = (path / "seqinfo.ini").read_text()
    assert "name=reef\n" in info
    assert "seqLength=3\nimWidth=52\nimHeight=37\n" in info


def test_mot_is_read_by_trackeval(folder: Path, tmp_path: Path) -> None:
    trackeval = pytest.importorskip("trackeval")
    path = export_masks(folder, tmp_path / "gt" / "reef", "mot", names="pedestrian")
    tracker = tmp_path / "trackers" / "same" / "data"
    tracker.mkdir(parents=True)
    (tracker / "reef.txt").write_text((path / "gt" / "gt.txt").read_text())
    data = trackeval.datasets.MotChallenge2DBox(
        {
            "GT_FOLDER": str(tmp_path / "gt"),
            "TRACKERS_FOLDER": str(tmp_path / "trackers"),
            "SEQ_INFO": {"reef": None},
            "SKIP_SPLIT_FOL": True,
            "PRINT_CONFIG": False,
            "DO_PREPROC": False,
        }
    )
    raw = data.get_raw_seq_data("same", "reef")
    found = {}
    for position, (ids, places) in enumerate(zip(raw["gt_ids"], raw["gt_dets"], strict=True)):
        found.update({(position, int(label)): box.tolist() for label, box in zip(ids, places, strict=True)})
    assert found == {key: [left + 1, top + 1, width, height] for key, (left, top, width, height) in boxes().items()}


def test_what_propagation_writes_is_exported_with_its_scores(tmp_path: Path) -> None:
    clip = render_clip(3, (64, 96))
    masks = propagate_to_folder(clip.frames, clip.masks[0], tmp_path / "masks", "vitt8d6", size=64)
    objects = [each for frame in VideoMasks(masks) for each in frame.objects]
    assert {each.score for each in objects if each.score is not None} >= {1.0}
    assert all(each.score is not None for each in objects)


def test_frames_are_matched_by_name_and_may_be_a_longer_video(folder: Path, tmp_path: Path) -> None:
    (folder / "00000.png").unlink()
    (folder / "scores.csv").unlink()
    path = export_masks(folder, tmp_path / "out", "yolo", frames=frames() + frames()[:1])
    assert [file.name for file in sorted((path / "images").iterdir())] == ["00001.jpg", "00002.jpg"]
    np.testing.assert_allclose(np.array(Image.open(path / "images" / "00001.jpg")).mean(), frames()[1].mean(), atol=3)


@READER
def test_detections_keep_ids_names_and_confidence() -> None:
    pytest.importorskip("supervision")
    found = to_detections(drawn()[1], names=NAMES, scores={1: 0.5, 7: 0.25, 300: 0.75, 8: 0})
    assert found.tracker_id.tolist() == [1, 7, 300]
    assert found.class_id.tolist() == [0, 1, 0]
    assert found.data["class_name"].tolist() == [NAMES[1], NAMES[7], NAMES[300]]
    assert found.confidence.tolist() == [0.5, 0.25, 0.75]
    assert found.xyxy.tolist() == [[0, 0, 9, 4], [30, 20, 45, 30], [20, 10, 21, 11]]
    np.testing.assert_array_equal(found.mask, [drawn()[1] == label for label in (1, 7, 300)])
    assert found.area.tolist() == [36, 40, 1]


@READER
def test_detections_without_names_are_numbered_by_ids_and_may_be_none() -> None:
    pytest.importorskip("supervision")
    assert to_detections(drawn()[1]).class_id.tolist() == [1, 7, 300]
    nothing = to_detections(drawn()[2])
    assert len(nothing) == 0
    assert nothing.mask.shape == (0, *SIZE)
    assert to_detections(drawn()[1], void_id=300).tracker_id.tolist() == [1, 7]
    with pytest.raises(ValueError, match=r"objects \[7, 300\] have no score"):
        to_detections(drawn()[1], scores={1: 0.5})


def test_the_void_belongs_to_no_object(tmp_path: Path) -> None:
    masks = VideoMasks(drawn(), void_id=300)
    assert masks.ids == [1, 7]
    assert [len(frame.objects) for frame in masks] == [2, 2, 0]


def test_one_name_is_for_all_objects_and_none_names_them_by_ids() -> None:
    assert VideoMasks(drawn(), "fish").names == {1: "fish", 7: "fish", 300: "fish"}
    assert VideoMasks(drawn(), "fish").categories == ["fish"]
    assert VideoMasks(drawn()).categories == ["object 1", "object 7", "object 300"]


@pytest.mark.parametrize("format", FORMATS)
def test_a_folder_that_exists_is_kept_unless_it_may_be_replaced(format: Any, tmp_path: Path) -> None:
    if format == "coco":
        pytest.importorskip("pycocotools")
    masks = drawn() % 256
    path = export_masks(masks, tmp_path / "out", format, frames=frames())
    with pytest.raises(FileExistsError, match=f"{path} exists"):
        export_masks(masks, path, format)
    export_masks(masks[:1], path, format, overwrite=True)
    (path / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match=r"holds other files too \(thesis\.txt\)"):
        export_masks(masks, path, format, overwrite=True)
    assert (path / "thesis.txt").exists()


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no frame for 1 masks"):
        export_masks(drawn(), tmp_path / "out", "yolo", frames=frames()[:2])
    assert not list(tmp_path.iterdir())


def refuses(match: str, masks: Any, tmp_path: Path, format: Any = "yolo", **options: Any) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        export_masks(masks, tmp_path / "out", format, **options)
    assert not (tmp_path / "out").exists()


def test_bad_masks_are_refused(folder: Path, tmp_path: Path) -> None:
    refuses("no such folder of masks: .*nowhere", tmp_path / "nowhere", tmp_path)
    (tmp_path / "empty").mkdir()
    refuses("holds no masks; expected one PNG for each frame", tmp_path / "empty", tmp_path)
    refuses("there are no masks", [], tmp_path)
    refuses(r"shape \[37, 52\]; expected ids \[T, H, W\]", drawn()[0], tmp_path)
    refuses("masks are a int; expected a folder", 3, tmp_path)
    refuses("mask of frame 00001 is 37 x 51 pixels, those before it are 37 x 52", [drawn()[0], drawn()[1][:, 1:]], tmp_path)
    refuses("frame 00000 holds soft labels", [np.ones((1, *SIZE), np.float32)], tmp_path)
    refuses("holds ids from -1 to 7", drawn()[:1].astype(np.int16) - (drawn()[:1] == 1) * 2, tmp_path)
    refuses("holds no object: every pixel", drawn()[2:], tmp_path)
    refuses("ids go up to 300; the format davis holds 1 to 255", folder, tmp_path, "davis")
    refuses("format is 'voc'; expected one of coco, yolo", folder, tmp_path, "voc")
    (folder / "00002.png").unlink()
    refuses("has scores of 3 frames, but there are 2 masks", folder, tmp_path)
    (folder / "scores.csv").write_text("frame,object\n0,1\n")
    refuses("is no table of scores, or is damaged", folder, tmp_path)
    (folder / "scores.csv").unlink()
    Image.fromarray(frames()[0]).save(folder / "00002.png")
    refuses("00002.png is a RGB picture; expected ids", folder, tmp_path)


def test_bad_names_and_frames_are_refused(folder: Path, tmp_path: Path) -> None:
    refuses(r'objects \[7, 300\] have no name; .* 7: "NAME"', folder, tmp_path, names={1: "horse"})
    refuses("object 1 is called 'a.nb'; expected a name of one line", folder, tmp_path, names="a\nb")
    refuses("object 1 is called ''", folder, tmp_path, names={1: "", 7: "b", 300: "c"})
    refuses("names has the id 0", folder, tmp_path, names={0: "background", **NAMES})
    taller = np.zeros((3, 38, 52, 3))
    refuses("frame 00000 of the sequence is 38 x 52 pixels, its mask 37 x 52", folder, tmp_path, frames=taller)
    refuses("has no frame for 1 masks .00002.", folder, tmp_path, frames=frames()[:2])
    refuses("no such video file", folder, tmp_path, frames="nowhere.mp4")
    refuses("void_id is 'x'", folder, tmp_path, void_id="x")


def test_a_missing_package_is_named_with_its_remedy(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("pycocotools", "supervision"):
        monkeypatch.setitem(__import__("sys").modules, package, None)
    remedy = re.escape('pip install "siammae[formats]"')
    with pytest.raises(ImportError, match=f"pycocotools: {remedy}"):
        export_masks(folder, tmp_path / "out", "coco")
    with pytest.raises(ImportError, match=f"supervision: {remedy}"):
        to_detections(drawn()[0])
    assert siammae.output.export_masks is export_masks
