"""Folders are written whole or not at all, even by processes that are killed at any step."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import siammae.files
from siammae.files import atomic_folder

FILES = "a", "b"


def write(folder: Path, text: str) -> None:
    for name in FILES:
        (folder / name).write_text(text)


def content(folder: Path) -> list[str]:
    """Texts of the files of a folder; it must hold these two and nothing else."""
    assert sorted(os.listdir(folder)) == sorted(FILES)
    return [(folder / name).read_text() for name in FILES]


@pytest.fixture(params=["swap", "two renames"], autouse=True)
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """This system, and one that cannot exchange two folders in one step."""
    if request.param == "two renames":
        monkeypatch.setattr("siammae.files._swap", lambda first, second: False)
    return str(request.param)


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "model"
    for text in ("old", "new"):
        with atomic_folder(target, overwrite=True, files=FILES) as draft:
            write(draft, text)
            assert draft.parent == target.parent
            assert not target.exists() or content(target) == ["old"] * 2
        assert content(target) == [text] * 2
    assert os.listdir(target.parent) == ["model"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_the_old_folder_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    write_into = [tmp_path / "old", tmp_path / "none"]
    write_into[0].mkdir()
    write(write_into[0], "old")

    def fail_half_way(target: Path) -> None:
        with atomic_folder(target, overwrite=True, files=FILES) as draft:
            (draft / "a").write_text("new")
            raise error

    for target in write_into:
        with pytest.raises(error):
            fail_half_way(target)
    assert os.listdir(tmp_path) == ["old"]
    assert content(tmp_path / "old") == ["old"] * 2


def test_what_must_not_be_replaced_is_refused_before_any_work(tmp_path: Path) -> None:
    def refused(message: str, overwrite: bool = True) -> None:
        with pytest.raises(FileExistsError, match=message), atomic_folder(target, overwrite=overwrite, files=FILES):
            pytest.fail("the block must not run")

    target = tmp_path / "model"
    target.mkdir()
    write(target, "old")
    refused("exists; remove it, choose another folder, or pass overwrite=True", overwrite=False)
    (target / "thesis.txt").write_text("the user's own")
    refused(r"holds other files too \(thesis\.txt\)")
    target = target / "thesis.txt"
    refused("is a file, so it is not overwritten")
    assert os.listdir(tmp_path) == ["model"]


def test_the_first_of_two_writers_wins_without_overwrite(tmp_path: Path) -> None:
    target = tmp_path / "model"

    def write_late() -> None:
        with atomic_folder(target) as draft:
            write(draft, "late")
            with atomic_folder(target) as other:
                write(other, "first")

    with pytest.raises(FileExistsError, match="was written by another process in the meantime"):
        write_late()
    assert content(target) == ["first"] * 2
    assert os.listdir(tmp_path) == ["model"]


def test_a_draft_in_use_is_not_taken_for_abandoned(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with atomic_folder(target, overwrite=True) as draft:
        write(draft, "slow")
        with atomic_folder(target, overwrite=True) as other:
            write(other, "quick")
        assert content(draft) == ["slow"] * 2
    assert content(target) == ["slow"] * 2
    (tmp_path / ".model.backup.draft").mkdir()  # the user's own: no name of ours
    with atomic_folder(target, overwrite=True) as draft:
        write(draft, "next")
    assert sorted(os.listdir(tmp_path)) == [".model.backup.draft", "model"]


def test_an_error_of_the_disk_names_the_target(tmp_path: Path) -> None:
    def write_nowhere() -> None:
        with atomic_folder(tmp_path / "model") as draft:
            (draft / "missing" / "a").write_text("new")

    with pytest.raises(FileNotFoundError, match=r"model cannot be written: No such file or directory$"):
        write_nowhere()


def test_a_rename_that_fails_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "model"
    target.mkdir()
    write(target, "old")
    monkeypatch.setattr("siammae.files._swap", lambda first, second: False)
    rename = Path.rename

    def fail_for_drafts(self: Path, other: Path) -> Path:
        if self.suffix == siammae.files.DRAFT:
            raise OSError(5, "Input/output error", str(self))
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", fail_for_drafts)
    with (
        pytest.raises(OSError, match="model cannot be written: Input/output error"),
        atomic_folder(target, overwrite=True) as draft,
    ):
        write(draft, "new")
    assert content(target) == ["old"] * 2
    assert os.listdir(tmp_path) == ["model"]


KILLS = """
import os, shutil, signal, sys
from pathlib import Path
from siammae import files
from siammae.files import atomic_folder

if sys.argv[2] == "two renames":
    files._swap = lambda first, second: False
home = Path(sys.argv[1])
target = home / "model"


def write(text):
    with atomic_folder(target, overwrite=True, files=("a", "b")) as draft:
        for name in ("a", "b"):
            (draft / name).write_text(text)


def content():
    return sorted((path.name, path.read_text()) for path in target.iterdir())


def kill_at(step):
    seen = 0

    def count(event, arguments):
        nonlocal seen
        if event.startswith(("os.", "open", "shutil.", "fcntl.")) and any(str(home) in str(argument) for argument in arguments):
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    write("new")
    os._exit(0)


old, new = ([(name, text) for name in ("a", "b")] for text in ("old", "new"))
step, absent, states = 0, 0, []
while True:
    write("old")
    step += 1
    child = os.fork()
    if not child:
        kill_at(step)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        break
    if target.exists():
        states.append(content())
        assert states[-1] in (old, new), states[-1]
    else:
        absent += 1
        with atomic_folder(home / "model" / ".." / "model", overwrite=True):
            assert content() == old  # the next call puts it back first
    write("next")
    assert os.listdir(home) == ["model"], os.listdir(home)
assert content() == new
print(step - 1, absent, old in states, new in states)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills forked processes")
def test_a_process_killed_at_any_step_leaves_a_whole_folder(tmp_path: Path, system: str) -> None:
    command = [sys.executable, "-c", KILLS, str(tmp_path), system]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    kills, absent, old_seen, new_seen = done.stdout.split()
    assert int(kills) > 8
    assert int(absent) <= (1 if system == "two renames" else 0)
    assert (old_seen, new_seen) == ("True", "True")


SAVES = """
import os, random, signal, sys, time
from pathlib import Path
from siammae import load_model, save_model
from siammae.models.build import build_encoder

target = Path(sys.argv[1]) / "model"
encoders = [build_encoder("vit_tiny_patch16_224", {"depth": 1}, name="a").eval() for _ in range(2)]
encoders[1].vit.norm.bias.data += 1
digests = {encoder.digest() for encoder in encoders}
save_model(encoders[0], target)
for number in range(12):
    child = os.fork()
    if not child:
        while True:
            for encoder in encoders:
                save_model(encoder, target, overwrite=True)
    time.sleep(random.Random(number).uniform(0.005, 0.12))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert load_model(target, device="cpu").digest() in digests
save_model(encoders[0], target, overwrite=True)
assert os.listdir(target.parent) == ["model"], os.listdir(target.parent)
"""


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="other systems cannot swap two folders in one step")
def test_a_model_saved_over_and_over_survives_kills(tmp_path: Path, system: str) -> None:
    if system != "swap":
        pytest.skip("the moment between two renames has its own test")
    done = subprocess.run([sys.executable, "-c", SAVES, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
