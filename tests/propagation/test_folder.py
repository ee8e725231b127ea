"""A folder of masks can be interrupted at any moment and resumed to the same bits, is never mixed up, and takes flat memory."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FullDisk
from numpy.typing import NDArray
from PIL import Image

from siammae.encoder import Encoder
from siammae.errors import VideoError
from siammae.labels import as_mask, davis_palette, write_mask
from siammae.models import load_model
from siammae.models.build import build_encoder
from siammae.propagation import LabelPropagator, propagate_labels, propagate_to_folder, read_folder
from siammae.propagation import folder as runs
from siammae.propagation.folder import RECORD_FILE, STATE_FILE
from siammae.propagation.table import DRAFT_FILE, SCORES_FILE
from siammae.video import read_frames, write_video

ROOT = Path(__file__).parents[2]
SIZE, COUNT = 128, 10
CONFIG = {"context_frames": 3, "radius": 3}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return build_encoder("vit_tiny_patch16_224", {"depth": 1})


def clip(count: int = COUNT) -> NDArray[np.uint8]:
    """A bright square of two colours that moves over noise: [T, 64, 80, 3]."""
    frames = np.random.default_rng(0).integers(0, 100, (64, 80, 3), dtype=np.uint8)[None].repeat(count, axis=0)
    for index, frame in enumerate(frames):
        frame[20:44, 10 + 3 * index : 22 + 3 * index] = [230, 120, 40]
        frame[20:44, 22 + 3 * index : 34 + 3 * index] = [40, 90, 250]
    return frames


def square(index: int = 0) -> NDArray[np.uint8]:
    mask = np.zeros((64, 80), np.uint8)
    mask[20:44, 10 + 3 * index : 22 + 3 * index] = 1
    mask[20:44, 22 + 3 * index : 34 + 3 * index] = 7
    return mask


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def run(folder: Path, encoder: Encoder, *, frames: Any = None, **changes: Any) -> Path:
    arguments = {"mask0": square(changes.get("start", 0)), "size": SIZE, "config": CONFIG, "progress": False, **changes}
    return propagate_to_folder(clip() if frames is None else frames, folder=folder, model=encoder, **arguments)


class Stop(Exception):
    """Stands for whatever may interrupt a run."""


@pytest.fixture
def fail_at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """fail_at(n): the n-th mask to be written (from 0) raises instead; fail_at(None): all is well again."""
    original = runs.write_mask

    def arm(position: int | None, error: type[BaseException] = Stop) -> None:
        left = iter(range(position)) if position is not None else None

        def write(*arguments: Any) -> None:
            if left is not None and next(left, None) is None:
                raise error
            original(*arguments)

        monkeypatch.setattr(runs, "write_mask", write)

    return arm


def test_a_folder_holds_what_propagate_labels_returns(tmp_path: Path, encoder: Encoder) -> None:
    folder = run(tmp_path / "masks", encoder)
    expected = propagate_labels(clip(), square(), encoder, size=SIZE, config=CONFIG)
    assert sorted(os.listdir(folder)) == [f"{index:05d}.png" for index in range(COUNT)] + [SCORES_FILE, RECORD_FILE]
    assert np.array_equal([mask for _, mask in read_folder(read_frames(clip()), folder)], expected)
    assert np.unique(expected[1:]).tolist() == [0, 1, 7]  # the objects are still there, or nothing would be compared
    record = json.loads((folder / RECORD_FILE).read_text())
    assert record["finished"] is True
    assert record["config"]["context_frames"] == 3


@pytest.mark.parametrize("seconds", [0.0, 1000.0], ids=["state after each frame", "state of the first frame only"])
@pytest.mark.parametrize(
    ("start", "position", "error"),
    [
        (0, 0, Stop),
        (0, 1, Stop),
        (0, 6, KeyboardInterrupt),
        (4, 3, Stop),
        (4, 6, Stop),
        (4, 7, OSError),
        (4, 9, KeyboardInterrupt),
        (9, 1, Stop),
        (9, 5, Stop),
    ],
)
def test_a_resumed_run_gives_the_same_bits(
    tmp_path: Path,
    encoder: Encoder,
    monkeypatch: pytest.MonkeyPatch,
    fail_at: Any,
    start: int,
    position: int,
    error: type[BaseException],
    seconds: float,
) -> None:
    monkeypatch.setattr(runs, "SECONDS_BETWEEN_STATES", seconds)
    whole, folder = run(tmp_path / "whole", encoder, start=start), tmp_path / "parts"
    fail_at(position, error)
    with pytest.raises(error):
        run(folder, encoder, start=start)
    assert json.loads((folder / RECORD_FILE).read_text())["finished"] is False
    assert not list(folder.glob(".*.part*"))
    fail_at(None)
    run(folder, encoder, start=start, resume=True)
    assert contents(folder) == contents(whole)
    assert not (folder / STATE_FILE).exists()


def test_a_run_may_be_interrupted_again_and_again(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, fail_at: Any
) -> None:
    monkeypatch.setattr(runs, "SECONDS_BETWEEN_STATES", 0.0)
    for _ in range(COUNT):
        fail_at(2)
        try:
            run(tmp_path / "parts", encoder, start=4, resume=True)
            break
        except Stop:
            continue
    fail_at(None)
    run(tmp_path / "parts", encoder, start=4, resume=True)
    assert contents(tmp_path / "parts") == contents(run(tmp_path / "whole", encoder, start=4))


def test_a_resumed_run_does_not_repeat_what_is_done(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, fail_at: Any
) -> None:
    monkeypatch.setattr(runs, "SECONDS_BETWEEN_STATES", 0.0)
    fail_at(6)
    with pytest.raises(Stop):
        run(tmp_path / "parts", encoder)
    written: list[str] = []
    original = write_mask
    monkeypatch.setattr(runs, "write_mask", lambda path, *rest: (written.append(path.name), original(path, *rest)))
    run(tmp_path / "parts", encoder, resume=True)
    assert written == [f"{index:05d}.png" for index in range(6, COUNT)]


def test_an_interrupted_source_leaves_the_masks_before_it(tmp_path: Path, encoder: Encoder) -> None:
    def frames() -> Iterator[NDArray[np.uint8]]:
        yield from clip()[:6]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", encoder, frames=frames())
    assert sorted(contents(tmp_path / "parts")) == [f"{index:05d}.png" for index in range(6)]
    run(tmp_path / "parts", encoder, resume=True)
    assert contents(tmp_path / "parts") == contents(run(tmp_path / "whole", encoder))


def test_a_damaged_video_leaves_the_masks_before_the_damage(tmp_path: Path, encoder: Encoder) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index, frame in enumerate(clip()):
        Image.fromarray(frame).save(folder / f"{index}.png")
    (folder / "7.png").write_bytes((folder / "7.png").read_bytes()[:900])
    with pytest.raises(VideoError, match=r"7\.png cannot be read as a picture"):
        run(tmp_path / "masks", encoder, frames=folder)
    assert sorted(contents(tmp_path / "masks")) == [f"{index}.png" for index in range(7)]


def test_resuming_a_finished_run_does_nothing(tmp_path: Path, encoder: Encoder, fail_at: Any) -> None:
    folder = run(tmp_path / "masks", encoder)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    fail_at(0)
    assert run(folder, encoder, resume=True) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_resume_in_a_new_folder_simply_runs(tmp_path: Path, encoder: Encoder) -> None:
    assert len(contents(run(tmp_path / "a" / "b", encoder, resume=True))) == COUNT


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 48}, "size was 128, now 48"),
        ({"start": 2}, "start was 0, now 2"),
        ({"void_id": 255}, "void_id was None, now 255"),
        ({"config": {"context_frames": 4, "radius": 3}}, r"config was .*'context_frames': 3.*now .*'context_frames': 4"),
        ({"mask0": square(1)}, "mask_sha256 was"),
        ({"frames": iter(clip())}, None),
    ],
)
def test_resuming_with_other_settings_names_what_differs(
    tmp_path: Path, encoder: Encoder, fail_at: Any, changes: dict[str, Any], message: str | None
) -> None:
    folder = tmp_path / "parts"
    fail_at(4)
    with pytest.raises(Stop):
        run(folder, encoder)
    fail_at(None)
    before = contents(folder)
    if message is None:
        run(folder, encoder, resume=True, **changes)
        assert len(contents(folder)) == COUNT
        return
    with pytest.raises(ValueError, match=message):
        run(folder, encoder, resume=True, **changes)
    assert contents(folder) == before


def test_resuming_with_another_model_is_refused(tmp_path: Path, encoder: Encoder, fail_at: Any) -> None:
    fail_at(4)
    with pytest.raises(Stop):
        run(tmp_path / "parts", encoder)
    other = build_encoder("vit_tiny_patch16_224", {"depth": 1})
    other.vit.cls_token.data += 1
    with pytest.raises(ValueError, match=r"made with other settings and cannot be resumed: weights_sha256 was"):
        run(tmp_path / "parts", other, resume=True)


def test_a_folder_with_masks_is_never_overwritten(tmp_path: Path, encoder: Encoder) -> None:
    folder = run(tmp_path / "masks", encoder)
    before = contents(folder)
    with pytest.raises(FileExistsError, match=r"holds masks already; choose another folder, empty it, or resume"):
        run(folder, encoder)
    assert contents(folder) == before


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_foreign_pictures_is_refused(tmp_path: Path, encoder: Encoder, resume: bool) -> None:
    Image.new("L", (3, 3)).save(tmp_path / "holiday.png")
    with pytest.raises(FileExistsError, match=r"choose another folder"):
        run(tmp_path, encoder, resume=resume)
    assert os.listdir(tmp_path) == ["holiday.png"]


def test_a_run_that_failed_before_its_first_mask_leaves_the_folder_usable(tmp_path: Path, encoder: Encoder) -> None:
    for resume in (False, True):
        with pytest.raises(ValueError, match=r"the mask is 64 x 79 pixels but its frame is 64 x 80"):
            run(tmp_path / "masks", encoder, mask0=square()[:, :-1], resume=resume)
    assert len(contents(run(tmp_path / "masks", encoder))) == COUNT


def test_a_folder_that_was_emptied_starts_again_from_the_first_frame(tmp_path: Path, encoder: Encoder, fail_at: Any) -> None:
    fail_at(4)
    with pytest.raises(Stop):
        run(tmp_path / "masks", encoder)
    for path in (tmp_path / "masks").glob("*.png"):
        path.unlink()
    fail_at(None)
    assert len(contents(run(tmp_path / "masks", encoder))) == COUNT


def test_an_output_folder_below_a_file_is_an_os_error(tmp_path: Path, encoder: Encoder) -> None:
    (tmp_path / "file").write_text("no folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "masks"):
        with pytest.raises(OSError, match=r"file"):
            run(folder, encoder)
    assert (tmp_path / "file").read_text() == "no folder"


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("changes", [{}, {"config": {"context_frames": 2, "radius": 3}}], ids=["same settings", "others"])
def test_a_run_that_failed_at_its_second_frame_does_not_block_the_next(
    tmp_path: Path, encoder: Encoder, fail_at: Any, changes: dict[str, Any], resume: bool
) -> None:
    fail_at(1)
    with pytest.raises(Stop):
        run(tmp_path / "parts", encoder)
    fail_at(None)
    if resume and not changes:
        run(tmp_path / "parts", encoder, resume=True)
    else:
        words = "with other settings .config was" if changes else "but had only its first mask"
        with pytest.warns(UserWarning, match=f"parts was started {words}.*; it is started over"):
            run(tmp_path / "parts", encoder, resume=resume, **changes)
    assert contents(tmp_path / "parts") == contents(run(tmp_path / "whole", encoder, **changes))


def test_an_unfinished_run_with_other_settings_is_started_over_on_demand(
    tmp_path: Path, encoder: Encoder, fail_at: Any
) -> None:
    fail_at(6)
    with pytest.raises(Stop):
        run(tmp_path / "parts", encoder)
    fail_at(None)
    with pytest.warns(UserWarning, match=r"started with other settings \(.*start was 0, now 2"):
        run(tmp_path / "parts", encoder, start=2, restart=True)
    assert contents(tmp_path / "parts") == contents(run(tmp_path / "whole", encoder, start=2))
    with pytest.raises(FileExistsError, match="holds masks already"):  # a finished one is not
        run(tmp_path / "parts", encoder, restart=True)


def test_starting_over_leaves_other_pictures_alone(tmp_path: Path, encoder: Encoder, fail_at: Any) -> None:
    fail_at(6)
    with pytest.raises(Stop):
        run(tmp_path, encoder)
    fail_at(None)
    Image.new("L", (3, 3)).save(tmp_path / "holiday.png")
    with pytest.raises(FileExistsError, match=r"holds other pictures too \(holiday.png\)"):
        run(tmp_path, encoder, size=48, restart=True)
    assert len(contents(tmp_path)) == 7
    for mask in tmp_path.glob("0*.png"):
        mask.unlink()
    with pytest.raises(FileExistsError, match=rf"{tmp_path} holds other pictures too \(holiday.png\)"):  # the only picture
        run(tmp_path, encoder, size=48)


@pytest.mark.parametrize("start", [0, 4])
@pytest.mark.parametrize("finished", [True, False])
def test_masks_that_are_missing_or_broken_are_made_again(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, fail_at: Any, start: int, finished: bool
) -> None:
    whole, folder = run(tmp_path / "whole", encoder, start=start), tmp_path / "parts"
    if finished:
        run(folder, encoder, start=start)
    else:
        monkeypatch.setattr(runs, "SECONDS_BETWEEN_STATES", 0.0)
        fail_at(9)
        with pytest.raises(Stop):
            run(folder, encoder, start=start)
        fail_at(None)
    (folder / "00005.png").unlink()
    (folder / "00006.png").write_bytes((whole / "00006.png").read_bytes()[:100])
    Image.new("L", (3, 3)).save(folder / "00007.png")
    kept = (folder / "00008.png").stat().st_mtime_ns
    with pytest.warns(UserWarning, match=r"3 masks were missing or broken and are made again: 00005.png, 00006.png, 00007.png"):
        run(folder, encoder, start=start, resume=True)
    assert contents(folder) == contents(whole)
    assert json.loads((folder / RECORD_FILE).read_text())["finished"] is True
    assert (folder / "00008.png").stat().st_mtime_ns == kept


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_run_into_a_folder_in_use_is_refused_at_once(tmp_path: Path, encoder: Encoder, resume: bool) -> None:
    tried: list[str] = []

    def frames() -> Iterator[NDArray[np.uint8]]:
        for frame in clip():
            with pytest.raises(FileExistsError, match="is being written by another run") as error:
                run(tmp_path / "masks", encoder, resume=resume)
            tried.append(str(error.value))
            yield frame

    run(tmp_path / "masks", encoder, frames=frames())
    assert len(tried) == COUNT
    assert contents(tmp_path / "masks") == contents(run(tmp_path / "whole", encoder))


@pytest.mark.parametrize("first", [0, 3])
def test_several_masks_are_anchors_from_their_frames_on(tmp_path: Path, encoder: Encoder, fail_at: Any, first: int) -> None:
    later = square(7).astype(np.int32)
    later[50:60, 60:75] = 300
    folder = run(tmp_path / "masks", encoder, mask0={7: later, np.int64(first): square(first)})
    masks = np.stack([mask for _, mask in read_folder(read_frames(clip()), folder)])
    propagator = LabelPropagator(clip()[first], square(first).astype(np.int32), encoder, size=SIZE, config=CONFIG)
    for index in range(first + 1, 7):
        assert np.array_equal(masks[index], propagator.step(clip()[index]))
    propagator.add(clip()[7], later)
    assert np.array_equal(masks[7], later)
    for index in range(8, COUNT):
        assert np.array_equal(masks[index], propagator.step(clip()[index]))
    backwards = LabelPropagator(clip()[first], square(first), encoder, size=SIZE, config=CONFIG)
    for index in range(first - 1, -1, -1):
        assert np.array_equal(masks[index], backwards.step(clip()[index]))
    fail_at(9 - first)
    with pytest.raises(Stop):
        run(tmp_path / "parts", encoder, mask0={first: square(first), 7: later})
    fail_at(None)
    run(tmp_path / "parts", encoder, mask0={first: square(first), 7: later}, resume=True)
    assert contents(tmp_path / "parts") == contents(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask0": {}}, "no masks are given"),
        ({"mask0": {0: square(), 5: square()[:, :-1]}}, "the mask of frame 5 is 64 x 79 pixels, the first mask 64 x 80"),
        ({"mask0": {-1: square()}}, "a mask is given for frame -1"),
        ({"mask0": {1.5: square()}}, r"the number of a mask's frame is 1\.5"),
        ({"mask0": {2: square()}, "start": 2}, "start is 2, and masks are given by the numbers"),
        ({"mask0": {0: square(), 99: square()}}, "a mask is given for frame 99, but the sequence has only 10 frames"),
        ({"mask0": {0: square(), 4: np.zeros((2, 64, 80), np.float32)}}, "soft labels cannot be written"),
    ],
)
def test_masks_that_cannot_be_anchors(tmp_path: Path, encoder: Encoder, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "masks", encoder, **changes)
    assert not (tmp_path / "masks").exists()


def test_soft_labels_are_refused_with_the_remedy(tmp_path: Path, encoder: Encoder) -> None:
    with pytest.raises(ValueError, match=r"soft labels cannot be written as PNG masks; use siammae.propagate_labels"):
        run(tmp_path / "masks", encoder, mask0=np.zeros((2, 64, 80), np.float32) + 0.5)
    assert not (tmp_path / "masks").exists()


def test_files_follow_the_frames_names_and_the_palette_of_the_mask(tmp_path: Path, encoder: Encoder) -> None:
    (tmp_path / "frames").mkdir()
    for index, frame in enumerate(clip(4)):
        Image.fromarray(frame).save(tmp_path / "frames" / f"shot.v{index + 8}.png")
    palette = list(np.random.default_rng(0).integers(0, 256, 768))
    write_mask(tmp_path / "mask.png", square(), palette)
    folder = run(tmp_path / "own", encoder, frames=tmp_path / "frames", mask0=tmp_path / "mask.png")
    assert sorted(contents(folder)) == ["shot.v10.png", "shot.v11.png", "shot.v8.png", "shot.v9.png"]
    for path in folder.glob("*.png"):
        assert Image.open(path).getpalette() == palette
    assert np.array_equal(np.array(Image.open(folder / "shot.v8.png")), square())
    folder = run(tmp_path / "davis", encoder, frames=tmp_path / "frames")
    assert Image.open(folder / "shot.v9.png").getpalette() == davis_palette().ravel().tolist()


def test_large_ids_are_kept(tmp_path: Path, encoder: Encoder) -> None:
    folder = run(tmp_path / "masks", encoder, mask0=square().astype(np.int32) * 1000)
    masks = np.stack([mask for _, mask in read_folder(read_frames(clip()), folder)])
    assert np.unique(masks[1:]).tolist() == [0, 1000, 7000]


def test_a_disk_too_full_for_the_state_is_an_os_error_and_keeps_the_masks(
    tmp_path: Path, encoder: Encoder, full_disk: FullDisk
) -> None:
    with full_disk(20_000), pytest.raises(OSError, match=r"siammae-state.* cannot be written: .*File too large"):
        run(tmp_path, encoder)
    assert sorted(os.listdir(tmp_path)) == [DRAFT_FILE, "00000.png", RECORD_FILE]


@pytest.mark.filterwarnings("ignore:ids .* are too small")
def test_a_killed_command_can_be_resumed_to_the_same_bits(tmp_path: Path) -> None:
    count, out, size = 90, tmp_path / "parts", 48
    write_video(tmp_path / "clip.mp4", list(clip(10)) * 9, 25)
    write_mask(tmp_path / "mask.png", square())
    files = [str(tmp_path / "clip.mp4"), str(tmp_path / "mask.png"), "-o", str(out)]
    options = ["--size", str(size), "--model", "vits16", "--no-pretrained", "--device", "cpu", "--dtype", "float32"]
    command = [sys.executable, "-m", "siammae", "propagate", *files, *options]

    slowly = ["nice", "-n", "19", *command]  # so that the watching loop gets its turn on a busy machine
    killed = subprocess.Popen(slowly, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(out.glob("0*.png"))) < 5 and time.monotonic() < deadline and killed.poll() is None:
        time.sleep(0.002)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL, "the command ended before it could be killed"
    left = [path for path in out.glob("0*.png") if as_mask(path, empty=True).size == (64, 80)]
    assert 5 <= len(left) < count
    (out / ".00030.1.part.png").write_bytes(b"what a process that dies while it writes leaves behind")
    for draft in out.glob(".*.part.*"):
        os.utime(draft, (0, 0))  # nobody has touched it for long

    subprocess.run([*command, "--resume"], check=True, capture_output=True)
    encoder = load_model("vits16", pretrained=False, device="cpu")
    whole = propagate_to_folder(tmp_path / "clip.mp4", tmp_path / "mask.png", tmp_path / "whole", encoder, size=size)
    assert len(contents(whole)) == count
    assert contents(out) == contents(whole)
    assert sorted(os.listdir(out)) == sorted(os.listdir(whole))


def test_memory_does_not_grow_with_the_video() -> None:
    script = [sys.executable, str(ROOT / "benchmarks" / "memory.py"), "--frames", "40", "160", "--limit", "30", "--size", "32"]
    done = subprocess.run(script, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "difference:" in done.stdout
