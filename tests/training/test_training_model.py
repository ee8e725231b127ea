"""The model: sizes, the loss at the start and falling, what it can learn, and what must never leak."""

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from siammae.models.build import build_encoder
from siammae.training.config import OptimConfig
from siammae.training.initial import build_model
from siammae.training.masking import draw_mask, gather_patches, grid_mask, random_mask, visible_count
from siammae.training.model import Masks, SiamMAE, masks_for, normalize_patches
from siammae.training.model_config import ModelConfig, decoder_size
from siammae.training.optim import build_optimizer

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = ModelConfig(
    architecture="vit_tiny_patch16_224", depth=1, patch_size=8, image_size=32,
    decoder_depth=1, decoder_width=64, decoder_heads=2, future_ratio=0.75,
)  # fmt: skip


def tiny(**changes: Any) -> SiamMAE:
    return build_model(dataclasses.replace(TINY, **changes))


def smooth_frames(batch: int, side: int, frames: int = 2, seed: int = 0, detail: int = 5) -> Tensor:
    """Random pictures [B, frames, 3, side, side], uint8, smooth between detail x detail points, every frame another."""
    coarse = torch.rand(batch * frames, 3, detail, detail, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic", align_corners=True)
    return (fine.clamp(0, 1) * 255).round().to(torch.uint8).unflatten(0, (batch, frames))


def masks_of(model: SiamMAE, batch: int, micro_batch: int = 0) -> Masks:
    return masks_for(model, batch, seed=0, micro_batch=micro_batch, device=torch.device("cpu"))


def fit(model: SiamMAE, batches: list[Tensor], steps: int, rate: float = 2e-3) -> list[float]:
    """Losses of `steps` steps of AdamW over the batches in turn, with fresh masks at every step."""
    optimizer = build_optimizer(model, OptimConfig())
    losses = []
    for step in range(steps):
        frames = batches[step % len(batches)]
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / steps))
        loss = model(frames, masks_of(model, len(frames), step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    ("architecture", "patch", "total", "trainable"),
    [("vit_small_patch16_224", 16, 21_665_664, 21_590_016), ("vit_small_patch16_224", 8, 21_670_272, 21_368_832)],
)
def test_encoder_has_the_papers_number_of_parameters(architecture: str, patch: int, total: int, trainable: int) -> None:
    encoder = build_encoder(architecture, {"patch_size": patch})
    assert encoder.num_parameters == total
    assert sum(p.numel() for p in encoder.parameters() if p.requires_grad) == trainable


def test_larger_encoders_have_the_papers_number_of_parameters() -> None:
    with torch.device("meta"):
        import timm

        for name, total in (("vit_base_patch16_224", 85_798_656), ("vit_large_patch16_224", 303_301_632)):
            assert sum(p.numel() for p in timm.create_model(name, num_classes=0).parameters()) == total


def test_decoder_is_narrower_than_its_encoder() -> None:
    for width in (192, 384, 768):
        depth, inner, heads = decoder_size(width)
        assert inner < width
        assert inner % heads == 0
        assert depth <= 8


@pytest.mark.parametrize(
    ("patches", "ratio", "visible"),
    [(196, 0.5, 98), (196, 0.75, 49), (196, 0.9, 19), (196, 0.95, 9), (196, 0.985, 2),
     (784, 0.75, 196), (784, 0.9, 78), (784, 0.95, 39), (100, 0.9, 10), (100, 0.95, 5)],
)  # fmt: skip
def test_number_of_visible_patches(patches: int, ratio: float, visible: int) -> None:
    assert visible_count(patches, ratio) == visible


def test_masks_split_the_patches() -> None:
    generator = torch.Generator().manual_seed(0)
    for mask in (random_mask(5, 30, 0.8, generator), grid_mask(5, 5, 6, 0.8), draw_mask("random", 5, 5, 6, 0, generator)):
        both = torch.cat([mask.visible, mask.masked], dim=1).sort(dim=1).values
        assert both.equal(torch.arange(30).expand(5, -1))


def test_grid_mask_is_regular() -> None:
    rows, columns = np.unravel_index(grid_mask(1, 14, 14, 0.95).visible[0].numpy(), (14, 14))
    assert sorted(set(rows)) == [2, 7, 11]
    assert sorted(set(columns)) == [2, 7, 11]
    assert grid_mask(1, 14, 14, 0.75).visible.shape == (1, 49)


def test_random_masks_differ_between_samples_and_repeat_with_the_seed() -> None:
    model = tiny()
    first, again, other = masks_of(model, 4), masks_of(model, 4), masks_of(model, 4, micro_batch=1)
    assert first.future.visible.equal(again.future.visible)
    assert not first.future.visible.equal(other.future.visible)
    assert not first.future.visible[0].equal(first.future.visible[1])


def test_patchify_and_unpatchify_are_inverse() -> None:
    model = tiny()
    images = torch.rand(2, 3, 32, 32)
    patches = model.patchify(images)
    assert patches.shape == (2, 16, 192)
    assert patches[0, 5].equal(images[0, :, 8:16, 8:16].permute(1, 2, 0).flatten())
    assert model.unpatchify(patches).equal(images)


def test_target_has_zero_mean_and_unbiased_unit_variance() -> None:
    target = normalize_patches(torch.rand(2, 3, 192) * 5 + 1)
    assert target.mean(-1).abs().max() < 1e-5
    torch.testing.assert_close(target.var(-1), torch.ones(2, 3), rtol=1e-4, atol=1e-4)


VARIANTS = [
    {"encoder": encoder, "decoder": decoder, "mask": mask}
    for encoder, decoder, mask in itertools.product(("siamese", "joint"), ("cross-self", "cross", "joint"), ("random", "grid"))
]


@pytest.mark.parametrize(
    "changes",
    [*VARIANTS, {"past_ratio": 0.5, "future_ratio": 0.5}, {"futures": 3}, {"futures": 2, "encoder": "joint"}],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_every_variant_starts_near_one_and_trains(changes: dict[str, Any]) -> None:
    model = tiny(**changes)
    frames = smooth_frames(4, 32, frames=1 + model.config.futures)
    losses = fit(model, [frames], steps=24)
    assert 0.9 < losses[0] < 1.1
    assert np.mean(losses[-4:]) < losses[0] - 0.02
    missing = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []


def psnr(prediction: Tensor, truth: Tensor) -> float:
    return float(-10 * (prediction - truth).square().mean().log10())


def test_overfits_one_pair() -> None:
    """Masked patches of the one pair it knows come out above 25 dB."""
    model = tiny(decoder_width=128)
    frames = smooth_frames(1, 32)
    fit(model, [frames.expand(8, -1, -1, -1, -1)], steps=200)
    masks = masks_of(model, 1, micro_batch=10_000)
    predicted = model.patchify(model.reconstruct(frames, masks).prediction[:, 0])
    truth = model.patchify(frames[:, 1].float() / 255)
    index = masks.future.masked
    assert psnr(gather_patches(predicted, index), gather_patches(truth, index)) > 25


def test_learns_to_copy_an_identical_past_frame() -> None:
    """On pictures never seen twice, the past frame is worth far more than the visible patches alone."""

    def final_loss(past_known: bool) -> float:
        model = tiny(image_size=24, future_ratio=0.7)
        batches = []
        for step in range(200):
            frame = smooth_frames(16, 24, frames=1, seed=step, detail=7)
            past = frame if past_known else torch.full_like(frame, 128)
            batches.append(torch.cat([past, frame], dim=1))
        return float(np.mean(fit(model, batches, steps=200, rate=3e-3)[-10:]))

    with_past, without = final_loss(True), final_loss(False)
    assert with_past < 0.5 * without, (with_past, without)


def test_masked_patches_never_reach_the_encoder() -> None:
    """No gradient flows from a prediction to a masked pixel; it does to visible ones and to the past frame."""
    for changes in VARIANTS:
        model = tiny(**changes)
        masks = masks_of(model, 2)
        past, future = (torch.rand(2, 3, 32, 32, requires_grad=True) for _ in range(2))
        predicted = model._predict(past, future, masks)
        assert predicted.shape == (2, masks.future.masked.shape[1], 192)
        predicted.square().sum().backward()
        assert future.grad is not None
        assert past.grad is not None
        grads = model.patchify(future.grad).abs().sum(-1)
        assert grads.gather(1, masks.future.masked).max() == 0
        if changes["decoder"] != "cross" or changes["encoder"] == "joint":  # there tokens of the future meet each other
            assert grads.gather(1, masks.future.visible).min() > 0
        assert model.patchify(past.grad).abs().sum(-1).min() > 0


def test_reconstruction_shows_visible_patches_as_they_are() -> None:
    model = tiny(futures=2)
    frames = smooth_frames(2, 32, frames=3)
    masks = masks_of(model, 2)
    masked, prediction = model.reconstruct(frames, masks)
    assert masked.shape == prediction.shape == (2, 2, 3, 32, 32)
    truth = model.patchify(frames[:, 1:].flatten(0, 1).float() / 255)
    for picture in (masked, prediction):
        shown = gather_patches(model.patchify(picture.flatten(0, 1)), masks.future.visible)
        torch.testing.assert_close(shown, gather_patches(truth, masks.future.visible), atol=1e-5, rtol=0)


def test_encoder_keeps_timms_keys() -> None:
    model = tiny()
    inside = {key.removeprefix("encoder.vit.") for key in model.state_dict() if key.startswith("encoder.vit.")}
    assert inside == set(model.encoder.vit.state_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"future_ratio": 0.0}, "at least one visible and one masked"),
        ({"future_ratio": 1.0}, "at least one visible and one masked"),
        ({"future_ratio": 0.99}, "leaves 0 of 16 patches visible"),
        ({"past_ratio": 1.0}, "none of the past frame's 16 patches"),
        ({"image_size": 36}, "no multiple of model.patch_size 8; take 32"),
        ({"futures": 0}, "futures is 0"),
        ({"encoder": "twin"}, "expected siamese or joint"),
        ({"decoder": "self"}, "expected cross-self, cross or joint"),
        ({"mask": "tube"}, "expected random or grid"),
        ({"decoder_width": 66}, "multiple of 4"),
    ],
)
def test_impossible_models_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **changes)


