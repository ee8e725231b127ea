"""The command line, as a person meets it: outputs, exit codes, and one line instead of a traceback for a mistake."""

import csv
import json
import re
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from siammae import load_model, save_model, segment
from siammae.cli import main
from siammae.cli.checks import out_of_memory
from siammae.labels import draw_shapes
from siammae.models.build import build_encoder
from siammae.propagation import propagate_to_folder
from siammae.synthetic import Clip, render_clip
from siammae.video import read_frames, write_video


@pytest.fixture(scope="module")
def clip() -> Clip:
    return render_clip(5, (64, 96))


@pytest.fixture
def home(tmp_path: Path, clip: Clip, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a clip, its first mask, some points and a small model, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    write_video("clip.mp4", clip.frames, 25)
    picture = Image.fromarray(clip.masks[0])
    picture.putpalette([0, 0, 0, 10, 200, 30, 250, 120, 0])
    picture.save("mask.png")
    (tmp_path / "points.csv").write_text("x,y\n30,20\n,\n")
    save_model(build_encoder("vit_tiny_patch16_224", {"depth": 1}, default_size=64, name="small"), "small")
    return tmp_path


def run(*arguments: str) -> int:
    """The exit code of `siammae ARGUMENTS`."""
    try:
        main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_propagate_writes_masks_and_overlay(home: Path, clip: Clip, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("propagate", "clip.mp4", "mask.png", "-o", "out", "--overlay", "over.mp4", "--model", "small") == 0
    files = sorted((home / "out").glob("*.png"))
    assert [file.name for file in files] == [f"{index:05d}.png" for index in range(5)]
    masks = [Image.open(file) for file in files]
    assert (np.array(masks[0]) == clip.masks[0]).all()
    assert all(mask.getpalette()[:9] == [0, 0, 0, 10, 200, 30, 250, 120, 0] for mask in masks)
    assert set(np.unique(np.array(masks[4]))) <= {0, 1, 2}
    overlay = list(read_frames("over.mp4"))
    assert len(overlay) == 5
    assert overlay[0].shape == (3, 64, 96)
    record = json.loads((home / "out" / "siammae.json").read_text())
    assert record["finished"]
    assert record["model"] == "small"
    output = capsys.readouterr()
    assert output.out == "masks: out\noverlay: over.mp4\n"
    assert output.err == ""  # no progress bar where standard error is no terminal


def test_presets_and_single_values(home: Path) -> None:
    assert (
        run(
            "propagate",
            "clip.mp4",
            "mask.png",
            "-o",
            "out",
            "--model",
            "small",
            "--preset",
            "dino",
            "--set",
            "top_k=9",
            "keep_ties=False",
            "radius=inf",
            "--size",
            "64",
            "96",
        )
        == 0
    )
    config = json.loads((home / "out" / "siammae.json").read_text())["config"]
    assert (config["top_k"], config["window"], config["context_frames"]) == (9, "square", 7)
    assert (config["keep_ties"], config["radius"]) == (False, float("inf"))


def test_what_was_tracked_before_damage_is_kept(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = render_clip(9, (96, 128)).frames
    write_video("long.mp4", pictures, 25)
    remuxed = home / "cut.mp4"
    with av.open("long.mp4") as source, av.open(str(remuxed), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    remuxed.write_bytes(remuxed.read_bytes()[: int(remuxed.stat().st_size * 0.8)])
    assert run("keypoints", "cut.mp4", "points.csv", "-o", "t.csv", "--model", "small") == 2
    assert "cut.mp4 is damaged: frame" in capsys.readouterr().err
    with open("t.csv", newline="") as file:
        frames = {row["frame"] for row in csv.DictReader(file)}
    assert 1 <= len(frames) < 9
    Image.fromarray(render_clip(1, (96, 128)).masks[0]).save("large.png")
    assert run("propagate", "cut.mp4", "large.png", "-o", "out", "--overlay", "o.mp4", "--model", "small") == 2
    assert len(list(read_frames("o.mp4"))) == len(list((home / "out").glob("*.png"))) == len(frames)
    capsys.readouterr()
    remuxed.write_bytes(remuxed.read_bytes()[:2000])  # not even one frame is whole
    assert run("propagate", "cut.mp4", "large.png", "-o", "none", "--overlay", "none.mp4", "--model", "small") == 2
    assert "cut.mp4 is damaged: frame 0" in capsys.readouterr().err


@pytest.mark.filterwarnings("always:.*is damaged")
@pytest.mark.parametrize("on_damage", ["skip", "repeat"])
def test_results_after_damage_keep_their_numbers(home: Path, on_damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    with av.open("damaged.mp4", "w") as file:  # key frames at 0, 4 and 8; number 5 is garbage
        stream = file.add_stream("libx264", rate=25, width=96, height=64, pix_fmt="yuv420p", options={"g": "4", "bf": "0"})
        for frame in render_clip(10, (64, 96)).frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode(None))
    with av.open("damaged.mp4") as file:
        start, size = [(packet.pos, packet.size) for packet in file.demux(video=0) if packet.size][5]
    data = bytearray(Path("damaged.mp4").read_bytes())
    data[start + 6 : start + size] = np.random.default_rng(0).bytes(size - 6)
    Path("damaged.mp4").write_bytes(data)
    options = ["--model", "small", "--on-damage", on_damage]
    assert run("propagate", "damaged.mp4", "mask.png", "-o", "out", "--overlay", "over.mp4", *options) == 0
    assert "damaged: frames 5 to 7 are" in capsys.readouterr().err
    expected = [0, 1, 2, 3, 4, 8, 9] if on_damage == "skip" else list(range(10))
    assert [file.name for file in sorted(Path("out").glob("*.png"))] == [f"{number:05d}.png" for number in expected]
    assert len(list(read_frames("over.mp4"))) == len(expected)
    table = Path("out/scores.csv").read_text().splitlines()[1:]
    assert sorted({int(row.split(",")[0]) for row in table}) == expected
    assert run("propagate", "damaged.mp4", "mask.png", "-o", "part", "--frames", "0:9", *options) == 2 * (on_damage == "skip")
    assert run("keypoints", "damaged.mp4", "points.csv", "-o", "tracks.csv", *options) == 0
    rows = Path("tracks.csv").read_text().splitlines()[1:]
    assert sorted({int(row.split(",")[0]) for row in rows}) == expected
    assert run("features", "damaged.mp4", "-o", "features.npy", *options) == 0
    assert len(np.load("features.npy")) == len(expected)


def test_a_run_is_not_overwritten_and_can_be_resumed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("propagate", "clip.mp4", "mask.png", "-o", "out", "--model", "small")
    assert run(*command) == 0
    assert run(*command) == 2
    assert "holds masks already" in capsys.readouterr().err
    assert run(*command, "--resume") == 0
    assert run(*command, "--resume", "--preset", "dino") == 2
    assert "made with other settings" in capsys.readouterr().err


def test_keypoints_writes_a_table(home: Path) -> None:
    assert run("keypoints", "clip.mp4", "points.csv", "-o", "tracks.csv", "--overlay", "o.gif", "--model", "small") == 0
    with open(home / "tracks.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    assert rows[0] == {"frame": "0", "point": "0", "x": "30.000", "y": "20.000", "score": "1.0000"}
    assert (rows[1]["x"], rows[1]["score"]) == ("", "0.0000")
    assert 0 <= float(rows[8]["x"]) < 96
    assert len(list(read_frames("o.gif"))) == 5


def test_features_in_both_formats(home: Path) -> None:
    assert run("features", "clip.mp4", "-o", "f.safetensors", "--model", "small") == 0
    assert run("features", "clip.mp4", "-o", "f.npy", "--model", "small") == 0
    features = load_file(home / "f.safetensors")["features"]
    assert features.shape == (5, 192, 4, 6)
    assert np.array_equal(np.load(home / "f.npy"), features.numpy())


def test_models_info_and_env(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "vitt*") == 0
    listing = capsys.readouterr().out
    assert "vitt8d6" in listing
    assert "vitt16" not in listing  # an architecture without weights
    assert run("models", "vitt*", "--all") == 0
    listing = capsys.readouterr().out
    assert "vitt16" in listing
    assert "vitb16" not in listing
    assert run("info", "vits8") == 0
    assert "patch_size: 8" in capsys.readouterr().out
    assert run("env") == 0
    report = capsys.readouterr().out
    assert "torch: " in report
    assert "default device: " in report
    assert "h264" in report


def test_demo_prints_scores_and_paths(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("demo", "--model", "small", "--frames", "4", "-o", "demo") == 0
    output = capsys.readouterr().out
    assert "object 1: J " in output
    assert "object 2: J " in output
    for line in output.splitlines()[-3:]:
        assert Path(line.split(": ")[1]).exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("propagate", "no.mp4", "mask.png", "-o", "o"), "no such video file or folder of images: no.mp4"),
        (("propagate", "clip.mp4", "no.png", "-o", "o", "--model", "small"), "no such picture: no.png"),
        (("propagate", "points.csv", "mask.png", "-o", "o"), "points.csv cannot be read as a video"),
        (("propagate", "clip.mp4", "mask.png", "-o", "o", "--model", "vitb16"), "has no published weights yet"),
        (("propagate", "clip.mp4", "mask.png", "-o", "o", "--model", "vits61"), "Closest names: vits16"),
        (("propagate", "clip.mp4", "mask.png", "-o", "o", "--model", "small", "--overlay", "o.avi"), "o.avi ends in .avi"),
        (("propagate", "clip.mp4", "mask.png", "-o", "o", "--model", "small", "--set", "topk=3"), "did you mean top_k?"),
        (("propagate", "clip.mp4", "mask.png", "-o", "o", "--model", "small", "--set", "top_k"), "expected name=value"),
        (
            ("propagate", "clip.mp4", "mask.png", "-o", "o", "--model", "small", "--preset", "dyno"),
            "no preset is called 'dyno'",
        ),
        (("propagate", "clip.mp4", "mask.png", "-o", "clip.mp4/o", "--model", "small"), "clip.mp4/o"),
        (
            ("keypoints", "clip.mp4", "points.csv", "-o", "t.txt", "--model", "small"),
            "t.txt ends in .txt; expected one of .csv",
        ),
        (("features", "clip.mp4", "-o", "f.npy", "--model", "small", "--dtype", "bfloat16"), "no bfloat16"),
        (("info", "vits61"), "no model is called 'vits61'"),
        (
            ("keypoints", "clip.mp4", "points.csv", "-o", "no/t.csv", "--model", "small"),
            "no/t.csv cannot be written: there is no",
        ),
        (("features", "clip.mp4", "-o", "no/f.npy", "--model", "small"), "no/f.npy cannot be written: there is no folder no"),
        (
            ("propagate", "clip.mp4", "mask.png", "-o", "o", "--model", "small", "--set", "strict=maybe"),
            "expected True or False",
        ),
        (("propagate", "clip.mp4", "mask.png", "-o", "o", "--model", "small", "--set", "radius=far"), "radius is 'far'"),
        (
            ("propagate", "clip.mp4", "mask.png", "-o", "o", "--model", "small", "--device", "gpu"),
            "device 'gpu' cannot be used",
        ),
        (("demo", "--frames", "2"), "expected at least 3"),
        (("demo", "--model", "small", "--size", "64", "96", "3"), "--size has 3 numbers"),
        (("train", "run.yaml"), "run.yaml"),
        (("train", "mask.png"), "mask.png"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    before = sorted(home.rglob("*"))
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("siammae: ")
    assert message in error
    assert error.count("\n") == 1
    left = [path for path in sorted(home.rglob("*")) if path not in before]
    assert not [path for path in left if path.suffix in {".png", ".mp4", ".csv", ".npy"}]


def test_training_from_the_command_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    smoke = Path(__file__).parents[2] / "examples" / "training" / "cpu-smoke.yaml"
    assert run("train", str(smoke), "model.decodr=cross") == 2
    assert "decoder" in capsys.readouterr().err
    write_video("moving.mp4", render_clip(40, (64, 96)).frames, 25)
    tiny = ["model.depth=1", "model.decoder_depth=1", "batch_size=2", "data.workers=0", "max_minutes=null", "steps=2"]
    assert run("train", str(smoke), "data.path=moving.mp4", "output=run", *tiny) == 0
    printed = capsys.readouterr()
    assert Path(printed.out.split("checkpoint: ")[1].strip()).exists()
    assert "siammae export-run run -o MODEL" in printed.err
    assert "stopped" not in printed.err


def test_a_training_run_is_described_used_and_exported(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    smoke = Path(__file__).parents[2] / "examples" / "training" / "cpu-smoke.yaml"
    write_video("moving.mp4", render_clip(40, (64, 96)).frames, 25)
    tiny = ["model.depth=1", "model.decoder_depth=1", "batch_size=2", "data.workers=0", "max_minutes=null", "steps=2"]
    assert run("train", str(smoke), "data.path=moving.mp4", "output=run", "snapshots=1", *tiny) == 0
    capsys.readouterr()
    assert run("info", "run") == 0
    printed = capsys.readouterr().out
    assert {"checkpoint: checkpoint-0000002", "progress: 1.0", "past_frames: 4", "snapshots: 1"} <= set(printed.splitlines())
    assert run("info", "run/checkpoint-0000002", "--json") == 0
    assert json.loads(capsys.readouterr().out)["config"]["model"]["depth"] == 1
    assert run("info", ".") == 2
    assert "is no training run: it has no checkpoint" in capsys.readouterr().err

    assert run("export-run", "run", "-o", "model", "--precision", "float32", "--license", "cc-by-4.0", "--with-decoder") == 0
    assert "vit_tiny_patch16_224, 4 past frames" in capsys.readouterr().out
    assert (home / "model" / "decoder.safetensors").exists()
    assert run("export-run", "run", "-o", "model") == 2
    assert run("export-run", "clip.mp4", "-o", "other") == 2
    assert "is not a checkpoint" in capsys.readouterr().err
    features = []
    for name in ("model", "run", "run/checkpoint-0000002", "run/snapshots/encoder-0000002.safetensors"):
        assert run("features", "clip.mp4", "-o", "features.safetensors", "--model", name, "--size", "64") == 0
        features.append(load_file("features.safetensors")["features"])
    assert all(other.equal(features[0]) for other in features)


def test_wrong_usage_is_exit_code_2(home: Path) -> None:
    assert run("propagate", "clip.mp4") == 2
    assert run("nonsense") == 2


def test_a_failure_is_exit_code_1(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("siammae.propagation.folder.write_mask", full)
    assert run("propagate", "clip.mp4", "mask.png", "-o", "out", "--model", "small") == 1
    assert "No space left on device" in capsys.readouterr().err


def test_interrupting_keeps_what_is_finished(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from siammae.propagation import LabelPropagator

    step, count = LabelPropagator.step, iter(range(9))

    def interrupted(self: LabelPropagator, frame: object) -> object:
        if next(count) == 2:
            raise KeyboardInterrupt
        return step(self, frame)

    command = ("propagate", "clip.mp4", "mask.png", "--model", "small")
    with monkeypatch.context() as patch:
        patch.setattr(LabelPropagator, "step", interrupted)
        assert run(*command, "-o", "out") == 130
    assert len(list((home / "out").glob("*.png"))) == 3
    assert run(*command, "-o", "out", "--resume") == 0
    assert run(*command, "-o", "whole") == 0
    for index in range(5):
        name = f"{index:05d}.png"
        assert (home / "out" / name).read_bytes() == (home / "whole" / name).read_bytes()


def test_help_is_quick_and_loads_no_torch() -> None:
    began = time.perf_counter()
    command = [sys.executable, "-X", "importtime", "-m", "siammae", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "propagate" in result.stdout
    assert " torch" not in result.stderr
    assert time.perf_counter() - began < 10  # far above what it takes; torch alone would take seconds


def test_a_reader_that_has_enough_is_no_failure() -> None:
    command = [sys.executable, "-u", "-m", "siammae", "models"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # as head does
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_several_videos_go_on_after_one_that_fails(home: Path, clip: Clip, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("videos", "firsts"):
        (home / folder).mkdir()
    for name in ("a", "b", "c"):
        write_video(f"videos/{name}.mp4", clip.frames[:3], 25)
        Image.fromarray(clip.masks[0]).save(f"firsts/{name}.png")
    Path("videos/b.mp4").write_bytes(b"no video")
    videos = [f"videos/{name}.mp4" for name in ("a", "b", "c")]
    options = "--masks", "firsts", "-o", "out", "--overlay", "looks", "--model", "small"
    assert run("propagate", *videos, *options) == 1
    output = capsys.readouterr()
    assert output.out.splitlines()[-1] == "2 of 3 videos done"
    assert "siammae: videos/b.mp4: videos/b.mp4 cannot be read as a video" in output.err
    assert output.err.splitlines()[-1] == "siammae: failed: videos/b.mp4"
    for name in ("a", "c"):
        assert len(list(Path("out", name).glob("*.png"))) == 3
        assert len(list(read_frames(f"looks/{name}.mp4"))) == 3
    assert not Path("out/b").exists()


def test_pairs_of_videos_and_masks(home: Path, clip: Clip, capsys: pytest.CaptureFixture[str]) -> None:
    write_video("other.mp4", clip.frames[:2], 25)
    assert run("propagate", "clip.mp4", "mask.png", "other.mp4", "mask.png", "-o", "out", "--model", "small") == 0
    assert len(list(Path("out/clip").glob("*.png"))) == 5
    assert len(list(Path("out/other").glob("*.png"))) == 2
    for arguments, reason in {
        ("clip.mp4",): "got 1 paths",
        ("clip.mp4", "mask.png", "./clip.mp4", "mask.png"): "several videos are called clip",
        ("clip.mp4", "mask.png", "other.mp4", "mask.png", "--overlay", "look.mp4"): "with several videos it is a folder",
    }.items():
        assert run("propagate", *arguments, "-o", "elsewhere") == 2
        assert reason in capsys.readouterr().err
    assert not Path("elsewhere").exists()


def test_a_frame_to_paint_on_and_a_mask_of_shapes(home: Path, clip: Clip, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("frame", "clip.mp4", "-o", "frame.png", "--frame", "4") == 0
    assert np.abs(np.asarray(Image.open("frame.png")).astype(int) - clip.frames[4]).mean() < 10
    shapes = "box:10,20,29,39", "ellipse:40,10,60,30", "7=polygon:70,5,90,5,70,25"
    assert run("mask", "clip.mp4", *shapes, "-o", "shapes.png", "--overlay", "look.jpg") == 0
    ids = np.asarray(Image.open("shapes.png"))
    assert ids.shape == (64, 96)
    assert (ids == 1).sum() == 20 * 20
    assert ids[20, 10] == ids[39, 29] == 1
    assert ids[20, 50] == 2
    assert ids[10, 40] == 0
    assert ids[6, 71] == 7
    assert ids[24, 89] == 0
    assert np.array(Image.open("look.jpg")).shape == (64, 96, 3)


def test_a_mask_that_is_fitted_to_the_objects_in_its_shapes(home: Path) -> None:
    words = "box:10,10,40,50", "minus:12,12", "5=ellipse:50,10,90,50", "5=plus:70,30"
    assert run("mask", "clip.mp4", *words, "--fit", "-o", "fitted.png", "--overlay", "look.png", "--model", "small") == 0
    ids = np.asarray(Image.open("fitted.png"))
    frame, small = next(iter(read_frames("clip.mp4"))), load_model("small")
    rough = draw_shapes(["5=ellipse:50,10,90,50"], (64, 96))
    expected = segment(
        frame,
        box={1: [10, 10, 40, 50]},
        points={1: [[12, 12]], 5: [[70, 30]]},
        labels={1: [0], 5: [1]},
        mask=rough,
        model=small,
    )
    assert set(np.unique(ids)) == {0, 1, 5}
    assert (ids == expected).all()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "nothing is marked"),
        (["circle:1,2,3,4"], "KIND one of box, ellipse, polygon, plus, minus"),
        (["plus:1,2,3"], "expected x and y of one place"),
        (["plus:1,here"], "expected x and y of one place"),
        (["minus:30,30"], "only minus clicks"),
        (["box:5,5,30,30", "1=box:40,40,60,60"], "object 1 has a shape already"),
        (["box:100,2,110,9"], "lies outside the frame of 96 x 64 pixels"),
        (["box:5,5,30,30", "plus:60,60"], "lies outside its box"),
        (["300=box:5,5,30,30"], "expected 1 to 255"),
    ],
)
def test_prompts_that_cannot_be(home: Path, capsys: pytest.CaptureFixture[str], words: list[str], reason: str) -> None:
    assert run("mask", "clip.mp4", *words, "--fit", "-o", "fitted.png", "--model", "small") == 2
    assert reason in capsys.readouterr().err
    assert not Path("fitted.png").exists()


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        (["box:1,2,3"], "expected left, top, right, bottom"),
        (["box:9,2,3,4"], "expected left, top, right, bottom"),
        (["polygon:1,2,3,4"], "3 or more corners"),
        (["circle:1,2,3,4"], "expected KIND:x,y,x,y,..."),
        (["box:1,2,3,4,,"], "expected numbers between commas"),
        (["0=box:1,2,3,4"], "0 is the background"),
        (["box:100,2,103,4"], "no pixel of ids [1] is visible"),
        (["box:10,10,20,20", "box:5,5,30,30"], "no pixel of ids [1] is visible"),
        ([], "no shapes"),
    ],
)
def test_shapes_that_cannot_be(home: Path, capsys: pytest.CaptureFixture[str], shapes: list[str], reason: str) -> None:
    assert run("mask", "clip.mp4", *shapes, "-o", "shapes.png") == 2
    assert reason in capsys.readouterr().err
    assert not Path("shapes.png").exists()


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["env"], "propagation"),
        (["info", "vitt8d6"], "architecture"),
        (["models", "vits*", "--all"], 0),
        (["correspondence", "clip.mp4", "30", "20", "-o", "points.png", "--model", "small"], 0),
    ],
)
def test_json_is_for_programs(home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], key: object) -> None:
    assert run(*arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out)[key]


def test_bash_completes_commands_and_options(home: Path) -> None:
    script = subprocess.run([sys.executable, "-m", "siammae", "completion", "bash"], check=True, capture_output=True, text=True)
    Path("completion.sh").write_text(script.stdout)
    for words, expected in ((["siammae", "prop"], "propagate"), (["siammae", "propagate", "--over"], "--overlay")):
        line = (
            f'source completion.sh; COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}; COMP_LINE="{" ".join(words)}"'
        )
        ask = f"{line}; COMP_POINT=${{#COMP_LINE}}; _tyro_siammae; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        answer = subprocess.run(["bash", "-c", ask], check=True, capture_output=True, text=True)
        assert expected in answer.stdout.split(), answer


def test_help_of_every_command_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    overview = capsys.readouterr().out
    assert "Example:" not in overview
    for name in re.findall(r"• ([\w-]+)", overview):
        assert run(name, "--help") == 0
        text = capsys.readouterr().out
        assert f"Example: siammae {name}" in text or name in ("evaluate", "score"), name


def test_pca_is_drawn_as_a_film_and_as_a_picture(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("pca", "clip.mp4", "-o", "pca.mp4", "--model", "small") == 0
    assert run("pca", "clip.mp4", "-o", "pca.png", "--model", "small") == 0
    assert capsys.readouterr().out == "pca: pca.mp4, fitted to 5 frames\npca: pca.png, fitted to 5 frames\n"
    film, picture = [frame.permute(1, 2, 0).numpy() for frame in read_frames("pca.mp4")], np.array(Image.open("pca.png"))
    assert len(film) == 5
    assert picture.shape == (2 * 64 + 4, 4 * 96 + 12, 3)
    for column, index in enumerate((0, 1, 3, 4)):
        colours = picture[68:, column * 100 : column * 100 + 96]
        assert np.abs(colours.astype(int) - film[index]).mean() < 25  # the film is compressed
    assert run("pca", "mask.png", "-o", "pca.avi", "--model", "small") == 2
    assert "pca.avi ends in .avi" in capsys.readouterr().err


@pytest.mark.parametrize(("length", "kept"), [(3, [0, 1, 2]), (4, [0, 1, 2, 3]), (5, [0, 2, 4]), (17, [0, 8, 16])])
def test_frames_are_spread_over_a_video_of_any_length(length: int, kept: list[int]) -> None:
    from siammae.cli.pictures import spread_step

    assert list(range(length)[:: spread_step(length, 4)]) == kept


@pytest.mark.parametrize(
    ("command", "out"),
    [
        (["attention", "clip.mp4"], "o.png"),
        (["correspondence", "clip.mp4", "30", "20"], "o.png"),
        (["pca", "clip.mp4"], "o.png"),
        (["features", "clip.mp4"], "o.safetensors"),
        (["demo", "--frames", "3"], "demo"),
        (["keypoints", "clip.mp4", "points.csv"], "o.csv"),
    ],
)
def test_commands_that_load_an_encoder_take_the_same_options(home: Path, command: list[str], out: str) -> None:
    options = ["--model", "vitt16", "--no-pretrained", "--size", "64", "96", "--device", "cpu", "--dtype", "bfloat16"]
    assert run(*command, "-o", out, *options) == 0
    if out == "o.safetensors":
        features = load_file(home / out)["features"]
        assert (features.dtype, features.shape) == (torch.bfloat16, (5, 192, 4, 6))
    assert run(*command, "-o", out, *options, "--dtype", "float7") == 2


def test_reconstruct_draws_four_pictures(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from siammae.models.folder import DECODER_FILE
    from siammae.training.folder import save_decoder
    from siammae.training.initial import build_model
    from siammae.training.model_config import ModelConfig

    config = ModelConfig("vit_tiny_patch16_224", 8, depth=1, image_size=32, decoder_depth=1, future_ratio=0.75, futures=2)
    model = build_model(config)
    model.encoder.metadata = {"decoder": asdict(config)}
    save_model(model.encoder, "whole")
    save_decoder(home / "whole" / DECODER_FILE, model.state_dict(), torch.float32)
    command = ("reconstruct", "clip.mp4", "-o", "r.png", "--model", "whole", "--gap", "3")
    assert run(*command) == 0
    side = 9 * 32
    picture = np.array(Image.open("r.png"))
    assert picture.shape == (side, 4 * side + 12, 3)
    masked, prediction, future = (picture[:, i * (side + 4) : i * (side + 4) + side].astype(int) for i in (1, 2, 3))
    visible = (masked == future).all(axis=2).reshape(4, 72, 4, 72).all(axis=(1, 3))
    assert visible.sum() == 4  # a quarter of 16 patches
    assert ((prediction == future).all(axis=2).reshape(4, 72, 4, 72).all(axis=(1, 3)) == visible).all()
    assert run(*command, "--mask-ratio", "0.5", "--seed", "1") == 0
    masked, future = (np.array(Image.open("r.png"))[:, i * (side + 4) : i * (side + 4) + side] for i in (1, 3))
    assert (masked == future).all(axis=2).mean() == pytest.approx(0.5, abs=0.01)
    for extra, message in (
        (("--mask-ratio", "1"), "leaves 0 of 16 patches visible"),
        (("--gap", "9"), "holds only 5 frames; frame 9"),
        (("--model", "small"), "small has no decoder"),
        (("--model", "vits16"), "no model folder is called 'vits16'"),
    ):
        assert run(*command, *extra) == 2
        assert message in capsys.readouterr().err


def test_several_masks_and_a_span_of_frames(home: Path, clip: Clip, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(clip.masks[3]).save("later.png")
    masks = ("--mask-at", "1", "mask.png", "--mask-at", "3", "later.png")
    assert run("propagate", "clip.mp4", *masks, "--frames", "1:", "-o", "out", "--overlay", "o.mp4", "--model", "small") == 0
    assert sorted(path.name for path in Path("out").glob("*.png")) == [f"{index:05d}.png" for index in range(1, 5)]
    assert np.array_equal(np.array(Image.open("out/00001.png")), clip.masks[0])
    assert np.array_equal(np.array(Image.open("out/00003.png")), clip.masks[3])
    assert len(read_frames("o.mp4")) == 4
    folder = propagate_to_folder(read_frames("clip.mp4")[1:], {0: clip.masks[0], 2: clip.masks[3]}, "api", "small")
    for index in range(1, 5):
        assert np.array_equal(
            np.array(Image.open(f"out/{index:05d}.png")), np.array(Image.open(folder / f"{index - 1:05d}.png"))
        )
    one = ("propagate", "clip.mp4", "mask.png", "--start", "2", "--frames", "1:4", "--model", "small")
    assert run(*one, "-o", "one") == 0
    assert sorted(path.stem for path in Path("one").glob("*.png")) == ["00001", "00002", "00003"]
    capsys.readouterr()
    for arguments, message in (
        ((*one, "--mask-at", "2", "later.png"), "two masks are given for frame 2"),
        ((*one, "--mask-at", "4", "later.png"), "the mask later.png belongs to frame 4, which is not among --frames 1:4"),
        (("propagate", "clip.mp4", "--frames", "9:", *masks), "--frames 9: holds no frame: clip.mp4 has 5, 0 to 4"),
        (("propagate", "clip.mp4", "--frames", "1-3", *masks), "--frames 1-3: expected A:B, such as 100:250"),
        (("propagate", "clip.mp4", "--frames", "1:3"), "--mask-at and --frames are for one video and its masks; got 1 paths"),
        (("propagate", "clip.mp4", "--mask-at", "0", "none.png"), "no such picture: none.png"),
    ):
        assert run(*arguments, "-o", "bad") == 2
        assert message in capsys.readouterr().err


def test_keypoints_keep_their_names_and_the_numbers_of_a_span(home: Path) -> None:
    Path("named.csv").write_text("frame;bodypart;X;Y\n2;nose;30,5;20\n3;nose;1;1\n")
    arguments = ("keypoints", "clip.mp4", "named.csv", "--start", "2", "--frames", "1:4", "--model", "small")
    assert run(*arguments, "-o", "t.csv", "--overlay", "t.gif") == 0
    rows = list(csv.DictReader(Path("t.csv").read_text().splitlines()))
    assert [(row["frame"], row["point"], row["name"]) for row in rows] == [(str(t), "0", "nose") for t in (1, 2, 3)]
    assert (rows[1]["x"], rows[1]["y"], rows[1]["score"]) == ("30.500", "20.000", "1.0000")
    assert run("features", "clip.mp4", "-o", "f.npy", "--frames", ":2", "--model", "small") == 0
    assert len(np.load("f.npy")) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("propagte a.mp4", "no command is called propagte; did you mean propagate?"),
        ("evaluate davsi DAVIS", "no command is called evaluate davsi; did you mean evaluate davis?"),
        ("score badga DAVIS P", "no command is called score badga; did you mean score badja?"),
        ("qqqq", "no command is called qqqq; there are demo, propagate,"),
        ("propagate no.mp4 no.png -o out", "no such video file or folder of images: no.mp4"),
        ("propagate points.csv no.png -o out", "no such picture: no.png"),
        ("propagate points.csv mask.png -o out --overlay o.avi", "o.avi ends in .avi; expected one of .gif, .mp4"),
        ("features no.mp4 -o f.npy", "no such video file or folder of images: no.mp4"),
        ("keypoints points.csv no.csv -o t.csv", "no such table of points: no.csv"),
        ("attention points.csv -o a.png --model no/folder/x", "no such model folder or .safetensors file: no/folder/x"),
        ("attention points.csv -o a.png --model facebook/dinov2-small", "did you mean hf-hub:facebook/dinov2-small?"),
        ("attention points.csv -o a.png --model vit_small_patch16_224", "did you mean timm:vit_small_patch16_224?"),
        ("export vits9 -o x.onnx", "no model is called 'vits9'. Closest names: vits8"),
        ("convert no.pth -o model", "no such file: no.pth"),
        ("train no.yaml", "no such file: no.yaml"),
        ("evaluate davis no -o out", "no such folder of a data set: no"),
        ("score vip no no", "no such folder of a data set: no"),
    ],
)
def test_what_can_be_told_at_once_is_told_without_torch(home: Path, words: str, message: str) -> None:
    script = (
        "import sys\nfrom siammae.cli import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n    assert 'torch' not in sys.modules, 'torch was loaded'"
    )
    done = subprocess.run([sys.executable, "-c", script, *words.split()], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (home / "out").exists()


def test_memory_that_runs_out_is_one_line_with_the_remedy(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many = ("propagate", "clip.mp4", "mask.png", "-o", "out", "--model", "small", "--preset", "crw", "--set")
    assert run(*many, "context_frames=100000000000") == 1
    error = capsys.readouterr().err
    assert re.fullmatch(r"siammae: out of memory \(.*\): use a smaller --size, fewer context frames .*\n", error)
    assert run(*many, "context_frames=1000000000000000000000") == 2
    assert "expected a whole number, 0 or more" in capsys.readouterr().err
    both = ("propagate", "clip.mp4", "mask.png", "clip.mp4", "mask.png")
    Path("other.mp4").write_bytes(Path("clip.mp4").read_bytes())
    both = ("propagate", "clip.mp4", "mask.png", "other.mp4", "mask.png")
    assert run(*both, "-o", "two", "--model", "small", "--preset", "crw", "--set", "context_frames=100000000000") == 1
    assert capsys.readouterr().err.count("out of memory") == 2


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), "out of memory (no memory is left): use"),
        (np._core._exceptions._ArrayMemoryError((10**9, 10**9), np.dtype(float)), "out of memory (Unable to allocate"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"), "out of memory (CUDA out of"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: can't allocate memory: you"),
            "out of memory",
        ),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
        (ValueError("out of memory is only a phrase here"), None),
    ],
)
def test_what_counts_as_memory_that_ran_out(error: Exception, expected: str | None) -> None:
    line = out_of_memory(error)
    assert line is None if expected is None else line is not None and line.startswith(expected)


def test_a_fault_of_siammae_is_shown_whole(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("siammae.features.extract_features", broken)
    assert run("features", "clip.mp4", "-o", "f.npy", "--model", "small") == 1
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert error.endswith(
        "siammae: ZeroDivisionError: division by zero. This is a fault of siammae: please report it with the lines above\n"
    )
