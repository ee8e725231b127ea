"""timm's vision transformers as encoders: with registers, rotary positions, other tokens or none before the patches."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from siammae import load_model, propagate_labels
from siammae.evaluation.metrics import region_similarity

ARCHITECTURES = [  # name, patch, tokens before those of the patches
    ("vit_small_patch16_dinov3", 16, 5),  # rotary positions, CLS and four registers
    ("eva02_tiny_patch14_224", 14, 1),  # rotary and learned positions, SwiGLU
    ("vit_small_patch14_reg4_dinov2", 14, 5),
    ("vit_medium_patch16_gap_240", 16, 0),
    ("vit_small_patch16_rope_mixed_224", 16, 1),
    ("vit_little_patch16_reg1_gap_256", 16, 1),  # a register and no CLS
    ("vit_pe_core_tiny_patch16_384", 16, 1),
    ("deit_tiny_distilled_patch16_224", 16, 2),
    ("flexivit_small", 16, 1),
]


@pytest.mark.parametrize(("name", "patch", "prefix"), ARCHITECTURES)
def test_dense_features_are_the_patches_tokens(name: str, patch: int, prefix: int) -> None:
    encoder = load_model(f"timm:{name}", pretrained=False, device="cpu")
    config = encoder.vit.pretrained_cfg
    assert (encoder.patch_size, encoder.vit.num_prefix_tokens) == (patch, prefix)
    assert (encoder.mean, encoder.std) == (config["mean"], config["std"])
    images = torch.randn(1, 3, 5 * patch, 8 * patch)
    with torch.inference_mode():
        tokens = encoder.vit.forward_features(images)
        assert tokens.shape[1] == prefix + 5 * 8
        wanted = tokens[:, prefix:].transpose(1, 2).unflatten(2, (5, 8))
        assert torch.allclose(encoder(images), wanted, atol=1e-5)


@pytest.mark.parametrize("name", [name for name, _, _ in ARCHITECTURES])
def test_labels_follow_a_real_object(name: str, real_data: Path) -> None:
    davis = real_data / "davis2016"
    frames = sorted((davis / "JPEGImages" / "480p" / "blackswan").glob("*.jpg"))[:3]
    masks = [np.array(Image.open(davis / "Annotations" / "480p" / "blackswan" / f"{path.stem}.png")) for path in frames]
    torch.manual_seed(0)  # timm draws the weights
    encoder = load_model(f"timm:{name}", pretrained=False, device="cpu")
    found = propagate_labels(frames, masks[0], encoder, size=15 * encoder.patch_size, config="dino")
    assert set(np.unique(found)) == {0, 255}
    assert region_similarity(masks[2] > 0, found[2] > 0) > 0.35  # untrained


@pytest.mark.parametrize("name", ["convnext_nano", "swin_tiny_patch4_window7_224", "hiera_tiny_224", "xcit_nano_12_p16_224"])
def test_what_is_no_plain_transformer_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} (cannot be an encoder|is a \w+; an Encoder needs one of timm's plain)"):
        load_model(f"timm:{name}", pretrained=False)
