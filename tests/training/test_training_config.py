"""Configuration files, overrides, and errors that help."""

from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from siammae.training.config import CacheConfig, TrainConfig, config_from_dict, config_to_dict, load_config
from siammae.training.initial import build_model
from siammae.training.model_config import ModelConfig

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "training").glob("*.yaml"))


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_file_and_overrides(tmp_path: Path) -> None:
    path = write(tmp_path / "run.yaml", "output: out\nsteps: 10\nmodel: {decoder: cross}\noptim:\n  base_lr: 1e-4\n")
    config = load_config(
        path, ["model.past_ratio=0.5", "optim.base_lr=2e-4", "optim.ema=0.99", "data.gap=[0.1, 1]", "compile=true"]
    )
    assert (config.model.decoder, config.model.past_ratio, config.optim.ema) == ("cross", 0.5, 0.99)
    assert config.optim.base_lr == pytest.approx(2e-4)
    assert config.data.gap == (0.1, 1.0)
    assert config.compile is True
    assert load_config(None, ["output=out", "max_minutes=5"]).max_minutes == 5


def test_plain_values_and_back(tmp_path: Path) -> None:
    config = load_config(None, ["output=out", "steps=7", "trackers=[tensorboard]", "optim.clip=1"])
    assert config_from_dict(yaml.safe_load(yaml.safe_dump(config_to_dict(config)))) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.decodr=cross", r"unknown key model\.decodr; did you mean model\.decoder\?"),
        ("stpes=3", r"unknown key stpes; did you mean steps\?"),
        ("base_lr=1", r"unknown key base_lr; did you mean optim\.base_lr\?"),
        ("optim.mask_ratio=0.5", r"unknown key optim\.mask_ratio; "),
        ("zzz=1", "unknown key zzz; fields here: output, model"),
        ("model.future_ratio=1.0", "at least one visible and one masked"),
        ("model.image_size=100", r"no multiple of model\.patch_size 16; take 96"),
        ("model.decoder=selfcross", "model.decoder is 'selfcross'; expected 'cross-self', 'cross' or 'joint'"),
        ("steps=many", "steps is 'many'; expected a valid integer"),
        ("steps=2.5", "steps is 2.5; expected a valid integer"),
        ("steps=0", "expected more than 0"),
        ("steps=true", "steps is True; expected a number"),
        ("data.gap=[true, 2]", r"data\.gap is \[True, 2\]; expected a number"),
        ("optim.base_lr=true", r"optim\.base_lr is True; expected a number"),
        ("epochs=3", "exactly one of steps, epochs and max_minutes; got steps, epochs"),
        ("steps=null", "got none"),
        ("compile=maybe", "compile is 'maybe'; expected a valid boolean"),
        ("data.gap=[1]", r"data\.gap is \[1\]; value number 2 is missing"),
        ("data.gap=[2, 1]", "0 < shortest <= longest"),
        ("data.scale=[0.5, 2]", "data.scale"),
        ("data.cache.kind=host", "needs a data.cache.folder"),
        ("data.cache=host", "data.cache is 'host'; expected a section"),
        ("data.cache_fps=8", r"unknown key data\.cache_fps; did you mean data\.cache\.fps\?"),
        ("data.shards.timeouts=8", r"unknown key data\.shards\.timeouts; did you mean data\.shards\.timeout\?"),
        ("data.shards.timeout=0", "data.shards.timeout is 0; expected seconds above 0"),
        ("optim.base_lr=.nan", "optim.base_lr is nan; expected a finite number"),
        ("trackers=wandb", "trackers is 'wandb'; expected a valid list"),
        ("data.kind=mp4", "data.kind is 'mp4'; expected 'videos', 'frames', 'images' or 'shards'"),
        ("data.jitter=1", "data.jitter is 1; expected a share, 0 to below 1"),
        ("optim.kind=sgd", "expected 'adamw' or 'muon'"),
        ("optim=3", "expected a section"),
        ("optim.ema=1.5", "between 0 and 1"),
        ("optim.clip=-1", "optim.clip is -1"),
        ("optim.warmup=1", "optim.warmup is 1"),
        ("steps.more=3", "steps is a value, not a section"),
        ("nonsense", "has no '='"),
        ("precision=fp16", "precision is 'fp16'; expected 'float32' or 'bfloat16'"),
    ],
)
def test_mistakes_are_explained(tmp_path: Path, override: str, message: str) -> None:
    path = write(tmp_path / "run.yaml", "output: out\nsteps: 10\n")
    with pytest.raises(ValueError, match=message) as caught:
        load_config(path, [override])
    assert "\n" not in str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_other_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="output is missing"):
        load_config(None, ["steps=3"])
    with pytest.raises(ValueError, match=r"unknown key ouput; did you mean output\?"):
        load_config(None, ["steps=3", "ouput=o"])
    with pytest.raises(ValueError, match="is not YAML"):
        load_config(write(tmp_path / "a.yaml", "steps: [1"))
    with pytest.raises(ValueError, match="holds a list"):
        load_config(write(tmp_path / "b.yaml", "- steps"))
    with pytest.raises(ValueError, match="needs fsdp=false"):
        load_config(None, ["output=o", "steps=1", "fsdp=true", "optim.ema=0.9"])
    with pytest.raises(ValueError, match=r"it needs model\.futures=1"):
        load_config(None, ["output=o", "steps=1", "data.kind=images", "model.futures=2"])


