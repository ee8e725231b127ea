"""Pretrain on a folder of videos, without labels, export the model and load it.

python examples/train_on_folder.py                         # rendered clips, for a minute
python examples/train_on_folder.py my-videos -o my-model --minutes 60

This needs the extra "train". The settings suit a CPU and only show that everything works; docs/training.md has the recipes.
"""

import argparse
from pathlib import Path

import siammae
from siammae.synthetic import render_clip
from siammae.training import TrainConfig, export, train
from siammae.training.config import DataConfig, OptimConfig
from siammae.training.log import read_log
from siammae.training.model_config import ModelConfig
from siammae.video import write_video

if __name__ == "__main__":  # loader workers import this file too
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="?", type=Path, help="folder to search, at any depth; default: rendered clips")
    parser.add_argument("-o", "--out", type=Path, default=Path("out/trained"), help="folder for the run and the model")
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=1, help="number of processes that load videos")
    args = parser.parse_args()

    videos = args.videos or args.out / "videos"
    if args.videos is None:
        videos.mkdir(parents=True, exist_ok=True)
        for seed in range(1, 5):
            write_video(videos / f"pond-{seed}.mp4", render_clip(24, (120, 216), seed=seed).frames, 24)

    config = TrainConfig(
        output=str(args.out / "run"),
        model=ModelConfig("vit_tiny_patch16_224", patch_size=8, depth=4, image_size=64, decoder_depth=2, future_ratio=0.9),
        data=DataConfig(path=str(videos), workers=args.workers, gap=(0.1, 0.8)),
        optim=OptimConfig(base_lr=1e-2, clip=1.0),
        batch_size=args.batch,
        max_minutes=args.minutes,
        precision="float32",
        log_every=1,
    )
    checkpoint = train(config)
    folder = export(checkpoint, args.out / "model", data=f"Videos in {videos}.", overwrite=True)
    log = read_log(Path(config.output))
    print(f"{log[-1]['step']} steps, loss {log[0]['loss']:.3f} to {log[-1]['loss']:.3f}; curve and pictures in {config.output}")

    model = siammae.load_model(folder)
    features = siammae.extract_features(render_clip(2).frames, model)
    print(f"{folder} gives features {list(features.shape)}")
