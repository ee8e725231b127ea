"""The front door: which names it shows, and what stepping through it loads and costs."""

import json
import subprocess
import sys

import siammae

HEAVY = (
    "timm",
    "huggingface_hub",
    "av",
    "triton",
    "torchvision",
    "tyro",
    "siammae.training",
    "siammae.evaluation",
    "safetensors",
)

NAMES = [
    "Encoder",
    "Geometry",
    "KeypointPropagator",
    "LabelPropagator",
    "ModelInfo",
    "PropagationConfig",
    "Segmenter",
    "VideoError",
    "WeightsError",
    "extract_features",
    "list_models",
    "load_model",
    "model_info",
    "propagate_keypoints",
    "propagate_labels",
    "push_to_hub",
    "read_frames",
    "save_model",
    "segment",
]
FOLDERS = [
    "evaluation",
    "features",
    "labels",
    "models",
    "ops",
    "prompts",
    "propagation",
    "synthetic",
    "training",
    "video",
    "visualize",
]


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout


def test_public_names() -> None:
    assert siammae.__all__ == sorted([*NAMES, *FOLDERS, "output"])
    assert siammae.output is siammae.labels.output
    assert all(getattr(siammae, name).__name__ == name for name in NAMES)
    assert all(getattr(siammae, folder).__name__ == f"siammae.{folder}" for folder in FOLDERS)
    assert dir(siammae) == siammae.__all__


def test_importing_loads_nothing_heavy() -> None:
    loaded = json.loads(run("import siammae, sys, json; print(json.dumps(sorted(sys.modules)))"))
    assert "siammae" in loaded
    assert not [name for name in loaded if name.startswith(HEAVY) or name == "torch"]


def test_using_the_public_functions_loads_no_training_or_evaluation() -> None:
    code = f"import siammae, sys, json; [getattr(siammae, n) for n in {NAMES}]; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(run(code))
    assert "torch" in loaded  # so this test can see what it looks for
    assert not [name for name in loaded if name.startswith(("timm", "av", "tyro", "siammae.training", "siammae.evaluation"))]


def test_import_costs_no_more_than_torch() -> None:
    code = "import time; a = time.perf_counter(); import {}; print(time.perf_counter() - a)"
    torch_seconds = min(float(run(code.format("torch"))) for _ in range(2))
    ours = min(float(run(code.format("torch, siammae"))) for _ in range(2))
    assert ours <= 1.2 * torch_seconds + 0.3  # the allowance is for a busy machine: both times are seconds
