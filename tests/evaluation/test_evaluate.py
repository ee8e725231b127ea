"""Whole evaluations of DAVIS by the command: predictions, scores, protocols, interruptions, several processes, the report."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from siammae import propagate_labels
from siammae.cli import main
from siammae.encoder import Encoder
from siammae.evaluation import Badja, Davis, Jhmdb, Vip, evaluate
from siammae.evaluation.datasets import read_dataset
from siammae.evaluation.protocols import PROTOCOLS, find_protocol
from siammae.evaluation.report import write_report
from siammae.labels import write_mask
from siammae.propagation import propagate_to_folder
from siammae.synthetic import render_clip

SIZE = 64, 112


@pytest.fixture(scope="module")
def davis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sequences: two objects with a void, one object as DAVIS 2016 stores it, and one that no split lists."""
    root = tmp_path_factory.mktemp("DAVIS")
    for index, (name, num_frames) in enumerate((("cat", 6), ("dog", 4), ("train", 4))):
        clip = render_clip(num_frames, SIZE, num_objects=2, seed=index)
        masks = clip.masks.astype(np.uint8)
        if name == "cat":
            masks[0, :3] = 255
        else:
            masks = np.where(masks > 0, 255, 0).astype(np.uint8)
        for frame, (picture, mask) in enumerate(zip(clip.frames, masks, strict=True)):
            for kind, pixels in (("JPEGImages", picture), ("Annotations", mask)):
                path = root / kind / "480p" / name / f"{frame:05d}.{'jpg' if kind == 'JPEGImages' else 'png'}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    (root / "ImageSets" / "480p").mkdir(parents=True)
    lines = [f"/JPEGImages/480p/{name}/{0:05d}.jpg /Annotations/480p/{name}/{0:05d}.png\n" for name in ("cat", "dog", "dog")]
    (root / "ImageSets" / "480p" / "val.txt").write_text("".join(lines))  # as DAVIS 2016 lists them, by frame
    return root


def ids(path: Path) -> NDArray[np.uint8]:
    return np.array(Image.open(path))


@pytest.mark.parametrize("protocol", ["best", "dino"])
def test_predictions_are_files_and_scores_are_theirs(davis: Path, tmp_path: Path, encoder: Encoder, protocol: str) -> None:
    evaluation = evaluate(Davis(davis), tmp_path, encoder, protocol=protocol, size=SIZE)
    assert evaluation is not None
    masks = sorted((tmp_path / "predictions" / "cat").glob("*.png"))
    assert [path.name for path in masks] == [f"{index:05d}.png" for index in range(6)]
    first = ids(davis / "Annotations" / "480p" / "cat" / "00000.png")
    assert np.array_equal(ids(masks[0]), np.where(first == 255, 0, first))
    frames = sorted((davis / "JPEGImages" / "480p" / "cat").glob("*.jpg"))
    wanted = propagate_labels(frames, ids(masks[0]), encoder, size=SIZE, config="dino" if protocol == "dino" else None)
    assert np.array_equal(np.stack(list(map(ids, masks))), wanted)
    assert set(np.unique(ids(tmp_path / "predictions" / "dog" / "00002.png"))) == {0, 1}
    scores = Davis(davis).score(tmp_path / "predictions")
    assert list(scores.sequences) == ["cat", "dog"]
    assert evaluation.scores.headline == scores.headline
    stored = json.loads((tmp_path / "scores.json").read_text())
    assert stored["headline"] == {"name": "J&F", "value": scores.j_and_f}
    assert stored["config"] == json.loads(json.dumps(evaluation.about["config"]))
    assert stored["weights_sha256"] == encoder.digest()
    for fact in (
        protocol,
        encoder.digest()[:16],
        stored["data_sha256"][:16],
        torch.__version__.split("+")[0],
        f"temperature {evaluation.about['config']['temperature']}",
        str(SIZE),
    ):
        assert fact in evaluation.table()


