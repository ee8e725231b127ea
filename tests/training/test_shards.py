"""Shards: written from videos, indexed, read at random access from a disk and from an object store, and their faults."""

import csv
import dataclasses
import json
import os
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import films
import numpy as np
import pytest
import torch
from PIL import Image

from siammae.training.config import DataConfig, TrainConfig
from siammae.training.data import Batch, Source
from siammae.training.data.clips import VideoClip
from siammae.training.data.shard_index import open_index
from siammae.training.data.shard_writer import ShardSettings
from siammae.training.data.shards import ShardSource
from siammae.training.data.source import build_source
from siammae.training.data.store_lock import held
from siammae.training.data.stores import Store, StoreError
from siammae.training.data.write_shards import Progress, write_shards

COMMON: dict[str, Any] = {"size": 4, "side": 16, "futures": 1, "seed": 0, "pin": False}
SETTINGS = ShardSettings(fps=10, short_side=48, clips_per_shard=2)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five videos of 25 frames a second, one of them in a folder, one that is no video, and one of a single frame."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "more").mkdir()
    for number in range(5):
        frames = [films.picture(20 * number + k) for k in range(50)]
        films.write(folder / ("more" if number == 4 else "") / f"good{number}.mp4", frames, options={"g": "10"})
    films.write(folder / "short.mp4", [films.picture(0)])
    (folder / "broken.mp4").write_bytes(b"this is no video" * 100)
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, videos: Path) -> Path:
    out = tmp_path_factory.mktemp("shards") / "out"
    write_shards(str(videos), str(out), SETTINGS, processes=2)
    return out


def copy(shards: Path, target: Path) -> Path:
    target.mkdir()
    for path in shards.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def config(path: Path | str, **changes: Any) -> DataConfig:
    return DataConfig(**({"path": str(path), "kind": "shards", "gap": (0.2, 1.0), "workers": 0} | changes))


def source(path: Path | str, timeout: float = 20, **changes: Any) -> ShardSource:
    return ShardSource(Store(str(path), timeout), config(path, **changes), **COMMON)


def take(source: Source, count: int, first: int = 0, stride: int = 1) -> list[Batch]:
    return list(islice(source.micro_batches(first, stride), count))


def same(left: Batch, right: Batch) -> bool:
    names = [[name.rpartition("/")[2] for name in batch.names] for batch in (left, right)]
    return left.frames.equal(right.frames) and names[0] == names[1]


# --- writing


def test_index_says_where_every_frame_lies(shards: Path, videos: Path) -> None:
    """Each member is found at its place, and is the frame of its time, as a JPEG of quality 90."""
    index = open_index(Store(str(shards)))
    records = [json.loads(path.read_text()) for path in sorted(shards.glob("shard-*.json"))]
    names = [clip["source"] for record in records for clip in record["clips"]]
    assert names == ["good0.mp4", "good1.mp4", "good2.mp4", "good3.mp4", "more/good4.mp4"]
    for number, name in enumerate(names):
        row = index.clips[number]
        content = (shards / f"shard-{row['shard']:06d}.tar").read_bytes()
        with VideoClip(videos / name) as clip:
            frames = list(clip.every(1 / 10, 48))
        members = index.members(number)
        assert len(members) == len(frames) == row["frames"] == 20
        assert (row["height"], row["width"], row["fps"]) == (*frames[0].shape[:2], 10)
        for member, frame in zip(members, frames, strict=True):
            encoded = BytesIO()
            Image.fromarray(frame).save(encoded, format="JPEG", quality=90)
            assert content[member.header + 512 : member.header + 512 + member.size] == encoded.getvalue()