def test_model_refuses_an_encoder_of_another_grid() -> None:
    with pytest.raises(ValueError, match="build it with img_size=32"):
        SiamMAE(build_encoder("vit_tiny_patch16_224", {"depth": 1, "patch_size": 8}), TINY)
    with pytest.raises(ValueError, match="patch size 16, the config 8"):
        SiamMAE(build_encoder("vit_tiny_patch16_224", {"depth": 1}), TINY)


# --- options beyond the paper


def test_a_joint_encoder_may_tell_the_frames_apart() -> None:
    plain, telling = tiny(encoder="joint"), tiny(encoder="joint", frame_embed=True)
    missing, unexpected = telling.load_state_dict(plain.state_dict(), strict=False)
    assert (missing, unexpected) == (["frame_embed"], [])
    frames = smooth_frames(3, 32)
    losses = [model(frames, masks_of(model, 3)) for model in (plain, telling)]
    assert not losses[0].equal(losses[1])
    losses[1].backward()
    assert telling.frame_embed.grad is not None
    assert (telling.frame_embed.grad.abs().amax(dim=(1, 2, 3)) > 0).all()
    with torch.no_grad():
        telling.frame_embed.zero_()
    torch.testing.assert_close(telling(frames, masks_of(telling, 3)), losses[0])