def test_the_command(davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    options = ["--sequences", "dog", "--set", "top_k=3", "--size", "64", "--resized", "64", "120"]
    main(["evaluate", "davis", str(davis), "-o", str(out), *options])
    printed = capsys.readouterr().out
    assert "davis: 1 sequences" in printed
    assert "top_k 3" in printed
    assert "| all, resized to 64 x 120 |" in printed
    assert json.loads((out / "scores.json").read_text())["resized"]["size"] == [64, 120]
    main(["evaluate", "report", str(out), "-o", str(tmp_path / "page.html")])
    page = (tmp_path / "page.html").read_text()
    assert page.count("<img src=") == 2  # the truth and the run


def test_an_interrupted_evaluation_goes_on(
    davis: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(Davis(davis), tmp_path / "whole", encoder, size=SIZE)

    def stop_at_dog(frames: list[Path], *args: Any, **options: Any) -> Path:
        if frames[0].parent.name == "dog":
            raise KeyboardInterrupt
        return propagate_to_folder(frames, *args, **options)

    monkeypatch.setattr("siammae.evaluation.predict.propagate_to_folder", stop_at_dog)
    with pytest.raises(KeyboardInterrupt):
        evaluate(Davis(davis), tmp_path / "cut", encoder, size=SIZE)
    monkeypatch.undo()
    assert not (tmp_path / "cut" / "scores.json").exists()
    with pytest.raises(FileExistsError, match="holds an evaluation already"):
        evaluate(Davis(davis), tmp_path / "cut", encoder, size=SIZE)
    changed = {"temperature": 0.2}
    with pytest.raises(ValueError, match=r"made with other settings.*'temperature': 0\.005.*'temperature': 0\.2"):
        evaluate(Davis(davis), tmp_path / "cut", encoder, size=SIZE, changes=changed, resume=True)
    before = (tmp_path / "cut" / "predictions" / "cat" / "00003.png").stat().st_mtime_ns
    again = evaluate(Davis(davis), tmp_path / "cut", encoder, size=SIZE, resume=True)
    assert again is not None
    assert (tmp_path / "cut" / "predictions" / "cat" / "00003.png").stat().st_mtime_ns == before
    whole = sorted((tmp_path / "whole" / "predictions").rglob("*.png"))
    assert len(whole) == 10
    for path in whole:
        assert path.read_bytes() == (tmp_path / "cut" / path.relative_to(tmp_path / "whole")).read_bytes()


def test_a_score_is_never_read_from_an_old_file(davis: Path, tmp_path: Path, encoder: Encoder) -> None:
    first = evaluate(Davis(davis, ["dog"]), tmp_path / "out", encoder, size=SIZE)
    assert first is not None
    blank = np.zeros(SIZE, dtype=np.uint8)
    for path in (tmp_path / "out" / "predictions" / "dog").glob("*.png"):
        write_mask(path, blank)
    again = evaluate(Davis(davis, ["dog"]), tmp_path / "out", encoder, size=SIZE, resume=True)
    assert again is not None
    assert again.scores.headline[1] == 0 < first.scores.headline[1]
    root = tmp_path / "DAVIS"
    shutil.copytree(davis, root)
    Image.fromarray(blank).convert("RGB").save(root / "JPEGImages" / "480p" / "dog" / "00001.jpg")
    with pytest.raises(ValueError, match=r"cannot be resumed: .*data_sha256 was"):
        evaluate(Davis(root, ["dog"]), tmp_path / "out", encoder, size=SIZE, resume=True)


def test_two_processes_share_the_sequences(davis: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--standalone",
        "--module",
        "siammae",
    ]
    command += ["evaluate", "davis", str(davis), "-o", str(tmp_path / "out"), "--size", "64"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| all |") == 1
    alone = evaluate(Davis(davis), tmp_path / "alone", size=64)
    stored = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert stored["processes"] == 2
    assert alone is not None
    assert stored["J&F"] == pytest.approx(alone.scores.headline[1], abs=0.01)


def test_what_is_missing_is_named_before_any_work(davis: Path, tmp_path: Path, encoder: Encoder) -> None:
    root = tmp_path / "DAVIS"
    shutil.copytree(davis, root)
    (root / "JPEGImages" / "480p" / "cat" / "00002.jpg").unlink()
    (root / "Annotations" / "480p" / "dog" / "00001.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 2 .*JPEGImages/480p/cat/00002\.jpg, Annotations/480p/dog/00001\.png"):
        evaluate(Davis(root), tmp_path / "out", encoder)
    with pytest.raises(
        FileNotFoundError, match=r"lacks 2 files or folders: JPEGImages/480p, Annotations/480p\. Expected DAVIS"
    ):
        evaluate(Davis(tmp_path), tmp_path / "out", encoder)
    with pytest.raises(FileNotFoundError, match="holds no PNG masks of bird"):
        evaluate(Davis(davis, ["bird"]), tmp_path / "out", encoder)
    assert not (tmp_path / "out").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds files but no evaluation\.json"):
        evaluate(Davis(davis), tmp_path / "other", encoder)


def test_options_and_names_that_do_not_exist(davis: Path, tmp_path: Path, encoder: Encoder) -> None:
    with pytest.raises(
        ValueError, match=r"the data set is 'davis'; expected an object such as siammae.evaluation.Davis\(root\)"
    ):
        evaluate("davis", tmp_path, encoder)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"sequences is 'dog'; expected a list of names, such as \['dog'\]"):
        evaluate(Davis(davis, "dog"), tmp_path, encoder)
    with pytest.raises(ValueError, match="no protocol for vip is called 'dino'; there are best, crw, cropmae, paper"):
        evaluate(Vip(davis), tmp_path, encoder, protocol="dino")
    with pytest.raises(TypeError, match="per_video"):
        Davis(davis, per_video=True)  # type: ignore[call-arg]
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"empty\.txt names no sequence"):
        Davis(davis, split=tmp_path / "empty.txt").find()


def test_protocols_have_the_published_sizes_and_values() -> None:
    frame, portrait, patch = (480, 854), (854, 480), 16
    sizes = {name: protocol.size(frame, patch) for name, protocol in PROTOCOLS["davis"].items()}
    assert sizes == {"best": None, "dino": (480, 832), "crw": (480, 848), "cropmae": (480, 880), "paper": (480, 848)}
    assert find_protocol("davis", "dino").size(portrait, patch) == (832, 480)
    assert find_protocol("vip", "cropmae").size((720, 1280), patch) == (448, 880)
    assert find_protocol("vip", "cropmae").size((1280, 720), patch) == (880, 448)
    published = {  # context frames, top k, radius, temperature
        ("davis", "crw"): (20, 10, 12, 0.05),
        ("davis", "cropmae"): (20, 7, 20, 0.7),
        ("davis", "paper"): (20, 7, 20, 0.05),
        ("vip", "crw"): (4, 10, 12, 0.05),
        ("vip", "cropmae"): (20, 10, 20, 0.7),
        ("vip", "paper"): (20, 10, 8, 0.05),
        ("jhmdb", "crw"): (7, 10, 12, 0.05),
        ("jhmdb", "cropmae"): (20, 7, 20, 0.7),
        ("jhmdb", "paper"): (20, 7, 20, 0.05),
    }
    for (dataset, name), values in published.items():
        config = find_protocol(dataset, name).config
        assert config is not None
        assert (config.context_frames, config.top_k, config.radius, config.temperature) == values
    assert all(protocols["best"].config is None for protocols in PROTOCOLS.values())  # the model's own
    jhmdb = [find_protocol("jhmdb", name).config for name in ("crw", "cropmae")]
    assert [config and config.point_top_k for config in jhmdb] == [3, 5]


def test_reports_show_runs_side_by_side(davis: Path, tmp_path: Path, encoder: Encoder) -> None:
    for protocol in ("best", "dino"):
        evaluate(Davis(davis), tmp_path / protocol, encoder, protocol=protocol, size=SIZE)
    page = write_report([tmp_path / "best", tmp_path / "dino"], tmp_path / "page.html", worst=1).read_text()
    assert page.count("<rect") == 4  # two sequences, two runs
    assert page.count("<polyline") == 4 + 2  # and the mean of each run
    assert page.count("<img src=") == 3  # the truth and two runs of one frame
    assert page.count("src=") == page.count('src="data:image/jpeg;base64,')  # complete in itself
    with pytest.raises(FileNotFoundError, match=r"has no scores\.json"):
        write_report([davis], tmp_path / "page.html")
    with pytest.raises(ValueError, match="no evaluation to report"):
        write_report([], tmp_path / "page.html")
    evaluate(Davis(davis, ["dog"]), tmp_path / "one", encoder, size=SIZE)
    with pytest.raises(ValueError, match="of different data"):
        write_report([tmp_path / "best", tmp_path / "one"], tmp_path / "page.html")
    (tmp_path / "one" / "scores.json").write_text("{}")
    with pytest.raises(ValueError, match="cannot be read as the scores of an evaluation"):
        write_report([tmp_path / "one"], tmp_path / "page.html")


def test_a_report_shows_names_as_they_are(davis: Path, tmp_path: Path, encoder: Encoder) -> None:
    for kind in ("JPEGImages", "Annotations"):
        shutil.copytree(davis / kind / "480p" / "dog", tmp_path / "DAVIS" / kind / "480p" / "a <b> & 'c'")
    evaluate(Davis(tmp_path / "DAVIS"), tmp_path / "out", encoder, size=SIZE)
    page = write_report([tmp_path / "out"], tmp_path / "page.html").read_text()
    assert "<b> &" not in page
    assert page.count("a &lt;b&gt; &amp; &#39;c&#39;") == 3  # a bar, a curve and a worst frame


def test_records_of_data_sets_read_back(tmp_path: Path) -> None:
    for dataset in (Davis(tmp_path, ["b", "a"], resized=(4, 5)), Vip(tmp_path, ["a"]), Jhmdb(tmp_path, ["a"]),
                    Badja(tmp_path, ["a"]), Badja(tmp_path, ["a"], joints=tmp_path / "joints")):  # fmt: skip
        record = json.loads(json.dumps({**dataset.record(), "sequences": dataset.sequences}))
        back = read_dataset(record)
        assert type(back) is type(dataset)
        assert back.record() == dataset.record()
        assert back.wanted() == dataset.wanted()
        assert dataset.name in PROTOCOLS


def test_scores_at_another_size_show_the_habit(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "davis2016"
    for path in Davis(root, ["dog"]).find()[0].annotations:
        shifted = np.roll(ids(path), 9, axis=0)
        (tmp_path / "dog").mkdir(exist_ok=True)
        write_mask(tmp_path / "dog" / path.name, shifted)
    scores = Davis(root, ["dog"], resized=(480, 880)).score(tmp_path)
    assert scores.resized is not None
    (size, habit) = scores.resized
    assert size == (480, 880)
    assert habit.j.mean == pytest.approx(scores.j.mean, abs=0.005)
    assert habit.f.mean > scores.f.mean + 0.01  # boundaries may be 9 pixels apart, not 8