@pytest.mark.parametrize("format", ["jpeg", "clips"])
def test_other_programs_read_the_shards(videos: Path, tmp_path: Path, format: Any) -> None:
    """tarfile and webdataset find whole samples: the frames or the video of a clip, and what it was made of."""
    tariterators = pytest.importorskip("webdataset.tariterators")
    write_shards(str(videos), str(tmp_path / "out"), dataclasses.replace(SETTINGS, format=format))
    samples: list[dict[str, Any]] = []
    for path in sorted((tmp_path / "out").glob("*.tar")):
        with open(path, "rb") as file:
            members = tariterators.tar_file_expander([{"url": str(path), "stream": file}])
            samples += tariterators.group_by_keys(members)
        with tarfile.open(path, "r:") as tar:
            assert all(tar.extractfile(member).read() for member in tar)  # type: ignore[union-attr]
    assert [json.loads(sample["json"])["source"] for sample in samples][-1] == "more/good4.mp4"
    keys = {key for key in samples[0] if not key.startswith("__")}
    assert keys == ({"json", *(f"{k:06d}.jpg" for k in range(20))} if format == "jpeg" else {"json", "mp4"})


def test_skipped_videos_are_reported_with_reasons(shards: Path) -> None:
    with open(shards / "skipped.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["video"] for row in rows] == ["broken.mp4", "short.mp4"]
    assert "not a readable video" in rows[0]["reason"]
    assert "shorter than two frames at 10 frames per second" in rows[1]["reason"]


def test_an_interrupted_call_goes_on_with_the_missing_shards(videos: Path, shards: Path, tmp_path: Path) -> None:
    """A shard without its record, or of another length than the record says, is written again; the others stay."""
    out = copy(shards, tmp_path / "out")
    (out / "index.json").unlink()
    (out / "shard-000000.json").unlink()
    with open(out / "shard-000002.tar", "r+b") as file:
        file.truncate(5000)
    kept = (out / "shard-000001.tar").stat().st_mtime_ns
    states: list[Progress] = []
    report = write_shards(str(videos), str(out), SETTINGS, progress=states.append)
    assert (report.clips, report.frames, report.shards, len(report.skipped)) == (5, 100, 4, 2)
    assert (out / "shard-000001.tar").stat().st_mtime_ns == kept
    for path in shards.glob("*.tar"):
        assert (out / path.name).read_bytes() == path.read_bytes()
    assert json.loads((out / "index.json").read_text()) == json.loads((shards / "index.json").read_text())
    assert (states[-1].done, states[-1].total) == (7, 7)


def test_a_killed_writer_leaves_nothing_that_passes_for_whole(videos: Path, tmp_path: Path) -> None:
    """Killed while it writes its first shard: no shard, no index, and the next call finishes."""
    script = (
        "import os, signal, sys\n"
        "from siammae.training.data.shard_writer import ShardSettings, write_shard\n"
        "from siammae.training.data.stores import Store\n"
        "names = ['good0.mp4', 'good1.mp4']\n"
        "settings = ShardSettings(fps=10, short_side=48, clips_per_shard=2)\n"
        "die = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_shard(Store(sys.argv[2]), 0, names, Store(sys.argv[1]), settings, die)\n"
    )
    out = tmp_path / "out"
    out.mkdir()
    killed = subprocess.run([sys.executable, "-c", script, str(videos), str(out)])
    assert killed.returncode < 0
    assert not [path for path in out.iterdir() if not path.name.startswith(".")]
    with pytest.raises(ValueError, match=r"has no index\.json: it holds no shards, or `siammae shards` was interrupted"):
        source(out)
    assert write_shards(str(videos), str(out), SETTINGS).clips == 5
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_a_full_disk_is_one_line_and_the_next_call_goes_on(videos: Path, tmp_path: Path) -> None:
    """A process may write no file above 20 kB: the shard is refused, and without the limit the same call finishes."""
    out = tmp_path / "out"
    words = [sys.executable, "-m", "siammae", "shards", str(videos), str(out), "--fps", "10", "--short-side", "48"]
    words += ["--clips-per-shard", "2", "--processes", "1"]
    limited = subprocess.run(["bash", "-c", 'ulimit -f 20; exec "$@"', "bash", *words], capture_output=True, text=True)
    assert limited.returncode == 1
    assert limited.stderr.splitlines()[-1].endswith("shard-000000.tar cannot be written: File too large")
    assert not list(out.glob("*.tar"))
    assert not list(out.glob(".*"))
    finished = subprocess.run(words, capture_output=True, text=True)
    assert finished.stdout.splitlines()[0].startswith(f"shards: {out}, 5 clips, 100 frames, 0.00 hours")
    assert finished.stdout.splitlines()[1] == f"skipped: 2 videos, listed with reasons in {out}/skipped.csv"


def test_mistakes_in_writing_are_one_line(videos: Path, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="was begun with fps 10, not 5; choose another folder"):
        write_shards(str(videos), str(shards), dataclasses.replace(SETTINGS, fps=5))
    (tmp_path / "list.txt").write_text(f"{videos}/good0.mp4\n")
    with pytest.raises(ValueError, match="was begun with videos 7, not 1"):
        write_shards(str(tmp_path / "list.txt"), str(shards), SETTINGS)
    with pytest.raises(ValueError, match=r"no video in .*: no file in it ends in \.avi"):
        write_shards(str(shards), str(tmp_path / "out"), SETTINGS)
    (tmp_path / "list.txt").write_text(f"{videos}/broken.mp4\n")
    with pytest.raises(ValueError, match=r"none of 1 videos is usable, such as .*broken\.mp4: not a readable video"):
        write_shards(str(tmp_path / "list.txt"), str(tmp_path / "none"), SETTINGS)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "a.tar").write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds a\.tar, which this command did not write"):
        write_shards(str(videos), str(tmp_path / "foreign"), SETTINGS)
    with pytest.raises(ValueError, match="web servers only give files"):
        write_shards(str(videos), "https://127.0.0.1:9/out", SETTINGS)


