"""What one frame costs on the CPU: encoding (against bare timm) and propagation, measured in turn.

    python benchmarks/frame.py [--model vits16] [--height 480] [--width 848] [--context 8] [--threads 2] [--rounds 7]

Prints medians of CPU seconds and of wall seconds, and their ratios.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

from siammae import load_model, ops


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vits16", help="architecture; its initial weights are used")
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=848)
    parser.add_argument("--context", type=int, default=8, help="context frames")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    encoder = load_model(args.model, pretrained=False, device="cpu")
    image = torch.randn(1, 3, args.height, args.width)
    with torch.inference_mode():
        shape = encoder(image).shape[1:]
        query = F.normalize(torch.randn(shape), dim=0)
        context = F.normalize(torch.randn(args.context, *shape), dim=1).contiguous(memory_format=torch.channels_last)
        labels = torch.rand(args.context, 2, *shape[1:])
        radius = [12.0] * args.context
        tasks: dict[str, Callable[[], object]] = {
            "bare timm": lambda: encoder.vit.forward_features(image),
            "encoder": lambda: encoder(image),
            "propagate": lambda: ops.propagate(query, context, labels, radius=radius, top_k=5, temperature=0.1),
        }
        cpu, wall = measure(tasks, args.rounds)

    grid = f"{shape[1]}x{shape[2]}"
    print(f"{args.model} at {args.height}x{args.width}, grid {grid}, {args.context} context frames, {args.threads} threads")
    for name in tasks:
        print(f"{name:10} {cpu[name]:7.3f} CPU s {wall[name]:7.3f} wall s")
    print(
        f"encoder / bare timm  {cpu['encoder'] / cpu['bare timm']:.2f} (CPU)  {wall['encoder'] / wall['bare timm']:.2f} (wall)"
    )
    print(
        f"propagate / encoder  {cpu['propagate'] / cpu['encoder']:.2f} (CPU)  {wall['propagate'] / wall['encoder']:.2f} (wall)"
    )


def measure(tasks: dict[str, Callable[[], object]], rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Median CPU and wall seconds of each task; the tasks take turns, after one round that does not count."""
    cpu: dict[str, list[float]] = {name: [] for name in tasks}
    wall: dict[str, list[float]] = {name: [] for name in tasks}
    for index in range(rounds + 1):
        for name, task in tasks.items():
            began, began_cpu = time.perf_counter(), time.process_time()
            task()
            if index:
                cpu[name].append(time.process_time() - began_cpu)
                wall[name].append(time.perf_counter() - began)
    return (
        {name: statistics.median(values) for name, values in cpu.items()},
        {name: statistics.median(values) for name, values in wall.items()},
    )


if __name__ == "__main__":
    main()
