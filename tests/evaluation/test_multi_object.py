"""DAVIS 2017 end to end: several objects, void, objects that leave, the official tables, Full-Resolution, predictions alone."""

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from siammae.cli import main
from siammae.encoder import Encoder
from siammae.evaluation import Davis, evaluate, predict_only
from siammae.labels import write_mask
from siammae.synthetic import render_clip

SIZE = 64, 112


def tree(root: Path, names: tuple[str, ...] = ("cat", "dog"), resolution: str = "480p", num_frames: int = 9) -> Path:
    """Sequences of one to three objects with a void; the last object leaves in the middle."""
    for index, name in enumerate(names, start=1):
        clip = render_clip(num_frames, SIZE, num_objects=index + 1, seed=index)
        masks = clip.masks.astype(np.uint8)
        masks[num_frames // 2 :][masks[num_frames // 2 :] == index + 1] = 0
        masks[1:, :4, :9] = 255
        for frame, (picture, mask) in enumerate(zip(clip.frames, masks, strict=True)):
            image = root / "JPEGImages" / resolution / name / f"{frame:05d}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(image, quality=95)
            path = root / "Annotations" / resolution / name / f"{frame:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_mask(path, mask)
    (root / "ImageSets" / "2017").mkdir(parents=True, exist_ok=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("\n".join(names))
    return root


def ids(path: Path) -> NDArray[np.uint8]:
    return np.array(Image.open(path))


def shaken(root: Path, out: Path, resolution: str = "480p") -> Path:
    """Predictions that are a little wrong; object 1 of the last sequence is never predicted."""
    random = np.random.default_rng(0)
    folders = sorted((root / "Annotations" / resolution).iterdir())
    for folder in folders:
        for path in sorted(folder.iterdir()):
            mask = np.roll(ids(path), random.integers(-3, 4, 2), axis=(0, 1))
            mask[mask == 255] = 0
            if folder == folders[-1]:
                mask[mask == 1] = 0
            (out / folder.name).mkdir(parents=True, exist_ok=True)
            write_mask(out / folder.name / path.name, mask)
    return out


def official(root: Path, predictions: Path) -> tuple[list[str], list[list[float]]]:
    """The figures of every object as the official tool computes them: planes of all frames at once, plain loops over pixels."""
    names, rows = [], []
    for name in (root / "ImageSets" / "2017" / "val.txt").read_text().split():
        stems = sorted(path.stem for path in (root / "Annotations" / "480p" / name).iterdir())
        truth = np.stack([ids(root / "Annotations" / "480p" / name / f"{stem}.png") for stem in stems])
        masks = np.stack([ids(predictions / name / f"{stem}.png") for stem in stems])
        truth[truth == 255] = 0
        for label in range(1, int(truth[0].max()) + 1):
            names.append(f"{name}_{label}")
            row = []
            for measure in (jaccard, boundary):
                values = [measure(truth[t] == label, masks[t] == label) for t in range(1, len(stems) - 1)]
                bounds = [int(np.round(1 + (len(values) - 1) * part / 4 + 1e-10)) - 1 for part in range(5)]
                first, last = values[: bounds[1] + 1], values[bounds[3] : bounds[4] + 1]
                recall = sum(value > 0.5 for value in values) / len(values)
                row += [sum(values) / len(values), recall, sum(first) / len(first) - sum(last) / len(last)]
            rows.append(row)
    return names, rows


def jaccard(gt: NDArray[np.bool_], pred: NDArray[np.bool_]) -> float:
    both = sum(bool(a and b) for a, b in zip(gt.flat, pred.flat, strict=True))
    either = sum(bool(a or b) for a, b in zip(gt.flat, pred.flat, strict=True))
    return both / either if either else 1.0


def boundary(gt: NDArray[np.bool_], pred: NDArray[np.bool_]) -> float:
    height, width = gt.shape
    radius = int(np.ceil(0.008 * np.hypot(height, width)))

    def outline(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
        places = []
        for y in range(height):
            for x in range(width):
                around = [(min(y + 1, height - 1), x), (y, min(x + 1, width - 1))]
                around += [(y + 1, x + 1)] if y + 1 < height and x + 1 < width else []
                if any(mask[place] != mask[y, x] for place in around):
                    places.append((y, x))
        return places

    theirs, ours = outline(gt), outline(pred)
    if not theirs or not ours:
        return float(not theirs and not ours)

    def share(points: list[tuple[int, int]], others: list[tuple[int, int]]) -> float:
        near = [any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in others) for y, x in points]
        return sum(near) / len(near)

    precision, recall = share(ours, theirs), share(theirs, ours)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def test_scores_of_several_objects_equal_the_official_computation(tmp_path: Path) -> None:
    root = tree(tmp_path / "DAVIS")
    predictions = shaken(root, tmp_path / "pred")
    names, rows = official(root, predictions)
    scores = Davis(root).score(predictions)
    assert [f"{item.sequence}_{item.id}" for item in scores.objects] == names
    assert len(names) == 5
    assert np.array([[*item.j, *item.f] for item in scores.objects]) == pytest.approx(np.array(rows), abs=1e-12)
    assert [*scores.j, *scores.f] == pytest.approx(np.mean(rows, axis=0), abs=1e-12)
    assert not scores.unknown_ids


def compose(real_data: Path, root: Path, step: int, num_frames: int) -> Path:
    """One sequence of every `step`th pixel: camel with dog and horsejump-high pasted over it, of which the last leaves."""
    layers = ("camel", "dog", "horsejump-high")
    for frame in range(num_frames):
        picture, ids_here = np.zeros((480, 854, 3), dtype=np.uint8), np.zeros((480, 854), dtype=np.uint8)
        for label, name in enumerate(layers, start=1):
            image = np.array(Image.open(real_data / "davis2016" / "JPEGImages" / "480p" / name / f"{frame:05d}.jpg"))
            mask = ids(real_data / "davis2016" / "Annotations" / "480p" / name / f"{frame:05d}.png") > 0
            shift = (40 * (label - 1), 60 * frame * (label == 3) // num_frames * 12)
            image, mask = np.roll(image, shift, axis=(0, 1)), np.roll(mask, shift, axis=(0, 1))
            if label == 3 and frame >= num_frames // 2:
                mask[:] = False
            shown = mask if label > 1 else np.ones_like(mask)
            picture[shown], ids_here[mask] = image[shown], label
        ids_here[-16:, -40:] = 255
        for kind, pixels, suffix in (("JPEGImages", picture, "jpg"), ("Annotations", ids_here, "png")):
            path = root / kind / "480p" / "composed" / f"{frame:05d}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[::step, ::step]).save(path)
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("composed")
    return root


def test_real_objects_from_start_to_end(real_data: Path, tmp_path: Path) -> None:
    root = compose(real_data, tmp_path / "DAVIS", step=8, num_frames=6)
    evaluation = evaluate(Davis(root), tmp_path / "out", "vitt8d6", size=64)
    assert evaluation is not None
    names, rows = official(root, tmp_path / "out" / "predictions")
    assert names == ["composed_1", "composed_2", "composed_3"]
    scores = Davis(root).score(tmp_path / "out" / "predictions")
    assert np.array([[*item.j, *item.f] for item in scores.objects]) == pytest.approx(np.array(rows), abs=1e-12)
    assert evaluation.scores.headline == ("J&F", pytest.approx(np.mean([row[0] + row[3] for row in rows]) / 2))


def test_official_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tree(tmp_path / "DAVIS")
    predictions = shaken(root, tmp_path / "pred")
    names, rows = official(root, predictions)
    main(["score", "davis", str(root), str(predictions), "--csv", str(tmp_path / "tables")])
    capsys.readouterr()
    mean = np.mean(rows, axis=0)
    figures = [(mean[0] + mean[3]) / 2, *mean]
    assert (tmp_path / "tables" / "global_results-val.csv").read_text() == (
        "J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay\n" + ",".join(f"{figure:.3f}" for figure in figures) + "\n"
    )
    lines = [f"{name},{row[0]:.3f},{row[3]:.3f}" for name, row in zip(names, rows, strict=True)]
    table = (tmp_path / "tables" / "per-sequence_results-val.csv").read_text()
    assert table == "Sequence,J-Mean,F-Mean\n" + "\n".join(lines) + "\n"


def test_an_evaluation_of_full_resolution(tmp_path: Path, encoder: Encoder) -> None:
    root = tree(tmp_path / "DAVIS", ("cat",), "Full-Resolution", num_frames=4)
    davis = Davis(root, resolution="Full-Resolution")
    evaluation = evaluate(davis, tmp_path / "out", encoder, size=SIZE)
    assert evaluation is not None
    assert evaluation.about["resolution"] == "Full-Resolution"
    assert (tmp_path / "out" / "global_results-val.csv").is_file()
    assert set(np.unique(ids(tmp_path / "out" / "predictions" / "cat" / "00001.png"))) <= {0, 1, 2}
    with pytest.raises(FileNotFoundError, match="lacks 2 files or folders: JPEGImages/480p, Annotations/480p"):
        evaluate(Davis(root), tmp_path / "none", encoder)


def test_a_set_without_annotations_is_predicted_and_packed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], encoder: Encoder
) -> None:
    root = tree(tmp_path / "DAVIS", num_frames=4)
    whole = evaluate(Davis(root), tmp_path / "whole", encoder, size=SIZE)
    (root / "ImageSets" / "2017" / "val.txt").rename(root / "ImageSets" / "2017" / "test-dev.txt")
    for path in (root / "Annotations").rglob("*.png"):
        if path.stem != "00000":
            path.unlink()
    with pytest.raises(ValueError, match=r"cat, dog of .*: fewer than three annotations"):
        evaluate(Davis(root), tmp_path / "out", encoder, size=SIZE)
    archive = predict_only(Davis(root), tmp_path / "out", encoder, size=SIZE)
    assert whole is not None
    assert archive == tmp_path / "out" / "submission.zip"
    with zipfile.ZipFile(archive) as file:
        assert file.namelist() == [f"{name}/{index:05d}.png" for name in ("cat", "dog") for index in range(4)]
        for name in file.namelist():
            assert file.read(name) == (tmp_path / "whole" / "predictions" / name).read_bytes()
    first = archive.read_bytes()
    assert predict_only(Davis(root), tmp_path / "out", encoder, size=SIZE, resume=True) == archive
    assert archive.read_bytes() == first
    main(["evaluate", "davis", str(root), "-o", str(tmp_path / "cli"), "--predict-only", "--size", "64", "--model", "vitt8d6"])
    assert f"submission: {tmp_path / 'cli' / 'submission.zip'}" in capsys.readouterr().out
    (root / "Annotations" / "480p" / "cat" / "00000.png").rename(root / "Annotations" / "480p" / "cat" / "00001.png")
    with pytest.raises(FileNotFoundError, match=r"lacks 1 .*Annotations/480p/cat/00000\.png"):
        predict_only(Davis(root), tmp_path / "again", encoder)


def test_archives_are_scored_like_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tree(tmp_path / "DAVIS", num_frames=5)
    predictions = shaken(root, tmp_path / "pred")
    printed = []
    for prefix in ("", "Annotations/480p/"):
        with zipfile.ZipFile(tmp_path / "pred.zip", "w") as archive:
            for path in sorted(predictions.rglob("*.png")):
                archive.write(path, f"{prefix}{path.relative_to(predictions)}")
            archive.writestr("__MACOSX/._x.png", b"")
        main(["score", "davis", str(root), str(tmp_path / "pred.zip")])
        printed.append(capsys.readouterr().out)
    main(["score", "davis", str(root), str(predictions)])
    printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] == printed[2]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "holds no .png or .csv file"),
        ({"notes.txt": b"x"}, "holds no .png or .csv file"),
        ({"../../evil.png": b"x", "/etc/a.png": b"x"}, r"members outside its folders: \.\./\.\./evil\.png, /etc/a\.png"),
        ({"cat/00000.png": bytes(10_000_000)}, "unpack to more than 200 times: cat/00000.png"),
    ],
)
def test_bad_archives(tmp_path: Path, capsys: pytest.CaptureFixture[str], members: dict[str, bytes], message: str) -> None:
    root = tree(tmp_path / "DAVIS", num_frames=4)
    with zipfile.ZipFile(tmp_path / "pred.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(SystemExit, match="2"):
        main(["score", "davis", str(root), str(tmp_path / "pred.zip")])
    assert re.search(message, capsys.readouterr().err)
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 no more")
    with pytest.raises(SystemExit, match="2"):
        main(["score", "davis", str(root), str(tmp_path / "broken.zip")])
    assert "cannot be read as a ZIP file" in capsys.readouterr().err


def test_wrong_masks_are_named_all_together(tmp_path: Path) -> None:
    root = tree(tmp_path / "DAVIS", num_frames=5)
    predictions = shaken(root, tmp_path / "pred")
    for name, index in (("cat", 1), ("dog", 3)):
        write_mask(predictions / name / f"{index:05d}.png", np.zeros((8, 9), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"2 masks of another size: cat/00001\.png has 8 x 9 pixels.*dog/00003\.png"):
        Davis(root).score(predictions)
    for name in ("cat", "dog"):
        write_mask(predictions / name / "00077.png", np.zeros(SIZE, dtype=np.uint8))
    with pytest.raises(ValueError, match=r"2 frames that the data set lacks: cat/00077\.png, dog/00077\.png"):
        Davis(root).score(predictions)


def test_attributes_have_means_of_their_own(tmp_path: Path) -> None:
    root = tree(tmp_path / "DAVIS", num_frames=5)
    (root / "Annotations" / "db_info.yml").write_text(
        "sequences:\n- {name: cat, attributes: [OCC, FM]}\n- {name: dog, attributes: [OCC]}\n- {name: owl, attributes: [DB]}\n"
    )
    scores = Davis(root).score(shaken(root, tmp_path / "pred"))
    figures = scores.figures()["attributes"]
    assert list(figures) == ["FM", "OCC"]
    assert figures["FM"]["J"]["mean"] == scores.sequences["cat"].j.mean
    assert figures["OCC"]["J&F"] == pytest.approx(scores.j_and_f)
    assert "| attribute FM |" in scores.table()
    (root / "Annotations" / "db_info.yml").write_text("- 1")
    with pytest.raises(ValueError, match="cannot be read as DAVIS's attributes"):
        Davis(root).score(tmp_path / "pred")