def test_two_writers_do_not_share_a_folder(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with held(Store(str(tmp_path / "out"))), pytest.raises(FileExistsError, match="is being written by another run"):
        write_shards(str(videos), str(tmp_path / "out"), SETTINGS)
    assert not list((tmp_path / "out").iterdir())


# --- reading


def test_batches_depend_on_nothing_but_seed_and_number(shards: Path) -> None:
    """Loaded here or by workers, from the start or from the middle, by one process or by three: the same batches."""
    here = take(source(shards), 7)
    assert here[0].frames.shape == (4, 2, 3, 16, 16)
    assert all(map(same, here, take(source(shards, workers=2), 7)))
    assert all(map(same, here[3:], take(source(shards), 4, first=3)))
    assert all(map(same, here[1::3], take(source(shards), 2, first=1, stride=3)))
    assert not same(here[0], take(ShardSource(Store(str(shards)), config(shards), **(COMMON | {"seed": 1})), 1)[0])


def test_an_epoch_visits_every_clip_once(shards: Path) -> None:
    clips = source(shards, repeats=1)
    assert clips.num_files == 5
    names = [name for batch in take(clips, 5) for name in batch.names]  # four epochs of five clips
    for epoch in range(4):
        assert len(set(names[5 * epoch : 5 * epoch + 5])) == 5


@pytest.mark.parametrize("format", ["jpeg", "clips"])
def test_samples_are_frames_of_the_video_at_the_drawn_times(videos: Path, tmp_path: Path, format: Any) -> None:
    """The whole frame as crop: each pair is near two frames of its clip, a gap apart that was asked for."""
    write_shards(str(videos), str(tmp_path / "out"), dataclasses.replace(SETTINGS, format=format, quality=95))
    whole = config(tmp_path / "out", scale=(1.0, 1.0), ratio=(96 / 64, 96 / 64), flip=0.0)
    pairs = ShardSource(Store(str(tmp_path / "out")), whole, **(COMMON | {"side": 48}))
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "out").glob("shard-*.json"))]
    sources = {f"{clip['key']:08d}": clip["source"] for record in records for clip in record["clips"]}
    gaps = set()
    for batch in take(pairs, 6):
        for sample, name in zip(batch.frames, batch.names, strict=True):
            with VideoClip(videos / sources[name.rpartition(":")[2]]) as clip:
                kept = [Image.fromarray(frame).resize((48, 48)) for frame in clip.every(1 / 10, 48)]
            stored = torch.from_numpy(np.stack([np.asarray(frame) for frame in kept])).permute(0, 3, 1, 2)
            distances = (sample[:, None].float() - stored.float()).abs().mean(dim=(2, 3, 4))  # [2, frames]
            past, future = distances.argmin(dim=1).tolist()
            assert distances.min(dim=1).values.max() < 12
            gaps.add(future - past)
    assert gaps <= set(range(1, 11))
    assert len(gaps) > 4


