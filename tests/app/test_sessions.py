"""Sessions used by several threads at once: nothing is lost, mixed up or left behind."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from siammae.app.job import Job, SessionEnded
from siammae.app.session import Session
from siammae.app.sessions import IDLE_SECONDS, MAX_SESSIONS, Sessions
from siammae.app.turns import Turns
from siammae.encoder import Encoder
from siammae.propagation import propagate_labels
from siammae.video import write_video

NUM_FRAMES = 6


class GatedEncoder(Encoder):
    """An encoder that waits at a gate; `reached` is set when somebody waits there."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder.vit, architecture=encoder.architecture, model_args=encoder.model_args, name="gated")
        self.eval()
        self.gate, self.reached = threading.Event(), threading.Event()

    def forward(self, images: Tensor, *, layer: int = -1) -> Tensor:
        self.reached.set()
        assert self.gate.wait(60)
        return super().forward(images, layer=layer)


@pytest.fixture(scope="module")
def clips(texture: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two clips of one name: a window of 80 x 112 pixels that moves over the texture, this way and that."""
    paths = []
    for name, step in (("a", 1), ("b", -1)):
        path = tmp_path_factory.mktemp(name) / "clip.mp4"
        write_video(path, [texture[3 * i : 3 * i + 80, 4 * i : 4 * i + 112] for i in range(NUM_FRAMES)][::step], 10)
        paths.append(path)
    return paths[0], paths[1]


def _label(session: Session) -> None:
    session.draw(0, "box", [(30, 20), (60, 45)], 1, 1)


def _expected(clip: Path, session: Session) -> Any:
    return propagate_labels(clip, session.mask(0), session.encoder, size=80, progress=False)


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_another_video_opened_while_a_propagation_runs_has_none_of_its_masks(
    clips: tuple[Path, Path], colours: Encoder, tmp_path: Path
) -> None:
    encoder = GatedEncoder(colours)
    sessions = Sessions(tmp_path / "projects", encoder, size=80)
    key, first = sessions.create(clips[0])
    _label(first)
    job = first.start()
    assert encoder.reached.wait(60)
    other_key, second = sessions.create(clips[1])
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(sessions.close, key)
        encoder.gate.set()
        closing.result(60)
    assert job.state == "stopped"
    assert [path.name for path in sessions.root.iterdir()] == [other_key]
    assert not second.results.masks
    _label(second)
    second.start().wait()
    assert np.array_equal([second.mask(index) for index in range(NUM_FRAMES)], _expected(clips[1], second))


def test_a_closed_session_refuses_everything(clips: tuple[Path, Path], colours: Encoder, tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, colours, size=80)
    key, session = sessions.create(clips[0])
    _label(session)
    run = session.propagate()
    assert next(run) == 0
    sessions.close(key)
    uses: list[Callable[[], object]] = [
        lambda: next(run),
        lambda: _label(session),
        lambda: session.mask(0),
        lambda: session.jpeg(5),
        lambda: session.start(),
        lambda: session.undo(),
        lambda: session.prepare(1),
        lambda: sessions.get(key),
    ]
    for use in uses:
        with pytest.raises(SessionEnded, match="was closed"):
            use()
    assert not list(tmp_path.iterdir())


def test_stop_counts_while_one_waits_in_the_queue(clips: tuple[Path, Path], colours: Encoder, tmp_path: Path) -> None:
    encoder = GatedEncoder(colours)
    sessions = Sessions(tmp_path, encoder, size=80)
    first, second, third = (sessions.create(clips[0])[1] for _ in range(3))
    for session in (first, second, third):
        _label(session)
    running = first.start()
    assert encoder.reached.wait(60)
    waiting, last = second.start(), third.start()
    _until(lambda: (waiting.ahead, last.ahead) == (1, 2))
    assert waiting.status()["state"] == "queued"
    second.stop()
    waiting.wait()
    assert (waiting.state, waiting.done) == ("stopped", 0)
    _until(lambda: last.ahead == 1)
    encoder.gate.set()
    for job in (running, last):
        job.wait()
        assert (job.state, job.done, job.total) == ("done", NUM_FRAMES, NUM_FRAMES)
    assert not second.results.masks
    second.start().wait()
    assert np.array_equal([second.mask(index) for index in range(NUM_FRAMES)], [first.mask(i) for i in range(NUM_FRAMES)])


def _until(true: Callable[[], bool]) -> None:
    """Wait until a condition of another thread holds."""
    pause = threading.Event()
    for _ in range(6000):
        if true():
            return
        pause.wait(0.01)
    pytest.fail("it did not come about")


def test_a_job_that_fails_frees_the_queue_and_says_why() -> None:
    def broken(tell: Callable[[int], None]) -> Any:
        tell(3)
        yield 0
        raise ValueError("frame 1 is damaged")

    turns = Turns()
    job = Job(broken, turns)
    job.start()
    job.wait()
    assert (job.state, job.done, job.message) == ("failed", 1, "frame 1 is damaged")
    told: list[int] = []
    with turns.turn(threading.Event(), told.append) as is_on:
        assert is_on
    assert told == [0]


def test_the_same_file_is_opened_by_several_at_once(clips: tuple[Path, Path], colours: Encoder, tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, colours, size=80)
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: sessions.create(clips[0]), range(8)))
        pictures = list(pool.map(lambda entry: entry[1].jpeg(3), opened))
    assert len({key for key, _ in opened}) == 8
    assert len(set(pictures)) == 1
    assert clips[0].exists()


def test_sessions_end_when_nobody_uses_them(clips: tuple[Path, Path], colours: Encoder, tmp_path: Path) -> None:
    now = [0.0]
    sessions = Sessions(tmp_path, colours, size=80, clock=lambda: now[0])
    left, used = sessions.create(clips[0])[0], sessions.create(clips[0])[0]
    now[0] = IDLE_SECONDS * 0.9
    sessions.get(used)
    now[0] = IDLE_SECONDS * 1.1
    sessions.end_idle()
    assert [path.name for path in tmp_path.iterdir()] == [used]
    with pytest.raises(SessionEnded):
        sessions.get(left)
    assert sessions.get(used).num_frames == NUM_FRAMES


def test_a_kept_project_is_opened_again_with_everything(clips: tuple[Path, Path], colours: Encoder, tmp_path: Path) -> None:
    now = [0.0]
    sessions = Sessions(tmp_path, colours, size=80, keep=True, clock=lambda: now[0])
    key, session = sessions.create(clips[0], name="my pond.mp4")
    _label(session)
    session.place_point(1, 2, (50, 40))
    session.name_object(1, "koi")
    session.set_trim(0, 5, 2)
    list(session.propagate())
    now[0] = IDLE_SECONDS * 2
    sessions.end_idle()
    again = sessions.get(key)
    assert again is not session
    assert [project["name"] for project in sessions.projects()] == ["my pond.mp4"]
    assert again.name == "my pond.mp4"
    assert again.labels.objects == {1: "koi"}
    assert again.numbers == [0, 1, 2, 4]
    assert list(again.propagate()) == []
    assert np.array_equal(again.mask(2), session.results.mask(2))
    assert np.array_equal(again.points(4), session.results.tracks[4][0], equal_nan=True)
    sessions.close(key, remove=True)
    assert not list(tmp_path.iterdir())


def test_there_is_an_end_to_the_number_of_sessions(
    clips: tuple[Path, Path], colours: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siammae.app.sessions.MAX_SESSIONS", 1)
    assert MAX_SESSIONS > 8
    sessions = Sessions(tmp_path, colours, size=80)
    sessions.create(clips[0])
    with pytest.raises(ValueError, match="1 projects are open"):
        sessions.create(clips[0])


EVENTS: dict[str, Callable[[Session, Random], object]] = {
    "box": lambda s, r: s.draw(r.randrange(NUM_FRAMES), "box", [(r.randrange(112), 9), (60, 45)], r.randint(1, 3), 1),
    "fit": lambda s, r: s.fit_box(r.randrange(NUM_FRAMES), [(r.randrange(50), 9), (90, 60)], r.randint(1, 3)),
    "click": lambda s, r: s.fit_click(r.randrange(NUM_FRAMES), (r.randrange(112), 40), r.randint(1, 3), plus=r.random() < 0.7),
    "brush": lambda s, r: s.draw(r.randrange(NUM_FRAMES), "brush", [(r.randrange(112), 30), (9, 9)], r.randint(1, 3), 7),
    "eraser": lambda s, r: s.draw(r.randrange(NUM_FRAMES), "eraser", [(r.randrange(112), 30)], 1, 40),
    "point": lambda s, r: s.place_point(r.randrange(NUM_FRAMES), r.randint(1, 3), (r.randrange(112), 40)),
    "discard": lambda s, r: s.discard(r.randrange(NUM_FRAMES)),
    "remove": lambda s, r: s.remove_object(r.randint(1, 3)),
    "trim": lambda s, r: s.set_trim(r.randrange(2), r.randint(3, NUM_FRAMES), r.randint(1, 2)),
    "undo": lambda s, r: s.undo(),
    "redo": lambda s, r: s.redo(),
    "start": lambda s, r: s.start(),
    "stop": lambda s, r: s.stop(),
    "wait": lambda s, r: s.job and s.job.wait(),
    "look": lambda s, r: (s.jpeg(r.randrange(NUM_FRAMES)), s.mask(r.randrange(NUM_FRAMES)), s.points(r.randrange(NUM_FRAMES))),
}
REFUSALS = ("under way already", "nothing is labelled", "there is no object")
MISFITS = ("is there already", "nothing to take away", "no pixel is left", "in one cell")


@pytest.mark.filterwarnings("ignore:ids .* are too small")
@settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1), close=st.booleans())
def test_events_in_any_order_from_two_threads(
    clips: tuple[Path, Path],
    colours: Encoder,
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    seed: int,
    close: bool,
) -> None:
    sequences = [data.draw(st.lists(st.sampled_from(sorted(EVENTS)), min_size=3, max_size=12)) for _ in range(2)]
    root = tmp_path_factory.mktemp("random")
    sessions = Sessions(root, colours, size=80, keep=True)
    key, session = sessions.create(clips[0])
    together = threading.Barrier(2)

    def act(number: int) -> None:
        random = Random(seed + number)
        together.wait()
        for name in sequences[number]:
            try:
                EVENTS[name](session, random)
            except ValueError as error:
                if not any(refusal in str(error) for refusal in REFUSALS + MISFITS):
                    raise
            except SessionEnded:
                if not close:
                    raise
        if close and number == 0:
            sessions.close(key, remove=True)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(act, number) for number in range(2)]:
            done.result(120)
    if close:
        assert not list(root.iterdir())
        return

    if session.job is not None:
        session.job.wait()
        assert session.job.state in ("done", "stopped") or REFUSALS[1] in session.job.message
    labels = {frame: session.labels.mask(frame) for frame in session.labels.frames("mask")}
    changes = session.labels.undoable
    for _ in range(changes):
        session.undo()
    assert not session.labels.frames("mask")
    assert not session.labels.frames("points")
    for _ in range(changes):
        session.redo()
    assert session.labels.frames("mask") == sorted(labels)
    for frame, ids in labels.items():
        assert ids is not None
        assert np.array_equal(session.mask(frame), ids)

    session.discard(session.trim[0])
    session.draw(session.trim[0], "box", [(30, 20), (60, 45)], 1, 1)
    list(session.propagate())
    fresh_key, fresh = sessions.create(clips[0])
    for frame in session.labels.frames("mask"):
        fresh.set_mask(frame, session.mask(frame))
    for frame in session.labels.frames("points"):
        for number, place in session.labels.get("points", frame).items():
            fresh.place_point(frame, number, place)
    fresh.set_trim(*session.trim)
    list(fresh.propagate())
    for frame in session.numbers:
        assert np.array_equal(session.mask(frame), fresh.mask(frame)), frame
        assert np.array_equal(session.points(frame), fresh.points(frame), equal_nan=True), frame
    reopened = Session(root / key, colours, size=80)
    assert reopened.labels.objects == session.labels.objects
    for frame in session.numbers:
        assert np.array_equal(session.mask(frame), reopened.mask(frame))
    sessions.close(fresh_key, remove=True)
    assert not [path for path in _files(root) if ".part" in path.name]
