"""Mutated YAML files, read as the configuration of a training run."""

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from harness import fuzz

from siammae.training.config import TrainConfig, config_from_dict, config_to_dict, load_config

EXAMPLES = Path(__file__).parents[2] / "examples" / "training"
# fmt: off
WORDS = [
    ":", "-", "[", "]", "{", "}", "null", "~", "true", "1e400", "1e-400", ".nan", ".inf", "-.inf", "0x7f", "1_000", "-1",
    "2026-11-26", "!!python/name:os.system", "!!binary", "!!set", "!!timestamp", "&a", "*a", "a: &a [*a]", "<<", "|", ">", "?",
    "#", '""', "data", "model", "optim", "cache", "steps", "epochs", "gap", "betas", "kind", "output", "\n", "\n  ", "\t", "\0",
    "\u0085", "1" * 5000,
]
# fmt: on


def change(content: bytes, rng: random.Random) -> bytes:
    """Put a word of YAML into a file, in place of the rest of its line or before it."""
    text = content.decode(errors="replace")
    place = rng.randrange(len(text) + 1)
    end = text.find("\n", place) if rng.random() < 0.5 else place
    return (text[:place] + rng.choice(WORDS) + text[max(place, end) :]).encode()


def read(path: Path) -> None:
    config = load_config(path)
    if not isinstance(config, TrainConfig):
        raise RuntimeError(f"a configuration is a {type(config).__name__}")
    if config_from_dict(config_to_dict(config)) != config:
        raise RuntimeError("a configuration is not what its values build")


fuzz(read, {path.name: path.read_bytes() for path in sorted(EXAMPLES.glob("*.yaml"))}, (".yaml",), change)