def test_damage_in_a_shard_costs_its_clips_alone(shards: Path, tmp_path: Path) -> None:
    """A member of other bytes, a shard cut off after the index was read, and one that went away: each a line of its own."""
    out = copy(shards, tmp_path / "out")
    opened = source(out, repeats=1)
    index = open_index(Store(str(out)))
    content = bytearray((out / "shard-000000.tar").read_bytes())
    (out / "shard-000000.tar").write_bytes(content[: index.members(0)[0].header + 600])
    content = bytearray((out / "shard-000001.tar").read_bytes())
    for member in index.members(2):
        content[member.header : member.header + 8] = b"00000099"
    (out / "shard-000001.tar").write_bytes(content)
    (out / "shard-000002.tar").unlink()
    batches = take(opened, 8)
    reasons = dict(pair for batch in batches for pair in batch.skipped)
    names = {name.rpartition("/")[2]: reason for name, reason in reasons.items()}
    assert any("the shard ends within 00000001.0000" in reason for reason in names.values())
    assert any("shard-000001.tar was changed or damaged" in reason for reason in names.values())
    assert any("unreadable shard" in reason and "shard-000002.tar is not there" in reason for reason in names.values())
    assert all(batch.frames.shape == (4, 2, 3, 16, 16) for batch in batches)


def test_shards_that_do_not_fit_the_index_end_the_run_before_it_begins(shards: Path, tmp_path: Path) -> None:
    out = copy(shards, tmp_path / "out")
    with open(out / "shard-000002.tar", "ab") as file:
        file.write(bytes(512))
    with pytest.raises(ValueError, match=r"shard-000002\.tar has \d+ bytes where the index says \d+; copy it again, or write"):
        source(out)
    (out / "shard-000002.tar").unlink()
    with pytest.raises(ValueError, match=r"shard-000002\.tar is missing"):
        source(out)
    (out / "index.json").write_text("{")
    with pytest.raises(ValueError, match=r"index\.json is damaged"):
        source(out)
    with pytest.raises(
        ValueError, match=r"data\.gap begins at 0\.05 s, less than a frame of .* at 10 a second; set data\.gap to"
    ):
        source(shards, gap=(0.05, 1.0))


def test_a_run_does_not_go_on_with_other_shards(shards: Path, videos: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n".join(f"{videos}/good{number}.mp4" for number in range(3)))
    write_shards(str(tmp_path / "list.txt"), str(tmp_path / "fewer"), SETTINGS)
    processes = SimpleNamespace(
        device=torch.device("cpu"), is_local_main_process=True, is_main_process=True, wait_for_everyone=lambda: None
    )

    def run(path: Path) -> Source:
        return build_source(TrainConfig(str(tmp_path / "run"), steps=1, data=config(path)), 4, processes, side=16)

    run(tmp_path / "fewer")
    run(shards)  # nothing was trained yet
    (tmp_path / "run" / "checkpoint-0000001").mkdir()
    (tmp_path / "run" / "checkpoint-0000001" / "run.json").write_text("{}")
    run(shards)
    with pytest.raises(ValueError, match=r"are not those that the run in .* began with \(5 clips then, 3 now\)"):
        run(tmp_path / "fewer")


# --- object stores


@pytest.fixture(scope="module")
def bucket(shards: Path, videos: Path) -> Iterator[Any]:
    """An S3 server on loopback with the shards and the videos in it."""
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    names = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (names | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}).items():
            patch.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        files = s3fs.S3FileSystem()
        files.mkdir("bucket")
        for path in shards.iterdir():
            files.put_file(str(path), f"bucket/shards/{path.name}")
        for path in videos.rglob("*.mp4"):
            files.put_file(str(path), f"bucket/videos/{path.relative_to(videos)}")
        yield SimpleNamespace(server=server, files=files)
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIAMMAE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_object_store_gives_the_batches_of_the_disk(bucket: Any, shards: Path, cache: Path) -> None:
    """From the start, and resumed from the middle; the index is copied once."""
    here = take(source(shards), 5)
    assert all(map(same, here, take(source("s3://bucket/shards"), 5)))
    (copied,) = (cache / "shards").iterdir()
    stamp = (copied / "clips.npy").stat().st_mtime_ns
    assert all(map(same, here[2:], take(source("s3://bucket/shards"), 3, first=2)))
    assert (copied / "clips.npy").stat().st_mtime_ns == stamp


