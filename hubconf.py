"""Models for `torch.hub.load("owner/siammae", "vits16")`, from a clone or from GitHub: the names of `siammae.list_models`."""

dependencies = ["torch", "timm", "safetensors", "einops"]

from functools import partial as _partial  # noqa: E402  torch.hub reads `dependencies` first, and lists what has no underscore

from siammae import list_models as _list_models  # noqa: E402
from siammae import load_model as _load_model  # noqa: E402


def load(name: str, **options):
    """Any model that `siammae.load_model` takes, with its options."""
    return _load_model(name, **options)


for _name in _list_models():
    globals()[_name] = _partial(_load_model, _name)
    globals()[_name].__doc__ = f"{_name}; the options are those of siammae.load_model"
