"""The Hugging Face Hub's real client against a small Hub on this machine."""

import hashlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from conftest import HUB, FullDisk
from hub_server import HubServer, Repo

from siammae import WeightsError, load_model, push_to_hub, save_model
from siammae.cli import main
from siammae.encoder import Encoder
from siammae.models.folder import HUB_FILES
from siammae.models.hub import Repo as Address
from siammae.models.hub import fetch, is_cached
from siammae.models.registry import REGISTRY

constants = pytest.importorskip("huggingface_hub.constants")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """The Hub, with nothing in it, and an empty cache."""
    HUB.reset()
    HUB.start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield HUB
    HUB.reset()


@pytest.fixture(scope="module")
def folder(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(encoder, tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def repo(hub: HubServer, folder: Path) -> Repo:
    """me/tiny, as `save_model` wrote it."""
    hub.repos["me/tiny"] = Repo({path.name: path.read_bytes() for path in folder.iterdir()})
    return hub.repos["me/tiny"]


def sha256(repo: Repo) -> str:
    return hashlib.sha256(repo.files["model.safetensors"]).hexdigest()


def requests(hub: HubServer) -> list[str]:
    return [line for line in hub.log if "/resolve/" in line or "/cdn/" in line]


def test_a_repo_is_loaded_by_name(hub: HubServer, repo: Repo, encoder: Encoder) -> None:
    loaded = load_model("hf-hub:me/tiny", device="cpu")
    assert loaded.digest() == encoder.digest()
    assert loaded.name == "hf-hub:me/tiny"
    assert sum(line.startswith("GET") and "/cdn/" in line for line in hub.log) == 1  # from another host, as the Hub has it
    again = load_model(f"hf-hub:me/tiny@{repo.commit}", device="cpu")
    assert again.digest() == encoder.digest()
    assert sum(line.startswith("GET") and "/cdn/" in line for line in hub.log) == 1


def test_a_cached_commit_costs_no_request(hub: HubServer, repo: Repo) -> None:
    pinned = Address("me/tiny", repo.commit)
    assert not is_cached(pinned, HUB_FILES)
    first = fetch(pinned, HUB_FILES)
    assert is_cached(pinned, HUB_FILES)
    hub.log.clear()
    assert fetch(pinned, HUB_FILES) == first
    assert not hub.log


def test_the_cache_serves_where_there_is_no_network(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fetch(Address("me/tiny"), HUB_FILES)
    assert fetch(Address("me/tiny"), HUB_FILES, local_files_only=True) == first
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    assert fetch(Address("me/tiny"), HUB_FILES) == first
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(Address("me/tiny"), HUB_FILES) == first


@pytest.mark.parametrize("how", ["no network", "offline", "local files only"])
def test_what_is_not_there_is_said_at_once(hub: HubServer, how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if how == "no network":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    if how == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    began = time.monotonic()
    with pytest.raises(WeightsError) as caught:
        load_model("hf-hub:me/tiny@v1", local_files_only=how == "local files only")
    assert time.monotonic() - began < 5
    for part in ("hf-hub:me/tiny@v1", str(tmp_path / "cache"), "not in the cache", "Remedy", "local model folder"):
        assert part in str(caught.value)
    assert not requests(hub)


def test_refusals_say_what_to_do(hub: HubServer, repo: Repo) -> None:
    with pytest.raises(WeightsError, match=r"there is no such repo, or it is private.*hf auth login"):
        load_model("hf-hub:me/nothing")
    with pytest.raises(WeightsError, match=r"no such revision.*name a branch"):
        load_model("hf-hub:me/tiny", revision="v7")
    repo.gated = True
    with pytest.raises(WeightsError, match=r"access on request.*ask for it at http://127.*/me/tiny"):
        load_model("hf-hub:me/tiny")
    hub.repos["me/empty"] = Repo({"README.md": b"nothing yet"})
    with pytest.raises(WeightsError, match=r"no model folder.*config\.json and model\.safetensors"):
        load_model("hf-hub:me/empty")
    for name in ("hf-hub:tiny", "hf-hub:me/tiny@", "hf-hub:../me@x", "hf-hub:me/../../x"):
        with pytest.raises(ValueError, match="expected hf-hub:owner/name"):
            load_model(name)


def test_a_private_repo_opens_with_its_token(repo: Repo, encoder: Encoder) -> None:
    repo.token = "hf_secret"
    with pytest.raises(WeightsError, match="private"):
        load_model("hf-hub:me/tiny")
    assert load_model("hf-hub:me/tiny", token="hf_secret", device="cpu").digest() == encoder.digest()


def test_a_download_goes_on_after_a_cut(hub: HubServer, repo: Repo, encoder: Encoder) -> None:
    repo.cuts = 1
    assert load_model("hf-hub:me/tiny", device="cpu").digest() == encoder.digest()
    assert repo.cuts == 0


def test_a_download_that_is_always_cut_is_one_error(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    repo.cuts = 1000
    with pytest.raises(WeightsError, match=r"hf-hub:me/tiny.*Cache: .*Remedy: try again"):
        load_model("hf-hub:me/tiny")


@pytest.mark.parametrize("length", ["same", "shorter"])
def test_wrong_bytes_never_become_a_model(repo: Repo, encoder: Encoder, length: str) -> None:
    whole = repo.files["model.safetensors"]
    header = 8 + int.from_bytes(whole[:8], "little")
    zeros = whole[:header] + bytes(len(whole) - header)
    repo.damage = zeros if length == "same" else zeros[:-100]
    with pytest.raises(WeightsError, match="hf-hub:me/tiny"):
        load_model("hf-hub:me/tiny")
    repo.damage = None
    assert load_model("hf-hub:me/tiny", device="cpu").digest() == encoder.digest()  # nothing of it was kept


def test_registered_names_are_pinned_and_checked(
    hub: HubServer, repo: Repo, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = replace(REGISTRY["vitt16"], weights=f"hf-hub:me/tiny@{repo.commit}", sha256=sha256(repo), license="apache-2.0")
    monkeypatch.setitem(REGISTRY, "vitt16", entry)
    loaded = load_model("vitt16", device="cpu")
    assert loaded.digest() == encoder.digest()
    assert loaded.name == "vitt16"
    monkeypatch.setitem(REGISTRY, "vitt16", replace(entry, sha256="0" * 64))
    with pytest.raises(WeightsError, match=f"has sha256 {sha256(repo)}, expected 000.*removed from the cache"):
        load_model("vitt16")


def test_a_full_disk_leaves_nothing_half_written(repo: Repo, full_disk: FullDisk, encoder: Encoder) -> None:
    with full_disk(100_000), pytest.raises(WeightsError, match=r"cache cannot be written.*make room there"):
        load_model("hf-hub:me/tiny")
    assert load_model("hf-hub:me/tiny", device="cpu").digest() == encoder.digest()


def test_two_processes_may_download_at_the_same_time(repo: Repo, tmp_path: Path) -> None:
    code = "import siammae, sys; print(siammae.load_model('hf-hub:me/tiny', cache_dir=sys.argv[1], device='cpu').digest())"
    command = [sys.executable, "-c", f"import os; os.environ['HF_HUB_OFFLINE'] = '0'; {code}", str(tmp_path / "shared")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    digests = {process.communicate(timeout=120)[0] for process in running}
    assert [process.returncode for process in running] == [0, 0]
    assert len(digests) == 1


def test_a_pushed_model_comes_back(hub: HubServer, folder: Path, encoder: Encoder) -> None:
    name = push_to_hub(folder, "me/new", private=True, token="hf_mine")
    assert name == f"me/new@{hub.repos['me/new'].commit}"
    assert set(hub.repos["me/new"].files) == {"config.json", "model.safetensors", "README.md"}
    assert hub.repos["me/new"].token == "hf_mine"
    assert load_model(f"hf-hub:{name}", token="hf_mine", device="cpu").digest() == encoder.digest()


def test_timm_loads_a_pushed_model_without_siammae(hub: HubServer, folder: Path, encoder: Encoder) -> None:
    push_to_hub(folder, "me/plain")
    vit = timm.create_model("hf-hub:me/plain", pretrained=True)
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        wanted = encoder(images).flatten(2).transpose(1, 2)
        assert torch.allclose(vit.forward_features(images)[:, 1:], wanted, atol=1e-5)


def test_the_push_command(hub: HubServer, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["push", str(folder), "me/dry", "--dry-run"])
    printed = capsys.readouterr().out
    assert "model.safetensors" in printed
    assert "nothing was uploaded" in printed
    assert "me/dry" not in hub.repos
    hub.repos["me/theirs"] = Repo({"README.md": b"theirs"})
    main(["push", str(folder), "me/theirs", "--create-pr"])
    assert "/me/theirs/discussions/1" in capsys.readouterr().out
    assert hub.repos["me/theirs"].branch == "refs/pr/1"
    (tmp_path / "bare").mkdir()
    with pytest.raises(SystemExit):
        main(["push", str(tmp_path / "bare"), "me/bare"])
    assert "has no README.md, the model card" in capsys.readouterr().err
    assert "me/bare" not in hub.repos


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "hf-hub:evil/repo"}, "timm has no architecture 'hf-hub:evil/repo'"),
        ({"model_args": {"checkpoint_path": "../../secrets.pth"}}, "model_args holds checkpoint_path, which would load"),
        ({"model_args": {"pretrained": True}}, "model_args holds pretrained"),
        ({"model_args": {"depth": "many"}}, "describes no model that can be built"),
        ({"pretrained_cfg": {"mean": [0.5], "std": [0.5, 0.5, 0.5]}}, r"mean or std is \[0\.5\]; expected three numbers"),
    ],
)
def test_a_hostile_config_loads_nothing(repo: Repo, change: dict[str, object], message: str) -> None:
    import json

    config = json.loads(repo.files["config.json"])
    repo.files["config.json"] = json.dumps({**config, **change, "a field of tomorrow": 1}).encode()
    with pytest.raises(WeightsError, match=message):
        load_model("hf-hub:me/tiny")