def test_a_store_that_goes_away_ends_the_run_and_the_next_one_resumes(bucket: Any, shards: Path, cache: Path) -> None:
    """The object of a read that is under way vanishes behind a refusing store; afterwards the run goes on where it was."""
    here = take(source(shards), 4)
    opened = source("s3://bucket/shards")
    batches = opened.micro_batches(0, 1)
    assert same(next(batches), here[0])
    with pytest.MonkeyPatch.context() as patch:

        async def refused(*arguments: Any, **options: Any) -> bytes:
            raise ConnectionResetError("connection reset by peer")

        patch.setattr(type(bucket.files), "_cat_file", refused)
        with pytest.raises(StoreError, match=r"^s3://bucket/shards cannot be read \(connection reset by peer\); check the"):
            next(batches)
    assert all(map(same, here[1:], take(source("s3://bucket/shards"), 3, first=1)))


def test_shards_are_written_to_an_object_store(bucket: Any, shards: Path, cache: Path) -> None:
    """From videos in the store, by the command; a second writer is refused, and the result is that of the disk."""
    words = [sys.executable, "-m", "siammae", "shards", "s3://bucket/videos", "s3://bucket/out", "--fps", "10"]
    words += ["--short-side", "48", "--clips-per-shard", "2", "--processes", "1", "--json"]
    with held(Store("s3://bucket/out")):
        refused = subprocess.run(words, capture_output=True, text=True)
    assert refused.returncode == 2
    line = refused.stderr.splitlines()[-1]
    assert line.startswith(f"siammae: s3://bucket/out is being written by process {os.getpid()} on {socket.gethostname()}")
    finished = subprocess.run(words, capture_output=True, text=True, check=True)
    assert json.loads(finished.stdout)["clips"] == 5
    for path in shards.glob("shard-*.tar"):
        assert bucket.files.cat_file(f"bucket/out/{path.name}") == path.read_bytes()
    assert not bucket.files.exists("bucket/out/writer.json")


def test_missing_credentials_are_named(bucket: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    type(bucket.files).clear_instance_cache()
    try:
        with pytest.raises(
            StoreError, match=r"s3://bucket/shards refuses access \(.*\); set the store's credentials, such as AWS_"
        ):
            source("s3://bucket/shards")
    finally:
        type(bucket.files).clear_instance_cache()


def test_a_store_that_hangs_ends_the_run_after_the_time_limit(cache: Path) -> None:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/shards"
        with pytest.raises(StoreError, match=rf"^{address} did not answer within 1 s; check the network, or raise"):
            source(address, timeout=1)


def test_a_wrong_scheme_or_missing_package_is_told_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="s4://bucket/shards begins with s4://, which is unknown; known are"):
        source("s4://bucket/shards")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(ImportError, match=r"s3://bucket/shards needs s3fs .*; install it with: pip install s3fs"):
        source("s3://bucket/shards")
    with pytest.raises(ValueError, match=r"nowhere has no index\.json"):
        source(tmp_path / "nowhere")