BOMB = "\n  ".join(["a: &a [x]", *(f"{b}: &{b} [{', '.join(9 * [f'*{a}'])}]" for a, b in pairwise("abcdefghijk"))])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: !!timestamp soon", "is not YAML"),
        ("seed: !!bool perhaps", "is not YAML"),
        ("seed: 2026-13-45", "is not YAML: month must be in 1"),
        ("seed: " + "[" * 3000, "is not YAML"),
        ("seed: " + "1" * 5000, "is not YAML: Exceeds the limit"),
        ("? [seed]\n: 1", "is not YAML"),
        (f"output: run\nsteps: 1\nmodel:\n  image_size: {'1' * 400}", "a whole number is too large"),
        ("output: run\nsteps: 1\nseed: &a [*a]", r"seed is \[.*\]; expected a valid integer"),
        (f"output: run\nsteps: 1\nseed:\n  {BOMB}", "seed is {'a': .*; expected a valid integer"),
    ],
)
def test_yaml_that_no_run_is_made_of_gives_one_short_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_config(write(tmp_path / "run.yaml", text))
    assert len(str(caught.value)) < 2000
    if "\n" not in text:
        with pytest.raises(ValueError, match=f"^override .*{message}"):
            load_config(None, ["output=run", "steps=1", text.replace(": ", "=", 1)])


def test_python_checks_the_choices_too() -> None:
    with pytest.raises(ValueError, match=r"precision is 'half'; expected float32 or bfloat16"):
        TrainConfig(output="o", steps=1, precision="half")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"data\.cache\.kind is 'gpu'; expected none, disk, host or device"):
        CacheConfig(kind="gpu")  # type: ignore[arg-type]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_valid(path: Path) -> None:
    load_config(path)


def test_there_are_examples_of_the_papers_recipe() -> None:
    configs = {path.stem: load_config(path) for path in EXAMPLES}
    for name, patch, epochs in (("k400-vits16", 16, 2000), ("k400-vits8", 8, 2000), ("k400-vits16-400", 16, 400)):
        config = configs[name]
        assert (config.model.patch_size, config.epochs, config.batch_size) == (patch, epochs, 2048)
        assert config.model.future_ratio == 0.95
        assert config.optim.warmup * epochs == pytest.approx(40)
        assert config.data.repeats == 2


def test_default_is_the_papers_model() -> None:
    model = build_model(ModelConfig())
    assert model.encoder.num_parameters == 21_665_664
    assert model.grid == 14