@pytest.mark.parametrize("decoder", ["cross-self", "joint"])
def test_hidden_past_patches_may_become_mask_tokens(decoder: Any) -> None:
    changes = {"past_ratio": 0.5, "past_hidden": "mask-tokens", "decoder": decoder, "futures": 2}
    model = tiny(**changes)
    frames, masks, seen = smooth_frames(2, 32, frames=3), masks_of(model, 2), list[Tensor]()
    model.decoder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[1]))
    loss = model(frames, masks)
    (past,) = seen  # [B * T, 1 + N, E]
    assert past.shape == (4, 17, 64)
    for k, hidden in enumerate(masks.past.masked.repeat_interleave(2, dim=0)):
        tokens = model.mask_token[0] + model.decoder_positions[0, 1 + hidden]
        torch.testing.assert_close(past[k, 1 + hidden], tokens)
    changed = frames.clone()
    pixels = torch.kron((torch.arange(16) == masks.past.masked[0, 0]).view(4, 4), torch.ones(8, 8)).bool()
    changed[0, 0, :, pixels] = 0
    assert model(changed, masks).equal(loss)  # a hidden patch stays hidden
    dropped = tiny(**changes | {"past_hidden": "dropped"})
    assert dropped.state_dict().keys() == model.state_dict().keys()
    assert not dropped(frames, masks).equal(loss)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frame_embed": True}, "tells the frames of a joint encoder apart; model.encoder is siamese"),
        ({"past_hidden": "mask-tokens"}, "model.past_ratio=0 hides no past patch"),
        ({"past_hidden": "kept", "past_ratio": 0.5}, "expected dropped or mask-tokens"),
    ],
)
def test_an_option_that_would_do_nothing_is_an_error(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **change)
