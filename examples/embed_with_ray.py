"""Compute features of a large folder of videos, on a Ray cluster or on this machine: a .safetensors file for each video.

python examples/embed_with_ray.py my-videos -o embeddings
python examples/embed_with_ray.py /shared/videos -o /shared/embeddings --model my-model --actors 64 --gpus 0.5

On a cluster both folders must be shared; RAY_ADDRESS is its address. An actor that dies is started again, with its video. The
same command continues after an interruption: a file appears whole or not at all, so a video with a file is done.
"""

import argparse
import time
from itertools import islice
from pathlib import Path

import ray

import siammae
from siammae.video.frames import VIDEO_SUFFIXES


class Embedder:  # an actor: loads the encoder once, then encodes one video after another
    def __init__(self, args):
        self.args, self.model = args, siammae.load_model(args.model)

    def __call__(self, batch):
        (video,), (file,), start = batch["video"], batch["file"], time.process_time()
        try:
            frames = islice(siammae.read_frames(video), 0, None, self.args.every)
            features = siammae.extract_features(frames, self.model, size=self.args.size, progress=False)  # [T, D, h, w]
        except (siammae.VideoError, OSError) as error:
            return {"report": [str(error)], "frames": [0], "cpu": [0.0]}
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        siammae.features.write_features(file, features.half())
        return {"report": [f"{video}: {list(features.shape)}"], "frames": [len(features)], "cpu": [time.process_time() - start]}


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("videos", type=Path, help="folder to search, at any depth")
parser.add_argument("-o", "--out", type=Path, default=Path("out/embeddings"))
parser.add_argument("--model", default="vitt8d6")
parser.add_argument("--size", type=int, help="shorter side in pixels at which frames are encoded")
parser.add_argument("--every", type=int, default=10, help="number of frames from one encoded frame to the next")
parser.add_argument("--actors", type=int, default=1, help="number of encoders that work in parallel")
parser.add_argument("--gpus", type=float, default=0, help="GPUs for each encoder; 0 gives it a CPU core")
args = parser.parse_args()

source, out, failed, frames, cpu = args.videos.resolve(), args.out.resolve(), 0, 0, 0.0
videos = [path for path in sorted(source.rglob("*")) if path.suffix.lower() in VIDEO_SUFFIXES]
if not videos:
    parser.error(f"no videos in {source}")
files = [out / f"{video.relative_to(source)}.safetensors" for video in videos]
work = [{"video": str(video), "file": str(file)} for video, file in zip(videos, files, strict=True) if not file.exists()]
print(f"{len(videos)} videos, {len(videos) - len(work)} of them done before")
if work:
    ray.init(include_dashboard=False)
    actors = {"compute": ray.data.ActorPoolStrategy(size=args.actors), "num_gpus": args.gpus, "fn_constructor_args": [args]}
    for row in ray.data.from_items(work).map_batches(Embedder, batch_size=1, **actors).iter_rows():
        print(row["report"], flush=True)
        failed, frames, cpu = failed + (row["frames"] == 0), frames + row["frames"], cpu + row["cpu"]
parser.exit(int(failed > 0), f"{failed} videos could not be read; {frames} frames, {frames / (cpu or 1):.2f} a CPU second\n")
