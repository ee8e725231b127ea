"""YouTube-VOS, MOSE, LVOS and Chen: small trees in the official layouts, scores against plain loops."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from siammae import LabelPropagator
from siammae.cli import main
from siammae.encoder import Encoder
from siammae.evaluation import Chen, Lvos, Mose, YoutubeVos, evaluate, predict_only
from siammae.evaluation.metrics import boundary_accuracy, region_similarity
from siammae.labels import write_mask
from siammae.synthetic import render_clip

SIZE, INPUT = (64, 96), (192, 288)


def ids(path: Path) -> NDArray[np.uint8]:
    return np.array(Image.open(path))


def write(root: Path, name: str, stems: list[str], masks: dict[str, NDArray[np.uint8]], seed: int = 0) -> None:
    """A video with all frames and some masks."""
    clip = render_clip(len(stems), SIZE, num_objects=2, seed=seed)
    for stem, picture in zip(stems, clip.frames, strict=True):
        path = root / "JPEGImages" / name / f"{stem}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path, quality=95)
    for stem, mask in masks.items():
        path = root / "Annotations" / name / f"{stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mask(path, mask)


def youtube_vos(root: Path, *, public: bool) -> Path:
    """Two videos at every second frame: object 2 of the first one appears at frame 4; object 1 of the second one is unseen."""
    stems = [f"{index:05d}" for index in range(0, 20, 2)]
    meta = {}
    for seed, name in enumerate(("aaa", "bbb")):
        truth = dict(zip(stems, render_clip(10, SIZE, num_objects=2, seed=seed).masks.astype(np.uint8), strict=True))
        late = stems[2:] if name == "aaa" else stems
        truth = {stem: np.where((mask == 2) & (stem not in late), 0, mask).astype(np.uint8) for stem, mask in truth.items()}
        given = [stems[0], stems[2]] if name == "aaa" else [stems[0]]
        masks = {stem: truth[stem] for stem in (stems[::2] if public else given)}
        if name == "aaa" and not public:
            masks[stems[2]] = np.where(masks[stems[2]] == 2, 2, 0).astype(np.uint8)  # only what appears
        write(root, name, stems, masks, seed)
        frames = stems[::2] if public else stems
        meta[name] = {
            "objects": {
                "1": {"category": "dog" if name == "aaa" else "yeti", "frames": frames},
                "2": {"category": "dog", "frames": [stem for stem in frames if stem in late]},
            }
        }
    (root / "meta.json").write_text(json.dumps({"videos": meta}))
    (root.parent / "train").mkdir(exist_ok=True)
    seen = {"videos": {"x": {"objects": {"1": {"category": "dog", "frames": ["00000"]}}}}}
    (root.parent / "train" / "meta.json").write_text(json.dumps(seen))
    return root


def test_objects_that_appear_later_are_given_when_they_appear(tmp_path: Path, encoder: Encoder) -> None:
    root = youtube_vos(tmp_path / "valid", public=False)
    with pytest.raises(FileNotFoundError, match="predict only and submit the masks"):
        YoutubeVos(root).find()
    archive = predict_only(YoutubeVos(root), tmp_path / "out", encoder, size=INPUT)
    assert archive is not None
    with zipfile.ZipFile(archive) as file:
        assert file.namelist()[0] == "Annotations/aaa/00000.png"
        assert len(file.namelist()) == 20
    folder = tmp_path / "out" / "predictions" / "aaa"
    assert set(np.unique(ids(folder / "00002.png"))) == {0, 1}
    given = ids(root / "Annotations" / "aaa" / "00004.png")
    assert np.array_equal(ids(folder / "00004.png") == 2, given == 2)
    frames = sorted((root / "JPEGImages" / "aaa").iterdir())
    propagator = LabelPropagator(frames[0], ids(root / "Annotations" / "aaa" / "00000.png"), encoder, size=INPUT)
    mask = propagator.step(frames[1])
    assert np.array_equal(ids(folder / "00002.png"), mask)
    merged = np.where(given == 2, 2, propagator.step(frames[2])).astype(np.uint8)
    propagator.add(frames[2], merged)
    assert np.array_equal(ids(folder / "00006.png"), propagator.step(frames[3]))
    assert 2 in ids(folder / "00018.png")


def test_the_future_of_an_object_is_not_read_from_public_annotations(tmp_path: Path, encoder: Encoder) -> None:
    predict_only(YoutubeVos(youtube_vos(tmp_path / "a" / "valid", public=False)), tmp_path / "hidden", encoder, size=INPUT)
    root = youtube_vos(tmp_path / "b" / "valid", public=True)
    evaluate(YoutubeVos(root), tmp_path / "public", encoder, size=INPUT)
    for path in (tmp_path / "hidden" / "predictions").rglob("*.png"):
        assert path.read_bytes() == (tmp_path / "public" / path.relative_to(tmp_path / "hidden")).read_bytes()


def test_youtube_vos_scores_seen_and_unseen_by_loops(tmp_path: Path, encoder: Encoder) -> None:
    root = youtube_vos(tmp_path / "valid", public=True)
    evaluation = evaluate(YoutubeVos(root), tmp_path / "out", encoder, size=INPUT)
    assert evaluation is not None
    meta = json.loads((root / "meta.json").read_text())["videos"]
    groups: dict[str, list[float]] = {}
    for name, video in meta.items():
        for label, entry in video["objects"].items():
            kind = "seen" if entry["category"] == "dog" else "unseen"
            for measure, function in (("J", region_similarity), ("F", boundary_accuracy)):
                values = []
                for stem in entry["frames"][1:]:
                    truth = ids(root / "Annotations" / name / f"{stem}.png") == int(label)
                    values.append(function(truth, ids(tmp_path / "out" / "predictions" / name / f"{stem}.png") == int(label)))
                groups.setdefault(f"{measure} {kind}", []).append(sum(values) / len(values))
    means = {name: sum(values) / len(values) for name, values in groups.items()}
    assert len(groups["J seen"]) == 3
    figures = evaluation.scores.figures()
    assert {name: figures[name] for name in means} == pytest.approx(means, abs=1e-12)
    assert evaluation.scores.headline == ("G", pytest.approx(sum(means.values()) / 4, abs=1e-12))
    assert "J unseen" in evaluation.table()
    (tmp_path / "train" / "meta.json").unlink()
    assert YoutubeVos(root).score(tmp_path / "out" / "predictions").headline[0] == "J&F"
    assert figures["sequences"]["aaa"]["frames"][0] is None


def test_what_is_wrong_with_a_meta_file_is_named_all_together(tmp_path: Path) -> None:
    root = youtube_vos(tmp_path / "valid", public=True)
    for name, stem in (("aaa", "00000"), ("bbb", "00000")):
        path = root / "Annotations" / name / f"{stem}.png"
        mask = ids(path)
        mask[:3] = 7
        write_mask(path, mask)
    with pytest.raises(ValueError, match=r"aaa/00000\.png has ids \[7\] that the meta file.*bbb/00000\.png has ids \[7\]"):
        YoutubeVos(root).inputs()
    youtube_vos(root, public=True)
    for path in ("JPEGImages/aaa/00008.jpg", "Annotations/bbb/00004.png", "Annotations/bbb/00008.png"):
        (root / path).unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 .*JPEGImages/aaa/00008\.jpg"):
        YoutubeVos(root).find()
    youtube_vos(root, public=True)
    for path in ("Annotations/bbb/00004.png", "Annotations/bbb/00008.png"):
        (root / path).unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 2 .*bbb/00004\.png, Annotations/bbb/00008\.png"):
        YoutubeVos(root).find()
    (root / "Annotations" / "ccc").mkdir()
    (root / "Annotations" / "ddd").mkdir()
    with pytest.raises(ValueError, match="does not name the videos ccc, ddd"):
        YoutubeVos(root).inputs()
    (root / "meta.json").write_text('{"videos": {"aaa": {"objects": {"1": {"category": "dog"}}}}}')
    with pytest.raises(ValueError, match="cannot be read as the objects of videos: KeyError 'frames'"):
        YoutubeVos(root).inputs()
    for name in ("ccc", "ddd"):
        (root / "Annotations" / name).rmdir()
    for frames, message in (([], r"marks no object in aaa, bbb"), (7, r"the objects of aaa cannot be read: TypeError")):
        entry = {"objects": {"1": {"category": "dog", "frames": frames}}}
        (root / "meta.json").write_text(json.dumps({"videos": {"aaa": entry, "bbb": entry}}))
        with pytest.raises(ValueError, match=message):
            YoutubeVos(root).inputs()
    (root / "meta.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 files or folders: meta\.json"):
        YoutubeVos(root).inputs()


def test_mose_counts_like_davis_in_its_own_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stems = [f"{index:05d}" for index in range(5)]
    masks = dict(zip(stems, render_clip(5, SIZE, num_objects=2).masks.astype(np.uint8), strict=True))
    write(tmp_path / "train", "vid", stems, masks)
    out = tmp_path / "out"
    main(["evaluate", "mose", str(tmp_path / "train"), "-o", str(out), "--model", "vitt8d6", "--size", "64"])
    capsys.readouterr()
    scores = Mose(tmp_path / "train").score(out / "predictions")
    for item in scores.objects:
        truth = [masks[stem] == item.id for stem in stems[1:-1]]
        pred = [ids(out / "predictions" / "vid" / f"{stem}.png") == item.id for stem in stems[1:-1]]
        assert item.j_frames == tuple(map(region_similarity, truth, pred))
    assert [item.id for item in scores.objects] == [1, 2]
    for stem in stems[1:]:
        (tmp_path / "train" / "Annotations" / "vid" / f"{stem}.png").unlink()
    main(["evaluate", "mose", str(tmp_path / "train"), "-o", str(tmp_path / "b"), "--predict-only", "--model", "vitt8d6",
          "--size", "64"])  # fmt: skip
    with zipfile.ZipFile(tmp_path / "b" / "submission.zip") as file:
        assert file.namelist() == [f"vid/{stem}.png" for stem in stems]
        assert file.read("vid/00003.png") == (out / "predictions" / "vid" / "00003.png").read_bytes()


def test_a_first_mask_without_objects_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path, name, ["00000", "00001"], {"00000": np.zeros(SIZE, dtype=np.uint8)})
    with pytest.raises(ValueError, match="marks no object in a, b; expected some in every video"):
        Mose(tmp_path).inputs()


def lvos(root: Path) -> Path:
    """Two videos of frames 1 to 31, annotated at every fifth; object 2 appears at frame 6."""
    meta = {}
    for seed, name in enumerate(("seen1", "unseen1")):
        stems = [f"{number:08d}" for number in range(1, 32)]
        masks = dict(zip(stems, render_clip(31, SIZE, num_objects=2, seed=seed).masks.astype(np.uint8), strict=True))
        masks[stems[0]][masks[stems[0]] == 2] = 0
        write(root, name, stems, {stem: masks[stem] for stem in stems[::5]}, seed)
        spans = {"1": (1, 31, 7), "2": (6, 31, 6)}
        meta[name] = {
            "objects": {
                label: {"frame_range": {"start": f"{start:08d}", "end": f"{end:08d}", "frame_nums": str(count)}}
                for label, (start, end, count) in spans.items()
            }
        }
    (root / "valid_meta.json").write_text(json.dumps({"videos": meta}))
    (root / "unseen_videos.txt").write_text("unseen1\n")
    return root


def test_lvos_counts_as_the_official_tool_does(tmp_path: Path) -> None:
    root = lvos(tmp_path / "valid")
    pred, random = tmp_path / "pred", np.random.default_rng(0)
    for folder in (root / "Annotations").iterdir():
        for path in folder.iterdir():
            (pred / folder.name).mkdir(parents=True, exist_ok=True)
            write_mask(pred / folder.name / path.name, np.roll(ids(path), random.integers(-4, 5, 2), axis=(0, 1)))
    scores = Lvos(root).score(pred)
    means: dict[str, list[float]] = {}
    for item in scores.objects:
        first, count = (1, 7) if item.id == 1 else (6, 6)
        numbers = [number for index, number in enumerate(range(first, 31, 5)) if index not in (0, count - 1)]
        values = []
        for number in numbers:
            truth, mask = (ids(base / item.sequence / f"{number:08d}.png") == item.id for base in (root / "Annotations", pred))
            values.append((region_similarity(truth, mask), boundary_accuracy(truth, mask)))
        assert item.j_frames == tuple(j for j, _ in values)
        middle = sum((j + f) / 2 for j, f in values) / len(values)
        variance = sum(((j + f) / 2 - middle) ** 2 for j, f in values) / len(values)
        assert item.v == pytest.approx(round(variance, 4) ** 0.5)
        means.setdefault(item.sequence, []).append(sum(j + f for j, f in values) / len(values) / 2)
    assert scores.headline == ("G", pytest.approx(np.mean([np.mean(means["seen1"]), np.mean(means["unseen1"])])))
    later = Lvos(root).find()[0].later
    assert [(one.frame, one.ids) for one in later] == [(5, (2,))]


def test_chen_by_loops(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    stems = [f"{index:05d}" for index in range(4)]
    wanted = []
    for name, labels in (("bus", [0, 1, 2, 3]), ("ice", [2, 4])):
        masks = {stem: random.choice(labels, SIZE).astype(np.uint8) for stem in stems}
        if name == "bus":
            masks["00002"][:10] = 9  # appears later: nobody can know it
        write(tmp_path / "chen", name, stems, masks)
        pairs = []
        for stem in stems[1:]:
            mask = np.where(random.random(SIZE) < 0.7, masks[stem], random.choice(labels, SIZE)).astype(np.uint8)
            mask[masks[stem] == 9] = labels[0]
            if name == "ice":
                mask[:5] = 1  # no class of this clip
            (tmp_path / "pred" / name).mkdir(parents=True, exist_ok=True)
            write_mask(tmp_path / "pred" / name / f"{stem}.png", mask)
            pairs += [(int(a), int(b)) for a, b in zip(masks[stem].flat, mask.flat, strict=True) if a not in (0, 9)]
        shares = [sum(a == b == label for a, b in pairs) / sum(label in pair for pair in pairs) for label in labels if label]
        wanted.append(sum(shares) / len(shares))
    scores = Chen(tmp_path / "chen").score(tmp_path / "pred")
    assert list(scores.videos.values()) == pytest.approx(wanted, abs=1e-12)
    assert scores.headline == ("mIoU per video", pytest.approx(sum(wanted) / 2))
    (tmp_path / "pred" / "ice" / "00003.png").unlink()
    (tmp_path / "pred" / "bus" / "00001.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 2 .*bus/00001\.png, ice/00003\.png"):
        Chen(tmp_path / "chen").score(tmp_path / "pred")


def test_chen_keeps_all_labels_of_a_real_clip(real_data: Path, tmp_path: Path) -> None:
    for kind in ("JPEGImages", "Annotations"):
        (tmp_path / "chen" / kind / "ice").mkdir(parents=True)
        for path in sorted((real_data / "chen" / kind / "ice").iterdir())[:4]:
            (tmp_path / "chen" / kind / "ice" / path.name).write_bytes(path.read_bytes())
    evaluation = evaluate(Chen(tmp_path / "chen"), tmp_path / "out", "vitt8d6")
    assert evaluation is not None
    assert evaluation.scores.headline[1] > 0.6
