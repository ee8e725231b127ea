"""Predictions of one sequence as files, and their speed; sequences shared over processes."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed

from siammae.encoder import Encoder
from siammae.evaluation.datasets.sequences import (
    Appearance,
    MaskSequence,
    PointSequence,
    TrackSequence,
    first_mask,
    outside_frame,
)
from siammae.evaluation.datasets.tapvid import SIDE, read_video
from siammae.evaluation.protocols import Protocol
from siammae.evaluation.queries import track_queries
from siammae.files import atomic, atomic_folder
from siammae.geometry import InputSize
from siammae.labels.keypoints import write_tracks
from siammae.labels.masks import as_mask, write_mask
from siammae.propagation.config import PropagationConfig
from siammae.propagation.folder import propagate_to_folder
from siammae.propagation.keypoints import propagate_keypoints
from siammae.propagation.masks import LabelPropagator
from siammae.video.pictures import read_image

PREDICTIONS, SPEED = "predictions", "speed"


@contextmanager
def processes() -> Iterator[tuple[int, int, Callable[[], object]]]:
    """Yield rank, number of processes and a barrier that all of them must reach; torchrun sets their environment."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        yield 0, 1, lambda: None
        return
    distributed.init_process_group("gloo", timeout=timedelta(days=7))  # the longest sequence may take its time
    try:
        yield rank, world, lambda: distributed.barrier()
    finally:
        distributed.destroy_process_group()


def share(sequences: Sequence[Any], rank: int, world: int) -> list[Any]:
    """Select the sequences of one process: the longest first, each goes to the process with the fewest frames so far.

    They keep their order, so that those in one file follow each other.
    """
    shares: list[list[Any]] = [[] for _ in range(world)]
    loads = [0] * world
    for sequence in sorted(sequences, key=lambda sequence: -sequence.num_frames):
        least = loads.index(min(loads))
        shares[least].append(sequence)
        loads[least] += sequence.num_frames
    own = {sequence.name for sequence in shares[rank]}
    return [sequence for sequence in sequences if sequence.name in own]


def predict(
    sequence: MaskSequence | PointSequence | TrackSequence,
    folder: Path,
    encoder: Encoder,
    config: PropagationConfig,
    protocol: Protocol,
    size: InputSize,
) -> None:
    """Write the predictions of a sequence, unless they are complete."""
    finished = folder / SPEED / f"{sequence.name}.json"
    if finished.exists():
        return
    target = folder / PREDICTIONS / sequence.name
    resumed = target.is_dir()
    began = time.perf_counter()
    if isinstance(sequence, TrackSequence):
        size = size or protocol.size((SIDE, SIDE), encoder.patch_size)
        points, scores = track_queries(read_video(sequence), sequence, encoder, config, size)
        write_tracks(target.with_name(f"{sequence.name}.csv"), points, scores)
    else:
        _predict_pictures(sequence, target, encoder, config, protocol, size)
    speed = {"frames": sequence.num_frames, "seconds": time.perf_counter() - began, "peak_memory_mb": _peak_mb(encoder)}
    with atomic(finished) as draft:
        draft.write_text(json.dumps({"resumed": resumed} | speed) + "\n")


def _predict_pictures(
    sequence: MaskSequence | PointSequence,
    target: Path,
    encoder: Encoder,
    config: PropagationConfig,
    protocol: Protocol,
    size: InputSize,
) -> None:
    """Write the masks or the points of a sequence of pictures."""
    width, height = read_image(sequence.frames[0]).size
    size = size or protocol.size((height, width), encoder.patch_size)
    if isinstance(sequence, MaskSequence) and sequence.later:
        with atomic_folder(target, overwrite=True) as draft:
            _predict_appearing(sequence, draft, encoder, config, size)
    elif isinstance(sequence, MaskSequence):
        mask = first_mask(sequence.annotations[0])
        propagate_to_folder(list(sequence.frames), mask, target, encoder, size=size, config=config, resume=True, progress=False)
        if protocol.first_from_grid:
            propagator = LabelPropagator(sequence.frames[0], mask, encoder, size=size, config=config)
            write_mask(target / f"{sequence.frames[0].stem}.png", propagator.decode(), mask.palette)
    else:
        first = sequence.points[0]
        if config.point_maps == "gaussian":  # the scripts' maps can draw points that are a little outside
            first = np.where(outside_frame(first, (height, width))[:, None], np.nan, first)
        # every joint gets a place: PCK takes a lost one as wrong, or leaves it out
        config = replace(config, point_lost_below=0, foreign_below=0)
        points, scores = propagate_keypoints(list(sequence.frames), first, encoder, size=size, config=config, progress=False)
        write_tracks(target.with_name(f"{sequence.name}.csv"), points, scores)


def _predict_appearing(
    sequence: MaskSequence, folder: Path, encoder: Encoder, config: PropagationConfig, size: InputSize
) -> None:
    """Write the masks of a sequence whose objects appear one after the other.

    Where objects appear, their pixels are laid over the mask that was propagated so far, and the whole becomes an anchor.
    """
    mask = first_mask(sequence.annotations[0])
    appearing: dict[int, list[Appearance]] = {}
    for appearance in sequence.later:
        appearing.setdefault(appearance.frame, []).append(appearance)
    for index, path in enumerate(sequence.frames):
        if index == 0:
            propagator = LabelPropagator(path, mask, encoder, size=size, config=config)
            ids = mask.values
        else:
            ids = propagator.step(path)
        for appearance in appearing.get(index, []):
            given = as_mask(appearance.annotation).values
            ids = np.where(np.isin(given, appearance.ids), given, ids).astype(np.uint8)
            propagator.add(path, ids)
        write_mask(folder / f"{path.stem}.png", ids, mask.palette)


def speed(folder: Path, names: Sequence[str]) -> dict[str, Any] | None:
    """Average the speed of the sequences that ran without a break; None if there is none."""
    records = [json.loads((folder / SPEED / f"{name}.json").read_text()) for name in names]
    whole = [speed for speed in records if not speed["resumed"]]
    if not whole:
        return None
    frames, seconds = (sum(speed[key] for speed in whole) for key in ("frames", "seconds"))
    peak = max(speed["peak_memory_mb"] for speed in whole)
    return {"frames_per_second": frames / seconds, "peak_memory_mb": peak, "sequences": len(whole)}


def _peak_mb(encoder: Encoder) -> int:
    """Return the peak of memory in MB: the GPU's if it is used, else that of this process."""
    if encoder.device.type == "cuda":
        return torch.cuda.max_memory_allocated(encoder.device) >> 20
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)  # bytes there, kilobytes elsewhere


def device(encoder: Encoder) -> str:
    """Name the device of an encoder."""
    if encoder.device.type == "cuda":
        return torch.cuda.get_device_name(encoder.device)
    return f"{encoder.device.type}, {torch.get_num_threads()} threads"
