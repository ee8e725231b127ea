"""The command `siammae shards`, which writes what a large training run reads."""

from dataclasses import asdict
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from siammae.cli.options import Json, print_json


def shards(
    videos: Annotated[Positional[str], arg(metavar="VIDEOS")],
    out: Annotated[Positional[str], arg(metavar="OUT")],
    fps: float = 8.0,
    short_side: int = 256,
    format: Literal["jpeg", "clips"] = "jpeg",
    quality: int = 90,
    clips_per_shard: int = 100,
    processes: int = 0,
    timeout: float = 60.0,
    json: Json = False,
) -> None:
    """Write videos into tar shards with an index, for training from a disk or an object store at random access.

    The same command goes on where an interrupted one stopped. Videos that cannot be used are listed in OUT/skipped.csv.

    Example: siammae shards videos shards

    Example: siammae shards s3://bucket/videos s3://bucket/shards --processes 16

    Args:
        videos: Folder of videos at any depth, .txt file with one path a line, or address of a folder in an object store.
        out: Folder for the shards, or address such as s3://bucket/shards.
        fps: Frames to keep per second.
        short_side: Shorter side in pixels that frames are scaled down to; smaller ones are kept as they are.
        format: Members of a shard: jpeg has every frame as a picture, clips has a short H.264 video, which is smaller and takes
            longer to read.
        quality: Quality of the JPEG pictures, 1 to 95.
        clips_per_shard: Number of videos in each shard.
        processes: Number of processes that write shards at the same time; 0 takes one for each core.
        timeout: Seconds within which an object store has to answer.
    """
    import os

    from tqdm import tqdm

    from siammae.training.data.shard_writer import ShardSettings
    from siammae.training.data.write_shards import Progress, write_shards

    settings = ShardSettings(fps, short_side, format, quality, clips_per_shard)
    with tqdm(unit="clip", desc="shards", dynamic_ncols=True) as bar:

        def show(state: Progress) -> None:
            if bar.total is None:
                bar.total, bar.initial, bar.n = state.total, state.done, state.done
            bar.update(state.done - bar.n)
            bar.set_postfix_str(f"{state.bytes / 1e6:.0f} MB")

        report = write_shards(videos, out, settings, processes=processes or os.cpu_count() or 1, timeout=timeout, progress=show)
    if json:
        print_json({**asdict(report), "out": out})
        return
    print(
        f"shards: {out}, {report.clips} clips, {report.frames} frames, {report.hours:.2f} hours, {report.bytes / 1e6:.0f} MB "
        f"in {report.shards} shards"
    )
    if report.skipped:
        print(f"skipped: {len(report.skipped)} videos, listed with reasons in {out.rstrip('/')}/skipped.csv")
