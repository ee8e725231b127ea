"""Compute features of a large folder of videos, on a Ray cluster or on this machine: a .safetensors file for each video.

python examples/embed_with_ray.py my-videos -o embeddings
python examples/embed_with_ray.py /shared/videos -o /shared/embeddings --model my-model --actors 64 --gpus 0.5

On a cluster both folders must be shared; RAY_ADDRESS is its address. The same command continues after an interruption: a file
appears whole or not at all, so a video with a file is done. Use another folder for other settings.
"""

import argparse
from itertools import islice
from pathlib import Path

import ray

import siammae
from siammae.training.data.clips import VIDEO_SUFFIXES


class Embedder:  # an actor: loads the encoder once, then encodes one video after another
    def __init__(self, args):
        self.args, self.model = args, siammae.load_model(args.model)

    def __call__(self, batch):
        (video,), (file,) = batch["video"], batch["file"]
        try:
            frames = islice(siammae.read_frames(video), 0, None, self.args.every)
            features = siammae.extract_features(frames, self.model, size=self.args.size, progress=False)  # [T, D, h, w]
        except (siammae.VideoError, OSError) as error:
            return {"report": [str(error)], "failed": [True]}
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        siammae.features.write_features(file, features.half())
        return {"report": [f"{video}: features {list(features.shape)}"], "failed": [False]}


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("videos", type=Path, help="folder to search, at any depth")
parser.add_argument("-o", "--out", type=Path, default=Path("out/embeddings"))
parser.add_argument("--model", default="vitt8d6")
parser.add_argument("--size", type=int, help="shorter side in pixels at which frames are encoded")
parser.add_argument("--every", type=int, default=10, help="number of frames from one encoded frame to the next")
parser.add_argument("--actors", type=int, default=1, help="number of encoders that work in parallel")
parser.add_argument("--gpus", type=float, default=0, help="GPUs for each encoder; 0 gives it a CPU core")
args = parser.parse_args()

source, out, failed = args.videos.resolve(), args.out.resolve(), 0
videos = [path for path in sorted(source.rglob("*")) if path.suffix.lower() in VIDEO_SUFFIXES]
if not videos:
    parser.error(f"no videos in {source}")
files = [out / f"{video.relative_to(source)}.safetensors" for video in videos]
work = [{"video": str(video), "file": str(file)} for video, file in zip(videos, files, strict=True) if not file.exists()]
print(f"{len(videos)} videos, {len(videos) - len(work)} of them done before")
if work:
    ray.init(include_dashboard=False)
    pool, data = ray.data.ActorPoolStrategy(size=args.actors), ray.data.from_items(work)
    data = data.map_batches(Embedder, batch_size=1, compute=pool, num_gpus=args.gpus, fn_constructor_args=[args])
    for row in data.iter_rows():
        print(row["report"], flush=True)
        failed += row["failed"]
parser.exit(int(failed > 0), f"{failed} videos could not be read\n")
